package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"mailform/server/store"
)

// TestPowerCutsWhileEncrypting turns encryption on, and off and on again, in the middle
// of a mixed load on a store that has mail in the clear, with what was there being
// encrypted behind it, and cuts the power: what was acknowledged is there, and in the end
// all of it is encrypted and belongs to whom it says.
func TestPowerCutsWhileEncrypting(t *testing.T) {
	t.Parallel()
	cuts, turns := 0, 0
	x := newTorture(t, "power cuts while encrypting", rounds(t, 100))
	for seed := uint64(0); x.more(); seed++ {
		c, n := encryptingCuts(t, seed)
		cuts, turns = cuts+c, turns+n
		x.add(c)
	}
	if turns == 0 {
		t.Error("encryption was never turned on under load: the test shows less than it says")
	}
	t.Logf("%d power cuts, encryption turned on %d times under load", cuts, turns)
}

// turning turns encryption on while others work, and off again when back says so, until
// stop is called, which says how often it was turned on.
func turning(ctx context.Context, l *store.Log, rng *rand.Rand, back bool) (stop func() (int, error)) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	turns := 0
	var failed error
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for range rng.IntN(200) {
				runtime.Gosched()
			}
			if failed = l.SetEncrypt(true); failed != nil {
				return
			}
			turns++
			for range rng.IntN(400) {
				runtime.Gosched()
			}
			if !back {
				return
			}
			if failed = l.SetEncrypt(false); failed != nil {
				return
			}
		}
	}()
	return func() (int, error) {
		cancel()
		<-done
		return turns, failed
	}
}

func encryptingCuts(t *testing.T, seed uint64) (cuts, turns int) {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(seed, 17))
	fs := store.NewSimFS(rng)
	workers := newWorkers(seed, 1+int(seed%4))
	options := func() store.Options {
		opt := tortureOptions(seed, fs)
		opt.Encrypt = false
		return opt
	}
	for life := range 5 {
		for _, w := range workers {
			w.disk = fs
		}
		if life > 0 { // the first leaves mail in the clear
			fs.CutAfter(1 + rng.IntN(1+rng.IntN(400)))
		}
		l, err := store.Open("/s", options())
		if err == nil {
			if err = ensure(ctx, l, workers); err == nil && life > 0 {
				stop := turning(ctx, l, rand.New(rand.NewPCG(seed, uint64(life))), seed%2 > 0 && life < 3)
				err = together(ctx, l, workers, 50)
				n, terr := stop()
				turns += n
				err = errors.Join(err, terr)
			} else if err == nil {
				err = together(ctx, l, workers, 20)
			}
			if closed := l.Close(); err == nil {
				err = closed
			}
		}
		if err != nil && !errors.Is(err, store.ErrPower) && !errors.Is(err, store.ErrFull) {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		if life == 0 {
			continue
		}
		cuts++
		fs = fs.Survivors()
		if err := gone(fs, workers); err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		verified(t, options(), workers, seed, life)
	}
	// In the end all of it is encrypted.
	opt := options()
	opt.Encrypt = true
	l, err := store.Open("/s", opt)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	for try := 0; ; try++ {
		done, err := l.Seal(ctx, store.CompactOptions{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if done.Left.ClearFiles == 0 {
			break
		}
		if try > 100 {
			t.Fatalf("seed %d: it comes to no end: %+v", seed, done.Left)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	verified(t, opt, workers, seed, -1)
	return cuts, turns
}

// verified opens a store and compares it with what was acknowledged.
func verified(t *testing.T, opt store.Options, workers []*worker, seed uint64, life int) {
	t.Helper()
	l, err := store.Open("/s", opt)
	if err != nil {
		t.Fatalf("seed %d, life %d: open: %v", seed, life, err)
	}
	if i := slices.IndexFunc(l.Damage(), func(d store.Damage) bool { return !d.Tail }); i >= 0 {
		t.Fatalf("seed %d, life %d: damage: %v", seed, life, l.Damage()[i])
	}
	if err := ensure(t.Context(), l, workers); err != nil {
		t.Fatal(err)
	}
	for _, w := range workers {
		if err := w.verify(t.Context(), l); err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
	}
	if err := l.Check(t.Context()); err != nil {
		t.Fatalf("seed %d, life %d: %v", seed, life, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
