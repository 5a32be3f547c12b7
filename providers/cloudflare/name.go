package cloudflare

import (
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
