package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// DNS is a Resolver that asks recursive name servers, and remembers for a while
// what they said.
type DNS struct {
	servers []string
	timeout time.Duration // of one question to one server
	cache   *cache
}

// NewDNS returns a resolver that asks server ("192.0.2.53:53"), or, when server
// is "", those of /etc/resolv.conf. now says when an answer is too old.
func NewDNS(server string, now func() time.Time) (*DNS, error) {
	d := newDNS(nil, 5*time.Second, now)
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

func newDNS(servers []string, timeout time.Duration, now func() time.Time) *DNS {
	d := &DNS{servers: servers, timeout: timeout}
	d.cache = newCache(now, d.ask)
	return d
}

func (d *DNS) look(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	if ctx.Value(anew{}) != nil {
		return d.cache.renew(ctx, asked(name, kind))
	}
	return d.cache.get(ctx, asked(name, kind))
}

type anew struct{}

// Anew has a DNS ask the name servers under this context, also what it remembers: it
// is to be found out how things are now.
func Anew(ctx context.Context) context.Context { return context.WithValue(ctx, anew{}, true) }

// LookupMX implements Resolver.
func (d *DNS) LookupMX(ctx context.Context, domain string) ([]MX, error) {
	answer, err := d.look(ctx, domain, dns.TypeMX)
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
		answer, err := d.look(ctx, host, t)
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
func (d *DNS) ask(ctx context.Context, q question) answer {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.kind)
	m.SetEdns0(1232, false)
	failed := answer{err: errors.New("no name server"), ttl: failureTTL, octets: answerCost + len(q.name)}
	for range 2 {
		for _, server := range d.servers {
			r, err := d.exchange(ctx, m, server)
			switch {
			case ctx.Err() != nil:
				return answer{err: ctx.Err()}
			case err != nil:
				failed.err = fmt.Errorf("%s: %w", server, err)
			case r.Rcode == dns.RcodeSuccess || r.Rcode == dns.RcodeNameError:
				return remember(q, r)
			default:
				failed.err = fmt.Errorf("%s: %s", server, dns.RcodeToString[r.Rcode])
			}
		}
	}
	return failed
}

func (d *DNS) exchange(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	client := dns.Client{Timeout: d.timeout}
	r, _, err := client.ExchangeContext(ctx, m, server)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err != nil || r.Truncated {
		client.Net = "tcp"
		if r, _, err = client.ExchangeContext(ctx, m, server); err != nil {
			return nil, err
		}
	}
	// What is kept has to be the answer to this question.
	if len(r.Question) != 1 || r.Question[0].Qtype != m.Question[0].Qtype || !strings.EqualFold(r.Question[0].Name, m.Question[0].Name) {
		return nil, errors.New("the reply is not to the question")
	}
	return r, nil
}
