package search

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"hash/maphash"
	"io"
	"slices"
	"strings"

	"mailform/server/store"
)

// builder gathers what a segment is made of. A body is begun, given its text and
// ended; until then searches do not see it.
type builder struct {
	bodies []indexed
	terms  []term
	slots  []uint32 // a hash table of terms: the number of one, plus one
	seed   maphash.Seed
	recent [1 << 10]uint32 // a term that a word was, by what is quick to tell of a word; plus one
	octets int             // about what it takes of memory

	// Of the body under way.
	serial  uint32 // tells bodies apart, also those that were given up
	index   int    // of its last word
	gap     gap    // behind that
	flags   bodyFlags
	touched []uint32 // terms
}

// indexed is a body in an index.
type indexed struct {
	ref   store.BodyRef
	flags bodyFlags
}

type term struct {
	text string
	hash uint32
	list []byte // postings
	last int32  // body of the last of them

	// In the body under way, if that is serial.
	serial    uint32
	fields    Field
	index     int32
	positions []byte
}

func newBuilder() *builder {
	return &builder{seed: maphash.MakeSeed(), slots: make([]uint32, 1<<10)}
}

func (b *builder) begin() {
	b.serial++
	b.index, b.gap, b.flags, b.touched = 0, apart, 0, b.touched[:0]
}

// text adds a piece of the body's text; more says that it continues the last one.
func (b *builder) text(field Field, text string, more bool) {
	if !more {
		b.index++ // no phrase goes from one to the other
		b.gap = apart
	} else if k, _ := kindAt(text, 0); k >= letter && b.gap == joined {
		b.flags |= cut // in the middle of a word
	}
	b.gap = eachRun(text, b.gap, func(from, to int, k kind, chars int, g gap) {
		run := text[from:to]
		switch {
		case k == dense:
			eachPair(run, func(pair string) {
				b.index++
				b.add(pair, field, g)
				g = joined
			})
		case chars <= maxWord:
			b.index++
			b.add(run, field, g)
		default:
			b.index++
			if !eachPiece(run, func(piece string) { b.add(piece, field, g) }) {
				b.flags |= cut
			}
		}
	})
}

// add notes a word of the body under way.
func (b *builder) add(w string, field Field, g gap) {
	recent := &b.recent[(uint(w[0])+uint(w[len(w)/2])<<3+uint(w[len(w)-1])<<5+uint(len(w))<<8)%uint(len(b.recent))]
	n := int(*recent) - 1
	if n < 0 || b.terms[n].text != w {
		if n = b.find(w); n < 0 {
			n = b.insert(w)
		}
		*recent = uint32(n) + 1
	}
	t := &b.terms[n]
	if t.serial != b.serial {
		t.serial, t.fields, t.index, t.positions = b.serial, 0, 0, t.positions[:0]
		b.touched = append(b.touched, uint32(n))
	}
	t.fields |= field
	switch {
	case b.index >= maxIndex:
		b.flags |= long
	case int(t.index) < b.index: // else it is a piece like another of its word
		t.positions = appendPosition(t.positions, b.index-int(t.index), g)
		t.index = int32(b.index)
	}
}

func (b *builder) hash(w string) uint32 { return uint32(maphash.String(b.seed, w)) }

// find returns the number of a term, or -1.
func (b *builder) find(w string) int {
	h := b.hash(w)
	for i := int(h) & (len(b.slots) - 1); ; i = (i + 1) & (len(b.slots) - 1) {
		n := int(b.slots[i]) - 1
		if n < 0 || b.terms[n].hash == h && b.terms[n].text == w {
			return n
		}
	}
}

func (b *builder) insert(w string) int {
	if 2*len(b.terms) >= len(b.slots) {
		b.slots = make([]uint32, 4*len(b.slots))
		for n := range b.terms {
			b.place(n)
		}
	}
	n := len(b.terms)
	b.terms = append(b.terms, term{text: strings.Clone(w), hash: b.hash(w), last: -1})
	b.place(n)
	b.octets += len(w) + 160
	return n
}

func (b *builder) place(n int) {
	i := int(b.terms[n].hash) & (len(b.slots) - 1)
	for b.slots[i] != 0 {
		i = (i + 1) & (len(b.slots) - 1)
	}
	b.slots[i] = uint32(n) + 1
}

