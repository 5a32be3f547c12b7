package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mailform/server/store/seal"
)

// CompactOptions bound a compaction. The zero value is ready for use.
type CompactOptions struct {
	// MaxLive is the share of a log segment's octets that may still be in use
	// for it to be compacted, 0 to 1; default 0.5. With 1 all that is stored is
	// copied, up to MaxCopy, and nothing that was expunged before is left, nor what
	// damage has cost its place in a mailbox; with less, that stays for salvage.
	MaxLive float64
	// Rate is how many octets a second are copied; 0 is no limit.
	Rate int64
	// MaxCopy is how many octets one run copies; default 64 MiB. Segments that it
	// does not reach are for the next.
	MaxCopy int64
	// Wait waits, for Rate; default by a timer.
	Wait func(context.Context, time.Duration) error
}

// Compaction is what a run has come to.
type Compaction struct {
	Time     time.Time `json:"time"`             // when it ended
	Segments int       `json:"segments"`         // log segments that were removed
	Freed    int64     `json:"freed_bytes"`      // octets of their files
	Bodies   int       `json:"moved"`            // bodies and prefixes that were copied
	Copied   int64     `json:"moved_bytes"`      // octets of those
	Damaged  int       `json:"damaged"`          // bodies that could not be copied; their segments stay
	Waiting  int       `json:"waiting_segments"` // segments of which all was copied and that a backup keeps

	left int // segments that were to go, and have a reference that is new
}

const (
	compactChunk = 512 << 10 // octets copied by one transaction
	compactCount = 512       // bodies copied by one transaction
	// forwardFor is how long a reference that was handed out before a body moved
	// is good for at least; while a watch from before is open it is longer.
	forwardFor = 24 * time.Hour
)

// Compact copies what is still in use out of log segments that are mostly dead
// and removes them: what was expunged is gone from the disk then.
//
// A body is copied by a transaction that holds its octets and says which
// messages and queue entries refer to them from now on. Wherever a crash comes,
// they refer to one of two whole copies. The old segment goes when both
// checkpoints that are kept are newer than that transaction, so that no replay
// needs it. UIDs, modseqs and object ids stay; references that were handed out
// before are followed to the copy (see Read).
func (l *Log) Compact(ctx context.Context, o CompactOptions) (Compaction, error) {
	if o.MaxLive == 0 {
		o.MaxLive = 0.5
	}
	setDefault(&o.MaxCopy, 64<<20)
	ctx, done := l.alone(ctx)
	defer done()
	c, err := l.compact(ctx, o, func(ctx context.Context) ([]victim, error) { return l.victims(ctx, o) })
	if err != nil || o.MaxLive < 1 {
		return c, err
	}
	return c, l.dropKept(ctx, &c)
}

// dropKept removes the large bodies that were kept for salvage.
func (l *Log) dropKept(ctx context.Context, c *Compaction) error {
	ids := l.seg.ids(kindKept)
	for _, id := range ids {
		size, err := l.fileSize(id, kindKept)
		if err != nil {
			return err
		}
		if err := l.seg.remove(id); err != nil {
			return err
		}
		c.Segments++
		c.Freed += size
	}
	if len(ids) == 0 {
		return nil
	}
	c.Time = l.opt.Now()
	l.compaction.note(*c)
	return l.syncRemovals(ctx)
}

