package search

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sort"

	"golang.org/x/sys/unix"

	"mailform/server/store"
	"mailform/server/store/seal"
)

// A segment is one file, never changed once it is there:
//
//	magic     8 octets
//	postings  for each word: where it is, see postings.go
//	bodies    24 octets each: segment, offset, size with flags in its upper two
//	          bits, ascending by what they are without these
//	words     each behind an octet 0, ascending, with an octet 0 at the end
//	starts    for each word 4 octets: where it begins in words
//	places    for each word, and once more, 8 octets: where its postings begin
//	replaces  8 octets each: the numbers of the segments that it was merged of
//	trailer   the five lengths in octets, and the CRC32C of all before it
//
// All numbers are little-endian. The postings come first so that they can be written
// before all the words are known; in files of before they stand behind places.
const (
	magic       = "MFSRCH4\n"
	magicBefore = "MFSRCH3\n"
	bodySize    = 24
	trailerSize = 5*8 + 4
)

// bodyFlags are what an index does not know of a body.
type bodyFlags uint8

const (
	long      bodyFlags = 1 << iota // the places of all its words
	cut                             // all its words
	flagShift = 62
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errSegment = errors.New("the file of the search index is damaged")

// segment is an open one.
type segment struct {
	number   uint64
	refs     refCount
	data     []byte // mapped
	file     bool   // it is the file that is mapped, and can be read again
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
		Segment: binary.LittleEndian.Uint64(b), Offset: int64(binary.LittleEndian.Uint64(b[8:])), Size: int64(binary.LittleEndian.Uint64(b[16:]) & (1<<flagShift - 1)),
	}
}

// flags are what is known of a body beside its words.
func (s *segment) flags(i int) bodyFlags { return bodyFlags(s.bodies[i*bodySize+23] >> 6) }

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

// lists returns the posting lists of the words that a word of a query means.
func (s *segment) lists(w word) (lists [][]byte) {
	s.each(w, func(i int) { lists = append(lists, s.posting(i)) })
	return lists
}

// openSegment maps a file and checks all of it. One that is encrypted where the
// account's others are not, or the other way around, is errSegment.
func openSegment(path string, number uint64, account string, ring *seal.Ring) (*segment, error) {
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
	kind := make([]byte, len(magic))
	if _, err := f.ReadAt(kind, 0); err != nil {
		return nil, err
	}
	var data []byte
	switch {
	case string(kind) == sealedMagic:
		data, err = openSealed(f, info.Size(), account, ring)
	case ring != nil:
		err = errSegment
	default:
		data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	}
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	s, err := decodeSegment(data, string(kind) != sealedMagic)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), unix.Munmap(data))
	}
	s.number = number
	s.trim()
	return s, nil
}

// trim gives back the memory of what was read of the file: it counts as the process's
// until then. The system still has it cached.
func (s *segment) trim() {
	if s.file {
		giveBack(s.data)
	}
}

// giveBack is trim for some pages.
func giveBack(mapped []byte) { _ = unix.Madvise(mapped, unix.MADV_DONTNEED) } // no more than advice

func (s *segment) close() error { return unix.Munmap(s.data) }

// trimEvery is after how many octets, whole pages, of a file that is read from end to
// end its memory is given back.
const trimEvery = 4 << 20

func checksum(data []byte, file bool) (sum uint32) {
	for len(data) > 0 {
		part := data[:min(trimEvery, len(data))]
		sum = crc32.Update(sum, castagnoli, part)
		if file {
			giveBack(part)
		}
		data = data[len(part):]
	}
	return sum
}

// decodeSegment checks a segment; file says that it is a file that is mapped.
func decodeSegment(data []byte, file bool) (*segment, error) {
	if len(data) < len(magic)+trailerSize {
		return nil, errSegment
	}
	trailer := data[len(data)-trailerSize:]
	if checksum(data[:len(data)-4], file) != binary.LittleEndian.Uint32(trailer[trailerSize-4:]) {
		return nil, errSegment
	}
	rest := data[len(magic) : len(data)-trailerSize]
	s := &segment{data: data, file: file}
	var parts []*[]byte
	switch string(data[:len(magic)]) {
	case magic:
		parts = []*[]byte{&s.postings, &s.bodies, &s.words, &s.starts, &s.places}
	case magicBefore:
		parts = []*[]byte{&s.bodies, &s.words, &s.starts, &s.places, &s.postings}
	default:
		return nil, errSegment
	}
	for i, part := range parts {
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
