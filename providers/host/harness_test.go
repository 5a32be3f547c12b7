package host

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
	"mailform/providers/host/agentbin"
	"mailform/providers/host/hostlab"
	"mailform/providers/host/hostsim"
	"mailform/providers/host/hostsim/quickagent"
	"mailform/providers/host/sshconn"
	"mailform/server/manifest"
	"mailform/specs"
)

// What is built once.
var (
	mailformd string          // the real one
	quick     agentbin.Source // one that makes secrets faster, for simulated machines
	hostshim  string          // stands in for their system programs
)

func TestMain(m *testing.M) {
	if hostsim.IsShim(os.Args) {
		os.Exit(hostsim.ShimMain())
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "mailformd")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		mailformd = filepath.Join(dir, "mailformd")
		hostshim = filepath.Join(dir, "hostshim")
		build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", dir, "mailform/cmd/mailformd", "mailform/providers/host/hostsim/shim/hostshim")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build mailformd: %v\n%s", err, out)
			return 1
		}
		program, err := quickagent.Build(filepath.Join("..", ".."), dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		quick = quickagent.Source(program)
		return m.Run()
	}())
}

const (
	hostAddress = "203.0.113.7"
	// Canaries: texts that must never leave the host or the request to it.
	canaryHash   = "$argon2id$v=19$m=19456,t=2,p=1$Y2FuYXJ5LXNhbHQtMQ$Q0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZMTI"
	canaryRelay  = "canary-relay-password"
	canaryBackup = "canary-backup-secret"
)

// lab is a machine, a spec and whoever applies it.
type lab struct {
	t       *testing.T
	address string
	host    *hostsim.Host // nil when the machine is a real one
	network *hostlab.Lab  // of a real one
	machine *hostlab.Machine
	others  map[string]*hostsim.Host
	key     ssh.Signer
	ca      *authority

	known    map[plan.Ref]plan.Value // what the cloud would tell of a machine that it made
	mu       sync.Mutex
	dials    map[int]int // by port
	down     map[int]bool
	dialing  func(port int) error                // asked before each connection; nil asks nobody
	through  func(port int, c net.Conn) net.Conn // stands in each connection; nil for nothing
	messages []string                            // progress
	now      time.Time
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ecdsaSigner(t testing.TB) ssh.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newLab(t *testing.T, cfg hostsim.Config) *lab {
	t.Helper()
	l := &lab{t: t, address: hostAddress, key: newSigner(t), ca: newAuthority(t), dials: map[int]int{}, down: map[int]bool{}, now: time.Now()}
	cfg.Shim = hostshim
	cfg.AuthorizedKeys = append(cfg.AuthorizedKeys, string(ssh.MarshalAuthorizedKey(l.key.PublicKey())))
	h, err := hostsim.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.host = h
	t.Cleanup(func() { h.Destroy() })
	return l
}

// newRealLab is a lab whose machine is a real one, see hostlab.
func newRealLab(t *testing.T, options ...hostlab.Option) *lab {
	t.Helper()
	network := hostlab.New(t)
	m := network.Boot("mx1", options...)
	return &lab{t: t, address: m.Address.String(), network: network, machine: m, key: network.Signer(), ca: newAuthority(t),
		dials: map[int]int{}, down: map[int]bool{}, now: time.Now()}
}

// agents is what is installed on the machine.
func (l *lab) agents() agentbin.Source {
	if l.host == nil {
		return agentbin.File(mailformd)
	}
	return quick
}

func (l *lab) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, port, err := l.connect(ctx, network, addr)
	l.mu.Lock()
	through := l.through
	l.mu.Unlock()
	if err != nil || through == nil {
		return c, err
	}
	return through(port, c), nil
}

func (l *lab) connect(ctx context.Context, network, addr string) (c net.Conn, port int, err error) {
	ip, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, 0, err
	}
	port, err = strconv.Atoi(service)
	if err != nil {
		return nil, 0, err
	}
	l.mu.Lock()
	l.dials[port]++
	down, dialing := l.down[port], l.dialing
	l.mu.Unlock()
	if dialing != nil {
		if err := dialing(port); err != nil {
			return nil, 0, err
		}
	}
	if down {
		return nil, port, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	}
	if l.host == nil {
		c, err = l.network.Dial(ctx, network, addr)
		return c, port, err
	}
	host := l.host
	if other := l.others[ip]; other != nil {
		host = other
	} else if ip != l.address {
		host = nil
	}
	if host == nil {
		return nil, port, &net.OpError{Op: "dial", Net: network, Err: errors.New("no route to host")}
	}
	real, ok := host.Addr(port)
	if !ok {
		return nil, port, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	}
	c, err = (&net.Dialer{}).DialContext(ctx, network, real)
	return c, port, err
}

func (l *lab) dialed(port int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dials[port]
}