// alone is called by what moves bodies; nothing else does until done is called. What
// it does with ctx ends when the store is closed.
func (l *Log) alone(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancel(ctx)
	l.compaction.mu.Lock()
	go func() {
		select {
		case <-l.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		l.compaction.mu.Unlock()
	}
}

// compact empties and removes the segments that choose names. The caller is alone.
func (l *Log) compact(ctx context.Context, o CompactOptions, choose func(context.Context) ([]victim, error)) (c Compaction, err error) {
	if o.Wait == nil {
		o.Wait = sleep
	}
	defer func() {
		if err != nil {
			if l.closed() {
				err = ErrClosed
			}
			err = fmt.Errorf("compact the store: %w", err)
		}
	}()
	l.forward.prune(l.opt.Now(), forwardFor)
	victims, err := choose(ctx)
	if err != nil || len(victims) == 0 {
		return c, err
	}
	worth := false
	for _, v := range victims {
		n := c.Bodies
		if err := l.evacuate(ctx, v, o, &c); err != nil {
			return c, err
		}
		worth = worth || c.Bodies > n || l.ix.refs.of(v.id) == 0
	}
	if worth {
		// Two of them: no replay starts before the copies any more.
		for range 2 {
			if err := l.checkpointNow(ctx); err != nil {
				return c, err
			}
		}
	}
	for _, v := range victims {
		switch {
		case l.seg.kindOf(v.id) == 0:
			c.Segments++
			c.Freed += v.size
		case l.ix.refs.of(v.id) == 0 || l.seg.isDoomed(v.id):
			c.Waiting++
		default:
			c.left++
		}
	}
	if c.Segments > 0 {
		if err := l.syncRemovals(ctx); err != nil {
			return c, err
		}
	}
	c.Time = l.opt.Now()
	if c.Segments > 0 || c.Damaged > 0 {
		l.opt.Logger.Info("store: compacted; what was expunged from the removed segments is gone", "segments", c.Segments, "freed", c.Freed,
			"moved", c.Bodies, "moved_bytes", c.Copied, "damaged", c.Damaged, "waiting", c.Waiting)
	}
	l.compaction.note(c)
	return c, nil
}

// syncRemovals makes durable that files were removed, by whoever: a power cut brings
// none of them back, nor a checkpoint that has names from before.
func (l *Log) syncRemovals(ctx context.Context) error {
	// The commit loop removes segments behind an answer, a checkpoint when it is done.
	if err := l.do(ctx, func(*txn) error { return nil }); err != nil {
		return err
	}
	l.checkpoints.mu.Lock()
	defer l.checkpoints.mu.Unlock()
	return errors.Join(l.fs.SyncDir(l.seg.dir), l.fs.SyncDir(l.checkpoints.dir))
}

// compactions is what Compact keeps between its runs.
type compactions struct {
	mu sync.Mutex // held by a run

	last struct {
		mu sync.Mutex
		c  Compaction
	}
}

func (c *compactions) note(done Compaction) {
	c.last.mu.Lock()
	defer c.last.mu.Unlock()
	c.last.c = done
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkpointNow writes a checkpoint beside the commit loop.
func (l *Log) checkpointNow(ctx context.Context) error {
	l.checkpoints.mu.Lock()
	defer l.checkpoints.mu.Unlock()
	var at place
	if err := l.do(ctx, func(*txn) error {
		l.written = 0
		at = l.place()
		return nil
	}); err != nil {
		return err
	}
	return l.writeCheckpoint(at)
}

// holder is a reference that a message or a queue entry has.
type holder struct {
	ref     BodyRef
	account string // "": the queue
	box     uint32
	uid     UID
	id      string // of the queue entry
	part    seal.Part
	object  string // the message's object id
	date    time.Time
	size    int64 // of the message
}

// reading is the holder as a reader.
func (h *holder) reading() *reading { return &reading{h.account, h.part, h.object} }

// eachHolder calls f for each reference to a segment, or for all of them with 0.
func (l *Log) eachHolder(ctx context.Context, segment uint64, f func(holder)) error {
	l.ix.mu.RLock()
	accounts := make([]*account, 0, len(l.ix.accounts))
	for _, a := range l.ix.accounts {
		accounts = append(accounts, a)
	}
	for id, e := range l.ix.queue {
		if segment == 0 || e.Body.Segment == segment {
			f(holder{ref: e.Body, id: id, part: seal.PartBody})
		}
	}
	l.ix.mu.RUnlock()
	for _, a := range accounts {
		if err := ctx.Err(); err != nil {
			return err
		}
		want := func(m *mailbox) bool { return segment == 0 || m.segs[segment] > 0 }
		if err := l.look(a, nil, want, func(b *boxView) error {
			return b.each(func(part []*Message) error {
				for _, msg := range part {
					for i, r := range [...]BodyRef{msg.Head, msg.Body} {
						if segment == 0 || r.Segment == segment {
							f(holder{ref: r, account: a.name, box: b.id, uid: msg.UID, part: [...]seal.Part{seal.PartHead, seal.PartBody}[i], object: msg.ObjectID, date: msg.InternalDate, size: msg.Size})
						}
					}
				}
				return ctx.Err()
			})
		}); err != nil {
			return err
		}
	}
	return nil
}

// evacuate copies what is in use of a segment to the end of the log.
func (l *Log) evacuate(ctx context.Context, v victim, o CompactOptions, c *Compaction) error {
	if v.live == 0 {
		return nil
	}
	var holders []holder
	if err := l.eachHolder(ctx, v.id, func(h holder) {
		if h.ref.Segment == v.id && h.ref.Size > 0 {
			holders = append(holders, h)
		}
	}); err != nil {
		return err
	}
	slices.SortFunc(holders, func(a, b holder) int {
		return cmp.Or(cmp.Compare(a.ref.Offset, b.ref.Offset), cmp.Compare(a.account, b.account), cmp.Compare(a.box, b.box), cmp.Compare(a.uid, b.uid))
	})
	for len(holders) > 0 {
		var chunk []*moving
		var size int64
		for len(holders) > 0 && size < compactChunk && len(chunk) < compactCount {
			m := &moving{from: holders[0].ref}
			for len(holders) > 0 && holders[0].ref == m.from {
				m.holders = append(m.holders, holders[0])
				holders = holders[1:]
			}
			body, err := l.carry(m.from, belongs(m.holders))
			if errors.Is(err, ErrDamaged) {
				c.Damaged++
				l.opt.Logger.Warn("store: a body cannot be moved", "segment", v.id, "offset", m.from.Offset, "err", err)
				continue
			}
			if errors.Is(err, ErrNoMessage) {
				continue // expunged since
			}
			if err != nil {
				return err
			}
			m.body = body
			size += m.from.Size
			chunk = append(chunk, m)
		}
		if len(chunk) == 0 {
			continue
		}
		if o.Rate > 0 {
			if err := o.Wait(ctx, time.Duration(float64(size)/float64(o.Rate)*float64(time.Second))); err != nil {
				return err
			}
		}
		if err := l.room(size); err != nil {
			return err
		}
		bodies, octets := 0, int64(0)
		if err := l.do(ctx, func(t *txn) error {
			bodies, octets = t.move(chunk)
			return nil
		}); err != nil {
			return err
		}
		c.Bodies += bodies
		c.Copied += octets
	}
	return nil
}

// belongs says whose octets are that these refer to, and of which message: of none in
// particular when they do not agree.
func belongs(list []holder) belonging {
	to := belonging{owners: make([]string, len(list)), part: list[0].part}
	var of *seal.Binding
	for i, h := range list {
		to.owners[i] = h.account
		if h.account == seal.Server {
			continue
		}
		switch b := bound(h.part, h.object); {
		case of == nil:
			of, to.object = &b, h.object
		case b != *of:
			to.object = ""
		}
	}
	return to
}

// carry reads a stored run of octets, to be stored elsewhere.
func (l *Log) carry(ref BodyRef, to belonging) (_ *body, err error) {
	b, err := l.openBlob(ref, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.seg.release(b.seg)) }()
	return b.body(l, to)
}

// moving is a run of octets on its way to the end of the log.
type moving struct {
	from    BodyRef
	body    *body
	holders []holder
}

// move stores the octets that are still in use anew and moves the references.
func (t *txn) move(chunk []*moving) (bodies int, octets int64) {
	ops := map[string]*opMoved{}
	for _, m := range chunk {
		if t.readable(m.body) != nil {
			continue // it was sealed for an account that was erased since
		}
		var to BodyRef
		for _, h := range m.holders {
			if !t.holds(h) {
				continue
			}
			if to.Size == 0 {
				to = t.put(m.body)
				bodies++
				octets += to.Size
			}
			o := ops[h.account]
			if o == nil {
				o = &opMoved{Account: h.account}
				ops[h.account] = o
				t.op(o)
			}
			if n := len(o.Moves); n == 0 || o.Moves[n-1].From != m.from {
				o.Moves = append(o.Moves, refMove{m.from, to})
			}
			t.refer(h, to)
			if h.account == "" {
				o.IDs = append(o.IDs, h.id)
				continue
			}
			i := slices.IndexFunc(o.Boxes, func(b movedBox) bool { return b.Box == h.box })
			if i < 0 {
				i = len(o.Boxes)
				o.Boxes = append(o.Boxes, movedBox{Box: h.box})
			}
			o.Boxes[i].UIDs = append(o.Boxes[i].UIDs, h.uid)
		}
	}
	for _, o := range ops {
		for i := range o.Boxes {
			o.Boxes[i].UIDs = ascending(o.Boxes[i].UIDs)
		}
	}
	return bodies, octets
}

// holds says whether whoever had a reference has it still.
func (t *txn) holds(h holder) bool {
	if h.account == "" {
		e := t.stage.entry(h.id)
		return e != nil && e.Body == h.ref
	}
	a, b := t.stage.boxOf(h)
	if b == nil || t.loaded(a, b) != nil {
		return false
	}
	m := b.message(h.uid)
	return m != nil && (m.Head == h.ref || m.Body == h.ref)
}

// refer has the stage know a holder's new reference.
func (t *txn) refer(h holder, to BodyRef) {
	if h.account == "" {
		e := *t.stage.entry(h.id)
		e.Body = to
		t.stage.queue[h.id] = &e
		return
	}
	_, b := t.stage.boxOf(h)
	m := *b.message(h.uid)
	m.move(h.ref, to)
	b.changed[h.uid] = &m
}

// boxOf returns the mailbox of a holder, or nil when it is gone.
func (s *stage) boxOf(h holder) (*stagedAccount, *stagedBox) {
	a := s.account(h.account)
	if a == nil {
		return nil, nil
	}
	if b := a.boxes[h.box]; b != nil {
		return a, b // one that this batch removes is passed over when it is applied
	}
	if a.base == nil || a.base.boxes[h.box] == nil {
		return nil, nil
	}
	if b := a.box(a.base.boxes[h.box].name); b != nil && b.id == h.box {
		return a, b
	}
	return nil, nil
}

// move gives the message the reference to in the place of from.
func (m *Message) move(from, to BodyRef) {
	if m.Head == from {
		m.Head = to
	}
	if m.Body == from {
		m.Body = to
	}
}
