package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// A mailbox that has more keywords than it could get now opens, and those it has can be
// set, taken away and go along when INBOX gets another name.
func TestMoreKeywordsThanMayBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Open(dir, Options{ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.Close() }()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.EnsureAccount(ctx, "a@b", 0))
	words := []string{fmt.Sprintf("%0200d", 1)}
	for i := range MaxKeywords + 100 {
		words = append(words, fmt.Sprint("word", i))
	}
	must(l.do(ctx, func(tx *txn) error {
		a, b, err := tx.mailbox("a@b", Named("INBOX"))
		for list := range slices.Chunk(words, 100) {
			tx.append(a, b, &Message{Flags: list, ObjectID: "E" + tx.name(len(list))})
		}
		return err
	}))
	must(l.Close())
	l, err = Open(dir, Options{ReserveBytes: -1})
	must(err)
	known := func(box string) int {
		snap, w, err := l.Open(ctx, "a@b", box)
		must(err)
		w.Close()
		return len(snap.Keywords)
	}
	if n := known("INBOX"); n != len(words) {
		t.Fatalf("%d keywords, want %d", n, len(words))
	}
	_, err = l.UpdateFlags(ctx, "a@b", Named("INBOX"), []UID{1}, FlagsAdd, []string{words[0], words[300]})
	must(err)
	if _, err = l.UpdateFlags(ctx, "a@b", Named("INBOX"), []UID{1}, FlagsAdd, []string{"more"}); !errors.Is(err, ErrKeywords) {
		t.Errorf("one more: %v", err)
	}
	must(l.RenameMailbox(ctx, "a@b", "INBOX", "Old"))
	if n := known("Old"); n != len(words) {
		t.Errorf("%d keywords under the new name, want %d", n, len(words))
	}
	_, err = l.UpdateFlags(ctx, "a@b", Named("Old"), []UID{1, 2, 3, 4}, FlagsRemove, words)
	must(err)
	_, err = l.UpdateFlags(ctx, "a@b", Named("Old"), []UID{1}, FlagsAdd, []string{"more"})
	must(err)
}
