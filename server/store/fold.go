package store

import (
	"cmp"
	"slices"
)

// How many events, and entries of them, wait before they are folded: a few changes of
// everything are not worth it, unless they take some tens of MiB.
const (
	foldEvents = 64
	foldFrom   = 8192
	foldMost   = 1 << 20
)

// size is how much memory an event takes, in entries.
func (e *Event) size() int { return len(e.New) + len(e.Changed) + len(e.Expunged) }

// fold makes of events that nobody has taken yet two that come to the same: a client that
// says nothing for half an hour, while another changes all flags again and again, would
// have memory taken without end. Of a message's changes the first and the last stay: the
// client may have made one of them itself, and is to hear of the others all the same. A
// message that has come and gone was never there, but for the last, which says how far
// UIDs are.
func fold(events []Event) []Event {
	var before, after Event
	first, last, come := map[UID]FlagState{}, map[UID]FlagState{}, map[UID]bool{}
	gone := map[UID]bool{}
	for _, e := range events {
		after.ModSeq = max(after.ModSeq, e.ModSeq)
		after.Gone = after.Gone || e.Gone
		if e.Renamed || after.Mailbox == "" {
			after.Mailbox = e.Mailbox
		}
		after.Renamed = after.Renamed || e.Renamed
		before.New = append(before.New, e.New...)
		for _, m := range e.New {
			come[m.UID] = true
		}
		for _, f := range e.Changed {
			if _, ok := first[f.UID]; !ok {
				first[f.UID] = f
			} else {
				last[f.UID] = f
			}
		}
		after.Expunged = append(after.Expunged, e.Expunged...)
	}
	before.Mailbox, before.ModSeq = after.Mailbox, after.ModSeq
	if n := len(before.New); n > 0 {
		delete(come, before.New[n-1].UID)
	}
	for _, uid := range after.Expunged {
		gone[uid] = true
	}
	before.New = slices.DeleteFunc(before.New, func(m *Message) bool { return come[m.UID] && gone[m.UID] })
	after.Expunged = slices.Clip(slices.DeleteFunc(after.Expunged, func(uid UID) bool { return come[uid] }))
	changes := func(of map[UID]FlagState) []FlagState {
		list := make([]FlagState, 0, len(of))
		for uid, f := range of {
			if !gone[uid] {
				list = append(list, f)
			}
		}
		slices.SortFunc(list, func(x, y FlagState) int { return cmp.Compare(x.UID, y.UID) })
		return list
	}
	before.Changed, after.Changed = changes(first), changes(last)
	before.New = slices.Clip(before.New)
	return []Event{before, after}
}
