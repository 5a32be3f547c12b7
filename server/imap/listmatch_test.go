package imap

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// matches is what a pattern means, said as plainly as can be.
func matches(name, pattern string) bool {
	switch {
	case pattern == "":
		return name == ""
	case pattern[0] == '*' || pattern[0] == '%':
		return matches(name, pattern[1:]) || name != "" && (pattern[0] == '*' || name[0] != delimiter) && matches(name[1:], pattern)
	}
	return name != "" && name[0] == pattern[0] && matches(name[1:], pattern[1:])
}

func TestListPattern(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		octets := rapid.SampledFrom([]string{"ab/", "a/", "ab/INBOXinbox"}).Draw(t, "octets")
		name := rapid.StringOfN(rapid.RuneFrom([]rune(octets)), 1, 12, -1).Draw(t, "name")
		ref := rapid.SampledFrom([]string{"", "a/", "inbox"}).Draw(t, "ref")
		patterns := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune(octets+"*%%")), 0, 10, -1), 1, 8).Draw(t, "patterns")
		l, err := newListPattern(ref, patterns)
		if err != nil {
			t.Fatal(err)
		}
		wanted := func(name string) bool {
			return slices.ContainsFunc(patterns, func(p string) bool { return matches(name, inboxed(ref+p)) })
		}
		var above, want []int
		for i := range len(name) {
			if name[i] == delimiter && wanted(name[:i]) {
				want = append(want, i)
			}
		}
		if got := l.match(name, func(n int) { above = append(above, n) }); got != wanted(name) || !slices.Equal(above, want) {
			t.Fatalf("%q: %v with %v above, want %v with %v", name, got, above, wanted(name), want)
		}
		if got := l.match(name, nil); got != wanted(name) {
			t.Fatalf("%q: %v", name, got)
		}
	})
}

// What a LIST may ask for has an end, and says so.
func TestListPatternBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.dial("a")
	l.login()
	for _, c := range []struct {
		patterns, want string
	}{
		{strings.Repeat("a* ", maxPatterns) + "b*", "NO [LIMIT] There are too many patterns"},
		{strings.Repeat("*x", maxPatternOctets), "NO [LIMIT] The patterns are too long"},
		{strings.Repeat(strings.Repeat("x", 500)+"% ", 9) + "b", "NO [LIMIT] The patterns are too long"},
		{strings.Repeat("*%", 10_000), "OK LIST completed"}, // one wildcard
		{strings.Repeat(strings.Repeat("x", 500)+" ", 20) + "b", "OK LIST completed"},
	} {
		for _, command := range []string{`LIST "" (%s)`, `LIST (SUBSCRIBED RECURSIVEMATCH) "" (%s)`} {
			l.send("x " + fmt.Sprintf(command, c.patterns) + "\r\n")
			l.skip("x " + c.want)
		}
	}
}

// BenchmarkListPatterns matches 1,000 folders with the most and the worst patterns.
func BenchmarkListPatterns(b *testing.B) {
	var names, patterns []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("Archive/%04d/%s", i, strings.Repeat("a", 40)))
	}
	for i := range maxPatterns {
		patterns = append(patterns, strings.Repeat("*a%", 12)+fmt.Sprint(i))
	}
	for b.Loop() {
		l, err := newListPattern("", patterns)
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range names {
			if l.match(name, nil) {
				b.Fatal(name)
			}
		}
	}
}
