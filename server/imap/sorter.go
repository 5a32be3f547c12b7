package imap

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// sortColumn is what messages are sorted by for one key, by their numbers in the
// list of those that were found.
type sortColumn struct {
	reverse bool
	nums    []int64 // of a numeric key
	text    []byte  // of another: the texts one behind the other
	ends    []int   // of each
}

func (c *sortColumn) at(n uint32) []byte {
	from := 0
	if n > 0 {
		from = c.ends[n-1]
	}
	return c.text[from:c.ends[n]]
}

// compare compares two messages.
func (c *sortColumn) compare(a, b uint32) (order int) {
	if c.nums != nil {
		order = cmp.Compare(c.nums[a], c.nums[b])
	} else {
		order = bytes.Compare(c.at(a), c.at(b))
	}
	if c.reverse {
		return -order
	}
	return order
}

// rank is a number for a message's value, of a text for its octets from an
// offset on as far as 8 of them go: of two that differ the lower one comes first.
func (c *sortColumn) rank(n uint32, offset int) (r uint64) {
	if c.nums != nil {
		r = uint64(c.nums[n]) ^ 1<<63
	} else {
		text := c.at(n)
		text = text[min(offset, len(text)):]
		if len(text) >= 8 {
			r = binary.BigEndian.Uint64(text)
		} else {
			var b [8]byte
			copy(b[:], text)
			r = binary.BigEndian.Uint64(b[:])
		}
	}
	if c.reverse {
		return ^r
	}
	return r
}

// sorter sorts messages by some columns: by numbers that are at hand, and again
// those whose numbers are equal.
type sorter struct {
	columns []sortColumn
	list    []ranked
	spare   []ranked // as long
}

type ranked struct {
	rank uint64
	n    uint32
}

// newSorter sorts the messages 0 to n.
func newSorter(columns []sortColumn, n int) *sorter {
	s := &sorter{columns, make([]ranked, n), make([]ranked, n)}
	for i := range s.list {
		s.list[i].n = uint32(i)
	}
	s.sort(s.list, 0, 0)
	return s
}

const (
	fewRanked  = 12 // are sorted by comparing their values
	manyRanked = 64 // are sorted by the octets of their numbers
)

// sort sorts messages that are equal in the columns before, and in this one's
// octets up to the offset.
func (s *sorter) sort(list []ranked, column, offset int) {
	if column == len(s.columns) {
		slices.SortFunc(list, func(a, b ranked) int { return cmp.Compare(a.n, b.n) })
		return
	}
	if len(list) <= fewRanked {
		s.compare(list)
		return
	}
	c := &s.columns[column]
	for i := range list {
		list[i].rank = c.rank(list[i].n, offset)
	}
	s.byRank(list)
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].rank == list[0].rank {
			n++
		}
		equal := list[:n]
		list = list[n:]
		if n == 1 {
			continue
		}
		if c.nums != nil {
			s.sort(equal, column+1, 0)
			continue
		}
		shortest, longest := len(c.at(equal[0].n)), 0
		for _, x := range equal {
			l := len(c.at(x.n))
			shortest, longest = min(shortest, l), max(longest, l)
		}
		switch {
		case longest > offset+8:
			s.sort(equal, column, offset+8)
		case shortest == longest:
			s.sort(equal, column+1, 0)
		default: // one ends where others have zeros
			s.compare(equal)
		}
	}
}

// byRank sorts by the numbers, octet after octet from the lowest on.
func (s *sorter) byRank(list []ranked) {
	byNumber := func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) }
	if len(list) < manyRanked || slices.IsSortedFunc(list, byNumber) {
		slices.SortFunc(list, byNumber)
		return
	}
	var counts [8][256]uint32
	for _, x := range list {
		for octet := range counts {
			counts[octet][byte(x.rank>>(8*octet))]++
		}
	}
	from, to := list, s.spare[:len(list)]
	for octet := range counts {
		places := &counts[octet]
		if places[byte(list[0].rank>>(8*octet))] == uint32(len(list)) {
			continue // all have the same
		}
		place := uint32(0)
		for i, n := range places {
			places[i] = place
			place += n
		}
		for _, x := range from {
			p := &places[byte(x.rank>>(8*octet))]
			to[*p] = x
			*p++
		}
		from, to = to, from
	}
	if &from[0] != &list[0] {
		copy(list, from)
	}
}

func (s *sorter) compare(list []ranked) {
	slices.SortFunc(list, func(a, b ranked) int {
		for i := range s.columns {
			if c := s.columns[i].compare(a.n, b.n); c != 0 {
				return c
			}
		}
		return cmp.Compare(a.n, b.n)
	})
}
