package store

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// blob is an open run of octets with its checksums.
type blob struct {
	seg   *segment
	ref   BodyRef
	table []byte       // of octets that are stored as they are
	coded *codedBlocks // of others
	pack  *packer
	raw   []byte // a block as it is stored
}

func (l *Log) openBlob(ref BodyRef) (*blob, error) {
	seg, err := l.seg.acquire(ref.Segment)
	if now := l.forward.of(ref); errors.Is(err, ErrNoMessage) && now != ref {
		return l.openBlob(now) // it has moved since it was handed out
	}
	if err != nil {
		return nil, err
	}
	b, err := l.newBlob(seg, ref)
	if err != nil {
		return nil, errors.Join(err, l.seg.release(seg))
	}
	return b, nil
}

func (l *Log) newBlob(seg *segment, ref BodyRef) (*blob, error) {
	b, err := newBlob(seg, ref)
	if b != nil {
		b.pack = &l.pack
	}
	return b, err
}

// newBlob checks the record's header and table; blocks are checked as they are
// read. What is read of a coded one is what is stored until it has a packer.
func newBlob(seg *segment, ref BodyRef) (*blob, error) {
	b := &blob{seg: seg, ref: ref}
	var head [recordHeader]byte
	if _, err := seg.file.ReadAt(head[:], ref.Offset); err != nil {
		return nil, b.damaged(err)
	}
	rec, err := decodeRecord(head[:], seg.info.Marker)
	if err != nil {
		return nil, b.damaged(err)
	}
	tail := tableSize(ref.Size)
	at := ref.Offset + recordHeader + ref.Size
	switch {
	case rec.Type == recordBlob && rec.Len == ref.Size:
	case rec.Type == recordCoded && rec.Len >= blocks(ref.Size)*codedEntry+codedTrailer:
		tail = blocks(ref.Size)*codedEntry + codedTrailer
		at = ref.Offset + recordHeader + rec.Len - tail
	default:
		return nil, b.damaged(errors.New("the record is not the one referred to"))
	}
	table := make([]byte, tail)
	if _, err := seg.file.ReadAt(table, at); err != nil {
		return nil, b.damaged(err)
	}
	if checksum(table) != rec.Sum {
		return nil, b.damaged(errors.New("table of checksums does not match"))
	}
	if rec.Type == recordBlob {
		b.table = table
	} else if b.coded, err = decodeTail(table, rec.Len, ref.Size); err != nil {
		return nil, b.damaged(err)
	}
	return b, nil
}

// refOf is the reference to a record that was scanned and holds octets.
func refOf(seg *segment, it scanned) (BodyRef, error) {
	ref := BodyRef{Segment: seg.info.ID, Offset: it.off, Size: it.Len}
	if it.Type == recordBlob {
		return ref, nil
	}
	ref.Stored = it.Len
	var end [8]byte
	if it.Len < codedTrailer {
		return ref, errors.New("a coded record without its end")
	}
	if _, err := seg.file.ReadAt(end[:], it.off+recordHeader+it.Len-int64(len(end))); err != nil {
		return ref, err
	}
	size := binary.LittleEndian.Uint64(end[:])
	// Each block has an entry in the table: a false size asks for no more memory
	// than the record has.
	if size == 0 || size > 1<<40 || blocks(int64(size))*codedEntry+codedTrailer > it.Len {
		return ref, fmt.Errorf("a coded record for %d octets", size)
	}
	ref.Size = int64(size)
	return ref, nil
}

func (b *blob) damaged(err error) error {
	return fmt.Errorf("segment %x, offset %d: %w: %w", b.ref.Segment, b.ref.Offset, ErrDamaged, err)
}

// stored reads block i as it is stored and checks it. buf has room for one.
func (b *blob) stored(i int64, buf []byte) ([]byte, error) {
	at, n, sum := i*blobBlock, blockLen(b.ref.Size, i), uint32(0)
	if b.coded != nil {
		at, n, sum = b.coded.at[i], b.coded.at[i+1]-b.coded.at[i], b.coded.sums[i]
	} else {
		sum = binary.LittleEndian.Uint32(b.table[4*i:])
	}
	buf = buf[:n]
	if _, err := b.seg.file.ReadAt(buf, b.ref.Offset+recordHeader+at); err != nil {
		return nil, b.damaged(err)
	}
	if checksum(buf) != sum {
		return nil, b.damagedBlock(i, errors.New("they do not match their checksum"))
	}
	return buf, nil
}

func (b *blob) damagedBlock(i int64, err error) error {
	return b.damaged(fmt.Errorf("octets %d to %d of the message: %w", i*blobBlock, i*blobBlock+blockLen(b.ref.Size, i), err))
}

// block reads and checks block i into buf, which has room for one.
func (b *blob) block(i int64, buf []byte) ([]byte, error) {
	if b.coded == nil || b.coded.plain[i] {
		return b.stored(i, buf)
	}
	if b.raw == nil {
		b.raw = make([]byte, min(b.ref.Size, blobBlock))
	}
	raw, err := b.stored(i, b.raw)
	if err != nil {
		return nil, err
	}
	buf = buf[:blockLen(b.ref.Size, i)]
	if err := b.pack.unpack(buf, raw); err != nil {
		return nil, b.damagedBlock(i, err)
	}
	return buf, nil
}

// verify compares what is stored with its checksums. buf has room for a block.
func (b *blob) verify(buf []byte) error {
	for i := range blocks(b.ref.Size) {
		if _, err := b.stored(i, buf); err != nil {
			return err
		}
	}
	return nil
}

// verifyBlob reads a record's octets and compares them with their checksums.
func verifyBlob(seg *segment, it scanned, buf []byte) error {
	ref, err := refOf(seg, it)
	if err != nil {
		return fmt.Errorf("segment %x, offset %d: %w: %w", seg.info.ID, it.off, ErrDamaged, err)
	}
	b, err := newBlob(seg, ref)
	if err != nil {
		return err
	}
	return b.verify(buf)
}

// octets reads all of a stored run of octets, checking it.
func (b *blob) octets() ([]byte, error) {
	data := make([]byte, b.ref.Size)
	for i := range blocks(b.ref.Size) {
		if _, err := b.block(i, data[i*blobBlock:]); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// body reads a stored run of octets for another place in the log: as it is
// stored when it is coded, else as it is stored best now.
func (b *blob) body(l *Log) (*body, error) {
	if b.coded == nil {
		data, err := b.octets()
		if err != nil {
			return nil, err
		}
		return l.codedBody(data), nil
	}
	rec := record{Type: recordCoded, Len: b.coded.length}
	data := make([]byte, 0, rec.Len)
	buf := make([]byte, blobBlock)
	for i := range blocks(b.ref.Size) {
		stored, err := b.stored(i, buf)
		if err != nil {
			return nil, err
		}
		data = append(data, stored...)
	}
	data = append(data, b.coded.tail...)
	rec.Sum = checksum(b.coded.tail)
	return &body{n: b.ref.Size, rec: rec, data: data}, nil
}
