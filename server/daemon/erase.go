package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"mailform/server/manifest"
	"mailform/server/store"
)

// eraser is what a store has that can erase; store.Log has it.
type eraser interface {
	Erase(ctx context.Context, account string, o store.CompactOptions) (store.Erasure, error)
}

// errServed says that a mailbox is not to be erased because it is in use.
var errServed = errors.New("it is a mailbox of the spec and in use: take it out and apply, then erase it")

// erase removes all of an account that is not served any more.
func (d *daemon) erase(ctx context.Context, account string) (out manifest.Erased, err error) {
	e, ok := d.store.(eraser)
	if !ok {
		return out, errors.New("this store cannot erase an account")
	}
	// A mailbox that comes back just now is not erased behind its back.
	d.reloading.Lock()
	defer d.reloading.Unlock()
	s := d.state.Load()
	if _, served := s.directory.Lookup(account); served {
		return out, fmt.Errorf("%s: %w", account, errServed)
	}
	done, err := e.Erase(ctx, account, store.CompactOptions{Rate: 4 * compactRate})
	if err != nil {
		return out, err
	}
	out = NewErased(done)
	if out.Indexes, err = d.search.Load().Erase(account); err == nil {
		err = d.sums.Load().Erase(account)
	}
	if err != nil {
		out.Clean = false
		out.Remains = append(out.Remains, fmt.Sprintf("its indexes: %v", err))
	}
	out.BackupsUntil = BackupsUntil(s.manifest, d.cfg.Now())
	return out, nil
}

// NewErased is the report of what a store has erased.
func NewErased(e store.Erasure) manifest.Erased {
	return manifest.Erased{
		Account: e.Account, Time: e.Time, Clean: e.Clean(), Mailboxes: e.Mailboxes, Messages: e.Messages, Octets: e.Octets, Queued: e.Queued,
		Segments: e.Segments, Freed: e.Freed, Moved: e.Moved, Files: e.Files, Records: e.Records, Scanned: e.Scanned,
		Key: e.Key, Remains: e.Remains, Waiting: e.Waiting, Shared: e.Shared, SharedOctets: e.SharedOctets,
	}
}

// BackupsUntil is when the last backup made before now is given up; the zero time
// without backups.
func BackupsUntil(m *manifest.Manifest, now time.Time) time.Time {
	if m == nil || m.Backup == nil {
		return time.Time{}
	}
	return now.Add(time.Duration(m.Backup.KeepSeconds) * time.Second).UTC().Truncate(time.Second)
}

// eraseNow answers the person who erases an account.
func (d *daemon) eraseNow(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it may take longer than other requests
	account := r.URL.Query().Get("account")
	if account == "" {
		http.Error(w, "which account?", http.StatusBadRequest)
		return
	}
	out, err := d.erase(r.Context(), account)
	switch {
	case errors.Is(err, errServed):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		d.answer(w, out)
	}
}
