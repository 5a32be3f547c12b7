package agent

import (
	"os"
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
)

func leaseRequest(id, who, place string) manifest.LeaseRequest {
	return manifest.LeaseRequest{
		Claim: manifest.Claim{Stack: claim().Stack, Host: claim().Host}, ID: id, Seconds: 60,
		Holder: manifest.Holder{Who: who, Host: "laptop", PID: 7, Command: "mailform apply", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Place: place},
	}
}

// acquire takes the lease, or returns what the refusal says.
func (m *machine) acquire(req manifest.LeaseRequest) (manifest.Leased, string) {
	m.t.Helper()
	out, err := m.agent().AcquireLease(m.t.Context(), req)
	if err == nil {
		return out, ""
	}
	if ExitCode(err) != manifest.ExitLeased {
		m.t.Fatalf("acquire: %v", err)
	}
	return out, err.Error()
}

func TestLeaseIsOneRuns(t *testing.T) {
	m := newMachine(t)
	m.install()
	first, refused := m.acquire(leaseRequest("A", "alice", ""))
	if refused != "" || first.Lease.Epoch != 1 || first.Facts.Lease == nil || first.Facts.Lease.ID != "A" {
		t.Fatalf("%+v, %s", first, refused)
	}
	if _, refused := m.acquire(leaseRequest("B", "bob", "")); !strings.Contains(refused, "alice on laptop (process 7") {
		t.Errorf("second run: %q", refused)
	}
	// The answer got lost: the same question has the same answer.
	if again, refused := m.acquire(leaseRequest("A", "alice", "")); refused != "" || again.Lease.Epoch != 1 {
		t.Errorf("asked again: %+v, %s", again, refused)
	}
	m.now = m.now.Add(50 * time.Second)
	if r, err := m.agent().RenewLease(t.Context(), leaseRequest("A", "", "")); err != nil || !r.Expires.Equal(m.now.Add(time.Minute)) {
		t.Errorf("renew: %+v, %v", r, err)
	}
	m.now = m.now.Add(59 * time.Second)
	if _, refused := m.acquire(leaseRequest("B", "bob", "")); refused == "" {
		t.Error("a renewed lease was taken over")
	}
	m.now = m.now.Add(2 * time.Second)
	second, refused := m.acquire(leaseRequest("B", "bob", ""))
	if refused != "" || second.Lease.Epoch != 2 {
		t.Fatalf("after it expired: %+v, %s", second, refused)
	}
	if _, err := m.agent().RenewLease(t.Context(), leaseRequest("A", "", "")); ExitCode(err) != manifest.ExitFenced || !strings.Contains(err.Error(), "bob") {
		t.Errorf("renew what was taken over: %v", err)
	}
	if out, err := m.agent().ReleaseLease(t.Context(), leaseRequest("A", "", "")); err != nil || out.Released {
		t.Errorf("released somebody else's: %+v, %v", out, err)
	}

	// What the first run still sends is refused, what the second sends is not.
	late := wanted()
	late.Epoch = 1
	if _, _, err := m.converge(late); ExitCode(err) != manifest.ExitFenced {
		t.Errorf("converge of a run that was taken over: %v", err)
	}
	now := wanted()
	now.Epoch = 2
	m.mustConverge(now)

	if out, err := m.agent().ReleaseLease(t.Context(), leaseRequest("B", "", "")); err != nil || !out.Released {
		t.Errorf("release: %+v, %v", out, err)
	}
	if m.observe().Lease != nil {
		t.Error("a lease that was given back is still there")
	}
	third, refused := m.acquire(leaseRequest("C", "carol", ""))
	if refused != "" || third.Lease.Epoch != 3 {
		t.Errorf("the epoch must rise: %+v, %s", third, refused)
	}
}

// An expired lease that nobody has taken is its holder's still.
func TestLeaseIsRenewedLate(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.acquire(leaseRequest("A", "alice", ""))
	m.now = m.now.Add(time.Hour)
	if m.observe().Lease != nil {
		t.Error("an expired lease is shown")
	}
	if _, err := m.agent().RenewLease(t.Context(), leaseRequest("A", "", "")); err != nil {
		t.Error(err)
	}
	if _, refused := m.acquire(leaseRequest("B", "bob", "")); refused == "" {
		t.Error("a renewed lease was taken over")
	}
}

