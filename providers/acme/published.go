package acme

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Published looks once whether every name server of its zone shows a TXT record
// and nothing else under that name. negative is how long resolvers remember that
// there was no such record (RFC 2308 5), 0 when no server told; got says what came
// instead. It asks the servers that the challenge records are looked for at.
func (p *Provider) Published(ctx context.Context, fqdn, text string) (everywhere bool, negative time.Duration, got string) {
	w := p.visible
	servers := w.asked(ctx, fqdn).servers
	if len(servers) == 0 {
		return false, 0, "the name servers of its zone cannot be found"
	}
	for _, s := range servers {
		texts, err := w.ask(ctx, s, fqdn)
		switch {
		case err != nil: // one that does not answer may answer others, and with anything
			return false, negative, err.Error()
		case len(texts) != 1 || texts[0] != text:
			return false, negative, fmt.Sprintf("%s answers with %s", s, shown(texts))
		}
		if negative == 0 {
			negative = w.negative(ctx, s, fqdn)
		}
	}
	return true, negative, ""
}

// negative is the lesser of the SOA record's own TTL and its last field, 0 when
// the server does not tell.
func (w *watcher) negative(ctx context.Context, server, fqdn string) time.Duration {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(fqdn), dns.TypeSOA)
	client := &dns.Client{Timeout: w.timeout}
	res, _, err := client.ExchangeContext(ctx, m, server)
	if err != nil {
		return 0
	}
	for _, section := range [][]dns.RR{res.Answer, res.Ns} {
		for _, rr := range section {
			if soa, ok := rr.(*dns.SOA); ok {
				return time.Duration(min(soa.Minttl, soa.Hdr.Ttl)) * time.Second
			}
		}
	}
	return 0
}
