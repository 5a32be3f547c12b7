package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Sealing is how far the encryption of a store has come that had mail before it was
// turned on.
type Sealing struct {
	On bool `json:"on"` // what comes is encrypted
	// Clear is how many octets of files hold mail in the clear: log segments with any
	// of it, as a whole, and large messages; ClearFiles counts them.
	Clear      int64 `json:"clear_octets"`
	ClearFiles int   `json:"clear_files"`
	// Stuck are those of the files that stay: something in them is damaged and cannot
	// be rewritten. Waiting are those that go when a backup that reads them has ended.
	Stuck   int `json:"stuck_files,omitempty"`
	Waiting int `json:"waiting_files,omitempty"`
	// Since is when nothing was in the clear any more, as far as this process knows.
	Since time.Time `json:"since,omitzero"`
}

// Sealed is what a run of Seal has done.
type Sealed struct {
	Keyed  []string // accounts that have a key now and had none
	Bodies int      // that were encrypted, or moved together with such
	Octets int64    // of those
	Left   Sealing  // afterwards
}

// sealing is what is known of the segments while a store is encrypted.
type sealing struct {
	mu sync.Mutex
	// clear says of segments whether anything in them is not encrypted. Those that
	// have ended do not change.
	clear map[uint64]bool
	stuck map[uint64]bool
	since time.Time
	mark  uint64 // log segments up to this one hold nothing in the clear
	read  bool   // the mark
}

// sealedMark is a file that says up to which log segment nothing is in the clear, so
// that a start does not read all of them. It may be lost.
const sealedMark = "sealed"

func (l *Log) readSealedMark() {
	s := &l.sealing
	if s.read {
		return
	}
	s.read = true
	f, err := l.fs.Open(filepath.Join(l.dir, sealedMark))
	if err != nil {
		return
	}
	defer f.Close()
	var b [25]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return
	}
	text, sum, _ := strings.Cut(string(b[:]), " ")
	if fmt.Sprintf("%08x", checksum([]byte(text))) == sum {
		_, _ = fmt.Sscanf(text, "%x", &s.mark) // else it stays 0
	}
}

// raiseSealedMark notes how far the log holds nothing in the clear.
func (l *Log) raiseSealedMark(mark uint64) {
	if mark <= l.sealing.mark || l.opt.Keyless {
		return
	}
	l.sealing.mark = mark
	text := fmt.Appendf(nil, "%016x", mark)
	if err := l.replaceFile(filepath.Join(l.dir, sealedMark), fmt.Appendf(text, " %08x", checksum(text)), false); err != nil {
		l.opt.Logger.Warn("store: note how far the log is encrypted; the next start reads it again", "err", err)
	}
}

// clearIn says whether a segment, up to end, holds octets of messages or header lines
// of the queue that are not encrypted, and whether something in it is damaged.
func (l *Log) clearIn(ctx context.Context, id uint64, k segmentKind, end int64) (found, bad bool, err error) {
	if k != kindLog {
		seg, err := l.seg.acquire(id)
		if err != nil {
			return false, false, err
		}
		var head [recordHeader]byte
		_, err = seg.file.ReadAt(head[:], segmentHeader)
		if err := errors.Join(err, l.seg.release(seg)); errors.Is(err, io.EOF) {
			return false, false, nil // on its way
		} else if err != nil {
			return false, false, err
		}
		rec, err := decodeRecord(head[:], seg.info.Marker)
		return err == nil && rec.Type != recordSealed, false, nil
	}
	_, err = l.scanSegment(ctx, id, end, func(_ *segment, it scanned) error {
		bad = bad || it.bad != nil
		found = found || it.bad == nil && (it.Type == recordBlob || it.Type == recordCoded || it.Type == recordTx && clearPrefix(it.payload))
		return nil
	})
	return found, bad, err
}

