package store

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxName  = 1000 // octets
	maxDepth = 50
)

// cleanName brings a mailbox name into the form it is kept in: INBOX in upper
// case, also as the first level of others. ErrName says why one is refused.
func cleanName(name string) (string, error) {
	refuse := func(why string) (string, error) { return "", fmt.Errorf("%w: it %s", ErrName, why) }
	switch {
	case name == "":
		return refuse("is empty")
	case len(name) > maxName:
		return refuse(fmt.Sprintf("is longer than %d octets", maxName))
	case !utf8.ValidString(name):
		return refuse("is not UTF-8")
	case strings.Count(name, "/") >= maxDepth:
		return refuse(fmt.Sprintf("has more than %d levels", maxDepth))
	case strings.ContainsAny(name, "%*"):
		return refuse("contains a wildcard")
	}
	for _, r := range name {
		// RFC 9051 5.1: no control characters, no line or paragraph separators.
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return refuse("contains a control character")
		}
	}
	levels := strings.Split(name, "/")
	for _, l := range levels {
		if l == "" {
			return refuse("has an empty level")
		}
	}
	if strings.EqualFold(levels[0], "INBOX") {
		levels[0] = "INBOX"
	}
	return strings.Join(levels, "/"), nil
}

// parents returns the names above name, topmost first.
func parents(name string) []string {
	var l []string
	for i, r := range name {
		if r == '/' {
			l = append(l, name[:i])
		}
	}
	return l
}

// below says whether name is somewhere under parent.
func below(name, parent string) bool {
	return len(name) > len(parent) && name[len(parent)] == '/' && strings.HasPrefix(name, parent)
}
