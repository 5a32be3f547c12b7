package search

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
)

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
