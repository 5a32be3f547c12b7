package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"mailform/server/store/seal"
)

// body is the octets of a delivery on their way into the log: in memory when
// short, in a segment of their own when long.
type body struct {
	n    int64  // octets as they are read
	rec  record // the record's header, but for its batch; the zero record without octets
	data []byte // all of the record behind its header; nil for a long body
	seg  *segment
	// slots are the keys of an encrypted body, of those that it is for.
	slots []byte
	// lent is memory of the log's in which it was read; nil when there is none.
	lent []byte
}

func (b *body) size() int64 { return b.n }

// at is the reference to the body in the record that is there.
func (b *body) at(segment uint64, offset int64) BodyRef {
	ref := BodyRef{Segment: segment, Offset: offset, Size: b.n}
	if b.rec.Type.coded() {
		ref.Stored = b.rec.Len
	}
	return ref
}

// recordSize is what the record of these octets takes in its segment.
func (r BodyRef) recordSize() int64 {
	if r.Stored > 0 {
		return record{Type: recordCoded, Len: r.Stored}.size()
	}
	return record{Type: recordBlob, Len: r.Size}.size()
}

// packed says whether the octets take less than they are.
func (r BodyRef) packed() bool { return r.Stored > 0 && r.Stored < r.Size }

// plainBody is a body in memory that is stored as it is.
func plainBody(p []byte) *body {
	b := &body{n: int64(len(p))}
	if b.n == 0 {
		return b
	}
	var s sums
	s.write(p)
	table := s.finish()
	b.rec = record{Type: recordBlob, Len: b.n, Sum: checksum(table)}
	b.data = append(p, table...)
	return b
}

// shortBody is a body in memory as it is to be stored for those that it belongs to.
func (l *Log) shortBody(p []byte, to belonging) (*body, error) {
	if len(p) == 0 {
		return &body{}, nil
	}
	s, err := l.sealFor(to)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return l.codedBody(p), nil
	}
	c := coder{seal: s}
	if l.compress.Load() && len(p) >= minPacked && l.pack.ready() == nil && !random(p) {
		c.pack = &l.pack
	}
	return c.whole(p), nil
}

// whole is the record of octets that are to be encrypted.
func (c *coder) whole(p []byte) *body {
	data := make([]byte, 0, int64(len(p))+blocks(int64(len(p)))*(seal.Overhead+codedEntry)+int64(len(c.seal.Slots()))+codedTrailer)
	for rest := p; len(rest) > 0; {
		k := min(len(rest), blobBlock)
		data = c.block(data, rest[:k], k == len(rest))
		rest = rest[k:]
	}
	return c.body(data)
}

// body is the record of what was coded.
func (c *coder) body(data []byte) *body {
	tail, rec := c.finish()
	b := &body{n: c.size, rec: rec, data: append(data, tail...)}
	if c.seal != nil {
		b.slots = c.seal.Slots()
	}
	return b
}

// codedBody is a body in memory as it is stored best in the clear.
func (l *Log) codedBody(p []byte) *body {
	if !l.compress.Load() || len(p) < minPacked || l.pack.ready() != nil {
		return plainBody(p)
	}
	if random(p) {
		return plainBody(p)
	}
	c := coder{pack: &l.pack}
	data := make([]byte, 0, len(p)*3/4+codedTrailer)
	for rest := p; len(rest) > 0; {
		k := min(len(rest), blobBlock)
		data = c.block(data, rest[:k], k == len(rest))
		rest = rest[k:]
	}
	tail, rec := c.finish()
	if !c.packed || rec.Len >= int64(len(p)) {
		return plainBody(p)
	}
	return &body{n: int64(len(p)), rec: rec, data: append(data, tail...)}
}

// spool reads r to its end. It runs in the caller's goroutine, so that a slow
// sender or a large message holds up nobody else.
func (l *Log) spool(r io.Reader, size int64, to belonging) (*body, error) {
	if r == nil {
		return &body{}, nil
	}
	if size >= 0 {
		// One more octet would show that the caller's size is wrong.
		r = io.LimitReader(r, size+1)
	}
	room := int64(4 << 10)
	if size >= 0 {
		room = min(size, l.opt.MemoryBody) + 1
		room += tableSize(room) // which plainBody appends
	}
	lent := l.lender.lend(room)
	b, err := l.read(lent, r, size, to)
	if err != nil || b.seg != nil {
		l.lender.back(lent)
		return b, err
	}
	b.lent = lent
	return b, nil
}

