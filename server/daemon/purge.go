package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"mailform/server/store"
)

// How often the mailboxes that were removed are looked at, and how many times one
// must be found beyond its time before its mail is deleted: a clock that is wrong
// for a while, be it by a year, deletes nothing.
const (
	purgeEvery = time.Hour
	purgeLooks = 24
)

// purge deletes the mail of mailboxes that were removed long ago.
type purge struct {
	d *daemon

	mu   sync.Mutex
	late map[string]int // by address: how often it was found beyond its time, in a row
	gone []string       // whose mail is deleted
}

func newPurge(d *daemon) *purge { return &purge{d: d, late: map[string]int{}} }

// run looks again and again until the context ends.
func (p *purge) run(ctx context.Context) error {
	tick := time.NewTicker(purgeEvery)
	defer tick.Stop()
	for {
		p.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look deletes the mail of those whose time is over. A mailbox that is served is
// never touched, whatever the list says.
func (p *purge) look(ctx context.Context) {
	// A mailbox that comes back just now is not emptied behind its back.
	p.d.reloading.Lock()
	defer p.d.reloading.Unlock()
	s, now := p.d.state.Load(), p.d.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	listed := map[string]bool{}
	var gone []string
	for _, r := range s.retained {
		if _, served := s.directory.Lookup(r.Address); served {
			continue
		}
		listed[r.Address] = true
		if !r.Expired(now) {
			delete(p.late, r.Address)
			continue
		}
		if empty(ctx, p.d.store, r.Address) { // so it was found after a restart, too
			gone = append(gone, r.Address)
			continue
		}
		if p.late[r.Address]++; p.late[r.Address] < purgeLooks {
			continue
		}
		if err := p.d.store.EmptyAccount(ctx, r.Address); err != nil {
			p.d.log.Error("the mail of a removed mailbox is not deleted", "mailbox", r.Address, "err", err)
			continue
		}
		p.d.log.Info("the mail of a removed mailbox is deleted", "mailbox", r.Address, "removed", r.Since)
		gone = append(gone, r.Address)
	}
	for addr := range p.late {
		if !listed[addr] {
			delete(p.late, addr)
		}
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
