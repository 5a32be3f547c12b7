package store_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"mailform/server/store"
)

// rounds is how many of a torture test's rounds are run: n, fewer with -short,
// and as many as MAILFORM_TORTURE says when that is set; more of them find more.
func rounds(t *testing.T, n int) int {
	t.Helper()
	if s := os.Getenv("MAILFORM_TORTURE"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("MAILFORM_TORTURE=%q is no number of rounds", s)
		}
		return n
	}
	if testing.Short() {
		return max(n/20, 1)
	}
	return n
}

// torture is a test of many rounds: it says how far it has come, and ends early
// when the time that MAILFORM_TORTURE_TIME gives each test is up.
type torture struct {
	t     *testing.T
	name  string
	want  int64
	begun time.Time
	limit time.Duration // 0 is none
	done  atomic.Int64
}

func newTorture(t *testing.T, name string, want int) *torture {
	t.Helper()
	x := &torture{t: t, name: name, want: int64(want), begun: time.Now()}
	if s := os.Getenv("MAILFORM_TORTURE_TIME"); s != "" {
		var err error
		if x.limit, err = time.ParseDuration(s); err != nil || x.limit <= 0 {
			t.Fatalf("MAILFORM_TORTURE_TIME=%q is no time", s)
		}
	}
	return x
}

// more says whether there is to be another round.
func (x *torture) more() bool { return x.done.Load() < x.want && x.inTime() }

func (x *torture) inTime() bool { return x.limit == 0 || time.Since(x.begun) < x.limit }

// add counts rounds that were done.
func (x *torture) add(n int) {
	done := x.done.Add(int64(n))
	if step := max(x.want/20, 250); done/step != (done-int64(n))/step {
		spent := time.Since(x.begun)
		x.t.Logf("%s: %d of %d rounds in %s, %.1f a second", x.name, done, x.want, spent.Round(time.Second), float64(done)/spent.Seconds())
	}
}

func tortureOptions(seed uint64, fs store.FS) store.Options {
	return store.Options{
		FS: fs, ReserveBytes: -1,
		SegmentBytes:    []int64{500, 4000, 1 << 20}[seed%3],
		MemoryBody:      []int64{100, 2000}[seed%2],
		CheckpointBytes: []int64{700, 5000, 1 << 30}[seed/3%3],
		Compress:        seed%4 >= 2,
		Encrypt:         seed%5 < 2,
		Root:            rootKey(),
		FlushMessages:   []int64{1, 20, 1000}[seed/2%3],
		IdleMessages:    []int64{1, 1000}[seed/5%2],
	}
}

// TestPowerCuts cuts the power at every kind of moment, again and again over
// the same store: what was acknowledged is there, what was not is there whole
// or not at all.
func TestPowerCuts(t *testing.T) {
	cuts, changes, moved, erased := 0, 0, 0, 0
	x := newTorture(t, "power cuts", rounds(t, 1000))
	for seed := uint64(0); x.more(); seed++ {
		c, workers := powerCuts(t, seed)
		cuts += c
		for _, w := range workers {
			changes, moved, erased = changes+w.done, moved+w.moved, erased+w.model.Era
		}
		x.add(c)
	}
	if moved == 0 || erased == 0 && cuts >= 1000 {
		t.Error("nothing was compacted or erased: the test shows less than it says")
	}
	t.Logf("%d power cuts in %d acknowledged changes and beside %d bodies that were moved, with %d erasures", cuts, changes, moved, erased)
}

