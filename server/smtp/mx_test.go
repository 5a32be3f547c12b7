package smtp

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mailform/server/store"
)

func TestReceiveFromAnotherServer(t *testing.T) {
	r := start(t)
	dialTo(t, r.mx).do(`
		S: 220 mail.example.com ESMTP Service Ready
		C: EHLO mx.sender.example
		S: 250-mail.example.com Hello mx.sender.example
		S: 250-PIPELINING
		S: 250-8BITMIME
		S: 250-ENHANCEDSTATUSCODES
		S: 250-CHUNKING
		S: 250-STARTTLS
		S: 250-SIZE 52428800
		S: 250 LIMITS RCPTMAX=100
		C: STARTTLS
		S: 220 2.0.0 *
		TLS
		C: EHLO mx.sender.example
		S: 250-*
		S: 250-PIPELINING
		S: 250-8BITMIME
		S: 250-ENHANCEDSTATUSCODES
		S: 250-CHUNKING
		S: 250-SIZE 52428800
		S: 250 LIMITS RCPTMAX=100
		C: MAIL FROM:<Carol@Sender.example> SIZE=100 BODY=8BITMIME
		S: 250 2.1.0 *
		C: RCPT TO:<Sales+x@EXAMPLE.com>
		S: 250 2.1.5 *
		C: DATA
		S: 354 *
		C: From: Carol <carol@sender.example>
		C: Subject: hi
		C:
		C: ..dot
		C: text
		C: .
		S: 250 2.0.0 OK: queued as *
		C: QUIT
		S: 221 2.0.0 *
		S: EOF`)
	d := r.store.one(t)
	if want := "From: Carol <carol@sender.example>\r\nSubject: hi\r\n\r\n.dot\r\ntext\r\n"; d.body != want {
		t.Errorf("body %q, want %q", d.body, want)
	}
	if len(d.Targets) != 1 || len(d.Queue) != 0 {
		t.Fatalf("targets %+v, queue %+v", d.Targets, d.Queue)
	}
	target := d.Targets[0]
	if target.Account != "alice@example.com" || target.Mailbox != "INBOX" {
		t.Errorf("delivered to %s of %s", target.Mailbox, target.Account)
	}
	lines := strings.SplitN(string(target.Prefix), "\r\n", 3)
	if lines[0] != "Return-Path: <Carol@sender.example>" || lines[1] != "Delivered-To: Sales+x@example.com" {
		t.Errorf("prefix begins with %q", lines[:2])
	}
	received := strings.ReplaceAll(lines[2], "\r\n\t", " ")
	if !strings.HasPrefix(received, "Received: from mx.sender.example ([127.0.0.1]) by mail.example.com with ESMTPS id ") ||
		!strings.HasSuffix(received, " for <Sales+x@example.com>; Sun, 22 Nov 2026 10:00:00 +0000\r\n") {
		t.Errorf("received line %q", received)
	}
}

func TestRecipientsAreDecidedAtRcpt(t *testing.T) {
	r := start(t)
	r.store.quota = map[string]int64{"bob@example.com": 1000}
	r.store.domain = store.Quota{Bytes: 2000}
	r.store.used = map[string]int64{"bob@example.com": 900}
	dialTo(t, r.mx).do(`
		S: 220 *
		C: RCPT TO:<alice@example.com>
		S: 503 5.5.1 *
		C: HELO x
		S: 250 mail.example.com Hello x
		C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUuY29tAHB3
		S: 523 *
		C: MAIL FROM:<>
		S: 250 *
		C: MAIL FROM:<second@sender.example>
		S: 503 5.5.1 *
		C: RCPT TO:<alice@example.com>
		S: 250 *
		C: RCPT TO:<nobody@example.com>
		S: 550 5.1.1 <nobody@example.com> is unknown here
		C: RCPT TO:<left@example.com>
		S: 550 5.2.1 *
		C: RCPT TO:<partner@elsewhere.example>
		S: 554 5.7.1 *
		C: RCPT TO:<"al ice"@example.com>
		S: 553 5.1.3 *
		C: RCPT TO:<postmaster@mail.example.com>
		S: 250 *
		C: RSET
		S: 250 *
		C: DATA
		S: 503 *
		C: MAIL FROM:<x@sender.example> SIZE=90
		S: 250 *
		C: RCPT TO:<bob@example.com>
		S: 250 *
		C: RSET
		S: 250 *
		C: MAIL FROM:<x@sender.example> SIZE=101
		S: 250 *
		C: RCPT TO:<bob@example.com>
		S: 452 4.2.2 *
		C: RSET
		S: 250 *
		C: MAIL FROM:<x@sender.example> SIZE=2001
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 452 4.2.2 *
		C: RSET
		S: 250 *
		C: MAIL FROM:<x@sender.example> SIZE=999999999
		S: 552 5.3.4 *
		C: MAIL FROM:<x@sender.example> SMTPUTF8
		S: 504 5.5.4 *
		C: QUIT
		S: 221 *`)
	if n := len(r.store.all()); n != 0 {
		t.Errorf("%d deliveries", n)
	}
}

