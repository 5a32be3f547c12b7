package store

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
)

// victim is a log segment to be compacted.
type victim struct {
	id   uint64
	size int64 // octets of its file
	live int64 // octets in use, with their records' headers
}

// used is a run of a segment's octets that is in use, in units of recordAlign.
type used struct {
	offset, size uint32
	packed       int64 // octets as they are read of a compressed run; else 0
}

// surveyed is what a survey has found.
type surveyed struct {
	live map[uint64]int64 // by log segment: octets in use
	// packed are the octets of all bodies that are stored compressed, and packedTo
	// what they take.
	packed, packedTo int64
}

// survey says of each log segment how many octets of it are in use. It looks at
// one account after the other: what changes meanwhile the next survey sees.
func (l *Log) survey(ctx context.Context) (*surveyed, error) {
	logs := map[uint64]bool{}
	for _, id := range l.seg.ids(kindLog) {
		logs[id] = true
	}
	runs := map[uint64][]used{}
	alone := map[uint64]bool{} // segments of one large body
	s := &surveyed{live: map[uint64]int64{}}
	note := func(r BodyRef) {
		switch {
		case r.Size == 0:
		case logs[r.Segment]:
			u := used{offset: uint32(r.Offset / recordAlign), size: uint32(r.recordSize() / recordAlign)}
			if r.packed() {
				u.packed = r.Size
			}
			runs[r.Segment] = append(runs[r.Segment], u)
		case r.packed() && !alone[r.Segment]:
			alone[r.Segment] = true
			s.packed += r.Size
			s.packedTo += r.recordSize()
		}
	}
	if err := l.eachHolder(ctx, 0, func(h holder) { note(h.ref) }); err != nil {
		return nil, err
	}
	for id := range logs {
		list := runs[id]
		s.live[id] = 0
		slices.SortFunc(list, func(a, b used) int { return cmp.Compare(a.offset, b.offset) })
		for _, u := range slices.Compact(list) {
			size := int64(u.size) * recordAlign
			s.live[id] += size
			if u.packed > 0 {
				s.packed += u.packed
				s.packedTo += size
			}
		}
	}
	return s, nil
}

// victims chooses the segments to compact, those with the least in use first.
// The last segment is ended when it is one of them.
func (l *Log) victims(ctx context.Context, o CompactOptions) ([]victim, error) {
	found, err := l.survey(ctx)
	if err != nil {
		return nil, err
	}
	live := found.live
	var last uint64
	var end int64
	if err := l.do(ctx, func(*txn) error {
		last, end = l.last, l.end
		// A small one is not worth an end.
		l.sealNext = (end >= l.opt.SegmentBytes/16 || o.MaxLive >= 1) && float64(live[last]) <= o.MaxLive*float64(end)
		return nil
	}); err != nil {
		return nil, err
	}
	if err := l.do(ctx, func(*txn) error { last = l.last; return nil }); err != nil {
		return nil, err
	}
	var list []victim
	for id, n := range live {
		if id >= last || l.seg.isDoomed(id) {
			continue
		}
		_, size, err := l.inspect(id)
		if err != nil {
			continue // gone since, or damaged: it stays for salvage
		}
		if float64(n) <= o.MaxLive*float64(size) {
			list = append(list, victim{id, size, n})
		}
	}
	slices.SortFunc(list, func(a, b victim) int { return cmp.Or(cmp.Compare(a.live, b.live), cmp.Compare(a.id, b.id)) })
	var chosen []victim
	var sum int64
	for _, v := range list {
		if sum += v.live; sum > o.MaxCopy && len(chosen) > 0 {
			break
		}
		if o.MaxLive < 1 {
			damaged, err := l.lostTransaction(ctx, v.id)
			if err != nil {
				return nil, err
			}
			if damaged {
				sum -= v.live
				l.opt.Logger.Warn("store: a segment that is damaged is not compacted, so that what was lost can be salvaged; store compact --all removes it", "segment", v.id)
				continue
			}
		}
		chosen = append(chosen, v)
	}
	return chosen, nil
}

// lostTransaction says whether a log segment has records that cannot be read and may
// have been transactions: bodies that nothing refers to may be of theirs.
func (l *Log) lostTransaction(ctx context.Context, id uint64) (lost bool, err error) {
	end := int64(math.MaxInt64) // what is behind it are remains of a crash
	next := l.successor(id)
	if next != nil {
		end = next.PrevEnd
	}
	size, err := l.scanSegment(ctx, id, -1, func(_ *segment, it scanned) error {
		if it.off >= end {
			return nil
		}
		if it.bad == nil && it.Type == recordTx {
			_, it.bad = decodeTransaction(it.payload, nil)
		}
		lost = lost || it.bad != nil
		return nil
	})
	lost = lost || next != nil && size < end
	if errors.Is(err, ErrNoMessage) {
		return false, nil // removed since
	}
	return lost, err
}
