package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"mailform/server/store/seal"
)

// A coded record holds octets block by block, so that any part of a huge message
// is read without what is before it:
//
//	blocks | table: for each block its checksum u32, its length u32 | slots | id | trailer
//
// A block is at most blobBlock octets as they are read. Its checksum and its
// length are of what is stored; the length's highest bit says that the block is
// stored as it is. The trailer is the way of coding u8, whether it is bound u8, as which
// part of a message u8, 1 reserved, how many slots there are u32, and the octets as they
// are read u64. The record's own checksum covers table, slots, id and trailer.
//
// In a sealed record each block was encrypted after that, and is seal.Overhead octets
// longer. Its slots hold the body's key for each that can read it: see seal.Body. They
// are with the body and not with the references to it, which are many and in memory;
// so a copy needs nothing, and checksums are verified without any key. A bound one says
// of which message it is, in the id, and its blocks open as that only: see seal.Binding.
// Those from before were not.
const (
	codedEntry   = 8
	codedTrailer = 16
	codedPlain   = 1 << 31                   // the block is stored as it is
	storedBlock  = blobBlock + seal.Overhead // at most, of octets that are stored

	codingZstd  = 1
	sealedBound = 1 // in a sealed record's trailer: it is bound
)

// What is worth a try, and worth its octets.
const (
	minPacked   = 512  // octets of a body; a shorter one is stored as it is
	probeOctets = 1024 // of a block are looked at before it is compressed
	// probeBits is the entropy, in bits an octet, above which a block is taken for
	// compressed or encrypted already. Random octets have about 7.8 in a sample of
	// that length, text 4 to 5, base64 6: that loses a quarter by compression,
	// whatever is in it.
	probeBits = 7.2
)

// packer compresses and decompresses blocks, for many goroutines at once.
type packer struct {
	once sync.Once
	enc  *zstd.Encoder
	dec  *zstd.Decoder
	err  error
}

// maxPackers is how many blocks are worked on at once; each takes some 300 KiB.
const maxPackers = 4

func (p *packer) ready() error {
	p.once.Do(func() {
		n := min(maxPackers, runtime.GOMAXPROCS(0))
		p.enc, p.err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(n),
			zstd.WithWindowSize(blobBlock), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false),
			zstd.WithAllLitEntropyCompression(true)) // for base64
		if p.err == nil {
			p.dec, p.err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(n), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxMemory(blobBlock), zstd.WithDecoderMaxWindow(blobBlock))
		}
	})
	return p.err
}

// pack appends the block to dst, compressed when that saves at least an eighth.
func (p *packer) pack(dst, block []byte) (_ []byte, packed bool) {
	if random(block) {
		return append(dst, block...), false
	}
	start := len(dst)
	dst = p.enc.EncodeAll(block, dst)
	if len(dst)-start > len(block)-len(block)/8 {
		return append(dst[:start], block...), false
	}
	return dst, true
}

// unpack decompresses a block into buf, which it has to fit in exactly.
func (p *packer) unpack(buf, block []byte) error {
	if err := p.ready(); err != nil {
		return err
	}
	out, err := p.dec.DecodeAll(block, buf[:0:len(buf)])
	if err != nil {
		return err
	}
	if len(out) != len(buf) || len(buf) > 0 && &out[0] != &buf[0] {
		return fmt.Errorf("%d octets in the place of %d", len(out), len(buf))
	}
	return nil
}

// random says whether octets look as if they could not be compressed. It counts
// a sample spread over them.
func random(block []byte) bool {
	if len(block) < probeOctets {
		return false
	}
	var count [256]int
	step := len(block) / probeOctets
	for i := range probeOctets {
		count[block[i*step]]++
	}
	bits := 0.0
	for _, n := range count {
		if n > 0 {
			bits -= float64(n) / probeOctets * math.Log2(float64(n)/probeOctets)
		}
	}
	return bits > probeBits
}

// coder makes a coded record's payload while a body goes by.
type coder struct {
	pack   *packer    // nil: blocks are not compressed
	seal   *seal.Body // nil: nor encrypted
	raw    []byte     // a block before it is encrypted
	n      int64      // blocks
	size   int64      // octets as they are read
	stored int64      // octets of the blocks
	table  []byte
	packed bool // a block is stored otherwise than it is
}

// block appends what is to be stored for a block to dst.
func (c *coder) block(dst, block []byte, last bool) []byte {
	if c.pack == nil {
		return c.add(dst, block, int64(len(block)), false, last)
	}
	if c.seal != nil {
		raw, packed := c.pack.pack(c.raw[:0], block)
		c.raw = raw
		return c.add(dst, raw, int64(len(block)), packed, last)
	}
	start := len(dst)
	dst, packed := c.pack.pack(dst, block)
	c.note(dst[start:], int64(len(block)), packed)
	return dst
}

