package store

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"time"
)

// columns are what of a block's messages does not change with their flags, one
// column behind the other: numbers as their difference from the lowest, in as many
// octets as the largest needs, and the object ids. A message is read where it
// stands, so the octets in the index file and in memory are the same.
type columns struct {
	at   [numColumns]numbers
	data []byte // of all of them, and 8 octets more so that a number is one load
	ids  string
}

// numbers is where a column's numbers are and what is to be added to them.
type numbers struct {
	base  uint64
	from  uint32
	width uint8 // octets; 0 when all are the same
}

const (
	colDate = iota // seconds
	colZone        // minutes east of UTC; noDate: there is no date
	colSaved
	colSavedZone
	colHeadSize
	colHeadSegment
	colHeadOffset
	colHeadStored
	colBodySize
	colBodySegment
	colBodyOffset
	colBodyStored
	colIDEnds // where each object id ends
	numColumns
)

const (
	noDate  = math.MaxInt16
	spare   = 8
	maxSize = 1 << 56 // of a message's octets
)

func (c *columns) num(col, row int) uint64 {
	n := &c.at[col]
	if n.width == 0 {
		return n.base
	}
	v := binary.LittleEndian.Uint64(c.data[int(n.from)+row*int(n.width):])
	return n.base + v&(math.MaxUint64>>(64-8*n.width))
}

// read fills in what the columns know of the message in a row.
func (c *columns) read(row int, m *Message) {
	m.Head = c.ref(colHeadSize, row)
	m.Body = c.ref(colBodySize, row)
	c.facts(row, m)
}

// facts is read without where the octets are.
func (c *columns) facts(row int, m *Message) {
	m.InternalDate = dateOf(int64(c.num(colDate, row)), int64(c.num(colZone, row)))
	m.SaveDate = dateOf(int64(c.num(colSaved, row)), int64(c.num(colSavedZone, row)))
	m.Size = int64(c.num(colHeadSize, row)) + int64(c.num(colBodySize, row))
	from := uint64(0)
	if row > 0 {
		from = c.num(colIDEnds, row-1)
	}
	m.ObjectID = c.ids[from:c.num(colIDEnds, row)]
}

// ref reads a reference whose first column is col.
func (c *columns) ref(col, row int) BodyRef {
	return BodyRef{Size: int64(c.num(col, row)), Segment: c.num(col+1, row), Offset: int64(c.num(col+2, row)), Stored: int64(c.num(col+3, row))}
}

func dateOf(sec, zone int64) time.Time {
	switch zone {
	case 0:
		return time.Unix(sec, 0).UTC()
	case noDate:
		return time.Time{}
	}
	return time.Unix(sec, 0).In(time.FixedZone("", int(zone)*60))
}

// dated is the other way round.
func dated(t time.Time) (sec, zone uint64) {
	if t.IsZero() {
		return 0, noDate
	}
	_, offset := t.Zone()
	return uint64(t.Unix()), uint64(int64(offset / 60))
}

// appendColumns writes the columns of some messages.
func appendColumns(e *encoder, msgs []*Message) {
	var cols [numColumns][]uint64
	all := make([]uint64, numColumns*len(msgs))
	for i := range cols {
		cols[i] = all[i*len(msgs) : (i+1)*len(msgs)]
	}
	ids := 0
	for i, m := range msgs {
		cols[colDate][i], cols[colZone][i] = dated(m.InternalDate)
		cols[colSaved][i], cols[colSavedZone][i] = dated(m.SaveDate)
		for k, r := range [...]BodyRef{m.Head, m.Body} {
			col := colHeadSize + k*(colBodySize-colHeadSize)
			cols[col][i], cols[col+1][i], cols[col+2][i], cols[col+3][i] = uint64(r.Size), r.Segment, uint64(r.Offset), uint64(r.Stored)
		}
		ids += len(m.ObjectID)
		cols[colIDEnds][i] = uint64(ids)
	}
	for i := range cols {
		e.numbers(cols[i])
	}
	e.uint(uint64(ids))
	for _, m := range msgs {
		e.b = append(e.b, m.ObjectID...)
	}
}

// numbers writes a column. The lowest is that of signed numbers, as dates are.
func (e *encoder) numbers(list []uint64) {
	base := slices.MinFunc(list, func(a, b uint64) int { return int(min(max(int64(a)-int64(b), -1), 1)) })
	width := 0
	for _, v := range list {
		width = max(width, (bits.Len64(v-base)+7)/8)
	}
	e.byte(byte(width))
	e.int(int64(base))
	for _, v := range list {
		var le [8]byte
		binary.LittleEndian.PutUint64(le[:], v-base)
		e.b = append(e.b, le[:width]...)
	}
}

// numbers reads a column of n numbers out of octets that begin at data.
func (d *decoder) numbers(n int, data []byte) (c numbers) {
	c.width = d.byte()
	c.base = uint64(d.int())
	if c.width > 8 || n*int(c.width) > len(d.b) {
		d.fail()
		return numbers{}
	}
	c.from = uint32(len(data) - len(d.b))
	d.b = d.b[n*int(c.width):]
	return c
}

// columns reads the columns of n messages, which are the rest of what there
// is to read. They are copied: what is read need not stay.
func (d *decoder) columns(n int) *columns {
	c := &columns{}
	data := d.b
	for i := range c.at {
		c.at[i] = d.numbers(n, data)
	}
	if size := d.uint(); d.err != nil || size != uint64(len(d.b)) {
		d.fail()
		return c
	}
	c.ids = string(d.b)
	c.data = make([]byte, len(data)-len(d.b)+spare)
	copy(c.data, data[:len(c.data)-spare])
	if !c.valid(n) {
		d.fail()
	}
	return c
}

// valid says whether the columns can be those of n messages.
func (c *columns) valid(n int) bool {
	for col, x := range c.at {
		switch col {
		case colHeadSize, colBodySize, colHeadOffset, colBodyOffset, colHeadStored, colBodyStored, colIDEnds:
			if x.base > maxSize || x.width > 7 {
				return false
			}
		case colZone, colSavedZone:
			for row := range n {
				if v := int64(c.num(col, row)); v != noDate && (v < -maxOffset || v > maxOffset) {
					return false
				}
				if x.width == 0 {
					break // all are that one
				}
			}
		}
	}
	last := uint64(0)
	for row := range n {
		end := c.num(colIDEnds, row)
		if end < last {
			return false
		}
		last = end
	}
	return last == uint64(len(c.ids))
}
