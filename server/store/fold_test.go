package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// followed is what somebody knows of a mailbox who takes events as they are.
type followed struct {
	flags   map[UID]string
	heard   map[UID]bool // changed by others than oneself
	modseq  ModSeq
	next    UID
	name    string
	changes int
}

func (f *followed) take(own ModSeq, events []Event) {
	for _, e := range events {
		for _, m := range e.New {
			f.flags[m.UID], f.next = fmt.Sprint(m.Flags), m.UID+1
		}
		for _, c := range e.Changed {
			if _, ok := f.flags[c.UID]; ok {
				f.flags[c.UID] = fmt.Sprint(c.Flags)
				f.heard[c.UID] = f.heard[c.UID] || c.ModSeq != own
			}
		}
		if !slices.IsSortedFunc(e.Changed, func(x, y FlagState) int { return int(x.UID) - int(y.UID) }) {
			panic("changes do not ascend")
		}
		for _, uid := range e.Expunged {
			delete(f.flags, uid)
			delete(f.heard, uid)
		}
		f.modseq = max(f.modseq, e.ModSeq)
		if e.Renamed {
			f.name = e.Mailbox
		}
		f.changes += e.size()
	}
}

// Folded events say what they said before, and are few.
func TestFold(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var events []Event
		start := func() *followed {
			f := &followed{flags: map[UID]string{}, heard: map[UID]bool{}}
			for uid := UID(1); uid <= 10; uid++ {
				f.flags[uid] = "[]"
			}
			return f
		}
		there := slices.Sorted(maps.Keys(start().flags))
		next, own := UID(11), ModSeq(rng.IntN(300))
		for modseq := ModSeq(1); modseq <= 300; modseq++ {
			e := Event{Mailbox: "Box", ModSeq: modseq}
			switch n := rng.IntN(10); {
			case n < 2:
				e.New = []*Message{{UID: next, ModSeq: modseq}}
				there = append(there, next)
				next++
			case n < 4 && len(there) > 0:
				i := rng.IntN(len(there))
				e.Expunged = []UID{there[i]}
				there = slices.Delete(there, i, i+1)
			case n == 4:
				e.Mailbox, e.Renamed = fmt.Sprint("Box", modseq), true
			default:
				for _, uid := range there {
					if rng.IntN(2) == 0 {
						e.Changed = append(e.Changed, FlagState{uid, modseq, []string{fmt.Sprint("k", modseq)}})
					}
				}
			}
			events = append(events, e)
		}
		plain, folded := start(), start()
		plain.take(own, events)
		folded.take(own, fold(fold(events)))
		if !maps.Equal(plain.flags, folded.flags) || !maps.Equal(plain.heard, folded.heard) || plain.modseq != folded.modseq || plain.next != folded.next || plain.name != folded.name {
			t.Fatalf("seed %d: %+v, want %+v", seed, folded, plain)
		}
		if most := 4*len(plain.flags) + 12; folded.changes > most {
			t.Fatalf("seed %d: %d entries for %d messages", seed, folded.changes, len(plain.flags))
		}
	}
}

// A session that does not listen, while others change flags or bring and remove messages
// again and again, has no more waiting for it than there are messages.
func TestWatchIsBounded(t *testing.T) {
	t.Parallel()
	w := newWatch()
	const messages = 1000
	changed := make([]FlagState, messages)
	for modseq := ModSeq(1); modseq <= 300; modseq++ {
		list := slices.Clone(changed)
		for i := range list {
			list[i] = FlagState{UID(i + 1), modseq, nil}
		}
		w.put(Event{Mailbox: "Box", ModSeq: modseq, Changed: list})
		uid := messages + UID(modseq)
		w.put(Event{Mailbox: "Box", ModSeq: modseq, New: []*Message{{UID: uid}}})
		w.put(Event{Mailbox: "Box", ModSeq: modseq, Expunged: []UID{uid}})
	}
	n := 0
	for _, e := range w.Take() {
		n += e.size()
	}
	if n > 2*foldFrom {
		t.Errorf("%d entries wait for changes of %d messages", n, messages)
	}
}

// A large mailbox's events are folded before there are many.
func TestLargeEventsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWatch()
	const messages = 100_000
	for modseq := ModSeq(1); modseq <= 40; modseq++ {
		list := make([]FlagState, messages)
		for i := range list {
			list[i] = FlagState{UID(i + 1), modseq, nil}
		}
		w.put(Event{Mailbox: "Box", ModSeq: modseq, Changed: list})
		if w.size > foldMost+messages {
			t.Fatalf("%d entries wait after %d changes of everything", w.size, modseq)
		}
	}
}
