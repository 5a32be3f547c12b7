package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"mailform/server/store"
)

// purge deletes the mail of mailboxes that were removed long ago.
type purge struct {
	d *daemon

	mu   sync.Mutex
	gone []string // whose mail is deleted
}

func newPurge(d *daemon) *purge { return &purge{d: d} }

// look deletes the mail of those whose time is over as of now, which is what is
// believed; the zero time is over for nobody. A mailbox that is served is never
// touched, whatever the list says.
func (p *purge) look(ctx context.Context, now time.Time) {
	// A mailbox that comes back just now is not emptied behind its back.
	p.d.reloading.Lock()
	defer p.d.reloading.Unlock()
	s := p.d.state.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	var gone []string
	for _, r := range s.retained {
		if _, served := s.directory.Lookup(r.Address); served {
			continue
		}
		if empty(ctx, p.d.store, r.Address) { // erased, or found so after a restart
			gone = append(gone, r.Address)
			continue
		}
		if now.IsZero() || !r.Expired(now) {
			continue
		}
		if err := p.d.store.EmptyAccount(ctx, r.Address); err != nil {
			p.d.log.Error("the mail of a removed mailbox is not deleted", "mailbox", r.Address, "err", err)
			continue
		}
		p.d.log.Info("the mail of a removed mailbox is deleted", "mailbox", r.Address, "removed", r.Since)
		gone = append(gone, r.Address)
	}
	slices.Sort(gone)
	p.gone = gone
}

// purged lists those whose mail is deleted.
func (p *purge) purged() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.gone)
}

// empty reports whether an account has no mailbox at all.
func empty(ctx context.Context, st store.Store, account string) bool {
	list, err := st.Mailboxes(ctx, account)
	return err != nil && errors.Is(err, store.ErrNoMailbox) || err == nil && len(list) == 0
}
