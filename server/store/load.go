package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"mailform/server/store/kv"
)

// pin has a mailbox in memory until release is called. It is nothing for one that
// does not exist, about which others have to say more.
func (l *Log) pin(account string, box Box) (release func(), err error) {
	a := l.ix.lookup(account)
	if a == nil {
		return func() {}, nil
	}
	a.mu.Lock()
	m := a.find(box)
	if m != nil {
		l.hold(m)
	}
	a.mu.Unlock()
	if m == nil {
		return func() {}, nil
	}
	release = func() { l.letGo(a, m) }
	err = l.load(a, m)
	if errors.Is(err, ErrDamaged) {
		if err = l.do(context.Background(), func(*txn) error { return l.mend() }); err == nil {
			err = l.load(a, m)
		}
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// hold pins a mailbox; the account's lock is held.
func (l *Log) hold(m *mailbox) {
	m.pins++
	l.idle.remove(m)
}

func (l *Log) letGo(a *account, m *mailbox) {
	a.mu.Lock()
	m.pins--
	if m.pins == 0 && m.loaded {
		m.used = l.opt.Now()
		l.idle.add(a, m)
	}
	a.mu.Unlock()
	l.unload(time.Time{})
}

// trimAt is from how many messages on what was mapped of the index file to read a
// mailbox is given back at once, and not at the next tick: a look at all mailboxes, as
// search takes one at a start, is not to have all of the file in memory.
const trimAt = 10_000

// load reads the messages of a mailbox that is pinned, unless they are in memory.
func (l *Log) load(a *account, m *mailbox) error {
	m.loading.Lock() // one reads for all who wait
	defer m.loading.Unlock()
	for {
		a.mu.RLock()
		loaded, settled := m.loaded, a.settled
		a.mu.RUnlock()
		if loaded {
			return nil
		}
		if l.ix.file.Load() == nil {
			a.mu.Lock()
			m.loaded, m.goneHere = true, true
			a.mu.Unlock()
			return nil
		}
		var msgs List
		var gone vanished
		if err := l.view(func(tx *kv.Tx) (err error) {
			msgs, gone, err = l.readBox(tx, boxKey(a.name, m.id))
			return err
		}); err != nil {
			return err
		}
		if msgs.Len() >= trimAt {
			l.trimIndex()
		}
		if ok, err := l.install(a, m, settled, msgs, gone); ok || err != nil {
			return err
		}
	}
}

// readBox reads all of a mailbox that is in the file.
func (l *Log) readBox(tx *kv.Tx, key []byte) (msgs List, gone vanished, err error) {
	if err := l.eachBlock(tx, key, func(b *block) error {
		msgs.push(b)
		return nil
	}); err != nil {
		return List{}, gone, err
	}
	gone, err = readGone(tx, key)
	return msgs, gone, err
}

// eachBlock reads the blocks of a mailbox one after the other.
func (l *Log) eachBlock(tx *kv.Tx, key []byte, f func(*block) error) error {
	head, err := tx.Get(inMailboxes, key)
	if err != nil {
		return err
	}
	sums, err := readBoxSums(head)
	if err != nil {
		return err
	}
	var sum uint32
	if err := tx.Scan(inMessages, key, func(k, v []byte) error {
		sum += checksum(v)
		b, err := decodeBlock(binary.BigEndian.Uint32(k[len(k)-4:]), v, l.ix.flags.intern)
		if err != nil {
			return fmt.Errorf("%w: a block of messages: %w", errIndex, err)
		}
		return f(b)
	}); err != nil {
		return err
	}
	if sum != sums.blocks {
		return fmt.Errorf("%w: the messages of a mailbox are not those it should have", errIndex)
	}
	return nil
}

func readGone(tx *kv.Tx, key []byte) (gone vanished, err error) {
	head, err := tx.Get(inMailboxes, key)
	if err != nil {
		return gone, err
	}
	sums, err := readBoxSums(head)
	if err != nil {
		return gone, err
	}
	b, err := tx.Get(inVanished, key)
	if err != nil || b == nil && sums.gone == 0 {
		return gone, err
	}
	d := &decoder{b: b}
	gone.decode(d)
	if d.err != nil || checksum(b) != sums.gone {
		return gone, fmt.Errorf("%w: what has vanished from a mailbox is not what it should be", errIndex)
	}
	return gone, nil
}

// install puts what was read of a mailbox into memory, unless a flush has taken
// something out of there since settled.
func (l *Log) install(a *account, m *mailbox, settled uint64, msgs List, gone vanished) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settled != settled {
		return false, nil
	}
	n := msgs.Len()
	msgs.join(&m.msgs)
	if msgs.Len() != int(m.count) && a.boxes[m.id] == m { // one that has been removed has what there is
		return false, l.failIndex(fmt.Errorf("%w: a mailbox of %d messages has %d there", errIndex, m.count, msgs.Len()))
	}
	for row := range msgs.Rows(n, msgs.Len()) {
		m.mark(row.UID())
	}
	m.msgs, m.loaded = msgs, true
	if !m.goneHere {
		m.gone, m.goneHere = gone, true
	}
	return true, nil
}

// idle is the mailboxes that are in memory and that nobody uses.
type idle struct {
	mu    sync.Mutex
	boxes map[*mailbox]idleBox
	total int // messages
}

type idleBox struct {
	account  *account
	messages int
	used     time.Time
}

// add takes note of one; its account's lock is held.
func (i *idle) add(a *account, m *mailbox) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.total += m.msgs.Len() - i.boxes[m].messages
	i.boxes[m] = idleBox{a, m.msgs.Len(), m.used}
}

