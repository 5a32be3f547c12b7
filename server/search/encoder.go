package search

import (
	"bufio"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
	"slices"

	"mailform/server/store"
)

// encoder writes a segment: the postings as they come, which are most of it, and
// the rest at the end. A write that failed is told of by end.
type encoder struct {
	file   io.Writer
	w      *bufio.Writer // to file and sum
	sum    hash.Hash32
	size   uint64 // of the postings so far
	buf    []byte // those of one word
	bodies []byte
	words  []byte
	starts []byte
	places []byte
}

func newEncoder(file io.Writer) *encoder {
	e := &encoder{file: file, sum: crc32.New(castagnoli)}
	e.w = bufio.NewWriterSize(io.MultiWriter(file, e.sum), 64<<10)
	_, _ = e.w.WriteString(magic)
	return e
}

// appendBody appends a body as it stands in a segment.
func appendBody(b []byte, ref store.BodyRef, flags bodyFlags) []byte {
	b = binary.LittleEndian.AppendUint64(b, ref.Segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(ref.Offset))
	return binary.LittleEndian.AppendUint64(b, uint64(ref.Size)|uint64(flags)<<flagShift)
}

func (e *encoder) word(w []byte) {
	e.words = append(e.words, 0)
	e.starts = binary.LittleEndian.AppendUint32(e.starts, uint32(len(e.words)))
	e.words = append(e.words, w...)
	e.places = binary.LittleEndian.AppendUint64(e.places, e.size)
}

// postings writes some of the last word's.
func (e *encoder) postings(b []byte) {
	_, _ = e.w.Write(b)
	e.size += uint64(len(b))
}

// list writes the last word's postings, putting them in order.
func (e *encoder) list(list []occurrence) {
	slices.SortFunc(list, func(x, y occurrence) int { return int(x.body) - int(y.body) })
	last := -1
	e.buf = e.buf[:0]
	for _, o := range list {
		e.buf = appendPosting(e.buf, last, int(o.body), o.fields, o.positions)
		last = int(o.body)
	}
	e.postings(e.buf)
}

// end writes what is left of the file.
func (e *encoder) end(replaces []uint64) error {
	if len(e.words) > 0 {
		e.words = append(e.words, 0)
	}
	e.places = binary.LittleEndian.AppendUint64(e.places, e.size)
	parts := [][]byte{e.bodies, e.words, e.starts, e.places}
	var tail []byte
	for _, n := range replaces {
		tail = binary.LittleEndian.AppendUint64(tail, n)
	}
	tail = binary.LittleEndian.AppendUint64(tail, e.size)
	for _, p := range parts {
		tail = binary.LittleEndian.AppendUint64(tail, uint64(len(p)))
	}
	for _, p := range append(parts, tail) {
		_, _ = e.w.Write(p)
	}
	if err := e.w.Flush(); err != nil {
		return err
	}
	_, err := e.file.Write(binary.LittleEndian.AppendUint32(nil, e.sum.Sum32()))
	return err
}
