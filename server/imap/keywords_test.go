package imap

import (
	"fmt"
	"strings"
	"testing"

	"mailform/server/store"
)

// A mailbox takes so many keywords. The client is told when there is no room for others.
func TestKeywordsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deliver("INBOX", "Subject: x\n\nx")
	w.deliver("INBOX", "Subject: x\n\nx")
	l := w.dial("a")
	l.login()
	l.send("0 SELECT INBOX\r\n")
	l.skip("0 OK *")
	// says sends a command and returns the PERMANENTFLAGS that came with its answer.
	says := func(command, want string) (permanent string) {
		t.Helper()
		l.send("x " + command + "\r\n")
		for {
			got := l.read()
			if strings.HasPrefix(got, "* OK [PERMANENTFLAGS") {
				permanent = got
			}
			if strings.HasPrefix(got, "x ") {
				if !matchLine("x "+want, got) {
					t.Errorf("%.60s: %s, want %s", command, got, want)
				}
				return permanent
			}
		}
	}
	var words []string
	for i := range store.MaxKeywords {
		words = append(words, fmt.Sprint("word", i))
	}
	half := len(words) / 2
	if got := says("STORE 1 FLAGS ("+strings.Join(words[:half], " ")+")", "OK *"); !strings.Contains(got, `\*)`) {
		t.Errorf("with room for more: %s", got)
	}
	says("STORE 1 +FLAGS ("+strings.Repeat("x", store.MaxKeyword+1)+")", "NO [LIMIT] *")
	says("STORE 1 -FLAGS ("+strings.Repeat("x", 10_000)+")", "NO [LIMIT] *")
	if got := says("STORE 2 FLAGS ("+strings.Join(words[half:], " ")+")", "OK *"); got == "" || strings.Contains(got, `\*`) {
		t.Errorf("without room for more: %s", got)
	}
	says("STORE 1 +FLAGS (more)", "NO [LIMIT] The mailbox cannot have so many keywords, or such a long one")
	says("APPEND INBOX (more) {1+}\r\nx", "NO [LIMIT] *")
	says("APPEND INBOX (word1) {1+}\r\nx", "OK *")
	if got := says("SELECT INBOX", "OK *"); got == "" || strings.Contains(got, `\*`) {
		t.Errorf("selected again: %s", got)
	}
	says("STORE 2 FLAGS ()", "OK *")
	if got := says("SELECT INBOX", "OK *"); !strings.Contains(got, `\*)`) {
		t.Errorf("with room again: %s", got)
	}
}
