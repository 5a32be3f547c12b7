package agent

import (
	"slices"
	"testing"

	"mailform/server/manifest"
)

// A removed mailbox that is erased is forgotten with its password, once nothing of
// its mail was left; one that is in use is not touched.
func TestEraseMailbox(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	without := wanted()
	without.Manifest.Domains[0].Mailboxes = without.Manifest.Domains[0].Mailboxes[:1]
	m.mustConverge(without)
	const bob = "bob@acme.example"
	ask := func(addr string, epoch int64) (manifest.Erased, error) {
		claim := wanted().Claim
		claim.Epoch = epoch
		return m.agent().EraseMailbox(t.Context(), manifest.EraseRequest{Claim: claim, Address: addr})
	}
	hash := func() string {
		c, err := m.agent().readCredentials()
		if err != nil {
			t.Fatal(err)
		}
		return c.Hashes[bob]
	}
	if hash() == "" {
		t.Fatal("bob has no password: the test shows nothing")
	}
	leased, err := m.agent().AcquireLease(t.Context(), manifest.LeaseRequest{Claim: wanted().Claim, ID: "run", Seconds: 60})
	if err != nil {
		t.Fatal(err)
	}
	epoch := leased.Lease.Epoch
	if _, err := ask(bob, epoch-1); ExitCode(err) != manifest.ExitFenced {
		t.Errorf("without the lease: %v", err)
	}
	if _, err := ask("alice@acme.example", epoch); ExitCode(err) != manifest.ExitRequest {
		t.Errorf("a mailbox in use: %v", err)
	}
	if slices.ContainsFunc(m.calls, func(c string) bool { return len(c) > 5 && c[:5] == "erase" }) {
		t.Fatalf("it was erased all the same: %q", m.calls)
	}
	m.stuck = true
	if e, err := ask(bob, epoch); err != nil || e.Clean || len(m.observe().Retained) != 1 || hash() == "" {
		t.Errorf("what is not clean stays known: %+v, %v", e, err)
	}
	m.stuck = false
	if e, err := ask(bob, epoch); err != nil || !e.Clean {
		t.Fatalf("%+v, %v", e, err)
	}
	if len(m.observe().Retained) != 0 || hash() != "" {
		t.Error("the mailbox or its password is known still")
	}
	if _, err := ask(bob, epoch); ExitCode(err) != manifest.ExitRequest {
		t.Errorf("once more: %v", err)
	}
}