func TestGuessingRecipientsIsSlowedAndEnded(t *testing.T) {
	r := start(t, func(c *Config, _ *Settings) { c.MaxBadRcpt = 4 })
	dialTo(t, r.mx).do(`
		S: 220 *
		C: HELO x
		S: 250 *
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<a1@example.com>
		S: 550 *
		C: RCPT TO:<a2@example.com>
		S: 550 *
		C: RCPT TO:<a3@example.com>
		S: 550 *
		C: RCPT TO:<a4@example.com>
		S: 421 4.7.0 Too many bad recipients
		S: EOF`)
	if a, b := <-r.slept, <-r.slept; a != time.Second || b != 2*time.Second {
		t.Errorf("answers were delayed by %v and %v", a, b)
	}
}

// The rule that no message is lost: 250 comes after Deliver has returned.
func TestReplyComesAfterDelivery(t *testing.T) {
	r := start(t)
	gate, entered := make(chan struct{}), make(chan struct{})
	r.store.before = func() error { close(entered); <-gate; return nil }
	k := dialTo(t, r.mx)
	k.do(`
		S: 220 *
		C: HELO x
		S: 250 *
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 250 *
		C: DATA
		S: 354 *
		C: Subject: x
		C:
		C: .`)
	<-entered
	_ = k.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if b, err := k.r.ReadByte(); err == nil {
		t.Fatalf("a reply (%q) came before the delivery was durable", b)
	}
	close(gate)
	_ = k.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	k.do(`S: 250 2.0.0 OK: queued as *`)
}

func TestStoreRefusals(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{store.ErrFull, "452 4.3.1 *"},
		{&store.QuotaError{Account: "alice@example.com"}, "452 4.2.2 *"},
		{store.ErrClosed, "421 4.3.2 *"},
		{fmt.Errorf("write /var/lib/secret: disk on fire"), "451 4.3.0 Local error, try again later"},
	} {
		r := start(t)
		r.store.before = func() error { return tc.err }
		dialTo(t, r.mx).do(`
			S: 220 *
			C: HELO x
			S: 250 *
			C: MAIL FROM:<x@sender.example>
			S: 250 *
			C: RCPT TO:<alice@example.com>
			S: 250 *
			C: DATA
			S: 354 *
			C: Subject: x
			C:
			C: .
			S: ` + tc.want + `
			C: NOOP
			S: 250 *`)
	}
}

// A disk that is too full for a message that is on its way in is full in the same
// words, and the connection stays.
func TestFullSpool(t *testing.T) {
	r := start(t, func(c *Config, _ *Settings) {
		c.SpoolDir, c.SpoolMemory = c.SpoolDir+"/missing", 1000
	})
	line := strings.Repeat("x", 900)
	dialTo(t, r.mx).do(`
		S: 220 *
		C: HELO x
		S: 250 *
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 250 *
		C: DATA
		S: 354 *
		C: Subject: x
		C:
		C: ` + line + `
		C: ` + line + `
		C: .
		S: 452 4.3.1 Storage is full, try again later
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 250 *
		C: DATA
		S: 354 *
		C: Subject: small
		C:
		C: .
		S: 250 *`)
}

