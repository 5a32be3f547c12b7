package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A checkpoint is what the index can be made from, with the log behind it, should
// the index file be lost: the index as of a place in the log, so that a start need not
// read what is before it. It is taken account by account while commits go on:
// an account may be newer in it than the place says, and knows by its log
// sequence number what replay need not apply again.
//
// The last two are kept. Log segments before the older one that hold nothing in
// use are removed; so a checkpoint that turns out damaged costs time, not mail.
type checkpoints struct {
	dir string

	mu   sync.Mutex // held while one is written
	wg   sync.WaitGroup
	last uint64 // number of the newest
	// places of the last two, older first; zero when there are fewer
	places [2]place
	done   atomic.Pointer[finished] // the newest, for who cannot wait for mu
}

// place is where replay starts after a checkpoint.
type place struct {
	segment uint64
	offset  int64
	lsn     uint64
	batch   uint64
	next    uint64 // id for the next new segment
}

func (c *checkpoints) wait() { c.wg.Wait() }

const checkpointMagic = "MFCKP\x00\x01\n"

type chunkKind uint8

const (
	chunkPlace    chunkKind = 1
	chunkAccount  chunkKind = 2
	chunkBox      chunkKind = 3 // of the account before it
	chunkMessages chunkKind = 4 // of the mailbox before it
	chunkGone     chunkKind = 5 // of the mailbox before it
	chunkQueue    chunkKind = 6
	chunkEnd      chunkKind = 7
	chunkMeta     chunkKind = 8 // of the account before it
)

func (l *Log) place() place {
	l.seg.mu.Lock()
	next := l.seg.next
	l.seg.mu.Unlock()
	return place{segment: l.last, offset: l.end, lsn: l.lsn, batch: l.batch, next: next}
}

// startCheckpoint writes a checkpoint beside the commit loop, which calls it.
func (l *Log) startCheckpoint() {
	if !l.checkpoints.mu.TryLock() {
		return
	}
	l.written = 0
	at := l.place()
	l.checkpoints.wg.Go(func() {
		defer l.checkpoints.mu.Unlock()
		if err := l.writeCheckpoint(at); err != nil {
			l.opt.Logger.Warn("store: write a checkpoint; the log keeps everything it would have held", "err", err)
		}
	})
}

// checkpoint writes one at the end; the commit loop has stopped.
func (l *Log) checkpoint() error {
	l.checkpoints.mu.Lock()
	defer l.checkpoints.mu.Unlock()
	if err := l.writeCheckpoint(l.place()); err != nil {
		return fmt.Errorf("write a checkpoint: %w", err)
	}
	return nil
}

// chunkWriter writes checksummed chunks one after the other.
type chunkWriter struct {
	f   File
	buf []byte
	off int64
	n   uint64
	err error
}

func (w *chunkWriter) put(k chunkKind, fill func(*encoder)) {
	start := len(w.buf)
	w.buf = append(w.buf, 0, 0, 0, 0, 0, 0, 0, 0, byte(k))
	e := &encoder{b: w.buf}
	if fill != nil {
		fill(e)
	}
	w.buf = e.b
	p := w.buf[start+8:]
	binary.LittleEndian.PutUint32(w.buf[start:], uint32(len(p)))
	binary.LittleEndian.PutUint32(w.buf[start+4:], checksum(p))
	w.n++
	if len(w.buf) >= 1<<20 {
		w.flush()
	}
}

func (w *chunkWriter) flush() {
	if w.err == nil && len(w.buf) > 0 {
		_, w.err = w.f.WriteAt(w.buf, w.off)
		w.off += int64(len(w.buf))
	}
	w.buf = w.buf[:0]
}

func checkpointName(n uint64) string { return fmt.Sprintf("%016x", n) }

func checkpointNumber(name string) (uint64, bool) {
	n, err := strconv.ParseUint(name, 16, 64)
	return n, err == nil && len(name) == 16
}

