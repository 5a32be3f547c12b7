package store

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"mailform/server/store/kv"
)

// recovery replays the log into the index. Records are taken batch by batch:
// all but the last batch are known to have been made durable, because the next
// one was only written afterwards; only the last may be torn.
type recovery struct {
	log   *Log
	lost  int64 // octets of damaged transactions that had, or may have, been acknowledged
	seg   *segment
	file  string // seg's name for reports
	items []scanned
	batch uint64 // of items; 0 before the first record
	maxID uint64 // highest segment a transaction refers to

	failed error // the index file could not be read
}

// maxTornLost bounds what a torn batch counts for, which a crash may leave often.
const maxTornLost = 64 << 10

// copiedLost is what the log of a store may have grown by, for skipLost, since
// it was copied: about a million numbers of each kind.
const copiedLost = 16 << 20

// recover brings the index to what the log says and gets the log ready to be
// appended to.
func (l *Log) recover() error {
	if err := l.seg.list(); err != nil {
		return err
	}
	l.ix.file.Store(l.openIndex())
	var lost int64
	for try := 0; ; try++ {
		var err error
		lost, err = l.replayLog(lost)
		if !errors.Is(err, errIndex) {
			return err
		}
		// What the file said is not what the log says, or it cannot be read any more.
		l.report(Damage{File: indexName, What: err.Error() + "; it is made anew", Tail: true})
		if l.active != nil {
			if err := l.seg.release(l.active); err != nil {
				return err
			}
			l.active = nil
		}
		if err := l.renewIndex(); err != nil {
			return err
		}
		l.idle = idle{boxes: map[*mailbox]idleBox{}}
		if try > 0 && l.ix.file.Load() != nil { // the disk does not keep it
			if err := l.ix.file.Load().close(); err != nil {
				return err
			}
			l.ix.file.Store(nil)
		}
	}
}

// start brings the index to a place in the log: by the index file when that is of
// use, or else by the newest checkpoint, which makes the file anew.
func (l *Log) start() (at place, fresh bool, err error) {
	if l.ix.file.Load() == nil {
		at, err = l.loadCheckpoint()
		return at, true, err
	}
	newest, err := l.findCheckpoint()
	if err != nil {
		return at, false, err
	}
	if err = errIndex; !l.opt.Rebuild {
		at, err = l.loadIndex(newest)
	}
	if err == nil {
		return at, false, nil
	}
	if !errors.Is(err, errIndex) && !errors.Is(err, kv.ErrDamaged) {
		return at, false, err
	}
	l.opt.Logger.Info("store: the index file is made anew", "why", err)
	if err = l.renewIndex(); err == nil {
		at, err = l.loadCheckpoint()
	}
	return at, true, err
}

// grown has part of an index that is being made go to the file.
func (l *Log) grown() {
	if l.ix.file.Load() == nil {
		return
	}
	if err := l.flushIndex(nil); err != nil {
		l.opt.Logger.Warn("store: write the index file", "err", err)
	}
	l.unload(time.Time{})
	l.touched = 0
}

