package specs

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// Limits of names. RFC 1035 2.3.4 counts a name in wire form, which leaves 253
// characters of text; RFC 5321 4.5.3.1 limits local part and path.
const (
	maxName  = 253
	maxLabel = 63
	maxLocal = 64
	maxEmail = 254
)

// NormalizeDomain returns a domain name in the form a Spec holds it: lower case,
// punycode, no trailing dot. Underscore labels (_dmarc) are allowed. The error
// says what is wrong with the name.
func NormalizeDomain(name string) (string, error) { return normalizeName(name, true) }

func normalizeName(name string, underscores bool) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" {
		return "", errors.New("it is empty")
	}
	// IDNA's other full stops: ideographic, fullwidth, halfwidth (UTS 46, 4).
	labels := strings.FieldsFunc(name, isDot)
	dots := 0
	for _, r := range name {
		if isDot(r) {
			dots++
		}
	}
	if last := []rune(name); isDot(last[len(last)-1]) {
		dots-- // one trailing dot says "fully qualified", which every name here is
	}
	if len(labels) == 0 || dots != len(labels)-1 {
		return "", errors.New("it has an empty label")
	}
	for i, l := range labels {
		a, err := asciiLabel(l, underscores)
		if err != nil {
			return "", err
		}
		labels[i] = a
	}
	out := strings.Join(labels, ".")
	if len(out) > maxName {
		return "", fmt.Errorf("it has %d characters, %d are allowed", len(out), maxName)
	}
	return out, nil
}

func isDot(r rune) bool { return r == '.' || r == '。' || r == '．' || r == '｡' }

// asciiLabel converts one label. It goes label by label because the IDNA lookup
// profile refuses the underscore labels that mail needs.
func asciiLabel(label string, underscores bool) (string, error) {
	ascii := true
	for i := 0; i < len(label); i++ {
		ascii = ascii && label[i] < 0x80
	}
	if !ascii {
		a, err := idna.Lookup.ToASCII(label)
		if err != nil {
			return "", fmt.Errorf("the label %q is not valid internationalised text", label)
		}
		label = a
	}
	label = strings.ToLower(label)
	if len(label) > maxLabel {
		return "", fmt.Errorf("the label %q has %d characters, %d are allowed", label, len(label), maxLabel)
	}
	if label == "" {
		return "", errors.New("it has an empty label")
	}
	for _, c := range []byte(label) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || underscores && c == '_') {
			return "", fmt.Errorf("the label %q has the character %q; letters, digits and - are allowed", label, c)
		}
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return "", fmt.Errorf("the label %q begins or ends with -", label)
	}
	if strings.HasPrefix(label, "xn--") {
		if _, err := idna.Lookup.ToUnicode(label); err != nil {
			return "", fmt.Errorf("the label %q is not valid punycode", label)
		}
	}
	return label, nil
}

// mailDomain is a domain that mail can have: at least two labels, no underscores,
// not an IP address, and short enough for the names mailform puts under it.
func mailDomain(name string) (string, error) {
	d, err := normalizeName(name, false)
	if err != nil {
		return "", err
	}
	if !strings.Contains(d, ".") {
		return "", errors.New("it has only one label; write it in full, like acme.example")
	}
	if _, err := netip.ParseAddr(d); err == nil {
		return "", errors.New("it is an IP address; a name is needed")
	}
	if longest := len("_acme-challenge.") + len(d); longest > maxName {
		return "", fmt.Errorf("it has %d characters; with _acme-challenge in front it would exceed %d", len(d), maxName)
	}
	return d, nil
}

// ownLocal normalises a local part that this stack serves: lower case, of
// a-z 0-9 . _ - and '. The + is kept free for sub-addresses (alice+shop).
func ownLocal(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "" {
		return "", errors.New("it is empty")
	}
	if len(s) > maxLocal {
		return "", fmt.Errorf("it has %d characters, %d are allowed", len(s), maxLocal)
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_', r == '-', r == '\'':
		case r == '+':
			return "", errors.New("it has a +, which begins a sub-address: alice receives alice+anything by herself")
		case r == '@':
			return "", errors.New("it has an @; only the part before it is wanted here")
		default:
			return "", fmt.Errorf("it has the character %q; letters a-z, digits and . _ - ' are allowed", r)
		}
	}
	if s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return "", errors.New("it begins or ends with a dot, or has two in a row (RFC 5321 4.1.2)")
	}
	return s, nil
}

// emailAddress normalises a full address: the domain in lower-case punycode,
// the local part as it is. Quoted local parts and display names are refused.
func emailAddress(s string) (string, error) {
	s = strings.TrimSpace(s)
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return "", errors.New("it has no @")
	}
	local, domain := s[:at], s[at+1:]
	if local == "" {
		return "", errors.New("nothing stands before the @")
	}
	if len(local) > maxLocal {
		return "", fmt.Errorf("the part before the @ has %d characters, %d are allowed", len(local), maxLocal)
	}
	for _, r := range local {
		// atext and the dot, RFC 5322 3.2.3.
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-/=?^_`{|}~.", r)) {
			return "", fmt.Errorf("the part before the @ has the character %q; write only the address, without a name or quotes", r)
		}
	}
	if local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "..") {
		return "", errors.New("the part before the @ begins or ends with a dot, or has two in a row (RFC 5321 4.1.2)")
	}
	d, err := mailDomain(domain)
	if err != nil {
		return "", fmt.Errorf("its domain %q cannot be used: %w", domain, err)
	}
	if len(local)+1+len(d) > maxEmail {
		return "", fmt.Errorf("it has %d characters, %d are allowed", len(local)+1+len(d), maxEmail)
	}
	return local + "@" + d, nil
}

// splitAddress cuts a full address at its last @.
func splitAddress(a string) (local, domain string) {
	at := strings.LastIndexByte(a, '@')
	if at < 0 {
		return a, ""
	}
	return a[:at], a[at+1:]
}

// baseLocal is the local part that a sub-address belongs to, in the form of ownLocal.
func baseLocal(local string) string {
	base, _, _ := strings.Cut(strings.ToLower(local), "+")
	return base
}

// within reports whether name is the zone's apex or lies below it.
func within(name, zone string) bool {
	return name == zone || strings.HasSuffix(name, "."+zone)
}

// spell returns the candidate nearest to word when it is near enough to be
// meant, or "".
func spell(word string, candidates []string) string {
	best, bestDistance := "", 1+len(word)/3
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c), bestDistance); d < bestDistance || d == bestDistance && best == "" {
			best, bestDistance = c, d
		}
	}
	if best == word {
		return ""
	}
	return best
}

// distance is the Damerau-Levenshtein distance (adjacent transpositions count
// one); anything beyond limit is reported as limit+1.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	if prev[len(b)] > limit {
		return limit + 1
	}
	return prev[len(b)]
}