func (l *Log) writeCheckpoint(at place) (err error) {
	c := &l.checkpoints
	n := c.last + 1
	final := filepath.Join(c.dir, checkpointName(n))
	temp := final + ".new"
	if err := ignoreMissing(l.fs.Remove(temp)); err != nil { // of one that failed
		return err
	}
	f, err := l.fs.Create(temp)
	if err != nil {
		return err
	}
	w := &chunkWriter{f: f, buf: []byte(checkpointMagic)}
	w.put(chunkPlace, func(e *encoder) {
		e.uint(at.segment)
		e.uint(uint64(at.offset))
		e.uint(at.lsn)
		e.uint(at.batch)
		e.uint(at.next)
	})
	l.ix.mu.RLock()
	names := slices.Sorted(maps.Keys(l.ix.accounts))
	l.ix.mu.RUnlock()
	for _, name := range names {
		if err := w.account(l, l.ix.lookup(name)); err != nil {
			return errors.Join(err, f.Close(), ignoreMissing(l.fs.Remove(temp)))
		}
	}
	l.ix.mu.RLock()
	entries := slices.Collect(maps.Values(l.ix.queue))
	queueLSN := l.ix.queueLSN
	l.ix.mu.RUnlock()
	slices.SortFunc(entries, func(a, b *QueueEntry) int { return strings.Compare(a.ID, b.ID) })
	w.put(chunkQueue, func(e *encoder) {
		e.uint(queueLSN)
		e.uint(uint64(len(entries)))
		for _, q := range entries {
			(&opQueue{Entry: *q}).encode(e)
		}
	})
	count := w.n
	w.put(chunkEnd, func(e *encoder) { e.uint(count) })
	w.flush()
	err = w.err
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = l.fs.Rename(temp, final)
	}
	if err == nil {
		err = l.fs.SyncDir(c.dir)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(l.fs.Remove(temp)))
	}
	c.last = n
	c.places[0], c.places[1] = c.places[1], at
	c.done.Store(&finished{n, at}) // before anything goes that older ones need: see Image
	if err := l.removeCheckpoints(n - 1); err != nil {
		return err
	}
	return l.removeDeadSegments(c.places[0].segment)
}

