package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// body is the octets of a delivery on their way into the log: in memory when
// short, in a segment of their own when long.
type body struct {
	data []byte
	sums sums
	seg  *segment // set for a long body; durable when spool returns
}

func (b *body) size() int64 { return b.sums.n }

// ref is where a long body is.
func (b *body) ref() BodyRef {
	return BodyRef{Segment: b.seg.info.ID, Offset: segmentHeader, Size: b.size()}
}

// spool reads r to its end. It runs in the caller's goroutine, so that a slow
// sender or a large message holds up nobody else.
func (l *Log) spool(r io.Reader, size int64) (b *body, err error) {
	b = &body{}
	if r == nil {
		return b, nil
	}
	if size >= 0 {
		// One more octet would show that the caller's size is wrong.
		r = io.LimitReader(r, size+1)
	}
	room := int64(4 << 10)
	if size >= 0 {
		room = min(size+1, l.opt.MemoryBody+1)
	}
	buf := make([]byte, 0, room)
	for {
		if len(buf) == cap(buf) {
			if int64(len(buf)) > l.opt.MemoryBody {
				return l.spoolLong(b, buf, r, size)
			}
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(int64(cap(buf)), l.opt.MemoryBody+1)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > l.opt.MemoryBody {
			return l.spoolLong(b, buf, r, size)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the message: %w", err)
		}
	}
	if size >= 0 && int64(len(buf)) != size {
		return nil, fmt.Errorf("read the message: %w: %d octets came, %d were announced", io.ErrUnexpectedEOF, len(buf), size)
	}
	b.data = buf
	b.sums.write(buf)
	b.sums.finish()
	return b, nil
}

func (l *Log) spoolLong(b *body, head []byte, r io.Reader, size int64) (_ *body, err error) {
	seg, err := l.seg.create(kindBody, 0, 0)
	if err != nil {
		return nil, full("make a segment for a large body", err)
	}
	b.seg = seg
	defer func() {
		if err != nil {
			err = errors.Join(err, l.discard(b))
		}
	}()
	write := func(p []byte) error {
		if _, err := seg.file.WriteAt(p, segmentHeader+recordHeader+b.sums.n); err != nil {
			return full("write a large body", err)
		}
		b.sums.write(p)
		return nil
	}
	if err := write(head); err != nil {
		return nil, err
	}
	buf := make([]byte, blobBlock)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := write(buf[:n]); err != nil {
				return nil, err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the message: %w", err)
		}
	}
	if size >= 0 && b.size() != size {
		return nil, fmt.Errorf("read the message: %w: %d octets came, %d were announced", io.ErrUnexpectedEOF, b.size(), size)
	}
	table := b.sums.finish()
	rec := record{Type: recordBlob, Len: b.size(), Sum: checksum(table)}
	tail := make([]byte, rec.size()-recordHeader-rec.Len)
	copy(tail, table)
	header := make([]byte, recordHeader)
	rec.put(header, seg.info.Marker)
	for _, w := range []struct {
		p  []byte
		at int64
	}{{tail, segmentHeader + recordHeader + rec.Len}, {header, segmentHeader}} {
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

// discard gives up a long body that no transaction took.
func (l *Log) discard(b *body) error {
	if b == nil || b.seg == nil {
		return nil
	}
	seg := b.seg
	b.seg = nil
	return errors.Join(l.seg.remove(seg.info.ID), l.seg.release(seg))
}

// blob is an open run of octets with its checksums.
type blob struct {
	seg   *segment
	ref   BodyRef
	table []byte
}

func (l *Log) openBlob(ref BodyRef) (*blob, error) {
	seg, err := l.seg.acquire(ref.Segment)
	if now := l.forward.of(ref); errors.Is(err, ErrNoMessage) && now != ref {
		return l.openBlob(now) // it has moved since it was handed out
	}
	if err != nil {
		return nil, err
	}
	b, err := newBlob(seg, ref)
	if err != nil {
		return nil, errors.Join(err, l.seg.release(seg))
	}
	return b, nil
}

// newBlob checks the record's header and table; blocks are checked as they are read.
func newBlob(seg *segment, ref BodyRef) (*blob, error) {
	damaged := func(err error) error {
		return fmt.Errorf("segment %x, offset %d: %w: %w", ref.Segment, ref.Offset, ErrDamaged, err)
	}
	var head [recordHeader]byte
	if _, err := seg.file.ReadAt(head[:], ref.Offset); err != nil {
		return nil, damaged(err)
	}
	rec, err := decodeRecord(head[:], seg.info.Marker)
	if err != nil {
		return nil, damaged(err)
	}
	if rec.Type != recordBlob || rec.Len != ref.Size {
		return nil, damaged(errors.New("the record is not the one referred to"))
	}
	table := make([]byte, tableSize(rec.Len))
	if _, err := seg.file.ReadAt(table, ref.Offset+recordHeader+rec.Len); err != nil {
		return nil, damaged(err)
	}
	if checksum(table) != rec.Sum {
		return nil, damaged(errors.New("table of checksums does not match"))
	}
	return &blob{seg: seg, ref: ref, table: table}, nil
}

// block reads and checks block i into buf, which has room for one.
func (b *blob) block(i int64, buf []byte) ([]byte, error) {
	start := i * blobBlock
	buf = buf[:min(blobBlock, b.ref.Size-start)]
	if _, err := b.seg.file.ReadAt(buf, b.ref.Offset+recordHeader+start); err != nil {
		return nil, fmt.Errorf("segment %x, offset %d: %w: %w", b.ref.Segment, b.ref.Offset, ErrDamaged, err)
	}
	if checksum(buf) != binary.LittleEndian.Uint32(b.table[4*i:]) {
		return nil, fmt.Errorf("segment %x, offset %d: %w: octets %d to %d of the message do not match their checksum",
			b.ref.Segment, b.ref.Offset, ErrDamaged, start, start+int64(len(buf)))
	}
	return buf, nil
}
