package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"mailform/server/store/kv"
)

// The index file has the index as of a place in the log, so that a start reads
// the accounts and mailboxes only, and memory need not have all messages. It is
// derived: whatever is wrong with it, it is made anew from the newest checkpoint
// and the log. So it is in no backup, and mailformds that do not know it pass over
// it: when they have written a checkpoint, it is out of date and made anew.
//
// All of it that belongs together is of one moment of its account, in one
// transaction with the place. As in a checkpoint an account may be newer than the
// place says, and knows by its log sequence number what not to apply again.
//
// Values have checksums of their own (kv). So that no old value is taken for a
// new one, should the disk bring one back, the state has the sum of the checksums
// of all that is read at start, and each mailbox that of its blocks.
type indexFile struct {
	db  *kv.DB
	err atomic.Pointer[error] // why it is not used any more

	behind atomic.Bool // it does not have all that is durable

	turn sync.Mutex // held by a flush from before its place is taken; never by the commit loop

	mu  sync.Mutex // held by a flush
	sum uint32     // of what is read at start
	lsn uint64     // the highest that it has
}

// indexName is the file's name in the store's directory.
const indexName = "index.db"

// The buckets. Accounts, annotations, mailboxes and the queue are read at start.
const (
	inState       = "state"
	inAccounts    = "accounts"
	inAnnotations = "annotations"
	inMailboxes   = "mailboxes"
	inMessages    = "messages"
	inVanished    = "vanished"
	inQueue       = "queue"
)

// indexVersion is the layout of the file. One of another is made anew.
const indexVersion = 2

// errIndex says why the index file cannot be used.
var errIndex = errors.New("the index file is of no use")

// Mapped is an FS with files that can be mapped into memory: only with one that is
// is there an index file; with others all of the index is in memory.
type Mapped interface {
	FS
	// MapPath is the file's name for the operating system.
	MapPath(name string) string
}

// indexPath returns where the index file is; "" when there is none.
func (l *Log) indexPath() string {
	if fs, ok := l.fs.(Mapped); ok {
		return fs.MapPath(filepath.Join(l.dir, indexName))
	}
	return ""
}

// openIndex opens the index file, making it anew when it is damaged. Without one
// the store works as well, with more memory.
func (l *Log) openIndex() *indexFile {
	path := l.indexPath()
	if path == "" {
		return nil
	}
	db, err := kv.Open(path)
	if errors.Is(err, kv.ErrDamaged) {
		l.report(Damage{File: indexName, What: err.Error() + "; it is made anew", Tail: true})
		if err = kv.Remove(path); err == nil {
			db, err = kv.Open(path)
		}
	}
	if err != nil {
		l.opt.Logger.Warn("store: the index file cannot be opened; the whole index is kept in memory", "err", err)
		return nil
	}
	return &indexFile{db: db}
}

// renewIndex replaces the index file, and the index in memory, by empty ones.
func (l *Log) renewIndex() error {
	file := l.ix.file.Load()
	l.ix = newIndex()
	if file == nil {
		return nil
	}
	path := file.db.Path()
	if err := errors.Join(file.close(), kv.Remove(path)); err != nil {
		return err
	}
	l.ix.file.Store(l.openIndex())
	return nil
}

func (f *indexFile) close() error {
	if err := f.db.Close(); !errors.Is(err, kv.ErrDamaged) {
		return err
	}
	return nil // it has been reported, and goes
}

// failIndex gives the file up: what is in memory goes on working, and mend makes
// another file.
func (l *Log) failIndex(err error) error {
	f := l.ix.file.Load()
	if f == nil {
		return err
	}
	why := fmt.Errorf("%w: %s: %w", ErrDamaged, indexName, err)
	if f.err.CompareAndSwap(nil, &why) {
		l.report(Damage{File: indexName, What: err.Error() + "; it is made anew"})
		// Should that fail, the next start does it.
		if err := kv.Remove(f.db.Path()); err != nil {
			l.opt.Logger.Error("store: remove the damaged index file", "err", err)
		}
		l.wake()
	}
	return why
}

// view reads the file; without one tx is nil.
func (l *Log) view(f func(tx *kv.Tx) error) error {
	file := l.ix.file.Load()
	if file == nil {
		return f(nil)
	}
	if err := file.err.Load(); err != nil {
		return *err
	}
	err := file.db.View(f)
	if errors.Is(err, kv.ErrDamaged) || errors.Is(err, errIndex) {
		return l.failIndex(err)
	}
	return err
}

// boxKey is the key of a mailbox, and the prefix of those of its blocks.
func boxKey(account string, id uint32) []byte {
	k := binary.BigEndian.AppendUint16(nil, uint16(len(account)))
	return binary.BigEndian.AppendUint32(append(k, account...), id)
}

