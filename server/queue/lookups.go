package queue

import (
	"context"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// The questions below are those of mail that comes in. Their answers and errors
// are as Resolver's.

// LookupTXT returns the TXT records of name, each in one piece.
func (d *DNS) LookupTXT(ctx context.Context, name string) ([]string, error) {
	answer, err := d.look(ctx, name, dns.TypeTXT)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, rr := range answer {
		if txt, ok := rr.(*dns.TXT); ok {
			list = append(list, unescape(strings.Join(txt.Txt, "")))
		}
	}
	return list, nil
}

// unescape undoes what miekg/dns does to the octets of a text: \" and \\, and
// \DDD for what cannot be printed, RFC 1035 5.1.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i+2 < len(s) && digit(s[i]) && digit(s[i+1]) && digit(s[i+2]) {
			b.WriteByte((s[i]-'0')*100 + (s[i+1]-'0')*10 + (s[i+2] - '0'))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// LookupA returns the IPv4 addresses of host alone: what blocklists answer with.
func (d *DNS) LookupA(ctx context.Context, host string) ([]netip.Addr, error) {
	answer, err := d.look(ctx, host, dns.TypeA)
	if err != nil {
		return nil, err
	}
	var list []netip.Addr
	for _, rr := range answer {
		if a, ok := rr.(*dns.A); ok {
			if addr, ok := netip.AddrFromSlice(a.A); ok {
				list = append(list, addr.Unmap())
			}
		}
	}
	return list, nil
}

// LookupPTR returns the names of an address, with their final dots.
func (d *DNS) LookupPTR(ctx context.Context, a netip.Addr) ([]string, error) {
	name, err := dns.ReverseAddr(a.Unmap().WithZone("").String())
	if err != nil {
		return nil, err
	}
	answer, err := d.look(ctx, name, dns.TypePTR)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, rr := range answer {
		if ptr, ok := rr.(*dns.PTR); ok {
			list = append(list, ptr.Ptr)
		}
	}
	return list, nil
}
