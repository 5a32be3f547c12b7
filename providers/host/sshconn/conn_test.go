package sshconn

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func newKey(t testing.TB) (ed25519.PrivateKey, ssh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, s
}

// server is an SSH server at the other end of a pipe, which accepts one key and
// swallows what is sent to it.
type server struct {
	t       testing.TB
	host    ssh.Signer
	allowed ssh.PublicKey
	tries   int
	between func(net.Conn) net.Conn // the network, as the client sees it
	silent  bool                    // sessions are neither accepted nor refused
	rate    int                     // bytes a second towards the server; 0 is no bound
}

func (s *server) dial(context.Context, string, string) (net.Conn, error) {
	near, far := newPipe()
	config := &ssh.ServerConfig{MaxAuthTries: s.tries, PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if cert, ok := key.(*ssh.Certificate); ok {
			key = cert.SignatureKey
		}
		if s.allowed != nil && bytes.Equal(key.Marshal(), s.allowed.Marshal()) {
			return nil, nil
		}
		return nil, errors.New("no")
	}}
	config.AddHostKey(s.host)
	if s.rate > 0 {
		far = slow{far, s.rate}
	}
	go func() {
		defer far.Close()
		conn, chans, reqs, err := ssh.NewServerConn(far, config)
		if err != nil {
			return
		}
		go func() {
			for r := range reqs {
				r.Reply(false, nil)
			}
		}()
		for nc := range chans {
			if nc.ChannelType() == "direct-tcpip" {
				go s.forward(nc)
				continue
			}
			if s.silent {
				continue
			}
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			go ssh.DiscardRequests(reqs)
			go func() {
				io.Copy(io.Discard, ch)
				ch.Close()
			}()
		}
		conn.Close()
	}()
	if s.between != nil {
		return s.between(near), nil
	}
	return near, nil
}

// forward makes the server a jump host before another of its kind.
func (s *server) forward(nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	next, err := (&server{t: s.t, host: s.host, allowed: s.allowed}).dial(context.Background(), "", "")
	if err != nil {
		ch.Close()
		return
	}
	go func() {
		io.Copy(next, ch)
		next.Close()
	}()
	io.Copy(ch, next)
	ch.Close()
}

func (s *server) connect(e *Env, c string) (*Conn, error) {
	e.Dial = s.dial
	if c != "" {
		e.Config = config(s.t, c)
	}
	settings, err := e.Settings(Target{Label: "host mx1", Address: "203.0.113.7", HostKey: ssh.FingerprintSHA256(s.host.PublicKey())})
	if err != nil {
		return nil, err
	}
	trust, err := e.Trust(settings)
	if err != nil {
		return nil, err
	}
	return e.Connect(context.Background(), settings, trust)
}

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Kind(fmt.Sprint(err))
}

