package specs

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	// Names of buckets are DNS labels; dots would break the service's certificate.
	bucketRE    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)
	extensionRE = regexp.MustCompile(`^[a-z0-9_+-]{1,16}$`)
	rawStringRE = regexp.MustCompile(`\br#*"`)
	regionForm  = &form{regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`), "is not a region", `Write it as the service does, like "cn-hongkong".`}
)

// parseName reads names that other systems give things.
func (a *attrSchema) parseName(s string) (any, *flaw) {
	switch a.Kind {
	case kindWebName:
		if s == "@" {
			return s, nil
		}
		n, err := normalizeName(s, false)
		if err != nil {
			return nil, a.flaw(codeBadHostname, s, "is not a name in a zone", capital(err.Error())+`. Write the part before the zone's name, like "webmail", or "@" for the zone itself.`)
		}
		return n, nil
	case kindBucket:
		if !bucketRE.MatchString(s) {
			return nil, a.flaw(codeBadBucket, s, "cannot be the name of a bucket", "Names of buckets have 3 to 63 characters of a-z, 0-9 and -, and neither begin nor end with -.")
		}
		return s, nil
	case kindObjectKey:
		k := strings.Trim(s, "/")
		switch {
		case k == "" || strings.Contains(k, "//") || strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }):
			return nil, a.flaw(codeBadBucket, s, "cannot be the name of an object", `Write printable ASCII characters without blanks and \, like "mail/acme".`)
		case len(k) > a.MaxLen:
			return nil, a.flaw(codeBadBucket, s, "cannot be the name of an object", fmt.Sprintf("It has %d bytes; %d are allowed.", len(k), a.MaxLen))
		}
		return k, nil
	case kindDatabase:
		if err := databaseURL(s); err != nil || len(s) > a.MaxLen {
			return nil, a.flaw(codeBadURL, s, "is not the URL of a PostgreSQL database", `Write it like "postgres://mailform:PASSWORD@db.example/mailform".`)
		}
		return s, nil
	case kindExtension:
		e := strings.ToLower(strings.TrimPrefix(strings.TrimSpace(s), "."))
		if !extensionRE.MatchString(e) {
			return nil, a.flaw(codeBadText, s, "is not a file name extension", `Write what stands after a file name's last dot, like "exe".`)
		}
		return e, nil
	}
	return a.filter(s)
}

// databaseURL never quotes the URL in its error: a password may stand in it.
func databaseURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Hostname() == "" || u.Fragment != "" {
		return errors.New("not a PostgreSQL URL")
	}
	return nil
}

// filter reads an expression of Cloudflare's rules language. What it means only
// Cloudflare can say; brackets and quotes that are left open are found here.
func (a *attrSchema) filter(s string) (any, *flaw) {
	t := strings.TrimSpace(s)
	switch {
	case t == "":
		return nil, &flaw{codeBadText, a.Name + " is empty", "Write which requests it is about."}
	case len(t) > a.MaxLen:
		return nil, &flaw{codeBadText, a.Name + " is too long", fmt.Sprintf("It has %d bytes; %d are allowed.", len(t), a.MaxLen)}
	case !utf8.ValidString(t) || strings.ContainsFunc(t, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }):
		return nil, &flaw{codeBadText, a.Name + " has control characters", "Only text is allowed."}
	}
	if rawStringRE.MatchString(t) {
		return t, nil // in raw strings a backslash is a backslash; their brackets are Cloudflare's to count
	}
	depth, inString := 0, false
	for i := 0; i < len(t) && depth >= 0; i++ {
		switch c := t[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '(' || c == '{' || c == '[':
			depth++
		case c == ')' || c == '}' || c == ']':
			depth--
		}
	}
	switch {
	case inString:
		return nil, &flaw{codeBadText, a.Name + " has a quote that is not closed", "Inside an HCL string, write quotes as \\\"."}
	case depth != 0:
		return nil, &flaw{codeBadText, a.Name + " has brackets that do not match", "Every opening one needs a closing one."}
	}
	return t, nil
}

// loopback reports whether a URL's or an address's host is this machine itself.
func loopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
