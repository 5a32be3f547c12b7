package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// request is one caller's transaction waiting for the commit loop.
type request struct {
	// build checks and stages the transaction; it runs in the loop.
	build func(*txn) error
	err   error
	done  chan struct{}
}

// txn is a transaction being built.
type txn struct {
	*transaction
	log   *Log
	batch *batch
	stage *stage
	now   time.Time
}

// batch is the transactions that become durable together.
type batch struct {
	stage    *stage
	buf      []byte
	requests []*request
	txns     []*transaction
	err      error // the batch cannot be written
	pinned   []func()
}

const (
	maxBatchBytes    = 4 << 20
	maxBatchRequests = 1024
	keepBuffer       = 8 << 20
	maxYields        = 4
	flushBytes       = 64 << 20 // of the log, until the index file is brought up to date
	// maxProof bounds the transactions that are read back before they are
	// written; longer ones are many of the same.
	maxProof = 64 << 10
)

// do hands a transaction to the commit loop and waits until it is durable and
// applied, or refused. Once it is handed over, ctx no longer matters: the
// caller learns what became of it.
func (l *Log) do(ctx context.Context, build func(*txn) error) error {
	r := &request{build: build, done: make(chan struct{})}
	select {
	case l.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.closing:
		return ErrClosed
	}
	<-r.done
	l.refused(r.err)
	return r.err
}

// loop is the only writer. It ends when closing is closed and what was handed
// over is answered.
func (l *Log) loop() {
	defer close(l.loopDone)
	for {
		var first *request
		select {
		case first = <-l.requests:
		case <-l.closing:
			for {
				select {
				case r := <-l.requests:
					r.err = ErrClosed
					close(r.done)
				default:
					return
				}
			}
		}
		l.commit(first)
		l.afterCommit()
	}
}

// commit makes first, and all that waits with it, durable.
func (l *Log) commit(first *request) {
	b := &batch{stage: newStage(l.ix, &l.quotas), buf: l.buf[:0]}
	l.batch++
	if err := l.ready(); err != nil {
		first.err = err
		close(first.done)
		return
	}
	l.add(b, first)
	for yields := 0; len(b.requests) < maxBatchRequests && len(b.buf) < maxBatchBytes; {
		select {
		case r := <-l.requests:
			l.add(b, r)
			continue
		default:
		}
		// Those answered with the last batch are about to come again: let them
		// run, or batches of one and of all the others take turns.
		if len(b.requests) >= l.gathered || yields == maxYields {
			break
		}
		yields++
		runtime.Gosched()
	}
	l.gathered = len(b.requests)
	err := b.err
	if err == nil && len(b.txns) > 0 {
		err = l.write(b.buf)
	}
	if err == nil {
		for _, t := range b.txns {
			l.ix.apply(t)
			l.tell(t)
			l.touched += t.touches()
		}
		l.quotas.settle(b.stage)
	}
	for _, release := range b.pinned {
		release()
	}
	for _, r := range b.requests {
		r.err = err
		close(r.done)
	}
	if l.buf = b.buf; cap(l.buf) > keepBuffer {
		l.buf = nil
	}
}

// tell passes on what a transaction did to messages.
func (l *Log) tell(t *transaction) {
	for _, o := range t.Ops {
		if o, ok := o.(*opMoved); ok {
			l.forward.add(o.Moves, l.opt.Now())
		}
		if l.opt.Changed == nil || o.owner() == "" {
			continue
		}
		switch o := o.(type) {
		case *opMoved:
			l.opt.Changed(o.Account, o.messages, true)
		case *opAdd:
			l.opt.Changed(o.Account, o.Messages, false)
		case *opExpunge, *opBoxGone:
			l.opt.Changed(o.owner(), nil, true)
		}
	}
}

// add builds one transaction into the batch. One that is refused is answered
// at once; the batch does not have it.
func (l *Log) add(b *batch, r *request) {
	mark, lsn := len(b.buf), l.lsn
	t := &txn{transaction: &transaction{LSN: lsn + 1}, log: l, batch: b, stage: b.stage, now: l.opt.Now()}
	err := r.build(t)
	if err != nil {
		b.buf = b.buf[:mark]
		r.err = err
		close(r.done)
		return
	}
	if len(t.Ops) > 0 {
		l.appendTransaction(b, t.transaction)
		l.lsn++
		b.txns = append(b.txns, t.transaction)
	}
	b.requests = append(b.requests, r)
}