// keyFiles writes a key file, with a passphrase when there is one.
func keyFileIn(t *testing.T, dir, name, passphrase string) ssh.Signer {
	t.Helper()
	key, signer := newKey(t)
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// A passphrase is asked for when the machine would accept the key, three times at
// most, once in a run, and not at all where there is nobody.
func TestEncryptedKey(t *testing.T) {
	home := t.TempDir()
	os.Mkdir(filepath.Join(home, ".ssh"), 0o700)
	locked := keyFileIn(t, filepath.Join(home, ".ssh"), "id_ed25519", "secret")
	file := filepath.Join(home, ".ssh", "id_ed25519")
	_, host := newKey(t)
	s := &server{t: t, host: host, allowed: locked.PublicKey()}
	asked := 0
	answers := []string{"wrong", "secret"}
	e := &Env{Home: home, Keys: &Keys{Passphrase: func(name string, wrong bool) ([]byte, error) {
		if name != file || wrong != (asked > 0) {
			t.Errorf("asked for %s, wrong %v", name, wrong)
		}
		asked++
		return []byte(answers[(asked-1)%len(answers)]), nil
	}}}
	for range 2 {
		c, err := s.connect(e, "")
		if err != nil || asked != 2 {
			t.Fatalf("%v, asked %d times", err, asked)
		}
		c.Close()
	}
	asked, answers = 0, []string{"wrong"}
	e.Keys = &Keys{Passphrase: e.Keys.Passphrase}
	_, err := s.connect(e, "")
	if kindOf(err) != KeysRefused || asked != 3 || !strings.Contains(err.Error(), "wrong 3 times") {
		t.Errorf("%v, asked %d times", err, asked)
	}
	// A key that the machine does not want is not asked for.
	asked = 0
	e.Keys = &Keys{Passphrase: e.Keys.Passphrase}
	if _, err := (&server{t: t, host: host}).connect(e, ""); kindOf(err) != KeysRefused || asked != 0 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	e.Keys = &Keys{}
	if _, err := s.connect(e, ""); kindOf(err) != NoKey || !strings.Contains(err.Error(), file) {
		t.Errorf("nobody to ask: %v", err)
	}
	e.Key = file
	if err := e.CheckKey(); err == nil || !strings.Contains(err.Error(), "ssh-add") {
		t.Error(err)
	}
}

// With IdentitiesOnly, of many keys in an agent only the named one is offered; without, named ones go first.
func TestManyKeys(t *testing.T) {
	home := t.TempDir()
	named := keyFileIn(t, home, "acme", "")
	_, host := newKey(t)
	var many []ssh.Signer
	for range 8 {
		_, k := newKey(t)
		many = append(many, k)
	}
	s := &server{t: t, host: host, allowed: named.PublicKey(), tries: 6}
	e := func() *Env { return &Env{Home: home, Keys: &Keys{Given: many}} }
	if _, err := s.connect(e(), ""); kindOf(err) != TooManyKeys || !strings.Contains(err.(*Error).Fix, "IdentitiesOnly") {
		t.Errorf("%v", err)
	}
	for _, c := range []string{"IdentityFile " + home + "/acme", "IdentitiesOnly yes\nIdentityFile " + home + "/acme"} {
		if conn, err := s.connect(e(), c); err != nil {
			t.Errorf("%q: %v", c, err)
		} else {
			conn.Close()
		}
	}
	settings := Settings{Named: []string{home + "/acme"}, Identities: []string{home + "/acme"}, IdentitiesOnly: true}
	if n := len(e().Keys.offer(settings, nil).signers); n != 1 {
		t.Errorf("%d keys are offered", n)
	}
}

func TestCertificateIsOffered(t *testing.T) {
	home := t.TempDir()
	signer := keyFileIn(t, home, "acme", "")
	_, ca := newKey(t)
	_, host := newKey(t)
	cert := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"root"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(home+"/acme-cert.pub", ssh.MarshalAuthorizedKey(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, host: host, allowed: ca.PublicKey()}
	if _, err := s.connect(&Env{Keys: &Keys{}, Key: home + "/acme"}, ""); err != nil {
		t.Error(err)
	}
}

func TestWhyThereIsNoConnection(t *testing.T) {
	_, key := newKey(t)
	says := func(text string) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			near, far := newPipe()
			go io.Copy(io.Discard, far)
			go func() {
				far.Write([]byte(text))
				if text == "" || strings.HasPrefix(text, "220") {
					far.Close()
				}
			}()
			return near, nil
		}
	}
	fails := func(err error) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}
	}
	for name, c := range map[string]struct {
		dial func(context.Context, string, string) (net.Conn, error)
		want Kind
		fix  string
	}{
		"refused":     {fails(syscall.ECONNREFUSED), Refused, "nothing listens"},
		"unreachable": {fails(syscall.EHOSTUNREACH), Unreachable, "no way"},
		"no name":     {fails(&net.DNSError{Name: "x"}), Unreachable, "DNS"},
		"timed out":   {func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, TimedOut, "firewall"},
		"silent": {func(context.Context, string, string) (net.Conn, error) {
			near, far := newPipe()
			go io.Copy(io.Discard, far)
			return near, nil
		}, Silent, "another service"},
		"slow":    {says("SSH-2.0-slow\r\n"), Silent, "UseDNS"},
		"SMTP":    {says("220 mail.acme.example ESMTP\r\n"), NotSSH, "port"},
		"hung up": {says(""), HungUp, "MaxStartups"},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &Env{Keys: &Keys{Given: []ssh.Signer{key}}, Dial: c.dial}
			s, _ := e.Settings(mx1)
			trust, _ := e.Trust(s)
			start := time.Now()
			_, err := e.Connect(t.Context(), s, trust)
			var failed *Error
			if !errors.As(err, &failed) || failed.Kind != c.want || !strings.Contains(failed.Fix, c.fix) {
				t.Errorf("%s: %v %+v", name, err, failed)
			}
			if took := time.Since(start); took > dialTimeout+handshakeTimeout {
				t.Errorf("%s: after %s", name, took)
			}
		})
	}
}

