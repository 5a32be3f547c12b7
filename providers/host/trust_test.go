package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"mailform/plan"
	"mailform/providers/host/agentbin"
	"mailform/providers/host/hostsim"
	"mailform/providers/host/hostsim/quickagent"
	"mailform/providers/host/sshconn"
	"mailform/specs"
)

func agentFile(path string) agentbin.Source { return quickagent.Source(path) }

// observe connects with a new provider and returns what that gave.
func observe(l *lab, spec *specs.Spec, adjust func(*Provider)) error {
	p := l.provider(spec)
	if adjust != nil {
		adjust(p)
	}
	_, err := l.plan(p, spec, nil)
	return err
}

// A server has one key of each kind; whichever is pinned is found.
func TestPinnedKeyBesideOthers(t *testing.T) {
	ed, ec := newSigner(t), ecdsaSigner(t)
	l := newLab(t, hostsim.Config{HostKeys: []ssh.Signer{ec, ed}})
	spec := l.spec()
	line := string(ssh.MarshalAuthorizedKey(ed.PublicKey()))
	for _, pin := range []string{ssh.FingerprintSHA256(ed.PublicKey()), ssh.FingerprintSHA256(ec.PublicKey()), line} {
		spec.Hosts[0].SSH.HostKey = pin
		if err := observe(l, spec, nil); err != nil {
			t.Errorf("%s: %v", pin, err)
		}
	}
}

func TestWrongHostKey(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	right := spec.Hosts[0].SSH.HostKey
	wrong := newSigner(t)
	for _, pin := range []string{ssh.FingerprintSHA256(wrong.PublicKey()), string(ssh.MarshalAuthorizedKey(wrong.PublicKey()))} {
		spec.Hosts[0].SSH.HostKey = pin
		err := observe(l, spec, func(p *Provider) {
			p.SSH.Confirm = func(string, string) bool { t.Error("a person was asked"); return true }
		})
		var e *plan.Error
		if !errors.As(err, &e) || e.Class != plan.ErrBlocked || !strings.Contains(e.Got, right) || !strings.Contains(e.Got, ssh.FingerprintSHA256(wrong.PublicKey())) || e.Fix == "" {
			t.Errorf("got %v", err)
		}
	}
}

func TestUnknownHostKeyIsAskedAboutOnce(t *testing.T) {
	l := newLab(t, hostsim.Config{HostKeys: []ssh.Signer{ecdsaSigner(t), newSigner(t)}})
	spec := l.spec()
	spec.Hosts[0].SSH.HostKey = ""
	known := filepath.Join(t.TempDir(), "ssh", "known_hosts")
	asked := 0
	answer := false
	use := func(p *Provider) {
		p.SSH.KnownHosts = []string{known}
		p.SSH.Confirm = func(host, print string) bool {
			asked++
			if !strings.Contains(host, "mx1") || !strings.HasPrefix(print, "SHA256:") {
				t.Errorf("asked about %q %q", host, print)
			}
			return answer
		}
	}
	err := observe(l, spec, use)
	if plan.ClassOf(err) != plan.ErrBlocked || asked != 1 || !strings.Contains(fmt.Sprint(err), "SHA256:") {
		t.Fatalf("refused by the person: %v, asked %d times", err, asked)
	}
	if _, err := os.Stat(known); err == nil {
		t.Error("a refused key was recorded")
	}
	answer = true
	if err := observe(l, spec, use); err != nil || asked != 2 {
		t.Fatalf("%v, asked %d times", err, asked)
	}
	if err := observe(l, spec, use); err != nil || asked != 2 {
		t.Fatalf("the second time: %v, asked %d times", err, asked)
	}
	// Another machine at the address: known_hosts says no, nobody is asked.
	line := knownhosts.Line([]string{hostAddress}, newSigner(t).PublicKey()) + "\n"
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := observe(l, spec, use); plan.ClassOf(err) != plan.ErrBlocked || asked != 2 || !strings.Contains(err.Error(), known) {
		t.Errorf("a changed key: %v, asked %d times", err, asked)
	}
}

func TestNobodyToAsk(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	spec.Hosts[0].SSH.HostKey = ""
	if err := observe(l, spec, nil); plan.ClassOf(err) != plan.ErrBlocked {
		t.Errorf("a key was accepted blindly: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.host.Stop()
	err := observe(l, spec, nil)
	var e *plan.Error
	if !errors.As(err, &e) || e.Class != plan.ErrTransient || !strings.Contains(err.Error(), hostAddress+":22") || !strings.Contains(e.Got, "refused") || !strings.Contains(e.Got, "1 try") {
		t.Fatalf("got %v", err)
	}
	// After a machine was made, its boot is waited for: within bounds.
	p := l.provider(spec)
	r := &run{l: l, p: p, outputs: map[plan.Address]plan.Attrs{}, secrets: map[plan.Address]string{}}
	op := plan.Op{ID: "x", Provider: Name, Kind: opConnect, Inputs: plan.Attrs{"target": targetInput("mx1", targetOf(spec.Hosts[0]))}}
	start := p.Now()
	err = r.do(op)
	if waited := p.Now().Sub(start); !errors.As(err, &e) || waited > forBoot.network || waited < forBoot.network/2 || !strings.Contains(e.Got, "over ") {
		t.Errorf("waited %s: %v", waited, err)
	}
	if len(l.messages) == 0 || !strings.Contains(l.messages[0], "does not answer yet") {
		t.Errorf("progress: %q", l.messages)
	}
}

func TestKeyThatIsNotAuthorized(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	stranger := newSigner(t)
	err := observe(l, spec, func(p *Provider) { p.SSH.Keys = &sshconn.Keys{Given: []ssh.Signer{stranger}} })
	if plan.ClassOf(err) != plan.ErrCredentials || !strings.Contains(err.Error(), ssh.FingerprintSHA256(stranger.PublicKey())) {
		t.Errorf("got %v", err)
	}
	err = observe(l, spec, func(p *Provider) { p.SSH.Keys = &sshconn.Keys{} })
	var e *plan.Error
	if !errors.As(err, &e) || e.Class != plan.ErrCredentials || !strings.Contains(e.Fix, "MAILFORM_SSH_KEY") {
		t.Errorf("got %v", err)
	}
}