// replayLog makes the index and gets the log ready. lost is what was lost to damage
// in an attempt before, in octets; it returns what has been lost.
func (l *Log) replayLog(lost int64) (int64, error) {
	cp, fresh, err := l.start()
	if err != nil {
		return lost, err
	}
	l.lsn, l.batch = cp.lsn, cp.batch
	l.last, l.end = cp.segment, cp.offset
	l.seg.next = max(l.seg.next, cp.next)

	ids := slices.DeleteFunc(l.seg.ids(kindLog), func(id uint64) bool { return id < cp.segment })
	slices.Sort(ids)
	if cp.segment != 0 && !slices.Contains(ids, cp.segment) {
		l.report(Damage{File: l.logFile(cp.segment), Length: cp.offset, What: "the segment is missing"})
	}
	chain, limits, err := l.chain(ids, cp.segment)
	if err != nil {
		return lost, err
	}
	r := &recovery{log: l, lost: lost}
	for i, id := range chain {
		from := int64(segmentHeader)
		if id == cp.segment {
			from = cp.offset
		}
		limit, limited := limits[id]
		if !limited {
			limit = -1
		}
		if err := r.replay(id, from, limit, i == len(chain)-1); err != nil {
			return r.lost, fmt.Errorf("replay segment %x: %w", id, err)
		}
	}
	// More than the log has had, accounts can only have when it has lost its end,
	// which no crash takes from it.
	lsn := l.ix.queueLSN
	for _, a := range l.ix.accounts {
		lsn = max(lsn, a.lsn)
	}
	if lsn > l.lsn {
		r.lost += int64(lsn-l.lsn) * maxTornLost
		l.lsn = lsn
		if !fresh {
			return r.lost, fmt.Errorf("%w: it has transactions that the log has not", errIndex)
		}
	}
	if r.failed != nil {
		return r.lost, fmt.Errorf("%w: %w", errIndex, r.failed)
	}
	for _, e := range l.ix.queue {
		r.refer(e.Body)
	}
	l.seg.next = max(l.seg.next, r.maxID+1)
	if err := l.tidy(slices.ContainsFunc(l.Damage(), func(d Damage) bool { return !d.Tail })); err != nil {
		return r.lost, err
	}
	if l.opt.Copied {
		r.lost += copiedLost
	}
	if fresh && l.ix.file.Load() != nil {
		// From now on a crash does not cost another making.
		at := l.place()
		if err := l.flushIndex(&at); err != nil {
			l.opt.Logger.Warn("store: write the index file", "err", err)
		}
	}
	if l.ix.file.Load() != nil && l.touched > 0 {
		l.ix.file.Load().behind.Store(true)
	}
	if newest := l.checkpoints.newest().place; l.ix.file.Load() != nil && l.last > newest.segment {
		l.written = l.opt.SegmentBytes * int64(l.last-newest.segment) // about what there is behind it
	}
	if r.lost > 0 {
		l.skipLost(r.lost)
		// A tail that was cut will not be seen again; what was passed over must
		// stay so.
		at := l.place()
		err := errors.Join(l.checkpoint(), l.flushIndex(&at))
		if f := l.ix.file.Load(); f != nil && f.err.Load() != nil {
			// It kept the checkpoint from being written, and goes: these numbers
			// are in neither then.
			return r.lost, fmt.Errorf("%w: %w", errIndex, err)
		}
		if err != nil && l.opt.Copied {
			return r.lost, err
		} else if err != nil {
			l.opt.Logger.Warn("store: keep the numbers passed over", "err", err)
		}
	}
	return r.lost, nil
}

// chain returns the log segments that count, and where each ends according to
// its successor. A segment that its successor does not name was given up when
// it was made, and goes.
func (l *Log) chain(ids []uint64, from uint64) (chain []uint64, limits map[uint64]int64, err error) {
	limits = map[uint64]int64{}
	var next *segmentInfo
	for i := len(ids) - 1; i >= 0; i-- {
		id := ids[i]
		if next != nil && next.Prev != 0 && id > next.Prev {
			l.opt.Logger.Info("store: removing a segment that was given up", "segment", id)
			if err := l.seg.remove(id); err != nil {
				return nil, nil, err
			}
			continue
		}
		info, size, err := l.inspect(id)
		if errors.Is(err, errHeader) {
			if i == len(ids)-1 && size <= segmentHeader {
				// Power went while it was being made.
				if err := l.seg.remove(id); err != nil {
					return nil, nil, err
				}
				continue
			}
			l.report(Damage{File: l.logFile(id), Length: size, What: "the segment's header and first record are damaged; nothing in it can be read"})
			if l.last < id {
				l.last, l.end = id, size
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		chain = append(chain, id)
		if info.Prev >= from && info.Prev != 0 {
			limits[info.Prev] = info.PrevEnd
			if info.Prev != from && !slices.Contains(ids, info.Prev) {
				l.report(Damage{File: l.logFile(info.Prev), Length: info.PrevEnd, What: "the segment is missing"})
			}
		}
		next = &info
	}
	slices.Reverse(chain)
	return chain, limits, nil
}

func (l *Log) logFile(id uint64) string { return filepath.Join("log", segmentName(id, kindLog)) }

func (l *Log) inspect(id uint64) (info segmentInfo, size int64, err error) {
	f, err := l.fs.Open(l.seg.path(id, kindLog))
	if err != nil {
		return info, 0, err
	}
	size, err = f.Size()
	if err == nil {
		info, err = readSegmentInfo(f, id)
	}
	return info, size, errors.Join(err, f.Close())
}

// replay reads one segment from an offset to its end. limit is where its
// successor says that it ends; -1 when there is none to say.
func (r *recovery) replay(id uint64, from, limit int64, last bool) error {
	l := r.log
	seg, err := l.seg.acquire(id)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			_ = l.seg.release(seg)
		}
	}()
	size, err := seg.file.Size()
	if err != nil {
		return err
	}
	end := size
	if limit >= 0 {
		if end = min(size, limit); size < limit {
			l.report(Damage{File: l.logFile(id), Offset: size, Length: limit - size, What: "the end of the segment is missing"})
			r.lost += limit - size
		}
	}
	r.seg, r.file = seg, l.logFile(id)
	r.items, r.batch = nil, 0
	sc := &scanner{r: seg.file, marker: seg.info.Marker, pos: from, end: end}
	for {
		it, err := sc.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		r.take(it)
	}
	if !last || limit >= 0 {
		r.settle()
		l.last, l.end = id, end
		return nil
	}
	tail, err := r.settleLast(end)
	if err != nil {
		return err
	}
	l.last, l.end = id, tail
	if seg.info.Guessed {
		return seg.file.Sync() // not one to append to
	}
	if tail < size {
		if err := seg.file.Truncate(tail); err != nil {
			return err
		}
	}
	// What a killed process left in the page cache is about to be built upon.
	if err := seg.file.Sync(); err != nil {
		return err
	}
	keep = true
	l.active = seg
	return nil
}

