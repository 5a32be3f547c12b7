package specs

import (
	"slices"
	"strings"
)

// Authority is a certificate authority that a spec may name instead of giving its
// ACME directory.
type Authority struct {
	Name      string // as in ca = "letsencrypt"
	Directory string // URL (RFC 8555 7.1.1)
	CAA       string // its name in CAA records (RFC 8659 4.2)
	Bound     bool   // wants external account binding (RFC 8555 7.3.4)
}

// Authorities are the ones that have a name. The first is used when a spec names none.
func Authorities() []Authority {
	return []Authority{
		{"letsencrypt", "https://acme-v02.api.letsencrypt.org/directory", "letsencrypt.org", false},
		{"letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory", "letsencrypt.org", false},
		{"zerossl", "https://acme.zerossl.com/v2/DV90", "sectigo.com", true},
		{"google", "https://dv.acme-v02.api.pki.goog/directory", "pki.goog", true},
		{"google-staging", "https://dv.acme-v02.test-api.pki.goog/directory", "pki.goog", true},
		{"sslcom", "https://acme.ssl.com/sslcom-dv-ecc", "ssl.com", true},
	}
}

// authority finds one by its name.
func authority(name string) (Authority, bool) {
	all := Authorities()
	i := slices.IndexFunc(all, func(a Authority) bool { return a.Name == name })
	if i < 0 {
		return Authority{}, false
	}
	return all[i], true
}

// IssuerOf gives the name in CAA records of the authority behind an ACME directory,
// "" when it is not known. No directory is the first authority's.
func IssuerOf(directory string) string {
	all := Authorities()
	if directory == "" {
		return all[0].CAA
	}
	host := func(url string) string {
		_, rest, _ := strings.Cut(url, "://")
		name, _, _ := strings.Cut(rest, "/")
		return strings.ToLower(name)
	}
	for _, a := range all {
		if host(a.Directory) == host(directory) {
			return a.CAA
		}
	}
	return ""
}

func authorityNames() []string {
	var names []string
	for _, a := range Authorities() {
		names = append(names, a.Name)
	}
	return names
}