// provider is a new run's provider.
func (l *lab) provider(spec *specs.Spec) *Provider {
	p := New(Config{
		Stack: "acme-mail", Version: "1.0", Actor: "alice@laptop",
		Dial: l.dial, SSH: &sshconn.Env{Keys: &sshconn.Keys{Given: []ssh.Signer{l.key}}},
		Agents: l.agents(), Roots: l.ca.pool(),
		Secret: func(print string) (string, bool) {
			for _, s := range []string{canaryHash, canaryRelay, canaryBackup} {
				if specs.Fingerprint(s) == print {
					return s, true
				}
			}
			return "", false
		},
		Now: func() time.Time {
			if l.machine != nil {
				return time.Now()
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.now
		},
		Sleep: func(ctx context.Context, d time.Duration) error {
			if l.machine != nil {
				select {
				case <-ctx.Done():
				case <-time.After(d):
				}
				return ctx.Err()
			}
			l.mu.Lock()
			l.now = l.now.Add(d)
			l.mu.Unlock()
			return ctx.Err()
		},
	})
	l.t.Cleanup(p.Close)
	return p
}

// log is what the service wrote.
func (l *lab) log() string {
	if l.host == nil {
		return l.machine.Sh("journalctl --no-pager -o short-monotonic -n 50")
	}
	return l.host.Log("mailformd.service")
}

// fingerprint is the machine's host key's; "" without a machine.
func (l *lab) fingerprint() string {
	switch {
	case l.host != nil:
		return ssh.FingerprintSHA256(l.host.HostKey())
	case l.machine != nil:
		return l.machine.Fingerprint()
	}
	return ""
}

// spec is one existing machine that serves a small domain.
func (l *lab) spec() *specs.Spec {
	pin := l.fingerprint()
	return &specs.Spec{
		Stack: specs.Stack{Name: "acme-mail"},
		Hosts: []*specs.Host{{
			Name: "mx1", Hostname: "mail.acme.example", Address: netip.MustParseAddr(l.address),
			SSH: specs.SSH{User: "root", Port: 22, HostKey: pin},
		}},
		Domains: []*specs.Domain{{
			Name: "acme.example", Host: "mx1", CatchAll: "alice",
			DKIM: &specs.DKIM{Selector: "mf1", Algorithms: []string{"rsa2048", "ed25519"}},
			Mailboxes: []*specs.Mailbox{
				{Local: "alice", Name: "Alice", PasswordHash: canaryHash, Aliases: []string{"sales", "a"}},
				{Local: "bob", QuotaBytes: 5 << 30},
			},
			Aliases: []*specs.Alias{{Local: "postmaster", To: []string{"alice@acme.example"}}},
		}},
		Server: specs.Server{MaxMessageBytes: 50 << 20, SCRAM: true, Relay: &specs.Relay{Host: "relay.example", Port: 587, Username: "u", Password: canaryRelay}},
	}
}

// read returns a file of the simulated machine.
func (l *lab) read(path string) []byte {
	l.t.Helper()
	b, err := os.ReadFile(filepath.Join(l.host.Root(), path))
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// run is one plan and its application.
type run struct {
	l       *lab
	p       *Provider
	plan    *plan.Plan
	outputs map[plan.Address]plan.Attrs
	secrets map[plan.Address]string
}

// plan observes and plans.
func (l *lab) plan(p *Provider, spec *specs.Spec, adjust func(*plan.Input)) (*run, error) {
	l.t.Helper()
	ctx := context.Background()
	desired, diags := p.Declare(spec)
	if diags.HasErrors() {
		l.t.Fatal(diags)
	}
	scope := scopeOf(desired)
	scope.Known = func(r plan.Ref) (plan.Value, bool) { v, ok := l.known[r]; return v, ok }
	observed, err := p.Observe(ctx, scope)
	if err != nil {
		return nil, err
	}
	for _, h := range spec.Hosts {
		desired = append(desired, plan.Resource{Address: certAddr(h.Name), Provider: "test", Kind: "certificate", DependsOn: []plan.Address{agentAddr(h.Name)},
			Attrs: plan.Attrs{"names": plan.Strings(h.Hostname)}})
		certs, _ := p.Certificates(h.Name)
		for _, c := range certs {
			observed.Objects = append(observed.Objects, plan.Object{Address: certAddr(c.Name), Provider: "test", Kind: "certificate", Owner: plan.Ours,
				Attrs: plan.Attrs{"names": plan.Strings(c.Names...)}, DependsOn: []plan.Address{agentAddr(h.Name)}})
		}
	}
	in := plan.Input{Stack: "acme-mail", Desired: desired, Observed: observed.Objects,
		Compilers: map[string]func([]plan.Change) []plan.Op{Name: p.Compile, "test": compileCerts}}
	if adjust != nil {
		adjust(&in)
	}
	built, diags := plan.Build(in)
	if diags.HasErrors() {
		l.t.Fatalf("plan: %+v", diags)
	}
	r := &run{l: l, p: p, plan: built, outputs: map[plan.Address]plan.Attrs{}, secrets: map[plan.Address]string{}}
	for _, c := range built.Changes {
		r.outputs[c.Address] = c.Outputs
	}
	return r, nil
}

func scopeOf(desired []plan.Resource) plan.Scope {
	return plan.Scope{Stack: "acme-mail", Desired: desired, Known: func(plan.Ref) (plan.Value, bool) { return plan.Value{}, false }}
}

func compileCerts(changes []plan.Change) []plan.Op {
	var ops []plan.Op
	for _, c := range changes {
		if c.Pending() && c.Action != plan.Delete {
			ops = append(ops, plan.Op{ID: "test.Issue " + string(c.Address), Provider: "test", Kind: "Issue", Title: "issue", Addresses: []plan.Address{c.Address},
				Inputs: plan.Attrs{"names": c.After["names"]}})
		}
	}
	return ops
}

// ordered gives the operations in an order that their edges allow.
func (r *run) ordered() []plan.Op {
	var out []plan.Op
	done := map[string]bool{}
	for len(out) < len(r.plan.Ops) {
		before := len(out)
		for _, op := range r.plan.Ops {
			if !done[op.ID] && !slices.ContainsFunc(op.After, func(id string) bool { return !done[id] }) {
				done[op.ID] = true
				out = append(out, op)
			}
		}
		if len(out) == before {
			r.l.t.Fatal("operations wait for each other")
		}
	}
	return out
}

func (r *run) do(op plan.Op) error {
	ctx := context.Background()
	op.Inputs = op.Inputs.Resolve(func(ref plan.Ref) (plan.Value, bool) {
		v, ok := r.outputs[ref.Address][ref.Attr]
		return v, ok
	})
	if op.Provider == "test" {
		return r.l.issue(ctx, r.p, op)
	}
	res, err := r.p.Do(ctx, op, "token", func(message string, _, _ int64) {
		r.l.mu.Lock()
		defer r.l.mu.Unlock()
		r.l.messages = append(r.l.messages, message)
	})
	if err != nil {
		return err
	}
	for a, attrs := range res.Outputs {
		r.outputs[a] = attrs
	}
	for a, s := range res.Secrets {
		r.secrets[a] = s
	}
	return nil
}

func (r *run) apply() error {
	for _, op := range r.ordered() {
		if err := r.do(op); err != nil {
			return fmt.Errorf("%s: %w", op.ID, err)
		}
	}
	return nil
}

// converge plans and applies with a new provider and must succeed.
func (l *lab) converge(spec *specs.Spec) *run {
	l.t.Helper()
	r, err := l.plan(l.provider(spec), spec, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := r.apply(); err != nil {
		l.t.Fatalf("%v\n%s", err, l.log())
	}
	return r
}

// pending lists what a plan would do.
func (r *run) pending() []string {
	var out []string
	for _, c := range r.plan.Changes {
		if c.Action != plan.NoOp {
			out = append(out, c.Action.Glyph()+" "+string(c.Address))
		}
	}
	return out
}

func (r *run) kinds() []string {
	var out []string
	for _, op := range r.ordered() {
		out = append(out, op.Kind)
	}
	return out
}

// mustSettle checks that a new plan has no changes.
func (l *lab) mustSettle(spec *specs.Spec) {
	l.t.Helper()
	r, err := l.plan(l.provider(spec), spec, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	if p := r.pending(); len(p) > 0 || len(r.plan.Ops) > 0 {
		text, _ := json.MarshalIndent(r.plan.Changes, "", " ")
		l.t.Fatalf("changes are left: %q\n%s", p, text)
	}
}

// authority is a CA that signs what it is asked to.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	days time.Duration // how far its certificates reach; 0 is an hour
}

// valid lets what it issues from now on be valid at a time, and today.
func (a *authority) valid(at time.Time) { a.days = time.Until(at).Abs() }

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().AddDate(-3, 0, 0), NotAfter: time.Now().AddDate(3, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, key: key, cert: cert}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) sign(csrPEM []byte) ([]byte, error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil {
		return nil, fmt.Errorf("no PEM: %q", csrPEM)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, Subject: csr.Subject, DNSNames: csr.DNSNames,
		NotBefore: time.Now().Add(-time.Hour - 2*a.days), NotAfter: time.Now().Add(time.Hour + 2*a.days), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a.cert, csr.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// issue stands for the acme provider, also in that it takes a certificate which turns
// out to be there.
func (l *lab) issue(ctx context.Context, p *Provider, op plan.Op) error {
	host := op.Addresses[0].Segments()[1]
	if certs, _ := p.Certificates(host); slices.ContainsFunc(certs, func(c manifest.Certificate) bool { return slices.Equal(c.Names, op.Inputs["names"].Texts()) }) {
		return nil
	}
	csr, err := p.CertificateRequest(ctx, host, host, op.Inputs["names"].Texts(), "ecdsa256", false)
	if err != nil {
		return err
	}
	chain, err := l.ca.sign(csr)
	if err != nil {
		return err
	}
	return p.InstallCertificate(ctx, host, host, chain, map[string]string{"directory": "https://ca.example/dir"})
}

// noCanary fails when a text holds a secret.
func noCanary(t *testing.T, what string, text []byte) {
	t.Helper()
	for _, c := range []string{canaryHash, "CANARY", canaryRelay, canaryBackup, "PRIVATE KEY"} {
		if bytes.Contains(text, []byte(c)) || strings.Contains(string(text), c) {
			t.Errorf("%s holds a secret", what)
		}
	}
}
