package limits

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// A client that goes on guessing or connecting although it is refused is banned:
// its packets are dropped before they cost anything. What decides is here; the
// kernel's part is somebody else's, who is asked by a line of text.

// Bounds of a ban. A client that comes back is banned for twice as long each time.
const (
	MinBan = 10 * time.Minute
	MaxBan = 24 * time.Hour
)

// Bannable reports whether a client may be banned at all: not this host, nor one of
// a private network.
func Bannable(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.Zone() != "" || a.IsPrivate() {
		return false
	}
	if !a.Is4() {
		return true
	}
	b := a.As4()
	return b[0] != 0 && b[0] < 224 && // RFC 1122 3.2.1.3, RFC 1112 4: nobody's
		!(b[0] == 100 && b[1]&0xc0 == 64) // RFC 6598: many people behind one
}

// Ban is one client for some time.
type Ban struct {
	Client netip.Prefix // IPv4 /32, IPv6 /64
	For    time.Duration
}

// errBan says nothing of what was sent: it is not to be trusted.
var errBan = errors.New(`not a request "ban ADDRESS SECONDS" for a public address and 600 to 86400 seconds`)

// MaxBanRequest is the length of the longest request in octets.
const MaxBanRequest = 64

// Request is the ban as a line for whoever carries it out.
func (b Ban) Request() []byte {
	return []byte("ban " + b.Client.Addr().String() + " " + strconv.FormatInt(int64(b.For/time.Second), 10))
}

// ParseBan reads a request. Nothing but what Request writes is accepted.
func ParseBan(line []byte) (Ban, error) {
	if len(line) > MaxBanRequest {
		return Ban{}, errBan
	}
	words := bytes.Split(line, []byte{' '})
	if len(words) != 3 || string(words[0]) != "ban" {
		return Ban{}, errBan
	}
	addr, err := netip.ParseAddr(string(words[1]))
	if err != nil || !Bannable(addr) {
		return Ban{}, errBan
	}
	seconds, err := strconv.ParseInt(string(words[2]), 10, 32)
	if err != nil {
		return Ban{}, errBan
	}
	client, _ := Prefixes(addr)
	b := Ban{Client: client, For: time.Duration(seconds) * time.Second}
	if b.For < MinBan || b.For > MaxBan || !bytes.Equal(b.Request(), line) {
		return Ban{}, errBan
	}
	return b, nil
}

// Bans decides for how long clients are banned.
type Bans struct {
	now func() time.Time

	mu      sync.Mutex
	clients map[netip.Prefix]banned
}

type banned struct {
	last  time.Duration
	until time.Time
}

// maxBans bounds the memory: about 100 octets each.
const maxBans = 10_000

// NewBans returns an empty memory. now may be nil.
func NewBans(now func() time.Time) *Bans {
	if now == nil {
		now = time.Now
	}
	return &Bans{now: now, clients: map[netip.Prefix]banned{}}
}

// Decide returns the ban of a client that is to have one; false for one that may
// not be banned, and for one that is.
func (b *Bans) Decide(a netip.Addr) (Ban, bool) {
	if !Bannable(a) {
		return Ban{}, false
	}
	client, _ := Prefixes(a)
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	was, known := b.clients[client]
	if now.Before(was.until) {
		return Ban{}, false
	}
	next := MinBan
	if known && now.Sub(was.until) < MaxBan {
		next = min(2*was.last, MaxBan)
	}
	if !known && len(b.clients) >= maxBans {
		b.sweep(now)
	}
	b.clients[client] = banned{last: next, until: now.Add(next)}
	return Ban{Client: client, For: next}, true
}

// Lift forgets a client's bans.
func (b *Bans) Lift(a netip.Addr) {
	client, _ := Prefixes(a)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clients, client)
}

func (b *Bans) sweep(now time.Time) {
	for client, was := range b.clients {
		if now.Sub(was.until) >= MaxBan {
			delete(b.clients, client)
		}
	}
	for client := range b.clients { // in no order, as for Penalties
		if len(b.clients) < maxBans {
			return
		}
		delete(b.clients, client)
	}
}
