package imap

import (
	"slices"
	"sort"

	"github.com/emersion/go-imap/v2"

	"mailform/server/store"
)

// view is a mailbox as one client knows it. Sequence numbers are places in
// msgs; they change only when the client is told, RFC 9051 2.3.1.2. The store's
// events go into the view as they come and out to the client when the protocol
// allows it.
//
// A message that is not marked is known to the client as it stands in msgs, or
// not known at all: it has been told every change of what it was told before.
type view struct {
	msgs  store.List       // by sequence number - 1, as they are now
	marks marks            // of the messages in the same places
	gone  int              // messages marked as gone
	dirty int              // messages with another mark
	fresh []*store.Message // arrived, not yet announced
	// modseq is the mailbox's highest as of the last event taken in.
	modseq  store.ModSeq
	uidNext store.UID
	lost    bool   // the mailbox was deleted
	renamed string // what the mailbox is called since the last event taken in; "" as before
	// silent is the modification sequence of a change that the client made and
	// does not want to hear of; it takes its effect for granted. tellModSeq says
	// that it must be told the sequence all the same, RFC 7162 3.1.3.
	silent     store.ModSeq
	tellModSeq bool

	// touched has the messages whose flags changed since contexts looked at them. With
	// many of them they look for themselves.
	following bool // there are contexts
	touched   []store.UID
	many      bool
}

// maxTouched is from how many changed messages on contexts go through the mailbox.
const maxTouched = 1000

func newView(snap store.Snapshot) *view {
	return &view{msgs: snap.Messages, modseq: snap.Info.HighestModSeq, uidNext: snap.Info.UIDNext}
}

// take brings the store's events into the view.
func (v *view) take(events []store.Event) {
	for _, ev := range events {
		v.modseq = max(v.modseq, ev.ModSeq)
		v.fresh = append(v.fresh, ev.New...)
		if n := len(ev.New); n > 0 {
			v.uidNext = ev.New[n-1].UID + 1
		}
		for _, f := range ev.Changed {
			v.change(f)
		}
		v.expunge(ev.Expunged)
		v.lost = v.lost || ev.Gone
		if ev.Renamed {
			v.renamed = ev.Mailbox
		}
	}
}

// change takes in a message's new flags.
func (v *view) change(f store.FlagState) {
	if i, ok := v.msgs.Find(f.UID); ok {
		// What the session did itself it has learned already.
		if !v.msgs.Update(i, f) {
			return
		}
		if v.following && len(v.touched) < maxTouched {
			v.touched = append(v.touched, f.UID)
		} else {
			v.many = v.following
		}
		switch {
		case f.ModSeq != v.silent:
			v.setDirty(i, markChanged)
		case v.tellModSeq:
			v.setDirty(i, markModSeq)
		}
		return
	}
	if j, ok := findMessage(v.fresh, f.UID); ok {
		m := *v.fresh[j]
		m.Flags, m.ModSeq = f.Flags, f.ModSeq
		v.fresh[j] = &m
	}
}

func (v *view) expunge(uids []store.UID) {
	for _, uid := range uids {
		if i, ok := v.msgs.Find(uid); ok {
			if !v.isGone(i) {
				v.told(i)
				v.marks.add(i, markGone)
				v.gone++
			}
			continue
		}
		if j, ok := findMessage(v.fresh, uid); ok {
			v.fresh = slices.Concat(v.fresh[:j], v.fresh[j+1:])
		}
	}
}

func (v *view) isGone(i int) bool { return v.gone > 0 && v.marks.at(i)&markGone != 0 }

// isDirty says that the client is to be told something of a message.
func (v *view) isDirty(i int) bool { return v.dirty > 0 && v.marks.at(i)&markNews != 0 }

func (v *view) setDirty(i int, m mark) {
	if v.isGone(i) {
		return
	}
	if !v.isDirty(i) {
		v.dirty++
	}
	v.marks.add(i, m)
}

// told records that the client is told a message's flags as they are now.
func (v *view) told(i int) {
	if v.isDirty(i) {
		v.marks.drop(i, markNews)
		v.dirty--
	}
}

func findMessage(msgs []*store.Message, uid store.UID) (int, bool) {
	i := sort.Search(len(msgs), func(i int) bool { return msgs[i].UID >= uid })
	return i, i < len(msgs) && msgs[i].UID == uid
}

// updates is where a view's news goes.
type updates interface {
	// exists says that there are messages from this place on now.
	exists(from int)
	// leaving says that the messages at these places, ascending, are expunged: it is
	// the last time that they have places.
	leaving(places []int)
	// expunged says that the messages at these places, ascending, are gone.
	expunged(places []int, uids []store.UID)
	// changed says that a message's flags changed, or its modification sequence
	// only. Of the message no more than these and the UID are known.
	changed(place int, m *store.Message, flags bool)
}

// announce tells the client what it may be told now.
func (v *view) announce(w updates, expunges bool) { v.announceSome(w, expunges, true) }

