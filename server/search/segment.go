package search

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"mailform/server/store"
)

// A segment is one file, never changed once it is there:
//
//	magic     8 octets
//	bodies    24 octets each: segment, offset, size, ascending
//	words     each behind an octet 0, ascending, with an octet 0 at the end
//	starts    for each word 4 octets: where it begins in words
//	places    for each word, and once more, 8 octets: where its postings begin
//	postings  for each word: the bodies that have it, ascending: the difference
//	          to the one before as a varint, and its fields as an octet
//	replaces  8 octets each: the numbers of the segments that it was merged of
//	trailer   the five lengths in octets, and the CRC32C of all before it
//
// All numbers are little-endian.
const (
	magic       = "MFSRCH1\n"
	bodySize    = 24
	trailerSize = 5*8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errSegment = errors.New("the file of the search index is damaged")

// segment is an open one.
type segment struct {
	number   uint64
	refs     refCount
	data     []byte // mapped
	bodies   []byte
	words    []byte
	starts   []byte
	places   []byte
	postings []byte
	replaces []uint64
}

func (s *segment) len() int { return len(s.bodies) / bodySize }

func (s *segment) body(i int) store.BodyRef {
	b := s.bodies[i*bodySize:]
	return store.BodyRef{
		Segment: binary.LittleEndian.Uint64(b), Offset: int64(binary.LittleEndian.Uint64(b[8:])), Size: int64(binary.LittleEndian.Uint64(b[16:])),
	}
}

func compareRefs(a, b store.BodyRef) int {
	switch {
	case a.Segment != b.Segment:
		if a.Segment < b.Segment {
			return -1
		}
		return 1
	case a.Offset != b.Offset:
		if a.Offset < b.Offset {
			return -1
		}
		return 1
	}
	return 0
}

// find returns the number of a body.
func (s *segment) find(ref store.BodyRef) (int, bool) {
	return sort.Find(s.len(), func(i int) int { return compareRefs(ref, s.body(i)) })
}

func (s *segment) countWords() int { return len(s.starts) / 4 }

func (s *segment) start(i int) int {
	if i == s.countWords() {
		return len(s.words)
	}
	return int(binary.LittleEndian.Uint32(s.starts[4*i:]))
}

// wordAt returns a word without the zero octets around it.
func (s *segment) wordAt(i int) []byte {
	return s.words[s.start(i) : s.start(i+1)-1]
}

func (s *segment) posting(i int) []byte {
	from, to := binary.LittleEndian.Uint64(s.places[8*i:]), binary.LittleEndian.Uint64(s.places[8*i+8:])
	return s.postings[from:to]
}

// each calls f for the words that a word of a query means.
func (s *segment) each(w word, f func(i int)) {
	switch {
	case w.first && w.last: // words with it in them
		s.scan([]byte(w.text), f)
	case w.first: // words that end with it
		s.scan([]byte(w.text+"\x00"), f)
	case w.last: // words that begin with it
		n := s.countWords()
		at := sort.Search(n, func(i int) bool { return bytes.Compare(s.wordAt(i), []byte(w.text)) >= 0 })
		for ; at < n && bytes.HasPrefix(s.wordAt(at), []byte(w.text)); at++ {
			f(at)
		}
	default:
		n := s.countWords()
		if at := sort.Search(n, func(i int) bool { return bytes.Compare(s.wordAt(i), []byte(w.text)) >= 0 }); at < n && string(s.wordAt(at)) == w.text {
			f(at)
		}
	}
}

// scan goes through all words once and calls f for those with needle in them.
func (s *segment) scan(needle []byte, f func(i int)) {
	n := s.countWords()
	for at := 0; at < len(s.words); {
		hit := bytes.Index(s.words[at:], needle)
		if hit < 0 {
			return
		}
		hit += at
		// The word in which it begins is the last one that starts at or before.
		i := sort.Search(n, func(i int) bool { return s.start(i) > hit }) - 1
		if i < 0 {
			return
		}
		f(i)
		at = s.start(i + 1)
	}
}

// postingsOf calls f for each body of a posting list.
func postingsOf(list []byte, bodies int, f func(body int, fields Field)) error {
	for body := -1; len(list) > 0; {
		delta, n := binary.Uvarint(list)
		if n <= 0 || n == len(list) || delta == 0 || delta > uint64(bodies) {
			return errSegment
		}
		if body += int(delta); body >= bodies {
			return errSegment
		}
		f(body, Field(list[n]))
		list = list[n+1:]
	}
	return nil
}

// openSegment maps a file and checks all of it.
func openSegment(path string, number uint64) (*segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < int64(len(magic)+trailerSize) {
		return nil, fmt.Errorf("%s: %w", path, errSegment)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	s, err := decodeSegment(data)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), unix.Munmap(data))
	}
	s.number = number
	return s, nil
}

func (s *segment) close() error { return unix.Munmap(s.data) }