// add appends a block that is compressed already, or not to be: of size octets.
func (c *coder) add(dst, raw []byte, size int64, packed, last bool) []byte {
	start := len(dst)
	if c.seal != nil {
		dst = c.seal.Seal(dst, raw, c.n, packed, last)
	} else {
		dst = append(dst, raw...)
	}
	c.note(dst[start:], size, packed)
	return dst
}

// note puts a stored block into the table.
func (c *coder) note(stored []byte, size int64, packed bool) {
	length := uint32(len(stored))
	if !packed {
		length |= codedPlain
	}
	c.packed = c.packed || packed
	c.table = binary.LittleEndian.AppendUint32(c.table, checksum(stored))
	c.table = binary.LittleEndian.AppendUint32(c.table, length)
	c.size += size
	c.stored += int64(len(stored))
	c.n++
}

// finish returns what comes behind the blocks, and the record's header.
func (c *coder) finish() (tail []byte, rec record) {
	tail, kind := c.table, recordCoded
	slots, trailer := 0, [4]byte{codingZstd}
	if c.seal != nil {
		kind, slots = recordSealed, len(c.seal.Slots())/seal.SlotSize
		bound := c.seal.Binding()
		tail = append(append(tail, c.seal.Slots()...), bound.ID[:]...)
		trailer[1], trailer[2] = sealedBound, byte(bound.Part)
	}
	tail = append(tail, trailer[:]...)
	tail = binary.LittleEndian.AppendUint32(tail, uint32(slots))
	tail = binary.LittleEndian.AppendUint64(tail, uint64(c.size))
	return tail, record{Type: kind, Len: c.stored + int64(len(tail)), Sum: checksum(tail)}
}

// codedBlocks is what a coded record's tail says: where each block begins behind
// the record's header, its checksum, and whether it is stored as it is.
type codedBlocks struct {
	kind   recordType
	tail   []byte        // all of it
	slots  []byte        // of a sealed one
	bound  *seal.Binding // of a sealed one; nil when it is bound to nothing
	length int64         // of the record
	at     []int64       // one more than there are blocks
	sums   []uint32
	plain  []bool
}

// tailSize is how long the tail of such a record is, by its last octets.
func tailSize(kind recordType, trailer []byte, size int64) int64 {
	n := blocks(size)*codedEntry + codedTrailer
	if kind == recordSealed {
		n += int64(binary.LittleEndian.Uint32(trailer[4:])) * seal.SlotSize
		if trailer[1] == sealedBound {
			n += seal.IDSize
		}
	}
	return n
}

// decodeTail reads the tail of a coded record of that length, for size octets.
func decodeTail(kind recordType, tail []byte, length, size int64) (*codedBlocks, error) {
	n := int(blocks(size))
	if len(tail) < codedTrailer || int64(len(tail)) != tailSize(kind, tail[len(tail)-codedTrailer:], size) {
		return nil, errors.New("table of blocks has another length")
	}
	end := tail[len(tail)-codedTrailer:]
	if end[0] != codingZstd {
		return nil, fmt.Errorf("coding %d is unknown", end[0])
	}
	if got := binary.LittleEndian.Uint64(end[8:]); got != uint64(size) {
		return nil, fmt.Errorf("it holds %d octets, %d were expected", got, size)
	}
	over := int64(0)
	if kind == recordSealed {
		over = seal.Overhead
	}
	slots := tail[n*codedEntry : len(tail)-codedTrailer]
	var bound *seal.Binding
	switch {
	case end[1] > sealedBound, kind != recordSealed && end[1] != 0:
		return nil, fmt.Errorf("binding %d is unknown", end[1])
	case end[1] == sealedBound:
		bound = &seal.Binding{Part: seal.Part(end[2]), ID: [seal.IDSize]byte(slots[len(slots)-seal.IDSize:])}
		slots = slots[:len(slots)-seal.IDSize]
	}
	c := &codedBlocks{kind: kind, tail: tail, slots: slots, bound: bound, length: length, at: make([]int64, 1, n+1), sums: make([]uint32, n), plain: make([]bool, n)}
	for i := range n {
		e := tail[i*codedEntry:]
		stored := binary.LittleEndian.Uint32(e[4:])
		c.sums[i], c.plain[i] = binary.LittleEndian.Uint32(e), stored&codedPlain != 0
		stored &^= codedPlain
		if want := blockLen(size, int64(i)) + over; int64(stored) > want || int64(stored) < over || c.plain[i] && int64(stored) != want {
			return nil, fmt.Errorf("block %d has %d octets", i, stored)
		}
		c.at = append(c.at, c.at[i]+int64(stored))
	}
	if c.at[n]+int64(len(tail)) != length {
		return nil, errors.New("table of blocks does not fit the record")
	}
	return c, nil
}

// blockLen is how many of size octets are in block i.
func blockLen(size, i int64) int64 { return min(blobBlock, size-i*blobBlock) }
