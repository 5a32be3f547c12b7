package search

import (
	"math/bits"
	"strings"

	"mailform/server/store"
)

// Verdict is what an index says of a body.
type Verdict uint8

// The verdicts. Maybe means that the message has to be read: the index does not
// know the body, or words alone do not decide.
const (
	Maybe Verdict = iota
	No
	Yes
)

// Hits is the answer to one query. Close it.
type Hits struct {
	found    Verdict // of a body that has all words
	segments []segmentHits
	memory   map[store.BodyRef]bool
	all      bool // the query says nothing that words decide
	// last and next are where the answer to the next question probably is: who goes
	// through a mailbox asks for bodies in the order in which they came.
	last, next int
}

type segmentHits struct {
	*segment
	set bitset
}

// Of says whether a body has the text.
func (h *Hits) Of(ref store.BodyRef) Verdict {
	if h.all || ref.Size == 0 {
		return Maybe
	}
	if h.last < len(h.segments) {
		if s := h.segments[h.last]; h.next < s.len() && s.body(h.next) == ref {
			h.next++
			return h.verdict(s.set.has(h.next - 1))
		}
	}
	if has, known := h.memory[ref]; known {
		return h.verdict(has)
	}
	for k, s := range h.segments {
		if i, ok := s.find(ref); ok {
			h.last, h.next = k, i+1
			return h.verdict(s.set.has(i))
		}
	}
	return Maybe
}

func (h *Hits) verdict(has bool) Verdict {
	if has {
		return h.found
	}
	return No
}

// Close lets go of the index's files.
func (h *Hits) Close() {
	for _, s := range h.segments {
		s.release()
	}
	h.segments = nil
}

// query is a folded text taken apart.
type query struct {
	words  []word
	fields Field
	exact  bool // a body that has the words has the text
}

func newQuery(fields Field, text string) query {
	q := query{fields: fields}
	eachWord(text, func(w word) {
		// Of a word that is too long, in which another may begin, the index has no trace.
		if !w.cut || !w.first {
			q.words = append(q.words, w)
		}
	})
	q.exact = len(q.words) == 1 && q.words[0].text == text && !q.words[0].cut
	return q
}

// means says whether a word of the index is one that a query's word means.
func (w word) means(indexed string) bool {
	switch {
	case w.first && w.last:
		return strings.Contains(indexed, w.text)
	case w.first:
		return strings.HasSuffix(indexed, w.text)
	case w.last:
		return strings.HasPrefix(indexed, w.text)
	}
	return indexed == w.text
}

// bitset is a set of small numbers.
type bitset []uint64

func newBitset(n int) bitset    { return make(bitset, (n+63)/64) }
func (b bitset) add(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitset) keep(others bitset) {
	for i := range b {
		b[i] &= others[i]
	}
}

func (b bitset) count() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// search returns the bodies of a segment that have all words.
func (s *segment) search(q query) (bitset, error) {
	var found bitset
	for _, w := range q.words {
		set := newBitset(s.len())
		var err error
		s.each(w, func(i int) {
			if perr := postingsOf(s.posting(i), s.len(), func(body int, fields Field) {
				if fields&q.fields != 0 {
					set.add(body)
				}
			}); perr != nil {
				err = perr
			}
		})
		if err != nil {
			return nil, err
		}
		if found == nil {
			found = set
		} else {
			found.keep(set)
		}
		if found.count() == 0 {
			break
		}
	}
	return found, nil
}

// search is the same for what is in memory.
func (b *builder) search(q query) map[store.BodyRef]bool {
	n := len(b.bodies)
	var found bitset
	for _, w := range q.words {
		set := newBitset(n)
		mark := func(list []posting) {
			for _, p := range list {
				if p.fields&q.fields != 0 {
					set.add(int(p.body))
				}
			}
		}
		if !w.first && !w.last {
			mark(b.terms[w.text])
		} else {
			for term, list := range b.terms {
				if w.means(term) {
					mark(list)
				}
			}
		}
		if found == nil {
			found = set
		} else {
			found.keep(set)
		}
	}
	out := make(map[store.BodyRef]bool, n)
	for i, ref := range b.bodies {
		out[ref] = found.has(i)
	}
	return out
}
