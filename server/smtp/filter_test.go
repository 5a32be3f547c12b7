package smtp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mailform/server/filter"
	"mailform/server/mailauth"
	"mailform/server/manifest"
	"mailform/server/store"
)

// names is a DNS with TXT and A records. What is not in it does not exist.
type names map[string]string

func (n names) LookupTXT(_ context.Context, name string) ([]string, error) {
	if text, ok := n[name]; ok {
		return []string{text}, nil
	}
	return nil, mailauth.ErrNoName
}

func (n names) LookupA(_ context.Context, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(n[name]); err == nil {
		return []netip.Addr{a}, nil
	}
	return nil, mailauth.ErrNoName
}

func (n names) LookupAddr(ctx context.Context, name string) ([]netip.Addr, error) {
	return n.LookupA(ctx, name)
}

func (n names) LookupMX(context.Context, string) ([]*net.MX, error) {
	return nil, mailauth.ErrNoName
}

func (n names) LookupPTR(_ context.Context, a netip.Addr) ([]string, error) {
	if name, ok := n[a.String()]; ok {
		return []string{name}, nil
	}
	return nil, mailauth.ErrNoName
}

func dns() names {
	return names{
		"192.0.2.7": "mx.good.example.", "mx.good.example": "192.0.2.7",
		"good.example": "v=spf1 ip4:192.0.2.7 -all", "_dmarc.good.example": "v=DMARC1; p=reject",
		"_dmarc.careful.example":  "v=DMARC1; p=quarantine",
		"9.100.51.198.bl.example": "127.0.0.2",
	}
}

// filtered is an option: the server checks mail with a DNS.
func filtered(t testing.TB, n names, p *manifest.Filter) option {
	return func(c *Config, s *Settings) {
		f, err := filter.New(filter.Config{Resolver: n, Logger: slog.New(slog.DiscardHandler), Now: c.Now})
		if err != nil {
			t.Fatal(err)
		}
		c.Filter, s.Policy = f, p
	}
}

// away is a listener whose clients seem to come from addr.
type away struct {
	net.Listener
	addr string
}

func (l away) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return awayConn{c, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(l.addr), 4711))}, nil
}

type awayConn struct {
	net.Conn
	remote net.Addr
}

func (c awayConn) RemoteAddr() net.Addr { return c.remote }

// visit connects to port 25 as a client at addr and says EHLO.
func (r *rig) visit(t *testing.T, addr, helo string) *talk {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Serve(away{l, addr}, MX, false) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = r.Shutdown(ctx)
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	k := dialTo(t, l.Addr().String())
	k.do("S: 220 *\nC: HELO " + helo + "\nS: 250 *")
	return k
}

// send sends a message and expects the last reply to begin with want.
func (k *talk) send(from, to, text, want string) {
	k.t.Helper()
	k.do("C: MAIL FROM:<" + from + ">\nS: 250 *\nC: RCPT TO:<" + to + ">\nS: 250 *\nC: DATA\nS: 354 *")
	k.write(text + "\r\n.\r\n")
	k.do("S: " + want + "*")
}

// Without a policy nothing is refused; what was found out stands on top, and what
// others have forged in our name is gone.
func TestAuthenticationResults(t *testing.T) {
	r := start(t, filtered(t, dns(), nil))
	rest := "Authentication-Results: mx.elsewhere.example; spf=fail\r\nFrom: x@good.example\r\nSubject: hi\r\n\r\nAuthentication-Results: mail.example.com; in the text"
	forged := "Received: from a by b; Sun, 22 Nov 2026 09:00:00 +0000\r\nAuthentication-Results: (really)\r\n MAIL.example.com; dkim=pass header.d=bank.example\r\nX-Mailform-Facts: score=-100\r\n"
	r.visit(t, "192.0.2.7", "mx.good.example").send("x@good.example", "alice@example.com", forged+rest, "250 2.0.0 OK: queued as ")
	d := r.store.one(t)
	if want := "Received: from a by b; Sun, 22 Nov 2026 09:00:00 +0000\r\n" + rest + "\r\n"; d.body != want {
		t.Errorf("body\n%s, want\n%s", d.body, want)
	}
	want := "Return-Path: <x@good.example>\r\nDelivered-To: alice@example.com\r\n" +
		"Authentication-Results: mail.example.com;\r\n\tiprev=pass (mx.good.example) policy.iprev=192.0.2.7;\r\n" +
		"\tspf=pass smtp.mailfrom=good.example;\r\n\tdkim=none;\r\n\tdmarc=pass (p=reject) header.from=good.example\r\nReceived: from mx.good.example "
	if got := string(d.Targets[0].Prefix); !strings.HasPrefix(got, want) || strings.Contains(got, filter.FactsField) {
		t.Errorf("prefix\n%s", got)
	}
}

// Our own users cannot forge it either.
func TestForgedResultsAreRemovedOnSubmission(t *testing.T) {
	r := start(t, filtered(t, dns(), nil))
	login(t, r).send("alice@example.com", "bob@example.com", "Authentication-Results: mail.example.com; dkim=pass\r\nFrom: alice@example.com\r\n\r\nhi", "250")
	if d := r.store.one(t); d.body != "From: alice@example.com\r\n\r\nhi\r\n" || strings.Contains(string(d.Targets[0].Prefix), "Authentication-Results") {
		t.Errorf("%s%s", d.Targets[0].Prefix, d.body)
	}
}

