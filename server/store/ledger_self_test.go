package store_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"mailform/server/store"
)

// TestLedgerNotices changes a store behind the ledger's back: each loss,
// resurrection and regression is found, or the torture tests show nothing.
func TestLedgerNotices(t *testing.T) {
	const account = "a0@example.org"
	ctx := t.Context()
	one := []store.UID{1}
	behind := func(list ...action) func(store.Store, *worker) error {
		return func(s store.Store, _ *worker) error {
			for _, a := range list {
				if err := perform(ctx, s, account, a); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for name, change := range map[string]func(store.Store, *worker) error{
		"nothing":           behind(),
		"a message is lost": behind(action{Kind: "flag", Box: "INBOX", UIDs: one, Flag: `\Deleted`}, action{Kind: "expunge", Box: "INBOX"}),
		"a message is back": behind(action{Kind: "append", Box: "INBOX", Text: "m2,"}),
		"a flag is lost": func(s store.Store, _ *worker) error {
			_, err := s.UpdateFlags(ctx, account, store.Named("INBOX"), one, store.FlagsSet, nil)
			return err
		},
		"a mailbox is made anew":      behind(action{Kind: "delete", Box: "box1"}, action{Kind: "create", Box: "box1"}),
		"a mailbox is lost":           behind(action{Kind: "delete", Box: "box1"}),
		"a queue entry is lost":       behind(action{Kind: "unqueue", ID: "q1"}),
		"a queue entry is back":       behind(action{Kind: "deliver", Box: "box1", Text: "m9,", ID: "q2"}, action{Kind: "flag", Box: "box1", UIDs: one, Flag: `\Deleted`}, action{Kind: "expunge", Box: "box1"}),
		"an attempt is lost":          behind(action{Kind: "try", ID: "q1", N: 4}),
		"a note is another":           behind(action{Kind: "note", Text: "other"}),
		"what is gone is back":        behind(action{Kind: "append", Box: "Sent", Text: "m3,"}),
		"the other's message is lost": behind(action{Kind: "erase other"}),
		"all is made anew":            behind(action{Kind: "empty"}),
		"what was erased is stored": func(s store.Store, w *worker) error {
			if err := w.make(ctx, s, action{Kind: "erase"}); err != nil {
				return err
			}
			a := action{Kind: "append", Box: "Sent", Text: markOf(account, 0)}
			w.model.apply(a)
			return perform(ctx, s, account, a)
		},
		"a body is another": func(_ store.Store, w *worker) error {
			m := w.model.Boxes["INBOX"].Messages[1]
			m.Text = summary("m1,changed")
			w.model.Boxes["INBOX"].Messages[1] = m
			return nil
		},
		"UIDNEXT went back":       func(_ store.Store, w *worker) error { w.model.Boxes["INBOX"].Next++; return nil },
		"HIGHESTMODSEQ went back": func(_ store.Store, w *worker) error { w.model.Boxes["INBOX"].Highest++; return nil },
		"a modseq changed": func(s store.Store, _ *worker) error {
			if _, err := s.UpdateFlags(ctx, account, store.Named("INBOX"), one, store.FlagsAdd, []string{"$x"}); err != nil {
				return err
			}
			_, err := s.UpdateFlags(ctx, account, store.Named("INBOX"), one, store.FlagsRemove, []string{"$x"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := store.NewSimFS(rand.New(rand.NewPCG(1, 1)))
			l := reopen(t, fs, store.Options{})
			defer closeLog(t, l)
			w := newWorkers(1, 1)[0]
			if err := ensure(ctx, l, []*worker{w}); err != nil {
				t.Fatal(err)
			}
			for _, a := range []action{
				{Kind: "deliver", Box: "INBOX", Text: "m1,", ID: "q1"}, {Kind: "append", Box: "INBOX", Text: "m2,"}, {Kind: "create", Box: "box1"},
				{Kind: "flag", Box: "INBOX", UIDs: one, Flag: `\Seen`}, {Kind: "flag", Box: "INBOX", UIDs: []store.UID{2}, Flag: `\Deleted`},
				{Kind: "expunge", Box: "INBOX"}, {Kind: "try", ID: "q1", N: 3},
				{Kind: "deliver", Box: "Sent", Text: "m3,", Both: true}, {Kind: "retain", Box: "Sent", UIDs: one}, {Kind: "note", Text: "note"},
			} {
				if err := w.make(ctx, l, a); err != nil {
					t.Fatal(err)
				}
			}
			if err := change(l, w); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(w.verify(ctx, l), gone(fs, []*worker{w})); (err == nil) != (name == "nothing") {
				t.Errorf("the ledger says: %v", err)
			}
		})
	}
}
