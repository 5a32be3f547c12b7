package agent

import (
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
)

func TestRetainedFacts(t *testing.T) {
	kept := map[string]manifest.Retained{
		"a@acme.example": {Address: "a@acme.example", Mailbox: &manifest.Mailbox{Local: "a", PasswordHash: "$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA"}},
		"b@acme.example": {Address: "b@acme.example"}, "c@acme.example": {Address: "c@acme.example"},
	}
	got := retainedFacts(kept, []string{"b@acme.example"})
	if len(got) != 2 || got[1].Address != "c@acme.example" || strings.Contains(got[0].Mailbox.PasswordHash, "argon2id") {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(kept["a@acme.example"].Mailbox.PasswordHash, "argon2id") {
		t.Error("what is kept itself was changed")
	}
}

func TestDaysLeft(t *testing.T) {
	r := manifest.Retained{Since: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	for after, want := range map[time.Duration]int{0: 30, time.Hour: 30, 24 * time.Hour: 29, manifest.RetainedFor - time.Minute: 1, manifest.RetainedFor: 0, 365 * 24 * time.Hour: 0} {
		if got := r.DaysLeft(r.Since.Add(after)); got != want || r.Expired(r.Since.Add(after)) != (want == 0) {
			t.Errorf("after %s: %d days left", after, got)
		}
	}
}

// A removed mailbox comes back as it was, on behalf of a run that holds the lease.
func TestRestoreMailbox(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	without := wanted()
	without.Manifest.Domains[0].Mailboxes = without.Manifest.Domains[0].Mailboxes[:1]
	m.mustConverge(without)
	ask := func(addr string, epoch int64) (manifest.Restored, error) {
		claim := wanted().Claim
		claim.Epoch = epoch
		return m.agent().RestoreMailbox(t.Context(), manifest.RestoreRequest{Claim: claim, Address: addr})
	}
	leased, err := m.agent().AcquireLease(t.Context(), manifest.LeaseRequest{Claim: wanted().Claim, ID: "run", Seconds: 60})
	if err != nil {
		t.Fatal(err)
	}
	epoch := leased.Lease.Epoch
	if _, err := ask("bob@acme.example", epoch-1); ExitCode(err) != manifest.ExitFenced {
		t.Errorf("without the lease: %v", err)
	}
	stale := manifest.PasswordRequest{Claim: wanted().Claim, Address: "bob@acme.example"}
	stale.Epoch = epoch - 1
	if _, err := m.agent().LeasedPassword(t.Context(), stale); ExitCode(err) != manifest.ExitFenced {
		t.Errorf("a password without the lease: %v", err)
	}
	if _, err := ask("nobody@acme.example", epoch); ExitCode(err) != manifest.ExitRequest {
		t.Errorf("a mailbox that nobody removed: %v", err)
	}
	got, err := ask("bob@acme.example", epoch)
	if err != nil || got.Mailbox.Local != "bob" || got.Password != "host" || got.Mailbox.PasswordHash != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	f := m.observe()
	if len(f.Retained) != 0 || findMailbox(f.Manifest, "bob@acme.example") == nil {
		t.Errorf("retained %+v, manifest %+v", f.Retained, f.Manifest.Domains[0].Mailboxes)
	}
	if _, err := ask("bob@acme.example", epoch); ExitCode(err) != manifest.ExitRequest {
		t.Errorf("once more: %v", err)
	}
}

// What was deleted after its time is forgotten; what was not is kept on the list.
func TestPurgedMailboxIsForgotten(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	without := wanted()
	without.Manifest.Domains[0].Mailboxes = without.Manifest.Domains[0].Mailboxes[:1]
	m.mustConverge(without)
	m.now = m.now.Add(manifest.RetainedFor + time.Hour)
	m.mustConverge(without)
	if f := m.observe(); len(f.Retained) != 1 || f.Retained[0].DaysLeft(m.now) != 0 {
		t.Fatalf("before the daemon has deleted it: %+v", f.Retained)
	}
	m.purged = []string{"bob@acme.example"}
	if f := m.observe(); len(f.Retained) != 0 {
		t.Errorf("it is shown as kept: %+v", f.Retained)
	}
	m.mustConverge(without)
	m.purged = nil
	if f := m.observe(); len(f.Retained) != 0 {
		t.Errorf("it is on the list still: %+v", f.Retained)
	}
}
