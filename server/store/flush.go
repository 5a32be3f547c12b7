package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mailform/server/store/kv"
)

// A flush writes what has changed since the last one to the index file, beside the
// commit loop: account by account as each is at one moment, all in one transaction.

// accountState is what a flush takes of an account.
type accountState struct {
	account *account
	lsn     uint64
	head    []byte
	meta    []byte // nil: unchanged
	removed []uint32
	boxes   []*boxState
}

// boxState is what a flush takes of a mailbox.
type boxState struct {
	box    *mailbox
	head   []byte            // nil: it has been removed since
	blocks map[uint32]*block // as they are; nil: removed
	added  List              // to one that is not loaded
	gone   []byte            // nil: unchanged
}

// flushIndex brings the index file up to date. With at the file says that it has
// everything before that place; it must have been taken between two commits, and
// nothing of it may be lost by a power cut any more.
func (l *Log) flushIndex(at *place) error {
	f := l.ix.file.Load()
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.err.Load(); err != nil {
		return *err
	}
	var marker uint64
	if at != nil && at.segment != 0 {
		seg, err := l.seg.acquire(at.segment)
		if err != nil {
			return err
		}
		marker = seg.info.Marker
		if err := l.seg.release(seg); err != nil {
			return err
		}
	}
	l.ix.mu.RLock()
	accounts := slices.SortedFunc(maps.Values(l.ix.accounts), func(a, b *account) int { return strings.Compare(a.name, b.name) })
	l.ix.mu.RUnlock()
	var states []*accountState
	for _, a := range accounts {
		if s := a.takeState(); s != nil {
			states = append(states, s)
		}
	}
	queue := l.ix.takeQueueState()
	st := indexState{lsn: max(f.lsn, queue.lsn), marker: marker}
	for _, s := range states {
		st.lsn = max(st.lsn, s.lsn)
	}
	w := &indexWriter{sum: f.sum}
	err := f.db.Update(func(tx *kv.Tx) error {
		w.tx = tx
		for _, s := range states {
			if err := w.account(s); err != nil {
				return err
			}
		}
		if err := w.queue(queue); err != nil {
			return err
		}
		if at == nil {
			// The state that is there speaks of a place before this one, and
			// accounts know what of that they have. It has to have the new sum.
			b, err := tx.Get(inState, []byte(inState))
			if err != nil || b == nil {
				return err
			}
			var old indexState
			d := &decoder{b: b}
			if old.decode(d); d.err != nil {
				return d.err
			}
			st.place, st.marker = old.place, old.marker
		} else {
			st.place = *at
		}
		st.sum = w.sum
		e := &encoder{}
		st.encode(e)
		return tx.Put(inState, []byte(inState), e.b)
	})
	if err == nil {
		f.sum, f.lsn = w.sum, st.lsn
	}
	for _, s := range states {
		l.settle(s, err == nil)
	}
	if err != nil {
		l.ix.mu.Lock()
		for id := range queue.entries {
			l.ix.tried[id] = true
		}
		l.ix.mu.Unlock()
		if errors.Is(err, kv.ErrDamaged) || errors.Is(err, errIndex) {
			return l.failIndex(err)
		}
	}
	return err
}

// takeState takes note of what has changed; nil when nothing has.
func (a *account) takeState() *accountState {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.dirty {
		return nil
	}
	s := &accountState{account: a, lsn: a.lsn, head: a.encodeHead(), removed: a.removed}
	if a.metaDirty {
		e := &encoder{}
		ops := a.metaOps()
		e.uint(uint64(len(ops)))
		for _, o := range ops {
			o.encode(e)
		}
		s.meta = e.b
	}
	a.dirty, a.metaDirty, a.removed = false, false, nil
	for _, id := range slices.Sorted(maps.Keys(a.boxes)) {
		if m := a.boxes[id]; m.dirty {
			s.boxes = append(s.boxes, m.takeState())
		}
	}
	return s
}

func (m *mailbox) takeState() *boxState {
	s := &boxState{box: m, head: m.encodeHead(), blocks: map[uint32]*block{}}
	if m.loaded {
		for n := range m.blocks {
			s.blocks[n] = m.msgs.block(n)
		}
	} else {
		s.added = m.msgs.Clone()
	}
	if m.goneDirty {
		e := &encoder{}
		m.gone.encode(e)
		s.gone = e.b
	}
	m.dirty, m.blocks, m.goneDirty, m.flushing = false, nil, false, true
	return s
}

// settle ends a flush of an account: what is in the file now need not be in memory,
// what is not is for the next flush.
func (l *Log) settle(s *accountState, written bool) {
	a := s.account
	a.mu.Lock()
	if !written {
		a.dirty, a.removed = true, append(s.removed, a.removed...)
		a.metaDirty = a.metaDirty || s.meta != nil
	}
	for _, b := range s.boxes {
		m := b.box
		m.flushing = false
		switch {
		case !written:
			m.dirty = true
			m.goneDirty = m.goneDirty || b.gone != nil
			for n := range b.blocks {
				m.markBlock(n)
			}
			for row := range b.added.Rows(0, b.added.Len()) {
				if m.loaded {
					m.mark(row.UID())
				}
			}
		case !m.loaded:
			m.msgs.drop(b.added.Len())
			if !m.goneDirty {
				m.gone, m.goneHere = vanished{}, false
			}
			a.settled++
		case m.pins == 0:
			l.idle.add(a, m)
		}
	}
	a.mu.Unlock()
}

// mark has the next flush write the block of a message; the mailbox is loaded.
func (m *mailbox) mark(uid UID) { m.markBlock(blockOf(uid)) }

