package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// DNS is a Resolver that asks recursive name servers.
type DNS struct {
	servers []string
	timeout time.Duration // of one question to one server
}

// NewDNS returns a resolver that asks server ("192.0.2.53:53"), or, when server
// is "", those of /etc/resolv.conf.
func NewDNS(server string) (*DNS, error) {
	d := &DNS{timeout: 5 * time.Second}
	if server != "" {
		if _, _, err := net.SplitHostPort(server); err != nil {
			return nil, fmt.Errorf("name server %q: %w", server, err)
		}
		d.servers = []string{server}
		return d, nil
	}
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	for _, s := range conf.Servers {
		d.servers = append(d.servers, net.JoinHostPort(s, conf.Port))
	}
	if len(d.servers) == 0 {
		return nil, errors.New("/etc/resolv.conf names no server")
	}
	return d, nil
}

// LookupMX implements Resolver.
func (d *DNS) LookupMX(ctx context.Context, domain string) ([]MX, error) {
	answer, err := d.ask(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	var list []MX
	for _, rr := range answer {
		if mx, ok := rr.(*dns.MX); ok {
			list = append(list, MX{Host: mx.Mx, Preference: mx.Preference})
		}
	}
	return list, nil
}

// LookupAddr implements Resolver.
func (d *DNS) LookupAddr(ctx context.Context, host string) ([]netip.Addr, error) {
	var list []netip.Addr
	var failed error
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := d.ask(ctx, host, t)
		if err != nil {
			failed = err
			continue
		}
		for _, rr := range answer {
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A
			case *dns.AAAA:
				ip = rr.AAAA
			}
			if a, ok := netip.AddrFromSlice(ip); ok {
				list = append(list, a.Unmap())
			}
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	return nil, failed
}

// ask tries the servers in order, each by UDP and, for a long answer, by TCP.
func (d *DNS) ask(ctx context.Context, name string, t uint16) ([]dns.RR, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), t)
	m.SetEdns0(1232, false)
	failed := errors.New("no name server")
	for range 2 {
		for _, server := range d.servers {
			r, err := d.exchange(ctx, m, server)
			if err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				failed = fmt.Errorf("%s: %w", server, err)
				continue
			}
			switch r.Rcode {
			case dns.RcodeSuccess:
				return r.Answer, nil
			case dns.RcodeNameError:
				return nil, ErrNoDomain
			}
			failed = fmt.Errorf("%s: %s", server, dns.RcodeToString[r.Rcode])
		}
	}
	return nil, failed
}

func (d *DNS) exchange(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	client := dns.Client{Timeout: d.timeout}
	r, _, err := client.ExchangeContext(ctx, m, server)
	if err == nil && !r.Truncated {
		return r, nil
	}
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	client.Net = "tcp"
	r, _, err = client.ExchangeContext(ctx, m, server)
	return r, err
}
