package queue

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
	"mailform/server/store"
)

func TestDelivers(t *testing.T) {
	for _, extensions := range [][]string{nil, {"PIPELINING", "8BITMIME", "SIZE 1000000"}} {
		r := newRig(t)
		m := &remote{extensions: extensions}
		r.add("192.0.2.1:25", m)
		r.domain("elsewhere.example", "192.0.2.1")
		id := r.submit("alice@example.com", "x@elsewhere.example", "y@elsewhere.example")
		r.start()
		r.wait("removed " + id)
		r.shutdown()
		if got := m.got(); len(got) != 1 || got[0] != "Received: by us\r\n"+text {
			t.Errorf("the server got %q", got)
		}
		want := []string{"EHLO mail.example.com", "MAIL FROM:<alice@example.com>", "RCPT TO:<x@elsewhere.example>", "RCPT TO:<y@elsewhere.example>", "DATA", "QUIT"}
		if extensions != nil {
			want[1] += fmt.Sprintf(" SIZE=%d BODY=8BITMIME", len("Received: by us\r\n"+text))
		}
		if got := m.log(); !slices.Equal(got, want) {
			t.Errorf("commands %q, want %q", got, want)
		}
	}
}

// Temporary refusals are tried again, later and later, and recipients that
// have the message do not get it twice.
func TestRetries(t *testing.T) {
	for _, extensions := range [][]string{nil, {"PIPELINING"}} {
		r := newRig(t)
		refusals := 3
		m := &remote{extensions: extensions, rcpt: func(to string) string {
			if strings.Contains(to, "<grey@") && refusals > 0 {
				refusals--
				return "451 4.7.1 greylisted"
			}
			return "250 ok"
		}}
		r.add("192.0.2.1:25", m)
		r.domain("elsewhere.example", "192.0.2.1")
		id := r.submit("alice@example.com", "x@elsewhere.example", "grey@elsewhere.example")
		r.start()
		last := r.clock()
		for attempt := 1; attempt <= 3; attempt++ {
			r.wait("updated " + id)
			e, _ := r.store.entry(id)
			if !slices.Equal(e.Recipients, []string{"grey@elsewhere.example"}) || e.Attempts != attempt || !strings.Contains(e.LastError, "451 4.7.1 greylisted") {
				t.Fatalf("attempt %d left %+v", attempt, e)
			}
			wait := e.NextTry.Sub(last)
			if low := 5 * time.Minute << (attempt - 1); wait < low || wait > low*5/4 {
				t.Errorf("attempt %d: next try after %v", attempt, wait)
			}
			r.advance(wait)
			last = r.clock()
		}
		r.wait("removed " + id)
		r.shutdown()
		if got := m.got(); len(got) != 2 {
			t.Errorf("%d messages arrived, want one for each recipient", len(got))
		}
	}
}

func TestNothingIsTriedBeforeItsTime(t *testing.T) {
	r := newRig(t)
	r.domain("elsewhere.example", "192.0.2.1") // nobody listens
	id := r.submit("alice@example.com", "x@elsewhere.example")
	held := r.submit("alice@example.com", "y@elsewhere.example")
	r.store.mu.Lock()
	e := r.store.entries[held]
	e.Hold = true
	r.store.entries[held] = e
	r.store.mu.Unlock()
	r.start()
	r.wait("updated " + id)
	r.advance(5*time.Minute - time.Second)
	r.shutdown()
	if r.dials != 1 {
		t.Errorf("%d connections, want 1", r.dials)
	}
	if e, _ := r.store.entry(held); e.Attempts != 0 {
		t.Error("a held entry was tried")
	}
}

func TestDelayIsOfTheEntryAndBounded(t *testing.T) {
	if delay("a", 1) == delay("b", 1) && delay("a", 2) == delay("b", 2) {
		t.Error("entries that fail together are tried together")
	}
	for n := 1; n < 100; n++ {
		d := delay("x", n)
		if d != delay("x", n) || d < firstDelay || d > maxDelay*5/4 {
			t.Errorf("delay %d is %v", n, d)
		}
	}
	e := store.QueueEntry{ID: "x", Attempts: 3, Queued: epoch, NextTry: epoch.Add(time.Hour + delay("x", 3))}
	if got := lastAttempt(e); !got.Equal(epoch.Add(time.Hour)) {
		t.Errorf("last attempt was at %v", got)
	}
}