// The lock file of a stack's folder is held by one process: another lease from
// there is of a dead one.
func TestLeaseOfTheSamePlace(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.acquire(leaseRequest("A", "alice", "here"))
	if _, refused := m.acquire(leaseRequest("B", "bob", "there")); refused == "" {
		t.Error("taken over from another place")
	}
	next, refused := m.acquire(leaseRequest("B", "alice", "here"))
	if refused != "" || next.Lease.Epoch != 2 {
		t.Errorf("%+v, %s", next, refused)
	}
}

func TestLeaseIsBroken(t *testing.T) {
	m := newMachine(t)
	m.install()
	first, _ := m.acquire(leaseRequest("A", "alice", ""))
	br := leaseRequest("A", "", "")
	br.Break = true
	if out, err := m.agent().ReleaseLease(t.Context(), br); err != nil || !out.Released {
		t.Fatalf("%+v, %v", out, err)
	}
	late := wanted()
	late.Epoch = first.Lease.Epoch
	if _, _, err := m.converge(late); ExitCode(err) != manifest.ExitFenced {
		t.Errorf("converge of the run whose lease was broken: %v", err)
	}
	if next, refused := m.acquire(leaseRequest("B", "bob", "")); refused != "" || next.Lease.Epoch != 3 {
		t.Errorf("%+v, %s", next, refused)
	}
}

// Installing takes the lease in the same step, and its epoch stays above what
// the run had on the machine that was replaced.
func TestLeaseWithInstall(t *testing.T) {
	m := newMachine(t)
	sum, err := fileSHA256(m.path("/usr/local/lib/mailform/.upload-test"))
	if err != nil {
		t.Fatal(err)
	}
	lease := leaseRequest("A", "alice", "")
	c := claim()
	c.Epoch = 7
	lease.Epoch = 7
	out, err := m.agent().Install(t.Context(), manifest.InstallRequest{Claim: c, SHA256: sum, Lease: &lease})
	if err != nil || out.Lease == nil || out.Lease.Epoch != 8 {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, refused := m.acquire(leaseRequest("B", "bob", "")); refused == "" {
		t.Error("the lease that came with the installation does not hold")
	}
}

// Observing for a run that has nothing to do here takes no lease and writes nothing.
func TestLeaseOnlyOnOurOwn(t *testing.T) {
	m := newMachine(t)
	before := m.snapshot()
	if out, refused := m.acquire(leaseRequest("A", "alice", "")); refused != "" || out.Lease != nil || out.Facts == nil {
		t.Errorf("a machine that is nobody's: %+v, %s", out, refused)
	}
	if m.snapshot() != before {
		t.Error("something was written on a machine that is nobody's")
	}
	m.install()
	other := leaseRequest("A", "alice", "")
	other.Stack = "other"
	if out, refused := m.acquire(other); refused != "" || out.Lease != nil || out.Facts.Owner == nil {
		t.Errorf("another stack's machine: %+v, %s", out, refused)
	}
	bad := leaseRequest("A", "alice", "")
	bad.Seconds = 1 << 40
	if _, err := m.agent().AcquireLease(t.Context(), bad); ExitCode(err) != manifest.ExitRequest {
		t.Errorf("a lease for ever: %v", err)
	}
}

// A clock that was set back does not make a lease last for ever.
func TestLeaseAndTheClock(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.acquire(leaseRequest("A", "alice", ""))
	m.now = m.now.Add(-2 * time.Second)
	if _, refused := m.acquire(leaseRequest("B", "bob", "")); refused == "" {
		t.Error("a small step of the clock lost a live lease")
	}
	m.now = m.now.Add(-24 * time.Hour)
	if next, refused := m.acquire(leaseRequest("B", "bob", "")); refused != "" || next.Lease.Epoch != 2 {
		t.Errorf("%+v, %s", next, refused)
	}
	if err := os.WriteFile(m.layout.LeaseFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.agent().AcquireLease(t.Context(), leaseRequest("C", "carol", "")); err == nil || !strings.Contains(err.Error(), "lease.json") {
		t.Errorf("a damaged lease file: %v", err)
	}
}
