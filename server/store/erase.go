package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"time"

	"mailform/server/store/seal"
)

// Erasure is what Erase has removed, and what it found when it looked for more.
type Erasure struct {
	Account   string    `json:"account"`
	Time      time.Time `json:"time"`
	Mailboxes int       `json:"mailboxes"`
	Messages  int64     `json:"messages"`
	Octets    int64     `json:"octets"`
	Queued    int       `json:"queued"` // messages of the account's that waited to be sent, removed with it

	// Segments are the files of the log that told of the account and were removed, Freed
	// their octets and Moved what of others was copied out of them before.
	Segments int   `json:"segments"`
	Freed    int64 `json:"freed_bytes"`
	Moved    int64 `json:"moved_bytes"`
	// Waiting are those that go when a backup that reads them has ended.
	Waiting int `json:"waiting_segments"`
	// Shared are bodies that were delivered to others, too, and are theirs.
	Shared       int   `json:"shared"`
	SharedOctets int64 `json:"shared_bytes"`

	// Key says that the account had a key and that it is destroyed: what was encrypted
	// for it alone cannot be read, wherever there is a copy, but with a keyring from
	// before and the storage key of that time.
	Key bool `json:"key_destroyed,omitempty"`

	// Files, Records and Scanned are what was read again afterwards, to the last octet.
	Files   int   `json:"files_read"`
	Records int   `json:"records_read"`
	Scanned int64 `json:"octets_read"`
	// Remains is what was found of the account; with nothing in it, it is gone.
	Remains []string `json:"remains"`
}

// Clean says that nothing of the account was found.
func (e *Erasure) Clean() bool { return len(e.Remains) == 0 && e.Waiting == 0 }

// eraseRuns bounds how often what tells of an account is compacted: others may copy a
// message out of a segment that is being emptied, which keeps that from going.
const eraseRuns = 10

// Erase removes an account's mailboxes, annotations, subscriptions and queued
// messages, and every file of the log that ever told of them; what of others is in
// those is copied first. Then it reads all that is stored and says what is still
// there. Of the account stay its name and the highest numbers that it has given out,
// so that no client takes what comes later for what was.
//
// It may be called again, also for an account that has gone: what it finds then is
// what a backup had kept from going.
func (l *Log) Erase(ctx context.Context, account string, o CompactOptions) (e Erasure, err error) {
	e = Erasure{Account: account, Remains: []string{}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("erase %s: %w", account, err)
		}
	}()
	if l.opt.Keyless {
		return e, errors.New("the store was opened without its keys")
	}
	ctx, done := l.alone(ctx)
	defer done()
	boxes, err := l.Mailboxes(ctx, account)
	if errors.Is(err, ErrNoMailbox) {
		boxes, err = nil, nil // never here, or of a store that lost it
	}
	if err != nil {
		return e, err
	}
	e.Mailboxes = len(boxes)
	for _, b := range boxes {
		e.Messages += int64(b.Messages)
		e.Octets += b.Bytes
	}
	queue, err := l.Queue(ctx)
	if err != nil {
		return e, err
	}
	sent := map[string]bool{} // queue entries of the account
	for _, q := range queue {
		sent[q.ID] = q.Account == account
	}
	refs := map[placeOf]BodyRef{}
	if err := l.eachHolder(ctx, 0, func(h holder) {
		if (h.account == account || h.account == "" && sent[h.id]) && h.ref.Size > 0 {
			refs[placeOf{h.ref.Segment, h.ref.Offset}] = h.ref
		}
	}); err != nil {
		return e, err
	}
	found, err := l.fingerprints(ctx, refs)
	if err != nil {
		return e, err
	}
	ring := l.vault.ring.Load()
	e.Key = ring != nil && ring.Has(account)
	if err := l.empty(ctx, account, &e); err != nil {
		return e, err
	}
	if err := l.do(ctx, func(t *txn) error { return t.dropKey(account) }); err != nil {
		return e, err
	}
	if err := l.eachHolder(ctx, 0, func(h holder) {
		if ref, ok := refs[placeOf{h.ref.Segment, h.ref.Offset}]; ok {
			e.Shared++
			e.SharedOctets += ref.Size
			delete(refs, placeOf{ref.Segment, ref.Offset})
			delete(found, placeOf{ref.Segment, ref.Offset}) // theirs, and so are copies that compactions have left
		}
	}); err != nil {
		return e, err
	}
	prints := fingerprints{}
	for _, p := range found {
		prints[p.fingerprint] = p.hash
	}
	o.MaxCopy = 1 << 62
	for range eraseRuns {
		c, err := l.compact(ctx, o, func(ctx context.Context) ([]victim, error) { return l.telling(ctx, account, prints) })
		if err != nil {
			return e, err
		}
		e.Segments += c.Segments
		e.Freed += c.Freed
		e.Moved += c.Copied
		e.Waiting = c.Waiting
		if c.left == 0 {
			break
		}
	}
	if e.Segments == 0 { // then nothing has made the copies of the index anew
		if err := l.Rebuild(ctx); err != nil {
			return e, err
		}
	}
	if err := l.rewriteIndex(ctx); err != nil {
		return e, err
	}
	if err := l.syncRemovals(ctx); err != nil {
		return e, err
	}
	if err := l.prove(ctx, account, prints, &e); err != nil {
		return e, err
	}
	e.Time = l.opt.Now().UTC()
	l.opt.Logger.Info("store: an account was erased", "account", account, "messages", e.Messages, "octets", e.Octets,
		"segments", e.Segments, "clean", e.Clean(), "remains", len(e.Remains))
	return e, nil
}

