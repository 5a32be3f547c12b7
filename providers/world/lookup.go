package world

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

const lookupTimeout = 5 * time.Second

// lookup asks the world's DNS server for a name's addresses.
func (w *World) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		q := new(dns.Msg)
		q.SetQuestion(dns.Fqdn(name), qtype)
		r, _, err := (&dns.Client{Timeout: lookupTimeout}).ExchangeContext(ctx, q, w.Resolver())
		if err != nil {
			return nil, &net.DNSError{Err: err.Error(), Name: name, Server: w.Resolver()}
		}
		for _, rr := range r.Answer {
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A
			case *dns.AAAA:
				ip = rr.AAAA
			}
			if addr, ok := netip.AddrFromSlice(ip); ok {
				out = append(out, addr.Unmap())
			}
		}
	}
	return out, nil
}
