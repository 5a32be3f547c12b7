package daemon

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"mailform/server/account"
	"mailform/server/manifest"
	"mailform/server/store"
)

// TestPurge: the mail of a removed mailbox goes 30 days later and not before, not
// because of a clock that was wrong for some hours, and never that of a mailbox
// that is served.
func TestPurge(t *testing.T) {
	ctx := t.Context()
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	now := start
	d := &daemon{cfg: Config{Now: func() time.Time { return now }}, log: slog.New(slog.DiscardHandler), store: st}
	m := &manifest.Manifest{Hostname: "mail.acme.example", Domains: []manifest.Domain{{Name: "acme.example", Mailboxes: []manifest.Mailbox{{Local: "alice"}}}}}
	directory, err := account.NewDirectory(m, &manifest.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	const alice, bob = "alice@acme.example", "bob@acme.example"
	for _, a := range []string{alice, bob} {
		if err := st.EnsureAccount(ctx, a, 0); err != nil {
			t.Fatal(err)
		}
		body := "Subject: x\r\n\r\ny\r\n"
		if _, _, err := st.Append(ctx, a, "INBOX", io.NopCloser(strings.NewReader(body)), int64(len(body)), nil, start); err != nil {
			t.Fatal(err)
		}
	}
	d.state.Store(&state{manifest: m, directory: directory, retained: []manifest.Retained{{Address: alice, Since: start}, {Address: bob, Since: start}}})
	p := newPurge(d)
	has := func(a string) bool {
		t.Helper()
		_, n, err := st.Usage(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
	looks := func(at time.Time, want bool) {
		t.Helper()
		p.look(ctx, at)
		if has(bob) != want {
			t.Errorf("at %s: bob's mail is there: %v", at, !want)
		}
		if !has(alice) {
			t.Fatal("the mail of a mailbox that is served is gone")
		}
	}
	looks(start.Add(29*24*time.Hour), true)
	now = start.Add(365 * 24 * time.Hour) // the clock is not believed
	looks(time.Time{}, true)
	looks(start.Add(manifest.RetainedFor-time.Second), true)
	if len(p.purged()) != 0 {
		t.Errorf("told too early: %q", p.purged())
	}
	looks(start.Add(manifest.RetainedFor), false)
	if got := p.purged(); len(got) != 1 || got[0] != bob {
		t.Errorf("it is told that %q are gone", got)
	}
	// A restart still knows, before it believes a clock.
	p = newPurge(d)
	p.look(ctx, time.Time{})
	if got := p.purged(); len(got) != 1 || got[0] != bob {
		t.Errorf("after a restart it is told that %q are gone", got)
	}
}

// TestBelievedClock: what is believed follows a clock that passes as time does,
// distrusts one that jumps, over restarts, too, and comes to believe it.
func TestBelievedClock(t *testing.T) {
	file := t.TempDir() + "/ages.json"
	log := slog.New(slog.DiscardHandler)
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	now := start
	c := newBelievedClock(file, log)
	pass := func(d, ran time.Duration, want time.Time) {
		t.Helper()
		now = now.Add(d)
		c = newBelievedClock(file, log) // each look could be the first of a process
		if got := c.look(now, ran); !got.Equal(want) {
			t.Fatalf("at %s it is believed to be %s, want %s", now, got, want)
		}
	}
	for range 23 {
		pass(time.Hour, time.Hour, time.Time{})
	}
	pass(time.Hour, time.Hour, now.Add(time.Hour)) // it has shown itself for a day
	pass(time.Hour, time.Hour, now.Add(time.Hour))
	pass(10*time.Minute, 0, now.Add(10*time.Minute)) // a reboot
	was := now
	const year = 365 * 24 * time.Hour
	pass(year, time.Hour, was.Add(time.Hour)) // a jump
	for i := range 10 {
		pass(time.Hour, time.Hour, was.Add(time.Duration(i+2)*time.Hour))
	}
	pass(-year, time.Hour, now.Add(-year)) // it is mended: nothing is held against it
	pass(time.Hour, time.Hour, now.Add(time.Hour))
	was = now
	pass(30*24*time.Hour, 0, was) // the machine was off for a month
	for i := range 23 {
		pass(time.Hour, time.Hour, was.Add(time.Duration(i+1)*time.Hour))
	}
	pass(time.Hour, time.Hour, now.Add(time.Hour))
	pass(-48*time.Hour, time.Hour, now.Add(-48*time.Hour)) // back: all is younger
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	pass(time.Hour, time.Hour, time.Time{}) // a lost file costs a day
}
