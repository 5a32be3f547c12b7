package daemon

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// What arrives by SMTP is read by IMAP, with the same password, over both kinds of port.
func TestReadsByIMAP(t *testing.T) {
	h := newHost(t)
	roots := h.writeCertificate(1)
	h.start()
	k := h.dialService("smtp")
	k.do("", "220")
	k.do("EHLO x", "250")
	k.message("carol@sender.example", "Subject: for bob\r\n\r\nhello bob", "bob@example.com")

	options := &imapclient.Options{TLSConfig: &tls.Config{RootCAs: roots, ServerName: "mail.example.com"}}
	for name, dial := range map[string]func(string, *imapclient.Options) (*imapclient.Client, error){"imaps": imapclient.DialTLS, "imap": imapclient.DialStartTLS} {
		c, err := dial(h.addr[name], options)
		h.must(err)
		if err := c.Login("bob@example.com", "wrong").Wait(); err == nil {
			t.Errorf("%s: a wrong password was accepted", name)
		}
		h.must(c.Login("Bob@example.com", "bob's secret").Wait())
		box, err := c.Select("INBOX", nil).Wait()
		h.must(err)
		if box.NumMessages != 1 {
			t.Fatalf("%s: %d messages", name, box.NumMessages)
		}
		section := &imap.FetchItemBodySection{Peek: true}
		messages, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{Envelope: true, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
		h.must(err)
		if m := messages[0]; m.Envelope.Subject != "for bob" || !strings.HasSuffix(string(m.FindBodySection(section)), "\r\n\r\nhello bob\r\n") {
			t.Errorf("%s: read %q", name, m.FindBodySection(section))
		}
		h.must(c.Logout().Wait())
		c.Close()
	}
}
