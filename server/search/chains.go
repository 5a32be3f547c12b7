package search

import "encoding/binary"

// chains is the memory of lists that grow at their ends, many at once: each is a
// chain of chunks, of which the next is twice as large as the one before up to a
// bound, in pages that are never moved.
type chains struct {
	pages [][]byte
	used  int // of the last page
}

// chain is one list.
type chain struct {
	first uint32 // address of the first chunk
	at    uint32 // where its next octet goes; 0 is none yet
	end   uint32 // behind the last chunk, but for the address of the next one
	size  uint32 // octets of all
	chunk uint16 // size of the last chunk
}

const (
	pageBits   = 13
	pageSize   = 1 << pageBits
	firstChunk = 16
	lastChunk  = 2 << 10
	linkSize   = 4 // octets at a chunk's end: the address of the next
)

func (c *chains) octets() int { return len(c.pages) * pageSize }

// take makes a chunk and returns its address. None is 0: pages count from one.
func (c *chains) take(size int) uint32 {
	if len(c.pages) == 0 || c.used+size > pageSize {
		c.pages = append(c.pages, make([]byte, pageSize))
		c.used = 0
	}
	at := uint32(len(c.pages)<<pageBits + c.used)
	c.used += size
	return at
}

// chunk is the memory from an address on, to the end of its page.
func (c *chains) chunk(at uint32) []byte { return c.pages[at>>pageBits-1][at&(pageSize-1):] }

// append puts octets behind a list.
func (c *chains) append(l *chain, b []byte) {
	l.size += uint32(len(b))
	for len(b) > 0 {
		if l.at == l.end {
			c.extend(l)
		}
		n := copy(c.chunk(l.at)[:l.end-l.at], b)
		l.at += uint32(n)
		b = b[n:]
	}
}

// extend gives a list its next chunk.
func (c *chains) extend(l *chain) {
	if l.at == 0 {
		l.chunk = firstChunk
		l.first = c.take(firstChunk)
		l.at = l.first
	} else {
		l.chunk = min(2*l.chunk, lastChunk)
		next := c.take(int(l.chunk))
		binary.LittleEndian.PutUint32(c.chunk(l.end), next)
		l.at = next
	}
	l.end = l.at + uint32(l.chunk) - linkSize
}

// read appends a list's octets to dst.
func (c *chains) read(dst []byte, l chain) []byte {
	at, size, chunk := l.first, uint32(firstChunk), uint32(0)
	for left := l.size; left > 0; left -= chunk {
		chunk = min(left, size-linkSize)
		b := c.chunk(at)
		dst = append(dst, b[:chunk]...)
		if left > chunk {
			at = binary.LittleEndian.Uint32(b[size-linkSize:])
			size = min(2*size, lastChunk)
		}
	}
	return dst
}
