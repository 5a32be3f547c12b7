package daemon

import (
	"io"
	"log/slog"
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
	looks := func(at time.Time, n int, want bool) {
		t.Helper()
		for i := range n {
			now = at.Add(time.Duration(i) * purgeEvery)
			p.look(ctx)
		}
		if has(bob) != want {
			t.Errorf("at %s: bob's mail is there: %v", now, !want)
		}
		if !has(alice) {
			t.Fatal("the mail of a mailbox that is served is gone")
		}
	}
	looks(start.Add(29*24*time.Hour), 23, true)
	looks(start.Add(365*24*time.Hour), purgeLooks-1, true) // the clock is wrong
	looks(start.Add(29*24*time.Hour), 1, true)
	looks(start.Add(manifest.RetainedFor), purgeLooks-1, true)
	if len(p.purged()) != 0 {
		t.Errorf("told too early: %q", p.purged())
	}
	looks(now.Add(purgeEvery), 1, false)
	if got := p.purged(); len(got) != 1 || got[0] != bob {
		t.Errorf("it is told that %q are gone", got)
	}
	// A restart still knows.
	p = newPurge(d)
	p.look(ctx)
	if got := p.purged(); len(got) != 1 || got[0] != bob {
		t.Errorf("after a restart it is told that %q are gone", got)
	}
}
