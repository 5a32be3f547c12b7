package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mailform/plan"
)

// codeLeaseLost: a lease could not be kept.
const codeLeaseLost = "MF6203"

// releasePatience bounds giving one lease back; one that is not ends by itself.
const releasePatience = 5 * time.Second

// Leases keeps the leases of a run alive in the background and tells when one is
// lost: taken by somebody else, or not renewed for so long that somebody may
// have taken it. From then on a run begins no further effects. The nil *Leases
// holds none and loses none.
type Leases struct {
	now   func() time.Time
	sleep func(context.Context, time.Duration) error

	mu   sync.Mutex
	held []*held // in the order in which they were taken
	lost chan struct{}
	err  error // why lost is closed
}

// held is one lease and its keeping.
type held struct {
	lock    plan.Lock
	lease   plan.Lease
	asked   time.Time // when what granted it was sent: it lasts from then on at most
	trouble error     // why the last renewal failed
	lenient bool
	stop    context.CancelFunc
	kept    sync.WaitGroup
}

// NewLeases returns a keeper of leases. now and sleep may be nil, as in Config.
func NewLeases(now func() time.Time, sleeping func(context.Context, time.Duration) error) *Leases {
	if now == nil {
		now = time.Now
	}
	if sleeping == nil {
		sleeping = sleep
	}
	return &Leases{now: now, sleep: sleeping, lost: make(chan struct{})}
}

// Acquire takes a lock and keeps it.
func (l *Leases) Acquire(ctx context.Context, lock plan.SharedLock, h Holder) error {
	asked := l.now()
	lease, err := lock.Acquire(ctx, h)
	if err != nil {
		return err
	}
	l.Keep(lock, lease, asked)
	return nil
}

// Keep renews a lease that was just granted to a request sent at asked. It takes
// the place of an earlier one on a lock of the same name.
func (l *Leases) Keep(lock plan.Lock, lease plan.Lease, asked time.Time) {
	l.Drop(lock.Name())
	ctx, stop := context.WithCancel(context.Background())
	h := &held{lock: lock, lease: lease, asked: asked, stop: stop}
	l.mu.Lock()
	l.held = append(l.held, h)
	l.mu.Unlock()
	h.kept.Go(func() { l.renew(ctx, h) })
	h.kept.Go(func() { l.watch(ctx, h) })
	if lease.Gone != nil {
		h.kept.Go(func() {
			select {
			case <-lease.Gone:
				l.lose(h, plan.ErrLeaseLost)
			case <-ctx.Done():
			}
		})
	}
}

// Drop stops keeping the lease on the lock of that name without giving it back:
// what it was for is gone.
func (l *Leases) Drop(name string) {
	l.mu.Lock()
	i := slices.IndexFunc(l.held, func(h *held) bool { return h.lock.Name() == name })
	if i < 0 {
		l.mu.Unlock()
		return
	}
	h := l.held[i]
	l.held = slices.Delete(l.held, i, i+1)
	l.mu.Unlock()
	h.stop()
	h.kept.Wait()
}

// Forgive makes silence on the lock of that name no loss: the run itself is
// about to stop or delete what keeps it. A lease that somebody else has taken is
// lost all the same.
func (l *Leases) Forgive(name string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		if h.lock.Name() == name {
			h.lenient = true
		}
	}
}

// Err returns why a lease is lost, nil while all are held. It looks at the clock
// itself: timers stand still while a laptop sleeps.
func (l *Leases) Err() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		l.check(h)
	}
	return l.err
}

// whenLost calls f when a lease is lost, until stop is called.
func (l *Leases) whenLost(f func()) (stop func()) {
	if l == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-l.lost:
			f()
		case <-done:
		}
	})
	return func() { close(done); wg.Wait() }
}

// Release gives everything back, what was taken last first. The error tells what
// could not be given back: it ends by itself.
func (l *Leases) Release(ctx context.Context) error {
	l.mu.Lock()
	all, lost := l.held, l.err
	l.held = nil
	l.mu.Unlock()
	var errs []error
	for _, h := range slices.Backward(all) {
		h.stop()
		h.kept.Wait()
		if lost != nil && l.left(h) <= 0 {
			continue // no longer ours to give
		}
		err := l.within(ctx, releasePatience, func(ctx context.Context) error { return h.lock.Release(ctx, h.lease) })
		if err != nil && !h.lenient {
			errs = append(errs, fmt.Errorf("%s is not given back; it is free within %s: %w", h.lock.Name(), h.lease.TTL, err))
		}
	}
	return errors.Join(errs...)
}

// renew asks for more time, three times as often as needed, until it is stopped
// or the lease is lost.
func (l *Leases) renew(ctx context.Context, h *held) {
	wait := h.lease.TTL / 3
	for l.sleep(ctx, wait) == nil {
		l.mu.Lock()
		lease := h.lease
		l.mu.Unlock()
		asked := l.now()
		var next plan.Lease
		err := l.within(ctx, lease.TTL/3, func(ctx context.Context) (err error) {
			next, err = h.lock.Renew(ctx, lease)
			return err
		})
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, plan.ErrLeaseLost):
			l.lose(h, err)
			return
		case err != nil:
			l.mu.Lock()
			h.trouble = err
			l.mu.Unlock()
			wait = lease.TTL / 12
		case !l.renewed(h, next, asked):
			return
		default:
			wait = next.TTL / 3
		}
	}
}

// renewed takes in a renewal, unless it came too late.
func (l *Leases) renewed(h *held, next plan.Lease, asked time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.check(h); l.err != nil {
		return false
	}
	h.lease, h.asked, h.trouble = next, asked, nil
	return true
}

// watch finds out that a lease has ended while a renewal hangs.
func (l *Leases) watch(ctx context.Context, h *held) {
	for {
		l.mu.Lock()
		l.check(h)
		left, lost := l.left(h), l.err != nil
		l.mu.Unlock()
		if lost || l.sleep(ctx, max(left, time.Second)) != nil {
			return
		}
	}
}

// left is how long we may rely on a lease: a twelfth less than was granted. The
// wall clock counts too, because the monotonic one stands still in a machine's
// sleep.
func (l *Leases) left(h *held) time.Duration {
	now := l.now()
	passed := max(now.Sub(h.asked), now.Round(0).Sub(h.asked.Round(0)))
	return h.lease.TTL - h.lease.TTL/12 - passed
}

// check loses a lease that was not renewed in time. mu is held.
func (l *Leases) check(h *held) {
	if l.err != nil || h.lenient || l.left(h) > 0 {
		return
	}
	err := errors.New("it was not renewed in time")
	if h.trouble != nil {
		err = fmt.Errorf("it could not be renewed: %w", h.trouble)
	}
	l.fail(h, err)
}

func (l *Leases) lose(h *held, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.fail(h, err)
	}
}

// fail makes the loss known. mu is held.
func (l *Leases) fail(h *held, err error) {
	l.err = &plan.Error{
		Class: plan.ErrIncomplete, Code: codeLeaseLost, Step: "keep the lock on " + h.lock.Name(), Got: err.Error(),
		Fix: "somebody else may be applying now; running the same command again continues with what is left", Err: err,
	}
	close(l.lost)
}

// within calls f with a context that ends after d.
func (l *Leases) within(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if l.sleep(ctx, d) == nil {
			cancel()
		}
	})
	defer wg.Wait()
	defer cancel()
	return f(ctx)
}

// lostLease returns a copy of the error of a lost lease, nil without one.
func (w *walk) lostLease() *plan.Error {
	var lost *plan.Error
	if !errors.As(w.Leases.Err(), &lost) {
		return nil
	}
	e := *lost
	return &e
}
