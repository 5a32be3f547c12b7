package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Check reads all that is stored and compares: every record with its checksum,
// every message with the octets it refers to, every counter with what it
// counts; and, where the keys are here, what is encrypted with who has it. It returns
// nil when all is well. It runs beside other work.
func (l *Log) Check(ctx context.Context) error {
	var errs []error
	var last uint64
	var end int64
	// The commit loop runs this between two commits, so that the index is still.
	err := l.do(ctx, func(t *txn) error {
		last, end = l.last, l.end
		refs := map[uint64]int64{}
		for _, a := range l.ix.accounts {
			errs = append(errs, l.checkAccount(a, refs)...)
		}
		for _, e := range l.ix.queue {
			if e.Body.Size > 0 {
				refs[e.Body.Segment]++
			}
		}
		if !maps.Equal(refs, l.ix.refs.n) {
			errs = append(errs, fmt.Errorf("segments in use: counted %v, kept %v", refs, l.ix.refs.n))
		}
		return nil
	})
	if err != nil {
		return err
	}
	bad := map[uint64][]stretch{}
	for _, k := range segmentKinds {
		ids := l.seg.ids(k)
		slices.Sort(ids)
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return err
			}
			limit := int64(-1)
			if l.seg.isDoomed(id) {
				continue
			} else if id == last {
				limit = end
			} else if id > last && k == kindLog {
				continue // begun since
			}
			errs = append(errs, l.checkSegment(id, k, limit, bad)...)
			if k == kindKept {
				errs = append(errs, fmt.Errorf("segment %s: a large message whose place was lost to damage; store salvage --unreferenced writes it to a file, store compact --all removes it", segmentName(id, k)))
			}
		}
	}
	errs = append(errs, l.checkKeyring()...)
	return errors.Join(append(errs, l.checkMessages(ctx, bad)...)...)
}

// checkAccount compares the account's counters with its messages, and counts those
// of each segment in refs. The commit loop calls it.
func (l *Log) checkAccount(a *account, refs map[uint64]int64) (errs []error) {
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("account %s: "+format, append([]any{a.name}, args...)...))
	}
	sum := newAccount(a.name)
	err := l.look(a, nil, nil, func(b *boxView) error {
		m := a.boxes[b.id]
		if m.id != b.id || a.names[m.name] != m {
			wrong("mailbox %s (%d) is not where its name is", m.name, b.id)
		}
		if b.id > a.lastID {
			wrong("mailbox %s has id %d, the highest is said to be %d", m.name, b.id, a.lastID)
		}
		c, in := newMailbox(b.id, m.name), refCount{n: map[uint64]int64{}}
		last := UID(0)
		if err := b.each(func(part []*Message) error {
			for _, msg := range part {
				if msg.UID <= last || msg.UID >= m.uidNext {
					wrong("mailbox %s: UID %d after %d, next %d", m.name, msg.UID, last, m.uidNext)
				}
				if msg.ModSeq > m.highest || m.highest > a.modseq {
					wrong("mailbox %s: UID %d has modseq %d, the mailbox %d, the account %d", m.name, msg.UID, msg.ModSeq, m.highest, a.modseq)
				}
				last = msg.UID
				sum.tally(c, msg, 1)
				in.message(c, msg, 1)
			}
			return nil
		}); err != nil {
			return err
		}
		if c.unseen != m.unseen || c.deleted != m.deleted || c.bytes != m.bytes || c.count != m.count {
			wrong("mailbox %s: %d messages, unseen %d, deleted %d, octets %d; counted %d, %d, %d, %d", m.name, m.count, m.unseen, m.deleted, m.bytes, c.count, c.unseen, c.deleted, c.bytes)
		}
		if !maps.Equal(c.segs, m.segs) {
			wrong("mailbox %s: segments in use: counted %v, kept %v", m.name, c.segs, m.segs)
		}
		for id, n := range c.segs {
			refs[id] += n
		}
		return nil
	})
	if err != nil {
		wrong("%w", err)
	}
	if len(a.names) != len(a.boxes) {
		wrong("%d names for %d mailboxes", len(a.names), len(a.boxes))
	}
	if sum.bytes != a.bytes || sum.count != a.count {
		wrong("%d octets in %d messages; counted %d in %d", a.bytes, a.count, sum.bytes, sum.count)
	}
	return errs
}

// checkSegment reads every record of a segment. limit is where the segment
// ends; -1 is the end of its file. What is damaged is noted in bad.
func (l *Log) checkSegment(id uint64, k segmentKind, limit int64, bad map[uint64][]stretch) (errs []error) {
	seg, err := l.seg.acquire(id)
	if err != nil {
		if errors.Is(err, ErrNoMessage) {
			return nil // removed since
		}
		return []error{err}
	}
	defer func() { errs = append(errs, l.seg.release(seg)) }()
	end, err := seg.file.Size()
	if err != nil {
		return []error{err}
	}
	if limit >= 0 {
		end = limit
	} else if next := l.successor(id); next != nil && k == kindLog {
		end = min(end, next.PrevEnd)
	}
	name := segmentName(id, k)
	if seg.info.Guessed {
		errs = append(errs, fmt.Errorf("segment %s: %w: its header", name, ErrDamaged))
	}
	sc := &scanner{r: seg.file, marker: seg.info.Marker, pos: segmentHeader, end: end}
	buf := make([]byte, storedBlock)
	for {
		it, err := sc.next()
		if errors.Is(err, io.EOF) {
			return errs
		}
		if err != nil {
			return append(errs, fmt.Errorf("segment %s: %w", name, err))
		}
		if it.bad == nil && it.Type.holdsOctets() {
			it.bad = verifyBlob(seg, it, buf)
		}
		if it.bad == nil && it.Type == recordTx {
			_, it.bad = decodeTransaction(it.payload, nil)
		}
		if it.bad != nil {
			bad[id] = append(bad[id], stretch{it.off, it.off + it.length})
			errs = append(errs, fmt.Errorf("segment %s, octets %d to %d: %w", name, it.off, it.off+it.length, it.bad))
		}
	}
}

// successor returns the header of the log segment that names id as the one before it.
func (l *Log) successor(id uint64) *segmentInfo {
	ids := l.seg.ids(kindLog)
	slices.Sort(ids)
	for _, n := range ids {
		if n <= id {
			continue
		}
		if info, _, err := l.inspect(n); err == nil && info.Prev == id {
			return &info
		}
	}
	return nil
}