// take adds what was scanned to the open batch, settling that first when a new
// one begins.
func (r *recovery) take(it scanned) {
	if it.bad != nil && it.Batch == 0 {
		r.items = append(r.items, it) // whose it was the next record tells
		return
	}
	if it.Batch != r.batch {
		begin := it.off - int64(it.BatchOff)
		var mine []scanned
		if n := len(r.items); n > 0 && r.items[n-1].Batch == 0 {
			gap := r.items[n-1]
			if gap.off >= begin {
				mine = append(mine, gap)
				r.items = r.items[:n-1]
			} else if gap.off+gap.length > begin {
				mine = append(mine, scanned{off: begin, length: gap.off + gap.length - begin, bad: gap.bad})
				r.items[n-1].length = begin - gap.off
			}
		}
		r.settle()
		r.items, r.batch = mine, it.Batch
	}
	r.log.batch = max(r.log.batch, it.Batch)
	r.items = append(r.items, it)
}

// settle applies a batch that was acknowledged. What is damaged in it is lost
// and reported.
func (r *recovery) settle() {
	for _, it := range r.items {
		if it.bad != nil {
			r.log.report(Damage{File: r.file, Offset: it.off, Length: it.length, What: it.bad.Error()})
			r.lost += it.length
			continue
		}
		if it.Type == recordTx {
			if _, err := r.apply(it, nil); err != nil {
				r.log.report(Damage{File: r.file, Offset: it.off, Length: it.length, What: err.Error()})
				r.lost += it.length
			}
		}
	}
	r.items = nil
	if int64(r.log.touched) >= r.log.opt.FlushMessages {
		// All of this batch was durable before the next one was written.
		r.log.grown()
	}
}

// settleLast applies the last batch of the log and returns where the log ends.
// A transaction in it counts when it and every body it stored are whole.
// Remains of others are cut off at the end and marked as holes before it.
func (r *recovery) settleLast(end int64) (int64, error) {
	buf := make([]byte, storedBlock)
	whole := map[int64]bool{}
	for i, it := range r.items {
		if it.bad == nil && it.Type.holdsOctets() {
			if err := verifyBlob(r.seg, it, buf); err != nil {
				r.items[i].bad = err
				continue
			}
			whole[it.off] = true
		}
	}
	for i, it := range r.items {
		if it.bad == nil && it.Type == recordTx {
			if _, err := r.apply(it, whole); err != nil {
				r.items[i].bad = err
			}
		}
	}
	for n := len(r.items); n > 0 && r.items[n-1].bad != nil; n-- {
		it := r.items[n-1]
		r.torn(it)
		end = it.off
		r.items = r.items[:n-1]
	}
	for _, it := range r.items {
		if it.bad == nil {
			continue
		}
		r.torn(it)
		if it.length < recordHeader {
			continue // cannot be: records are at least a header apart
		}
		hole := record{Type: recordHole, Len: it.length - recordHeader, Batch: r.batch}
		head := make([]byte, recordHeader)
		hole.put(head, r.seg.info.Marker)
		if _, err := r.seg.file.WriteAt(head, it.off); err != nil {
			return 0, err
		}
	}
	r.items = nil
	return end, nil
}

// torn reports remains of the last batch. Nothing in it was acknowledged,
// unless the disk is to blame: a few numbers are passed over in case it is.
func (r *recovery) torn(it scanned) {
	r.log.report(Damage{File: r.file, Offset: it.off, Length: it.length, What: "torn: " + it.bad.Error(), Tail: true})
	r.lost += min(it.length, maxTornLost)
}

