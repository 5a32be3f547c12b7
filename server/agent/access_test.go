package agent

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"mailform/server/manifest"
)

// guarded is a manifest that closes the doors.
func guarded() manifest.ConvergeRequest {
	req := wanted()
	req.Manifest.HardenSSH = true
	req.Manifest.Firewall = []manifest.Opening{
		{Name: "smtp", Protocol: "tcp", FromPort: 25, ToPort: 25, From: []string{"0.0.0.0/0", "::/0"}},
		{Name: "ssh", Protocol: "tcp", FromPort: 22, ToPort: 22, From: []string{"198.51.100.7/24"}},
		{Name: "allow-game", Protocol: "udp", FromPort: 8000, ToPort: 8010, From: []string{"2001:db8::/32"}},
	}
	return req
}

func newGuarded(t *testing.T) *machine {
	m := newMachine(t)
	m.write("/etc/ssh/sshd_config", "# Debian's\nInclude /etc/ssh/sshd_config.d/*.conf\n", 0o644)
	m.active["ssh.service"] = true
	m.install()
	return m
}

func TestDoors(t *testing.T) {
	m := newGuarded(t)
	res := m.mustConverge(guarded())
	if res.Trial == "" || !res.AccessOnly || !m.active[revertTimer] {
		t.Fatalf("the doors were closed for good: %+v", res)
	}
	if i, j := slices.Index(m.calls, "restart "+revertTimer), slices.Index(m.calls, "reload ssh.service"); i < 0 || j < i {
		t.Errorf("the timer is not first: %q", m.calls)
	}
	m.confirm(res.Trial)
	if err := m.agent().PasswordsReceived(t.Context(), res.Passwords); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\t\tip saddr { 0.0.0.0/0 } tcp dport 25 accept", "\t\tip6 saddr { ::/0 } tcp dport 25 accept", "\t\tip saddr { 198.51.100.0/24 } tcp dport 22 accept", "\t\tip6 saddr { 2001:db8::/32 } udp dport 8000-8010 accept", "policy drop"} {
		if !strings.Contains(m.table, want) {
			t.Errorf("the table has no %q:\n%s", want, m.table)
		}
	}
	if !strings.Contains(m.sshReads, "PasswordAuthentication no") || !m.enabled[FirewallUnit] {
		t.Errorf("SSH reads %q; the firewall is enabled: %v", m.sshReads, m.enabled[FirewallUnit])
	}
	if res := m.mustConverge(guarded()); res.Changed || res.Trial != "" {
		t.Errorf("again: %+v %q", res, m.calls)
	}
	// A person flushes the kernel's rules.
	m.table = ""
	if drift := m.observe().Service.Drift; !slices.Contains(drift, "the host's firewall is not loaded") {
		t.Errorf("drift %q", drift)
	}
	res = m.mustConverge(guarded())
	m.confirm(res.Trial)
	if m.table == "" {
		t.Error("the firewall stays open")
	}
	// The spec lets go of it.
	res = m.mustConverge(wanted())
	m.confirm(res.Trial)
	if m.table != "" || m.sshReads != "" || fileExists(m.layout.FirewallFile()) || m.enabled[FirewallUnit] {
		t.Errorf("left: %q %q", m.table, m.sshReads)
	}
	res = m.mustConverge(guarded())
	m.confirm(res.Trial)
	if _, err := m.agent().Remove(t.Context(), manifest.RemoveRequest{Claim: claim()}); err != nil {
		t.Fatal(err)
	}
	if m.table != "" || m.sshReads != "" || fileExists(m.layout.SSHDropIn()) {
		t.Errorf("left after the removal: %q %q", m.table, m.sshReads)
	}
}

// Nobody confirms: the doors are as they were, on a new machine and on one that serves.
func TestDoorsAreOpenedAgain(t *testing.T) {
	for _, serves := range []bool{false, true} {
		m := newGuarded(t)
		if serves {
			m.mustConverge(wanted())
		}
		m.mustConverge(guarded())
		manifestBefore := m.serving
		if did, err := m.agent().Revert(t.Context()); !did || err != nil {
			t.Fatalf("%v %v", did, err)
		}
		if m.table != "" || m.sshReads != "" || fileExists(m.layout.SSHDropIn()) || fileExists(m.layout.FirewallFile()) || m.enabled[FirewallUnit] {
			t.Errorf("serves %v: left %q %q", serves, m.table, m.sshReads)
		}
		if !m.active[ServiceUnit] || m.serving != manifestBefore {
			t.Errorf("serves %v: the service was touched", serves)
		}
	}
}

func TestDoorsThatCannotBe(t *testing.T) {
	m := newGuarded(t)
	m.sshRefuses = "KbdInteractive"
	if _, _, err := m.converge(guarded()); err == nil || !strings.Contains(err.Error(), "its configuration has an error") {
		t.Fatalf("got %v", err)
	}
	if fileExists(m.layout.SSHDropIn()) || m.sshReads != "" {
		t.Error("a configuration that the SSH server refuses is left")
	}
	m.sshRefuses = ""

	// Nothing to do it with is no failure, and is said.
	m.withoutNFT = true
	m.write("/etc/ssh/sshd_config", "Port 22\n", 0o644)
	res, events, err := m.converge(guarded())
	if err != nil || res.Trial != "" {
		t.Fatalf("%+v %v", res, err)
	}
	var said string
	for _, e := range events {
		said += e.Detail + "\n"
	}
	if !strings.Contains(said, "nft is not installed") || !strings.Contains(said, "reads no sshd_config.d") {
		t.Errorf("said %q", said)
	}

	// A file of somebody else's in the place of ours.
	m = newGuarded(t)
	m.write("/etc/ssh/sshd_config.d/10-mailform.conf", "Port 2222\n", 0o644)
	if _, _, err := m.converge(guarded()); ExitCode(err) != manifest.ExitConflict {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(m.layout.SSHDropIn()); string(b) != "Port 2222\n" || m.active[revertTimer] {
		t.Errorf("it was touched: %q", b)
	}
}

// A run that was cut off after the files were written lets them be read.
func TestDoorsCutOff(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		m := newGuarded(t)
		m.mustConverge(wanted())
		points := 0
		m.before = func(string) {
			if points++; points == n {
				panic(killed{})
			}
		}
		func() {
			defer func() {
				if r := recover(); r != nil && r != any(killed{}) {
					panic(r)
				}
			}()
			m.agent().Converge(context.Background(), guarded(), func(manifest.AgentEvent) {})
		}()
		m.before = nil
		res := m.mustConverge(guarded())
		if points >= n && res.Trial == "" && (m.table == "" || m.sshReads == "") {
			t.Fatalf("cut off at %d: the doors stay open", n)
		}
		if res.Trial != "" {
			m.confirm(res.Trial)
		}
		if m.table == "" || m.sshReads == "" {
			t.Errorf("cut off at %d: table %q, SSH reads %q", n, m.table, m.sshReads)
		}
		if points < n {
			t.Logf("%d points", points)
			return
		}
	}
}
