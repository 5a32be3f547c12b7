package daemon

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"mailform/server/manifest"
)

// caller is a client of one of the services, over TLS.
type caller struct {
	h       *host
	service string
	conn    *tls.Conn
	r       *bufio.Reader
	offers  string // what the server offers, in one line
}

func (h *host) call(service string, roots *x509.CertPool, version uint16) *caller {
	h.t.Helper()
	raw := h.dialService(service).conn
	c := &caller{h: h, service: service, conn: tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "mail.example.com", MaxVersion: version}), r: bufio.NewReader(raw)}
	say := func(command, last string) (all string) {
		h.t.Helper()
		if command != "" {
			_, err := io.WriteString(raw, command+"\r\n")
			h.must(err)
		}
		return c.until(last)
	}
	switch service {
	case "imap":
		say("", "* OK")
		say("s STARTTLS", "s OK")
	case "pop3":
		say("", "+OK")
		say("STLS", "+OK")
	case "submission":
		say("", "220 ")
		say("EHLO x", "250 ")
		say("STARTTLS", "220 ")
	}
	raw, c.r = c.conn, bufio.NewReader(c.conn)
	switch service {
	case "imaps":
		c.offers = say("", "* OK")
	case "imap":
		c.offers = say("c CAPABILITY", "c OK")
	case "pop3s":
		say("", "+OK")
		c.offers = say("CAPA", ".")
	case "pop3":
		c.offers = say("CAPA", ".")
	case "submissions":
		say("", "220 ")
		c.offers = say("EHLO x", "250 ")
	case "submission":
		c.offers = say("EHLO x", "250 ")
	}
	return c
}

// until reads lines up to one that begins so.
func (c *caller) until(last string) string {
	c.h.t.Helper()
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			c.h.t.Fatalf("%s: %v after %q; log:\n%s", c.service, err, all.String(), c.h.logs)
		}
		if strings.HasPrefix(line, last) {
			return all.String()
		}
	}
}

// command sends a command and returns the last line of its answer, or a challenge.
func (c *caller) command(text string) (line string, challenge []byte, more bool) {
	c.h.t.Helper()
	_, err := io.WriteString(c.conn, text+"\r\n")
	c.h.must(err)
	line, err = c.r.ReadString('\n')
	c.h.must(err)
	line = strings.TrimRight(line, "\r\n")
	for _, prefix := range []string{"+ ", "334 "} {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			challenge, err = base64.StdEncoding.DecodeString(rest)
			c.h.must(err)
			return line, challenge, true
		}
	}
	return line, nil, false
}

func (c *caller) verb() string {
	if strings.HasPrefix(c.service, "imap") {
		return "a AUTHENTICATE "
	}
	return "AUTH "
}

// plain logs bob in without SCRAM.
func (c *caller) plain() string {
	c.h.t.Helper()
	line, _, _ := c.command(c.verb() + "PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00bob@example.com\x00bob's secret")))
	return line
}

// auth logs in and returns the last answer. With early the first message goes with the command.
func (c *caller) auth(mechanism string, conv *scram.ClientConversation, early bool) string {
	c.h.t.Helper()
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	message, err := conv.Step("")
	c.h.must(err)
	begin := c.verb() + mechanism
	if early {
		begin += " " + b64(message)
	}
	line, challenge, more := c.command(begin)
	if !early && more {
		line, challenge, more = c.command(b64(message))
	}
	for more {
		message, err = conv.Step(string(challenge))
		c.h.must(err)
		line, challenge, more = c.command(b64(message))
	}
	if ok := strings.Contains(line, "OK") || strings.HasPrefix(line, "235"); ok != conv.Valid() {
		c.h.t.Errorf("%s: %q, while the client's view of the server is %v", c.service, line, conv.Valid())
	}
	return line
}

// Every service that people log in to takes SCRAM, once it knows the password, over
// both versions of TLS, bound to it or not; a spec without it ends that.
func TestSCRAM(t *testing.T) {
	h := newHost(t)
	h.manifest.POP3 = &manifest.POP3{}
	h.writeManifest()
	roots := h.writeCertificate(1)
	h.start()
	services := []string{"imap", "imaps", "pop3", "pop3s", "submission", "submissions"}
	peer := func(password string) *scram.Client {
		c, err := scram.SHA256.NewClient("bob@example.com", password, "")
		h.must(err)
		return c
	}
	refused := func(line string) bool {
		return strings.HasPrefix(line, "a NO [AUTHENTICATIONFAILED]") || strings.HasPrefix(line, "-ERR [AUTH]") || strings.HasPrefix(line, "535 ")
	}

	// Nobody has told the server the password yet. The client goes on to what it has beside.
	c := h.call("imaps", roots, 0)
	if line := c.auth("SCRAM-SHA-256", peer("bob's secret").NewConversation(), true); !refused(line) {
		t.Fatalf("without keys: %q", line)
	}
	if line := c.plain(); refused(line) {
		t.Fatalf("PLAIN after it: %q", line)
	}
	every := func() {
		t.Helper()
		for _, service := range services {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				c := h.call(service, roots, version)
				want := "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"
				switch service[:4] {
				case "imap":
					want = "AUTH=" + strings.ReplaceAll(want, " ", " AUTH=")
				case "subm":
					want = "AUTH SCRAM-SHA-256 PLAIN LOGIN"
				}
				if !strings.Contains(c.offers, want) {
					t.Fatalf("%s offers %q, want %q", service, c.offers, want)
				}
				cs := c.conn.ConnectionState()
				binding, err := scram.NewTLSExporterBinding(&cs)
				h.must(err)
				if line := c.auth("SCRAM-SHA-256-PLUS", peer("bob's secret").NewConversationWithChannelBinding(binding), version == tls.VersionTLS13); refused(line) {
					t.Errorf("%s with %x: %q; log:\n%s", service, version, line, h.logs)
				}
				if line := h.call(service, roots, version).auth("SCRAM-SHA-256", peer("bob's secret").NewConversation(), false); refused(line) {
					t.Errorf("%s: %q", service, line)
				}
			}
			// Who could not log in by it is shown the others until they have worked.
			c := h.call(service, roots, 0)
			if line := c.auth("SCRAM-SHA-256", peer("guess").NewConversation(), true); !refused(line) {
				t.Errorf("%s with a wrong password: %q", service, line)
			}
			if c := h.call(service, roots, 0); strings.Contains(c.offers, "SCRAM") {
				t.Errorf("%s still offers %q", service, c.offers)
			}
			if line := c.plain(); refused(line) {
				t.Errorf("%s: PLAIN after it: %q", service, line)
			}
		}
	}
	every()
	h.must(h.stop())
	h.start()
	every()

	h.manifest.NoSCRAM = true
	h.writeManifest()
	_, err := h.control.Reload(t.Context())
	h.must(err)
	for _, service := range services {
		c := h.call(service, roots, 0)
		if strings.Contains(c.offers, "SCRAM") {
			t.Errorf("%s offers %q although the spec says no", service, c.offers)
		}
		if line := c.auth("SCRAM-SHA-256", peer("bob's secret").NewConversation(), true); strings.Contains(line, "OK") || strings.HasPrefix(line, "235") {
			t.Errorf("%s: %q although the spec says no", service, line)
		}
	}
	if _, err := os.Stat(h.layout.LoginKeysFile()); !os.IsNotExist(err) {
		t.Errorf("the keys are kept although the spec says no: %v", err)
	}
}
