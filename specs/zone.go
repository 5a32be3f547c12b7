package specs

import "strings"

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
