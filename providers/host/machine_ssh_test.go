package host

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/providers/host/sshconn"
	"mailform/specs"
)

// TestRealMachineLogins is what stands between mailform and root on a real machine: the SSH
// server's keys, sudo, and a network that fails.
func TestRealMachineLogins(t *testing.T) {
	l := newRealLab(t)
	l.withoutRoot()
	l.ownHostKey()
}

// withoutRoot applies over a connection that breaks, as a user who may only sudo.
func (l *lab) withoutRoot() {
	t, m := l.t, l.machine
	t.Helper()
	m.Sh("useradd -m -s /bin/bash ops && install -d -o ops -m 700 ~ops/.ssh && install -o ops -m 600 /root/.ssh/authorized_keys ~ops/.ssh/")
	spec := l.spec()
	spec.Hosts[0].SSH.User = "ops"
	sudoers := func(lines ...string) {
		m.Sh("printf '%s\n' '" + strings.Join(lines, "' '") + "' >/etc/sudoers.d/lab && chmod 440 /etc/sudoers.d/lab && visudo -cq")
	}
	for _, c := range []struct {
		sudoers  []string
		got, fix string
	}{
		{[]string{"Defaults lecture=never"}, "sudo asks for a password", "ops ALL=(ALL) NOPASSWD: ALL"}, // of whom it does not know, too
		{[]string{"ops ALL=(ALL) ALL"}, "sudo asks for a password", "ops ALL=(ALL) NOPASSWD: ALL"},
		{[]string{"ops ALL=(ALL) NOPASSWD: /usr/bin/id"}, "sudo asks for a password", "ops ALL=(ALL) NOPASSWD: ALL"},
		{[]string{"Defaults requiretty", "ops ALL=(ALL) NOPASSWD: ALL"}, "requiretty", "Defaults:ops !requiretty"},
	} {
		sudoers(c.sudoers...)
		_, err := l.plan(l.provider(spec), spec, nil)
		var e *plan.Error
		if !errors.As(err, &e) || e.Class != plan.ErrCredentials || e.Code != "MF5405" || !strings.Contains(e.Got, c.got) || !strings.Contains(e.Fix, c.fix) {
			t.Errorf("with %q: %v", c.sudoers, err)
		}
	}
	sudoers("Defaults requiretty", "Defaults:ops !requiretty", "ops ALL=(ALL) NOPASSWD: ALL") // as the advice is

	// The connection breaks in the middle of the upload, which goes on where it was, but for what
	// the SSH server had not passed on yet: 2 MiB, OpenSSH's window.
	cut := &hostsim.Cut{}
	l.through = func(port int, c net.Conn) net.Conn {
		if port == 22 {
			return cut.Conn(c)
		}
		return c
	}
	r, err := l.plan(l.provider(spec), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	before := cut.Moved()
	cut.After(6 << 20)
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	moved := cut.Moved() - before
	size, err := strconv.ParseInt(m.Sh("gzip -c "+paths.Binary()+" | wc -c"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	resumed := slices.ContainsFunc(l.messages, func(s string) bool { return strings.Contains(s, "goes on where it was") })
	l.mu.Unlock()
	if cut.Cuts != 1 || !resumed || moved > size+(4<<20) {
		t.Errorf("%d cuts, resumed %v, %d bytes over the network for a program of %d", cut.Cuts, resumed, moved, size)
	}
	t.Logf("as a user with sudo, over a connection that broke once: %d bytes for a program of %d", moved, size)
	l.through = nil
	l.mustSettle(spec)
	l.serves(spec)

	// A shell that is not quiet when nobody looks, as people's .bashrc happen to be.
	m.Sh("sed -i '1i echo Welcome back' ~ops/.bashrc")
	_, err = l.plan(l.provider(spec), spec, nil)
	var e *plan.Error
	if !errors.As(err, &e) || !strings.Contains(e.Error()+e.Fix, ".bashrc") {
		t.Errorf("with a login shell that greets: %v", err)
	}
	m.Sh("sed -i 1d ~ops/.bashrc")
}

// shownByOpenSSH are the keys that OpenSSH's server shows to whoever asks for their kind.
func (c *cloud) shownByOpenSSH() []string {
	c.l.t.Helper()
	var out []string
	for _, algorithm := range []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoRSASHA512} {
		var conn net.Conn
		var err error
		// OpenSSH's server that reads its keys anew starts itself anew, and refuses for a moment.
		for soon := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			conn, err = c.l.network.Dial(context.Background(), "tcp", net.JoinHostPort(c.l.address, "22"))
			if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(soon) {
				break
			}
		}
		if err != nil {
			c.l.t.Fatal(err)
		}
		_, _, _, err = ssh.NewClientConn(conn, "", &ssh.ClientConfig{HostKeyAlgorithms: []string{algorithm}, HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			out = append(out, ssh.FingerprintSHA256(k))
			return errors.New("enough")
		}})
		conn.Close()
		if err != nil && !strings.Contains(err.Error(), "enough") && !strings.Contains(err.Error(), "no common algorithm") {
			c.l.t.Fatal(err)
		}
	}
	return out
}

