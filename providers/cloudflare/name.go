package cloudflare

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// maxName is far more than a name of 253 characters takes in UTF-8. Punycode costs
// the square of the length.
const maxName = 1024

// canonicalName gives a domain name the form in which the API returns it: lower
// case, punycode, no trailing dot. A name that IDNA refuses is only lowered, so
// that foreign oddities can still be told apart. It is idempotent.
func canonicalName(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) > maxName {
		return name
	}
	for i := 0; i < len(name); i++ {
		if name[i] >= 0x80 {
			// Lookup mapping, but with the underscores of _dmarc and _domainkey.
			profile := idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.Transitional(false))
			if ascii, err := profile.ToASCII(name); err == nil {
				return strings.ToLower(strings.TrimSuffix(ascii, "."))
			}
			return name
		}
	}
	return name
}

// under reports whether name is domain or lies below it. Both are canonical.
func under(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// canonicalContent gives a record's content its comparable form.
func canonicalContent(kind, content string) string {
	switch kind {
	case "TXT":
		return showTXT(parseTXT(content))
	case "A", "AAAA":
		if ip, err := netip.ParseAddr(content); err == nil {
			return ip.String()
		}
	case "CNAME", "MX", "NS", "PTR":
		if content == "." { // RFC 7505: no mail here
			return content
		}
		return canonicalName(content)
	}
	return content
}

// wireContent is the inverse of canonicalContent for what we write.
func wireContent(kind, content string) string {
	if kind == "TXT" {
		return quoteTXT(unshowTXT(content))
	}
	return content
}