func (l *Log) appendTransaction(b *batch, t *transaction) {
	start := len(b.buf)
	b.buf = append(b.buf, make([]byte, recordHeader)...)
	e := &encoder{b: b.buf}
	t.encode(e)
	b.buf = e.b
	payload := b.buf[start+recordHeader:]
	rec := record{Type: recordTx, Len: int64(len(payload)), Batch: l.batch, BatchOff: uint32(start), Sum: checksum(payload)}
	rec.put(b.buf[start:], l.active.info.Marker)
	b.pad()
	// What could not be read back would be lost without a word. The stage has it
	// already, so all of the batch fails.
	if rec.Len > maxTransaction {
		b.err = fmt.Errorf("a transaction of %d octets is too large", rec.Len)
	} else if rec.Len <= maxProof {
		if _, err := decodeTransaction(payload, nil); err != nil {
			b.err = fmt.Errorf("a transaction cannot be read back: %w", err)
		}
	}
}

func (b *batch) pad() {
	if n := int(align(int64(len(b.buf)))) - len(b.buf); n > 0 {
		b.buf = append(b.buf, make([]byte, n)...)
	}
}

// put stores octets and returns where they will be. A long body is there already.
func (t *txn) put(x *body) BodyRef {
	if x.size() == 0 {
		return BodyRef{}
	}
	if x.seg != nil {
		return x.at(x.seg.info.ID, segmentHeader)
	}
	l, b := t.log, t.batch
	start := len(b.buf)
	rec := x.rec
	rec.Batch, rec.BatchOff = l.batch, uint32(start)
	b.buf = append(b.buf, make([]byte, recordHeader)...)
	rec.put(b.buf[start:], l.active.info.Marker)
	b.buf = append(b.buf, x.data...)
	b.pad()
	return x.at(l.active.info.ID, l.end+int64(start))
}

// ready makes sure there is a segment to append to.
func (l *Log) ready() error {
	if l.active != nil && l.end < l.opt.SegmentBytes && !l.sealNext {
		return nil
	}
	var prev uint64
	if l.active != nil {
		prev = l.active.info.ID
	} else {
		prev = l.last
	}
	seg, err := l.seg.create(kindLog, prev, l.end)
	if err != nil {
		return full("start a log segment", err)
	}
	if l.active != nil {
		if err := l.seg.release(l.active); err != nil {
			l.opt.Logger.Warn("store: close a full segment", "segment", prev, "err", err)
		}
	}
	l.active, l.last, l.end, l.torn, l.sealNext = seg, seg.info.ID, segmentHeader, false, false
	return nil
}

// write appends the batch and makes it durable. After an error nothing of it
// counts: what may have reached the disk is cut off, or declared void by the
// header of the next segment.
func (l *Log) write(buf []byte) error {
	_, err := l.active.file.WriteAt(buf, l.end)
	if err != nil {
		err = full("append to the log", err)
		if terr := l.active.file.Truncate(l.end); terr == nil {
			return err
		}
		l.torn = true
	} else if err = l.active.file.Sync(); err != nil {
		// After a failed sync nobody knows what the disk has: the segment is
		// not written to again.
		err = full("sync the log", err)
		_ = l.active.file.Truncate(l.end) // best effort; the next segment's PrevEnd decides
		l.torn = true
	} else {
		l.end += int64(len(buf))
		l.written += int64(len(buf))
		l.unflushed += int64(len(buf))
		return nil
	}
	if !l.outage.On() {
		l.opt.Logger.Error("store: leaving the segment after an error", "segment", l.active.info.ID, "end", l.end, "err", err)
	}
	if rerr := l.seg.release(l.active); rerr != nil {
		l.opt.Logger.Warn("store: close the segment", "segment", l.last, "err", rerr)
	}
	l.active = nil
	return err
}

// full makes any failure of the disk an ErrFull: new work is refused, old is safe.
func full(what string, err error) error {
	if errors.Is(err, ErrFull) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrFull, what, err)
}

// afterCommit gives back what the batch no longer needs.
func (l *Log) afterCommit() {
	l.seg.retry()
	for _, id := range l.ix.refs.takeDead() {
		if l.seg.kindOf(id) != kindBody {
			continue
		}
		if err := l.seg.remove(id); err != nil {
			l.opt.Logger.Warn("store: remove the segment of an expunged message", "segment", id, "err", err)
		}
	}
	if l.ix.file.Load() != nil && (int64(l.touched) >= l.opt.FlushMessages || l.unflushed >= flushBytes) {
		l.wake()
	}
	if l.written >= l.opt.CheckpointBytes {
		l.startCheckpoint()
	}
}
