package store_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"mailform/server/store"
)

// childDir, in the environment, makes this test program a victim: it opens the
// store there and makes changes until it is killed.
// With childPlain its mail is stored as it is, not compressed and encrypted.
const (
	childDir   = "MAILFORM_STORE_TEST_DIR"
	childPlain = "MAILFORM_STORE_TEST_PLAIN"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := victim(dir, os.Getenv(childPlain) != ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// ledgerLine is what the victim writes: ahead of a change, and once it was
// acknowledged, then with what the store shows of the mailboxes.
type ledgerLine struct {
	Worker int
	Done   bool
	Action action
	Shown  map[string]*modelBox `json:",omitempty"`
}

func killOptions(plain bool) store.Options {
	return store.Options{SegmentBytes: 20_000, MemoryBody: 1500, CheckpointBytes: 30_000, Compress: !plain, Encrypt: !plain, Root: rootKey(), FlushMessages: 7, IdleMessages: 10}
}

func victim(dir string, plain bool) error {
	ctx := context.Background()
	opt := killOptions(plain)
	opt.Encrypt = !plain && rand.IntN(3) > 0 // else some of what comes has to be encrypted later
	l, err := store.Open(dir, opt)
	if err != nil {
		return err
	}
	var models []*model
	if err := json.NewDecoder(os.Stdin).Decode(&models); err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(line ledgerLine) {
		b, err := json.Marshal(line)
		if err != nil {
			panic(err)
		}
		mu.Lock()
		defer mu.Unlock()
		// One write is one line for the reader, or none.
		if _, err := os.Stdout.Write(append(b, '\n')); err != nil {
			os.Exit(2)
		}
	}
	defer compacting(ctx, l)()
	var wg sync.WaitGroup
	for i, m := range models {
		wg.Go(func() {
			w := newWorkers(rand.Uint64(), len(models))[i]
			if err := ensure(ctx, l, []*worker{w}); err != nil {
				panic(err)
			}
			for n := rand.IntN(1 << 30); ; n++ {
				a := m.choose(w.rng, w.account, n)
				say(ledgerLine{Worker: i, Action: a})
				err := perform(ctx, l, w.account, a)
				if err != nil {
					panic(err)
				}
				m.apply(a)
				shown := map[string]*modelBox{}
				for _, name := range a.touched() {
					if shown[name], err = show(ctx, l, w.account, name); err != nil {
						panic(err)
					}
				}
				say(ledgerLine{Worker: i, Done: true, Action: a, Shown: shown})
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKill kills a process in the middle of its work, again and again: what it
// acknowledged is there, and nothing else but the one change of each worker
// that it had not answered.
func TestKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const lanes = 4
	var starting sync.Mutex
	n := rounds(t, 1000)
	x := newTorture(t, "kills", n)
	all := make([]*killer, lanes)
	t.Run("stores", func(t *testing.T) {
		for i := range all {
			k := &killer{exe: exe, starting: &starting, dir: t.TempDir(), plain: i%2 == 0, workers: newWorkers(uint64(i), 3), rng: rand.New(rand.NewPCG(11, uint64(i)))}
			all[i] = k
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for round := 0; round < (n+lanes-1)/lanes && x.inTime(); round++ {
					k.round(t)
					if t.Failed() {
						t.Fatalf("round %d", round)
					}
					x.add(1)
				}
			})
		}
	})
	kills, changes, erased := 0, 0, 0
	for _, k := range all {
		kills += k.kills
		for _, w := range k.workers {
			changes += w.done
			erased += w.model.Era
		}
	}
	if !t.Failed() && (changes == 0 || erased == 0 && n >= 1000) {
		t.Error("nothing was acknowledged: the test shows nothing")
	}
	t.Logf("%d kills in %d acknowledged changes, %d of them erasures", kills, changes, erased)
}

// killer has processes work on one store and kills them.
type killer struct {
	exe string
	// starting is held while a process starts: until then it has the locks of
	// this process's stores, too.
	starting *sync.Mutex
	dir      string
	plain    bool
	workers  []*worker
	rng      *rand.Rand
	kills    int
}

func (k *killer) round(t *testing.T) {
	ctx := t.Context()
	models := make([]*model, len(k.workers))
	for i, w := range k.workers {
		models[i] = w.model
	}
	k.kill(t, models)
	if k.rng.IntN(4) == 0 {
		k.kill(t, nil) // while it recovers from that
	}
	if err := gone(folder(k.dir), k.workers); err != nil {
		t.Error(err)
	}
	l, err := store.Open(k.dir, killOptions(k.plain))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range l.Damage() {
		if !d.Tail || d.File == "index.db" { // a process that is killed leaves no damage
			t.Errorf("damage: %v", d)
		}
	}
	if err := ensure(ctx, l, k.workers); err != nil {
		t.Fatal(err)
	}
	for _, w := range k.workers {
		if err := w.verify(ctx, l); err != nil {
			t.Error(err)
		}
	}
	if err := l.Check(ctx); err != nil {
		t.Error(err)
	}
	closeLog(t, l)
}

// kill starts a process that goes on from the models and kills it: after some
// time, or in the middle of its changes. Without models it only opens the store.
func (k *killer) kill(t *testing.T, models []*model) {
	input, err := json.Marshal(models)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), k.exe)
	cmd.Env = append(os.Environ(), childDir+"="+k.dir)
	if k.plain {
		cmd.Env = append(cmd.Env, childPlain+"=1")
	}
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	k.starting.Lock()
	err = cmd.Start()
	k.starting.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	killAt := k.rng.IntN(80)
	if models == nil || k.rng.IntN(4) == 0 {
		killAt = -1
		timer := time.AfterFunc(time.Duration(k.rng.IntN(20_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	lines := bufio.NewReader(out)
	for n := 0; ; n++ {
		b, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var line ledgerLine
		if err := json.Unmarshal(b, &line); err != nil {
			t.Fatalf("%v in %q", err, b)
		}
		if err := k.workers[line.Worker].take(line); err != nil {
			t.Error(err)
		}
		if n == killAt {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if killed := cmd.ProcessState.ExitCode() < 0; killed {
		k.kills++
	} else if models != nil {
		t.Fatalf("the process ended by itself: %v", err)
	}
}

// take enters a line of the ledger.
func (w *worker) take(line ledgerLine) error {
	if !line.Done {
		w.doubt = &line.Action
		return nil
	}
	w.model.apply(line.Action)
	w.doubt = nil
	w.done++
	for name, shown := range line.Shown {
		if err := w.model.note(name, shown); err != nil {
			return fmt.Errorf("%s: after %+v: %w", w.account, line.Action, err)
		}
	}
	return nil
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	l, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("a second process opens the store: %v", err)
	}
	closeLog(t, l)
	l, err = store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
}