// rewriteIndex brings the index file up to date and leaves nothing in it of what was
// there before.
func (l *Log) rewriteIndex(ctx context.Context) error {
	f := l.ix.file.Load()
	if f == nil {
		return nil
	}
	if err := l.flushNow(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.db.Rewrite()
}

// empty removes all that the index has of an account.
func (l *Log) empty(ctx context.Context, account string, e *Erasure) error {
	queue, err := l.Queue(ctx)
	if err != nil {
		return err
	}
	for _, q := range queue {
		if q.Account != account {
			continue
		}
		if err := l.RemoveQueue(ctx, q.ID); err != nil {
			return err
		}
		e.Queued++
	}
	entries, err := l.Metadata(ctx, account, "")
	if errors.Is(err, ErrNoMailbox) {
		return nil // there is no such account
	}
	if err != nil {
		return err
	}
	for i := range entries {
		entries[i].Value = nil
	}
	if len(entries) > 0 {
		if err := l.SetMetadata(ctx, account, "", entries); err != nil {
			return err
		}
	}
	return l.EmptyAccount(ctx, account)
}

// fingerprint tells whether stored octets may be the same, and their hash whether they are.
type fingerprint struct {
	kind   recordType
	stored int64
	sum    uint32
}

type fingerprints map[fingerprint][sha256.Size]byte

type print struct {
	fingerprint
	hash [sha256.Size]byte
}

// fingerprints are those of the records behind refs, with the octets' own hash.
func (l *Log) fingerprints(ctx context.Context, refs map[placeOf]BodyRef) (map[placeOf]print, error) {
	out := map[placeOf]print{}
	for at, ref := range refs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, err := l.openBlob(ref, nil)
		if err != nil {
			continue // what cannot be read is not told apart from others either
		}
		sum, err := b.hash()
		if err == nil {
			out[at] = print{b.fingerprint(), sum}
		}
		if err := l.seg.release(b.seg); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (b *blob) fingerprint() fingerprint {
	if b.coded != nil {
		return fingerprint{b.coded.kind, b.coded.length, checksum(b.coded.tail)}
	}
	return fingerprint{recordBlob, b.ref.Size, checksum(b.table)}
}

// hash is that of the octets as they are stored: no key is needed for it.
func (b *blob) hash() (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	buf := make([]byte, storedBlock)
	for i := range blocks(b.ref.Size) {
		data, err := b.stored(i, buf)
		if err != nil {
			return sum, err
		}
		h.Write(data)
	}
	h.Sum(sum[:0])
	return sum, nil
}

// telling are the log segments that may have something of the account: a transaction
// that tells of it, with which there is always the body that it is about, or octets of
// one of its messages without it. The last segment is ended, so that it can be one of
// them.
func (l *Log) telling(ctx context.Context, account string, prints fingerprints) ([]victim, error) {
	if err := l.do(ctx, func(*txn) error { l.sealNext = true; return nil }); err != nil {
		return nil, err
	}
	var last uint64
	if err := l.do(ctx, func(*txn) error { last = l.last; return nil }); err != nil {
		return nil, err
	}
	found, err := l.survey(ctx)
	if err != nil {
		return nil, err
	}
	var list []victim
	for _, id := range slices.Sorted(maps.Keys(found.live)) {
		if id >= last || l.seg.isDoomed(id) {
			continue
		}
		tells, end := 0, int64(math.MaxInt64)
		if next := l.successor(id); next != nil {
			end = next.PrevEnd
		}
		size, err := l.scanSegment(ctx, id, -1, func(_ *segment, it scanned) error {
			_, own := prints[fingerprint{it.Type, it.Len, it.Sum}]
			switch {
			case it.bad != nil, it.Type == recordHole, it.off >= end: // remains of a crash, and what is damaged, may be the account's
				tells++
			case it.Type == recordTx && tellsOf(it.payload, account, true), own:
				tells++
			}
			return nil
		})
		if errors.Is(err, ErrNoMessage) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		if tells > 0 {
			list = append(list, victim{id, size, found.live[id]})
		}
	}
	return list, nil
}

// tellsOf says whether a transaction changes the account, or holds a message that it
// has sent. One that moves a body of the queue does not say who had sent that; it does
// with moved.
func tellsOf(payload []byte, account string, moved bool) bool {
	t, err := decodeTransaction(payload, nil)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(t.Ops, func(o op) bool {
		switch o := o.(type) {
		case *opQueue:
			return o.Entry.Account == account
		case *opQueueTry:
			return o.Entry.Account == account
		case *opMoved:
			return o.Account == account || moved && o.Account == ""
		}
		return o.owner() == account
	})
}

// scanSegment visits the records of a segment up to end, or to the end of its file
// when that is negative, and returns how far it went.
func (l *Log) scanSegment(ctx context.Context, id uint64, end int64, visit func(*segment, scanned) error) (_ int64, err error) {
	seg, err := l.seg.acquire(id)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.seg.release(seg)) }()
	if end < 0 {
		if end, err = seg.file.Size(); err != nil {
			return 0, err
		}
	}
	sc := &scanner{r: seg.file, marker: seg.info.Marker, pos: segmentHeader, end: end}
	for {
		if err := ctx.Err(); err != nil {
			return end, err
		}
		it, err := sc.next()
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return end, err
		}
		if err := visit(seg, it); err != nil {
			return end, err
		}
	}
}

