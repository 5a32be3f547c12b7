package daemon

import (
	"bufio"
	"crypto/tls"
	"io"
	"strings"
	"testing"

	"mailform/server/manifest"
)

// What arrives by SMTP is fetched by POP3, over both kinds of port, when the
// manifest asks for it.
func TestFetchesByPOP3(t *testing.T) {
	h := newHost(t)
	h.manifest.POP3 = &manifest.POP3{}
	h.writeManifest()
	conf := &tls.Config{RootCAs: h.writeCertificate(1), ServerName: "mail.example.com"}
	h.start()
	k := h.dialService("smtp")
	k.do("", "220")
	k.do("EHLO x", "250")
	k.message("carol@sender.example", "Subject: for bob\r\n\r\nhello bob", "bob@example.com")

	for _, name := range []string{"pop3", "pop3s"} {
		c := h.dialService(name).conn
		r := bufio.NewReader(c)
		say := func(command, want string) {
			t.Helper()
			if command != "" {
				_, err := io.WriteString(c, command+"\r\n")
				h.must(err)
			}
			line, err := r.ReadString('\n')
			h.must(err)
			if !strings.HasPrefix(line, want) {
				t.Fatalf("%s: %s was answered with %q", name, command, line)
			}
		}
		if name == "pop3" {
			say("", "+OK")
			say("USER bob@example.com", "-ERR [SYS/PERM]")
			say("STLS", "+OK")
		}
		c = tls.Client(c, conf)
		r = bufio.NewReader(c)
		if name == "pop3s" {
			say("", "+OK")
		}
		say("USER bob@example.com", "+OK")
		say("PASS wrong", "-ERR [AUTH]")
		say("USER Bob@example.com", "+OK")
		say("PASS bob's secret", "+OK 1 messages")
		say("RETR 1", "+OK")
		for line := ""; line != ".\r\n"; {
			var err error
			line, err = r.ReadString('\n')
			h.must(err)
		}
		say("QUIT", "+OK")
	}
}
