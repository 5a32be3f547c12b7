package specs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// addressKinds are the first segments of plan addresses.
func addressKinds() []string {
	return []string{"alias", "catch-all", "cert", "dkim", "dns", "host", "mailbox", "server", "zone"}
}

// maxGlob bounds a glob's length; the longest addresses have about 350 bytes.
const maxGlob = 512

// addressGlob checks the shape of a glob over plan addresses: it must be able to
// match one. In it * stands for any run of characters, slashes included, and ?
// for any one. It comes back as addresses are written: in lower case.
func addressGlob(s string) (string, error) {
	g := strings.ToLower(strings.TrimSpace(s))
	if err := globText(g, "@.-_+':=/*?"); err != nil {
		return "", err
	}
	kinds := addressKinds()
	kind, rest, slash := strings.Cut(g, "/")
	if at := strings.IndexAny(kind, "*?"); at >= 0 {
		if !slices.ContainsFunc(kinds, func(k string) bool { return strings.HasPrefix(k+"/", kind[:at]) }) {
			return "", fmt.Errorf("no address begins with %q. Addresses begin with %s", kind[:at], orList(kinds))
		}
		return g, nil
	}
	switch known := slices.Contains(kinds, kind); {
	case known && (!slash || rest == ""):
		return "", fmt.Errorf("an address says what it is of, too. For all of them: %q", kind+"/*")
	case !known:
		detail := "addresses begin with " + orList(kinds)
		if near := spell(kind, kinds); near != "" {
			detail = fmt.Sprintf("did you mean %q? %s", near, capital(detail))
		}
		return "", errors.New(detail)
	case strings.Contains(rest, "//") || strings.HasPrefix(rest, "/") || strings.HasSuffix(rest, "/"):
		return "", errors.New("it has an empty part between slashes")
	}
	return g, nil
}

// fieldGlob checks the shape of a glob over field paths, such as "content" or
// "rules[office].source".
func fieldGlob(s string) (string, error) {
	g := strings.TrimSpace(s)
	return g, globText(g, "@.-_+':=/*?[]")
}

// globText checks length and characters.
func globText(g, others string) error {
	switch {
	case g == "":
		return errors.New("it is empty")
	case len(g) > maxGlob:
		return fmt.Errorf("it has %d bytes; %d are allowed", len(g), maxGlob)
	}
	for _, r := range g {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(others, r) {
			continue
		}
		if r >= 0x80 {
			return fmt.Errorf("it has the character %q; names stand there in punycode, as plan prints them", r)
		}
		return fmt.Errorf("it has the character %q, which stands in none", r)
	}
	return nil
}
