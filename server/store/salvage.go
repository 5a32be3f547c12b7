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
	used := map[placeOf]bool{}
	if err := l.eachHolder(ctx, 0, func(h holder) { used[placeOf{h.ref.Segment, h.ref.Offset}] = true }); err != nil {
		return err
	}
	for _, k := range segmentKinds {
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

// placeOf is where a record begins.
type placeOf struct {
	segment uint64
	offset  int64
}

func (l *Log) unreferencedIn(ctx context.Context, id uint64, used map[placeOf]bool, visit func(BodyRef, io.Reader) error) (err error) {
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
	buf := make([]byte, storedBlock)
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
		if it.bad != nil || !it.Type.holdsOctets() || used[placeOf{id, it.off}] || verifyBlob(seg, it, buf) != nil {
			continue
		}
		ref, err := refOf(seg, it)
		if err != nil {
			continue
		}
		r, err := l.newReader(nil, part{ref: ref})
		if err != nil {
			continue // found damaged between two looks
		}
		if err := errors.Join(visit(ref, r), r.Close()); err != nil {
			return err
		}
	}
}
