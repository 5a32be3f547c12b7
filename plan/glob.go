package plan

import "strings"

// Match reports whether an address matches a pattern as people write it after
// --allow and --take: the address itself, or a glob in which * stands for any
// run of characters, slashes included, and ? for any one. "dns/acme.example/*"
// matches "dns/acme.example/dkim/2026a".
func Match(pattern string, a Address) bool {
	if pattern == string(a) {
		return true // an address that itself has * or ? in it
	}
	literal := strings.IndexAny(pattern, "*?")
	if literal < 0 || !strings.HasPrefix(string(a), pattern[:literal]) {
		return false
	}
	p, s := []rune(pattern), []rune(string(a))
	pi, si, star, mark := 0, 0, -1, 0
	for si < len(s) {
		switch {
		case pi < len(p) && p[pi] == '*':
			star, mark = pi, si
			pi++
		case pi < len(p) && (p[pi] == '?' || p[pi] == s[si]):
			pi++
			si++
		case star >= 0:
			mark++
			pi, si = star+1, mark
		default:
			return false
		}
	}
	for pi < len(p) && p[pi] == '*' {
		pi++
	}
	return pi == len(p)
}

// patterns are the globs of one flag, and whether each was of use.
type patterns struct {
	globs []string
	used  []bool
}

func newPatterns(globs []string) *patterns {
	return &patterns{globs: globs, used: make([]bool, len(globs))}
}

func (ps *patterns) match(a Address) bool {
	found := false
	for i, g := range ps.globs {
		if Match(g, a) {
			ps.used[i] = true
			found = true
		}
	}
	return found
}

// lift writes a command-line flag with an address that a shell takes as it is.
func lift(name string, a Address) string {
	special := strings.ContainsFunc(string(a), func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/@._+-:=%,", r))
	})
	if !special {
		return "--" + name + " " + string(a)
	}
	return "--" + name + " '" + strings.ReplaceAll(string(a), "'", `'\''`) + "'"
}
