package search

import (
	"encoding/binary"
	"math"
	"slices"
)

// A posting list has, for each body with a word, ascending: the difference to the
// body before as a varint; how many octets its positions take, times two, and 1
// where it is not only in the text, as a varint; then its fields as an octet; and
// the positions. Each is a varint of the difference to the one before, in words,
// shifted by one for a word behind white space, and otherwise by two with 1 where
// something stands ahead of it and 3 where nothing does.

// maxIndex bounds the words of a body of which the index knows the places.
const maxIndex = 1 << 14

// cursor goes through a posting list.
type cursor struct {
	list      []byte
	bodies    int // of the segment
	body      int // where it is; bodies is behind the last
	fields    Field
	positions []byte
	broken    bool
}

func newCursor(list []byte, bodies int) cursor {
	return cursor{list: list, bodies: bodies, body: -1}
}

func (c *cursor) next() {
	l := c.list
	if len(l) == 0 {
		c.body = c.bodies
		return
	}
	delta, n := uint64(l[0]), 1
	if delta >= 0x80 {
		delta, n = binary.Uvarint(l)
	}
	if n <= 0 || n == len(l) || delta == 0 || delta > uint64(c.bodies-1-c.body) {
		c.fail()
		return
	}
	c.body += int(delta)
	l = l[n:]
	size, n := uint64(l[0]), 1
	if size >= 0x80 {
		size, n = binary.Uvarint(l)
	}
	c.fields = Body
	if size&1 != 0 && n > 0 && n < len(l) {
		c.fields = Field(l[n])
		n++
	}
	if size >>= 1; n <= 0 || size > uint64(len(l)-n) {
		c.fail()
		return
	}
	c.positions = l[n : n+int(size)]
	c.list = l[n+int(size):]
}

func (c *cursor) fail() { c.broken, c.body, c.list = true, c.bodies, nil }

// appendPosting writes one; last is the body before, or -1.
func appendPosting(list []byte, last, body int, fields Field, positions []byte) []byte {
	list = binary.AppendUvarint(list, uint64(body-last))
	size := uint64(len(positions)) << 1
	if fields == Body {
		list = binary.AppendUvarint(list, size)
	} else {
		list = append(binary.AppendUvarint(list, size|1), byte(fields))
	}
	return append(list, positions...)
}

// appendPosition writes one; after is how many words it is behind the one before.
func appendPosition(list []byte, after int, g gap) []byte {
	v := uint64(after) << 1
	switch g {
	case apart:
		v = v<<1 | 1
	case joined:
		v = v<<1 | 3
	}
	if v < 0x80 {
		return append(list, byte(v))
	}
	return binary.AppendUvarint(list, v)
}

// appendPlaces writes a posting with the places of a word: its index, and in the
// lower two bits what stands ahead of it. They ascend; one that comes twice, of two
// pieces of a long word, counts once.
func appendPlaces(list []byte, last, body int, fields Field, places []uint16) []byte {
	list = binary.AppendUvarint(list, uint64(body-last))
	other := byte(0)
	if fields != Body {
		other = 1
	}
	// The size goes ahead of what it is the size of: room for one octet is seldom
	// too little.
	size := len(list)
	list = append(list, 0)
	if other != 0 {
		list = append(list, byte(fields))
	}
	from := len(list)
	index := 0
	for _, p := range places {
		after := int(p>>2) - index
		if after == 0 {
			continue
		}
		index += after
		list = appendPosition(list, after, gap(p&3))
	}
	n := uint64(len(list)-from)<<1 | uint64(other)
	if n < 0x80 {
		list[size] = byte(n)
		return list
	}
	var v [binary.MaxVarintLen64]byte
	return slices.Replace(list, size, size+1, v[:binary.PutUvarint(v[:], n)]...)
}

// stream is the bodies that have one word of a query, ascending: those of one
// term's list, or of many.
type stream struct {
	word
	cursor
	many  []occurrence // sorted by body; nil when there is one list
	at    int          // in many
	until int          // behind those of the present body
}

// occurrence is one term's posting.
type occurrence struct {
	body      uint32
	fields    Field
	positions []byte
}

// newStream gathers a word's lists. ok is false when a list is damaged.
func newStream(w word, lists [][]byte, bodies int) (s *stream, ok bool) {
	s = &stream{word: w, cursor: newCursor(nil, bodies)}
	if len(lists) == 1 {
		s.list = lists[0]
		s.cursor.next()
		return s, !s.broken
	}
	// Each list is in order; all are put in order by counting.
	ends := make([]uint32, bodies+1)
	for _, l := range lists {
		c := newCursor(l, bodies)
		for c.next(); c.body < bodies; c.next() {
			ends[c.body]++
		}
		if c.broken {
			return nil, false
		}
	}
	total := uint32(0)
	for i, n := range ends {
		ends[i] = total
		total += n
	}
	s.many = make([]occurrence, total)
	for _, l := range lists {
		c := newCursor(l, bodies)
		for c.next(); c.body < bodies; c.next() {
			s.many[ends[c.body]] = occurrence{uint32(c.body), c.fields, c.positions}
			ends[c.body]++
		}
	}
	s.settle()
	return s, true
}

