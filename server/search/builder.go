package search

import (
	"bytes"
	"math/bits"
	"slices"
	"unicode/utf8"

	"mailform/server/store"
)

// builder gathers what a segment is made of. A body is begun, given its text and
// ended; until then searches do not see it.
//
// The words of the body under way are noted one behind the other as they come, and
// put in order by word when it ends: so a word costs a look into the vocabulary and
// eight octets, and its postings are written at once.
type builder struct {
	vocabulary
	bodies []indexed
	work   *workspace

	// Of the body under way.
	index   int // of its last word
	gap     gap // behind that
	flags   bodyFlags
	counted int      // of its words
	tallies []tally  // by term
	touched []uint32 // terms
}

// indexed is a body in an index.
type indexed struct {
	ref   store.BodyRef
	flags bodyFlags
}

// tally is what a term has in the body under way.
type tally struct {
	count  uint32 // of its places
	fields Field  // 0: it is not in the body
}

// workspace is memory that is needed while a body is indexed, by one at a time.
type workspace struct {
	piece  []byte   // of text
	words  []uint64 // of the body under way: the term, and 16 bits for its place
	places []uint16 // of the words, in the order of their terms
	list   []byte   // a posting, or a posting list
}

// placeOf is where a word is and what stands ahead of it, in the 16 bits below a term.
// Of one that is too far down the place is 0, which is no word's.
func placeOf(index int, g gap) uint64 { return uint64(min(index, maxIndex))<<2&0xffff | uint64(g) }

func newBuilder(work *workspace) *builder {
	return &builder{vocabulary: newVocabulary(), work: work}
}

// octets is about what it takes of memory.
func (b *builder) octets() int {
	return b.vocabulary.octets() + bodySize*len(b.bodies) + 8*len(b.tallies)
}

func (b *builder) begin() {
	for _, n := range b.touched { // of a body that was given up
		b.tallies[n] = tally{}
	}
	b.index, b.gap, b.flags, b.counted, b.touched, b.work.words = 0, apart, 0, 0, b.touched[:0], b.work.words[:0]
}

// text adds a piece of the body's text; more says that it continues the last one.
func (b *builder) text(field Field, text string, more bool) {
	if !more {
		b.index++ // no phrase goes from one to the other
		b.gap = apart
	} else if k, _ := kindAt(text, 0); k >= letter && b.gap == joined {
		b.flags |= cut // in the middle of a word
	}
	for i := 0; i < len(text); {
		if i = b.words(text, i); i == len(text) {
			break
		}
		r := runAt(text, i, b.gap)
		b.run(text[r.from:r.to], r)
		i, b.gap = r.to, r.behind
	}
	b.count(field)
}

// words adds the words from i on for as long as that is quick: they are short and of
// ASCII, and the piece does not end soon. It returns where there is something else.
func (b *builder) words(text string, i int) int {
	index, g, words := b.index, b.gap, b.work.words
	for i+8 <= len(text) {
		x := load(text, i)
		n := bits.TrailingZeros64(outsides(x)) / 8
		if n == 0 {
			c := text[i]
			if c >= utf8.RuneSelf {
				break
			}
			if ascii[c] != 's' {
				g = apart
			} else if g == joined {
				g = spaced
			}
			i++
			continue
		}
		if n == 8 {
			break
		}
		c := byte(x >> (8 * n))
		if c >= utf8.RuneSelf { // it may go on
			break
		}
		key := x & (1<<(8*n) - 1)
		s := &b.short[b.slotOf(key)]
		t := s.term
		if s.key != key {
			t = b.numberShort(key, n)
		}
		index++
		words = append(words, uint64(t)<<16|placeOf(index, g))
		i += n + 1
		if g = apart; ascii[c] == 's' {
			g = spaced
		}
	}
	b.index, b.gap, b.work.words = index, g, words
	return i
}

// run adds a run of characters.
func (b *builder) run(text string, r run) {
	g := r.gap
	add := func(w string) { b.work.words = append(b.work.words, uint64(b.number(w))<<16|placeOf(b.index, g)) }
	switch {
	case text == "":
	case r.kind == dense:
		eachPair(text, func(pair string) {
			b.index++
			add(pair)
			g = joined
		})
	case r.chars <= maxWord:
		b.index++
		add(text)
	default:
		b.index++
		if !eachPiece(text, add) {
			b.flags |= cut
		}
	}
}

