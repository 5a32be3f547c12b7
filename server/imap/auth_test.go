package imap

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"mailform/server/account"
	"mailform/server/manifest"
)

// logins lets people log in by SCRAM, and shows it to all of them.
type logins struct {
	*account.Authenticator
	hidden bool
}

func (l *logins) Shown(netip.Addr) bool { return !l.hidden }

func (l *logins) Begin(_ context.Context, _ netip.Addr, plus bool, binding account.Binding) account.Exchange {
	return l.SCRAM(plus, binding)
}

// scramWorld is a world in which alice has keys for SCRAM.
func scramWorld(t *testing.T, change ...func(*Config, *Settings)) (*world, *logins) {
	t.Helper()
	hash, err := account.HashPassword(secret)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := account.SCRAMKeys(secret)
	if err != nil {
		t.Fatal(err)
	}
	d, err := account.NewDirectory(&manifest.Manifest{Domains: []manifest.Domain{{Name: "example.org", Mailboxes: []manifest.Mailbox{{Local: "alice"}}}}},
		&manifest.Credentials{Hashes: map[string]string{alice: hash}, SCRAM: map[string]string{alice: keys}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := account.NewAuthenticator(d, account.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := &logins{Authenticator: a}
	return newWorld(t, append(change, func(_ *Config, s *Settings) { s.SCRAM = l })...), l
}

// What is offered to log in with follows the state of the connection.
func TestMechanisms(t *testing.T) {
	t.Parallel()
	w, logins := scramWorld(t, func(c *Config, _ *Settings) { c.AllowPlaintext = false })
	l := w.dial("a")
	l.expect("* OK [CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ ID SASL-IR ENABLE STARTTLS LOGINDISABLED] *")
	l.send("1 AUTHENTICATE SCRAM-SHA-256 biwsbj1hLHI9Yg==\r\n")
	l.expect("1 NO [PRIVACYREQUIRED] *")
	l.send("2 STARTTLS\r\n")
	l.expect("2 OK *")
	tc := tls.Client(l.nc, &tls.Config{RootCAs: w.roots, ServerName: "localhost"})
	s := newLine(w, "s", tc)
	offer := func(want string) {
		t.Helper()
		s.send("c CAPABILITY\r\n")
		if got := s.read(); !strings.HasSuffix(got, " ENABLE"+want) {
			t.Errorf("offered %q, want %q at its end", got, want)
		}
		s.expect("c OK *")
	}
	offer(" AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=PLAIN AUTH=LOGIN")
	s.send("3 LOGIN " + alice + " " + secret + "\r\n")
	if got := s.read(); strings.Contains(got, "AUTH=") {
		t.Errorf("mechanisms are offered to who has logged in: %s", got)
	}
	s.send("4 UNAUTHENTICATE\r\n")
	s.expect("4 OK *")
	offer(" AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=PLAIN AUTH=LOGIN")
	logins.hidden = true
	offer(" AUTH=PLAIN AUTH=LOGIN")
}

// An exchange ends where the client, or one of the two sides' mistakes, ends it,
// and the connection goes on.
func TestSCRAMExchange(t *testing.T) {
	t.Parallel()
	w, _ := scramWorld(t)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	l := w.dial("a")
	l.expect("* OK [CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ ID SASL-IR ENABLE STARTTLS AUTH=SCRAM-SHA-256 AUTH=PLAIN AUTH=LOGIN] *")
	begin := func(tag, password string) *scram.ClientConversation {
		t.Helper()
		c, err := scram.SHA256.NewClient(alice, password, "")
		if err != nil {
			t.Fatal(err)
		}
		conv := c.NewConversation()
		first, _ := conv.Step("")
		l.send(tag + " AUTHENTICATE SCRAM-SHA-256 " + b64(first) + "\r\n")
		return conv
	}
	answer := func(conv *scram.ClientConversation) {
		t.Helper()
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(l.read(), "+ "))
		if err != nil {
			t.Fatal(err)
		}
		response, err := conv.Step(string(challenge))
		if err != nil {
			t.Fatal(err)
		}
		l.send(b64(response) + "\r\n")
	}
	// Given up at each step.
	l.send("1 AUTHENTICATE SCRAM-SHA-256\r\n")
	l.expect("+ ")
	l.send("*\r\n")
	l.expect("1 BAD *")
	begin("2", secret)
	l.expect("+ *")
	l.send("*\r\n")
	l.expect("2 BAD *")
	conv := begin("3", secret)
	answer(conv)
	l.expect("+ *") // the server's proof
	l.send("*\r\n")
	l.expect("3 BAD *")
	// What is none of its messages, and no base64.
	l.send("4 AUTHENTICATE SCRAM-SHA-256 " + b64("n,,nonsense") + "\r\n")
	l.expect("4 BAD *")
	begin("5", secret)
	l.expect("+ *")
	l.send("!!\r\n")
	l.expect("5 BAD *")
	l.send("6 AUTHENTICATE SCRAM-SHA-256-PLUS " + b64("p=tls-exporter,,n="+alice+",r=x") + "\r\n")
	l.expect("6 BAD *") // nothing to bind to
	// A wrong password counts as one.
	conv = begin("7", "wrong")
	answer(conv)
	l.expect("7 NO [AUTHENTICATIONFAILED] *")
	if d := <-w.slept; d <= 0 {
		t.Errorf("the answer came after %s", d)
	}
	conv = begin("8", secret)
	answer(conv)
	answer(conv)
	l.expect("8 OK [CAPABILITY *] *")
	l.send("9 SELECT INBOX\r\n")
	l.skip("9 OK *")
}
