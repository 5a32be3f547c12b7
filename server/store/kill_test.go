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

	"mailform/server/store"
)

// childDir, in the environment, makes this test program a victim: it opens the
// store there and makes changes until it is killed.
const childDir = "MAILFORM_STORE_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// ledgerLine is what the victim writes: ahead of a change, and once it was acknowledged.
type ledgerLine struct {
	Worker int
	Done   bool
	Action action
}

func victim(dir string) error {
	ctx := context.Background()
	l, err := store.Open(dir, store.Options{SegmentBytes: 20_000, MemoryBody: 1500, CheckpointBytes: 30_000})
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
	var wg sync.WaitGroup
	for i, m := range models {
		wg.Go(func() {
			w := newWorkers(rand.Uint64(), len(models))[i]
			w.model = m
			if err := l.EnsureAccount(ctx, w.account, 0); err != nil {
				panic(err)
			}
			for n := rand.IntN(1 << 30); ; n++ {
				a := m.choose(w.rng, w.account, n)
				say(ledgerLine{Worker: i, Action: a})
				if err := perform(ctx, l, w.account, a); err != nil {
					panic(err)
				}
				m.apply(a)
				say(ledgerLine{Worker: i, Done: true, Action: a})
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKill kills a process in the middle of its work, again and again: what it
// acknowledged is there.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	dir := t.TempDir()
	workers := newWorkers(11, 4)
	rng := rand.New(rand.NewPCG(11, 12))
	acknowledged := 0
	for round := range 6 {
		models := make([]*model, len(workers))
		for i, w := range workers {
			models[i] = w.model
		}
		input, err := json.Marshal(models)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(ctx, exe)
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stdin = bytes.NewReader(input)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killAt := 50 + rng.IntN(400)
		killed := false
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
				t.Fatalf("round %d: %v in %q", round, err, b)
			}
			w := workers[line.Worker]
			if line.Done {
				w.model.apply(line.Action)
				w.doubt = nil
				acknowledged++
			} else {
				w.doubt = &line.Action
			}
			if n == killAt {
				killed = true
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		err = cmd.Wait()
		if !killed {
			t.Fatalf("round %d: the process ended by itself: %v", round, err)
		}
		l, err := store.Open(dir, store.Options{SegmentBytes: 20_000, MemoryBody: 1500, CheckpointBytes: 30_000})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, w := range workers {
			if err := l.EnsureAccount(ctx, w.account, 0); err != nil {
				t.Fatal(err)
			}
			if err := w.verify(ctx, l); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if err := l.Check(ctx); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d changes were acknowledged", acknowledged)
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
