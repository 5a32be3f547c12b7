package smtp

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The limit on what an account submits counts messages that were taken, holds
// across connections and reloads, and says when there is room again.
func TestMessagesPerHour(t *testing.T) {
	var clock atomic.Int64
	clock.Store(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).Unix())
	r := start(t, func(c *Config, s *Settings) {
		c.Now = func() time.Time { return time.Unix(clock.Load(), 0).UTC() }
		s.MessagesPerHour = 2
	})
	const message = `
		C: MAIL FROM:<alice@example.com>
		S: 250 *
		C: RCPT TO:<bob@example.com>
		S: 250 *
		C: DATA
		S: 354 *
		C: From: alice@example.com
		C:
		C: hello
		C: .
		S: 250 2.0.0 OK: queued as *`
	k := login(t, r)
	k.do("C: MAIL FROM:<alice@example.com>\nS: 250 *\nC: RSET\nS: 250 *") // not sent, not counted
	k.do(message)
	other := login(t, r) // its transaction is open when the limit is reached
	other.do("C: MAIL FROM:<alice@example.com>\nS: 250 *\nC: RCPT TO:<bob@example.com>\nS: 250 *")
	clock.Add(600)
	k.do(message)
	k.do(`
		C: MAIL FROM:<alice@example.com>
		S: 450 4.7.1 You have reached your limit of messages per hour (2); try again in 50 minutes`)
	other.do(`
		C: DATA
		S: 354 *
		C: From: alice@example.com
		C:
		C: hello
		C: .
		S: 450 4.7.1 You have reached your limit of messages per hour (2); try again in 50 minutes`)
	settings := r.settings
	r.Set(&settings) // a reload
	k.do("C: MAIL FROM:<alice@example.com>\nS: 450 *")
	bob := dialTo(t, r.subs)
	bob.startTLS()
	bob.do("S: 220 *\nC: HELO x\nS: 250 *\nC: AUTH PLAIN AGJvYkBleGFtcGxlLmNvbQBwdw==\nS: 235 *\nC: MAIL FROM:<bob@example.com>\nS: 250 *")
	settings.MessagesPerHour = 3
	r.Set(&settings)
	k.do(message)
	clock.Add(3000)
	k.do(message)
	if n := len(r.store.all()); n != 4 {
		t.Errorf("%d messages delivered, want 4", n)
	}
	mx := dialTo(t, r.mx) // what comes from outside is not any account's
	mx.do("S: 220 *\nC: HELO x\nS: 250 *\nC: MAIL FROM:<alice@example.com>\nS: 250 *")
}

// A lowered limit holds for the next transaction of an open connection.
func TestRecipientsPerMessage(t *testing.T) {
	r := start(t, func(_ *Config, s *Settings) { s.MaxRecipients = 2 })
	k := dialTo(t, r.mx)
	k.do(`
		S: 220 *
		C: EHLO x
		S: 250-*
		S: 250-PIPELINING
		S: 250-8BITMIME
		S: 250-ENHANCEDSTATUSCODES
		S: 250-CHUNKING
		S: 250-STARTTLS
		S: 250-SIZE 52428800
		S: 250 LIMITS RCPTMAX=2
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 250 *
		C: RCPT TO:<bob@example.com>
		S: 250 *
		C: RCPT TO:<sales@example.com>
		S: 452 4.5.3 *`)
	settings := r.settings
	settings.MaxRecipients = 1
	r.Set(&settings)
	k.do(`
		C: RSET
		S: 250 *
		C: MAIL FROM:<x@sender.example>
		S: 250 *
		C: RCPT TO:<alice@example.com>
		S: 250 *
		C: RCPT TO:<bob@example.com>
		S: 452 4.5.3 A message may have at most 1 recipients
		C: DATA
		S: 354 *
		C: Subject: x
		C:
		C: .
		S: 250 *`)
	if d := r.store.one(t); len(d.Targets) != 1 {
		t.Errorf("%d targets", len(d.Targets))
	}
}

// Lines that are no command are answered, but not for ever.
func TestNoCommands(t *testing.T) {
	r := start(t)
	k := dialTo(t, r.mx)
	k.do("S: 220 *")
	k.do(strings.Repeat("C: \x01nonsense\nS: 500 5.5.2 *\n", maxErrors) + "C: and more\nS: 421 4.7.0 *\nS: EOF")
	k = dialTo(t, r.mx)
	k.do("S: 220 *\nC: POST / HTTP/1.1\nS: 421 4.7.0 This is not a web server\nS: EOF")
	k = dialTo(t, r.mx)
	k.do("S: 220 *\nC: NOOP " + strings.Repeat("x", maxCommand-100) + "\nS: 250 *")
	k.write("NOOP " + strings.Repeat("x", maxCommand+100))
	k.do("S: 500 5.5.2 Line is too long\nS: EOF")
}

// Commands of a group are answered at once, RFC 2920, also those behind a message.
func TestPipelining(t *testing.T) {
	r := start(t)
	k := dialTo(t, r.mx)
	k.do("S: 220 *")
	group := "MAIL FROM:<x@sender.example>\r\nRCPT TO:<nobody@example.com>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n"
	k.write("EHLO x\r\nNOOP\r\n" + group)
	k.do(strings.Repeat("S: 250-*\n", 6) + "S: 250-SIZE *\nS: 250 LIMITS *\nS: 250 2.0.0 OK\nS: 250 2.1.0 *\nS: 550 5.1.1 *\nS: 250 2.1.5 *\nS: 354 *")
	k.write("Subject: x\r\n\r\none\r\n.\r\n" + group)
	k.do("S: 250 2.0.0 *\nS: 250 2.1.0 *\nS: 550 *\nS: 250 2.1.5 *\nS: 354 *")
	k.write("Subject: x\r\n\r\n..\r\n.\r\nQUIT\r\n")
	k.do("S: 250 2.0.0 *\nS: 221 *\nS: EOF")
	if all := r.store.all(); len(all) != 2 || all[1].body != "Subject: x\r\n\r\n.\r\n" {
		t.Errorf("delivered %+v", all)
	}
}
