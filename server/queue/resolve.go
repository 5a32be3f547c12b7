package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ErrNoDomain says that a name does not exist in the DNS at all (NXDOMAIN).
var ErrNoDomain = errors.New("domain does not exist")

// MX is one mail exchanger record.
type MX struct {
	Host       string // "." says that the domain takes no mail, RFC 7505
	Preference uint16
}

// Resolver answers questions to the DNS. An empty list without an error means
// that the name exists and has no such record. Errors other than ErrNoDomain
// are taken for temporary.
type Resolver interface {
	LookupMX(ctx context.Context, domain string) ([]MX, error)
	LookupAddr(ctx context.Context, host string) ([]netip.Addr, error)
}

// host is a server that may take a message.
type host struct {
	name string // for TLS, logs and notices; an address when there is no name
	addr string // "192.0.2.1:25"
}

const (
	smtpPort = 25
	maxMX    = 10 // servers of a domain that are asked for addresses
	maxHosts = 12 // addresses of a domain that are tried
)

// servers lists the servers for domain, best first: RFC 5321 5.1.
func servers(ctx context.Context, r Resolver, self, domain string) ([]host, *failure) {
	if literal, ok := strings.CutPrefix(domain, "["); ok {
		literal = strings.TrimPrefix(strings.TrimSuffix(literal, "]"), "ipv6:")
		a, err := netip.ParseAddr(literal)
		if err != nil {
			return nil, permanent("5.1.2", "%s is not an address", domain)
		}
		return []host{{name: a.String(), addr: netip.AddrPortFrom(a, smtpPort).String()}}, nil
	}
	mx, err := r.LookupMX(ctx, domain)
	switch {
	case errors.Is(err, ErrNoDomain):
		return nil, permanent("5.1.2", "domain %s does not exist", domain)
	case err != nil:
		return nil, temporary("4.4.3", "looking up MX of %s: %v", domain, err)
	}
	implicit := len(mx) == 0
	if implicit {
		mx = []MX{{Host: domain}}
	}
	if len(mx) == 1 && strings.Trim(mx[0].Host, ".") == "" {
		return nil, permanent("5.1.10", "domain %s takes no mail (null MX)", domain)
	}
	// Equal preferences in no order, to spread the load.
	mx = slices.Clone(mx)
	rand.Shuffle(len(mx), func(i, j int) { mx[i], mx[j] = mx[j], mx[i] })
	slices.SortStableFunc(mx, func(a, b MX) int { return cmp.Compare(a.Preference, b.Preference) })
	for i, m := range mx {
		if strings.EqualFold(strings.TrimSuffix(m.Host, "."), self) {
			// We are one of its servers, but the domain is not served here: those
			// less preferred than us would give the message back to us.
			i = slices.IndexFunc(mx, func(x MX) bool { return x.Preference == m.Preference })
			mx = mx[:i]
			break
		}
	}
	if len(mx) == 0 {
		return nil, permanent("5.4.6", "the MX of %s is this host, which does not serve it", domain)
	}
	var hosts []host
	var lookup error
	for _, m := range mx[:min(len(mx), maxMX)] {
		name := strings.TrimSuffix(m.Host, ".")
		found, err := addresses(ctx, r, name, smtpPort)
		if err != nil {
			lookup = err
			continue
		}
		hosts = append(hosts, found...)
	}
	switch {
	case len(hosts) > 0:
		return hosts[:min(len(hosts), maxHosts)], nil
	case implicit && (lookup == nil || errors.Is(lookup, ErrNoDomain)):
		return nil, permanent("5.4.4", "domain %s has neither MX nor address", domain)
	case lookup != nil:
		return nil, temporary("4.4.3", "looking up the servers of %s: %v", domain, lookup)
	}
	return nil, temporary("4.4.4", "no server of %s has an address", domain)
}

// addresses lists where host listens, IPv4 first: large receivers are stricter
// with IPv6 senders, and many hosts are without it.
func addresses(ctx context.Context, r Resolver, name string, port int) ([]host, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []host{{name: name, addr: netip.AddrPortFrom(a, uint16(port)).String()}}, nil
	}
	list, err := r.LookupAddr(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	hosts := make([]host, 0, len(list))
	for _, a := range list {
		hosts = append(hosts, host{name: name, addr: net.JoinHostPort(a.String(), strconv.Itoa(port))})
	}
	return hosts, nil
}
