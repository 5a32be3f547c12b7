package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// Clients make keywords up. However many they think of, a message has a bounded
// number of them, and a change of too many is no change, of no message.
func TestTooManyFlags(t *testing.T) {
	ctx := t.Context()
	l, err := Open(t.TempDir(), Options{ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := l.Append(ctx, "a@b", "INBOX", strings.NewReader("x"), 1, nil, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	keywords := func(from, n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("k%d", from+i))
		}
		return list
	}
	change := func(uids []UID, how FlagOp, flags []string) error {
		_, err := l.UpdateFlags(ctx, "a@b", Named("INBOX"), uids, how, flags)
		return err
	}
	for i, c := range []struct {
		uids  []UID
		how   FlagOp
		flags []string
		want  error
	}{
		{[]UID{2}, FlagsAdd, keywords(0, MaxFlags), nil},
		{[]UID{1, 2}, FlagsAdd, []string{`\Seen`}, ErrFlags},
		{[]UID{1, 2}, FlagsAdd, keywords(5, 5), nil},
		{[]UID{1}, FlagsSet, keywords(0, MaxFlags+1), ErrFlags},
		{[]UID{2}, FlagsRemove, keywords(0, 1), nil},
		{[]UID{2}, FlagsAdd, []string{"two"}, nil},
	} {
		if err := change(c.uids, c.how, c.flags); !errors.Is(err, c.want) {
			t.Fatalf("change %d: %v, want %v", i, err, c.want)
		}
	}
	snap, w, err := l.Open(ctx, "a@b", "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	var m Message
	snap.Messages.Read(0, &m)
	if got := m.Flags; !slices.Equal(got, keywords(5, 5)) {
		t.Errorf("the first message has %q", got)
	}
	if err := l.Check(ctx); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// The lists of flags that are known are few, too.
func TestFlagTableIsBounded(t *testing.T) {
	x := newIndex()
	for i := range 3000 {
		list := []string{fmt.Sprintf("%0200d", i), strings.Repeat("x", 4000)}
		if got := x.flags.intern(list); !slices.Equal(got, list) {
			t.Fatalf("another list: %q", got)
		}
	}
	octets := 0
	for key := range x.flags.lists {
		octets += len(key)
	}
	if octets > maxFlagTable || octets != x.flags.octets {
		t.Errorf("%d octets, %d counted", octets, x.flags.octets)
	}
}

// A long list comes out as a short one does.
func TestCanonicalList(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "A", "b", "B", "$junk", `\seen`, `\SEEN`, `\Recent`, "é", "", "c{", "abc", "aBc", "Z"}
	for range 300 {
		var flags, want []string
		for range rng.IntN(40) {
			flags = append(flags, words[rng.IntN(len(words))])
		}
		for _, f := range flags {
			if c := canonicalFlag(f); c != "" && !hasFlag(want, c) {
				want = append(want, c)
			}
		}
		slices.Sort(want)
		if got := canonicalList(flags); !slices.Equal(got, want) {
			t.Fatalf("of %q: %q, want %q", flags, got, want)
		}
	}
}