func blockKey(box []byte, number uint32) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(box), number)
}

// parseBoxKey is the other way round.
func parseBoxKey(k []byte) (account string, id uint32, ok bool) {
	if len(k) < 6 || int(binary.BigEndian.Uint16(k)) != len(k)-6 {
		return "", 0, false
	}
	return string(k[2 : len(k)-4]), binary.BigEndian.Uint32(k[len(k)-4:]), true
}

// indexState is the record of the state bucket.
type indexState struct {
	place  place
	marker uint64 // of the place's segment
	lsn    uint64 // the highest of an account or the queue
	sum    uint32
}

func (s *indexState) encode(e *encoder) {
	e.byte(indexVersion)
	for _, v := range []uint64{s.place.segment, uint64(s.place.offset), s.place.lsn, s.place.batch, s.place.next, s.marker, s.lsn, uint64(s.sum)} {
		e.uint(v)
	}
}

func (s *indexState) decode(d *decoder) {
	if d.byte() != indexVersion {
		d.fail()
	}
	s.place = place{segment: d.uint(), offset: d.size(), lsn: d.uint(), batch: d.uint(), next: d.uint()}
	s.marker, s.lsn, s.sum = d.uint(), d.uint(), d.uint32()
}

// boxSums is what a mailbox's record begins with: the sum of its blocks'
// checksums, and the checksum of what has vanished.
type boxSums struct{ blocks, gone uint32 }

const boxSumsSize = 8

func (s boxSums) put(b []byte) {
	binary.LittleEndian.PutUint32(b, s.blocks)
	binary.LittleEndian.PutUint32(b[4:], s.gone)
}

func readBoxSums(b []byte) (s boxSums, err error) {
	if len(b) == 0 {
		return s, nil // a mailbox that has not been written yet
	}
	if len(b) < boxSumsSize {
		return s, fmt.Errorf("%w: a mailbox is cut off", errIndex)
	}
	return boxSums{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])}, nil
}

// encodeHead writes all of a mailbox that is always in memory. The sums are put
// into the octets it begins with later.
func (m *mailbox) encodeHead() []byte {
	e := &encoder{b: make([]byte, boxSumsSize, 200)}
	e.string(m.name)
	e.string(m.specialUse)
	for _, v := range []uint64{uint64(m.uidNext), uint64(m.highest), uint64(m.count), uint64(m.unseen), uint64(m.deleted), uint64(m.bytes), uint64(len(m.keywords))} {
		e.uint(v)
	}
	for _, k := range slices.Sorted(maps.Keys(m.keywords)) {
		e.string(k)
		e.uint(uint64(m.keywords[k]))
	}
	e.uint(uint64(len(m.segs)))
	for _, id := range slices.Sorted(maps.Keys(m.segs)) {
		e.uint(id)
		e.uint(uint64(m.segs[id]))
	}
	return e.b
}

func (m *mailbox) decodeHead(b []byte) error {
	if len(b) < boxSumsSize {
		return errMalformed
	}
	d := &decoder{b: b[boxSumsSize:]}
	m.name, m.specialUse = d.string(), d.string()
	m.uidNext, m.highest = UID(d.uint32()), ModSeq(d.uint())
	m.count, m.unseen, m.deleted, m.bytes = d.uint32(), d.uint32(), d.uint32(), d.size()
	for range d.count() {
		if m.keywords == nil {
			m.keywords = map[string]int{}
		}
		k := d.string()
		m.keywords[k] = int(d.uint32())
	}
	for range d.count() {
		if m.segs == nil {
			m.segs = map[uint64]int64{}
		}
		id := d.uint()
		m.segs[id] = d.size()
	}
	m.dirty = false
	return d.err
}

func (a *account) encodeHead() []byte {
	e := &encoder{}
	e.int(a.quota)
	e.uint(uint64(a.modseq))
	e.uint(uint64(a.lastID))
	e.uint(a.lsn)
	e.strings(slices.Sorted(maps.Keys(a.subs)))
	return e.b
}

func (a *account) decodeHead(b []byte) error {
	d := &decoder{b: b}
	a.quota, a.modseq, a.lastID, a.lsn = d.int(), ModSeq(d.uint()), d.uint32(), d.uint()
	for _, s := range d.strings() {
		a.subs[s] = true
	}
	return d.err
}

func (v *vanished) encode(e *encoder) {
	e.uint(uint64(v.floor))
	e.uint(uint64(len(v.runs)))
	for _, r := range v.runs {
		e.uint(uint64(r.modseq))
		e.uids(r.uids)
	}
}

func (v *vanished) decode(d *decoder) {
	v.floor = ModSeq(d.uint())
	for range d.count() {
		modseq := ModSeq(d.uint())
		uids := d.uids()
		v.runs = append(v.runs, vanishedRun{modseq, uids})
		v.uids += len(uids)
	}
}

