package imap

import (
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"
	"pgregory.net/rapid"

	"mailform/server/store"
)

// reference is a mailbox as simple as can be, and its change log.
type reference struct {
	msgs    []*store.Message
	uidNext store.UID
	modseq  store.ModSeq
	log     []store.Event
}

func (r *reference) add() {
	r.modseq++
	m := &store.Message{UID: r.uidNext, ModSeq: r.modseq}
	r.uidNext++
	r.msgs = append(r.msgs, m)
	r.log = append(r.log, store.Event{ModSeq: r.modseq, New: []*store.Message{m}})
}

// change gives messages other flags, and returns the sequence of that.
func (r *reference) change(flag string, places []int) store.ModSeq {
	r.modseq++
	ev := store.Event{ModSeq: r.modseq}
	for _, i := range places {
		m := *r.msgs[i]
		m.Flags, m.ModSeq = []string{flag}, r.modseq
		r.msgs[i] = &m
		ev.Changed = append(ev.Changed, store.FlagState{UID: m.UID, ModSeq: m.ModSeq, Flags: m.Flags})
	}
	r.log = append(r.log, ev)
	return r.modseq
}

func (r *reference) expunge(places []int) {
	r.modseq++
	ev := store.Event{ModSeq: r.modseq}
	for _, i := range places {
		ev.Expunged = append(ev.Expunged, r.msgs[i].UID)
	}
	r.msgs = slices.DeleteFunc(slices.Clone(r.msgs), func(m *store.Message) bool { return slices.Contains(ev.Expunged, m.UID) })
	r.log = append(r.log, ev)
}

// believer is a client that knows only what it was told.
type believer struct {
	*rapid.T
	view  *view
	read  int // of the log
	msgs  []store.UID
	flags map[store.UID]string // of those it was told of
}

func (b *believer) exists(from int) {
	for row := range b.view.msgs.Rows(from, b.view.msgs.Len()) {
		b.msgs = append(b.msgs, row.UID())
	}
}

func (b *believer) leaving(places []int) {
	for _, place := range places {
		if b.msgs[place] != b.view.msgs.UID(place) {
			b.Fatalf("UID %d leaves place %d, where UID %d was", b.view.msgs.UID(place), place, b.msgs[place])
		}
	}
}

func (b *believer) expunged(places []int, uids []store.UID) {
	for k, place := range places {
		if b.msgs[place-k] != uids[k] {
			b.Fatalf("number %d is said to be UID %d and was %d", place-k+1, uids[k], b.msgs[place-k])
		}
		b.msgs = slices.Delete(b.msgs, place-k, place-k+1)
	}
}

func (b *believer) changed(place int, m *store.Message, flags bool) {
	if b.msgs[place] != m.UID {
		b.Fatalf("number %d is said to be UID %d and was %d", place+1, m.UID, b.msgs[place])
	}
	if flags {
		b.flags[m.UID] = flagText(m)
	}
}

func flagText(m *store.Message) string {
	if len(m.Flags) == 0 {
		return ""
	}
	return m.Flags[0]
}