func TestThroughJumpHosts(t *testing.T) {
	key, signer := newKey(t)
	_ = key
	_, host := newKey(t)
	known := filepath.Join(t.TempDir(), "known_hosts")
	line := KnownHostsLine("b", 22, host.PublicKey()) + "\n" + KnownHostsLine("a.example", 2222, host.PublicKey()) + "\n"
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, host: host, allowed: signer.PublicKey()}
	const way = "Host 203.*\n ProxyJump a,b\nHost a\n HostName a.example\n Port 2222\n"
	e := &Env{User: "alice", Keys: &Keys{Given: []ssh.Signer{signer}}, KnownHosts: []string{known}}
	c, err := s.connect(e, way)
	if err != nil || len(c.Settings.Jumps) != 2 {
		t.Fatal(err)
	}
	c.Close()
	// A jump host is recognised like any other machine.
	e.KnownHosts = nil
	var refused *Error
	if _, err := s.connect(e, way); !errors.As(err, &refused) || refused.Kind != HostKey || refused.At.Label != "jump host a" {
		t.Errorf("%v", err)
	}
}

// slow is the far end of a link on which so many bytes arrive a second. What is on
// its way waits, and a question behind it.
type slow struct {
	net.Conn
	rate int
}

func (c slow) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
	return n, err
}

// On a link of 1 Mbit/s 15 MB take two minutes, and nothing ends that.
func TestSlowLink(t *testing.T) {
	_, signer := newKey(t)
	_, host := newKey(t)
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, host: host, allowed: signer.PublicKey(), rate: 1_000_000 / 8}
		c, err := s.connect(&Env{Keys: &Keys{Given: []ssh.Signer{signer}}}, "")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		session, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		in, err := session.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(in, io.LimitReader(zeros{}, 15e6)); err != nil || n != 15e6 {
			t.Errorf("%d bytes: %v", n, err)
		}
		if took := time.Since(start); took < 90*time.Second || took > 150*time.Second {
			t.Errorf("it took %s", took)
		}
		in.Close()
		time.Sleep(time.Minute) // what is on its way arrives
		c.Close()
		<-c.Gone()
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestDeadPeer(t *testing.T) {
	_, signer := newKey(t)
	_, host := newKey(t)
	synctest.Test(t, func(t *testing.T) {
		// The server's side stops reading and writing.
		var gate blackhole
		s := &server{t: t, host: host, allowed: signer.PublicKey(), between: func(c net.Conn) net.Conn { gate.Conn = c; return &gate }}
		c, err := s.connect(&Env{Keys: &Keys{Given: []ssh.Signer{signer}}}, "")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // an idle connection stays
		select {
		case <-c.Gone():
			t.Fatal("an idle connection was ended")
		default:
		}
		gate.on.Store(true)
		start := time.Now()
		<-c.Gone()
		if took := time.Since(start); took < keepAliveEvery || took > 30*time.Second {
			t.Errorf("noticed after %s", took)
		}
	})
}

func TestKnownHosts(t *testing.T) {
	_, a := newKey(t)
	_, b := newKey(t)
	_, ca := newKey(t)
	line := func(prefix string, k ssh.Signer) string {
		return prefix + " " + string(ssh.MarshalAuthorizedKey(k.PublicKey()))
	}
	for name, c := range map[string]struct {
		text               string
		port               int
		keys, cas, revoked int
	}{
		"by address":       {line("203.0.113.7", a), 22, 1, 0, 0},
		"by name":          {line("x,mail.acme.example", a), 22, 1, 0, 0},
		"hashed":           {line(knownhosts.HashHostname("mail.acme.example"), a), 22, 1, 0, 0},
		"hashed, port":     {line(knownhosts.HashHostname("[203.0.113.7]:2222"), a), 2222, 1, 0, 0},
		"another port":     {line("[203.0.113.7]:2222", a), 22, 0, 0, 0},
		"the port":         {line("[203.0.113.7]:2222", a), 2222, 1, 0, 0},
		"two":              {line("203.0.113.7", a) + line("mail.*", b), 22, 2, 0, 0},
		"negated":          {line("*.acme.example,!mail.acme.example", a), 22, 0, 0, 0},
		"an authority":     {line("@cert-authority *.acme.example", ca), 22, 0, 1, 0},
		"another's":        {line("@cert-authority *.other.example", ca), 22, 0, 0, 0},
		"revoked":          {line("@revoked *", b) + line("203.0.113.7", a), 22, 1, 0, 1},
		"broken lines too": {"rubbish\n203.0.113.7 ssh-ed25519 !!\n# x\n\n" + line("203.0.113.7", a), 22, 1, 0, 0},
	} {
		var k known
		k.read("f", []byte(c.text), []string{"203.0.113.7", "mail.acme.example"}, c.port)
		if len(k.keys) != c.keys || len(k.authorities) != c.cas || len(k.revoked) != c.revoked {
			t.Errorf("%s: %+v", name, k)
		}
	}
}

