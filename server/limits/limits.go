// Package limits keeps one client, or one network of clients, from taking
// what belongs to all: open connections, new connections per minute and
// guesses at passwords. Everything is counted by address prefix in bounded memory.
//
// It imports nothing of mailform.
package limits

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ErrTooMany is why a connection is refused. Trying again later may help.
var ErrTooMany = errors.New("too many connections")

// Config sets the limits on connections. Zero fields take the defaults.
type Config struct {
	Total      int // open connections of all clients; default 2,000
	PerAddress int // open connections of one client (IPv4 /32, IPv6 /64); default 50
	PerNetwork int // open connections of one network (IPv4 /24, IPv6 /48); default 200
	// PerMinute is how many new connections a client may make each minute,
	// after a burst of as many; default 120, -1 for any number.
	PerMinute int
	Exempt    []netip.Prefix   // clients that count towards Total only
	Now       func() time.Time // default time.Now
}

// Conns counts open connections.
type Conns struct {
	within *Conns // counts the connections of several Conns together; may be nil

	mu      sync.Mutex
	cfg     Config
	total   int
	refused int64
	open    map[netip.Prefix]int
	rates   map[netip.Prefix]*rate.Limiter
}

// maxRates bounds the memory for clients that came once: about 100 octets each.
const maxRates = 50_000

// NewConns returns a counter with these limits. Its connections also count in
// within, unless that is nil.
func NewConns(within *Conns, cfg Config) *Conns {
	c := &Conns{within: within, open: map[netip.Prefix]int{}, rates: map[netip.Prefix]*rate.Limiter{}}
	c.Set(cfg)
	return c
}

// Set exchanges the limits. Connections that are open stay open, and count.
func (c *Conns) Set(cfg Config) {
	for _, d := range []struct {
		field *int
		value int
	}{{&cfg.Total, 2000}, {&cfg.PerAddress, 50}, {&cfg.PerNetwork, 200}, {&cfg.PerMinute, 120}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cfg.PerMinute != c.cfg.PerMinute {
		clear(c.rates) // each has the old rate
	}
	c.cfg = cfg
}

// Open returns how many connections are open.
func (c *Conns) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// Refused returns how many connections were refused so far.
func (c *Conns) Refused() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// Prefixes returns the client and the network an address belongs to. IPv6 hands
// out whole /64 networks to one machine.
func Prefixes(a netip.Addr) (client, network netip.Prefix) {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		client, _ = a.Prefix(32)
		network, _ = a.Prefix(24)
	} else {
		client, _ = a.Prefix(64)
		network, _ = a.Prefix(48)
	}
	return client, network
}

// AddrOf returns the IP address of a connection's end, without a zone; the
// zero Addr when it has none, as for a Unix socket.
func AddrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// Enter counts a new connection from a. It returns ErrTooMany, or a function
// that must be called once, when the connection has ended.
func (c *Conns) Enter(a netip.Addr) (leave func(), err error) {
	inner, err := c.enter(a)
	if err != nil || c.within == nil {
		return inner, err
	}
	outer, err := c.within.Enter(a)
	if err != nil {
		inner()
		return nil, err
	}
	return func() {
		inner()
		outer()
	}, nil
}

func (c *Conns) enter(a netip.Addr) (leave func(), err error) {
	client, network := Prefixes(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	exempt := !a.IsValid()
	for _, p := range c.cfg.Exempt {
		exempt = exempt || p.Contains(a.Unmap())
	}
	if c.total >= c.cfg.Total ||
		!exempt && (c.open[client] >= c.cfg.PerAddress || c.open[network] >= c.cfg.PerNetwork || !c.allowRate(client)) {
		c.refused++
		return nil, ErrTooMany
	}
	c.total++
	if !exempt {
		c.open[client]++
		c.open[network]++
	}
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.total--
		if exempt {
			return
		}
		for _, p := range []netip.Prefix{client, network} {
			if c.open[p]--; c.open[p] <= 0 {
				delete(c.open, p)
			}
		}
	}), nil
}

func (c *Conns) allowRate(client netip.Prefix) bool {
	if c.cfg.PerMinute < 0 {
		return true
	}
	now := c.cfg.Now()
	l := c.rates[client]
	if l == nil {
		if len(c.rates) >= maxRates {
			for p, l := range c.rates { // a full bucket says nothing that a new one does not
				if l.TokensAt(now) >= float64(c.cfg.PerMinute) {
					delete(c.rates, p)
				}
			}
			if len(c.rates) >= maxRates {
				clear(c.rates)
			}
		}
		l = rate.NewLimiter(rate.Limit(float64(c.cfg.PerMinute)/60), c.cfg.PerMinute)
		c.rates[client] = l
	}
	return l.AllowN(now, 1)
}

// Listener accepts connections within the limits. A connection beyond them is
// sent Refusal, if any, and closed.
type Listener struct {
	net.Listener
	Conns   *Conns
	Refusal string           // a whole protocol line with its CRLF; "" for implicit TLS
	Refused func(netip.Addr) // told about each refusal; may be nil
}

// Accept returns the next connection that is within the limits.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := AddrOf(c.RemoteAddr())
		leave, err := l.Conns.Enter(addr)
		if err == nil {
			return &counted{Conn: c, leave: leave}, nil
		}
		if l.Refused != nil {
			l.Refused(addr)
		}
		if l.Refusal != "" {
			// A line fits into the socket's empty buffer: this does not wait for the client.
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = c.Write([]byte(l.Refusal))
		}
		_ = c.Close()
	}
}

// counted is a connection that leaves the count when it is closed.
type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