// A list's members here get the message, those elsewhere are queued, in one delivery.
func TestAliasWithForward(t *testing.T) {
	r := start(t)
	script := `
		S: 220 *
		C: HELO x
		S: 250 *
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<all@example.com>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 250 *
		C: DATA
		S: 354 *
		C: Subject: x
		C: %s
		C:
		C: .
		S: %s`
	dialTo(t, r.mx).do(fmt.Sprintf(script, "X-Y: z", "250 *"))
	<-r.queued
	d := r.store.one(t)
	if len(d.Targets) != 2 || len(d.Queue) != 1 {
		t.Fatalf("%d targets, %d queue entries", len(d.Targets), len(d.Queue))
	}
	e := d.Queue[0]
	if e.From != "x@sender.example" || e.Domain != "elsewhere.example" || len(e.Recipients) != 1 || e.Account != "" ||
		!strings.HasPrefix(string(e.Prefix), "Delivered-To: all@example.com\r\nReceived: ") {
		t.Errorf("queue entry %+v with prefix %q", e, e.Prefix)
	}
	if p := string(d.Targets[0].Prefix); strings.Contains(p, "for <") {
		t.Errorf("a message for two names one in its trace: %q", p)
	}
	// The message comes back from elsewhere.
	dialTo(t, r.mx).do(fmt.Sprintf(script, "delivered-to: All@example.com", "554 5.4.6 Mail is looping"))
	dialTo(t, r.mx).do(fmt.Sprintf(script, "Delivered-To: alice@example.com", "250 *")) // harmless
	dialTo(t, r.mx).do(fmt.Sprintf(script, strings.Repeat("Received: from a by b; x\nC: ", 101)+"X: y", "554 5.4.6 Mail is looping"))
}

func TestBareLineEndsAreRefused(t *testing.T) {
	for _, body := range []string{
		"Subject: x\r\n\r\nsmuggled\n.\nMAIL FROM:<evil@x>\r\n.\r\n",
		"Subject: x\r\n\r\nsmuggled\r.\r\nmore\r\n.\r\n",
		"Subject: x\n\nunix\r\n.\r\n",
		"Subject: x\r\n\r\nlast \r\r\n.\r\n\r\n.\r\n", // the first dot does not end it
	} {
		r := start(t)
		k := dialTo(t, r.mx)
		k.do(`
			S: 220 *
			C: HELO x
			S: 250 *
			C: MAIL FROM:<x@sender.example>
			S: 250 *
			C: RCPT TO:<alice@example.com>
			S: 250 *
			C: DATA
			S: 354 *`)
		k.write(body)
		k.do(`
			S: 550 5.6.0 *
			S: EOF`)
		if n := len(r.store.all()); n != 0 {
			t.Errorf("%q was delivered", body)
		}
	}
}

// A client that stops in the middle of a message is cut off, and what it sends
// later is not taken for commands.
func TestStalledMessage(t *testing.T) {
	for name, timeouts := range map[string]Timeouts{
		"no chunk":      {Chunk: 30 * time.Millisecond},
		"below minimum": {Grace: 30 * time.Millisecond, MinRate: 1 << 20},
	} {
		timeouts.Drain = 30 * time.Millisecond
		r := start(t, func(c *Config, _ *Settings) { c.Timeouts = timeouts })
		k := dialTo(t, r.mx)
		k.do(`
			S: 220 *
			C: HELO x
			S: 250 *
			C: MAIL FROM:<x@sender.example>
			S: 250 *
			C: RCPT TO:<alice@example.com>
			S: 250 *
			C: DATA
			S: 354 *
			C: Subject: x
			S: 451 4.4.2 *
			S: EOF`)
		if n := len(r.store.all()); n != 0 {
			t.Errorf("%s: half a message was delivered", name)
		}
	}
}

func TestSizeLimit(t *testing.T) {
	r := start(t, func(_ *Config, st *Settings) { st.MaxMessageBytes = 1000 })
	send := func(n int, want string) {
		t.Helper()
		k := dialTo(t, r.mx)
		k.do(`
			S: 220 *
			C: HELO x
			S: 250 *
			C: MAIL FROM:<x@sender.example>
			S: 250 *
			C: RCPT TO:<alice@example.com>
			S: 250 *
			C: DATA
			S: 354 *`)
		head := "Subject: x\r\n\r\n"
		k.write(head + strings.Repeat("x", n-len(head)-2) + "\r\n.\r\n")
		k.do(`
			S: ` + want + `
			C: NOOP
			S: 250 *`)
	}
	send(999, "250 *")
	send(5000, "552 5.3.4 *") // and the connection goes on
}

func TestLargeMessageIsSpooled(t *testing.T) {
	r := start(t, func(c *Config, _ *Settings) { c.SpoolMemory = 1000 })
	k := dialTo(t, r.mx)
	k.do(`
		S: 220 *
		C: HELO x
		S: 250 *
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 250 *
		C: DATA
		S: 354 *`)
	text := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("y", 70)+"\r\n", 3000) + strings.Repeat("long ", 5000) + "\r\n"
	k.write(text + ".\r\n")
	k.do(`S: 250 *`)
	if d := r.store.one(t); d.body != text {
		t.Errorf("got %d octets, want %d", len(d.body), len(text))
	}
}

