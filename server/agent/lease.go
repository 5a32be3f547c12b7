package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"mailform/server/manifest"
)

// A run that changes the host holds the lease on it: a file with who it is and
// until when. Each acquisition raises the epoch in the owner file, and every
// command that changes something refuses a lower one (see claim). So a run that
// was cut off and comes back when another has begun can do no harm.
//
// The lease file is changed under a lock of its own, because a run renews its
// lease while its own converge holds the agent lock. Acquiring takes both: what
// an earlier run has begun here ends first.

// clockStep is how far the host's clock may have been set back before a lease
// that lasts too long is taken for expired.
const clockStep = time.Minute

// AcquireLease gives the run the lease on this host, when the host is its
// stack's, and observes. A lease that has expired, or whose holder was at the
// same place, is taken over.
func (a *Agent) AcquireLease(ctx context.Context, req manifest.LeaseRequest) (manifest.Leased, error) {
	var out manifest.Leased
	o, err := a.readOwner()
	if err != nil {
		return out, err
	}
	if o != nil && o.Stack == req.Stack && o.Host == req.Host {
		// Whoever has to wait for a live run's converge should rather hear of it.
		if err := a.leaseFree(req); err != nil {
			return out, err
		}
		unlock, err := a.lock(ctx)
		if err != nil {
			return out, err
		}
		out.Lease, err = a.grant(req)
		unlock()
		if err != nil {
			return out, err
		}
	}
	out.Facts, err = a.Observe(ctx)
	return out, err
}

func (a *Agent) leaseFree(req manifest.LeaseRequest) error {
	unlock, err := a.leaseLock()
	if err != nil {
		return err
	}
	defer unlock()
	have, err := a.lease()
	if err != nil {
		return err
	}
	return refuseLeased(have, req)
}

// refuseLeased says no when another run holds a live lease.
func refuseLeased(have *manifest.Lease, req manifest.LeaseRequest) error {
	if have == nil || have.ID == req.ID || have.Holder.Place != "" && have.Holder.Place == req.Holder.Place {
		return nil
	}
	h := have.Holder
	return failf(manifest.ExitLeased, "held by %s on %s (process %d, %q) since %s, renewed until %s by this host's clock",
		h.Who, h.Host, h.PID, h.Command, h.Since.Format(time.RFC3339), have.Expires.Format(time.RFC3339))
}

// grant writes a new lease under a new epoch, or the same one once more when the
// answer to the first request got lost. The agent lock is held and the host is
// the claimant's.
func (a *Agent) grant(req manifest.LeaseRequest) (*manifest.Lease, error) {
	if req.ID == "" || len(req.ID) > 64 || req.Seconds < manifest.MinLeaseSeconds || req.Seconds > manifest.MaxLeaseSeconds {
		return nil, failf(manifest.ExitRequest, "a lease needs an id and %d to %d seconds", manifest.MinLeaseSeconds, manifest.MaxLeaseSeconds)
	}
	unlock, err := a.leaseLock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	have, err := a.lease()
	if err != nil {
		return nil, err
	}
	if err := refuseLeased(have, req); err != nil {
		return nil, err
	}
	l := manifest.Lease{ID: req.ID, Holder: req.Holder, Seconds: req.Seconds}
	if have != nil && have.ID == req.ID {
		l.Epoch = have.Epoch
	} else if l.Epoch, err = a.raiseEpoch(req.Epoch); err != nil {
		return nil, err
	}
	return &l, a.writeLease(&l)
}

// raiseEpoch makes the epoch higher than any that was here or that the run knows
// of. The agent lock is held.
func (a *Agent) raiseEpoch(known int64) (int64, error) {
	o, err := a.readOwner()
	if err != nil {
		return 0, err
	}
	if o == nil {
		return 0, failf(manifest.ExitFailed, "%s is missing", a.Layout.OwnerFile())
	}
	last, err := a.readLease()
	if err != nil {
		return 0, err
	}
	if last != nil {
		known = max(known, last.Epoch)
	}
	o.Epoch = max(o.Epoch, known) + 1
	return o.Epoch, a.writeOwner(*o)
}

// RenewLease gives the holder more time, also after its lease has expired as
// long as nobody has taken it over.
func (a *Agent) RenewLease(_ context.Context, req manifest.LeaseRequest) (manifest.Renewed, error) {
	unlock, err := a.leaseLock()
	if err != nil {
		return manifest.Renewed{}, err
	}
	defer unlock()
	have, err := a.readLease()
	if err != nil {
		return manifest.Renewed{}, err
	}
	if have == nil || have.ID != req.ID {
		by := "it was ended"
		if have != nil {
			by = fmt.Sprintf("it was taken over by %s on %s (%q)", have.Holder.Who, have.Holder.Host, have.Holder.Command)
		}
		return manifest.Renewed{}, failf(manifest.ExitFenced, "the lease is no longer yours: %s", by)
	}
	if err := a.writeLease(have); err != nil {
		return manifest.Renewed{}, err
	}
	return manifest.Renewed{Expires: have.Expires}, nil
}

// ReleaseLease ends a lease, the run's own or, with Break, another's, whose
// holder is fenced by a higher epoch.
func (a *Agent) ReleaseLease(ctx context.Context, req manifest.LeaseRequest) (manifest.Released, error) {
	var out manifest.Released
	if req.Break {
		o, err := a.readOwner()
		if err != nil {
			return out, err
		}
		if o == nil || o.Stack != req.Stack {
			return out, failf(manifest.ExitOwned, "this machine is not of stack %q", req.Stack)
		}
		unlock, err := a.lock(ctx)
		if err != nil {
			return out, err
		}
		defer unlock()
	}
	unlock, err := a.leaseLock()
	if err != nil {
		return out, err
	}
	defer unlock()
	have, err := a.readLease()
	if err != nil || have == nil || have.ID != req.ID {
		return out, err
	}
	if req.Break {
		if _, err := a.raiseEpoch(0); err != nil {
			return out, err
		}
	}
	if err := os.Remove(a.Layout.LeaseFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	out.Released = true
	return out, nil
}

// lease returns the lease that is live, nil without one.
func (a *Agent) lease() (*manifest.Lease, error) {
	l, err := a.readLease()
	if err != nil || l == nil {
		return nil, err
	}
	left := l.Expires.Sub(a.Now())
	if left <= 0 || left > time.Duration(l.Seconds)*time.Second+clockStep {
		return nil, nil
	}
	return l, nil
}

func (a *Agent) readLease() (*manifest.Lease, error) {
	l := &manifest.Lease{}
	ok, err := readJSON(a.Layout.LeaseFile(), l)
	if err != nil || !ok {
		return nil, err
	}
	return l, nil
}

// writeLease lets a lease begin again from now on.
func (a *Agent) writeLease(l *manifest.Lease) error {
	l.Expires = a.Now().UTC().Add(time.Duration(l.Seconds) * time.Second)
	return writeJSON(a.Layout.LeaseFile(), l, 0o600)
}

// leaseLock keeps the lease file to one command at a time. It is held only for
// moments, so it is waited for.
func (a *Agent) leaseLock() (unlock func(), err error) {
	path := a.Layout.LeaseLock()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}
