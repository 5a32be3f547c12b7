package summary

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"mailform/server/imap/mimetree"
	"mailform/server/imap/wire"
	"mailform/server/store"
)

// column is a kind of value. Within a block of a run, values of one column stand together.
type column uint8

const (
	colKeys column = iota // keySize octets each: UID, guard
	colSent               // sentSize octets each: seconds, offset
	colThread
	colTexts     // the first of them
	colEnvelope  = colTexts + column(texts)
	colStructure = colEnvelope + 1
	colFields    = colStructure + 1
	colPreview   = colFields + 1
	columns      = colPreview + 1
)

const (
	keySize  = 12
	sentSize = 12
)

// fixed is how many octets each value of a column takes; 0: it varies.
func (c column) fixed() int {
	switch c {
	case colKeys:
		return keySize
	case colSent:
		return sentSize
	}
	return 0
}

// Values of columns that vary begin with one of these; one that is empty is not
// kept, and the message is read for it.
const (
	isKept = 1
	// isTwofold: the form for clients that have not enabled UTF-8, behind its
	// length, and then that for the others.
	isTwofold = 2

	threadReply = 1 << 7 // of the first octet of a thread
)

// Longer values are not kept. With them, what a message takes is bounded by
// about what its header takes.
const (
	maxValue = 16 << 10
	maxText  = 1 << 10
)

// unknownDate stands for the date of a message that could not be read.
const unknownDate = undated + 1

// entry is what is kept of one message.
type entry struct {
	uid    store.UID
	guard  uint64
	sent   Sent
	values [columns][]byte // of the columns that vary
}

// guardOf is a number by which a message is known again. UIDs and object ids
// may be given anew when the store was brought back from a backup.
func guardOf(m *store.Message) uint64 {
	const prime = 1099511628211 // FNV-1a
	g := uint64(14695981039346656037)
	for i := range len(m.ObjectID) {
		g = (g ^ uint64(m.ObjectID[i])) * prime
	}
	g = (g ^ uint64(m.Size)) * prime
	g ^= g >> 29
	g = (g ^ uint64(m.SaveDate.Unix())) * prime
	return g ^ g>>32
}

// maker makes entries. Their values are good until the next one.
type maker struct {
	buf  []byte // of a message that is read whole
	data []byte // the values
	w    *wire.Writer
}

func newMaker() *maker { return &maker{w: wire.NewWriter(io.Discard, &wire.Buffers{})} }

// wholeMessage is the largest message that is read into memory.
const wholeMessage = 1 << 20

// watched notes errors of reading, which some decoders take for the end.
type watched struct {
	at  io.ReaderAt
	err error
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.at.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// make makes the entry of a message. After an error nothing is kept of it but
// that it is there, so that it is not tried again.
func (k *maker) make(m *store.Message, src io.ReaderAt) (entry, error) {
	e := entry{uid: m.UID, guard: guardOf(m), sent: Sent{Unix: unknownDate}}
	if m.Size <= wholeMessage {
		if int64(cap(k.buf)) < m.Size {
			k.buf = make([]byte, max(m.Size, 64<<10))
		}
		data := k.buf[:m.Size]
		if n, err := src.ReadAt(data, 0); n < len(data) {
			return e, err
		}
		src = bytes.NewReader(data)
	}
	w := &watched{at: src}
	tree, err := mimetree.Parse(io.NewSectionReader(w, 0, m.Size))
	if err != nil {
		return e, err
	}
	preview := Preview(tree, w)
	if w.err != nil {
		return e, w.err
	}
	k.data = k.data[:0]
	e.sent = SentOf(tree.Fields)
	base, reply := subjectOf(tree.Fields)
	k.thread(&e, threadOf(tree.Fields, base, reply))
	for t, s := range textsOf(tree.Fields, base) {
		k.text(&e, colTexts+column(t), s)
	}
	k.wired(&e, colEnvelope, plainHeader(tree.Fields), func(w *wire.Writer) { WriteEnvelope(w, tree.Fields) })
	k.wired(&e, colStructure, false, func(w *wire.Writer) { WriteStructure(w, tree, true) })
	start := len(k.data)
	if b := appendFields(k.data, tree.Fields); b != nil && len(b)-start <= maxValue {
		k.data = b
		e.values[colFields] = b[start:]
	}
	k.wired(&e, colPreview, isASCII(preview), func(w *wire.Writer) { w.String(preview) })
	return e, nil
}

func (k *maker) thread(e *entry, t Thread) {
	if 8*len(t.Refs) > maxValue {
		return
	}
	first := byte(isKept)
	if t.Reply {
		first |= threadReply
	}
	start := len(k.data)
	k.data = append(k.data, first)
	k.data = binary.LittleEndian.AppendUint64(k.data, t.ID)
	k.data = binary.LittleEndian.AppendUint64(k.data, t.Subject)
	for _, r := range t.Refs {
		k.data = binary.LittleEndian.AppendUint64(k.data, r)
	}
	e.values[colThread] = k.data[start:]
}

func (k *maker) text(e *entry, c column, s string) {
	if len(s) > maxText {
		return
	}
	start := len(k.data)
	k.data = append(append(k.data, isKept), s...)
	e.values[c] = k.data[start:]
}

// plainHeader says that a header has only ASCII in it.
func plainHeader(h mimetree.Header) bool {
	for _, f := range h {
		for _, c := range f.Raw {
			if c >= 0x80 {
				return false
			}
		}
	}
	return true
}

// wired keeps what write writes, once or in both forms. one says that they are equal.
func (k *maker) wired(e *entry, c column, one bool, write func(*wire.Writer)) {
	form := func(utf8 bool) string {
		k.w.UTF8 = utf8
		m := k.w.Mark()
		write(k.w)
		return k.w.Cut(m)
	}
	plain := form(false)
	start := len(k.data)
	both := plain
	if !one {
		both = form(true)
	}
	if both == plain {
		k.data = append(append(k.data, isKept), plain...)
	} else {
		k.data = append(k.data, isTwofold)
		k.data = binary.AppendUvarint(k.data, uint64(len(plain)))
		k.data = append(append(k.data, plain...), both...)
	}
	if v := k.data[start:]; len(v) <= maxValue {
		e.values[c] = v
	} else {
		k.data = k.data[:start]
	}
}

// formOf takes one form out of a wired value.
func formOf(v []byte, utf8 bool) ([]byte, bool) {
	if len(v) == 0 {
		return nil, false
	}
	if v[0] == isKept {
		return v[1:], true
	}
	n, k := binary.Uvarint(v[1:])
	if v[0] != isTwofold || k <= 0 || n > uint64(len(v)-1-k) {
		return nil, false
	}
	if v = v[1+k:]; utf8 {
		return v[n:], true
	}
	return v[:n], true
}