// maxRemains bounds what is listed.
const maxRemains = 100

// prove reads everything and notes what is still there of an account.
func (l *Log) prove(ctx context.Context, account string, prints fingerprints, e *Erasure) error {
	remains := func(format string, args ...any) {
		if len(e.Remains) < maxRemains {
			e.Remains = append(e.Remains, fmt.Sprintf(format, args...))
		}
	}
	boxes, err := l.Mailboxes(ctx, account)
	if err != nil && !errors.Is(err, ErrNoMailbox) {
		return err
	}
	if err := l.proveKey(account, e, remains); err != nil {
		return err
	}
	for _, b := range boxes {
		remains("mailbox %s with %d messages: the account is in use", b.Name, b.Messages)
	}
	used := map[placeOf]bool{}
	if err := l.eachHolder(ctx, 0, func(h holder) {
		if h.account == account && h.ref.Size > 0 {
			remains("the index refers to segment %x, offset %d", h.ref.Segment, h.ref.Offset)
		}
		used[placeOf{h.ref.Segment, h.ref.Offset}] = true
	}); err != nil {
		return err
	}
	if err := l.proveIndex(ctx, account, e, remains); err != nil {
		return err
	}
	var last uint64
	var end int64
	if err := l.do(ctx, func(*txn) error { last, end = l.last, l.end; return nil }); err != nil {
		return err
	}
	for _, k := range segmentKinds {
		ids := l.seg.ids(k)
		slices.Sort(ids)
		for _, id := range ids {
			if k == kindKept {
				remains("log/%s: a large message was kept when others were lost to damage, and whose it was cannot be told", segmentName(id, k))
			}
			limit := int64(-1)
			switch {
			case k == kindLog && id > last:
				continue // begun since
			case id == last:
				limit = end
			}
			name := "log/" + segmentName(id, k)
			n, err := l.scanSegment(ctx, id, limit, func(seg *segment, it scanned) error {
				e.Records++
				if it.bad != nil && k == kindBody && !used[placeOf{id, it.off}] {
					return nil // somebody's message, on its way in
				}
				what, err := l.remnant(seg, it, account, prints, used)
				if what != "" {
					remains("%s, octets %d to %d: %s", name, it.off, it.off+it.length, what)
				}
				return err
			})
			if errors.Is(err, ErrNoMessage) {
				continue // removed since
			}
			if errors.Is(err, ErrDamaged) {
				remains("%s: it is damaged, and what is in it cannot be told: %v", name, err)
				continue
			}
			if err != nil {
				return err
			}
			e.Files++
			e.Scanned += n
		}
	}
	return nil
}