// end makes the body under way one of the index.
func (b *builder) end(ref store.BodyRef) {
	const keep = 32 // octets for positions of the next body; more are seldom needed
	body := len(b.bodies)
	b.bodies = append(b.bodies, indexed{ref, b.flags})
	b.octets += bodySize
	for _, n := range b.touched {
		t := &b.terms[n]
		before := len(t.list)
		t.list = appendPosting(t.list, int(t.last), body, t.fields, t.positions)
		t.last = int32(body)
		b.octets += len(t.list) - before
		if cap(t.positions) > keep {
			t.positions = nil
		}
	}
}

// lists returns the posting lists of the terms that a word of a query means.
func (b *builder) lists(w word) (lists [][]byte) {
	if !w.first && !w.last {
		if n := b.find(w.text); n >= 0 {
			lists = append(lists, b.terms[n].list)
		}
		return lists
	}
	for i := range b.terms {
		if w.means(b.terms[i].text) {
			lists = append(lists, b.terms[i].list)
		}
	}
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

// encode makes the file's parts. Bodies are put in order, and with them the postings.
func (b *builder) encode() *encoder {
	order := make([]uint32, len(b.bodies)) // by place: the number that a body had
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int { return compareRefs(b.bodies[x].ref, b.bodies[y].ref) })
	place := make([]uint32, len(order))
	sorted := true
	e := &encoder{}
	for i, was := range order {
		place[was] = uint32(i)
		sorted = sorted && int(was) == i
		e.body(b.bodies[was])
	}
	names := make([]uint32, 0, len(b.terms))
	for i := range b.terms {
		if len(b.terms[i].list) > 0 {
			names = append(names, uint32(i))
		}
	}
	slices.SortFunc(names, func(x, y uint32) int { return strings.Compare(b.terms[x].text, b.terms[y].text) })
	var list []occurrence
	for _, n := range names {
		t := &b.terms[n]
		e.word([]byte(t.text))
		if sorted {
			e.postings = append(e.postings, t.list...)
			continue
		}
		list = list[:0]
		c := newCursor(t.list, len(b.bodies))
		for c.next(); c.body < len(b.bodies); c.next() {
			list = append(list, occurrence{place[c.body], c.fields, c.positions})
		}
		e.list(list)
	}
	return e
}

// encoder writes a segment's parts in their order.
type encoder struct {
	bodies, words, starts, places, postings []byte
}

func (e *encoder) body(x indexed) {
	e.bodies = binary.LittleEndian.AppendUint64(e.bodies, x.ref.Segment)
	e.bodies = binary.LittleEndian.AppendUint64(e.bodies, uint64(x.ref.Offset))
	e.bodies = binary.LittleEndian.AppendUint64(e.bodies, uint64(x.ref.Size)|uint64(x.flags)<<flagShift)
}

func (e *encoder) word(w []byte) {
	e.words = append(e.words, 0)
	e.starts = binary.LittleEndian.AppendUint32(e.starts, uint32(len(e.words)))
	e.words = append(e.words, w...)
	e.places = binary.LittleEndian.AppendUint64(e.places, uint64(len(e.postings)))
}

// list writes the last word's postings, putting them in order.
func (e *encoder) list(list []occurrence) {
	slices.SortFunc(list, func(x, y occurrence) int { return int(x.body) - int(y.body) })
	last := -1
	for _, o := range list {
		e.postings = appendPosting(e.postings, last, int(o.body), o.fields, o.positions)
		last = int(o.body)
	}
}

// writeTo writes the file.
func (e *encoder) writeTo(file io.Writer, replaces []uint64) error {
	if len(e.words) > 0 {
		e.words = append(e.words, 0)
	}
	e.places = binary.LittleEndian.AppendUint64(e.places, uint64(len(e.postings)))
	sum := crc32.New(castagnoli)
	w := bufio.NewWriter(io.MultiWriter(file, sum))
	parts := [][]byte{e.bodies, e.words, e.starts, e.places, e.postings}
	var tail []byte
	for _, n := range replaces {
		tail = binary.LittleEndian.AppendUint64(tail, n)
	}
	for _, p := range parts {
		tail = binary.LittleEndian.AppendUint64(tail, uint64(len(p)))
	}
	// A write that failed is told of by Flush.
	_, _ = w.WriteString(magic)
	for _, p := range append(parts, tail) {
		_, _ = w.Write(p)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := file.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	return err
}