func TestHostCertificatesAndRevocation(t *testing.T) {
	_, key := newKey(t)
	_, ca := newKey(t)
	_, user := newKey(t)
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"mail.acme.example"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	certified, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	connect := func(host ssh.Signer, lines ...string) error {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		e := &Env{Keys: &Keys{Given: []ssh.Signer{user}}, KnownHosts: []string{file + ".absent", file}, Dial: (&server{t: t, host: host, allowed: user.PublicKey()}).dial}
		s, err := e.Settings(mx1)
		if err != nil {
			t.Fatal(err)
		}
		trust, err := e.Trust(s)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Connect(context.Background(), s, trust)
		return err
	}
	public := func(k ssh.Signer) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey()))) }
	if err := connect(certified, "@cert-authority *.acme.example "+public(ca)); err != nil {
		t.Error(err)
	}
	for name, lines := range map[string][]string{
		"another authority":   {"@cert-authority *.acme.example " + public(user)},
		"a revoked authority": {"@cert-authority *.acme.example " + public(ca), "@revoked * " + public(ca)},
		"a revoked key":       {"@cert-authority *.acme.example " + public(ca), "@revoked * " + public(key)},
	} {
		if err := connect(certified, lines...); kindOf(err) != HostKey {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The key itself, known and revoked elsewhere in the file.
	if err := connect(key, "203.0.113.7 "+public(key)); err != nil {
		t.Error(err)
	}
	err = connect(key, "203.0.113.7 "+public(key), "@revoked * "+public(key))
	if kindOf(err) != HostKey || !strings.Contains(err.Error(), file+":2 says that this key is revoked") {
		t.Error(err)
	}
	// A changed key: both fingerprints, and where the old one stands.
	err = connect(key, "203.0.113.7 "+public(user))
	if kindOf(err) != HostKey || !strings.Contains(err.Error(), file+":1") || !strings.Contains(err.Error(), ssh.FingerprintSHA256(key.PublicKey())) || !strings.Contains(err.Error(), ssh.FingerprintSHA256(user.PublicKey())) {
		t.Error(err)
	}
}

// What a command says that does not connect is what a person is told.
func TestProxyCommand(t *testing.T) {
	for command, says := range map[string]string{
		"echo 'no such tunnel' >&2; exit 3":   "no such tunnel",
		"sh -c \"read x; echo no route >&2\"": "no route",
		"sh -c 'exit 3'":                      "exit status 3",
	} {
		e := &Env{Keys: &Keys{}, Config: config(t, "ProxyCommand "+command), User: "alice"}
		s, err := e.Settings(mx1)
		if err != nil {
			t.Fatal(err)
		}
		trust, err := e.Trust(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = e.Connect(t.Context(), s, trust); kindOf(err) != ProxyFailed || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", command, err)
		}
	}
}

func FuzzKnownHosts(f *testing.F) {
	f.Add([]byte("|1|AAAA|BBBB ssh-ed25519 AAAA\n@revoked * ssh-rsa x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var k known
		k.read("f", text, []string{"203.0.113.7"}, 22)
	})
}

// blackhole is a connection whose other end can vanish without a word.
type blackhole struct {
	net.Conn
	on   atomic.Bool
	once sync.Once
	end  sync.Once
	gone chan struct{}
}

func (b *blackhole) closed() chan struct{} {
	b.once.Do(func() { b.gone = make(chan struct{}) })
	return b.gone
}

func (b *blackhole) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if b.on.Load() && err == nil {
		<-b.closed()
		return 0, net.ErrClosed
	}
	return n, err
}

func (b *blackhole) Write(p []byte) (int, error) {
	if b.on.Load() {
		return len(p), nil // the kernel takes it
	}
	return b.Conn.Write(p)
}

func (b *blackhole) Close() error {
	gone := b.closed()
	b.end.Do(func() { close(gone) })
	return b.Conn.Close()
}

// A session that nobody answers is given up with the context, and with the connection.
func TestOpenGivesUp(t *testing.T) {
	_, signer := newKey(t)
	_, host := newKey(t)
	s := &server{t: t, host: host, allowed: signer.PublicKey(), silent: true}
	c, err := s.connect(&Env{Home: t.TempDir(), Keys: &Keys{Given: []ssh.Signer{signer}}}, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	ended := make(chan error)
	go func() {
		_, err := c.Open(context.Background())
		ended <- err
	}()
	c.Close()
	if err := <-ended; err == nil {
		t.Error("a session was opened on a connection that has ended")
	}
}
