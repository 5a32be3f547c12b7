// Package wire is IMAP's wire format, RFC 9051 4 and 9: a reader that takes
// lines and literals off a connection within bounds, a parser of what they
// hold, and a writer that gathers responses.
//
// It imports nothing of mailform.
package wire

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// ErrTooLong says that a line is longer than allowed.
var ErrTooLong = errors.New("line is too long")

const (
	smallBuffer = 512      // octets a connection keeps while it waits
	largeBuffer = 16 << 10 // octets it borrows while more comes in
)

// Buffers lends read and write buffers to connections that are at work.
type Buffers struct{ read, write sync.Pool }

// Reader reads from a connection. Between commands it keeps a small buffer only.
type Reader struct {
	src   io.Reader
	lend  *Buffers
	data  []byte // read and not yet taken
	large *[largeBuffer]byte
	full  bool // the last read filled its buffer: more is to be expected
	small [smallBuffer]byte
}

// NewReader returns a reader of src.
func NewReader(src io.Reader, lend *Buffers) *Reader { return &Reader{src: src, lend: lend} }

// Reset makes the reader read from src. What was read and not taken is lost.
func (r *Reader) Reset(src io.Reader) {
	r.src, r.data, r.full = src, nil, false
}

// Buffered returns how many octets are here already.
func (r *Reader) Buffered() int { return len(r.data) }

// fill reads once; there is nothing left in the buffer.
func (r *Reader) fill() error {
	b := r.small[:]
	if r.full || r.large != nil {
		if r.large == nil {
			if v, ok := r.lend.read.Get().(*[largeBuffer]byte); ok {
				r.large = v
			} else {
				r.large = new([largeBuffer]byte)
			}
		}
		b = r.large[:]
	}
	n, err := r.src.Read(b)
	r.data, r.full = b[:n], n == len(b)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// Release gives the borrowed buffer back, if nothing is in it.
func (r *Reader) Release() {
	if r.large != nil && len(r.data) == 0 {
		r.lend.read.Put(r.large)
		r.large, r.full, r.data = nil, false, nil
	}
}

// Line appends the next line to dst, its end included. After ErrTooLong the
// reader is somewhere within the line. After another error what is in dst is
// the beginning of a line: Line may be called again to go on.
func (r *Reader) Line(dst []byte, limit int) ([]byte, error) {
	for {
		if len(r.data) == 0 {
			if err := r.fill(); err != nil {
				return dst, err
			}
		}
		n := bytes.IndexByte(r.data, '\n') + 1
		part := r.data
		if n > 0 {
			part = r.data[:n]
		}
		if len(dst)+len(part) > limit {
			return dst, ErrTooLong
		}
		dst = append(dst, part...)
		r.data = r.data[len(part):]
		if n > 0 {
			return dst, nil
		}
	}
}

// Read reads octets as they are: a literal's.
func (r *Reader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		if len(p) >= largeBuffer/2 {
			return r.src.Read(p)
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}
