package pop3

import (
	"context"
	"fmt"

	"mailform/server/store"
)

// maildrop is an account's INBOX as it was at the login. Messages are numbered
// from 1 in the order of their UIDs.
type maildrop struct {
	box     store.Box
	msgs    store.List
	removed map[int]bool // by DELE, done at QUIT
	seen    map[int]bool // by RETR
	count   int          // of those not removed
	bytes   int64
}

func openMaildrop(ctx context.Context, s store.Store, account string) (*maildrop, error) {
	snap, watch, err := s.Open(ctx, account, "INBOX")
	if err != nil {
		return nil, err
	}
	watch.Close()
	d := &maildrop{box: snap.Info.Box(), msgs: snap.Messages, seen: map[int]bool{}}
	d.reset()
	return d, nil
}

// reset takes back every DELE, RFC 1939 section 5.
func (d *maildrop) reset() {
	d.removed, d.count, d.bytes = map[int]bool{}, d.msgs.Len(), 0
	for _, m := range d.msgs.All() {
		d.bytes += m.Size
	}
}

func (d *maildrop) stat() (count int, bytes int64) { return d.count, d.bytes }

func (d *maildrop) has(n int) bool { return n >= 1 && n <= d.msgs.Len() && !d.removed[n] }

// unique is a message's id for UIDL: it is never another's, also after restarts.
func (d *maildrop) unique(n int) string {
	return fmt.Sprintf("%d.%d", d.box.UIDValidity, d.msgs.UID(n-1))
}

func (d *maildrop) read(n int) { d.seen[n] = true }

func (d *maildrop) remove(n int) {
	d.removed[n] = true
	d.count--
	d.bytes -= d.msgs.At(n - 1).Size
}

// update is what QUIT does: messages that were read and stay become \Seen, those
// of DELE are removed. Messages that another session removed meanwhile are gone
// already, which is as well. It returns how many were removed.
func (d *maildrop) update(ctx context.Context, s store.Store, account string) (int, error) {
	uids := func(of map[int]bool, except map[int]bool) []store.UID {
		var list []store.UID
		for n, m := range d.msgs.All() {
			if of[n+1] && !except[n+1] {
				list = append(list, m.UID)
			}
		}
		return list
	}
	if read := uids(d.seen, d.removed); len(read) > 0 {
		if _, err := s.UpdateFlags(ctx, account, d.box, read, store.FlagsAdd, []string{`\Seen`}); err != nil {
			return 0, fmt.Errorf("mark what was read: %w", err)
		}
	}
	gone := uids(d.removed, nil)
	if len(gone) == 0 {
		return 0, nil
	}
	if _, err := s.UpdateFlags(ctx, account, d.box, gone, store.FlagsAdd, []string{`\Deleted`}); err != nil {
		return 0, fmt.Errorf("mark what is deleted: %w", err)
	}
	removed, err := s.Expunge(ctx, account, d.box, gone)
	return len(removed), err
}
