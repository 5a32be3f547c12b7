package daemon

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"mailform/server/mailauth"
	"mailform/server/manifest"
)

// From the outside in, with the filter of a manifest: what was found out is in
// the message and the log, junk goes where it belongs, and a reload changes it all.
func TestFilter(t *testing.T) {
	h := newHost(t)
	h.remote = "198.51.100.9"
	h.dns.ptr[netip.MustParseAddr(h.remote)] = []string{"mx.sender.example."}
	h.dns.addr["mx.sender.example"] = []netip.Addr{netip.MustParseAddr(h.remote)}
	h.dns.addr["9.100.51.198.bl.example"] = []netip.Addr{netip.MustParseAddr("127.0.0.2")}
	h.dns.txt["_dmarc.example.com"] = []string{"v=DMARC1; p=reject"}
	h.dns.txt["_dmarc.bank.example"] = []string{"v=DMARC1; p=quarantine"}
	for name, text := range h.dkim {
		h.dns.txt[name] = []string{text}
	}
	h.manifest.Filter = &manifest.Filter{DMARC: true, Attachments: []string{"exe"}}
	h.writeManifest()
	h.start()

	k := h.dialService("smtp")
	k.do("", "220")
	k.do("EHLO mx.sender.example", "250")
	text := "From: alice@example.com\r\nSubject: signed\r\n\r\nhi\r\n"
	keys, err := mailauth.Load(h.layout, h.manifest)
	h.must(err)
	signature, err := keys.Sign("example.com", strings.NewReader(text))
	h.must(err)
	k.message("list@sender.example", string(signature)+strings.TrimSuffix(text, "\r\n"), "bob@example.com")
	for _, want := range []string{"Authentication-Results: mail.example.com;\r\n", "iprev=pass (mx.sender.example)", "spf=none smtp.mailfrom=sender.example",
		"dkim=pass header.d=example.com header.s=m-rsa", "dkim=pass header.d=example.com header.s=m-ed", "dmarc=pass (p=reject) header.from=example.com",
		"X-Mailform-Facts: score=0;"} {
		if got := h.inbox("bob@example.com")[0]; !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	k.do("MAIL FROM:<list@sender.example>", "250")
	k.do("RCPT TO:<bob@example.com>", "250")
	k.do("DATA", "354")
	k.do(strings.TrimSuffix(text, "\r\n")+"\r\n.", "550 5.7.1 Refused by the DMARC policy of example.com")
	k.message("x@sender.example", "From: x@bank.example\r\n\r\nhi", "bob@example.com")
	if in, junk := len(h.inbox("bob@example.com")), len(h.mailbox("bob@example.com", "Junk")); in != 1 || junk != 1 {
		t.Errorf("%d in the inbox, %d in junk; want 1 and 1", in, junk)
	}

	h.manifest.Filter = &manifest.Filter{DNSBL: []string{"bl.example"}, Greylist: true}
	h.writeManifest()
	_, err = h.control.Reload(t.Context())
	h.must(err)
	k = h.dialService("smtp") // what the DNS says about a client is asked for once
	k.do("", "220")
	k.do("EHLO somewhere.else.example", "250")
	k.do("MAIL FROM:<x@sender.example>", "250")
	k.do("RCPT TO:<bob@example.com>", "550 5.7.1 198.51.100.9 is listed by bl.example")
	h.manifest.Filter.DNSBL = nil
	h.writeManifest()
	_, err = h.control.Reload(t.Context())
	h.must(err)
	k.do("RSET", "250")
	k.do("MAIL FROM:<x@sender.example>", "250")
	k.do("RCPT TO:<bob@example.com>", "451 4.7.1 Greylisted")
	st, err := h.control.Status(t.Context())
	h.must(err)
	if st.Filter != (manifest.FilterStatus{Refused: 2, Junk: 1, Deferred: 1}) {
		t.Errorf("status: %+v", st.Filter)
	}
	k.do("QUIT", "221")
	h.must(h.stop())
	if _, err := os.Stat(h.layout.GreylistFile()); err != nil {
		t.Errorf("the greylist was not saved: %v", err)
	}
	for _, want := range []string{`"msg":"verdict"`, `"action":"junk"`, `"action":"refuse"`, `"dmarc-fail:reject(10)"`, `"listed:bl.example(10)"`, `"greylisted"`} {
		if !strings.Contains(h.logs.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
}
