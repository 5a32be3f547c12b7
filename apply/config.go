package apply

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"mailform/plan"
)

// Config is what Observe, Fold and Run share. Only Providers is always needed,
// and State for Fold and Run; everything else has a default.
type Config struct {
	Providers []plan.Provider
	State     *State // opened with Dir.Open; not used by Observe
	Sink      Sink   // nil discards events

	Now   func() time.Time                           // nil: time.Now
	Sleep func(context.Context, time.Duration) error // nil: a timer; returns ctx.Err() when cut short

	// Stop, once closed, lets what is in flight finish and begins nothing new.
	// Read-only operations and waits for a retry are given up at once. Cancelling
	// the context instead aborts what is in flight too; the next run then finds
	// out what became of it.
	Stop <-chan struct{}

	// Leases are those the run depends on: once one is lost, Run begins nothing
	// new, as after Stop, and ends with plan.ErrIncomplete. nil: none.
	Leases *Leases

	// Approved is the hash of the saved plan that is carried out, "" for none: when
	// the run is cut short, Dir.Made tells the next one of that plan how far it came.
	Approved string

	Parallelism int              // operations at a time; 0 means 8
	Limits      map[string]Limit // calls by provider; a provider without one is not limited
	Retry       Retry
}

// Limit is a token bucket.
type Limit struct {
	PerSecond float64 // 0: no limit
	Burst     int     // at least 1
}

const defaultParallelism = 8

// engine is a Config made ready for use.
type engine struct {
	Config
	byName   map[string]plan.Provider
	limiters map[string]*rate.Limiter
	sinkMu   sync.Mutex
}

func newEngine(c Config) (*engine, error) {
	if c.Sink == nil {
		c.Sink = func(Event) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	if c.Parallelism <= 0 {
		c.Parallelism = defaultParallelism
	}
	c.Retry = c.Retry.withDefaults()
	e := &engine{Config: c, byName: map[string]plan.Provider{}, limiters: map[string]*rate.Limiter{}}
	for _, p := range c.Providers {
		if e.byName[p.Name()] != nil {
			return nil, fmt.Errorf("two providers are called %q", p.Name())
		}
		e.byName[p.Name()] = p
	}
	for name, l := range c.Limits {
		if l.PerSecond <= 0 {
			continue
		}
		e.limiters[name] = rate.NewLimiter(rate.Limit(l.PerSecond), max(1, l.Burst))
	}
	return e, nil
}

func (e *engine) now() time.Time { return e.Now() }

// emit passes events on one at a time.
func (e *engine) emit(ev Event) {
	if ev.Time.IsZero() {
		ev.Time = e.now()
	}
	e.sinkMu.Lock()
	defer e.sinkMu.Unlock()
	e.Sink(ev)
}

func (e *engine) warn(err error) {
	if err != nil {
		e.emit(Event{Kind: EventWarning, Message: err.Error(), Err: err})
	}
}

// admit waits for the provider's token bucket.
func (e *engine) admit(ctx context.Context, provider string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l := e.limiters[provider]
	if l == nil {
		return nil
	}
	now := e.now()
	r := l.ReserveN(now, 1)
	if d := r.DelayFrom(now); d > 0 {
		if err := e.Sleep(ctx, d); err != nil {
			r.CancelAt(e.now())
			return err
		}
	}
	return nil
}

// stoppable returns a context that ends when ctx does or when Stop is closed:
// for what need not be finished.
func (e *engine) stoppable(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if e.Stop == nil {
		return ctx, cancel
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-e.Stop:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(); wg.Wait() }
}

// stopping reports whether nothing more is to be begun. It looks at Stop itself,
// because the context that follows it does so a moment later.
func (e *engine) stopping(ctx context.Context) bool {
	select {
	case <-e.Stop:
		return true
	default:
		return ctx.Err() != nil || e.Leases.Err() != nil
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Retry says how often and how patiently a call is tried again. The zero value
// has sensible defaults.
type Retry struct {
	Attempts int           // of one call, the first included; 0 means 6
	Base     time.Duration // wait after the first failure, doubled with each further one; 0 means 1 s
	Max      time.Duration // longest such wait; 0 means 30 s
	// Patience is the longest RetryAfter that is waited for; a longer one ends the
	// operation. 0 means 6 minutes: Cloudflare blocks for 5.
	Patience time.Duration
	Rand     func() float64 // jitter, in [0,1); nil: math/rand
}

func (r Retry) withDefaults() Retry {
	if r.Attempts <= 0 {
		r.Attempts = 6
	}
	if r.Base <= 0 {
		r.Base = time.Second
	}
	if r.Max <= 0 {
		r.Max = 30 * time.Second
	}
	if r.Patience <= 0 {
		r.Patience = 6 * time.Minute
	}
	if r.Rand == nil {
		r.Rand = rand.Float64
	}
	return r
}
