package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"mailform/server/store/seal"
)

// errAnother says that a mailbox is not the one any more that had its name.
var errAnother = errors.New("the mailbox is another now")

// Open implements Store.
func (l *Log) Open(ctx context.Context, account, mailbox string) (snap Snapshot, w Watch, err error) {
	for {
		if snap, w, err = l.open(account, mailbox); !errors.Is(err, errAnother) {
			return snap, w, err
		}
	}
}

func (l *Log) open(account, mailbox string) (Snapshot, Watch, error) {
	mailbox, err := cleanName(mailbox)
	if err != nil {
		return Snapshot{}, nil, fmt.Errorf("%w: %w", ErrNoMailbox, err)
	}
	a, err := l.reading(account)
	if err != nil {
		return Snapshot{}, nil, err
	}
	release, err := l.pin(account, Named(mailbox))
	if err != nil {
		return Snapshot{}, nil, err
	}
	defer release()
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.names[mailbox]
	if m == nil {
		return Snapshot{}, nil, fmt.Errorf("%s: %w", mailbox, ErrNoMailbox)
	}
	if !m.loaded {
		return Snapshot{}, nil, errAnother // renamed to this name since
	}
	w := newWatch()
	w.close = func() {
		l.forward.closed(w)
		a.mu.Lock()
		_, open := m.watches[w]
		delete(m.watches, w)
		a.mu.Unlock()
		if open {
			l.letGo(a, m)
		}
	}
	l.hold(m)
	l.forward.opened(w, l.opt.Now())
	if m.watches == nil {
		m.watches = map[*watch]bool{}
	}
	m.watches[w] = true
	return Snapshot{Info: a.info(m), Messages: m.msgs.Clone(), Keywords: slices.Sorted(maps.Keys(m.keywords))}, w, nil
}

// WatchAccount implements Store.
func (l *Log) WatchAccount(ctx context.Context, account string) (*AccountWatch, error) {
	a, err := l.reading(account)
	if err != nil {
		return nil, err
	}
	var w *AccountWatch
	w = NewAccountWatch(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watches, w)
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watches == nil {
		a.watches = map[*AccountWatch]bool{}
	}
	a.watches[w] = true
	return w, nil
}

// Read implements Store. ErrNoMessage says that the message was expunged and
// its octets have gone.
func (l *Log) Read(ctx context.Context, account string, m Message) (io.ReadCloser, error) {
	if l.closed() {
		return nil, ErrClosed
	}
	return l.newReader(nil, part{m.Head, m.reading(account, seal.PartHead)}, part{m.Body, m.reading(account, seal.PartBody)})
}

// mailbox returns a mailbox that must exist.
func (t *txn) mailbox(account string, box Box) (*stagedAccount, *stagedBox, error) {
	a, err := t.account(account)
	if err != nil {
		return nil, nil, err
	}
	b, err := a.mustBox(box)
	return a, b, err
}

// messages returns a mailbox that must exist, with its messages in memory.
func (t *txn) messages(account string, box Box) (*stagedAccount, *stagedBox, error) {
	a, b, err := t.mailbox(account, box)
	if err == nil {
		err = t.loaded(a, b)
	}
	return a, b, err
}

func ascending(uids []UID) []UID {
	uids = slices.Clone(uids)
	slices.Sort(uids)
	return slices.Compact(uids)
}

// Vanished returns the UIDs expunged from a mailbox since modseq, ascending.
// complete is false when some are no longer known, RFC 7162 3.2.10.
func (l *Log) Vanished(ctx context.Context, account string, mailbox Box, since ModSeq) (uids []UID, complete bool, err error) {
	a, err := l.reading(account)
	if err != nil {
		return nil, false, err
	}
	if mailbox, err = mailbox.clean(); err != nil {
		return nil, false, err
	}
	for {
		release, err := l.pin(account, mailbox)
		if err != nil {
			return nil, false, err
		}
		a.mu.RLock()
		m := a.find(mailbox)
		loaded := m != nil && m.loaded
		if loaded {
			uids, complete = m.gone.since(since)
		}
		a.mu.RUnlock()
		release()
		if m == nil {
			return nil, false, mailbox.missing()
		}
		if loaded {
			return uids, complete, nil
		}
	}
}