func TestSeveralServers(t *testing.T) {
	r := newRig(t)
	second := &remote{}
	r.add("192.0.2.2:25", &remote{greeting: "554 5.3.2 no service here"})
	r.add("192.0.2.3:25", second)
	r.dns.mx["elsewhere.example"] = []MX{{"c.elsewhere.example.", 30}, {"a.elsewhere.example.", 10}, {"b.elsewhere.example.", 20}}
	r.dns.addr["a.elsewhere.example"] = []netip.Addr{netip.MustParseAddr("192.0.2.1")} // refuses
	r.dns.addr["b.elsewhere.example"] = []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.2")}
	r.dns.addr["c.elsewhere.example"] = []netip.Addr{netip.MustParseAddr("192.0.2.3")}
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	r.wait("removed " + id)
	r.shutdown()
	if len(second.got()) != 1 {
		t.Error("the last server did not get the message")
	}
}

// What the DNS says decides between a bounce and another try.
func TestRouting(t *testing.T) {
	r := newRig(t)
	r.dns.mx["null.example"] = []MX{{".", 0}}
	r.dns.mx["loop.example"] = []MX{{"mail.example.com.", 10}, {"backup.example.", 20}}
	r.dns.mx["noaddress.example"] = []MX{{"gone.example.", 10}}
	r.dns.mx["nothing.example"] = nil
	r.dns.fails["servfail.example"] = errors.New("SERVFAIL")
	for _, tc := range []struct {
		domain, status string
		permanent      bool
	}{
		{"missing.example", "5.1.2", true},
		{"null.example", "5.1.10", true},
		{"loop.example", "5.4.6", true},
		{"nothing.example", "5.4.4", true},
		{"noaddress.example", "4.4.3", false},
		{"servfail.example", "4.4.3", false},
		{"[not-an-address]", "5.1.2", true},
	} {
		hosts, f := servers(t.Context(), r.dns, "mail.example.com", tc.domain)
		if f == nil || f.enhanced != tc.status || f.permanent != tc.permanent {
			t.Errorf("%s: hosts %v, failure %+v; want %s", tc.domain, hosts, f, tc.status)
		}
	}
	r.dns.addr["implicit.example"] = []netip.Addr{netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("192.0.2.9")}
	for domain, want := range map[string]string{
		"implicit.example":   "[{implicit.example 192.0.2.9:25} {implicit.example [2001:db8::9]:25}]",
		"[192.0.2.7]":        "[{192.0.2.7 192.0.2.7:25}]",
		"[ipv6:2001:db8::7]": "[{2001:db8::7 [2001:db8::7]:25}]",
	} {
		hosts, f := servers(t.Context(), r.dns, "mail.example.com", domain)
		if f != nil || fmt.Sprint(hosts) != want {
			t.Errorf("%s: %v, %v; want %s", domain, hosts, f, want)
		}
	}
}

func TestStartTLS(t *testing.T) {
	config, _ := testTLS(t, "whatever.example") // self-signed, another name: still better than none
	r := newRig(t)
	m := &remote{tls: config}
	r.add("192.0.2.1:25", m)
	r.domain("elsewhere.example", "192.0.2.1")
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	r.wait("removed " + id)
	r.shutdown()
	want := []string{"EHLO mail.example.com", "STARTTLS", "EHLO mail.example.com", "MAIL FROM:<alice@example.com>", "RCPT TO:<x@elsewhere.example>", "DATA", "QUIT"}
	if got := m.log(); !slices.Equal(got, want) {
		t.Errorf("commands %q, want %q", got, want)
	}
}

func TestBrokenTLSFallsBack(t *testing.T) {
	config, _ := testTLS(t, "x")
	r := newRig(t)
	m := &remote{tls: config, tlsFails: true}
	r.add("192.0.2.1:25", m)
	r.domain("elsewhere.example", "192.0.2.1")
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	r.wait("removed " + id)
	r.shutdown()
	if m.conns != 2 || len(m.got()) != 1 {
		t.Errorf("%d connections, %d messages", m.conns, len(m.got()))
	}
}

