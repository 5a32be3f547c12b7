package queue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Bounds on what is remembered of the DNS. The servers that are asked have caches
// of their own: this one saves the way to them, so that short times are enough.
const (
	maxCached    = 4 << 20 // octets, about: who sends from many domains displaces others' answers
	maxAnswer    = 8 << 10 // octets of an answer that is kept
	answerCost   = 160     // octets of an answer beside its records
	maxTTL       = time.Hour
	maxAbsentTTL = 5 * time.Minute // RFC 2308 5 allows hours
	failureTTL   = 2 * time.Second // RFC 9520 3.2: at least a second, never more than five minutes
)

type question struct {
	name string // fully qualified, in lower case
	kind uint16
}

// answer is what the name servers said to a question. Its records are shared by all
// who ask, and never changed. It says nothing of whether they were authenticated
// (the AD bit): nobody here asks for that.
type answer struct {
	records []dns.RR
	err     error // ErrNoDomain, or what went wrong
	ttl     time.Duration
	octets  int
}

// cached is an answer and when it is no longer one.
type cached struct {
	answer
	until time.Time
}

// cache remembers answers for as long as they say, and asks each question once at a
// time. It is two generations: when the younger has half of the room, it becomes the
// elder, and the elder one is forgotten but for what was asked again.
type cache struct {
	now func() time.Time
	ask func(context.Context, question) answer

	mu             sync.Mutex
	younger, elder map[question]cached
	octets         int // of the younger
	flights        map[question]*flight
}

// flight is a question that is being asked. It ends when nobody waits for it any more.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int
	answer  answer
}

func newCache(now func() time.Time, ask func(context.Context, question) answer) *cache {
	return &cache{now: now, ask: ask, younger: map[question]cached{}, elder: map[question]cached{}, flights: map[question]*flight{}}
}

// get answers a question. An end of ctx ends the waiting of this caller alone.
func (c *cache) get(ctx context.Context, q question) ([]dns.RR, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.mu.Lock()
		if a, ok := c.known(q); ok {
			c.mu.Unlock()
			return a.records, a.err
		}
		f := c.flights[q]
		if f == nil {
			// What the first caller is about ends with it, not what others wait for.
			shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
			f = &flight{done: make(chan struct{}), cancel: cancel}
			c.flights[q] = f
			go c.fly(shared, q, f)
		}
		f.waiting++
		c.mu.Unlock()
		select {
		case <-f.done:
			if errors.Is(f.answer.err, context.Canceled) { // all others had left it just before
				continue
			}
			return f.answer.records, f.answer.err
		case <-ctx.Done():
		}
		c.mu.Lock()
		if f.waiting--; f.waiting == 0 {
			f.cancel()
		}
		c.mu.Unlock()
		return nil, ctx.Err()
	}
}

// fly asks a question for all who wait.
func (c *cache) fly(ctx context.Context, q question, f *flight) {
	defer f.cancel()
	a := c.ask(ctx, q)
	c.mu.Lock()
	delete(c.flights, q)
	if ctx.Err() != nil && a.err != nil { // given up: nothing was learnt of the question
		a.err = context.Canceled
	} else {
		c.keep(q, cached{a, c.now().Add(a.ttl)})
	}
	f.answer = a
	c.mu.Unlock()
	close(f.done)
}

// renew asks whatever is remembered, and remembers what is said now.
func (c *cache) renew(ctx context.Context, q question) ([]dns.RR, error) {
	a := c.ask(ctx, q)
	if err := ctx.Err(); err != nil && a.err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(q, cached{a, c.now().Add(a.ttl)})
	return a.records, a.err
}

// known looks into both generations. What is asked for of the elder becomes one of
// the younger.
func (c *cache) known(q question) (answer, bool) {
	a, young := c.younger[q]
	if !young {
		a = c.elder[q]
	}
	if !c.now().Before(a.until) {
		return answer{}, false
	}
	if !young {
		delete(c.elder, q)
		c.keep(q, a)
	}
	return a.answer, true
}

func (c *cache) keep(q question, a cached) {
	if a.ttl <= 0 || a.octets > maxAnswer {
		return
	}
	if old, ok := c.younger[q]; ok {
		c.octets -= old.octets
	} else if c.octets+a.octets > maxCached/2 {
		c.elder, c.younger, c.octets = c.younger, map[question]cached{}, 0
	}
	c.younger[q] = a
	c.octets += a.octets
}

// remember says for how long a reply is the answer to its question.
func remember(q question, r *dns.Msg) answer {
	a := answer{records: r.Answer, octets: answerCost + len(q.name)}
	for _, rr := range r.Answer {
		a.octets += 64 + dns.Len(rr) // and what the types take
	}
	if r.Rcode == dns.RcodeNameError {
		a.err = ErrNoDomain
	}
	for _, rr := range r.Answer {
		if a.err == nil && rr.Header().Rrtype == q.kind {
			a.ttl = shortest(r.Answer, maxTTL)
			return a
		}
	}
	// There is no such record, or no such name, also at the end of an alias, for
	// as long as the zone's SOA record says; without one nobody knows: RFC 2308 5.
	a.records = nil
	for _, rr := range r.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			a.ttl = min(shortest(append([]dns.RR{soa}, r.Answer...), maxAbsentTTL), time.Duration(soa.Minttl)*time.Second)
		}
	}
	return a
}

// shortest is the least time to live of some records. RFC 2181 8: one with the
// highest bit set is 0.
func shortest(records []dns.RR, ttl time.Duration) time.Duration {
	for _, rr := range records {
		if t := rr.Header().Ttl; t < 1<<31 {
			ttl = min(ttl, time.Duration(t)*time.Second)
		} else {
			ttl = 0
		}
	}
	return ttl
}

// asked brings a name into the form of a question.
func asked(name string, kind uint16) question {
	return question{strings.ToLower(dns.Fqdn(name)), kind}
}
