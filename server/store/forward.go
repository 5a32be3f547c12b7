package store

import (
	"sync"
	"time"
)

// forwards leads from references that were handed out to where Compact has moved
// the octets since. It is needed for what callers hold only: the log and the
// checkpoints say themselves where everything is.
type forwards struct {
	mu      sync.Mutex
	tables  map[uint64]*forwardTable // by the segment that was left
	watches map[*watch]time.Time     // when each was opened
}

type forwardTable struct {
	last time.Time // when a body left last
	to   map[BodyRef]BodyRef
}

// add takes note of moves.
func (f *forwards) add(moves []refMove, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range moves {
		t := f.tables[m.From.Segment]
		if t == nil {
			t = &forwardTable{to: map[BodyRef]BodyRef{}}
			f.tables[m.From.Segment] = t
		}
		t.last, t.to[m.From] = now, m.To
	}
}

// of returns where the octets are now.
func (f *forwards) of(ref BodyRef) BodyRef {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		t := f.tables[ref.Segment]
		if t == nil {
			return ref
		}
		to, ok := t.to[ref]
		if !ok {
			return ref
		}
		ref = to // a segment is never moved to an older one: this ends
	}
}

func (f *forwards) opened(w *watch, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watches[w] = now
}

func (f *forwards) closed(w *watch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watches, w)
}

// prune forgets the segments that were left at least keep ago and before every
// watch that is open: who opened later was given the new references.
func (f *forwards) prune(now time.Time, keep time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := now.Add(-keep)
	for _, t := range f.watches {
		if t.Before(before) {
			before = t
		}
	}
	for id, t := range f.tables {
		if t.last.Before(before) {
			delete(f.tables, id)
		}
	}
}