func decodeSegment(data []byte) (*segment, error) {
	if len(data) < len(magic)+trailerSize || string(data[:len(magic)]) != magic {
		return nil, errSegment
	}
	trailer := data[len(data)-trailerSize:]
	if crc32.Checksum(data[:len(data)-4], castagnoli) != binary.LittleEndian.Uint32(trailer[trailerSize-4:]) {
		return nil, errSegment
	}
	rest := data[len(magic) : len(data)-trailerSize]
	s := &segment{data: data}
	for i, part := range []*[]byte{&s.bodies, &s.words, &s.starts, &s.places, &s.postings} {
		n := binary.LittleEndian.Uint64(trailer[8*i:])
		if n > uint64(len(rest)) {
			return nil, errSegment
		}
		*part, rest = rest[:n:n], rest[n:]
	}
	for ; len(rest) >= 8; rest = rest[8:] {
		s.replaces = append(s.replaces, binary.LittleEndian.Uint64(rest))
	}
	return s, s.check(len(rest))
}

// check makes sure that nothing in the file leads outside of it.
func (s *segment) check(left int) error {
	n := s.countWords()
	if left != 0 || len(s.bodies)%bodySize != 0 || len(s.starts)%4 != 0 || len(s.places) != 8*(n+1) {
		return errSegment
	}
	if n == 0 {
		return nil
	}
	if len(s.words) < 2 || s.words[0] != 0 || s.words[len(s.words)-1] != 0 {
		return errSegment
	}
	last := 0
	for i := range n {
		at := s.start(i)
		if at <= last && i > 0 || at < 1 || at >= len(s.words) || s.words[at-1] != 0 {
			return errSegment
		}
		last = at
	}
	place := uint64(0)
	for i := range n + 1 {
		p := binary.LittleEndian.Uint64(s.places[8*i:])
		if p < place || p > uint64(len(s.postings)) {
			return errSegment
		}
		place = p
	}
	return nil
}

// builder gathers what a segment is made of.
type builder struct {
	bodies []store.BodyRef // ascending
	terms  map[string][]posting
	octets int // about what it takes of memory
}

type posting struct {
	body   uint32
	fields Field
}

func newBuilder() *builder { return &builder{terms: map[string][]posting{}} }

// add indexes a word of the last body.
func (b *builder) add(w string, body uint32, field Field) {
	list := b.terms[w]
	if n := len(list); n > 0 && list[n-1].body == body {
		list[n-1].fields |= field
		return
	}
	if list == nil {
		w = string([]byte(w)) // not a part of a text of many
		b.octets += len(w) + 64
	}
	b.octets += 8
	b.terms[w] = append(list, posting{body, field})
}

// encode makes the file. Bodies are put in order, and with them the postings.
func (b *builder) encode(replaces []uint64) []byte {
	order := make([]uint32, len(b.bodies)) // by place: the number that a body had
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int { return compareRefs(b.bodies[x], b.bodies[y]) })
	place := make([]uint32, len(order))
	for i, was := range order {
		place[was] = uint32(i)
	}
	names := make([]string, 0, len(b.terms))
	for w := range b.terms {
		names = append(names, w)
	}
	slices.Sort(names)

	e := &encoder{}
	for _, was := range order {
		e.body(b.bodies[was])
	}
	for _, w := range names {
		list := b.terms[w]
		for i := range list {
			list[i].body = place[list[i].body]
		}
		slices.SortFunc(list, func(x, y posting) int { return int(x.body) - int(y.body) })
		e.word([]byte(w))
		for _, p := range list {
			e.posting(int(p.body), p.fields)
		}
	}
	return e.finish(replaces)
}

// encoder writes a segment's parts in their order.
type encoder struct {
	bodies, words, starts, places, postings []byte
	last                                    int
}

func (e *encoder) body(r store.BodyRef) {
	e.bodies = binary.LittleEndian.AppendUint64(e.bodies, r.Segment)
	e.bodies = binary.LittleEndian.AppendUint64(e.bodies, uint64(r.Offset))
	e.bodies = binary.LittleEndian.AppendUint64(e.bodies, uint64(r.Size))
}

func (e *encoder) word(w []byte) {
	e.words = append(e.words, 0)
	e.starts = binary.LittleEndian.AppendUint32(e.starts, uint32(len(e.words)))
	e.words = append(e.words, w...)
	e.places = binary.LittleEndian.AppendUint64(e.places, uint64(len(e.postings)))
	e.last = -1
}

func (e *encoder) posting(body int, fields Field) {
	e.postings = binary.AppendUvarint(e.postings, uint64(body-e.last))
	e.postings = append(e.postings, byte(fields))
	e.last = body
}

func (e *encoder) finish(replaces []uint64) []byte {
	if len(e.words) > 0 {
		e.words = append(e.words, 0)
	}
	e.places = binary.LittleEndian.AppendUint64(e.places, uint64(len(e.postings)))
	parts := [][]byte{e.bodies, e.words, e.starts, e.places, e.postings}
	out := []byte(magic)
	for _, p := range parts {
		out = append(out, p...)
	}
	for _, n := range replaces {
		out = binary.LittleEndian.AppendUint64(out, n)
	}
	for _, p := range parts {
		out = binary.LittleEndian.AppendUint64(out, uint64(len(p)))
	}
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}
