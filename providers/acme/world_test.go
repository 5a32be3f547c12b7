package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/acme/acmesim"
	"mailform/providers/cloudflare"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/server/manifest"
	"mailform/specs"
)

// hosts is one host in memory.
type hosts struct {
	mu       sync.Mutex
	pending  crypto.Signer
	current  crypto.Signer
	chain    []byte
	cert     *manifest.Certificate
	account  map[string][]byte
	order    map[string]string // by certificate and directory
	installs int
	requests int
}

func newKey(kind string) (crypto.Signer, error) {
	if kind == "rsa2048" {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func (h *hosts) CertificateRequest(_ context.Context, host, name string, names []string, kind string, keep bool) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests++
	if keep && h.cert != nil && h.cert.Key == kind {
		h.pending = h.current
	}
	if h.pending == nil {
		var err error
		if h.pending, err = newKey(kind); err != nil {
			return nil, err
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, h.pending)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), err
}

func (h *hosts) InstallCertificate(_ context.Context, host, name string, chain []byte, meta map[string]string) error {
	leaf, err := parseChain(chain)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.installs++
	h.order = nil
	if h.pending != nil {
		h.current, h.pending = h.pending, nil
	}
	kind := "ecdsa256"
	if _, ok := leaf.PublicKey.(*rsa.PublicKey); ok {
		kind = "rsa2048"
	}
	h.chain = chain
	spki := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	h.cert = &manifest.Certificate{
		Name: name, Names: slices.Sorted(slices.Values(leaf.DNSNames)), Key: kind, Directory: meta["directory"], RenewalInfo: meta[manifest.MetaRenewalInfo],
		SerialHex: hex.EncodeToString(leaf.SerialNumber.Bytes()), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		SPKI: hex.EncodeToString(spki[:]),
	}
	return nil
}

func (h *hosts) RemoveCertificate(_ context.Context, _, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Errorf("this host has no certificate %s", name)
}

func (h *hosts) Certificates(string) ([]manifest.Certificate, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cert == nil {
		return nil, true
	}
	return []manifest.Certificate{*h.cert}, true
}

func (h *hosts) Order(_ context.Context, _, name, directory string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.order[name+" "+directory], nil
}

func (h *hosts) KeepOrder(_ context.Context, _, name, directory, location string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.order = map[string]string{name + " " + directory: location}
	return nil
}

func (h *hosts) AccountKey(_ context.Context, _, directory string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.account == nil {
		h.account = map[string][]byte{}
	}
	if h.account[directory] == nil {
		key, err := newKey("ecdsa256")
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		h.account[directory] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	return h.account[directory], nil
}

// testNow is the tests' clock: whole seconds, like what a CA writes.
var testNow = time.Now().Truncate(time.Second)

// world is a CA that validates against a simulated zone, and one host.
type world struct {
	t     *testing.T
	sim   *cloudflaresim.Server
	names *cloudflaresim.DNS
	api   string // of the DNS
	ca    *acmesim.Server
	hosts *hosts
	dns   *cloudflare.Provider
	p     *Provider
	now   time.Time
}

func newWorld(t *testing.T, ca acmesim.Config) *world {
	t.Helper()
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "") // New sets it; this puts it back
	w := &world{t: t, hosts: &hosts{}, now: testNow}
	w.sim = cloudflaresim.New(cloudflaresim.Config{
		Tokens: []cloudflaresim.Token{{Value: "token"}}, Zones: []cloudflaresim.Zone{{Name: "acme.example"}},
	})
	api := httptest.NewServer(w.sim)
	t.Cleanup(api.Close)
	w.api = api.URL + "/client/v4"
	var err error
	if w.names, err = w.sim.ListenDNS("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.names.Close() })
	ca.ResolverAddr = w.names.Addr()
	if w.ca, err = acmesim.New(ca); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.ca.Close() })
	if w.dns, err = cloudflare.New(cloudflare.Config{Token: "token", BaseURL: w.api, Stack: "acme-mail", Sleep: noSleep}); err != nil {
		t.Fatal(err)
	}
	w.p = w.provider(nil)
	return w
}

// noSleep makes waiting instant, except that a CA gets a moment to do its work.
func noSleep(ctx context.Context, _ time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Millisecond):
		return nil
	}
}

func (w *world) provider(change func(*Config)) *Provider {
	w.t.Helper()
	cfg := Config{
		Directory: w.ca.DirectoryURL(), Contact: "ops@acme.example", Resolver: w.names.Addr(), Roots: w.roots(),
		Challenger: w.dns, Hosts: w.hosts, Now: func() time.Time { return w.now }, Sleep: noSleep,
	}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) tls() *tls.Config {
	return &tls.Config{RootCAs: w.roots(), MinVersion: tls.VersionTLS12}
}