// read is spool with memory to begin with, of which the body may keep some.
func (l *Log) read(buf []byte, r io.Reader, size int64, to belonging) (*body, error) {
	for {
		if len(buf) == cap(buf) {
			if int64(len(buf)) > l.opt.MemoryBody {
				return l.spoolLong(buf, r, size, to)
			}
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(int64(cap(buf)), l.opt.MemoryBody+1)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > l.opt.MemoryBody {
			return l.spoolLong(buf, r, size, to)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the message: %w", err)
		}
	}
	if size >= 0 && int64(len(buf)) != size {
		return nil, cutShort(int64(len(buf)), size)
	}
	return l.shortBody(buf, to)
}

func cutShort(got, announced int64) error {
	return fmt.Errorf("read the message: %w: %d octets came, %d were announced", io.ErrUnexpectedEOF, got, announced)
}

// blockWriter turns the blocks of a body into what is stored of them, and gives
// the rest of the record at the end.
type blockWriter interface {
	block(dst, block []byte, last bool) []byte
	finish() (tail []byte, rec record)
}

// plainWriter stores blocks as they are.
type plainWriter struct{ sums }

func (w *plainWriter) block(dst, block []byte, _ bool) []byte {
	w.write(block)
	return append(dst, block...)
}

func (w *plainWriter) finish() ([]byte, record) {
	table := w.sums.finish()
	return table, record{Type: recordBlob, Len: w.n, Sum: checksum(table)}
}

// spoolLong writes a body to a segment of its own, whose header it writes last.
func (l *Log) spoolLong(head []byte, r io.Reader, size int64, to belonging) (_ *body, err error) {
	var w blockWriter = &plainWriter{}
	s, err := l.sealFor(to)
	if err != nil {
		return nil, err
	}
	packs := l.compress.Load() && l.pack.ready() == nil
	if packs || s != nil {
		c := &coder{seal: s}
		if packs {
			c.pack = &l.pack
		}
		w = c
	}
	seg, err := l.seg.create(kindBody, 0, 0)
	if err != nil {
		return nil, full("make a segment for a large body", err)
	}
	b := &body{seg: seg}
	if s != nil {
		b.slots = s.Slots()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.discard(b))
		}
	}()
	r = io.MultiReader(bytes.NewReader(head), r)
	at := int64(segmentHeader + recordHeader)
	// Each block is written when the next has been read: the last is told apart.
	buf, next, out := make([]byte, blobBlock), make([]byte, blobBlock), []byte(nil)
	n, err := readBlock(r, buf)
	for err == nil && n > 0 {
		var more int
		if more, err = readBlock(r, next); err != nil {
			break
		}
		out = w.block(out[:0], buf[:n], more == 0)
		if _, err := seg.file.WriteAt(out, at); err != nil {
			return nil, full("write a large body", err)
		}
		at += int64(len(out))
		b.n += int64(n)
		buf, next, n = next, buf, more
	}
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	if size >= 0 && b.n != size {
		return nil, cutShort(b.n, size)
	}
	tail, rec := w.finish()
	b.rec = rec
	tail = append(tail, make([]byte, segmentHeader+rec.size()-at-int64(len(tail)))...)
	header := make([]byte, recordHeader)
	rec.put(header, seg.info.Marker)
	for _, w := range []struct {
		p  []byte
		at int64
	}{{tail, at}, {header, segmentHeader}} {
		if _, err := seg.file.WriteAt(w.p, w.at); err != nil {
			return nil, full("write a large body", err)
		}
	}
	if err := seg.file.Sync(); err != nil {
		return nil, full("sync a large body", err)
	}
	if err := l.fs.SyncDir(l.seg.dir); err != nil {
		return nil, full("sync the log directory", err)
	}
	return b, nil
}

// readBlock fills buf, or reads what is left; 0 at the end.
func readBlock(r io.Reader, buf []byte) (int, error) {
	n, err := io.ReadFull(r, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}

// discard gives up a body that no transaction took.
func (l *Log) discard(b *body) error {
	if b == nil {
		return nil
	}
	l.handBack(b)
	if b.seg == nil {
		return nil
	}
	seg := b.seg
	b.seg = nil
	return errors.Join(l.seg.remove(seg.info.ID), l.seg.release(seg))
}