func powerCuts(t *testing.T, seed uint64) (cuts int, workers []*worker) {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(seed, 99))
	fs := store.NewSimFS(rng)
	mount := func() store.FS { return fs }
	if seed%3 > 0 {
		dir := t.TempDir()
		fs.Mapped(dir)
		mount = func() store.FS { return &store.MappedFS{SimFS: fs} }
	}
	workers = newWorkers(seed, 1+int(seed%4))
	for life := range 6 {
		for _, w := range workers {
			w.disk = fs
		}
		fs.CutAfter(1 + rng.IntN(1+rng.IntN(400)))
		opt := tortureOptions(seed, mount())
		if seed%5 == 1 {
			opt.Encrypt = life%2 > 0 // turned on, and off again, with mail there
		}
		l, err := store.Open("/s", opt)
		if err == nil {
			err = ensure(ctx, l, workers)
			if err == nil {
				err = together(ctx, l, workers, 60)
			}
			closed := l.Close()
			if err == nil {
				err = closed
			}
		}
		if err != nil && !errors.Is(err, store.ErrPower) && !errors.Is(err, store.ErrFull) {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		cuts++
		fs = fs.Survivors()
		if err := gone(fs, workers); err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		if l, err = store.Open("/s", tortureOptions(seed, mount())); err != nil {
			t.Fatalf("seed %d, life %d: open: %v", seed, life, err)
		}
		for _, d := range l.Damage() {
			// The index file comes out worse than any power cut leaves it: see tearMapped.
			if !d.Tail && d.File != "index.db" {
				t.Fatalf("seed %d, life %d: damage: %v", seed, life, d)
			}
		}
		if err := ensure(ctx, l, workers); err != nil {
			t.Fatal(err)
		}
		for _, w := range workers {
			if err := w.verify(ctx, l); err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
		}
		err = l.Check(ctx)
		for try := 0; try < 1000 && err != nil && slices.ContainsFunc(l.Damage(), func(d store.Damage) bool { return d.File == "index.db" }); try++ {
			l.TendIndex() // it was found torn, and is made anew once no checkpoint is being written
			err = l.Check(ctx)
		}
		if err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return cuts, workers
}

// TestDiskFaults fails writes, syncs and truncations while the power is on:
// what is refused has no effect, neither now nor after a restart, and the store
// works again when the disk does.
func TestDiskFaults(t *testing.T) {
	n := max(rounds(t, 1000)/50, 1)
	for seed := range uint64(n) {
		diskFaults(t, seed)
	}
	t.Logf("%d stores, 8 rounds of faults in each of 3 lives", n)
}

func diskFaults(t *testing.T, seed uint64) {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(seed, 7))
	fs := store.NewSimFS(rng)
	workers := newWorkers(seed, 3)
	for life := range 3 {
		l, err := store.Open("/s", tortureOptions(seed, fs))
		if err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		if err := ensure(ctx, l, workers); err != nil {
			t.Fatal(err)
		}
		for _, w := range workers {
			if err := w.verify(ctx, l); err != nil {
				t.Fatalf("seed %d, life %d: after a restart: %v", seed, life, err)
			}
		}
		for round := range 8 {
			verify := func(w *worker) {
				t.Helper()
				fs.SetFault(nil)
				if err := ensure(ctx, l, []*worker{w}); err != nil {
					t.Fatalf("seed %d, life %d: the disk works again, but %v", seed, life, err)
				}
				if err := w.verify(ctx, l); err != nil {
					t.Fatalf("seed %d, life %d, round %d: %v", seed, life, round, err)
				}
			}
			for range 5 {
				fs.SetFault(func(string) error {
					if rng.IntN(5) == 0 {
						return store.DiskFault(rng)
					}
					return nil
				})
				if err := together(ctx, l, workers, 20); err != nil && !errors.Is(err, store.ErrFull) {
					t.Fatalf("seed %d, life %d: %v", seed, life, err)
				}
				for _, w := range workers {
					if w.doubt != nil && w.doubt.steps() {
						verify(w) // a part of it may have been done
					}
					w.doubt = nil // refused: it must have had no effect
				}
			}
			for _, w := range workers {
				verify(w)
			}
			if err := together(ctx, l, workers, 3); err != nil {
				t.Fatalf("seed %d, life %d: the disk works again, but %v", seed, life, err)
			}
		}
		if err := l.Check(ctx); err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		if err := l.Close(); err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
	}
}

// TestReserve refuses new messages while there is still room to remove old ones.
func TestReserve(t *testing.T) {
	ctx := t.Context()
	fs := store.NewSimFS(rand.New(rand.NewPCG(1, 1)))
	l, err := store.Open("/s", store.Options{FS: fs, ReserveBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
		t.Fatal(err)
	}
	put := func() error {
		return perform(ctx, l, "a@b", action{Kind: "deliver", Box: "INBOX", Text: "text"})
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	fs.SetFree(1003)
	if err := put(); !errors.Is(err, store.ErrFull) {
		t.Errorf("a delivery below the reserve: %v", err)
	}
	for _, a := range []action{{Kind: "flag", Box: "INBOX", UIDs: []store.UID{1}, Flag: `\Deleted`}, {Kind: "expunge", Box: "INBOX"}} {
		if err := perform(ctx, l, "a@b", a); err != nil {
			t.Errorf("%s: %v", a.Kind, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
