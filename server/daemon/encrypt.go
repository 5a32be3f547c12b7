package daemon

import (
	"context"
	"time"

	"mailform/server/manifest"
	"mailform/server/store"
)

// SealRate is how many octets a second are encrypted of mail that was there before.
const SealRate = compactRate

// encrypter is a store that can encrypt what it has; store.Log is one.
type encrypter interface {
	Seal(context.Context, store.CompactOptions) (store.Sealed, error)
}

// encrypt has mail encrypted that was there before encryption was turned on, at the
// start, after a reload and at each tick, until the context ends.
func (d *daemon) encrypt(ctx context.Context, tick <-chan time.Time) error {
	e, ok := d.store.(encrypter)
	if !ok {
		return nil
	}
	for {
		if err := d.encryptAll(ctx, e); err != nil && ctx.Err() == nil {
			d.log.Warn("mail from before encryption was turned on stays in the clear until it is tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		case <-d.turned:
			d.sealing.Store(nil) // what was known is of before
		}
	}
}

// encryptAll goes on for as long as there is progress.
func (d *daemon) encryptAll(ctx context.Context, e encrypter) error {
	before := -1
	for {
		done, err := e.Seal(ctx, store.CompactOptions{Rate: SealRate})
		for _, account := range done.Keyed {
			d.deriveAnew(account)
		}
		if err != nil {
			return err
		}
		d.sealing.Store(&done.Left)
		left := done.Left.ClearFiles
		if left == 0 || done.Octets == 0 && left == before {
			return ctx.Err()
		}
		before = left
	}
}

// encryption says how far it has come.
func (d *daemon) encryption() *manifest.Encryption {
	s := d.sealing.Load()
	if s == nil || !s.On {
		return &manifest.Encryption{}
	}
	return &manifest.Encryption{Looked: true, ClearOctets: s.Clear, ClearFiles: s.ClearFiles, StuckFiles: s.Stuck, SecondsLeft: s.Clear / SealRate}
}

// deriveAnew has what is derived from an account's mail made again, with the key that
// the account has now.
func (d *daemon) deriveAnew(account string) {
	if n := d.search.Load(); n != nil {
		if _, err := n.Erase(account); err != nil {
			d.log.Warn("the index from before stays in the clear until the next start", "account", account, "err", err)
		}
		n.Check(account)
	}
	if k := d.sums.Load(); k != nil {
		k.Check(account)
	}
}
