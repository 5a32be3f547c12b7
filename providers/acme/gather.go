package acme

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// gatherFor is how long the challenge records of one order wait for those of the
// other orders of the same plan, so that they go up and down together.
const gatherFor = 5 * time.Second

// gathering brings together the challenge records of orders that are under way at
// the same time: one transaction of each zone puts them up, and one takes them down
// when the last of these orders is through.
type gathering struct {
	dns   Challenger
	sleep func(context.Context, time.Duration) error

	mu      sync.Mutex
	settled map[string]bool // orders that bring no more records
	open    *round
}

// round is what goes up together.
type round struct {
	records map[string][]string // values by name
	orders  map[string]bool     // that may take part; true once they have brought their records
	full    chan struct{}       // closed when nobody is waited for any more
	stop    context.CancelFunc  // of the clock

	once sync.Once
	errs map[string]error // by name
	up   bool             // the records may be there
	left int              // orders that still need them
}

func newGathering(dns Challenger, sleep func(context.Context, time.Duration) error) *gathering {
	return &gathering{dns: dns, sleep: sleep, settled: map[string]bool{}}
}

// begin says that an order may bring records, end that it brings no more.
func (g *gathering) begin(order string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.settled, order)
}

func (g *gathering) end(order string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settled[order] = true
	g.look()
}

// look closes the open round when everybody it waits for is there or settled.
func (g *gathering) look() {
	if g.open == nil {
		return
	}
	for order, there := range g.open.orders {
		if !there && !g.settled[order] {
			return
		}
	}
	g.close(g.open)
}

func (g *gathering) close(r *round) {
	if g.open == r {
		g.open = nil
		close(r.full)
		r.stop()
	}
}

// publish puts an order's records up, with those of the orders that are under way
// beside it. The records are there until down is called, which must be called
// whatever publish returns.
func (g *gathering) publish(ctx context.Context, order string, beside []string, records map[string][]string) (down func(context.Context) error, err error) {
	g.mu.Lock()
	r := g.open
	if r == nil {
		clock, stop := context.WithCancel(ctx)
		r = &round{records: map[string][]string{}, orders: map[string]bool{}, full: make(chan struct{}), stop: stop}
		g.open = r
		go func() {
			_ = g.sleep(clock, gatherFor) // cut short, nobody is waited for either
			g.mu.Lock()
			defer g.mu.Unlock()
			g.close(r)
		}()
	}
	for name, values := range records {
		for _, v := range values {
			if !slices.Contains(r.records[name], v) {
				r.records[name] = append(r.records[name], v)
			}
		}
	}
	for _, o := range beside {
		if _, known := r.orders[o]; !known {
			r.orders[o] = false
		}
	}
	r.orders[order] = true
	r.left++
	g.look()
	g.mu.Unlock()

	down = func(ctx context.Context) error { return g.leave(ctx, r) }
	<-r.full
	r.once.Do(func() {
		r.up = true
		r.errs = g.dns.Present(ctx, r.records)
	})
	for _, name := range slices.Sorted(maps.Keys(records)) {
		if err := r.errs[name]; err != nil {
			return down, err
		}
	}
	return down, ctx.Err()
}

// leave takes the records down when no other order needs them.
func (g *gathering) leave(ctx context.Context, r *round) error {
	g.mu.Lock()
	r.left--
	last := r.left == 0
	g.mu.Unlock()
	if !last || !r.up {
		return nil
	}
	if err := g.dns.CleanUp(ctx, r.records); err != nil {
		return &leftError{r.records, err}
	}
	return nil
}
