// Package inflate decompresses a stream of DEFLATE, RFC 1951, whose sender waits
// for answers: before it waits for more octets it hands out all that those it has
// say. The standard library's reader does that only where the sender has aligned
// its stream to octets (Z_SYNC_FLUSH), and IMAP's clients need not: RFC 4978 lets
// them use Z_PARTIAL_FLUSH.
//
// It imports nothing of mailform.
package inflate

import (
	"bufio"
	"errors"
	"io"
)

// ErrCorrupt says that the stream is not DEFLATE.
var ErrCorrupt = errors.New("the compressed stream is corrupt")

const (
	windowSize = 32 << 10
	maxBits    = 15
)

// Copy decompresses src to dst until the stream or src ends, or either fails. It
// returns nil at the end of the stream.
func Copy(dst io.Writer, src io.Reader) error {
	d := &decoder{in: bufio.NewReaderSize(src, 2<<10), out: dst}
	d.run()
	if errors.Is(d.err, errDone) {
		return nil
	}
	return d.err
}

var errDone = errors.New("the stream has ended")

// decoder works symbol by symbol; it never needs octets beyond the symbol's.
type decoder struct {
	in   *bufio.Reader
	out  io.Writer
	hold uint32 // bits read and not yet used, fewer than 8 between symbols
	have uint
	err  error

	window  [windowSize]byte
	pos     int // where the next octet goes
	flushed int // up to where it was handed out
	filled  bool

	lengths, distances huffman
}

// huffman is a canonical code: how many codes there are of each length, and the
// symbols in their order.
type huffman struct {
	count  [maxBits + 1]uint16
	symbol [288]uint16
}

// set makes the code of symbols whose codes have the given lengths. It returns
// whether there are no more codes than fit; fewer are left to the decoder.
func (h *huffman) set(lengths []uint8) bool {
	*h = huffman{}
	for _, n := range lengths {
		h.count[n]++
	}
	left := 1
	var offset [maxBits + 2]uint16
	for n := 1; n <= maxBits; n++ {
		if left = left<<1 - int(h.count[n]); left < 0 {
			return false
		}
		offset[n+1] = offset[n] + h.count[n]
	}
	for s, n := range lengths {
		if n > 0 {
			h.symbol[offset[n]] = uint16(s)
			offset[n]++
		}
	}
	h.count[0] = 0
	return true
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// flush hands out what was decompressed since it last did.
func (d *decoder) flush() {
	if d.pos > d.flushed {
		if _, err := d.out.Write(d.window[d.flushed:d.pos]); err != nil {
			d.fail(err)
		}
		d.flushed = d.pos
	}
}

func (d *decoder) octet() byte {
	if d.in.Buffered() == 0 {
		d.flush()
	}
	if d.err != nil {
		return 0
	}
	b, err := d.in.ReadByte()
	if err != nil {
		d.fail(err)
	}
	return b
}

// bits reads n bits, at most 16.
func (d *decoder) bits(n uint) int {
	for d.have < n {
		d.hold |= uint32(d.octet()) << d.have
		d.have += 8
	}
	v := d.hold & (1<<n - 1)
	d.hold >>= n
	d.have -= n
	return int(v)
}

// decode reads a symbol.
func (d *decoder) decode(h *huffman) int {
	code, first, index := 0, 0, 0
	for n := 1; n <= maxBits && d.err == nil; n++ {
		if d.have == 0 {
			d.hold, d.have = uint32(d.octet()), 8
		}
		code |= int(d.hold & 1)
		d.hold >>= 1
		d.have--
		count := int(h.count[n])
		if code < first+count {
			return int(h.symbol[index+code-first])
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	d.fail(ErrCorrupt)
	return 0
}

func (d *decoder) put(b byte) {
	d.window[d.pos] = b
	if d.pos++; d.pos == windowSize {
		d.flush()
		d.pos, d.flushed, d.filled = 0, 0, true
	}
}

// run decompresses blocks.
func (d *decoder) run() {
	for d.err == nil {
		last := d.bits(1) == 1
		switch d.bits(2) {
		case 0:
			d.stored()
		case 1:
			d.fixed()
			d.block()
		case 2:
			d.dynamic()
			d.block()
		default:
			d.fail(ErrCorrupt)
		}
		if last {
			d.fail(errDone)
		}
	}
	err := d.err
	d.flush()
	d.err = err
}

// stored copies a block that is not compressed.
func (d *decoder) stored() {
	d.hold, d.have = 0, 0
	n := d.bits(16)
	if d.bits(16) != n^0xffff {
		d.fail(ErrCorrupt)
	}
	for ; n > 0 && d.err == nil; n-- {
		if b := d.octet(); d.err == nil {
			d.put(b)
		}
	}
}

// fixed sets the codes of RFC 1951 3.2.6.
func (d *decoder) fixed() {
	var l [288]uint8
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	d.lengths.set(l[:])
	for i := range 30 {
		l[i] = 5
	}
	d.distances.set(l[:30])
}

// dynamic reads the codes of a block, RFC 1951 3.2.7.
func (d *decoder) dynamic() {
	literals, distances, codes := d.bits(5)+257, d.bits(5)+1, d.bits(4)+4
	if literals > 286 || distances > 30 {
		d.fail(ErrCorrupt)
		return
	}
	var l [320]uint8
	for i := range codes {
		l[[19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[i]] = uint8(d.bits(3))
	}
	if !d.lengths.set(l[:19]) {
		d.fail(ErrCorrupt)
	}
	l = [320]uint8{}
	for i := 0; i < literals+distances && d.err == nil; {
		s := d.decode(&d.lengths)
		if s < 16 {
			l[i] = uint8(s)
			i++
			continue
		}
		var prev uint8
		n := 0
		switch s {
		case 16:
			if i == 0 {
				d.fail(ErrCorrupt)
				return
			}
			prev, n = l[i-1], 3+d.bits(2)
		case 17:
			n = 3 + d.bits(3)
		default:
			n = 11 + d.bits(7)
		}
		if i+n > literals+distances {
			d.fail(ErrCorrupt)
			return
		}
		for range n {
			l[i] = prev
			i++
		}
	}
	if l[256] == 0 || !d.lengths.set(l[:literals]) || !d.distances.set(l[literals:literals+distances]) {
		d.fail(ErrCorrupt)
	}
}

// block decompresses up to the end of a block.
func (d *decoder) block() {
	for d.err == nil {
		s := d.decode(&d.lengths)
		switch {
		case d.err != nil:
		case s < 256:
			d.put(byte(s))
		case s == 256:
			return
		case s > 285:
			d.fail(ErrCorrupt)
		default:
			d.match(s - 257)
		}
	}
}

// match copies what came before.
func (d *decoder) match(s int) {
	n := 258
	if s < 28 {
		extra := max(s/4-1, 0)
		n = 3 + s
		if s >= 8 {
			n = 3 + (4+s%4)<<extra
		}
		n += d.bits(uint(extra))
	}
	s = d.decode(&d.distances)
	if s > 29 {
		d.fail(ErrCorrupt)
	}
	if d.err != nil {
		return
	}
	extra := max(s/2-1, 0)
	dist := 1 + s
	if s >= 4 {
		dist = 1 + (2+s%2)<<extra
	}
	dist += d.bits(uint(extra))
	if dist > d.pos && !d.filled {
		d.fail(ErrCorrupt)
	}
	for ; n > 0 && d.err == nil; n-- {
		d.put(d.window[(d.pos-dist+windowSize)%windowSize])
	}
}
