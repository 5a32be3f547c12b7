package store

import (
	"errors"
	"io"
	"sync"
)

// messageReader reads a prefix and a body as one run of octets, checking each
// block before any octet of it is handed out.
type messageReader struct {
	log    *Log
	prefix []byte
	parts  []*blob
	size   int64

	mu     sync.Mutex
	pos    int64
	buf    []byte // the block read last
	bufOf  *blob
	bufIdx int64
	data   []byte
	closed bool
}

// part is octets that are read as something; as nil is as whatever they are.
type part struct {
	ref BodyRef
	as  *reading
}

func (l *Log) newReader(prefix []byte, parts ...part) (*messageReader, error) {
	r := &messageReader{log: l, prefix: prefix, size: int64(len(prefix))}
	for _, p := range parts {
		if p.ref.Size == 0 {
			continue
		}
		b, err := l.openBlob(p.ref, p.as)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.parts = append(r.parts, b)
		r.size += p.ref.Size
	}
	return r, nil
}

func (r *messageReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.readAt(p, r.pos)
	r.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (r *messageReader) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	return r.readAt(p, off)
}

func (r *messageReader) Seek(offset int64, whence int) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	r.pos = offset
	return offset, nil
}

func (r *messageReader) readAt(p []byte, off int64) (n int, err error) {
	if r.closed {
		return 0, ErrClosed
	}
	for n < len(p) && off < r.size {
		src, err := r.at(off)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], src)
		n += k
		off += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// at returns octets that begin at off, at most to the end of a block.
func (r *messageReader) at(off int64) ([]byte, error) {
	if off < int64(len(r.prefix)) {
		return r.prefix[off:], nil
	}
	off -= int64(len(r.prefix))
	for _, b := range r.parts {
		if off >= b.ref.Size {
			off -= b.ref.Size
			continue
		}
		i := off / blobBlock
		if r.bufOf != b || r.bufIdx != i {
			if need := min(b.ref.Size, blobBlock); int64(cap(r.buf)) < need {
				r.log.lender.back(r.buf)
				r.buf = r.log.lender.lend(need)
			}
			r.bufOf = nil
			data, err := b.block(i, r.buf[:cap(r.buf)])
			if err != nil {
				return nil, err
			}
			r.data, r.bufOf, r.bufIdx = data, b, i
		}
		return r.data[off%blobBlock:], nil
	}
	return nil, io.EOF
}

func (r *messageReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	var errs []error
	for _, b := range r.parts {
		errs = append(errs, r.log.seg.release(b.seg))
	}
	r.log.lender.back(r.buf)
	r.parts, r.buf, r.data, r.bufOf = nil, nil, nil, nil
	return errors.Join(errs...)
}
