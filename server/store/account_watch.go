package store

import (
	"sync"
)

// Changes says what has happened to a mailbox, one bit each.
type Changes uint8

// The kinds of change. Those of names and subscriptions stand alone in a Change.
const (
	ChangedNew          Changes = 1 << iota // messages came
	ChangedGone                             // messages went
	ChangedFlags                            // of messages
	ChangedMetadata                         // an annotation was set or removed
	ChangedCreated                          // the mailbox was made
	ChangedDeleted                          // it is no more
	ChangedRenamed                          // it has another name
	ChangedSubscription                     // the name was subscribed to or not any more

	changedMessages = ChangedNew | ChangedGone | ChangedFlags
)

// Change tells what happened in an account. How a mailbox is afterwards the store
// is to be asked.
type Change struct {
	Mailbox string // "" is the account itself
	From    string // its name before it was renamed
	What    Changes
	Entries []string // names of annotations
}

// AccountWatch collects what happens in all mailboxes of an account, for sessions
// that do not have them open. What happens to the messages of one mailbox until it
// is taken becomes one Change.
type AccountWatch struct {
	close func()

	mu       sync.Mutex
	changes  []Change
	messages map[string]int // place of the change of each mailbox's messages
	overflow bool
	notify   func()
}

// maxChanges bounds how many changes a watch keeps, and maxEntries the names of
// annotations in one of them.
const (
	maxChanges = 1000
	maxEntries = 100
)

// NewAccountWatch returns a watch that a store gives out; it calls close at the end.
func NewAccountWatch(close func()) *AccountWatch { return &AccountWatch{close: close} }

// Take returns what has happened since it was last called. With overflow it was
// too much: what was not taken is forgotten.
func (w *AccountWatch) Take() (changes []Change, overflow bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changes, overflow = w.changes, w.overflow
	w.changes, w.messages, w.overflow = nil, nil, false
	return changes, overflow
}

// Notify has f called whenever Take would return something; nil ends that. f
// runs in the commit's way and must return at once.
func (w *AccountWatch) Notify(f func()) {
	w.mu.Lock()
	w.notify = f
	waiting := w.overflow || len(w.changes) > 0
	w.mu.Unlock()
	if f != nil && waiting {
		f()
	}
}

// Close ends the watch.
func (w *AccountWatch) Close() { w.close() }

// Put adds a change, in the order of commits.
func (w *AccountWatch) Put(c Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() {
		if w.notify != nil {
			w.notify()
		}
	}()
	if c.What&changedMessages != 0 {
		if i, ok := w.messages[c.Mailbox]; ok {
			w.changes[i].What |= c.What
			return
		}
	} else if n := len(w.changes); c.What == ChangedMetadata && n > 0 && w.changes[n-1].What == ChangedMetadata &&
		w.changes[n-1].Mailbox == c.Mailbox && len(w.changes[n-1].Entries) < maxEntries {
		w.changes[n-1].Entries = append(w.changes[n-1].Entries, c.Entries...)
		return
	}
	switch {
	case w.overflow:
		return
	case len(w.changes) >= maxChanges:
		w.changes, w.messages, w.overflow = nil, nil, true
		return
	case c.What&changedMessages != 0:
		if w.messages == nil {
			w.messages = map[string]int{}
		}
		w.messages[c.Mailbox] = len(w.changes)
	case c.What&(ChangedDeleted|ChangedRenamed) != 0:
		clear(w.messages) // what follows is of another mailbox of that name
	}
	w.changes = append(w.changes, c)
}

// tell tells the account's watches. The account's lock is held.
func (a *account) tell(c Change) {
	for w := range a.watches {
		w.Put(c)
	}
}

// tellMessages tells of a mailbox's messages, if there are any.
func (a *account) tellMessages(m *mailbox, what Changes, n int) {
	if n > 0 {
		a.tell(Change{Mailbox: m.name, What: what})
	}
}
