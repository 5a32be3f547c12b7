package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A segment is a file of records behind a header. Each segment has a random
// marker, and each of its records begins with it: after damage the reader finds
// the next record by looking for the marker, and a message that contains the
// octets of a record cannot pass for one.
const (
	segmentMagic   = "MFSEG\x00\x01\n"
	segmentHeader  = 64
	recordHeader   = 40
	recordAlign    = 8
	blobBlock      = 64 << 10 // octets covered by one checksum of a blob
	maxTransaction = 256 << 20
)

// recordType says what a record holds.
type recordType uint8

const (
	recordTx   recordType = 1 // a transaction: operations on the index
	recordBlob recordType = 2 // octets of a message, with a checksum for each block
	recordHole recordType = 3 // unacknowledged remains of a crash, passed over
	// recordCoded is octets of a message that are stored otherwise than they are
	// read: see coded.go. Its length and checksum are those of what is stored.
	recordCoded recordType = 4
	// recordSealed is the same, encrypted.
	recordSealed recordType = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// segmentInfo is a segment's header.
type segmentInfo struct {
	ID     uint64
	Marker uint64
	// Prev is the log segment before this one and PrevEnd where it ends: what
	// lies behind is void. Zero for the first and for large bodies' segments.
	Prev    uint64
	PrevEnd int64
	// Guessed says that the header was damaged and the marker was taken from
	// the first record.
	Guessed bool
}

var errHeader = errors.New("header does not match its checksum")

func (s segmentInfo) encode() []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], s.ID)
	binary.LittleEndian.PutUint64(b[16:], s.Marker)
	binary.LittleEndian.PutUint64(b[24:], s.Prev)
	binary.LittleEndian.PutUint64(b[32:], uint64(s.PrevEnd))
	binary.LittleEndian.PutUint32(b[60:], checksum(b[:60]))
	return b
}

func decodeSegmentInfo(b []byte) (segmentInfo, error) {
	if len(b) >= segmentHeader && string(b[:5]) == segmentMagic[:5] && string(b[:8]) != segmentMagic && checksum(b[:60]) == binary.LittleEndian.Uint32(b[60:]) {
		return segmentInfo{}, &FormatError{Format: int(binary.BigEndian.Uint16(b[5:])), Known: currentFormat}
	}
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic || checksum(b[:60]) != binary.LittleEndian.Uint32(b[60:]) {
		return segmentInfo{}, errHeader
	}
	s := segmentInfo{
		ID:      binary.LittleEndian.Uint64(b[8:]),
		Marker:  binary.LittleEndian.Uint64(b[16:]),
		Prev:    binary.LittleEndian.Uint64(b[24:]),
		PrevEnd: int64(binary.LittleEndian.Uint64(b[32:])),
	}
	if s.PrevEnd < 0 {
		return segmentInfo{}, errHeader
	}
	return s, nil
}

// record is a record's header.
//
//	0  marker u64 | 8 length u64 | 16 batch u64 | 24 batch offset u32 | 28 type u8, 3 reserved
//	32 checksum of the payload u32 | 36 checksum of the header u32
type record struct {
	Type  recordType
	Len   int64  // octets of the payload; of a blob: without its checksums
	Batch uint64 // the group of records that were made durable together
	// BatchOff is how far this record is behind its batch's first.
	BatchOff uint32
	// Sum covers the payload; of a blob: its table of checksums.
	Sum uint32
}

func (r record) put(b []byte, marker uint64) {
	binary.LittleEndian.PutUint64(b, marker)
	binary.LittleEndian.PutUint64(b[8:], uint64(r.Len))
	binary.LittleEndian.PutUint64(b[16:], r.Batch)
	binary.LittleEndian.PutUint32(b[24:], r.BatchOff)
	binary.LittleEndian.PutUint32(b[28:], uint32(r.Type))
	binary.LittleEndian.PutUint32(b[32:], r.Sum)
	binary.LittleEndian.PutUint32(b[36:], checksum(b[:36]))
}

func decodeRecord(b []byte, marker uint64) (record, error) {
	if len(b) < recordHeader || binary.LittleEndian.Uint64(b) != marker || checksum(b[:36]) != binary.LittleEndian.Uint32(b[36:]) {
		return record{}, errHeader
	}
	r := record{
		Type:     recordType(b[28]),
		Len:      int64(binary.LittleEndian.Uint64(b[8:])),
		Batch:    binary.LittleEndian.Uint64(b[16:]),
		BatchOff: binary.LittleEndian.Uint32(b[24:]),
		Sum:      binary.LittleEndian.Uint32(b[32:]),
	}
	if r.Len < 0 || r.Len > 1<<40 || r.Type == recordTx && r.Len > maxTransaction {
		return record{}, fmt.Errorf("%w: length %d", errHeader, r.Len)
	}
	return r, nil
}

// size is what the record takes in its segment, header and padding included.
func (r record) size() int64 {
	n := recordHeader + r.Len
	if r.Type == recordBlob {
		n += tableSize(r.Len)
	}
	return align(n)
}

func align(n int64) int64 { return (n + recordAlign - 1) &^ (recordAlign - 1) }

func blocks(n int64) int64    { return (n + blobBlock - 1) / blobBlock }
func tableSize(n int64) int64 { return 4 * blocks(n) }

// holdsOctets says whether a record of that type is octets of a message.
func (t recordType) holdsOctets() bool { return t == recordBlob || t.coded() }

// coded says whether octets are stored otherwise than they are read.
func (t recordType) coded() bool { return t == recordCoded || t == recordSealed }

// sums computes a blob's table of checksums while the blob goes by.
type sums struct {
	table []byte
	crc   uint32
	fill  int // octets of the open block
	n     int64
}

func (s *sums) write(p []byte) {
	s.n += int64(len(p))
	for len(p) > 0 {
		k := min(len(p), blobBlock-s.fill)
		s.crc = crc32.Update(s.crc, castagnoli, p[:k])
		s.fill += k
		p = p[k:]
		if s.fill == blobBlock {
			s.closeBlock()
		}
	}
}

func (s *sums) closeBlock() {
	s.table = binary.LittleEndian.AppendUint32(s.table, s.crc)
	s.crc, s.fill = 0, 0
}

// finish returns the table; nothing may be written afterwards.
func (s *sums) finish() []byte {
	if s.fill > 0 {
		s.closeBlock()
	}
	return s.table
}
