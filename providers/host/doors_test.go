package host

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/specs"
)

// shutOut makes a spec's machine drop whoever applies it.
func shutOut(spec *specs.Spec) {
	spec.Hosts[0].Firewall = true
	spec.Hosts[0].SSH.From = []netip.Prefix{netip.MustParsePrefix("203.0.113.128/25")}
}

// otherPort is a mailformd that tells the SSH server to listen elsewhere.
func otherPort(t *testing.T) string {
	const line = "PasswordAuthentication no\n"
	return variant(t, "port", line, "Port 2222"+strings.Repeat(" ", len(line)-len("Port 2222\n"))+"\n")
}

func TestDoors(t *testing.T) {
	l := newLab(t, hostsim.Config{Client: netip.MustParseAddr("198.51.100.9")})
	spec := l.spec()
	spec.Hosts[0].SSH.Harden, spec.Hosts[0].Firewall = true, true
	spec.Hosts[0].SSH.From = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	l.converge(spec)
	l.mustSettle(spec)
	l.serves(spec)
	if got := string(l.read("/etc/ssh/sshd_config.d/10-mailform.conf")); !strings.Contains(got, "PasswordAuthentication no") {
		t.Errorf("SSH: %s", got)
	}
	if got := string(l.read("/run/nft-inet-mailform")); !strings.Contains(got, "ip saddr { 198.51.100.0/24 } tcp dport 22 accept") || !strings.Contains(got, "tcp dport 993 accept") {
		t.Errorf("firewall: %s", got)
	}
	// A boot loads it again.
	l.host.Stop()
	if err := l.host.Start(); err != nil {
		t.Fatal(err)
	}
	l.mustSettle(spec)
	// One field of the spec is one field of the plan.
	spec.Hosts[0].Allow = []specs.Allow{{Name: "web", Protocol: "tcp", FromPort: 8443, ToPort: 8443, From: spec.Hosts[0].SSH.From}}
	r, err := l.plan(l.provider(spec), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.plan.Changes {
		for _, f := range c.Fields {
			if !strings.HasPrefix(f.Path, "firewall.allow-web") {
				t.Errorf("%s: %s changes", c.Address, f.Path)
			}
		}
	}
	l.converge(spec)
	l.mustSettle(spec)
	// A spec that says nothing of it leaves nothing of it.
	spec.Hosts[0].SSH.Harden, spec.Hosts[0].Firewall = false, false
	l.converge(spec)
	l.mustSettle(spec)
	if _, err := os.Stat(filepath.Join(l.host.Root(), "etc/ssh/sshd_config.d/10-mailform.conf")); err == nil {
		t.Error("the SSH server's file is left")
	}
}

// Changes that shut out whoever makes them, on a machine that serves and on a new one.
func TestShutOut(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *specs.Spec) string{
		"the firewall drops SSH":      func(_ *testing.T, s *specs.Spec) string { shutOut(s); return mailformd },
		"SSH listens on another port": func(t *testing.T, s *specs.Spec) string { s.Hosts[0].SSH.Harden = true; return otherPort(t) },
	} {
		for _, how := range []string{"at once", "timer", "reboot"} {
			t.Run(name+", "+how, func(t *testing.T) {
				var c clock
				var cut bool
				l := newLab(t, hostsim.Config{Client: netip.MustParseAddr("198.51.100.9"), AfterFunc: c.afterFunc, Watch: func(s hostsim.Step) bool {
					return !cut || !strings.Contains(s.Command, "take-back")
				}})
				cut = how != "at once"
				spec := l.spec()
				l.converge(spec)
				program := spoil(t, spec)
				_, err := l.upgrade(spec, "1.0", program)
				var e *plan.Error
				if !errors.As(err, &e) || e.Code != "MF5430" {
					t.Fatalf("got %v", err)
				}
				switch how {
				case "timer":
					if _, ok := l.host.Addr(22); ok {
						t.Fatal("nobody was shut out")
					}
					if n := c.elapse(); n != 1 {
						t.Fatalf("%d timers elapsed", n)
					}
				case "reboot":
					l.host.Stop()
					if err := l.host.Start(); err != nil {
						t.Fatal(err)
					}
				}
				l.serves(l.spec())
			})
		}
	}
}

// TestRealMachineShutOut does the same to a real machine.
func TestRealMachineShutOut(t *testing.T) {
	l := newRealLab(t)
	spec := l.spec()
	spec.Hosts[0].SSH.Harden, spec.Hosts[0].Firewall = true, true
	spec.Hosts[0].SSH.From = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	l.converge(spec)
	l.mustSettle(spec)
	l.serves(spec)
	if got := l.machine.Sh("sshd -T | grep -i -e ^passwordauthentication -e ^permitrootlogin; nft list table inet mailform"); !strings.Contains(got, "passwordauthentication no") || !strings.Contains(got, "tcp dport 22 accept") {
		t.Errorf("the doors:\n%s", got)
	}
	l.machine.Reboot()
	l.mustSettle(spec)

	for name, spoil := range map[string]func(*specs.Spec) string{
		"nftables drops SSH":          func(s *specs.Spec) string { shutOut(s); return mailformd },
		"SSH listens on another port": func(s *specs.Spec) string { s.Hosts[0].SSH.Harden = true; return otherPort(t) },
	} {
		for _, alone := range []bool{false, true} {
			broken := l.spec()
			*broken.Hosts[0] = *spec.Hosts[0]
			p := l.provider(broken)
			p.Agents = agentFile(spoil(broken))
			r, err := l.plan(p, broken, nil)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if alone { // also the connection that the change came over is gone
				l.setDialing(func(port int) error {
					if port == 22 {
						start = time.Now()
						l.machine.Partition(true)
						return errors.New("no route to host")
					}
					return nil
				})
			}
			if err := r.apply(); err == nil {
				t.Fatalf("%s: it succeeded", name)
			}
			l.setDialing(nil)
			if alone {
				l.machine.Partition(false)
			}
			for {
				c, err := l.machine.SSH(t.Context())
				if err == nil {
					c.Close()
					break
				}
				if time.Since(start) > within {
					t.Fatalf("%s: not back after %s: %v", name, within, err)
				}
				time.Sleep(500 * time.Millisecond) // on a clock that is the machine's
			}
			t.Logf("%s, alone %v: back after %s", name, alone, time.Since(start).Round(time.Millisecond))
			l.serves(spec)
		}
	}
}
