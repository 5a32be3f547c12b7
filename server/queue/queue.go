// Package queue sends what the store's queue holds to other servers. An entry
// leaves the queue only after a server has taken it, or after its sender has
// been told that nobody would: every step is durable before the next one, so a
// crash can make a message or a notice arrive twice, never vanish.
//
// One goroutine decides what is due and hands it to workers, one for each
// connection. Nothing is kept for an entry that waits but its place in a map.
//
// It imports server/manifest, server/route and server/store.
package queue

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailform/server/manifest"
	"mailform/server/route"
	"mailform/server/store"
)

// Store is what of store.Store this package uses.
type Store interface {
	Queue(ctx context.Context) ([]store.QueueEntry, error)
	UpdateQueue(ctx context.Context, e store.QueueEntry) error
	RemoveQueue(ctx context.Context, id string) error
	OpenQueued(ctx context.Context, e store.QueueEntry) (io.ReadCloser, error)
	Deliver(ctx context.Context, d store.Delivery) ([]store.Message, error)
}

// Signer makes the DKIM-Signature lines for a message; mailauth.Keys is one.
type Signer interface {
	Sign(domain string, message io.Reader) ([]byte, error)
}

// Settings are what a reload exchanges. An attempt ends with the settings it began with.
type Settings struct {
	Hostname string          // what we call ourselves in EHLO, and the source of notices
	Relay    *manifest.Relay // takes all mail for elsewhere; nil sends to the domains' own servers
	Routes   *route.Table    // says which domains end here after all
	Signer   Signer          // for notices that leave this host; may be nil
}

// Timeouts bound how long a server may take. Zero fields take the defaults,
// which are those of RFC 5321 4.5.3.2 where it has any.
type Timeouts struct {
	Dial     time.Duration // default 30 s
	Greeting time.Duration // default 5 min
	Command  time.Duration // default 5 min
	Block    time.Duration // for each block of a message; default 3 min
	Final    time.Duration // for the reply to a message; default 10 min
}

// Config is what a Queue needs. Store, Resolver, Dial and Logger must be set.
type Config struct {
	Store    Store
	Resolver Resolver
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Logger   *slog.Logger
	// Roots verify the relay's certificate; nil uses the system's. Other servers
	// are not verified: see connect.
	Roots    *x509.CertPool
	Timeouts Timeouts

	PerDestination int           // connections to one destination at a time; default 4
	Total          int           // connections at a time; default 40
	PerConnection  int           // messages sent over one connection; default 100
	WarnAfter      time.Duration // age at which the sender is told of a delay; default 4 h
	GiveUpAfter    time.Duration // age at which a message is returned; default 5 days, RFC 5321 4.5.4.1
	Linger         time.Duration // how long attempts may go on once Run's context has ended; default 15 s

	Now func() time.Time // default time.Now
	// After returns a channel that is sent to once d has passed, and how to
	// forget it; default a time.Timer.
	After func(d time.Duration) (fired <-chan time.Time, stop func())
}

// Queue is the outbound side of one store.
type Queue struct {
	cfg      Config
	settings atomic.Pointer[Settings]
	kick     chan struct{}
	results  chan result

	// Of the loop alone.
	items   map[string]*item
	workers map[string]int // by destination
	total   int
}

// item is an entry as the loop knows it.
type item struct {
	entry store.QueueEntry
	busy  bool // with a worker
	// unsaved is set when the store could not note down an attempt. Its idea of
	// the entry would have delivered recipients in it.
	unsaved bool
}