// clearPrefix says whether a transaction has header lines of the queue in the clear.
func clearPrefix(payload []byte) bool {
	t, err := decodeTransaction(payload, nil)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(t.Ops, func(o op) bool {
		q, ok := o.(*opQueue)
		return ok && isClear(q.Entry.Prefix)
	})
}

func isClear(prefix []byte) bool {
	return len(prefix) > 0 && !bytes.HasPrefix(prefix, []byte(sealedPrefix))
}

// clearSegment is a file with something in the clear.
type clearSegment struct {
	id   uint64
	kind segmentKind
	size int64
}

// clearSegments finds the files that hold something in the clear, the oldest first.
func (l *Log) clearSegments(ctx context.Context) (list []clearSegment, err error) {
	var last uint64
	var end int64
	look := func(*txn) error { last, end = l.last, l.end; return nil }
	if l.opt.Keyless { // then nobody writes
		err = look(nil)
	} else {
		err = l.do(ctx, look)
	}
	if err != nil {
		return nil, err
	}
	s := &l.sealing
	s.mu.Lock()
	defer s.mu.Unlock()
	l.readSealedMark()
	mark, whole := s.mark, true
	for _, k := range segmentKinds {
		ids := l.seg.ids(k)
		slices.Sort(ids)
		for _, id := range ids {
			if k == kindLog && (id <= s.mark || id > last) {
				continue
			}
			limit := int64(-1)
			if id == last {
				limit = end
			}
			found, known := s.clear[id]
			if !known {
				var bad bool
				found, bad, err = l.clearIn(ctx, id, k, limit)
				if errors.Is(err, ErrNoMessage) || errors.Is(err, fs.ErrNotExist) {
					continue // removed since
				}
				if errors.Is(err, ErrDamaged) {
					found, bad, err = true, true, nil // it cannot be told
				}
				if err != nil {
					return nil, err
				}
				// What could be salvaged of it goes when a person says so.
				s.stuck[id] = s.stuck[id] || found && (bad || k == kindKept)
				if id != last && (k == kindLog || found) {
					s.clear[id] = found
				}
			}
			if k == kindLog && id < last {
				if whole = whole && !found; whole {
					mark = id
				}
			}
			if !found {
				continue
			}
			size, err := l.fileSize(id, k)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			list = append(list, clearSegment{id, k, size})
		}
	}
	if l.vault.on.Load() {
		l.raiseSealedMark(mark)
	}
	for id := range s.clear {
		if l.seg.kindOf(id) == 0 {
			delete(s.clear, id)
			delete(s.stuck, id)
		}
	}
	return list, nil
}

// sealingOf says how far it has come, by the files with something in the clear.
func (l *Log) sealingOf(list []clearSegment) Sealing {
	s := &l.sealing
	s.mu.Lock()
	defer s.mu.Unlock()
	left := Sealing{On: l.vault.on.Load(), ClearFiles: len(list)}
	for _, c := range list {
		left.Clear += c.size
		switch {
		case l.seg.isDoomed(c.id):
			left.Waiting++
		case s.stuck[c.id]:
			left.Stuck++
		}
	}
	switch {
	case len(list) > 0 || !left.On:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = l.opt.Now()
	}
	left.Since = s.since
	return left
}