func TestHeaderLimit(t *testing.T) {
	r := start(t, func(c *Config, _ *Settings) { c.MaxHeaderBytes = 1000 })
	k := dialTo(t, r.mx)
	k.do(`
		S: 220 *
		C: HELO x
		S: 250 *
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 250 *
		C: DATA
		S: 354 *`)
	k.write(strings.Repeat("X: y\r\n", 1000) + ".\r\n")
	k.do(`
		S: 552 5.3.4 *
		C: NOOP
		S: 250 *`)
}

func TestChatterIsEnded(t *testing.T) {
	r := start(t, func(c *Config, _ *Settings) { c.CommandBytes = 500 })
	k := dialTo(t, r.mx)
	k.do(`S: 220 *`)
	for {
		if _, err := k.conn.Write([]byte("NOOP\r\n")); err != nil {
			break
		}
		if _, err := k.r.ReadString('\n'); err != nil {
			break // the test's deadline is far away: the server has closed
		}
	}
}

func TestReloadWithOpenConnection(t *testing.T) {
	r := start(t, func(_ *Config, st *Settings) { st.TLS = nil })
	k := dialTo(t, r.mx)
	k.do(`
		S: 220 mail.example.com *
		C: EHLO x
		S: 250-mail.example.com Hello x
		S: 250-PIPELINING
		S: 250-8BITMIME
		S: 250-ENHANCEDSTATUSCODES
		S: 250-CHUNKING
		S: 250-SIZE *
		S: 250 LIMITS *
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<carol@example.com>
		S: 550 5.1.1 *`)
	m := testManifest()
	m.Domains[0].Mailboxes[0].Local = "carol"
	next := r.settings
	next.Routes, next.Hostname, next.TLS = testRoutes(t, m), "new.example.com", testTLS(t)
	r.Set(&next)
	k.do(`
		C: RCPT TO:<alice@example.com>
		S: 250 *
		C: RSET
		S: 250 *
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<carol@example.com>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 550 5.1.1 *
		C: QUIT
		S: 221 *`)
	dialTo(t, r.mx).do(`
		S: 220 new.example.com *
		C: EHLO x
		S: 250-new.example.com Hello x
		S: 250-PIPELINING
		S: 250-8BITMIME
		S: 250-ENHANCEDSTATUSCODES
		S: 250-CHUNKING
		S: 250-STARTTLS
		S: 250-SIZE *
		S: 250 LIMITS *`)
}

func TestNoCertificateYet(t *testing.T) {
	r := start(t, func(_ *Config, st *Settings) { st.TLS = nil })
	dialTo(t, r.subs).do(`S: EOF`)
	dialTo(t, r.sub).do(`
		S: 220 *
		C: STARTTLS
		S: 502 5.5.1 TLS not supported
		C: EHLO x
		S: 250-*
		S: 250-*
		S: 250-*
		S: 250-*
		S: 250-*
		S: 250-SIZE *
		S: 250 LIMITS *
		C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUuY29tAHB3
		S: 523 *
		C: MAIL FROM:<alice@example.com>
		S: 530 5.7.0 Authentication required`)
}

func TestShutdownLetsATransactionEnd(t *testing.T) {
	r := start(t)
	idle, active := dialTo(t, r.mx), dialTo(t, r.mx)
	idle.do(`
		S: 220 *
		C: HELO x
		S: 250 *`)
	active.do(`
		S: 220 *
		C: HELO x
		S: 250 *
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 250 *`)
	done := make(chan error)
	go func() { done <- r.Shutdown(t.Context()) }()
	idle.do(`
		S: 421 *
		S: EOF`)
	if c, err := net.Dial("tcp", r.mx); err == nil {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("a connection after Shutdown was greeted (%d)", n)
		}
		c.Close()
	}
	active.do(`
		C: RCPT TO:<bob@example.com>
		S: 250 *
		C: DATA
		S: 354 *
		C: Subject: x
		C:
		C: .
		S: 250 *
		S: 421 *
		S: EOF`)
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if d := r.store.one(t); len(d.Targets) != 2 {
		t.Errorf("%d targets", len(d.Targets))
	}
}
