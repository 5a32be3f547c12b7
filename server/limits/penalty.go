package limits

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// Penalties remembers clients that failed to authenticate. Each failure weighs
// less with time: half after HalfLife.
type Penalties struct {
	opt PenaltyOptions

	mu      sync.Mutex
	clients map[netip.Prefix]penalty
}

// PenaltyOptions tune Penalties. Zero fields take the defaults.
type PenaltyOptions struct {
	HalfLife time.Duration    // default 10 minutes
	BlockAt  float64          // failures that block a client until they have faded; default 30
	PerFail  time.Duration    // delay of an answer for each failure so far; default 500 ms
	MaxDelay time.Duration    // default 8 s
	MaxKept  int              // clients remembered; default 50,000
	Now      func() time.Time // default time.Now
}

type penalty struct {
	score float64
	at    time.Time
}

// NewPenalties returns an empty memory.
func NewPenalties(opt PenaltyOptions) *Penalties {
	if opt.HalfLife <= 0 {
		opt.HalfLife = 10 * time.Minute
	}
	if opt.BlockAt <= 0 {
		opt.BlockAt = 30
	}
	if opt.PerFail <= 0 {
		opt.PerFail = 500 * time.Millisecond
	}
	if opt.MaxDelay <= 0 {
		opt.MaxDelay = 8 * time.Second
	}
	if opt.MaxKept <= 0 {
		opt.MaxKept = 50_000
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Penalties{opt: opt, clients: map[netip.Prefix]penalty{}}
}

// Blocked says that the client has failed so often that it is not listened to now.
func (p *Penalties) Blocked(a netip.Addr) bool {
	client, _ := Prefixes(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faded(client, p.opt.Now()) >= p.opt.BlockAt
}

// Fail counts a failure and returns how long to wait before answering it.
func (p *Penalties) Fail(a netip.Addr) time.Duration {
	client, _ := Prefixes(a)
	now := p.opt.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	score := p.faded(client, now) + 1
	if _, known := p.clients[client]; !known && len(p.clients) >= p.opt.MaxKept {
		p.sweep(now)
	}
	p.clients[client] = penalty{score: score, at: now}
	return min(time.Duration(score*float64(p.opt.PerFail)), p.opt.MaxDelay)
}

// Forgive forgets a client's failures.
func (p *Penalties) Forgive(a netip.Addr) {
	client, _ := Prefixes(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.clients, client)
}

func (p *Penalties) faded(client netip.Prefix, now time.Time) float64 {
	c, ok := p.clients[client]
	if !ok {
		return 0
	}
	return c.score * math.Exp2(-float64(now.Sub(c.at))/float64(p.opt.HalfLife))
}

func (p *Penalties) sweep(now time.Time) {
	for client := range p.clients {
		if p.faded(client, now) < 0.5 {
			delete(p.clients, client)
		}
	}
	for client := range p.clients { // in no order; a crowd that large is not one guesser
		if len(p.clients) < p.opt.MaxKept {
			break
		}
		delete(p.clients, client)
	}
}