// proveKey looks for the account's key in both files of the keyring, and in those that
// were put aside.
func (l *Log) proveKey(account string, e *Erasure, remains func(string, ...any)) error {
	aside, err := l.keyringsAside()
	if err != nil {
		return err
	}
	for _, name := range append([]string{keyringName, keyringCopy}, aside...) {
		b, err := l.readKeyring(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		e.Files++
		e.Scanned += int64(len(b))
		if bytes.Contains(b, seal.LineOf(account)) {
			remains("%s: the key of the account", name)
		}
	}
	return nil
}

// proveIndex looks for the keys of the account's mailboxes and messages in all of the
// index file, free pages too.
func (l *Log) proveIndex(ctx context.Context, account string, e *Erasure, remains func(string, ...any)) error {
	path := l.indexPath()
	if path == "" || l.ix.file.Load() == nil {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	key := boxKey(account, 0)
	key = key[:len(key)-4] // of any mailbox
	buf := make([]byte, 1<<20)
	for at, kept := int64(0), 0; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(f, buf[kept:])
		if i := bytes.Index(buf[:kept+n], key); i >= 0 {
			remains("%s, octet %d: the key of a mailbox", indexName, at+int64(i))
			return nil
		}
		e.Scanned += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			e.Files++
			return nil
		}
		if err != nil {
			return err
		}
		kept = copy(buf, buf[len(buf)-len(key):]) // it may stand across two reads
		at += int64(len(buf) - kept)
	}
}

// remnant says what of the account is in a record; "" for nothing.
func (l *Log) remnant(seg *segment, it scanned, account string, prints fingerprints, used map[placeOf]bool) (string, error) {
	switch {
	case it.bad != nil || it.Type == recordHole:
		return "damaged, and not to be told apart", nil
	case it.Type == recordTx && tellsOf(it.payload, account, false):
		return "a transaction of the account", nil
	case !it.Type.holdsOctets() || used[placeOf{seg.info.ID, it.off}]:
		return "", nil
	}
	if _, ok := prints[fingerprint{it.Type, it.Len, it.Sum}]; !ok {
		return "", nil
	}
	ref, err := refOf(seg, it)
	if err != nil {
		return "damaged, and not to be told apart", nil
	}
	b, err := l.newBlob(seg, ref)
	if err != nil {
		return "damaged, and not to be told apart", nil
	}
	sum, err := b.hash()
	if err != nil {
		return "damaged, and not to be told apart", nil
	}
	if sum != prints[b.fingerprint()] {
		return "", nil
	}
	return "octets of a message of the account, that no mailbox has", nil
}
