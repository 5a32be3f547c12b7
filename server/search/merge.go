package search

import (
	"bytes"
	"slices"

	"mailform/server/store"
)

// merged is the file of one segment made of several, without bodies that are
// gone; nil when nothing is left.
func merged(list []*segment, alive func(store.BodyRef) bool, replaces []uint64) ([]byte, error) {
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
		e.body(ref)
	}
	from = nil

	at := make([]int, len(list)) // the next word of each
	var postings []posting
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
			if err := postingsOf(s.posting(at[k]), s.len(), func(body int, fields Field) {
				if n := places[k][body]; n >= 0 {
					postings = append(postings, posting{uint32(n), fields})
				}
			}); err != nil {
				return nil, err
			}
			at[k]++
		}
		if len(postings) == 0 {
			continue
		}
		slices.SortFunc(postings, func(a, b posting) int { return int(a.body) - int(b.body) })
		e.word(next)
		for _, p := range postings {
			e.posting(int(p.body), p.fields)
		}
	}
	return e.finish(replaces), nil
}
