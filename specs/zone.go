package specs

import (
	"strings"

	"golang.org/x/net/publicsuffix"
)

// ZoneDomain returns the domain under which the DNS records of hostname are
// addressed ("zone/DOMAIN", "dns/DOMAIN/…"): the mail domain with the longest
// name that hostname is or lies under, or hostname itself when it lies under none.
func (s *Spec) ZoneDomain(hostname string) string {
	best := ""
	for _, d := range s.Domains {
		if (hostname == d.Name || strings.HasSuffix(hostname, "."+d.Name)) && len(d.Name) > len(best) {
			best = d.Name
		}
	}
	if best == "" {
		return hostname
	}
	return best
}

// Holder is the domain or zone block of the spec that a name lies in, the closest one;
// "" when it lies in none.
func (s *Spec) Holder(name string) string {
	best := ""
	for _, z := range s.Zones {
		if within(name, z.Name) && len(z.Name) > len(best) {
			best = z.Name
		}
	}
	for _, d := range s.Domains {
		if within(name, d.Name) && len(d.Name) > len(best) {
			best = d.Name
		}
	}
	return best
}

// NeedsConsent reports whether receivers send DMARC reports about a domain to an
// address at another only if that one agrees: when their organisational domains
// differ (RFC 7489 7.1, 3.2).
func NeedsConsent(domain, at string) bool { return organisation(domain) != organisation(at) }

// organisation is the part of a name that one organisation has registered.
func organisation(name string) string {
	if org, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return org
	}
	return name // a public suffix itself
}

// ConsentName is where a domain agrees to receive DMARC reports about another.
func ConsentName(domain, at string) string { return domain + "._report._dmarc." + at }
