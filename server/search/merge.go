package search

import (
	"bytes"
	"slices"

	"mailform/server/store"
)

// merged is one segment made of several, without bodies that are gone; nil when
// nothing is left.
func merged(list []*segment, alive func(store.BodyRef) bool) (*encoder, error) {
	type origin struct{ list, body int }
	var bodies []store.BodyRef
	from := map[store.BodyRef]origin{}
	for k, s := range list {
		for i := range s.len() {
			ref := s.body(i)
			if _, twice := from[ref]; !twice && alive(ref) {
				from[ref] = origin{k, i}
				bodies = append(bodies, ref)
			}
		}
	}
	if len(bodies) == 0 {
		return nil, nil
	}
	slices.SortFunc(bodies, compareRefs)
	places := make([][]int32, len(list)) // by segment and body: the new number; -1 is gone
	for k, s := range list {
		places[k] = make([]int32, s.len())
		for i := range places[k] {
			places[k][i] = -1
		}
	}
	e := &encoder{}
	for n, ref := range bodies {
		o := from[ref]
		places[o.list][o.body] = int32(n)
		e.body(indexed{ref, list[o.list].flags(o.body)})
	}
	from = nil

	at := make([]int, len(list)) // the next word of each
	var postings []occurrence
	for {
		var next []byte
		for k, s := range list {
			if at[k] < s.countWords() {
				if w := s.wordAt(at[k]); next == nil || bytes.Compare(w, next) < 0 {
					next = w
				}
			}
		}
		if next == nil {
			break
		}
		postings = postings[:0]
		for k, s := range list {
			if at[k] == s.countWords() || !bytes.Equal(s.wordAt(at[k]), next) {
				continue
			}
			c := newCursor(s.posting(at[k]), s.len())
			for c.next(); c.body < s.len(); c.next() {
				if n := places[k][c.body]; n >= 0 {
					postings = append(postings, occurrence{uint32(n), c.fields, c.positions})
				}
			}
			if c.broken {
				return nil, errSegment
			}
			at[k]++
		}
		if len(postings) == 0 {
			continue
		}
		e.word(next)
		e.list(postings)
	}
	return e, nil
}
