package store

import (
	"context"
	"time"
)

// Copy implements Store. A quota that the copies would exceed refuses all.
func (l *Log) Copy(ctx context.Context, account string, from Box, uids []UID, to Box) (src, dst []UID, validity uint32, err error) {
	return l.transfer(ctx, account, from, uids, to, false)
}

// Move implements Store.
func (l *Log) Move(ctx context.Context, account string, from Box, uids []UID, to Box) (src, dst []UID, validity uint32, err error) {
	return l.transfer(ctx, account, from, uids, to, true)
}

func (l *Log) transfer(ctx context.Context, account string, from Box, uids []UID, to Box, move bool) (src, dst []UID, validity uint32, err error) {
	from, err = from.clean()
	if err == nil {
		to, err = to.clean()
	}
	if err != nil {
		return nil, nil, 0, err
	}
	uids = ascending(uids)
	release, err := l.pin(account, from)
	if err != nil {
		return nil, nil, 0, err
	}
	defer release()
	err = l.do(ctx, func(t *txn) error {
		a, b, err := t.messages(account, from)
		if err != nil {
			return err
		}
		target, err := a.mustBox(to)
		if err != nil {
			return err
		}
		validity = target.id
		var size int64
		for _, uid := range uids {
			if m := b.message(uid); m != nil {
				src = append(src, uid)
				size += m.Size
			}
		}
		if !move {
			if err := t.room(a, size, int64(len(src))); err != nil {
				return err
			}
		}
		dst = t.copy(a, b, target, src, t.fit)
		if move {
			t.expunge(a, b, src)
		}
		return nil
	})
	if err != nil {
		return nil, nil, 0, err
	}
	return src, dst, validity, nil
}

// copy puts copies of messages that exist at the end of another mailbox. They
// keep flags, internal date and object id, RFC 9051 6.4.7 and RFC 8474 5.1; flags as
// far as fit leaves them.
func (t *txn) copy(a *stagedAccount, from, to *stagedBox, uids []UID, fit func(*stagedBox, []string) []string) (dst []UID) {
	for _, uid := range uids {
		m := *from.message(uid)
		m.Flags = fit(to, m.Flags)
		t.append(a, to, &m)
		dst = append(dst, m.UID)
	}
	return dst
}

// expunge removes messages that exist.
func (t *txn) expunge(a *stagedAccount, b *stagedBox, uids []UID) {
	if len(uids) == 0 {
		return
	}
	a.modseq++
	for _, uid := range uids {
		a.add(-b.message(uid).Size, -1)
		b.changed[uid] = nil
	}
	t.op(&opExpunge{a.name, b.id, a.modseq, uids})
}

// Expunge implements Store.
func (l *Log) Expunge(ctx context.Context, account string, mailbox Box, uids []UID) ([]UID, error) {
	return l.expunge(ctx, account, mailbox, uids, func(m *Message) bool { return hasFlag(m.Flags, `\Deleted`) })
}

// ExpungeOld implements Store.
func (l *Log) ExpungeOld(ctx context.Context, account string, mailbox Box, uids []UID, before time.Time) ([]UID, error) {
	if len(uids) == 0 {
		return nil, nil
	}
	return l.expunge(ctx, account, mailbox, uids, func(m *Message) bool { return m.SaveDate.Before(before) })
}

// expunge removes those of the given messages that go; nil uids means all.
func (l *Log) expunge(ctx context.Context, account string, mailbox Box, uids []UID, goes func(*Message) bool) ([]UID, error) {
	mailbox, err := mailbox.clean()
	if err != nil {
		return nil, err
	}
	all := uids == nil
	uids = ascending(uids)
	release, err := l.pin(account, mailbox)
	if err != nil {
		return nil, err
	}
	defer release()
	var out []UID
	err = l.do(ctx, func(t *txn) error {
		a, b, err := t.messages(account, mailbox)
		if err != nil {
			return err
		}
		if all {
			uids = b.uids()
		}
		for _, uid := range uids {
			if m := b.message(uid); m != nil && goes(m) {
				out = append(out, uid)
			}
		}
		t.expunge(a, b, out)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
