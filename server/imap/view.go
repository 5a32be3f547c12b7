package imap

import (
	"sort"

	"github.com/emersion/go-imap/v2"

	"mailform/server/store"
)

// view is a mailbox as one client knows it. Sequence numbers are places in
// entries; they change only when the client is told, RFC 9051 2.3.1.2. The
// store's events go into the view as they come and out to the client when the
// protocol allows it.
type view struct {
	entries []*entry
	fresh   []*store.Message // arrived, not yet announced
	gone    int              // entries expunged, not yet announced
	dirty   map[*entry]bool  // flags changed, not yet announced
	lost    bool             // the mailbox was deleted or renamed away
}

// entry is one message the client knows.
type entry struct {
	msg  *store.Message // as it is now
	gone bool           // expunged, and the client not told
	told []string       // the flags the client knows, unless it was never told any
	knew bool
}

func newView(msgs []*store.Message) *view {
	v := &view{entries: make([]*entry, len(msgs)), dirty: map[*entry]bool{}}
	block := make([]entry, len(msgs))
	for i, m := range msgs {
		block[i].msg = m
		v.entries[i] = &block[i]
	}
	return v
}

// take brings the store's events into the view.
func (v *view) take(events []store.Event) {
	for _, ev := range events {
		v.fresh = append(v.fresh, ev.New...)
		for _, m := range ev.Changed {
			v.change(m)
		}
		v.expunge(ev.Expunged)
		v.lost = v.lost || ev.Gone
	}
}

func (v *view) change(m *store.Message) {
	if e := v.find(m.UID); e != nil {
		// What the session did itself it has learned already.
		if m.ModSeq > e.msg.ModSeq {
			e.msg = m
			v.dirty[e] = true
		}
		return
	}
	if i, ok := findMessage(v.fresh, m.UID); ok {
		v.fresh[i] = m
	}
}

func (v *view) expunge(uids []store.UID) {
	for _, uid := range uids {
		if e := v.find(uid); e != nil {
			if !e.gone {
				e.gone = true
				v.gone++
			}
			delete(v.dirty, e)
			continue
		}
		if i, ok := findMessage(v.fresh, uid); ok {
			v.fresh = append(v.fresh[:i:i], v.fresh[i+1:]...)
		}
	}
}

func findMessage(msgs []*store.Message, uid store.UID) (int, bool) {
	i := sort.Search(len(msgs), func(i int) bool { return msgs[i].UID >= uid })
	return i, i < len(msgs) && msgs[i].UID == uid
}

// index returns the place of the first entry whose UID is uid or higher.
func (v *view) index(uid store.UID) int {
	return sort.Search(len(v.entries), func(i int) bool { return v.entries[i].msg.UID >= uid })
}

func (v *view) find(uid store.UID) *entry {
	if i := v.index(uid); i < len(v.entries) && v.entries[i].msg.UID == uid {
		return v.entries[i]
	}
	return nil
}

// updates is where a view's news goes: imapserver's UpdateWriter.
type updates interface {
	WriteExpunge(seq uint32) error
	WriteNumMessages(n uint32) error
	WriteMessageFlags(seq uint32, uid imap.UID, flags []imap.Flag) error
}

// announce tells the client what it may be told now.
func (v *view) announce(w updates, expunges bool) error {
	if expunges {
		if err := v.announceExpunges(w); err != nil {
			return err
		}
	}
	if len(v.fresh) > 0 {
		block := make([]entry, len(v.fresh))
		for i, m := range v.fresh {
			block[i].msg = m
			v.entries = append(v.entries, &block[i])
		}
		v.fresh = nil
		if err := w.WriteNumMessages(uint32(len(v.entries))); err != nil {
			return err
		}
	}
	if len(v.dirty) == 0 {
		return nil
	}
	for i, e := range v.entries {
		if !v.dirty[e] {
			continue
		}
		delete(v.dirty, e)
		if e.knew && equalFlags(e.told, e.msg.Flags) {
			continue // changed and changed back
		}
		e.tell()
		if err := w.WriteMessageFlags(uint32(i)+1, imap.UID(e.msg.UID), flagsOf(e.msg)); err != nil {
			return err
		}
	}
	return nil
}

// announceExpunges tells which messages are gone. The numbers go down as the
// messages before them go.
func (v *view) announceExpunges(w interface{ WriteExpunge(uint32) error }) error {
	if v.gone == 0 {
		return nil
	}
	kept := v.entries[:0]
	seq := uint32(1)
	for i, e := range v.entries {
		if !e.gone {
			kept = append(kept, e)
			seq++
			continue
		}
		v.gone--
		if err := w.WriteExpunge(seq); err != nil {
			// The connection is broken; what is left must stay consistent.
			v.entries = append(kept, v.entries[i+1:]...)
			return err
		}
	}
	clear(v.entries[len(kept):])
	v.entries = kept
	return nil
}

// tell records that the client knows the flags as they are now.
func (e *entry) tell() { e.told, e.knew = e.msg.Flags, true }

func equalFlags(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func flagsOf(m *store.Message) []imap.Flag {
	l := make([]imap.Flag, len(m.Flags))
	for i, f := range m.Flags {
		l[i] = imap.Flag(f)
	}
	return l
}

// numbered is an entry with its sequence number.
type numbered struct {
	seq uint32
	*entry
}

// resolve returns the entries that a set names, in order, without those that
// are gone. ok is false when a sequence number is out of range, which is the
// client's mistake, RFC 9051 9, seq-number.
func (v *view) resolve(set imap.NumSet, saved imap.UIDSet) (l []numbered, ok bool) {
	switch set := set.(type) {
	case imap.UIDSet:
		if imap.IsSearchRes(set) {
			set = saved
		}
		v.each(v.uidRanges(set), &l)
		return l, true
	case imap.SeqSet:
		ranges := make([][2]int, 0, len(set))
		n := uint32(len(v.entries))
		for _, r := range set {
			lo, hi := r.Start, r.Stop
			if lo == 0 {
				lo = n
			}
			if hi == 0 {
				hi = n
			}
			lo, hi = min(lo, hi), max(lo, hi)
			if lo < 1 || hi > n {
				return nil, false
			}
			ranges = append(ranges, [2]int{int(lo) - 1, int(hi)})
		}
		v.each(ranges, &l)
		return l, true
	}
	return nil, false
}

// uidRanges translates UIDs to half-open ranges of places.
func (v *view) uidRanges(set imap.UIDSet) [][2]int {
	var ranges [][2]int
	if len(v.entries) == 0 {
		return nil
	}
	last := imap.UID(v.entries[len(v.entries)-1].msg.UID)
	for _, r := range set {
		lo, hi := r.Start, r.Stop
		if lo == 0 {
			lo = last
		}
		if hi == 0 {
			hi = last
		}
		lo, hi = min(lo, hi), max(lo, hi)
		i := v.index(store.UID(lo))
		j := len(v.entries)
		if hi < last {
			j = v.index(store.UID(hi) + 1)
		}
		ranges = append(ranges, [2]int{i, j})
	}
	return ranges
}

// each appends the entries of ranges, each once and in order.
func (v *view) each(ranges [][2]int, l *[]numbered) {
	sort.Slice(ranges, func(i, j int) bool { return ranges[i][0] < ranges[j][0] })
	next := 0
	for _, r := range ranges {
		for i := max(r[0], next); i < r[1]; i++ {
			if e := v.entries[i]; !e.gone {
				*l = append(*l, numbered{uint32(i) + 1, e})
			}
		}
		next = max(next, r[1])
	}
}