func (i *idle) remove(m *mailbox) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.total -= i.boxes[m].messages
	delete(i.boxes, m)
}

// take removes and returns the one that has been idle for longest, when there are
// more than limit messages or it has been idle since before.
func (i *idle) take(limit int, before time.Time) (*mailbox, *account) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.total <= limit && before.IsZero() {
		return nil, nil
	}
	var oldest *mailbox
	for m, b := range i.boxes {
		if oldest == nil || b.used.Before(i.boxes[oldest].used) {
			oldest = m
		}
	}
	if oldest == nil || i.total <= limit && !i.boxes[oldest].used.Before(before) {
		return nil, nil
	}
	b := i.boxes[oldest]
	i.total -= b.messages
	delete(i.boxes, oldest)
	return oldest, b.account
}

// idleFor is how long a mailbox stays in memory that nobody uses.
const idleFor = 5 * time.Minute

// unload takes mailboxes out of memory that nobody uses: beyond what may stay, and
// those that nobody has used since before. One that the file does not have as it is
// waits for the next flush.
func (l *Log) unload(before time.Time) {
	if l.ix.file.Load() == nil {
		return
	}
	for {
		m, a := l.idle.take(int(l.opt.IdleMessages), before)
		if m == nil {
			return
		}
		a.mu.Lock()
		switch {
		case m.pins > 0 || !m.loaded:
		case m.dirty || m.flushing:
			l.wake()
		default:
			m.msgs, m.loaded, m.blocks = List{}, false, nil
			m.gone, m.goneHere = vanished{}, false
			a.settled++
		}
		a.mu.Unlock()
	}
}

// boxView is a mailbox as it was at one moment, for who reads all of it.
type boxView struct {
	*mailbox // a copy without its messages
	log      *Log
	account  *account
	tx       *kv.Tx // nil when all messages are in msgs
	msgs     List
}