func (w *world) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(w.ca.RootsPEM()) {
		w.t.Fatal("no roots")
	}
	return pool
}

func testSpec() *specs.Spec {
	return &specs.Spec{
		Stack:   specs.Stack{Name: "acme-mail"},
		Hosts:   []*specs.Host{{Name: "mx1", Hostname: "mail.acme.example", Address: netip.MustParseAddr("203.0.113.7")}},
		Domains: []*specs.Domain{{Name: "acme.example", Host: "mx1"}},
		TLS:     specs.TLS{Key: "ecdsa256", RenewAfter: 30 * 24 * time.Hour},
	}
}

func (w *world) plan(s *specs.Spec) *plan.Plan {
	w.t.Helper()
	desired, diags := w.p.Declare(s)
	if diags.HasErrors() {
		w.t.Fatal(diags)
	}
	observed, err := w.p.Observe(w.t.Context(), plan.Scope{Stack: "acme-mail", Desired: desired})
	if err != nil {
		w.t.Fatal(err)
	}
	desired, observed.Objects, _, diags = w.p.Schedule(plan.Scheduling{Now: w.now, Desired: desired, Observed: observed.Objects})
	if diags.HasErrors() {
		w.t.Fatal(diags)
	}
	seen := map[plan.Address]bool{}
	for _, r := range desired {
		needs := r.DependsOn
		if r.Within != "" {
			needs = append(slices.Clone(needs), r.Within)
		}
		for _, a := range needs {
			if !seen[a] {
				seen[a] = true
				desired = append(desired, plan.Resource{Address: a, Provider: "elsewhere", Kind: "thing"})
				observed.Objects = append(observed.Objects, plan.Object{Address: a, Provider: "elsewhere", Kind: "thing", Owner: plan.Ours})
			}
		}
	}
	p, diags := plan.Build(plan.Input{
		Stack: "acme-mail", Desired: desired, Observed: observed.Objects,
		Compilers: map[string]func([]plan.Change) []plan.Op{Name: w.p.Compile, "elsewhere": func([]plan.Change) []plan.Op { return nil }},
	})
	if diags.HasErrors() {
		w.t.Fatal(diags)
	}
	return p
}

// run does the operations in order; results of earlier ones are inputs of later ones.
func (w *world) run(p *plan.Plan) error { return w.runWith(w.t.Context(), p) }

func (w *world) runWith(ctx context.Context, p *plan.Plan) error {
	results := map[plan.Ref]plan.Value{}
	done := map[string]bool{}
	for range p.Ops {
		i := slices.IndexFunc(p.Ops, func(op plan.Op) bool {
			return !done[op.ID] && !slices.ContainsFunc(op.After, func(id string) bool { return !done[id] })
		})
		op := p.Ops[i]
		done[op.ID] = true
		op.Inputs = op.Inputs.Resolve(func(r plan.Ref) (plan.Value, bool) { v, ok := results[r]; return v, ok })
		res, err := w.p.Do(ctx, op, "token", nil)
		if err != nil {
			return err
		}
		for a, attrs := range res.Outputs {
			for k, v := range attrs {
				results[plan.Ref{Address: a, Attr: k}] = v
			}
		}
	}
	return nil
}

func (w *world) apply(s *specs.Spec) {
	w.t.Helper()
	if err := w.run(w.plan(s)); err != nil {
		w.t.Fatal(err)
	}
}

func actions(p *plan.Plan) string {
	var out []string
	for _, c := range p.Changes {
		if c.Action != plan.NoOp {
			out = append(out, string(c.Action)+" "+string(c.Address))
		}
	}
	return strings.Join(out, ", ")
}

// verify checks what a mail client would: chain, name, key.
func (w *world) verify() {
	w.t.Helper()
	leaf, err := parseChain(w.hosts.chain)
	if err != nil {
		w.t.Fatal(err)
	}
	between := x509.NewCertPool()
	between.AppendCertsFromPEM(w.hosts.chain)
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "mail.acme.example", Roots: w.roots(), Intermediates: between}); err != nil {
		w.t.Error(err)
	}
	if k, ok := w.hosts.current.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(leaf.PublicKey) {
		w.t.Error("the certificate is not for the host's key")
	}
}

func asError(t *testing.T, err error) *plan.Error {
	t.Helper()
	var e *plan.Error
	if !errors.As(err, &e) {
		t.Fatalf("not a *plan.Error: %v", err)
	}
	if e.Code == "" || e.Step == "" || e.Fix == "" {
		t.Errorf("the error lacks something: %#v", e)
	}
	return e
}

// problem answers requests to a path of the CA with a problem document.
func problem(path string, status int, body string, header ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, path) || r.Method != http.MethodPost {
			return false
		}
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		w.Write([]byte(body))
		return true
	}
}