// load is the eight octets of s from i on.
func load(s string, i int) uint64 {
	s = s[i : i+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// outsides has the uppermost bit of each of eight octets set that is not a letter
// or a digit of ASCII.
func outsides(x uint64) uint64 {
	const (
		ones = 0x0101010101010101
		high = 0x80 * ones
	)
	low := x &^ high
	digit := (low + (0x80-'0')*ones) &^ (low + (0x80-'9'-1)*ones)
	small := low | 0x20*ones
	letter := (small + (0x80-'a')*ones) &^ (small + (0x80-'z'-1)*ones)
	return (^(digit | letter) | x) & high
}

// count notes the words that were added in which fields they are, and forgets those
// that are too far down for their places to be in the index.
func (b *builder) count(field Field) {
	if n := len(b.terms) - len(b.tallies); n > 0 {
		b.tallies = append(b.tallies, make([]tally, n)...)
	}
	words := b.work.words
	if b.index >= maxIndex {
		b.flags |= long
	}
	for _, x := range words[b.counted:] {
		t := &b.tallies[x>>16]
		if t.fields == 0 {
			b.touched = append(b.touched, uint32(x>>16))
		}
		t.fields |= field
		if x>>2&(maxIndex-1) != 0 {
			t.count++
			words[b.counted] = x
			b.counted++
		}
	}
	b.work.words = words[:b.counted]
}

// end makes the body under way one of the index.
func (b *builder) end(ref store.BodyRef) {
	w := b.work
	body := len(b.bodies)
	b.bodies = append(b.bodies, indexed{ref, b.flags})
	// The words, sorted by term, each with its places in their order.
	from := uint32(0)
	for _, n := range b.touched {
		t := &b.tallies[n]
		t.count, from = from, from+t.count
	}
	w.places = slices.Grow(w.places[:0], len(w.words))[:len(w.words)]
	for _, x := range w.words {
		t := &b.tallies[x>>16]
		w.places[t.count] = uint16(x)
		t.count++
	}
	from = 0
	for _, n := range b.touched {
		tally, t := &b.tallies[n], &b.terms[n]
		w.list = appendPlaces(w.list[:0], int(t.last), body, tally.fields, w.places[from:tally.count])
		b.postings.append(&t.list, w.list)
		t.last = int32(body)
		from = tally.count
		tally.count, tally.fields = 0, 0
	}
	b.touched, w.words = b.touched[:0], w.words[:0]
	if cap(w.words) > 4*maxIndex { // many long words, which are seldom
		*w = workspace{piece: w.piece}
	}
}

// lists returns the posting lists of the terms that a word of a query means.
func (b *builder) lists(w word) (lists [][]byte) {
	b.each(w, func(n int) {
		if l := b.terms[n].list; l.size > 0 {
			lists = append(lists, b.postings.read(make([]byte, 0, l.size), l))
		}
	})
	return lists
}

// search is what a query finds in memory.
func (b *builder) search(q query) map[store.BodyRef]Verdict {
	yes, maybe, ok := match(q, len(b.bodies), func(i int) bodyFlags { return b.bodies[i].flags }, b.lists)
	out := make(map[store.BodyRef]Verdict, len(b.bodies))
	for i, body := range b.bodies {
		switch {
		case !ok || maybe.has(i) && !yes.has(i):
			out[body.ref] = Maybe
		case yes.has(i):
			out[body.ref] = Yes
		default:
			out[body.ref] = No
		}
	}
	return out
}

// encode writes a segment. Bodies are put in order, and with them the postings.
func (b *builder) encode(e *encoder) {
	order := make([]uint32, len(b.bodies)) // by place: the number that a body had
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int { return compareRefs(b.bodies[x].ref, b.bodies[y].ref) })
	place := make([]uint32, len(order))
	sorted := true
	names := make([]uint32, 0, len(b.terms))
	words := 1
	for i := range b.terms {
		if l := b.terms[i].list; l.size > 0 {
			names = append(names, uint32(i))
			words += int(b.terms[i].size) + 1
		}
	}
	e.bodies, e.words, e.starts, e.places = make([]byte, 0, bodySize*len(order)), make([]byte, 0, words), make([]byte, 0, 4*len(names)), make([]byte, 0, 8*len(names)+8)
	for i, was := range order {
		place[was] = uint32(i)
		sorted = sorted && int(was) == i
		e.bodies = appendBody(e.bodies, b.bodies[was].ref, b.bodies[was].flags)
	}
	slices.SortFunc(names, func(x, y uint32) int { return bytes.Compare(b.textOf(int(x)), b.textOf(int(y))) })
	var list []occurrence
	var buf []byte
	for _, n := range names {
		e.word(b.textOf(int(n)))
		l := b.terms[n].list
		buf = b.postings.read(buf[:0], l)
		if sorted {
			e.postings(buf)
			continue
		}
		list = list[:0]
		c := newCursor(buf, len(b.bodies))
		for c.next(); c.body < len(b.bodies); c.next() {
			list = append(list, occurrence{place[c.body], c.fields, c.positions})
		}
		e.list(list)
	}
}