// Seal encrypts what was there before encryption was turned on: a part of it, as far as
// o.MaxCopy goes, at o.Rate. Log segments with anything in the clear are copied and
// removed as Compact does it; large messages are written anew one by one; header lines
// in the queue are put back encrypted. All accounts get keys, so that what is derived
// from their mail can be encrypted, too. With encryption off it does nothing.
func (l *Log) Seal(ctx context.Context, o CompactOptions) (done Sealed, err error) {
	if !l.vault.on.Load() {
		return done, nil
	}
	setDefault(&o.MaxCopy, 64<<20)
	if o.Wait == nil {
		o.Wait = sleep
	}
	ctx, over := l.alone(ctx)
	defer over()
	if done.Keyed, err = l.keyAll(); err != nil {
		return done, fmt.Errorf("encrypt the store: %w", err)
	}
	if err := l.sealQueue(ctx); err != nil {
		return done, fmt.Errorf("encrypt the queue: %w", err)
	}
	list, err := l.clearSegments(ctx)
	if err != nil {
		return done, fmt.Errorf("encrypt the store: %w", err)
	}
	had := len(list) > 0
	todo := slices.DeleteFunc(slices.Clone(list), func(c clearSegment) bool { return l.seg.isDoomed(c.id) || l.isStuck(c.id) })
	if len(todo) > 0 {
		done.Bodies, done.Octets, err = l.sealLarge(ctx, todo, &o)
		if err == nil && o.MaxCopy > 0 {
			var c Compaction
			c, err = l.sealLog(ctx, todo, o)
			done.Bodies, done.Octets = done.Bodies+c.Bodies, done.Octets+c.Copied
		}
		if err != nil {
			return done, err
		}
		if list, err = l.clearSegments(ctx); err != nil {
			return done, fmt.Errorf("encrypt the store: %w", err)
		}
	}
	done.Left = l.sealingOf(list)
	if had && len(list) == 0 {
		// The index file has what it had before in its free pages.
		if err := l.rewriteIndex(ctx); err != nil {
			return done, fmt.Errorf("write the index anew: %w", err)
		}
		l.opt.Logger.Info("store: all mail is encrypted")
	}
	return done, nil
}

func (l *Log) isStuck(id uint64) bool {
	l.sealing.mu.Lock()
	defer l.sealing.mu.Unlock()
	return l.sealing.stuck[id]
}

// keyAll gives a key to each account that has mail, and returns those that had none.
func (l *Log) keyAll() (keyed []string, err error) {
	l.ix.mu.RLock()
	for name, a := range l.ix.accounts {
		a.mu.RLock()
		if a.count > 0 {
			keyed = append(keyed, name)
		}
		a.mu.RUnlock()
	}
	l.ix.mu.RUnlock()
	slices.Sort(keyed)
	l.vault.mu.Lock()
	defer l.vault.mu.Unlock()
	keyed = slices.DeleteFunc(keyed, l.vault.ring.Load().Has)
	if err := l.addKeys(keyed...); err != nil {
		return nil, err
	}
	return keyed, nil
}

