package store

import (
	"errors"
	"testing"
)

// A mailbox is found by its UIDVALIDITY as the batch being built leaves it: others that
// wait with a change may have deleted it, made another or given it another name.
func TestBoxWithinABatch(t *testing.T) {
	t.Parallel()
	l, err := Open(t.TempDir(), Options{ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx := t.Context()
	if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
		t.Fatal(err)
	}
	info, err := l.CreateMailbox(ctx, "a@b", "Box", "")
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("nothing of it is to be written")
	err = l.do(ctx, func(tx *txn) error {
		a, b, err := tx.mailbox("a@b", info.Box())
		if err != nil {
			t.Fatal(err)
		}
		finds := func(what string, box Box, want *stagedBox) {
			_, got, err := tx.mailbox("a@b", box)
			var gone *GoneError
			if got != want || want == nil && box.UIDValidity != 0 && !errors.As(err, &gone) {
				t.Errorf("%s: %+v leads to %+v, %v", what, box, got, err)
			}
		}
		a.names["Box"], b.name = nil, "Moved"
		a.names["Moved"] = b
		finds("renamed", info.Box(), b)
		finds("renamed", Named("Box"), nil)
		other := tx.create(a, "Box", "")
		finds("another made", info.Box(), b)
		finds("another made", Named("Box"), other)
		a.names["Moved"] = nil
		finds("deleted", info.Box(), nil)
		finds("the other", Box{"Whatever", other.id}, other)
		a.names["Box"] = nil
		finds("the other deleted", Box{"Box", other.id}, nil)
		finds("none such", Box{"INBOX", 12345}, nil)
		return stop
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
}
