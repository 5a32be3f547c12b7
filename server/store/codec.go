package store

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// The log's own encoding: unsigned varints, strings with their length ahead.

var errMalformed = errors.New("malformed record")

// encoder appends to b.
type encoder struct{ b []byte }

func (e *encoder) uint(v uint64)   { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)     { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) byte(v byte)     { e.b = append(e.b, v) }
func (e *encoder) string(s string) { e.uint(uint64(len(s))); e.b = append(e.b, s...) }
func (e *encoder) bytes(s []byte)  { e.uint(uint64(len(s))); e.b = append(e.b, s...) }

func (e *encoder) bool(v bool) {
	if v {
		e.byte(1)
	} else {
		e.byte(0)
	}
}

func (e *encoder) strings(s []string) {
	e.uint(uint64(len(s)))
	for _, v := range s {
		e.string(v)
	}
}

// time keeps the second and the offset from UTC in minutes, which is what
// IMAP's INTERNALDATE can say.
func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.int(0)
		e.int(math.MaxInt16)
		return
	}
	_, offset := t.Zone()
	e.int(t.Unix())
	e.int(int64(offset / 60))
}

// instant keeps the nanosecond and no zone.
func (e *encoder) instant(t time.Time) {
	e.bool(!t.IsZero())
	if !t.IsZero() {
		e.int(t.UnixNano())
	}
}

// maxOffset is the largest offset from UTC that is kept, in minutes.
const maxOffset = 24 * 60

func (e *encoder) ref(r BodyRef) {
	e.uint(uint64(r.Size))
	if r.Size == 0 {
		return
	}
	e.uint(r.Segment)
	if r.Stored == 0 {
		e.uint(uint64(r.Offset))
		return
	}
	e.uint(uint64(r.Offset) | refStored)
	e.uint(uint64(r.Stored))
}

// refStored marks an offset, which is a multiple of recordAlign, behind which the
// octets stand that a coded record takes.
const refStored = 1

// uids writes ascending UIDs as runs.
func (e *encoder) uids(u []UID) {
	e.uint(uint64(len(u)))
	last := UID(0)
	for i := 0; i < len(u); {
		j := i + 1
		for j < len(u) && u[j] == u[j-1]+1 {
			j++
		}
		e.uint(uint64(u[i] - last))
		e.uint(uint64(j - i))
		last = u[j-1]
		i = j
	}
}

// decoder reads from b. The first error stays; everything after it reads as zero.
type decoder struct {
	b   []byte
	err error
	// intern returns one shared copy of equal flag lists; nil makes new ones.
	intern func([]string) []string
	many   uint64 // UIDs read
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errMalformed
	}
	d.b = nil
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > math.MaxUint32 {
		d.fail()
		return 0
	}
	return uint32(v)
}

func (d *decoder) size() int64 {
	v := d.uint()
	if v > math.MaxInt64 {
		d.fail()
		return 0
	}
	return int64(v)
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bool() bool { return d.byte() != 0 }

// count reads how many items follow; each takes at least one octet, so that a
// false count cannot ask for more memory than the record has.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count()
	if n == 0 {
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// take returns the next n octets.
func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return make([]byte, n)
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) strings() []string {
	n := d.count()
	if n == 0 {
		return nil
	}
	s := make([]string, 0, n)
	for range n {
		s = append(s, d.string())
	}
	return s
}

func (d *decoder) flags() []string {
	s := d.strings()
	if d.intern != nil {
		return d.intern(s)
	}
	return s
}

func (d *decoder) time() time.Time {
	sec, offset := d.int(), d.int()
	if offset == math.MaxInt16 {
		return time.Time{}
	}
	if offset == 0 {
		return time.Unix(sec, 0).UTC()
	}
	if offset < -maxOffset || offset > maxOffset {
		d.fail()
		return time.Time{}
	}
	return time.Unix(sec, 0).In(time.FixedZone("", int(offset)*60))
}

func (d *decoder) instant() time.Time {
	if !d.bool() {
		return time.Time{}
	}
	return time.Unix(0, d.int()).UTC()
}

func (d *decoder) ref() BodyRef {
	r := BodyRef{Size: d.size()}
	if r.Size > 0 {
		r.Segment = d.uint()
		r.Offset = d.size()
		if r.Offset&refStored != 0 {
			r.Offset &^= refStored
			if r.Stored = d.size(); r.Stored == 0 {
				d.fail()
			}
		}
	}
	return r
}

func (d *decoder) uids() []UID {
	total := d.uint()
	if d.many += total; total > maxUIDs || d.many > maxUIDs {
		d.fail()
		return nil
	}
	u := make([]UID, 0, min(total, 4096))
	last := uint64(0)
	for uint64(len(u)) < total {
		first := last + d.uint()
		n := d.uint()
		if d.err != nil || n == 0 || n > total-uint64(len(u)) || first+n-1 > math.MaxUint32 || first+n < first {
			d.fail()
			return nil
		}
		for i := range n {
			u = append(u, UID(first+i))
		}
		last = first + n - 1
	}
	return u
}

// maxUIDs bounds one transaction, so that a malformed run cannot ask for memory
// without end.
const maxUIDs = 16 << 20
