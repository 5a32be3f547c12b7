package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"mailform/server/store"
)

// inOneBatch carries the actions out so that they wait for the commit loop
// together. It returns whether each was accepted.
func inOneBatch(t *testing.T, l *store.Log, account string, actions []action) []bool {
	t.Helper()
	gate := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { l.Occupy(gate) })
	synctest.Wait()
	accepted := make([]bool, len(actions))
	for i, a := range actions {
		wg.Go(func() {
			err := perform(t.Context(), l, account, a)
			accepted[i] = err == nil
			for _, known := range []error{nil, store.ErrNoMailbox, store.ErrMailboxExists, store.ErrHasChildren, store.ErrNoMessage, store.ErrQuota} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Errorf("%+v: %v", a, err)
		})
	}
	synctest.Wait()
	close(gate)
	wg.Wait()
	return accepted
}

// TestBatchIsSerial makes changes to one account in one batch: they have the
// effect that they would have one after the other, in some order.
func TestBatchIsSerial(t *testing.T) {
	for seed := range uint64(rounds(t, 1000)/12 + 1) {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			rng := rand.New(rand.NewPCG(seed, 3))
			fs := store.NewSimFS(rng)
			opt := store.Options{SegmentBytes: 5000, MemoryBody: 1000}
			l := reopen(t, fs, opt)
			w := &worker{account: "a@b", rng: rng, model: newModel()}
			if err := ensure(ctx, l, []*worker{w}); err != nil {
				t.Fatal(err)
			}
			if err := w.run(ctx, l, 30); err != nil {
				t.Fatal(err)
			}
			for round := range 6 {
				var actions []action
				box := fmt.Sprintf("box-r%d", round)
				for _, text := range []string{"one", "two", "three"} {
					a := action{Kind: "deliver", Box: box, Text: text + ","}
					if err := perform(ctx, l, w.account, a); err != nil {
						t.Fatal(err)
					}
					w.model.apply(a)
				}
				a := action{Kind: "flag", Box: box, UIDs: []store.UID{2}, Flag: `\Deleted`}
				if err := perform(ctx, l, w.account, a); err != nil {
					t.Fatal(err)
				}
				w.model.apply(a)
				for range 2 + rng.IntN(2) {
					w.n++
					actions = append(actions, contend(rng, box, w.n))
				}
				accepted := inOneBatch(t, l, w.account, actions)
				got, err := read(ctx, l, w.account)
				if err != nil {
					t.Fatal(err)
				}
				if !serial(w.model, actions, accepted, got) {
					t.Fatalf("seed %d, round %d: %+v\naccepted %v\nfrom\n%sto\n%s", seed, round, actions, accepted, w.model, got)
				}
				w.model = got
			}
			closeLog(t, l)
			l = reopen(t, fs, opt)
			if err := w.verify(ctx, l); err != nil {
				t.Fatalf("seed %d: after a restart: %v", seed, err)
			}
			if err := l.Check(ctx); err != nil {
				t.Fatal(err)
			}
			closeLog(t, l)
		})
		if t.Failed() {
			return
		}
	}
}

// contend makes up an action on one mailbox that others act on too.
func contend(rng *rand.Rand, box string, n int) action {
	uids := []store.UID{1, 2, 3}[rng.IntN(3):]
	return []action{
		{Kind: "deliver", Box: box, Text: fmt.Sprintf("m%d,", n)},
		{Kind: "append", Box: box, Text: fmt.Sprintf("m%d,", n)},
		{Kind: "flag", Box: box, UIDs: uids, Flag: `\Deleted`},
		{Kind: "flag", Box: box, UIDs: uids, Flag: `\Seen`},
		{Kind: "expunge", Box: box},
		{Kind: "move", Box: box, UIDs: uids, To: "Archive"},
		{Kind: "move", Box: box, UIDs: uids, To: "Trash"},
		{Kind: "copy", Box: box, UIDs: uids, To: "Archive"},
		{Kind: "copy", Box: box, UIDs: uids, To: box},
		{Kind: "rename", Box: box, To: "other" + box},
		{Kind: "rename", Box: box, To: "third" + box},
		{Kind: "create", Box: "other" + box},
		{Kind: "delete", Box: box},
	}[rng.IntN(13)]
}

// serial says whether some order of the actions leads from a model to what was read.
func serial(from *model, actions []action, accepted []bool, got *model) bool {
	if len(actions) == 0 {
		return from.String() == got.String()
	}
	for i := range actions {
		next := from.clone()
		if next.apply(actions[i]) != accepted[i] {
			continue
		}
		if !accepted[i] {
			next = from
		}
		rest := append(append([]action(nil), actions[:i]...), actions[i+1:]...)
		ok := append(append([]bool(nil), accepted[:i]...), accepted[i+1:]...)
		if serial(next, rest, ok, got) {
			return true
		}
	}
	return false
}

// TestQuotaInOneBatch lets no more into an account than fits, also when all
// come at once.
func TestQuotaInOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		l := reopen(t, store.NewSimFS(rand.New(rand.NewPCG(1, 1))), store.Options{})
		if err := l.EnsureAccount(ctx, "a@b", 100); err != nil {
			t.Fatal(err)
		}
		var actions []action
		for i := range 10 {
			actions = append(actions, action{Kind: []string{"deliver", "append"}[i%2], Box: "INBOX", Text: strings.Repeat("x", 30)})
		}
		n := 0
		for _, ok := range inOneBatch(t, l, "a@b", actions) {
			if ok {
				n++
			}
		}
		bytes, _, err := l.Usage(ctx, "a@b")
		if n != 3 || bytes != 90 || err != nil {
			t.Errorf("%d accepted, %d octets, %v", n, bytes, err)
		}
		closeLog(t, l)
	})
}

// TestSlowSender does not hold up others.
func TestSlowSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		l := reopen(t, store.NewSimFS(rand.New(rand.NewPCG(1, 1))), store.Options{MemoryBody: 100})
		if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
			t.Fatal(err)
		}
		r := &gatedReader{gate: make(chan struct{}), rest: strings.NewReader(strings.Repeat("slow", 100))}
		done := make(chan error, 1)
		go func() {
			_, err := l.Deliver(ctx, store.Delivery{Body: r, Size: -1, Targets: []store.Target{{Account: "a@b", Mailbox: "Archive"}}})
			done <- err
		}()
		synctest.Wait()
		for i := range 3 {
			if err := perform(ctx, l, "a@b", action{Kind: "deliver", Box: "INBOX", Text: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		close(r.gate)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
	})
}

type gatedReader struct {
	gate chan struct{}
	rest *strings.Reader
}

func (g *gatedReader) Read(p []byte) (int, error) {
	if g.rest.Len() < 200 {
		<-g.gate
	}
	return g.rest.Read(p[:min(len(p), 150)])
}