func (m *mailbox) markBlock(n uint32) {
	if m.blocks == nil {
		m.blocks = map[uint32]bool{}
	}
	m.blocks[n] = true
}

// queueState is what a flush takes of the queue.
type queueState struct {
	lsn     uint64
	entries map[string]*QueueEntry // nil: removed
}

func (ix *index) takeQueueState() queueState {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	s := queueState{lsn: ix.queueLSN, entries: map[string]*QueueEntry{}}
	for id := range ix.tried {
		s.entries[id] = ix.queue[id]
	}
	ix.tried = map[string]bool{}
	return s
}

// indexWriter writes to the file and keeps the sum of what is read at start.
type indexWriter struct {
	tx  *kv.Tx
	sum uint32
}

// put sets a value that is read at start; nil removes it.
func (w *indexWriter) put(bucket string, k, v []byte) error {
	old, err := w.tx.Get(bucket, k)
	if err != nil {
		return err
	}
	if old != nil {
		w.sum -= sumOf(bucket, k, old)
	}
	if v == nil {
		return w.tx.Delete(bucket, k)
	}
	w.sum += sumOf(bucket, k, v)
	return w.tx.Put(bucket, k, v)
}

func (w *indexWriter) account(s *accountState) error {
	name := s.account.name
	if err := w.put(inAccounts, []byte(name), s.head); err != nil {
		return err
	}
	if s.meta != nil {
		if err := w.put(inAnnotations, []byte(name), s.meta); err != nil {
			return err
		}
	}
	for _, id := range s.removed {
		k := boxKey(name, id)
		err := errors.Join(w.put(inMailboxes, k, nil), w.tx.DeletePrefix(inMessages, k), w.tx.Delete(inVanished, k))
		if err != nil {
			return err
		}
	}
	for _, b := range s.boxes {
		if err := w.box(boxKey(name, b.box.id), b); err != nil {
			return err
		}
	}
	return nil
}

func (w *indexWriter) box(key []byte, s *boxState) error {
	old, err := w.tx.Get(inMailboxes, key)
	if err != nil {
		return err
	}
	sums, err := readBoxSums(old)
	if err != nil {
		return err
	}
	for _, b := range s.added.blocks {
		have, err := w.block(key, b.number)
		if err != nil {
			return err
		}
		have.join(&List{blocks: []*block{b}, starts: []int{0}, n: len(b.uids)})
		s.blocks[b.number] = have.blocks[0]
	}
	for _, n := range slices.Sorted(maps.Keys(s.blocks)) {
		if err := w.putBlock(blockKey(key, n), s.blocks[n], &sums); err != nil {
			return err
		}
	}
	if s.gone != nil {
		sums.gone = checksum(s.gone)
		if err := w.tx.Put(inVanished, key, s.gone); err != nil {
			return err
		}
	}
	sums.put(s.head)
	return w.put(inMailboxes, key, s.head)
}

// block reads a block to which messages are added.
func (w *indexWriter) block(key []byte, n uint32) (l List, err error) {
	data, err := w.tx.Get(inMessages, blockKey(key, n))
	if err != nil || data == nil {
		return l, err
	}
	b, err := decodeBlock(n, data, nil)
	if err != nil {
		return l, fmt.Errorf("%w: a block of messages: %w", errIndex, err)
	}
	l.push(b)
	return l, nil
}

func (w *indexWriter) putBlock(key []byte, b *block, sums *boxSums) error {
	old, err := w.tx.Get(inMessages, key)
	if err != nil {
		return err
	}
	if old != nil {
		sums.blocks -= checksum(old)
	}
	if b == nil {
		return w.tx.Delete(inMessages, key)
	}
	e := &encoder{}
	b.encode(e)
	sums.blocks += checksum(e.b)
	return w.tx.Put(inMessages, key, e.b)
}

func (w *indexWriter) queue(s queueState) error {
	for _, id := range slices.Sorted(maps.Keys(s.entries)) {
		var v []byte
		if entry := s.entries[id]; entry != nil {
			e := &encoder{}
			(&opQueue{Entry: *entry}).encode(e)
			v = e.b
		}
		if err := w.put(inQueue, queueKey(id), v); err != nil {
			return err
		}
	}
	if len(s.entries) == 0 {
		return nil
	}
	e := &encoder{}
	e.uint(s.lsn)
	return w.put(inQueue, []byte(queueHead), e.b)
}

// flushNow flushes up to the last commit. When it returns nil no flush of anything
// before that is under way.
func (l *Log) flushNow(ctx context.Context) error {
	f := l.ix.file.Load()
	if f == nil {
		return nil
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	for {
		var at place
		if err := l.do(ctx, func(*txn) error {
			if l.unflushed > 0 {
				f.behind.Store(true)
			}
			l.unflushed, l.touched = 0, 0
			at = l.place()
			return nil
		}); err != nil {
			return err
		}
		if !f.behind.Swap(false) {
			return nil
		}
		err := l.flushIndex(&at)
		if err == nil {
			return nil
		}
		f.behind.Store(true)
		if !errors.Is(err, ErrNoMessage) {
			return err
		}
		// A compaction has removed the segment of that place since: there is a later one.
	}
}

// touches is how many messages the transaction changes, about.
func (t *transaction) touches() (n int) {
	for _, o := range t.Ops {
		n++
		switch o := o.(type) {
		case *opAdd:
			n += len(o.Messages)
		case *opFlags:
			for _, g := range o.Groups {
				n += len(g.UIDs)
			}
		case *opExpunge:
			n += len(o.UIDs)
		case *opMoved:
			n += len(o.Moves)
		}
	}
	return n
}