// ownHostKey gives the machine the key of its user data again and again, and each time it gets to
// one of its own, however that is interrupted.
func (l *lab) ownHostKey() {
	t, m := l.t, l.machine
	t.Helper()
	spec := l.spec()
	spec.Hosts[0].Instance, spec.Hosts[0].SSH.HostKey = &specs.Instance{}, ""
	fresh := func() *cloud {
		// An agent that was left alone has the SSH server read its keys anew when it comes to that.
		m.Sh("while pgrep -f '[m]ailformd host-key$' >/dev/null; do sleep 0.1; done; rm -f /etc/ssh/ssh_host_* " + paths.HostKeyFile() + " && ssh-keygen -q -t ecdsa -N '' -f /etc/ssh/ssh_host_ecdsa_key && systemctl reset-failed ssh && systemctl restart ssh")
		return &cloud{l: l, agents: agentFile(mailformd), tag: strings.Fields(m.Sh("ssh-keygen -lf /etc/ssh/ssh_host_ecdsa_key.pub"))[1]}
	}
	for step := range 3 {
		fresh().interruptedAt(spec, step, true)
	}

	// The agent is killed while it makes the key, and while it takes the old one away.
	for _, kind := range []string{opMakeHostKey, opDropHostKey} {
		c := fresh()
		old := c.tag
		r := c.run(spec, nil)
		for _, op := range r.firstContact() {
			if op.Kind != kind {
				if err := r.do(op); err != nil {
					t.Fatalf("%s: %v", op.ID, err)
				}
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			killed := make(chan error, 1)
			go func() {
				_, err := m.Exec(ctx, "until pid=$(pgrep -f 'mailformd host-key$'); do :; done; kill -9 $pid")
				killed <- err
			}()
			if err := r.do(op); err == nil {
				t.Logf("%s was done before it was killed", kind)
			}
			cancel()
			<-killed
			break
		}
		r.p.Close()
		if !slices.Contains(c.shown(), c.tag) {
			t.Fatalf("%s killed: the machine shows %q, the tag says %s", kind, c.shown(), c.tag)
		}
		again := c.run(spec, nil)
		for _, op := range again.firstContact() {
			if err := again.do(op); err != nil {
				t.Fatalf("%s killed, then %s: %v", kind, op.ID, err)
			}
		}
		if shown := c.shown(); !slices.Equal(shown, []string{c.tag}) || c.tag == old {
			t.Errorf("%s killed, then the machine shows %q, the tag says %s", kind, shown, c.tag)
		}
		// Whoever has the old one is nobody.
		p := l.provider(spec)
		env := &sshconn.Env{Keys: p.SSH.Keys, Dial: p.Dial}
		for print, in := range map[string]bool{c.tag: true, old: false} {
			s, err := env.Settings(sshconn.Target{Label: "host mx1", Address: l.address, HostKey: print})
			if err != nil {
				t.Fatal(err)
			}
			trust, err := env.Trust(s)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := env.Connect(t.Context(), s, trust)
			var refused *sshconn.Error
			if in && err != nil || !in && (!errors.As(err, &refused) || refused.Kind != sshconn.HostKey) {
				t.Errorf("by %s: %v", print, err)
			}
			if err == nil {
				conn.Close()
			}
		}
		m.Sh("sshd -t && for f in /etc/ssh/ssh_host_*_key; do test $(stat -c %a $f) = 600 && ssh-keygen -lf $f >/dev/null && ssh-keygen -y -f $f >/dev/null || exit 1; done")
	}
}
