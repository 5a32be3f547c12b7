package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"mailform/server/manifest"
)

func tuned() manifest.ConvergeRequest {
	req := wanted()
	req.Manifest.Tuning = manifest.DefaultTuning(true)
	return req
}

func (m *machine) parameter(name string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.layout.Sysctl(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// has gives the machine units of the system's own.
func (m *machine) has(units ...string) {
	m.system = units
	for _, u := range units {
		m.loaded[u] = true
	}
}

func (m *machine) drift() []string {
	m.t.Helper()
	f, err := m.agent().Observe(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	return f.Service.Drift
}

// The machine is set to what a mail server needs, once; it goes back when that is
// not wanted any more, and when mailform leaves.
func TestTuning(t *testing.T) {
	for _, end := range []string{"not wanted", "removed"} {
		t.Run(end, func(t *testing.T) {
			m := newMachine(t)
			m.write("/proc/sys/net/core/somaxconn", "128\n", 0o644)
			m.write("/proc/sys/net/ipv4/tcp_max_syn_backlog", "65536\n", 0o644) // somebody needs more
			m.has(timeKeepers[0], journald)
			m.active[journald] = true
			m.install()
			res, events, err := m.converge(tuned())
			if err != nil {
				t.Fatal(err)
			}
			if err := m.agent().PasswordsReceived(context.Background(), res.Passwords); err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprint(events)
			for _, want := range []string{"net.core.somaxconn is 128, not 4096", "nothing keeps the clock right"} {
				if !strings.Contains(text, want) {
					t.Errorf("the events do not say %q: %s", want, text)
				}
			}
			if got := m.parameter("net.core.somaxconn"); got != "4096" {
				t.Errorf("somaxconn is %s", got)
			}
			if got := m.parameter("net.ipv4.tcp_max_syn_backlog"); got != "65536" {
				t.Errorf("what was more became %s", got)
			}
			for _, want := range []string{"restart " + journald, "enable " + timeKeepers[0], "start " + timeKeepers[0]} {
				if !slices.Contains(m.calls, want) {
					t.Errorf("no %q in %q", want, m.calls)
				}
			}
			if b, _ := os.ReadFile(m.layout.JournalDropIn()); !strings.Contains(string(b), "SystemMaxUse=1024M") {
				t.Errorf("the journal: %s", b)
			}
			before := m.snapshot()
			if res, events, err := m.converge(tuned()); err != nil || res.Changed || len(m.calls) > 0 || m.snapshot() != before {
				t.Fatalf("a second converge: %+v %v %q\n%v", res, err, m.calls, events)
			}
			if drift := m.drift(); len(drift) > 0 {
				t.Errorf("drift: %q", drift)
			}
			m.write("/proc/sys/net/core/somaxconn", "100\n", 0o644)
			if drift := m.drift(); !slices.Equal(drift, []string{"file " + m.layout.SysctlFile() + " net.core.somaxconn is 100, not 4096"}) {
				t.Errorf("drift: %q", drift)
			}
			m.mustConverge(tuned())

			m.calls = nil
			if end == "removed" {
				if _, err := m.agent().Remove(context.Background(), manifest.RemoveRequest{Claim: claim()}); err != nil {
					t.Fatal(err)
				}
				if fileExists(m.path("/etc/systemd/journald.conf.d")) {
					t.Error("a folder that was made for the journal's limit is left")
				}
			} else if m.mustConverge(wanted()); len(m.drift()) > 0 {
				t.Errorf("drift: %q", m.drift())
			}
			if fileExists(m.layout.SysctlFile()) || fileExists(m.layout.JournalDropIn()) || fileExists(m.layout.KernelFile()) {
				t.Error("files are left")
			}
			if got := m.parameter("net.core.somaxconn"); got != "100" {
				t.Errorf("somaxconn is %s, and was 100", got)
			}
			if !slices.Contains(m.calls, "restart "+journald) {
				t.Error("the journal goes on with its limit")
			}
		})
	}
}

// A container shows parameters that it cannot change, or none: that is no error
// and no drift. Another program that keeps the clock right is enough.
func TestTuningWhereNothingCanBeSet(t *testing.T) {
	m := newMachine(t)
	m.write("/proc/sys/net/core/somaxconn", "128\n", 0o444)
	m.install()
	m.has(timeKeepers[0], "chrony.service")
	m.active["chrony.service"] = true
	if os.Geteuid() == 0 { // whom a mode does not stop
		m.write("/proc/sys/net/core/somaxconn", "no number\n", 0o444)
	}
	res := m.mustConverge(tuned())
	if err := m.agent().PasswordsReceived(context.Background(), res.Passwords); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(m.calls, func(c string) bool { return strings.Contains(c, "timesync") }) {
		t.Errorf("%q", m.calls)
	}
	if drift := m.drift(); len(drift) > 0 {
		t.Errorf("drift: %q", drift)
	}
}

// A file in our place that is not ours is a conflict, and nothing is changed.
func TestTuningConflict(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.write("/etc/sysctl.d/90-mailform.conf", "net.core.somaxconn = 1\n", 0o644)
	before := m.snapshot()
	if _, _, err := m.converge(tuned()); ExitCode(err) != manifest.ExitConflict {
		t.Errorf("%v", err)
	}
	if m.snapshot() != before {
		t.Error("something was changed")
	}
}

func TestTuningIsChecked(t *testing.T) {
	for name, value := range map[string]int64{"kernel.core_pattern": 1, "net/../kernel": 1, "net.core.somaxconn": -1, "net..x": 1, "net.core.x\nkernel.y": 1} {
		m := wanted().Manifest
		m.Tuning = &manifest.Tuning{Kernel: map[string]int64{name: value}}
		if m.Validate() == nil {
			t.Errorf("%q = %d is accepted", name, value)
		}
	}
	m := wanted().Manifest
	m.Tuning = manifest.DefaultTuning(true)
	if err := m.Validate(); err != nil {
		t.Error(err)
	}
}