func TestRelay(t *testing.T) {
	config, roots := testTLS(t, "smtp.relay.example")
	other, _ := testTLS(t, "smtp.relay.example") // by an authority we do not know
	right := base64.StdEncoding.EncodeToString([]byte("\x00user\x00secret"))
	for _, tc := range []struct {
		name   string
		port   int
		remote *remote
		err    string // "" delivers
	}{
		{"STARTTLS", 587, &remote{tls: config, auth: right, extensions: []string{"AUTH PLAIN LOGIN"}}, ""},
		{"implicit TLS", 465, &remote{tls: config, auth: right, implicit: true, extensions: []string{"AUTH PLAIN"}}, ""},
		{"no TLS", 587, &remote{auth: right, extensions: []string{"AUTH PLAIN"}}, "TLS"},
		{"unknown authority", 587, &remote{tls: other, auth: right, extensions: []string{"AUTH PLAIN"}}, "certificate"},
		{"wrong password", 587, &remote{tls: config, auth: "other", extensions: []string{"AUTH PLAIN"}}, "login refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.cfg.Roots = roots
			r.st.Relay = &manifest.Relay{Host: "smtp.relay.example", Port: tc.port, Username: "user", Password: "secret"}
			r.dns.addr["smtp.relay.example"] = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
			r.add(fmt.Sprintf("192.0.2.1:%d", tc.port), tc.remote)
			a := r.submit("alice@example.com", "x@one.example")
			b := r.submit("alice@example.com", "x@two.example")
			r.start()
			if tc.err == "" {
				r.wait("removed "+a, "removed "+b)
				r.shutdown()
				if n := len(tc.remote.got()); n != 2 {
					t.Errorf("%d messages, want 2", n)
				}
				return
			}
			r.wait("updated "+a, "updated "+b) // never a bounce, never in the clear
			r.shutdown()
			e, _ := r.store.entry(a)
			if !strings.Contains(e.LastError, tc.err) || strings.Contains(e.LastError, "secret") {
				t.Errorf("error %q, want one about %s", e.LastError, tc.err)
			}
			for _, c := range tc.remote.log() {
				if strings.HasPrefix(c, "MAIL") || strings.HasPrefix(c, "AUTH") && tc.name != "wrong password" {
					t.Errorf("sent %q", c)
				}
			}
		})
	}
}

// One connection serves all that is due for a destination.
func TestConnectionIsShared(t *testing.T) {
	r := newRig(t)
	r.cfg.PerDestination = 1
	m := &remote{}
	r.add("192.0.2.1:25", m)
	r.domain("elsewhere.example", "192.0.2.1")
	var want []string
	for i := range 20 {
		want = append(want, "removed "+r.submit("alice@example.com", fmt.Sprintf("x%d@elsewhere.example", i)))
	}
	r.start()
	r.wait(want...)
	r.shutdown()
	if m.conns != 1 || len(m.got()) != 20 {
		t.Errorf("%d messages over %d connections", len(m.got()), m.conns)
	}
}

// A server that hangs up between two messages costs no retry.
func TestServerHangsUpBetweenMessages(t *testing.T) {
	for _, goodbye := range []string{"DROP", "421 4.7.0 enough"} {
		r := newRig(t)
		r.cfg.PerDestination = 1
		n := 0
		m := &remote{mail: func(string) string {
			if n++; n == 2 {
				return goodbye
			}
			return "250 ok"
		}}
		r.add("192.0.2.1:25", m)
		r.domain("elsewhere.example", "192.0.2.1")
		a, b := r.submit("alice@example.com", "x@elsewhere.example"), r.submit("alice@example.com", "y@elsewhere.example")
		r.start()
		r.wait("removed "+a, "removed "+b)
		r.shutdown()
		if m.conns != 2 {
			t.Errorf("%d connections, want 2", m.conns)
		}
	}
}

func TestDroppedConnectionIsTemporary(t *testing.T) {
	for name, m := range map[string]*remote{
		"at once":       {greeting: "DROP"},
		"garbage":       {greeting: "\x00\x01hello\x02"},
		"at MAIL":       {mail: func(string) string { return "DROP" }},
		"at RCPT":       {rcpt: func(string) string { return "DROP" }, extensions: []string{"PIPELINING"}},
		"after message": {data: func(string) string { return "DROP" }},
		"421":           {mail: func(string) string { return "421 4.3.2 going down" }},
	} {
		r := newRig(t)
		r.add("192.0.2.1:25", m)
		r.domain("elsewhere.example", "192.0.2.1")
		id := r.submit("alice@example.com", "x@elsewhere.example")
		r.start()
		r.wait("updated " + id)
		r.shutdown()
		if e, ok := r.store.entry(id); !ok || e.Attempts != 1 || len(e.Recipients) != 1 || e.LastError == "" {
			t.Errorf("%s: left %+v", name, e)
		}
		if n := len(r.store.inbox("alice@example.com")); n != 0 {
			t.Errorf("%s: %d notices", name, n)
		}
	}
}