// TestViewModel lets sessions read a change log at their own pace, and be told
// of it when the protocol allows. Numbers mean the same to both sides at every
// moment, and in the end every client knows the mailbox as it is.
func TestViewModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := &reference{uidNext: 1}
		for range rapid.IntRange(0, 6).Draw(rt, "messages") {
			r.add()
		}
		open := func() *believer {
			v := newView(store.Snapshot{Messages: store.ListOf(r.msgs...), Info: store.MailboxInfo{UIDNext: r.uidNext, HighestModSeq: r.modseq}})
			b := &believer{T: rt, view: v, read: len(r.log), flags: map[store.UID]string{}}
			for _, m := range r.msgs {
				b.msgs = append(b.msgs, m.UID)
			}
			return b
		}
		clients := []*believer{open()}
		flag := rapid.SampledFrom([]string{"a", "b", "c"})
		some := func(n int) []int {
			var l []int
			for i := range n {
				if rapid.Bool().Draw(rt, "in") {
					l = append(l, i)
				}
			}
			return l
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			b := clients[rapid.IntRange(0, len(clients)-1).Draw(rt, "who")]
			take := func(n int) {
				b.view.take(r.log[b.read : b.read+n])
				b.read += n
			}
			switch rapid.IntRange(0, 7).Draw(rt, "kind") {
			case 0:
				r.add()
			case 1:
				if l := some(len(r.msgs)); len(l) > 0 {
					r.change(flag.Draw(rt, "flag"), l)
				}
			case 2:
				if l := some(len(r.msgs)); len(l) > 0 {
					r.expunge(l)
				}
			case 3: // some of the log
				take(rapid.IntRange(0, len(r.log)-b.read).Draw(rt, "events"))
			case 4:
				b.view.announce(b, rapid.Bool().Draw(rt, "expunges"))
			case 5: // a silent change of a message it knows and that is there
				take(len(r.log) - b.read)
				if len(b.msgs) == 0 {
					break
				}
				place := rapid.IntRange(0, len(b.msgs)-1).Draw(rt, "place")
				if b.view.isGone(place) {
					break
				}
				uid, f := b.msgs[place], flag.Draw(rt, "flag")
				i := slices.IndexFunc(r.msgs, func(m *store.Message) bool { return m.UID == uid })
				b.view.silent = r.change(f, []int{i})
				if !b.view.isDirty(place) {
					b.flags[uid] = f
				}
				take(len(r.log) - b.read)
			case 6:
				if len(clients) < 4 {
					clients = append(clients, open())
				}
			case 7: // numbers
				if len(b.msgs) == 0 {
					break
				}
				lo, hi := rapid.IntRange(1, len(b.msgs)).Draw(rt, "lo"), rapid.IntRange(1, len(b.msgs)).Draw(rt, "hi")
				spans, ok := b.view.resolve(imap.SeqSet{{Start: uint32(lo), Stop: uint32(hi)}}, nil)
				if !ok {
					rt.Fatalf("%d:%d of %d is refused", lo, hi, len(b.msgs))
				}
				for i, m := range b.view.each(spans) {
					if b.msgs[i] != m.UID {
						rt.Fatalf("number %d is UID %d, believed to be %d", i+1, m.UID, b.msgs[i])
					}
				}
			}
		}
		for _, b := range clients {
			b.view.take(r.log[b.read:])
			b.view.announce(b, true)
			if len(b.msgs) != len(r.msgs) || b.view.gone != 0 || b.view.dirty != 0 || b.view.modseq != r.modseq || b.view.uidNext != r.uidNext {
				rt.Fatalf("believes in %v, view %+v; there are %d, modseq %d", b.msgs, b.view, len(r.msgs), r.modseq)
			}
			for i, m := range r.msgs {
				if f, told := b.flags[m.UID]; b.msgs[i] != m.UID || told && f != flagText(m) {
					rt.Fatalf("number %d is UID %d with %q, believed to be %d with %q", i+1, m.UID, flagText(m), b.msgs[i], f)
				}
			}
		}
	})
}

// A set means the same as asking for each message.
func TestResolve(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := &view{}
		uid := store.UID(0)
		for range rapid.IntRange(0, 10).Draw(rt, "messages") {
			uid += store.UID(rapid.IntRange(1, 3).Draw(rt, "gap"))
			v.msgs.Append(&store.Message{UID: uid})
		}
		number := rapid.Uint32Range(0, 30) // 0 is "*"
		var set imap.UIDSet
		for range rapid.IntRange(1, 4).Draw(rt, "ranges") {
			set = append(set, imap.UIDRange{Start: imap.UID(number.Draw(rt, "from")), Stop: imap.UID(number.Draw(rt, "to"))})
		}
		in := func(u store.UID) bool {
			for _, x := range set {
				lo, hi := store.UID(x.Start), store.UID(x.Stop)
				if lo == 0 {
					lo = uid
				}
				if hi == 0 {
					hi = uid
				}
				if u >= min(lo, hi) && u <= max(lo, hi) {
					return true
				}
			}
			return false
		}
		spans, _ := v.resolve(set, nil)
		var got []store.UID
		for _, m := range v.each(spans) {
			got = append(got, m.UID)
		}
		var want []store.UID
		for _, m := range v.msgs.All() {
			if in(m.UID) {
				want = append(want, m.UID)
			}
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("%v is %v, want %v", set, got, want)
		}
	})
}