// The policy of the author's domain is told after the message, and the
// connection goes on.
func TestDMARCOnTheWire(t *testing.T) {
	r := start(t, filtered(t, dns(), &manifest.Filter{DMARC: true}))
	k := r.visit(t, "198.51.100.9", "mx.evil.example")
	k.send("x@evil.example", "alice@example.com", "From: Good Bank <x@good.example>\r\n\r\nhi", "550 5.7.1 Refused by the DMARC policy of good.example: neither SPF nor DKIM shows that it sent this message")
	k.send("x@evil.example", "alice@example.com", "From: x@good.example\r\nFrom: x@evil.example\r\n\r\nhi", "550 5.7.1 The message has more than one From field")
	k.send("x@evil.example", "alice@example.com", "From: x@evil.example\r\nno field\r\nfrom : x@good.example\r\n\r\nhi", "550 5.7.1 The message has more than one From field")
	if n := len(r.store.all()); n != 0 {
		t.Fatalf("%d refused messages were delivered", n)
	}
	k.send("x@evil.example", "all@example.com", "From: x@careful.example\r\n\r\nhi", "250")
	d := r.store.one(t)
	for _, target := range d.Targets {
		if target.Mailbox != "Junk" || !strings.Contains(string(target.Prefix), "X-Mailform-Facts: score=10;\r\n\tno-rdns(3);\r\n\thelo-mismatch(2);\r\n\tdmarc-fail:quarantine(5)\r\n") {
			t.Errorf("%s in %s:\n%s", target.Account, target.Mailbox, target.Prefix)
		}
	}
	if len(d.Targets) != 2 || len(d.Queue) != 1 || len(r.store.boxes) != 2 || r.store.boxes["bob@example.com"][0].SpecialUse != `\Junk` {
		t.Errorf("%d targets, %d queued, mailboxes %v", len(d.Targets), len(d.Queue), r.store.boxes)
	}
	// The mailbox goes by its use, not by its name.
	r.store.mu.Lock()
	r.store.boxes["bob@example.com"] = []store.MailboxInfo{{Name: "垃圾邮件", SpecialUse: `\Junk`}}
	r.store.mu.Unlock()
	k.send("x@evil.example", "bob@example.com", "From: Careful, Inc. <x@careful.example>\r\n\r\nhi", "250") // the comma is not quoted
	if all := r.store.all(); all[len(all)-1].Targets[0].Mailbox != "垃圾邮件" {
		t.Errorf("delivered to %s", all[len(all)-1].Targets[0].Mailbox)
	}
	k.send("x@evil.example", "bob@example.com", "From: x@evil.example\r\n\r\nhi", "250")
	if all := r.store.all(); all[len(all)-1].Targets[0].Mailbox != "INBOX" {
		t.Errorf("delivered to %s", all[len(all)-1].Targets[0].Mailbox)
	}
}

// Blocklists and greylisting speak at RCPT; a reload changes what is asked for.
func TestClientsOnTheWire(t *testing.T) {
	r := start(t, filtered(t, dns(), &manifest.Filter{DNSBL: []string{"bl.example"}}))
	k := r.visit(t, "198.51.100.9", "mx.evil.example")
	k.do(`
		C: MAIL FROM:<x@evil.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 550 5.7.1 198.51.100.9 is listed by bl.example; write to postmaster if you think it should not be
		C: RCPT TO:<nobody@example.com>
		S: 550 5.1.1 *
		C: RCPT TO:<postmaster@example.com>
		S: 250 *
		C: RSET
		S: 250 *`)
	settings := r.settings
	settings.Policy = &manifest.Filter{Greylist: true}
	r.Set(&settings)
	k.do(`
		C: MAIL FROM:<x@evil.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 451 4.7.1 Greylisted: try again in 5 min
		C: RSET
		S: 250 *`)
	r.visit(t, "192.0.2.7", "mx.good.example").do(`
		C: MAIL FROM:<x@good.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 250 *`)
	settings.Policy = nil
	r.Set(&settings)
	k.send("x@evil.example", "alice@example.com", "From: x@evil.example\r\n\r\nhi", "250")
}

func TestAttachmentsOnTheWire(t *testing.T) {
	large := strings.Repeat("x", 70) + "\r\n"
	r := start(t, filtered(t, dns(), &manifest.Filter{Attachments: []string{"exe"}}), func(c *Config, _ *Settings) { c.SpoolMemory = 4096 })
	k := r.visit(t, "192.0.2.7", "mx.good.example")
	for _, padding := range []string{"", strings.Repeat(large, 1000)} { // in memory and in a file
		k.send("x@good.example", "alice@example.com", "From: x@good.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"+padding+
			"--b\r\nContent-Disposition: attachment; filename=\"a\r\n .exe\"\r\n\r\nMZ\r\n--b--\r\n", "550 5.7.1 Attachments of type .exe are not taken here (a .exe)")
	}
	k.send("x@good.example", "alice@example.com", "From: x@good.example\r\nSubject: a.exe\r\n\r\nsee a.exe", "250")
}

func TestSwaksIsFiltered(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		t.Skip("swaks is not installed")
	}
	r := start(t, filtered(t, dns(), &manifest.Filter{Attachments: []string{"exe"}, DMARC: true}))
	run := func(args ...string) (string, error) {
		out, err := exec.Command(swaks, append([]string{"--server", r.mx, "-tls", "--to", "alice@example.com", "--timeout", "20"}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := run("--from", "x@evil.example", "--h-From", "x@good.example"); err == nil || !strings.Contains(out, "550 5.7.1 Refused by the DMARC policy of good.example") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run("--from", "x@evil.example", "--attach-name", "run.exe", "--attach", "MZ"); err == nil || !strings.Contains(out, "550 5.7.1 Attachments of type .exe") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run("--from", "x@evil.example", "--attach-name", "a.pdf", "--attach", "%PDF"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if d := r.store.one(t); !strings.Contains(string(d.Targets[0].Prefix), "spf=none smtp.mailfrom=evil.example") {
		t.Errorf("prefix\n%s", d.Targets[0].Prefix)
	}
}