// A message that cannot be read to its end is not ended for the server either.
func TestUnreadableMessage(t *testing.T) {
	r := newRig(t)
	m := &remote{}
	r.add("192.0.2.1:25", m)
	r.domain("elsewhere.example", "192.0.2.1")
	r.store.readError = store.ErrDamaged
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	r.wait("updated " + id)
	r.shutdown()
	if len(m.got()) != 0 {
		t.Errorf("the server took %q", m.got())
	}
}

// Entries are in the store, and nothing but the store: a new queue goes on.
func TestSurvivesRestart(t *testing.T) {
	r := newRig(t)
	r.domain("elsewhere.example", "192.0.2.1")
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	r.wait("updated " + id)
	r.shutdown()
	m := &remote{}
	r.add("192.0.2.1:25", m)
	r.start()
	r.advance(8 * time.Minute)
	r.wait("removed " + id)
	r.shutdown()
	if len(m.got()) != 1 {
		t.Error("the message did not arrive")
	}
}

// A store that does not take the outcome is asked again; the message is not sent again.
func TestOutcomeIsKeptWhenTheStoreFails(t *testing.T) {
	r := newRig(t)
	m := &remote{}
	r.add("192.0.2.1:25", m)
	r.domain("elsewhere.example", "192.0.2.1")
	failures := 1
	r.store.fail = func(method string) error {
		if method == "RemoveQueue" && failures > 0 {
			failures--
			return store.ErrFull
		}
		return nil
	}
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	r.wait("failed " + id)
	r.advance(8 * time.Minute)
	r.wait("removed " + id)
	r.shutdown()
	if n := len(m.got()); n != 1 {
		t.Errorf("the message was sent %d times", n)
	}
}

// A domain that has become ours since: its mail goes to the mailboxes.
func TestLocalShortCircuit(t *testing.T) {
	r := newRig(t)
	m := &remote{}
	r.add("192.0.2.1:25", m)
	r.domain("elsewhere.example", "192.0.2.1")
	id := r.submit("carol@sender.example", "Alice+t@example.com", "out@example.com", "nobody@example.com")
	r.domain("sender.example", "192.0.2.1")
	r.start()
	// The notice to carol and the forward to x are new entries.
	r.wait("removed "+id, "removed q2", "removed q3")
	r.shutdown()
	got := r.store.inbox("alice@example.com")
	if len(got) != 1 || got[0] != "Return-Path: <carol@sender.example>\r\nDelivered-To: Alice+t@example.com\r\nReceived: by us\r\n"+text {
		t.Errorf("alice has %q", got)
	}
	if n := len(r.store.inbox("bob@example.com")); n != 1 {
		t.Errorf("bob has %d messages", n)
	}
	var forwarded, notices int
	for _, g := range m.got() {
		if strings.HasPrefix(g, "Delivered-To: out@example.com\r\nReceived: by us\r\n") {
			forwarded++
		}
		if strings.Contains(g, "nobody@example.com") && strings.Contains(g, "multipart/report") {
			notices++
		}
	}
	if forwarded != 1 || notices != 1 {
		t.Errorf("%d forwarded, %d notices in %q", forwarded, notices, m.got())
	}
}

func TestShutdownCutsAHangingAttempt(t *testing.T) {
	r := newRig(t)
	entered := make(chan struct{})
	hang := make(chan struct{})
	m := &remote{mail: func(string) string { close(entered); <-hang; return "DROP" }}
	r.add("192.0.2.1:25", m)
	r.domain("elsewhere.example", "192.0.2.1")
	r.cfg.After = func(d time.Duration) (<-chan time.Time, func()) {
		if d == 15*time.Second { // Linger is over at once
			c := make(chan time.Time, 1)
			c <- time.Time{}
			return c, func() {}
		}
		return nil, func() {}
	}
	id := r.submit("alice@example.com", "x@elsewhere.example")
	r.start()
	<-entered
	r.shutdown()
	close(hang)
	if e, _ := r.store.entry(id); e.Attempts != 0 || len(e.Recipients) != 1 {
		t.Errorf("an attempt that was cut short counts: %+v", e)
	}
}
