package store

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
)

// Rebuild writes both checkpoints anew from what the log and the newest whole
// checkpoint say, which Open has put together.
func (l *Log) Rebuild(ctx context.Context) error {
	for range 2 {
		if err := l.checkpointNow(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Accounts returns the names of all accounts, sorted.
func (l *Log) Accounts(ctx context.Context) ([]string, error) {
	if l.closed() {
		return nil, ErrClosed
	}
	l.ix.mu.RLock()
	defer l.ix.mu.RUnlock()
	return slices.Sorted(maps.Keys(l.ix.accounts)), nil
}

// Unreferenced visits the stored octets that no message and no queue entry
// refers to and that match their checksums: of messages that were expunged, or
// whose place in a mailbox was lost to damage; also header lines that were added
// at delivery. An error of visit ends it.
func (l *Log) Unreferenced(ctx context.Context, visit func(ref BodyRef, r io.Reader) error) error {
	used := map[BodyRef]bool{}
	if err := l.eachHolder(ctx, func(h holder) { used[h.ref] = true }); err != nil {
		return err
	}
	for _, k := range []segmentKind{kindLog, kindBody} {
		ids := l.seg.ids(k)
		slices.Sort(ids)
		for _, id := range ids {
			if err := l.unreferencedIn(ctx, id, used, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Log) unreferencedIn(ctx context.Context, id uint64, used map[BodyRef]bool, visit func(BodyRef, io.Reader) error) (err error) {
	seg, err := l.seg.acquire(id)
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNoMessage) {
		return nil // nothing in it can be told apart, or it has gone
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.seg.release(seg)) }()
	end, err := seg.file.Size()
	if err != nil {
		return err
	}
	sc := &scanner{r: seg.file, marker: seg.info.Marker, pos: segmentHeader, end: end}
	buf := make([]byte, blobBlock)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		it, err := sc.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		ref := BodyRef{Segment: id, Offset: it.off, Size: it.Len}
		if it.bad != nil || it.Type != recordBlob || used[ref] || verifyBlob(seg, it.off, it.Len, buf) != nil {
			continue
		}
		r, err := l.newReader(nil, ref)
		if err != nil {
			continue // found damaged between two looks
		}
		if err := errors.Join(visit(ref, r), r.Close()); err != nil {
			return err
		}
	}
}