// result is what a worker reports about one entry, or, without an id, that it has ended.
type result struct {
	id          string
	entry       *store.QueueEntry // as it waits now; nil when it has left the queue
	unsaved     bool              // the store does not know entry's state
	destination string            // of the worker that ended
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// New returns a queue with the settings st. Run makes it work.
func New(cfg Config, st *Settings) (*Queue, error) {
	if cfg.Store == nil || cfg.Resolver == nil || cfg.Dial == nil || cfg.Logger == nil {
		return nil, errors.New("queue.Config needs Store, Resolver, Dial and Logger")
	}
	def(&cfg.Timeouts.Dial, 30*time.Second)
	def(&cfg.Timeouts.Greeting, 5*time.Minute)
	def(&cfg.Timeouts.Command, 5*time.Minute)
	def(&cfg.Timeouts.Block, 3*time.Minute)
	def(&cfg.Timeouts.Final, 10*time.Minute)
	def(&cfg.PerDestination, 4)
	def(&cfg.Total, 40)
	def(&cfg.PerConnection, 100)
	def(&cfg.WarnAfter, 4*time.Hour)
	def(&cfg.GiveUpAfter, 5*24*time.Hour)
	def(&cfg.Linger, 15*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.After == nil {
		cfg.After = func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTimer(d)
			return t.C, func() { t.Stop() }
		}
	}
	q := &Queue{cfg: cfg, kick: make(chan struct{}, 1), results: make(chan result),
		items: map[string]*item{}, workers: map[string]int{}}
	q.settings.Store(st)
	return q, nil
}

// Set exchanges the settings for attempts that begin from now on.
func (q *Queue) Set(st *Settings) {
	q.settings.Store(st)
	q.Kick() // a domain may have become ours, or a relay reachable
}

// Kick makes the queue look at the store's entries again: call it after some
// have been added or changed.
func (q *Queue) Kick() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// listRetry is the wait after the store could not list its entries.
const listRetry = 10 * time.Second

// Run works until ctx ends, and then until the attempts under way have ended or
// Linger is over. It is called once.
func (q *Queue) Run(ctx context.Context) error {
	attempts, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var wg sync.WaitGroup
	defer wg.Wait()
	q.Kick() // what an earlier run has left
	for {
		wait, known := q.dispatch(attempts, &wg)
		var fired <-chan time.Time
		stop := func() {}
		if known {
			fired, stop = q.cfg.After(wait)
		}
		select {
		case <-q.kick:
			if err := q.list(ctx); err != nil && ctx.Err() == nil {
				q.cfg.Logger.Error("queue: list", "err", err)
				retry, stopRetry := q.cfg.After(listRetry)
				select {
				case <-retry:
				case <-ctx.Done():
				}
				stopRetry()
				q.Kick()
			}
		case r := <-q.results:
			q.note(r)
		case <-fired:
		case <-ctx.Done():
			stop()
			return q.linger(cut)
		}
		stop()
	}
}

// linger waits for the workers, and cuts their connections when that takes too long.
func (q *Queue) linger(cut context.CancelFunc) error {
	fired, stop := q.cfg.After(q.cfg.Linger)
	defer stop()
	for q.total > 0 {
		select {
		case r := <-q.results:
			q.note(r)
		case <-fired:
			cut()
			fired = nil
		}
	}
	return nil
}

// list takes the store's word for what waits. Entries that a worker has are
// left to it.
func (q *Queue) list(ctx context.Context) error {
	entries, err := q.cfg.Store.Queue(ctx)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		there[e.ID] = true
		if it := q.items[e.ID]; it == nil {
			q.items[e.ID] = &item{entry: e}
		} else if !it.busy && !it.unsaved {
			it.entry = e
		}
	}
	for id, it := range q.items {
		if !there[id] && !it.busy {
			delete(q.items, id)
		}
	}
	return nil
}

func (q *Queue) note(r result) {
	if r.id == "" {
		q.total--
		if q.workers[r.destination]--; q.workers[r.destination] == 0 {
			delete(q.workers, r.destination)
		}
		return
	}
	if r.entry == nil {
		delete(q.items, r.id)
		return
	}
	q.items[r.id] = &item{entry: *r.entry, unsaved: r.unsaved}
}

// dispatch gives what is due to workers and returns how long it is until more is.
func (q *Queue) dispatch(ctx context.Context, wg *sync.WaitGroup) (wait time.Duration, known bool) {
	now := q.cfg.Now()
	st := q.settings.Load()
	due := map[string][]*item{}
	for _, it := range q.items {
		if it.busy || it.entry.Hold {
			continue
		}
		if left := it.entry.NextTry.Sub(now); left > 0 {
			if !known || left < wait {
				wait, known = left, true
			}
			continue
		}
		d := destination(st, it.entry.Domain)
		due[d] = append(due[d], it)
	}
	order := make([]string, 0, len(due))
	for d, items := range due {
		slices.SortFunc(items, func(a, b *item) int { return a.entry.NextTry.Compare(b.entry.NextTry) })
		order = append(order, d)
	}
	slices.SortFunc(order, func(a, b string) int { return due[a][0].entry.NextTry.Compare(due[b][0].entry.NextTry) })
	for _, d := range order {
		items := due[d]
		for len(items) > 0 && q.workers[d] < q.cfg.PerDestination && q.total < q.cfg.Total {
			free := q.cfg.PerDestination - q.workers[d]
			n := min((len(items)+free-1)/free, q.cfg.PerConnection)
			batch := make([]store.QueueEntry, n)
			for i, it := range items[:n] {
				it.busy = true
				batch[i] = it.entry
			}
			items = items[n:]
			q.workers[d]++
			q.total++
			wg.Add(1)
			go func() {
				defer wg.Done()
				w := worker{q: q, st: st}
				w.run(ctx, batch)
				q.results <- result{destination: d}
			}()
		}
	}
	return wait, known
}

// relayDestination stands for the smarthost, whatever its name.
const relayDestination = "(relay)"

// localDestination stands for this host.
const localDestination = "(local)"

// destination names what entries for domain share connections with.
func destination(st *Settings, domain string) string {
	switch {
	case st.Routes != nil && st.Routes.Local(domain):
		return localDestination
	case st.Relay != nil:
		return relayDestination
	}
	return domain
}