// announceSome is announce for a client that may not want to hear of flags.
func (v *view) announceSome(w updates, expunges, flags bool) {
	if expunges {
		v.announceExpunges(w)
	}
	if len(v.fresh) > 0 {
		from := v.msgs.Len()
		v.msgs.Append(v.fresh...)
		v.fresh = nil
		w.exists(from)
	}
	var m store.Message
	for i := 0; flags && v.dirty > 0; i++ {
		i = v.marks.next(i, markNews)
		all := v.marks.at(i)&markChanged != 0
		v.told(i)
		v.msgs.Head(i, &m)
		w.changed(i, &m, all)
	}
	if v.gone == 0 && v.dirty == 0 {
		v.marks = marks{}
	}
}

// announceExpunges tells which messages are gone, and forgets them.
func (v *view) announceExpunges(w updates) {
	if v.gone == 0 {
		return
	}
	places := make([]int, 0, v.gone)
	uids := make([]store.UID, 0, v.gone)
	for i := v.marks.next(0, markGone); i >= 0; i = v.marks.next(i+1, markGone) {
		places, uids = append(places, i), append(uids, v.msgs.UID(i))
	}
	w.leaving(places)
	v.msgs.Remove(places)
	v.marks.remove(places)
	v.gone = 0
	w.expunged(places, uids)
}

// span is a run of places, the end not included.
type span struct{ from, to int }

// resolve returns the places that a set names, ascending, each once; those of
// messages that are gone are among them. ok is false when a sequence number is
// out of range, which is the client's mistake, RFC 9051 9, seq-number.
func (v *view) resolve(set imap.NumSet, saved imap.UIDSet) (spans []span, ok bool) {
	switch set := set.(type) {
	case imap.UIDSet:
		if imap.IsSearchRes(set) {
			set = saved
		}
		return tidy(v.uidSpans(set)), true
	case imap.SeqSet:
		n := uint32(v.msgs.Len())
		if n == 0 && set.Dynamic() {
			return nil, true // "1:*" of an empty mailbox, which clients send without a look
		}
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
			spans = append(spans, span{int(lo) - 1, int(hi)})
		}
		return tidy(spans), true
	}
	return nil, false
}

// uidSpans translates UIDs to places.
func (v *view) uidSpans(set imap.UIDSet) (spans []span) {
	n := v.msgs.Len()
	if n == 0 {
		return nil
	}
	last := imap.UID(v.msgs.UID(n - 1))
	for _, r := range set {
		lo, hi := r.Start, r.Stop
		if lo == 0 {
			lo = last
		}
		if hi == 0 {
			hi = last
		}
		lo, hi = min(lo, hi), max(lo, hi)
		i, j := v.msgs.Index(store.UID(lo)), n
		if hi < last {
			j = v.msgs.Index(store.UID(hi) + 1)
		}
		if i < j {
			spans = append(spans, span{i, j})
		}
	}
	return spans
}

// tidy sorts spans and makes them disjoint.
func tidy(spans []span) []span {
	if len(spans) < 2 {
		return spans
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	out := spans[:1]
	for _, s := range spans[1:] {
		if last := &out[len(out)-1]; s.from <= last.to {
			last.to = max(last.to, s.to)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// each yields the places of spans whose messages are not gone. The message is good
// until the next one.
func (v *view) each(spans []span) func(yield func(int, *store.Message) bool) {
	return v.rows(spans, store.Row.Read)
}

// facts is each for who does not want to know where the octets of the messages are.
func (v *view) facts(spans []span) func(yield func(int, *store.Message) bool) {
	return v.rows(spans, store.Row.Facts)
}

// heads is each for who wants to know no more than UIDs, ModSeqs and Flags.
func (v *view) heads(spans []span) func(yield func(int, *store.Message) bool) {
	return v.rows(spans, store.Row.Head)
}

func (v *view) rows(spans []span, read func(store.Row, *store.Message)) func(yield func(int, *store.Message) bool) {
	return func(yield func(int, *store.Message) bool) {
		var m store.Message
		for _, s := range spans {
			for row := range v.msgs.Rows(s.from, s.to) {
				if v.isGone(row.Place) {
					continue
				}
				if read(row, &m); !yield(row.Place, &m) {
					return
				}
			}
		}
	}
}

// uids returns the UIDs at the places of spans that are not gone.
func (v *view) uids(spans []span) []store.UID {
	n := 0
	for _, s := range spans {
		n += s.to - s.from
	}
	l := make([]store.UID, 0, n)
	for _, m := range v.heads(spans) {
		l = append(l, m.UID)
	}
	return l
}

// anyGone says whether a message of spans is gone.
func (v *view) anyGone(spans []span) bool {
	if v.gone > 0 {
		for _, s := range spans {
			for i := s.from; i < s.to; i++ {
				if v.isGone(i) {
					return true
				}
			}
		}
	}
	return false
}

// changedSince returns the places of spans whose messages have changed since.
func (v *view) changedSince(spans []span, since store.ModSeq) (out []span) {
	for i, m := range v.heads(spans) {
		if m.ModSeq > since {
			out = append(out, span{i, i + 1})
		}
	}
	return tidy(out)
}

// part returns the range of a partial fetch, of the messages that are not gone.
func (v *view) part(spans []span, r *partial) (out []span) {
	n := 0
	for range v.heads(spans) {
		n++
	}
	from, to := r.of(n)
	n = 0
	for i := range v.heads(spans) {
		if n >= from && n < to {
			out = append(out, span{i, i + 1})
		}
		n++
	}
	return tidy(out)
}