// loadIndex fills the index from the file, and returns the place that replay
// starts at. errIndex says that the file is of no use, and why.
func (l *Log) loadIndex(newest place) (at place, err error) {
	file := l.ix.file.Load()
	var st indexState
	err = l.ix.file.Load().db.View(func(tx *kv.Tx) error {
		b, err := tx.Get(inState, []byte(inState))
		if err != nil {
			return err
		}
		if b == nil {
			return fmt.Errorf("%w: it was not finished", errIndex)
		}
		d := &decoder{b: b}
		if st.decode(d); d.err != nil {
			return fmt.Errorf("%w: it is of another version", errIndex)
		}
		// At the same place a checkpoint may know of numbers that were passed over.
		if st.place.segment < newest.segment || st.place.segment == newest.segment && (st.place.offset < newest.offset || st.place.lsn < newest.lsn) {
			return fmt.Errorf("%w: it is older than the newest checkpoint", errIndex)
		}
		if err := l.verifyPlace(st); err != nil {
			return fmt.Errorf("%w: %w", errIndex, err)
		}
		file.sum, file.lsn = 0, st.lsn
		for _, part := range []struct {
			bucket string
			take   func(ix *index, k, v []byte) error
		}{{inAccounts, (*index).takeAccount}, {inAnnotations, (*index).takeAnnotations}, {inMailboxes, (*index).takeMailbox}, {inQueue, (*index).takeQueued}} {
			if err := l.takeAll(tx, part.bucket, part.take); err != nil {
				return err
			}
		}
		if file.sum != st.sum {
			return fmt.Errorf("%w: its parts are not of one moment", errIndex)
		}
		return nil
	})
	return st.place, err
}

// takeAll has take put all of a bucket into the index.
func (l *Log) takeAll(tx *kv.Tx, bucket string, take func(ix *index, k, v []byte) error) error {
	return tx.Scan(bucket, nil, func(k, v []byte) error {
		l.ix.file.Load().sum += sumOf(bucket, k, v)
		if err := take(l.ix, k, v); err != nil {
			return fmt.Errorf("%w: %s %q: %w", errIndex, bucket, k, err)
		}
		return nil
	})
}

// sumOf is the share of a value in the state's sum.
func sumOf(bucket string, k, v []byte) uint32 {
	return checksum(slices.Concat([]byte(bucket), k, v))
}

func (ix *index) takeAccount(k, v []byte) error {
	a := newAccount(string(k))
	ix.accounts[a.name] = a
	return a.decodeHead(v)
}

func (ix *index) takeAnnotations(k, v []byte) error {
	a := ix.accounts[string(k)]
	if a == nil {
		return errMalformed
	}
	d := &decoder{b: v}
	for range d.count() {
		o := new(opMeta)
		o.decode(d)
		a.applyMeta(o)
	}
	a.metaDirty = false
	return d.err
}

func (ix *index) takeMailbox(k, v []byte) error {
	name, id, ok := parseBoxKey(k)
	a := ix.accounts[name]
	if !ok || a == nil {
		return errMalformed
	}
	m := newMailbox(id, "")
	if err := m.decodeHead(v); err != nil {
		return err
	}
	if a.names[m.name] != nil {
		return errMalformed
	}
	a.boxes[id], a.names[m.name] = m, m
	a.bytes += m.bytes
	a.count += int64(m.count)
	ix.refs.mailbox(m, 1)
	return nil
}

func (ix *index) takeQueued(k, v []byte) error {
	d := &decoder{b: v}
	if string(k) == queueHead {
		ix.queueLSN = d.uint()
		return d.err
	}
	o := new(opQueue)
	if o.decode(d); d.err != nil {
		return d.err
	}
	e := o.Entry
	ix.queue[e.ID] = &e
	ix.refs.add(e.Body, 1)
	return nil
}

// verifyPlace says whether the log has the place that the file speaks of.
func (l *Log) verifyPlace(st indexState) error {
	if st.place.segment == 0 {
		return nil
	}
	info, size, err := l.inspect(st.place.segment)
	if err != nil {
		return fmt.Errorf("the log segment it continues with cannot be read: %w", err)
	}
	if info.Marker != st.marker {
		return errors.New("the log segment it continues with is another")
	}
	if next := l.successor(st.place.segment); next != nil {
		size = min(size, next.PrevEnd)
	}
	if st.place.offset > size {
		return errors.New("the log ends before the place it continues at")
	}
	return nil
}

// queueHead is the key of what is said of the queue as a whole; an entry's is its
// id behind a "q".
const queueHead = "head"

func queueKey(id string) []byte { return []byte("q" + id) }