// apply decodes a transaction and makes it part of the index. With whole set,
// bodies in this segment behind the start of the batch must be among them.
func (r *recovery) apply(it scanned, whole map[int64]bool) (*transaction, error) {
	t, err := decodeTransaction(it.payload, r.log.ix.flags.intern)
	if err != nil {
		return nil, err
	}
	begin := it.off - int64(it.BatchOff)
	check := func(ref BodyRef) error {
		r.refer(ref)
		if whole != nil && ref.Size > 0 && ref.Segment == r.seg.info.ID && ref.Offset >= begin && !whole[ref.Offset] {
			return fmt.Errorf("the body at octet %d did not become durable", ref.Offset)
		}
		return nil
	}
	for _, o := range t.Ops {
		switch o := o.(type) {
		case *opAdd:
			for _, m := range o.Messages {
				if err := errors.Join(check(m.Head), check(m.Body)); err != nil {
					return nil, err
				}
			}
		case *opQueue:
			if err := check(o.Entry.Body); err != nil {
				return nil, err
			}
		case *opMoved:
			for _, m := range o.Moves {
				if err := check(m.To); err != nil {
					return nil, err
				}
			}
		}
	}
	r.log.lsn = max(r.log.lsn, t.LSN)
	for _, o := range t.Ops {
		if r.failed == nil {
			r.failed = r.need(o, t.LSN)
		}
	}
	if r.failed != nil {
		return t, nil // all of it is done again without the file
	}
	r.log.ix.apply(t)
	r.log.touched += t.touches()
	return t, nil
}

// need has the mailboxes in memory whose messages an operation changes.
func (r *recovery) need(o op, lsn uint64) error {
	var boxes []uint32
	switch o := o.(type) {
	case *opFlags:
		boxes = append(boxes, o.Box)
	case *opExpunge:
		boxes = append(boxes, o.Box)
	case *opMoved:
		for _, b := range o.Boxes {
			boxes = append(boxes, b.Box)
		}
	}
	a := r.log.ix.lookup(o.owner())
	if a == nil || a.lsn >= lsn {
		return nil // applied already, or to a mailbox that this transaction makes
	}
	for _, id := range boxes {
		if m := a.boxes[id]; m != nil {
			if err := r.log.load(a, m); err != nil {
				return err
			}
			r.log.idle.add(a, m)
		}
	}
	return nil
}

func (r *recovery) refer(ref BodyRef) {
	if ref.Size > 0 {
		r.maxID = max(r.maxID, ref.Segment)
	}
}

// skipLost makes sure that nothing given out by a lost transaction is given out
// again: n octets cannot have held more UIDs or modseqs than this.
func (l *Log) skipLost(n int64) {
	n = n/16 + 1
	for _, a := range l.ix.accounts {
		a.modseq += ModSeq(n)
		a.lastID += uint32(n)
		a.dirty = true
		for _, m := range a.boxes {
			m.dirty = true
			m.uidNext += UID(min(n, int64(^uint32(0)-uint32(m.uidNext))))
			m.highest = a.modseq
		}
	}
	l.lsn += uint64(n)
	l.batch += uint64(n)
}

// tidy removes what no transaction took, large bodies and log segments that
// were never begun, and reports segments that are missing. With damaged, some of the
// log was lost: a body that nothing refers to may be of a message in it, and is kept.
func (l *Log) tidy(damaged bool) error {
	l.ix.refs.takeDead()
	for _, id := range l.seg.ids(kindLog) {
		if id >= l.last || l.ix.refs.of(id) != 0 {
			continue
		}
		if _, size, err := l.inspect(id); errors.Is(err, errHeader) && size <= segmentHeader {
			if err := l.seg.remove(id); err != nil {
				return err
			}
		}
	}
	for _, id := range l.seg.ids(kindBody) {
		if l.ix.refs.of(id) != 0 {
			continue
		}
		if damaged {
			l.report(Damage{File: filepath.Join("log", segmentName(id, kindKept)), What: "a large body that no message refers to is kept for salvage", Tail: true})
			if err := l.seg.keep(id); err != nil {
				return err
			}
			continue
		}
		if err := l.seg.remove(id); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.ix.refs.n)) {
		if l.seg.kindOf(id) == 0 {
			l.report(Damage{File: filepath.Join("log", fmt.Sprintf("%016x", id)),
				What: fmt.Sprintf("the segment is missing; %d messages or parts of them were in it", l.ix.refs.n[id])})
		}
	}
	return l.fs.SyncDir(l.seg.dir)
}
