package imap

import (
	"fmt"
	"strings"
	"testing"

	"mailform/server/store"
)

// One command makes the server do so much for each message or entry, and no more.
func TestCommandsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deliver("INBOX", "Subject: x\n\nx")
	l := w.dial("a")
	l.login()
	l.send("0 SELECT INBOX\r\n")
	l.skip("0 OK *")
	many := func(n int, text string) string { return strings.TrimSuffix(strings.Repeat(text+" ", n), " ") }
	for _, c := range []struct{ command, want string }{
		{"SEARCH " + many(maxKeys, "SEEN"), "OK *"},
		{"SEARCH " + many(maxKeys+1, "SEEN"), "NO [LIMIT] These are too many keys for one search"},
		{"SEARCH " + many(maxKeys/50, "("+many(50, "SEEN")+")"), "NO [LIMIT] *"},
		{"SEARCH " + many(maxKeys/3, "OR SEEN SEEN"), "OK *"},
		{"SEARCH " + many(maxKeys/3+1, "OR SEEN SEEN"), "NO [LIMIT] *"},
		{"SEARCH " + many(maxReadingKeys, "NOT BODY y"), "OK *"},
		{"SEARCH " + many(maxReadingKeys+1, "NOT BODY y"), "NO [LIMIT] *"},
		{"SEARCH " + many(maxReadingKeys+1, "SENTSINCE 1-Jan-2026"), "NO [LIMIT] *"},
		{"SORT (DATE) UTF-8 " + many(maxKeys+1, "SEEN"), "NO [LIMIT] *"},
		{"THREAD REFERENCES UTF-8 " + many(maxKeys+1, "SEEN"), "NO [LIMIT] *"},
		{"FETCH 1 (" + many(maxItems, "BODY.PEEK[]<0.1>") + ")", "OK *"},
		{"FETCH 1 (" + many(maxItems+1, "BODY.PEEK[]<0.1>") + ")", "BAD Too many items"},
		{"FETCH 1 BODY.PEEK[HEADER.FIELDS (" + many(maxItems, "X") + ")]", "OK *"},
		{"FETCH 1 BODY.PEEK[HEADER.FIELDS (" + many(maxItems+1, "X") + ")]", "BAD Expected header fields, * at most"},
	} {
		l.send("x " + c.command + "\r\n")
		for {
			got := l.read()
			if strings.HasPrefix(got, "x ") {
				if !matchLine("x "+c.want, got) {
					t.Errorf("%.60s: %s, want %s", c.command, got, c.want)
				}
				break
			}
		}
	}
}

// What is asked of annotations is looked up, not gone through for each.
func TestAskedFor(t *testing.T) {
	t.Parallel()
	asked := map[string]bool{"/private/a": true, "/shared": true}
	for _, c := range []struct {
		name  string
		depth int
		want  bool
	}{
		{"/private/a", 0, true}, {"/private/a/b", 0, false}, {"/private/a/b", 1, true}, {"/private/a/b/c", 1, false},
		{"/private/a/b/c", maxMetadataDepth, true}, {"/private/ab", maxMetadataDepth, false}, {"/shared/x", 1, true}, {"/private", 1, false},
	} {
		if got := askedFor(asked, c.depth, c.name); got != c.want {
			t.Errorf("%s at depth %d: %v", c.name, c.depth, got)
		}
	}
}

func BenchmarkAskedFor(b *testing.B) {
	asked := map[string]bool{}
	for i := range 20_000 {
		asked[fmt.Sprintf("/private/%d", i)] = true
	}
	for b.Loop() {
		for i := range store.MaxMetadataEntries {
			askedFor(asked, maxMetadataDepth, fmt.Sprintf("/shared/a/b/c/%d", i))
		}
	}
}
