package store

import (
	"sync"
)

// watch is a Watch on one mailbox.
type watch struct {
	ready chan struct{}
	close func()

	mu     sync.Mutex
	events []Event
	size   int // entries of events
	folded int // size when they were folded last
	closed bool
	notify func()
}

func newWatch() *watch { return &watch{ready: make(chan struct{}, 1)} }

func (w *watch) Ready() <-chan struct{} { return w.ready }

func (w *watch) Take() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	ev := w.events
	w.events, w.size, w.folded = nil, 0, 0
	select {
	case <-w.ready:
	default:
	}
	return ev
}

// Notify implements Watch.
func (w *watch) Notify(f func()) {
	w.mu.Lock()
	w.notify = f
	waiting := len(w.events) > 0
	w.mu.Unlock()
	if f != nil && waiting {
		f()
	}
}

func (w *watch) Close() {
	w.mu.Lock()
	w.closed, w.events, w.notify = true, nil, nil
	w.mu.Unlock()
	w.close()
}

func (w *watch) put(ev Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.events = append(w.events, ev)
	w.size += ev.size() + 1
	// Twice as much at least as the last time, so that folding costs little.
	if (len(w.events) >= foldEvents && w.size > foldFrom || w.size > foldMost) && w.size > 2*w.folded {
		w.events = fold(w.events)
		w.size = w.events[0].size() + w.events[1].size()
		w.folded = w.size
	}
	select {
	case w.ready <- struct{}{}:
	default:
	}
	if w.notify != nil {
		w.notify()
	}
}

// publish tells the mailbox's watches. The account's lock is held, so that a
// watch made together with a snapshot misses nothing and sees nothing twice.
func (m *mailbox) publish(ev Event) {
	if !ev.Gone && !ev.Renamed && len(ev.New) == 0 && len(ev.Changed) == 0 && len(ev.Expunged) == 0 {
		return
	}
	ev.ModSeq = max(m.highest, 1)
	for w := range m.watches {
		w.put(ev)
	}
}
