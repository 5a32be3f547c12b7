package store

import (
	"math"
	"slices"
	"time"
)

// The index file keeps a mailbox's messages in blocks: those whose UIDs have all
// but the last octet in common. A change of one message writes its block anew.
const blockShift = 8

func blockOf(uid UID) uint32 { return uint32(uid >> blockShift) }

const blockVersion = 1

// encodeBlock writes messages of one block. What repeats is written once, and
// numbers as the difference from the message before.
func encodeBlock(e *encoder, msgs []*Message) {
	e.byte(blockVersion)
	e.uint(uint64(len(msgs)))
	var lists [][]string
	flags := make([]int, len(msgs))
	for i, m := range msgs {
		n := slices.IndexFunc(lists, func(l []string) bool { return slices.Equal(l, m.Flags) })
		if n < 0 {
			n = len(lists)
			lists = append(lists, m.Flags)
		}
		flags[i] = n
	}
	e.uint(uint64(len(lists)))
	for _, l := range lists {
		e.strings(l)
	}
	var before Message
	var date, save int64
	for i, m := range msgs {
		e.uint(uint64(m.UID - before.UID))
		e.int(int64(m.ModSeq - before.ModSeq))
		e.uint(uint64(flags[i]))
		date = e.since(m.InternalDate, date)
		save = e.since(m.SaveDate, save)
		e.ref(m.Head)
		e.ref(m.Body)
		same := 0
		for same < len(m.ObjectID) && same < len(before.ObjectID) && m.ObjectID[same] == before.ObjectID[same] {
			same++
		}
		e.uint(uint64(same))
		e.string(m.ObjectID[same:])
		before = *m
	}
}

// since writes a time as the seconds since another, and its offset from UTC.
func (e *encoder) since(t time.Time, last int64) int64 {
	if t.IsZero() {
		e.int(0)
		e.int(math.MaxInt16)
		return last
	}
	_, offset := t.Zone()
	e.int(t.Unix() - last)
	e.int(int64(offset / 60))
	return t.Unix()
}

// blockReader decodes blocks. Messages of a block share their memory.
type blockReader struct {
	intern func([]string) []string
	zones  map[int64]*time.Location
	ids    []byte
}

// maxBlock is how many messages a block can have.
const maxBlock = 1 << blockShift

// decode returns the messages of a block, which has that number.
func (r *blockReader) decode(number uint32, b []byte) ([]*Message, error) {
	d := &decoder{b: b, intern: r.intern}
	if d.byte() != blockVersion {
		d.fail()
	}
	n := d.count()
	if n > maxBlock {
		d.fail()
		n = 0
	}
	lists := make([][]string, d.count())
	for i := range lists {
		lists[i] = d.flags()
	}
	slab := make([]Message, n)
	msgs := make([]*Message, n)
	type span struct{ start, end int }
	spans := make([]span, n)
	r.ids = r.ids[:0]
	var uid UID
	var modseq ModSeq
	var date, save int64
	for i := range slab {
		m := &slab[i]
		before := uid
		if uid += UID(d.uint32()); uid <= before || blockOf(uid) != number {
			d.fail()
		}
		modseq += ModSeq(d.int())
		list := d.uint()
		if list >= uint64(len(lists)) {
			d.fail()
			return nil, d.err
		}
		m.UID, m.ModSeq, m.Flags = uid, modseq, lists[list]
		m.InternalDate, date = r.time(d, date)
		m.SaveDate, save = r.time(d, save)
		m.Head, m.Body = d.ref(), d.ref()
		if m.Size = m.Head.Size + m.Body.Size; m.Size < 0 {
			d.fail()
		}
		same, rest := d.uint(), d.bytes()
		var last span
		if i > 0 {
			last = spans[i-1]
		}
		if same > uint64(last.end-last.start) {
			d.fail()
			return nil, d.err
		}
		start := len(r.ids)
		r.ids = append(append(r.ids, r.ids[last.start:last.start+int(same)]...), rest...)
		spans[i] = span{start, len(r.ids)}
		msgs[i] = m
	}
	if len(d.b) > 0 {
		d.fail()
	}
	if d.err != nil {
		return nil, d.err
	}
	ids := string(r.ids)
	for i, s := range spans {
		slab[i].ObjectID = ids[s.start:s.end]
	}
	return msgs, nil
}

func (r *blockReader) time(d *decoder, last int64) (time.Time, int64) {
	sec, offset := d.int(), d.int()
	switch {
	case offset == math.MaxInt16:
		return time.Time{}, last
	case offset == 0:
		return time.Unix(last+sec, 0).UTC(), last + sec
	case offset < -maxOffset || offset > maxOffset:
		d.fail()
		return time.Time{}, last
	}
	zone := r.zones[offset]
	if zone == nil {
		zone = time.FixedZone("", int(offset)*60)
		r.zones[offset] = zone
	}
	return time.Unix(last+sec, 0).In(zone), last + sec
}
