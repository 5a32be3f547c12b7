package daemon

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
	"mailform/server/store"
)

// TestRetention: messages go from the mailbox that a rule means, by when they came
// into it, in bounded commits, and from no other.
func TestRetention(t *testing.T) {
	ctx := t.Context()
	const alice, bob = "alice@acme.example", "bob@other.example"
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	now := start
	st, err := store.Open(t.TempDir(), store.Options{Now: func() time.Time { return now }, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	d := &daemon{cfg: Config{Now: func() time.Time { return now }}, log: slog.New(slog.DiscardHandler), store: st}
	m := &manifest.Manifest{Domains: []manifest.Domain{
		{Name: "acme.example", Mailboxes: []manifest.Mailbox{{Local: "alice"}}, Retention: []manifest.Retention{
			{Name: "trash", Mailbox: "Trash", AfterSeconds: 30 * 24 * 3600}, {Name: "lists", Mailbox: "Lists", AfterSeconds: 24 * 3600}, {Name: "none", Mailbox: "None", AfterSeconds: 24 * 3600}}},
		{Name: "other.example", Mailboxes: []manifest.Mailbox{{Local: "bob"}}},
	}}
	d.state.Store(&state{manifest: m})
	deliver := func(account, box string, n int) {
		t.Helper()
		for i := range n {
			if _, err := st.Deliver(ctx, store.Delivery{Body: strings.NewReader("x"), Size: 1,
				Targets: []store.Target{{Account: account, Mailbox: box, InternalDate: time.Unix(int64(i), 0)}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, a := range []string{alice, bob} {
		if err := st.EnsureAccount(ctx, a, 0); err != nil {
			t.Fatal(err)
		}
	}
	// The bin has another name, and a mailbox that is called Trash is not it.
	for _, f := range []func() error{
		func() error { return st.RenameMailbox(ctx, alice, "Trash", "Deleted Items") },
		func() error { _, err := st.CreateMailbox(ctx, alice, "Trash", ""); return err },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	for _, box := range []string{"INBOX", "Lists", "Lists/Old", "Trash"} {
		deliver(alice, box, 1)
	}
	deliver(alice, "Deleted Items", retentionBatch+5)
	deliver(bob, "Trash", 1)
	now = start.Add(20 * 24 * time.Hour)
	deliver(alice, "Deleted Items", 1)
	r := newRetention(d)
	counts := func() string {
		var b strings.Builder
		for _, a := range []string{alice, bob} {
			boxes, err := st.Mailboxes(ctx, a)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range boxes {
				if x.Messages > 0 {
					fmt.Fprintf(&b, "%s:%d ", x.Name, x.Messages)
				}
			}
		}
		return strings.TrimSpace(b.String())
	}
	expect := func(at time.Duration, want string) {
		t.Helper()
		now = start.Add(at)
		r.look(ctx, now)
		if got := counts(); got != want {
			t.Errorf("after %s: %s, want %s", at, got, want)
		}
	}
	expect(24*time.Hour, "INBOX:1 Deleted Items:506 Lists:1 Lists/Old:1 Trash:1 Trash:1")
	expect(24*time.Hour+time.Second, "INBOX:1 Deleted Items:506 Lists/Old:1 Trash:1 Trash:1")
	expect(30*24*time.Hour+time.Second, "INBOX:1 Deleted Items:1 Lists/Old:1 Trash:1 Trash:1")
	expect(60*24*time.Hour, "INBOX:1 Lists/Old:1 Trash:1 Trash:1")
	var told []string
	for _, x := range r.status(m) {
		told = append(told, fmt.Sprint(x.Rule, x.Removed, x.Failed, !x.Last.IsZero()))
	}
	if got := strings.Join(told, " "); got != "trash506true lists1true none0true" {
		t.Errorf("status: %s", got)
	}
}
