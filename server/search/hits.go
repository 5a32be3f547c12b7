package search

import "mailform/server/store"

// Verdict is what an index says of a body.
type Verdict uint8

// The verdicts. Maybe means that the message has to be read: the index does not
// know the body, or not enough of it.
const (
	Maybe Verdict = iota
	No
	Yes
)

// Hits is the answer to one query. Close it.
type Hits struct {
	segments []segmentHits
	memory   map[store.BodyRef]Verdict
	all      bool // the query says nothing that words decide
	// last and next are where the answer to the next question probably is: who goes
	// through a mailbox asks for bodies in the order in which they came.
	last, next int
}

type segmentHits struct {
	*segment
	yes, maybe bitset
}

// Of says whether a body has the text.
func (h *Hits) Of(ref store.BodyRef) Verdict {
	if h.all || ref.Size == 0 {
		return Maybe
	}
	ref = at(ref)
	if h.last < len(h.segments) {
		if s := h.segments[h.last]; h.next < s.len() && s.body(h.next) == ref {
			h.next++
			return s.verdict(h.next - 1)
		}
	}
	if v, known := h.memory[ref]; known {
		return v
	}
	for k, s := range h.segments {
		if i, ok := s.find(ref); ok {
			h.last, h.next = k, i+1
			return s.verdict(i)
		}
	}
	return Maybe
}

func (s segmentHits) verdict(i int) Verdict {
	switch {
	case s.yes.has(i):
		return Yes
	case s.maybe.has(i):
		return Maybe
	}
	return No
}

// Size returns about how many octets of memory the answer takes.
func (h *Hits) Size() int {
	n := 0
	for _, s := range h.segments {
		n += 8 * (len(s.yes) + len(s.maybe))
	}
	return n + 64*len(h.memory)
}

// Close lets go of the index's files.
func (h *Hits) Close() {
	for _, s := range h.segments {
		s.release()
	}
	h.segments = nil
}

// bitset is a set of small numbers.
type bitset []uint64

func newBitset(n int) bitset    { return make(bitset, (n+63)/64) }
func (b bitset) add(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }
