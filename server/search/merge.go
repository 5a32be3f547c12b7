package search

import (
	"bytes"

	"mailform/server/store"
)

// merger makes one segment of several, without bodies that are gone. What it holds in
// memory are the words and the bodies; postings go from file to file.
type merger struct {
	list    []*segment
	bodies  []byte    // of those that stay, as they are written
	numbers [][]int32 // by segment and body: the new number; -1 is gone
}

func newMerger(list []*segment, alive func(store.BodyRef) bool) *merger {
	m := &merger{list: list, numbers: make([][]int32, len(list))}
	at := make([]int, len(list)) // the next body of each
	for k, s := range list {
		m.numbers[k] = make([]int32, 0, s.len())
	}
	for n := int32(0); ; {
		first := -1
		var ref store.BodyRef
		for k, s := range list {
			if at[k] < s.len() {
				if r := s.body(at[k]); first < 0 || compareRefs(r, ref) < 0 {
					first, ref = k, r
				}
			}
		}
		if first < 0 {
			return m
		}
		stays := alive(ref)
		for k := first; k < len(list); k++ { // of one that several have, the first counts
			s := list[k]
			if at[k] == s.len() || compareRefs(s.body(at[k]), ref) != 0 {
				continue
			}
			number := int32(-1)
			if stays {
				m.bodies = appendBody(m.bodies, ref, s.flags(at[k]))
				number, stays = n, false
				n++
			}
			m.numbers[k] = append(m.numbers[k], number)
			at[k]++
		}
	}
}

// encode writes the segment.
func (m *merger) encode(e *encoder) error {
	e.bodies = m.bodies
	at := make([]int, len(m.list)) // the next word of each
	var list []occurrence
	trimmed := uint64(0)
	for {
		var next []byte
		for k, s := range m.list {
			if at[k] < s.countWords() {
				if w := s.wordAt(at[k]); next == nil || bytes.Compare(w, next) < 0 {
					next = w
				}
			}
		}
		if next == nil {
			return nil
		}
		list = list[:0]
		for k, s := range m.list {
			if at[k] == s.countWords() || !bytes.Equal(s.wordAt(at[k]), next) {
				continue
			}
			c := newCursor(s.posting(at[k]), s.len())
			for c.next(); c.body < s.len(); c.next() {
				if n := m.numbers[k][c.body]; n >= 0 {
					list = append(list, occurrence{uint32(n), c.fields, c.positions})
				}
			}
			if c.broken {
				return errSegment
			}
			at[k]++
		}
		if len(list) == 0 {
			continue
		}
		e.word(next)
		e.list(list)
		if e.size-trimmed >= trimEvery {
			trimmed = e.size
			for _, s := range m.list {
				s.trim()
			}
		}
	}
}
