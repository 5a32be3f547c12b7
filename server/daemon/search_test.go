package daemon

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// What was delivered is found by its words, Chinese ones too, before and after a
// restart, as an index and without one.
func TestSearches(t *testing.T) {
	h := newHost(t)
	roots := h.writeCertificate(1)
	h.start()
	k := h.dialService("smtp")
	k.do("", "220")
	k.do("EHLO x", "250")
	k.message("carol@sender.example", "Subject: report\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n季度销售报告 is here", "bob@example.com")
	k.message("carol@sender.example", "Subject: lunch\r\n\r\nhello\r\nbob", "bob@example.com")
	find := func() {
		t.Helper()
		c, err := imapclient.DialTLS(h.addr["imaps"], &imapclient.Options{TLSConfig: &tls.Config{RootCAs: roots, ServerName: "mail.example.com"}})
		h.must(err)
		defer c.Close()
		h.must(c.Login("bob@example.com", "bob's secret").Wait())
		_, err = c.Select("INBOX", nil).Wait()
		h.must(err)
		for text, want := range map[string]string{"销售": "[1]", "ELL": "[2]", "hello bob": "[2]", "carol": "[1 2]", "售销": "[]"} {
			got, err := c.Search(&imap.SearchCriteria{Text: []string{text}}, nil).Wait()
			h.must(err)
			if fmt.Sprint(got.AllSeqNums()) != want {
				t.Errorf("%q is found in %v, want %s", text, got.AllSeqNums(), want)
			}
		}
		h.must(c.Logout().Wait())
	}
	find()
	h.must(h.stop())
	h.start()
	find()
}
