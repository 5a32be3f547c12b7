package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// specialMailboxes are what every account has, RFC 6154.
var specialMailboxes = []struct{ name, use string }{
	{"INBOX", ""},
	{"Archive", `\Archive`},
	{"Drafts", `\Drafts`},
	{"Junk", `\Junk`},
	{"Sent", `\Sent`},
	{"Trash", `\Trash`},
}

// EnsureAccount implements Store.
func (l *Log) EnsureAccount(ctx context.Context, name string, quota int64) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("account %q: %w", name, ErrName)
	}
	if l.closed() {
		return ErrClosed
	}
	if a := l.ix.lookup(name); a != nil && a.complete(quota) {
		return nil
	}
	return l.do(ctx, func(t *txn) error {
		a := t.stage.account(name)
		switch {
		case a == nil:
			a = t.stage.newAccount(name, quota)
			t.op(&opAccount{name, quota})
		case a.quota != quota:
			a.quota = quota
			t.op(&opAccount{name, quota})
		}
		uses := map[string]bool{}
		for _, n := range a.all() {
			uses[a.box(n).specialUse] = true
		}
		for _, s := range specialMailboxes {
			if a.box(s.name) != nil || s.use != "" && uses[s.use] {
				continue
			}
			t.create(a, s.name, s.use)
			t.subscribe(a, s.name, true)
		}
		return nil
	})
}

// EmptyAccount implements Store. The account itself stays, so that UIDVALIDITY goes
// on growing when it is used again. Its key does not stay: mail that comes later is
// encrypted with another one, and that of before cannot be read from copies of the disk.
func (l *Log) EmptyAccount(ctx context.Context, name string) error {
	if l.closed() {
		return ErrClosed
	}
	if l.ix.lookup(name) == nil {
		return nil
	}
	if err := l.do(ctx, func(t *txn) error {
		a := t.stage.account(name)
		if a == nil {
			return nil
		}
		for _, n := range a.all() {
			b := a.box(n)
			a.lose(b)
			a.names[n] = nil
			t.op(&opBoxGone{name, b.id})
		}
		for _, n := range a.subscriptions() {
			t.subscribe(a, n, false)
		}
		return nil
	}); err != nil {
		return err
	}
	// Only once it is durable that nothing needs the key.
	return l.do(ctx, func(t *txn) error {
		if a := t.stage.account(name); a != nil && a.count > 0 {
			return nil // it is used again already
		}
		return t.dropKey(name)
	})
}

// complete says whether EnsureAccount has nothing to do.
func (a *account) complete(quota int64) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.quota != quota {
		return false
	}
	for _, s := range specialMailboxes {
		if a.names[s.name] == nil && (s.use == "" || !a.hasUse(s.use)) {
			return false
		}
	}
	return true
}

func (a *account) hasUse(use string) bool {
	for _, m := range a.boxes {
		if m.specialUse == use {
			return true
		}
	}
	return false
}