// sealQueue encrypts the header lines of what waits to be sent.
func (l *Log) sealQueue(ctx context.Context) error {
	l.ix.mu.RLock()
	var ids []string
	for id, e := range l.ix.queue {
		if isClear(e.Prefix) {
			ids = append(ids, id)
		}
	}
	l.ix.mu.RUnlock()
	for _, id := range ids {
		if err := l.do(ctx, func(t *txn) error {
			e := t.stage.entry(id)
			if e == nil || !isClear(e.Prefix) {
				return nil
			}
			sealed, err := l.sealPrefix(e.Prefix)
			if err != nil {
				return err
			}
			own := cloneEntry(*e)
			own.Prefix = sealed
			t.stage.queue[id] = &own
			t.op(&opQueue{own})
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// sealLog empties, alone, log segments of the list, as far as o.MaxCopy goes.
func (l *Log) sealLog(ctx context.Context, list []clearSegment, o CompactOptions) (Compaction, error) {
	var chosen []victim
	c, err := l.compact(ctx, o, func(ctx context.Context) ([]victim, error) {
		var last uint64
		if err := l.do(ctx, func(*txn) error {
			last = l.last
			l.sealNext = slices.ContainsFunc(list, func(c clearSegment) bool { return c.id == last })
			return nil
		}); err != nil {
			return nil, err
		}
		if err := l.do(ctx, func(*txn) error { last = l.last; return nil }); err != nil {
			return nil, err
		}
		found, err := l.survey(ctx)
		if err != nil {
			return nil, err
		}
		var sum int64
		for _, s := range list {
			if s.kind != kindLog || s.id >= last {
				continue
			}
			if sum += found.live[s.id]; sum > o.MaxCopy && len(chosen) > 0 {
				break
			}
			chosen = append(chosen, victim{s.id, s.size, found.live[s.id]})
		}
		return chosen, nil
	})
	if err != nil {
		return c, err
	}
	for _, v := range chosen {
		if c.Damaged > 0 && l.seg.kindOf(v.id) != 0 && l.ix.refs.of(v.id) > 0 {
			l.stick(v.id)
		}
	}
	return c, nil
}

// stick has a segment left alone that cannot be rewritten, until the next start.
func (l *Log) stick(id uint64) {
	l.sealing.mu.Lock()
	defer l.sealing.mu.Unlock()
	l.sealing.stuck[id] = true
}

// sealLarge, alone, writes large messages of the list anew, as far as o.MaxCopy goes, and takes
// that off it.
func (l *Log) sealLarge(ctx context.Context, list []clearSegment, o *CompactOptions) (bodies int, octets int64, err error) {
	chosen := map[uint64][]holder{}
	var sum int64
	for _, s := range list {
		if s.kind != kindBody {
			continue
		}
		if sum += s.size; sum > o.MaxCopy && len(chosen) > 0 {
			break
		}
		chosen[s.id] = nil
	}
	if len(chosen) == 0 {
		return 0, 0, nil
	}
	// Their files stay until no replay can come from before the transactions that move
	// the references.
	held := l.seg.hold(func(id uint64, _ segmentKind) bool { _, ok := chosen[id]; return ok })
	defer func() {
		l.seg.letGo(held)
		if !l.closed() {
			l.seg.retry()
		}
	}()
	if err := l.eachHolder(ctx, 0, func(h holder) {
		if list, ok := chosen[h.ref.Segment]; ok && h.ref.Size > 0 {
			chosen[h.ref.Segment] = append(list, h)
		}
	}); err != nil {
		return 0, 0, err
	}
	for _, id := range held {
		holders := chosen[id]
		if len(holders) == 0 {
			continue // expunged since, or not delivered yet
		}
		n, err := l.sealOne(ctx, holders, *o)
		if errors.Is(err, ErrDamaged) {
			l.opt.Logger.Warn("store: a large message cannot be encrypted", "segment", id, "err", err)
			l.stick(id)
			continue
		}
		if err != nil {
			return bodies, octets, fmt.Errorf("encrypt a large message: %w", err)
		}
		if n > 0 {
			bodies++
			octets += n
			o.MaxCopy -= holders[0].ref.recordSize()
		}
	}
	if bodies > 0 {
		for range 2 {
			if err := l.checkpointNow(ctx); err != nil {
				return bodies, octets, err
			}
		}
	}
	return bodies, octets, nil
}

// sealOne writes the large message anew that all these refer to.
func (l *Log) sealOne(ctx context.Context, holders []holder, o CompactOptions) (n int64, err error) {
	m := &moving{from: holders[0].ref, holders: holders}
	if o.Rate > 0 {
		if err := o.Wait(ctx, time.Duration(float64(m.from.Size)/float64(o.Rate)*float64(time.Second))); err != nil {
			return 0, err
		}
	}
	if err := l.room(m.from.Size); err != nil {
		return 0, err
	}
	slices.SortFunc(m.holders, func(a, b holder) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.box, b.box), cmp.Compare(a.uid, b.uid))
	})
	r, err := l.newReader(nil, part{ref: m.from})
	if errors.Is(err, ErrNoMessage) {
		return 0, nil // expunged since
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if m.body, err = l.spoolLong(nil, r, m.from.Size, belongs(m.holders)); err != nil {
		return 0, err
	}
	moved := 0
	if err := l.do(ctx, func(t *txn) error {
		moved, n = t.move([]*moving{m})
		return nil
	}); err != nil || moved == 0 {
		return 0, errors.Join(err, l.discard(m.body))
	}
	return n, l.keep(m.body)
}