// settle makes the body at s.at the present one.
func (s *stream) settle() {
	if s.at == len(s.many) {
		s.body = s.bodies
		return
	}
	s.body, s.fields = int(s.many[s.at].body), 0
	for s.until = s.at; s.until < len(s.many) && int(s.many[s.until].body) == s.body; s.until++ {
		s.fields |= s.many[s.until].fields
	}
}

// seek goes on to the first body from body on.
func (s *stream) seek(body int) {
	if s.many == nil {
		for s.body < body {
			s.cursor.next()
		}
		return
	}
	for s.body < body {
		s.at = s.until
		s.settle()
	}
}

// places are the positions of a word in a body, ascending.
type places struct {
	rest  []byte // encoded
	index int    // of the present one; 0 ahead of the first, math.MaxInt behind the last
	gap   gap
}

func (p *places) next() {
	if len(p.rest) == 0 {
		p.index = math.MaxInt
		return
	}
	v, n := uint64(p.rest[0]), 1
	if v >= 0x80 {
		if v, n = binary.Uvarint(p.rest); n <= 0 || v > 8*maxIndex {
			p.rest, p.index = nil, math.MaxInt
			return
		}
	}
	p.rest = p.rest[n:]
	switch v & 3 {
	case 1:
		p.index, p.gap = p.index+int(v>>2), apart
	case 3:
		p.index, p.gap = p.index+int(v>>2), joined
	default:
		p.index, p.gap = p.index+int(v>>1), spaced
	}
}

// seek goes on to the first place from index on.
func (p *places) seek(index int) {
	for p.index < index {
		p.next()
	}
}

// places returns those of the present body, ahead of the first.
func (s *stream) places() places {
	p := places{rest: s.positions}
	if s.many != nil {
		if s.until == s.at+1 {
			p.rest = s.many[s.at].positions
		} else {
			p.rest = union(s.many[s.at:s.until])
		}
	}
	return p
}

// union is the positions of several terms as one list.
func union(list []occurrence) []byte {
	all := make([]places, len(list))
	for i, o := range list {
		all[i].rest = o.positions
		all[i].next()
	}
	var out []byte
	last := 0
	for {
		least := &all[0]
		for i := range all {
			if all[i].index < least.index {
				least = &all[i]
			}
		}
		if least.index == math.MaxInt {
			return out
		}
		out = appendPosition(out, least.index-last, least.gap)
		last = least.index
		least.next()
	}
}

// match finds the bodies in which the words of a query follow each other. lists
// returns the posting lists of the terms that a word means, and flags what else is
// known of a body. ok is false when the index is damaged.
func match(q query, bodies int, flags func(body int) bodyFlags, lists func(w word) [][]byte) (yes, maybe bitset, ok bool) {
	yes, maybe = newBitset(bodies), newBitset(bodies)
	for i := range bodies {
		if flags(i)&cut != 0 {
			maybe.add(i) // what is not found may be in what the index has not
		}
	}
	streams := make([]*stream, len(q.words))
	for i, w := range q.words {
		if streams[i], ok = newStream(w, lists(w), bodies); !ok {
			return nil, nil, false
		}
	}
	found := make([]places, len(streams))
	for body := 0; ; body++ {
		// The next body that has all words.
		for again := true; again && body < bodies; {
			again = false
			for _, s := range streams {
				if s.seek(body); s.body > body {
					body, again = s.body, true
				}
				if s.broken {
					return nil, nil, false
				}
			}
		}
		if body >= bodies {
			return yes, maybe, true
		}
		in, only := ^Field(0), true
		for _, s := range streams {
			in &= s.fields & q.fields
			only = only && s.fields&^q.fields == 0
		}
		if in == 0 { // the text is in one field, and with it all words
			continue
		}
		follow := len(streams) == 1
		if !follow {
			for i, s := range streams {
				found[i] = s.places()
			}
			follow = follows(streams, found)
		}
		switch {
		case follow && q.exact && (only || len(streams) == 1):
			yes.add(body)
		case follow || flags(body)&long != 0:
			maybe.add(body)
		}
	}
}

// follows says whether the words stand in their order somewhere. The two of which
// there are fewest are looked at first: where these do not stand as they should, the
// others need not be looked at.
func follows(streams []*stream, found []places) bool {
	a, b := 0, 1
	for i := range found {
		switch n := len(found[i].rest); {
		case i == a:
		case n < len(found[a].rest):
			a, b = i, a
		case i != b && n < len(found[b].rest):
			b = i
		}
	}
	// stands says whether a word stands where it should if the first one is there, and
	// never whether it will not: no place of a list is looked at twice.
	stands := func(i, first int) (ok, never bool) {
		p, w := &found[i], &streams[i].word
		p.seek(first + w.at)
		return p.index == first+w.at && (i == 0 || p.gap == w.gap), p.index == math.MaxInt
	}
	rare := &found[a]
	for rare.next(); rare.index != math.MaxInt; rare.next() {
		first := rare.index - streams[a].word.at
		ok, never := stands(a, first)
		if ok {
			ok, never = stands(b, first)
		}
		for i := 0; i < len(found) && ok && !never; i++ {
			ok, never = stands(i, first)
		}
		if ok {
			return true
		}
		if never {
			return false
		}
	}
	return false
}