// Usage implements Store.
func (l *Log) Usage(ctx context.Context, name string) (bytes, messages int64, err error) {
	a, err := l.reading(name)
	if err != nil {
		return 0, 0, err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.bytes, a.count, nil
}

// Quota implements Store.
func (l *Log) Quota(ctx context.Context, name string) (int64, error) {
	a, err := l.reading(name)
	if err != nil {
		return 0, err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.quota, nil
}

// Mailbox implements Store.
func (l *Log) Mailbox(ctx context.Context, account, name string) (MailboxInfo, error) {
	name, err := cleanName(name)
	if err != nil {
		return MailboxInfo{}, fmt.Errorf("%w: %w", ErrNoMailbox, err)
	}
	a, err := l.reading(account)
	if err != nil {
		return MailboxInfo{}, err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	m := a.names[name]
	if m == nil {
		return MailboxInfo{}, fmt.Errorf("%s: %w", name, ErrNoMailbox)
	}
	return a.info(m), nil
}

// reading returns the account for a read.
func (l *Log) reading(name string) (*account, error) {
	if l.closed() {
		return nil, ErrClosed
	}
	if a := l.ix.lookup(name); a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("account %s: %w", name, ErrNoMailbox)
}

// Mailboxes implements Store; they are sorted by name, INBOX first.
func (l *Log) Mailboxes(ctx context.Context, name string) ([]MailboxInfo, error) {
	a, err := l.reading(name)
	if err != nil {
		return nil, err
	}
	a.mu.RLock()
	list := make([]MailboxInfo, 0, len(a.boxes))
	for _, m := range a.boxes {
		list = append(list, a.info(m))
	}
	a.mu.RUnlock()
	slices.SortFunc(list, func(x, y MailboxInfo) int {
		if x.Name == "INBOX" || y.Name == "INBOX" {
			return strings.Compare(fmt.Sprint(x.Name != "INBOX"), fmt.Sprint(y.Name != "INBOX"))
		}
		return strings.Compare(x.Name, y.Name)
	})
	return list, nil
}

// Subscriptions implements Store.
func (l *Log) Subscriptions(ctx context.Context, name string) ([]string, error) {
	a, err := l.reading(name)
	if err != nil {
		return nil, err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Sorted(maps.Keys(a.subs)), nil
}

// CreateMailbox implements Store. Mailboxes above it are made when missing,
// RFC 9051 6.3.4.
func (l *Log) CreateMailbox(ctx context.Context, account, name, specialUse string) (info MailboxInfo, err error) {
	name, err = cleanName(name)
	if err != nil {
		return info, err
	}
	err = l.do(ctx, func(t *txn) error {
		a, err := t.account(account)
		if err != nil {
			return err
		}
		if a.box(name) != nil {
			return fmt.Errorf("%s: %w", name, ErrMailboxExists)
		}
		if err := a.roomForBox(name); err != nil {
			return err
		}
		b := t.create(a, name, specialUse)
		info = MailboxInfo{Name: name, UIDValidity: b.id, UIDNext: 1, HighestModSeq: max(a.modseq, 1),
			SpecialUse: specialUse, Subscribed: a.subscribed(name), ObjectID: objectIDOf(b.id)}
		return nil
	})
	return info, err
}

// DeleteMailbox implements Store. INBOX stays, and so does a mailbox with
// others below it (ErrHasChildren), RFC 9051 6.3.5.
func (l *Log) DeleteMailbox(ctx context.Context, account, name string) error {
	name, err := cleanName(name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoMailbox, err)
	}
	if name == "INBOX" {
		return fmt.Errorf("%w: INBOX cannot be deleted", ErrName)
	}
	return l.do(ctx, func(t *txn) error {
		a, err := t.account(account)
		if err != nil {
			return err
		}
		b, err := a.mustBox(Named(name))
		if err != nil {
			return err
		}
		if a.anyBelow(name) {
			return fmt.Errorf("%s: %w", name, ErrHasChildren)
		}
		a.lose(b)
		a.names[name] = nil
		t.op(&opBoxGone{account, b.id})
		return nil
	})
}

// RenameMailbox implements Store. Mailboxes below move along. Renaming INBOX
// moves its messages to a new mailbox and leaves INBOX, RFC 9051 6.3.6.
func (l *Log) RenameMailbox(ctx context.Context, account, from, to string) error {
	from, err := cleanName(from)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoMailbox, err)
	}
	if to, err = cleanName(to); err != nil {
		return err
	}
	if from != "INBOX" && below(to, from) {
		return fmt.Errorf("%w: %s is below %s", ErrName, to, from)
	}
	if from == "INBOX" {
		release, err := l.pin(account, Named(from))
		if err != nil {
			return err
		}
		defer release()
	}
	return l.do(ctx, func(t *txn) error {
		a, err := t.account(account)
		if err != nil {
			return err
		}
		b, err := a.mustBox(Named(from))
		if err != nil {
			return err
		}
		if a.box(to) != nil {
			return fmt.Errorf("%s: %w", to, ErrMailboxExists)
		}
		if from == "INBOX" {
			if err := a.roomForBox(to); err != nil {
				return err
			}
			if err := t.loaded(a, b); err != nil {
				return err
			}
			dst := t.create(a, to, "")
			uids := b.uids()
			t.copy(a, b, dst, uids, func(_ *stagedBox, flags []string) []string { return flags })
			t.expunge(a, b, uids)
			return nil
		}
		moves := map[string]string{from: to}
		for _, n := range a.all() {
			if !below(n, from) {
				continue
			}
			m := to + n[len(from):]
			if len(m) > maxName {
				return fmt.Errorf("%w: %s would be longer than %d octets", ErrName, n, maxName)
			}
			if a.box(m) != nil {
				return fmt.Errorf("%s: %w", m, ErrMailboxExists)
			}
			moves[n] = m
		}
		if i := strings.LastIndexByte(to, '/'); i >= 0 && a.box(to[:i]) == nil {
			if err := a.roomForBox(to[:i]); err != nil {
				return err
			}
		}
		for _, p := range parents(to) {
			if a.box(p) == nil {
				t.create(a, p, "")
			}
		}
		for _, n := range slices.Sorted(maps.Keys(moves)) {
			b := a.box(n)
			a.names[n] = nil
			b.name = moves[n]
			a.names[b.name] = b
			a.modseq++
			t.op(&opBox{account, b.id, b.name, b.specialUse, a.modseq})
		}
		return nil
	})
}

// Subscribe implements Store.
func (l *Log) Subscribe(ctx context.Context, account, name string, on bool) error {
	name, err := cleanName(name)
	if err != nil {
		return err
	}
	return l.do(ctx, func(t *txn) error {
		a, err := t.account(account)
		if err != nil {
			return err
		}
		if on {
			if err := a.roomForSubscription(name); err != nil {
				return err
			}
		}
		t.subscribe(a, name, on)
		return nil
	})
}

func (t *txn) op(o op) { t.Ops = append(t.Ops, o) }

// account returns the staged account.
func (t *txn) account(name string) (*stagedAccount, error) {
	if a := t.stage.account(name); a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("account %s: %w", name, ErrNoMailbox)
}

// create makes a mailbox that does not exist, and those above it.
func (t *txn) create(a *stagedAccount, name, specialUse string) *stagedBox {
	for _, p := range parents(name) {
		if a.box(p) == nil {
			t.create(a, p, "")
		}
	}
	// RFC 9051 2.3.1.1: a name used again must have a greater UIDVALIDITY. The
	// clock gives one that is also greater than that of a lost store.
	a.lastID = max(a.lastID+1, uint32(t.now.Unix()))
	a.modseq++
	b := &stagedBox{id: a.lastID, name: name, specialUse: specialUse, uidNext: 1, changed: map[UID]*Message{}}
	a.names[name], a.boxes[b.id] = b, b
	t.op(&opBox{a.name, b.id, name, specialUse, a.modseq})
	return b
}

func (t *txn) subscribe(a *stagedAccount, name string, on bool) {
	if a.subscribed(name) == on {
		return
	}
	a.subs[name] = on
	t.op(&opSub{a.name, name, on})
}

func objectIDOf(id uint32) string { return fmt.Sprintf("M%08x", id) }
