package specs

import (
	"net/netip"
	"slices"
)

// WebSources are the networks that must reach port 443 of a host: everyone when
// it answers senders' and mail programs' questions or has a web name that is not
// proxied, only Cloudflare's proxies when all its web names are behind them, and
// nobody (nil) when it serves no web.
func (s *Spec) WebSources(host string) []netip.Prefix {
	direct := slices.ContainsFunc(s.Domains, func(d *Domain) bool {
		return d.Host == host && (d.MTASTS != nil || d.Discovery)
	})
	proxied := false
	for _, z := range s.Zones {
		for _, w := range z.Web {
			direct = direct || w.Host == host && !w.Proxied
			proxied = proxied || w.Host == host && w.Proxied
		}
	}
	switch {
	case direct:
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	case !proxied:
		return nil
	}
	var out []netip.Prefix
	for _, n := range cloudflareIPs() {
		out = append(out, netip.MustParsePrefix(n))
	}
	return out
}

// CloudflareNetworks are the networks of Cloudflare's proxies that this version knows,
// as cloudflare_ips() gives them.
func CloudflareNetworks() []string { return cloudflareIPs() }
