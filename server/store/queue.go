package store

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"mailform/server/store/seal"
)

// enqueue puts an entry into the queue. body is the delivery's,
// and prefix the entry's as it is stored.
func (t *txn) enqueue(e *QueueEntry, i int, body BodyRef, prefix []byte) {
	if e.ID == "" {
		e.ID = t.name(i)
	}
	if e.Body == (BodyRef{}) {
		e.Body = body
	}
	e.Body = t.log.forward.of(e.Body)
	if e.Queued.IsZero() {
		e.Queued = t.now
	}
	if e.NextTry.IsZero() {
		e.NextTry = e.Queued
	}
	e.Queued, e.NextTry = e.Queued.Round(0).UTC(), e.NextTry.Round(0).UTC()
	e.Attempts = countable(e.Attempts)
	e.Size = int64(len(e.Prefix)) + e.Body.Size
	own := cloneEntry(*e)
	own.Prefix = slices.Clone(prefix)
	t.stage.queue[e.ID] = &own
	t.op(&opQueue{own})
}

func countable(n int) int { return min(max(n, 0), math.MaxInt32) }

// cloneEntry gives the entry memory of its own.
func cloneEntry(e QueueEntry) QueueEntry {
	e.Recipients = slices.Clone(e.Recipients)
	e.Prefix = slices.Clone(e.Prefix)
	return e
}

// Queue implements Store.
func (l *Log) Queue(ctx context.Context) ([]QueueEntry, error) {
	if l.closed() {
		return nil, ErrClosed
	}
	l.ix.mu.RLock()
	list := make([]QueueEntry, 0, len(l.ix.queue))
	for _, e := range l.ix.queue {
		list = append(list, l.entry(*e))
	}
	l.ix.mu.RUnlock()
	slices.SortFunc(list, func(a, b QueueEntry) int {
		if c := a.NextTry.Compare(b.NextTry); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// entry is a queue entry as callers have it. When there is no key for its prefix that
// stays as it is stored, and OpenQueued says so.
func (l *Log) entry(e QueueEntry) QueueEntry {
	e = cloneEntry(e)
	if p, err := l.openPrefix(e.Prefix); err == nil {
		e.Prefix = p
		e.Size = int64(len(e.Prefix)) + e.Body.Size
	}
	return e
}

// UpdateQueue implements Store.
func (l *Log) UpdateQueue(ctx context.Context, e QueueEntry) error {
	e = cloneEntry(e)
	return l.do(ctx, func(t *txn) error {
		old := t.stage.entry(e.ID)
		if old == nil {
			return fmt.Errorf("queue entry %s: %w", e.ID, ErrNoMessage)
		}
		if e.Queued.IsZero() {
			e.Queued = old.Queued
		}
		e.Queued, e.NextTry = e.Queued.Round(0).UTC(), e.NextTry.Round(0).UTC()
		e.Attempts = countable(e.Attempts)
		e.Prefix, e.Body, e.Size = old.Prefix, old.Body, old.Size
		t.stage.queue[e.ID] = &e
		t.op(&opQueueTry{e})
		return nil
	})
}

// RemoveQueue implements Store. An entry that is gone already is no error.
func (l *Log) RemoveQueue(ctx context.Context, id string) error {
	return l.do(ctx, func(t *txn) error {
		if t.stage.entry(id) == nil {
			return nil
		}
		t.stage.queue[id] = nil
		t.op(&opUnqueue{id})
		return nil
	})
}

// OpenQueued implements Store.
func (l *Log) OpenQueued(ctx context.Context, e QueueEntry) (io.ReadCloser, error) {
	if l.closed() {
		return nil, ErrClosed
	}
	prefix, err := l.openPrefix(e.Prefix)
	if err != nil {
		return nil, fmt.Errorf("queue entry %s: its header: %w", e.ID, err)
	}
	return l.newReader(prefix, part{e.Body, &reading{account: seal.Server, part: seal.PartBody}})
}
