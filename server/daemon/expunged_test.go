package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailform/server/store"
)

// What was expunged is in no file of the server once the store was compacted, not in
// the log, nor in an index, nor in what is cached for mail programs, and the compaction
// says when that was; what its neighbours have is untouched.
func TestExpungedIsGone(t *testing.T) {
	h := newHost(t)
	h.writeCertificate(1)
	h.start()
	mx := h.dialService("smtp")
	mx.do("", "220")
	mx.do("EHLO mx.sender.example", "250")
	for i := range 6 {
		word := []string{"staying", "vanishing"}[i%2]
		large := strings.Repeat(fmt.Sprintf("a line of %swords\r\n", word), 20)
		mx.message("carol@sender.example", fmt.Sprintf("From: %sauthor <carol@sender.example>\r\nSubject: %ssubject %d\r\nX-Own: %sfield\r\n\r\nthe %sbody\r\n%s", word, word, i, word, word, large), "bob@example.com")
	}
	const others = 300 // so many that they are summarised
	for i := range others {
		_, err := h.store.Deliver(t.Context(), store.Delivery{Body: strings.NewReader(fmt.Sprintf("Subject: staying %d\r\n\r\nstaying\r\n", i)), Size: -1,
			Targets: []store.Target{{Account: "bob@example.com", Mailbox: "INBOX"}}})
		h.must(err)
	}
	bob := h.imap("bob@example.com", "bob's secret")
	bob.want("SELECT INBOX", "OK")
	bob.want("FETCH 1:* (ENVELOPE BODYSTRUCTURE PREVIEW)", "OK")
	if got := bob.want("SEARCH BODY vanishingbody", "OK"); !strings.HasPrefix(got, "* SEARCH 2 4 6\r\n") {
		t.Errorf("found %q", got)
	}
	find := func(word string) (files []string) {
		t.Helper()
		for _, path := range filesWith(h, h.layout.Root, word) {
			rel, _ := filepath.Rel(h.layout.StoreDir(), path)
			files = append(files, strings.Split(rel, "/")[0])
		}
		return files
	}
	// With a stop all that is known is written: the indexes have the words, too.
	h.must(h.stop())
	h.start()
	had := strings.Join(find("vanishing"), " ")
	for _, part := range []string{"log", filepath.Base(h.layout.SearchDir()), filepath.Base(h.layout.SummaryDir())} {
		if !strings.Contains(had, part) {
			t.Errorf("before, the words are only in %s and not in %s: the test shows less than it says", had, part)
		}
	}
	bob = h.imap("bob@example.com", "bob's secret")
	bob.want("SELECT INBOX", "OK")
	bob.want(`STORE 2,4,6 +FLAGS.SILENT (\Deleted)`, "OK")
	bob.want("EXPUNGE", "OK")
	before := time.Now()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.layout.ControlSocket())
	}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://control/v1/store/compact?all", nil)
	h.must(err)
	resp, err := client.Do(req)
	h.must(err)
	defer resp.Body.Close()
	var c store.Compaction
	h.must(json.NewDecoder(resp.Body).Decode(&c))
	if resp.StatusCode != http.StatusOK || c.Segments == 0 || c.Time.Before(before) {
		t.Errorf("compacted: %s %+v", resp.Status, c)
	}
	if left := find("vanishing"); len(left) > 0 {
		t.Errorf("it is left in %s", left)
	}
	if list := h.inbox("bob@example.com"); len(list) != 3+others || strings.Count(strings.Join(list, ""), "stayingwords") != 60 {
		t.Errorf("%d messages are left", len(list))
	}
	if got := bob.want("SEARCH BODY stayingbody", "OK"); !strings.HasPrefix(got, "* SEARCH 1 2 3\r\n") {
		t.Errorf("found %q", got)
	}
}