// removeCheckpoints removes those before the given one, also what a power cut has
// brought back.
func (l *Log) removeCheckpoints(before uint64) error {
	names, err := l.fs.ReadDir(l.checkpoints.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if n, ok := checkpointNumber(name); ok && n < before {
			if err := ignoreMissing(l.fs.Remove(filepath.Join(l.checkpoints.dir, name))); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeDeadSegments removes log segments before the given one in which no body
// is in use. A segment's header says where the one before it ends; that is cut
// there first, if it has not been.
func (l *Log) removeDeadSegments(before uint64) error {
	ids := l.seg.ids(kindLog)
	slices.Sort(ids)
	for _, id := range ids {
		if id >= before || l.ix.refs.of(id) != 0 {
			continue
		}
		info, _, err := l.inspect(id)
		if err == nil && info.Prev != 0 && l.seg.kindOf(info.Prev) == kindLog {
			err = l.seg.cut(info.Prev, info.PrevEnd)
		}
		if err != nil && !errors.Is(err, errHeader) {
			return err
		}
		if err := l.seg.remove(id); err != nil {
			return err
		}
	}
	return nil
}

// account writes the account as it is at one moment.
func (w *chunkWriter) account(l *Log, a *account) error {
	var head account
	var subs []string
	var meta []*opMeta
	written := false
	start := func() {
		if written {
			return
		}
		written = true
		w.put(chunkAccount, func(e *encoder) {
			e.string(head.name)
			e.int(head.quota)
			e.uint(uint64(head.modseq))
			e.uint(uint64(head.lastID))
			e.uint(head.lsn)
			e.strings(subs)
		})
		for _, o := range meta {
			w.put(chunkMeta, o.encode)
		}
	}
	err := l.look(a, func() {
		head = account{name: a.name, quota: a.quota, modseq: a.modseq, lastID: a.lastID, lsn: a.lsn}
		subs = slices.Sorted(maps.Keys(a.subs))
		meta = a.metaOps()
	}, nil, func(b *boxView) error {
		start()
		w.put(chunkBox, func(e *encoder) {
			e.uint(uint64(b.id))
			e.string(b.name)
			e.string(b.specialUse)
			e.uint(uint64(b.uidNext))
			e.uint(uint64(b.highest))
		})
		if err := b.each(func(part []*Message) error {
			w.put(chunkMessages, func(e *encoder) { encodeMessages(e, part) })
			return w.err
		}); err != nil {
			return err
		}
		w.put(chunkGone, b.gone.encode)
		return w.err
	})
	start()
	return err
}

// loadCheckpoint fills the index from the newest checkpoint that is whole. The
// zero place is the start of the log.
func (l *Log) loadCheckpoint() (place, error) {
	return l.newestCheckpoint(func(name string) (place, error) {
		if err := l.renewIndex(); err != nil {
			return place{}, err
		}
		return l.readCheckpoint(name, &checkpointBuilder{ix: l.ix, grown: l.grown})
	})
}

// findCheckpoint finds the newest checkpoint that is whole.
func (l *Log) findCheckpoint() (place, error) {
	return l.newestCheckpoint(func(name string) (place, error) { return l.readCheckpoint(name, &checkpointBuilder{}) })
}

// newestCheckpoint tries the checkpoints, newest first, and removes damaged ones.
func (l *Log) newestCheckpoint(read func(name string) (place, error)) (place, error) {
	c := &l.checkpoints
	names, err := l.fs.ReadDir(c.dir)
	if err != nil {
		return place{}, err
	}
	var numbers []uint64
	for _, name := range names {
		n, ok := checkpointNumber(name)
		if !ok {
			if strings.HasSuffix(name, ".new") {
				if err := l.fs.Remove(filepath.Join(c.dir, name)); err != nil {
					return place{}, err
				}
			}
			continue
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	for i, n := range numbers {
		at, err := read(filepath.Join(c.dir, checkpointName(n)))
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				return place{}, err
			}
			name := filepath.Join("checkpoint", checkpointName(n))
			l.report(Damage{File: name, What: err.Error()})
			if err := l.fs.Remove(filepath.Join(l.dir, name)); err != nil {
				return place{}, err
			}
			continue
		}
		c.last, c.places[1] = n, at
		c.done.Store(&finished{n, at})
		if i+1 < len(numbers) {
			if older, err := l.readCheckpoint(filepath.Join(c.dir, checkpointName(numbers[i+1])), nil); err == nil {
				c.places[0] = older
			}
		}
		return at, nil
	}
	return place{}, nil
}

// readCheckpoint has a builder take a checkpoint; without one it returns the place
// and reads no further.
func (l *Log) readCheckpoint(name string, b *checkpointBuilder) (at place, err error) {
	f, err := l.fs.Open(name)
	if err != nil {
		return place{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return place{}, err
	}
	r := &chunkReader{f: f, size: size}
	if err := r.magic(); err != nil {
		return place{}, err
	}
	first := b == nil
	if first {
		b = &checkpointBuilder{}
	}
	for n := uint64(0); ; n++ {
		k, p, err := r.next()
		if err != nil {
			return place{}, err
		}
		d := &decoder{b: p}
		if b.ix != nil {
			d.intern = b.ix.flags.intern
		}
		if k == chunkEnd {
			if d.uint() != n || d.err != nil {
				return place{}, fmt.Errorf("%w: parts are missing", ErrDamaged)
			}
			return b.at, nil
		}
		b.take(k, d)
		if d.err != nil {
			return place{}, fmt.Errorf("%w: part %d: %w", ErrDamaged, n, d.err)
		}
		if first {
			return b.at, nil
		}
		if b.grown != nil && b.messages >= maxGrown {
			b.messages = 0
			b.grown()
		}
	}
}

// maxGrown is how many messages are in memory before a part of the index goes to
// the index file while it is made anew.
const maxGrown = 16 << 10

type chunkReader struct {
	f    File
	off  int64
	size int64
	buf  []byte
}

func (r *chunkReader) read(n int64) ([]byte, error) {
	if n > r.size-r.off {
		return nil, fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	if int64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	p := r.buf[:n]
	if _, err := r.f.ReadAt(p, r.off); err != nil {
		return nil, err
	}
	r.off += n
	return p, nil
}

func (r *chunkReader) magic() error {
	p, err := r.read(int64(len(checkpointMagic)))
	if err == nil && string(p) != checkpointMagic {
		err = fmt.Errorf("%w: it does not begin as a checkpoint does", ErrDamaged)
	}
	return err
}

func (r *chunkReader) next() (chunkKind, []byte, error) {
	head, err := r.read(8)
	if err != nil {
		return 0, nil, err
	}
	n, sum := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
	p, err := r.read(int64(n))
	if err != nil {
		return 0, nil, err
	}
	if len(p) == 0 || checksum(p) != sum {
		return 0, nil, fmt.Errorf("%w: a part does not match its checksum", ErrDamaged)
	}
	return chunkKind(p[0]), p[1:], nil
}

// checkpointBuilder puts chunks together again; with a nil index it looks at them
// only.
type checkpointBuilder struct {
	ix   *index
	at   place
	acc  *account
	box  *mailbox
	last UID // of the mailbox, before the next chunk of messages

	messages int
	grown    func() // called now and then, when there are many messages
}

func (b *checkpointBuilder) take(k chunkKind, d *decoder) {
	switch {
	case k == chunkPlace:
		b.at = place{segment: d.uint(), offset: d.size(), lsn: d.uint(), batch: d.uint(), next: d.uint()}
	case b.ix == nil:
	case k == chunkAccount:
		a := newAccount(d.string())
		a.quota = d.int()
		a.modseq = ModSeq(d.uint())
		a.lastID = d.uint32()
		a.lsn, a.dirty = d.uint(), true
		for _, s := range d.strings() {
			a.subs[s] = true
		}
		b.ix.accounts[a.name] = a
		b.acc, b.box = a, nil
	case k == chunkMeta && b.acc != nil:
		o := new(opMeta)
		o.decode(d)
		b.acc.applyMeta(o)
		b.acc.dirty = true
	case k == chunkBox && b.acc != nil:
		m := newMailbox(d.uint32(), d.string())
		m.specialUse = d.string()
		m.uidNext = UID(d.uint32())
		m.highest = ModSeq(d.uint())
		b.acc.boxes[m.id] = m
		b.acc.names[m.name] = m
		b.box, b.last = m, 0
		b.acc.dirty = true
	case k == chunkMessages && b.box != nil:
		for _, msg := range decodeMessages(d) {
			if b.last >= msg.UID {
				d.fail()
				return
			}
			b.last = msg.UID
			b.box.msgs.Append(msg)
			b.acc.tally(b.box, msg, 1)
			b.ix.refs.message(b.box, msg, 1)
			b.messages++
		}
		// A flush may have come since the chunk of the mailbox.
		b.acc.dirty, b.box.dirty = true, true
	case k == chunkGone && b.box != nil:
		b.box.gone.decode(d)
		b.box.goneHere, b.box.goneDirty = true, true
		b.acc.dirty, b.box.dirty = true, true
	case k == chunkQueue:
		b.ix.queueLSN = d.uint()
		for range d.count() {
			o := new(opQueue)
			o.decode(d)
			if d.err != nil {
				return
			}
			e := o.Entry
			b.ix.queue[e.ID] = &e
			b.ix.tried[e.ID] = true
			b.ix.refs.add(e.Body, 1)
		}
	default:
		d.fail()
	}
}
