package imap

import (
	"cmp"
	"slices"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/wire"
	"mailform/server/store"
)

// resync is what a client that comes back knows of a mailbox, RFC 7162 3.2.5.
type resync struct {
	validity uint32
	modseq   store.ModSeq
	known    imap.UIDSet // nil: all
}

// parseResync reads the parameter of SELECT.
func parseResync(p *wire.Parser) *resync {
	r := &resync{}
	p.Expect('(')
	r.validity = p.Number()
	p.SP()
	r.modseq = store.ModSeq(p.Number64())
	if p.More() && p.Peek() != '(' {
		r.known = p.UIDSet(false)
		if p.More() {
			parseMatch(p)
		}
	} else if p.Peek() == '(' {
		parseMatch(p)
	}
	p.Expect(')')
	if p.Err() == nil && (r.validity == 0 || r.modseq == 0) {
		p.Fail("A parameter of QRESYNC is 0")
	}
	return r
}

// parseMatch reads what a client knows of sequence numbers. It only helps a
// server that has forgotten what was expunged, and is not needed here: then
// every UID that is not there is said to be gone.
func parseMatch(p *wire.Parser) {
	p.Expect('(')
	p.NumSet(false)
	p.SP()
	p.UIDSet(false)
	p.Expect(')')
}

// resynchronise tells a client what changed since it was here.
func (s *session) resynchronise(info store.MailboxInfo, r *resync) error {
	if r.validity != info.UIDValidity {
		return nil // all it knows is void
	}
	if err := s.vanishedSince(r.modseq, r.known); err != nil {
		return err
	}
	spans := []span{{0, s.view.msgs.Len()}}
	if r.known != nil {
		spans = tidy(s.view.uidSpans(r.known))
	}
	for i, m := range s.view.heads(spans) {
		if m.ModSeq > r.modseq {
			s.writeFlags(i, m, true)
		}
	}
	return nil
}

// vanishedSince writes VANISHED (EARLIER) for what was expunged since modseq,
// of the UIDs in within; nil is all.
func (s *session) vanishedSince(modseq store.ModSeq, within imap.UIDSet) error {
	uids, complete, err := s.store.Vanished(s.ctx, s.account, s.box(), modseq)
	if err != nil {
		return err
	}
	var gone imap.UIDSet
	if complete {
		for _, uid := range uids {
			// What the client has not been told of yet it will be told in its turn.
			if _, here := s.view.msgs.Find(uid); !here {
				gone.AddNum(imap.UID(uid))
			}
		}
	} else {
		gone = s.missing()
	}
	if within != nil {
		gone = intersect(gone, within)
	}
	if len(gone) > 0 {
		s.out.Raw("* VANISHED (EARLIER) ")
		s.out.UIDSet(gone)
		s.out.CRLF()
	}
	return nil
}

// missing returns the UIDs below the mailbox's next that no message has.
func (s *session) missing() (set imap.UIDSet) {
	next := imap.UID(1)
	upTo := func(uid store.UID) {
		if to := imap.UID(uid); to > next {
			set = append(set, imap.UIDRange{Start: next, Stop: to - 1})
		}
		next = imap.UID(uid) + 1
	}
	for row := range s.view.msgs.Rows(0, s.view.msgs.Len()) {
		upTo(row.UID())
	}
	for _, m := range s.view.fresh {
		upTo(m.UID)
	}
	upTo(s.view.uidNext)
	return set
}

// intersect returns what is in both sets, of which a is ascending.
func intersect(a, b imap.UIDSet) (out imap.UIDSet) {
	b = slices.Clone(b)
	slices.SortFunc(b, func(x, y imap.UIDRange) int { return cmp.Compare(x.Start, y.Start) })
	last := imap.UID(0) // the highest in out
	for len(a) > 0 && len(b) > 0 {
		lo, hi := max(a[0].Start, b[0].Start, last+1), min(a[0].Stop, b[0].Stop)
		if lo <= hi {
			out = append(out, imap.UIDRange{Start: lo, Stop: hi})
			last = hi
		}
		if a[0].Stop < b[0].Stop {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// concrete gives "*" in a set its number: of what may have gone, any UID that
// was given out.
func (s *session) concrete(set imap.UIDSet) imap.UIDSet {
	set = slices.Clone(set)
	last := imap.UID(max(s.view.uidNext, 2) - 1)
	for i := range set {
		for _, n := range []*imap.UID{&set[i].Start, &set[i].Stop} {
			if *n == 0 {
				*n = last
			}
		}
		if set[i].Start > set[i].Stop {
			set[i].Start, set[i].Stop = set[i].Stop, set[i].Start
		}
	}
	return set
}