// each calls f with the messages in the order of their UIDs, some at a time.
func (b *boxView) each(f func([]*Message) error) error {
	rest, n := b.msgs, 0
	if b.tx != nil {
		var last *block
		if err := b.log.eachBlock(b.tx, boxKey(b.account.name, b.id), func(part *block) error {
			last, n = part, n+len(part.uids)
			return f(part.messages())
		}); err != nil {
			return err
		}
		if last != nil {
			rest.drop(rest.Index(last.uid(len(last.uids)-1) + 1))
		}
	}
	if n += rest.Len(); n != int(b.count) {
		return fmt.Errorf("%w: a mailbox of %d messages has %d", errIndex, b.count, n)
	}
	for _, part := range rest.blocks {
		if err := f(part.messages()); err != nil {
			return err
		}
	}
	return nil
}

// errSettled says that a reading of an account has to begin anew.
var errSettled = errors.New("a flush has ended meanwhile")

// look calls head with the account's lock held, and then box with each mailbox
// that want wants, all as of that moment, while other work goes on.
func (l *Log) look(a *account, head func(), want func(*mailbox) bool, box func(*boxView) error) error {
	for {
		a.mu.RLock()
		settled := a.settled
		a.mu.RUnlock()
		err := l.view(func(tx *kv.Tx) error {
			boxes, err := l.lookAt(a, tx, settled, head, want)
			if err != nil {
				return err
			}
			for _, b := range boxes {
				if err := box(b); err != nil {
					return err
				}
			}
			return nil
		})
		if !errors.Is(err, errSettled) {
			return err
		}
	}
}

func (l *Log) lookAt(a *account, tx *kv.Tx, settled uint64, head func(), want func(*mailbox) bool) ([]*boxView, error) {
	a.mu.Lock() // Lists are shared
	defer a.mu.Unlock()
	if a.settled != settled {
		return nil, errSettled // what the file did not have then, memory has no more
	}
	if head != nil {
		head()
	}
	var boxes []*boxView
	for _, id := range slices.Sorted(maps.Keys(a.boxes)) {
		m := a.boxes[id]
		if want != nil && !want(m) {
			continue
		}
		b := &boxView{log: l, account: a, msgs: m.msgs.Clone(), mailbox: &mailbox{id: m.id, name: m.name, specialUse: m.specialUse, uidNext: m.uidNext, highest: m.highest,
			count: m.count, unseen: m.unseen, deleted: m.deleted, bytes: m.bytes, gone: vanished{floor: m.gone.floor, runs: slices.Clone(m.gone.runs)}}}
		if !m.loaded {
			b.tx = tx
		}
		if !m.goneHere && tx != nil {
			var err error
			if b.gone, err = readGone(tx, boxKey(a.name, m.id)); err != nil {
				return nil, err
			}
		}
		boxes = append(boxes, b)
	}
	return boxes, nil
}

// keepIndex is the goroutine that flushes and unloads.
func (l *Log) keepIndex() {
	defer close(l.keepDone)
	ctx := context.Background()
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-l.closing:
			return
		case <-l.woken:
		case <-tick.C:
		}
		l.tendIndex(ctx)
	}
}

func (l *Log) tendIndex(ctx context.Context) {
	if l.ix.file.Load().err.Load() != nil {
		if err := l.do(ctx, func(*txn) error { return l.mend() }); err != nil && !l.closed() {
			l.opt.Logger.Warn("store: the index file is not made anew yet", "err", err)
			return
		}
	}
	if err := l.flushNow(ctx); err != nil && !l.closed() && !errors.Is(err, ErrDamaged) {
		l.opt.Logger.Warn("store: the index file could not be brought up to date; the log has everything", "err", err)
	}
	l.unload(l.opt.Now().Add(-idleFor))
	l.trimIndex()
}

// trimIndex gives back the memory of what was read of the index file.
func (l *Log) trimIndex() {
	if err := l.ix.file.Load().db.Trim(); err != nil && !errors.Is(err, kv.ErrDamaged) {
		l.opt.Logger.Warn("store: give back the memory of the index file", "err", err)
	}
}

// wake has the index file be brought up to date soon.
func (l *Log) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}
