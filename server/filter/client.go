package filter

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"

	"mailform/server/mailauth"
	"mailform/server/manifest"
)

// Scores of what a client looks like. At suspicious it is one that greylisting
// is for.
const (
	suspicious = 2

	scoreListed      = 10
	scoreNoName      = 3 // no name in the reverse DNS
	scoreUnconfirmed = 2 // a name that does not lead back
	scoreHeloSyntax  = 3 // HELO with what is no host name
	scoreHeloOther   = 2 // HELO with another host's name
	scoreSPFFail     = 3
	scoreSPFSoft     = 2
	scoreSPFPass     = -1
)

// Client is one connection from outside. What the DNS says about it is asked
// for once, with its first message.
type Client struct {
	f      *Filter
	addr   netip.Addr
	helo   string
	local  bool
	lookup sync.Once
	done   chan struct{} // closed when what follows is known
	rev    mailauth.IPRev
	facts  Facts
	listed []string // zones
}

// Client returns a connection's state.
func (f *Filter) Client(addr netip.Addr, helo string) *Client {
	c := &Client{f: f, addr: addr.Unmap().WithZone(""), helo: helo, done: make(chan struct{}), local: !addr.IsValid()}
	for _, p := range f.cfg.Local {
		c.local = c.local || p.Contains(c.addr)
	}
	return c
}

// look asks the DNS about the client, all at the same time, within the budget.
func (c *Client) look(ctx context.Context, zones []string) {
	defer close(c.done)
	ctx, cancel := context.WithTimeout(ctx, c.f.cfg.Budget)
	defer cancel()
	var helo Fact
	listings := make([]Listing, len(zones))
	var wg sync.WaitGroup
	wg.Go(func() { c.rev = reverse(ctx, c.f.cfg.Resolver, c.addr) })
	wg.Go(func() { helo = checkHelo(ctx, c.f.cfg.Resolver, c.helo, c.addr) })
	if !c.local {
		for i, zone := range zones {
			wg.Go(func() { listings[i] = lookUpListing(ctx, c.f.cfg.Resolver, zone, c.addr) })
		}
	}
	wg.Wait()
	switch c.rev.Result {
	case mailauth.PermError:
		c.facts = append(c.facts, Fact{"no-rdns", scoreNoName})
	case mailauth.Fail:
		c.facts = append(c.facts, Fact{"rdns-unconfirmed", scoreUnconfirmed})
	case mailauth.TempError:
		c.facts = append(c.facts, Fact{"rdns-unknown", 0})
	}
	if helo.Name != "" {
		c.facts = append(c.facts, helo)
	}
	for i, l := range listings {
		switch l {
		case Listed:
			c.listed = append(c.listed, zones[i])
			c.facts = append(c.facts, Fact{"listed:" + zones[i], scoreListed})
		case ListingUnknown:
			c.facts = append(c.facts, Fact{"no-answer:" + zones[i], 0})
		case ListingRefused:
			c.facts = append(c.facts, Fact{"refuses-us:" + zones[i], 0})
		}
	}
}

// maxNames is how many names of one address are followed.
const maxNames = 5

// reverse looks for a name of addr that leads back to it, RFC 8601 2.7.3.
func reverse(ctx context.Context, r Resolver, addr netip.Addr) mailauth.IPRev {
	out := mailauth.IPRev{Addr: addr, Result: mailauth.PermError}
	if !addr.IsValid() {
		return out
	}
	names, err := r.LookupPTR(ctx, addr)
	switch {
	case errors.Is(err, mailauth.ErrNoName):
		return out
	case err != nil:
		out.Result = mailauth.TempError
		return out
	}
	for _, name := range names[:min(len(names), maxNames)] {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		out.Name = name
		addrs, err := r.LookupAddr(ctx, name)
		if contains(addrs, addr) {
			out.Result = mailauth.Pass
			return out
		}
		if err != nil && !errors.Is(err, mailauth.ErrNoName) {
			out.Result = mailauth.TempError
		} else if out.Result == mailauth.PermError {
			out.Result = mailauth.Fail
		}
	}
	return out
}

// checkHelo says what is odd about the name a client gave itself.
func checkHelo(ctx context.Context, r Resolver, helo string, addr netip.Addr) Fact {
	if literal, ok := strings.CutPrefix(helo, "["); ok { // RFC 5321 4.1.3
		literal = strings.TrimSuffix(literal, "]")
		if len(literal) > 5 && strings.EqualFold(literal[:5], "IPv6:") {
			literal = literal[5:]
		}
		if a, err := netip.ParseAddr(literal); err != nil || a.Unmap() != addr {
			return Fact{"helo-mismatch", scoreHeloOther}
		}
		return Fact{"helo-literal", 0}
	}
	name := strings.ToLower(strings.TrimSuffix(helo, "."))
	if !manifest.ValidDomain(name) || !strings.Contains(name, ".") {
		return Fact{"helo-syntax", scoreHeloSyntax}
	}
	addrs, err := r.LookupAddr(ctx, name)
	switch {
	case contains(addrs, addr):
		return Fact{}
	case err != nil && !errors.Is(err, mailauth.ErrNoName):
		return Fact{"helo-unknown", 0}
	}
	return Fact{"helo-mismatch", scoreHeloOther}
}

func contains(list []netip.Addr, a netip.Addr) bool {
	for _, x := range list {
		if x.Unmap() == a {
			return true
		}
	}
	return false
}
