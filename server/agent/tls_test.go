package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
)

// sign makes a certificate for a request, or for another key and names.
func sign(t *testing.T, csrPEM []byte, key *ecdsa.PrivateKey, names []string) string {
	t.Helper()
	block, _ := pem.Decode(csrPEM)
	if block == nil {
		t.Fatalf("no PEM: %q", csrPEM)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub := csr.PublicKey
	if key != nil {
		pub = key.Public()
	}
	if names == nil {
		names = csr.DNSNames
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, ca)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCertificateLife(t *testing.T) {
	m := newMachine(t)
	m.install()
	ctx := context.Background()
	names := []string{"mail.acme.example", "acme.example"}
	request := func() []byte {
		t.Helper()
		csr, err := m.agent().CSR(ctx, manifest.CSRRequest{Claim: claim(), Name: "mx1", Names: names, Key: "ecdsa256"})
		if err != nil {
			t.Fatal(err)
		}
		return csr
	}
	install := func(chain string) (manifest.Certificate, error) {
		return m.agent().InstallCert(ctx, manifest.CertRequest{Claim: claim(), Name: "mx1", Chain: chain, Meta: map[string]string{"directory": "https://ca.example/dir"}})
	}
	csr := request()
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, chain := range map[string]string{
		"a key that is not on this host": sign(t, csr, stranger, nil),
		"not for acme.example":           sign(t, csr, nil, names[:1]),
		"the chain is empty":             "rubbish",
	} {
		if _, err := install(chain); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want an error that says %q, got %v", what, err)
		}
	}
	// Asking again takes up the pending key: the first answer still fits.
	first := sign(t, csr, nil, nil)
	request()
	cert, err := install(first)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Name != "mx1" || cert.Key != "ecdsa256" || cert.Directory != "https://ca.example/dir" || !slices.Equal(cert.Names, []string{"acme.example", "mail.acme.example"}) {
		t.Errorf("%+v", cert)
	}
	serves := func() {
		t.Helper()
		if _, err := tls.LoadX509KeyPair(m.layout.CertChain("mx1"), m.layout.CertKey("mx1")); err != nil {
			t.Error(err)
		}
	}
	serves()
	m.mustConverge(wanted())

	// A renewal has a new key; the running daemon is told.
	m.calls = nil
	if _, err := install(sign(t, request(), nil, nil)); err != nil {
		t.Fatal(err)
	}
	serves()
	if !slices.Contains(m.calls, "reload") {
		t.Errorf("the daemon was not told: %q", m.calls)
	}
	// Beside the version in use only the one before it stays.
	if _, err := install(sign(t, request(), nil, nil)); err != nil {
		t.Fatal(err)
	}
	versions, err := os.ReadDir(filepath.Join(m.layout.TLSDir(), ".versions"))
	if err != nil || len(versions) != 2 {
		t.Errorf("versions: %v %v", versions, err)
	}
	f := m.observe()
	if len(f.Certificates) != 1 || len(f.Service.Drift) != 0 {
		t.Errorf("%+v %q", f.Certificates, f.Service.Drift)
	}
}

// A key that a TLSA record names stays through renewals, whatever waits beside it.
func TestKeptKey(t *testing.T) {
	m := newMachine(t)
	m.install()
	ctx := context.Background()
	renew := func(kind string, keep bool) manifest.Certificate {
		t.Helper()
		csr, err := m.agent().CSR(ctx, manifest.CSRRequest{Claim: claim(), Name: "mx1", Names: []string{"mail.acme.example"}, Key: kind, KeepKey: keep})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := m.agent().InstallCert(ctx, manifest.CertRequest{Claim: claim(), Name: "mx1", Chain: sign(t, csr, nil, nil)})
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(m.layout.CertChain("mx1"), m.layout.CertKey("mx1"))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(pair.Leaf.RawSubjectPublicKeyInfo); cert.SPKI != hex.EncodeToString(sum[:]) {
			t.Errorf("spki %s is not that of the key", cert.SPKI)
		}
		return cert
	}
	request := func(keep bool) {
		t.Helper()
		if _, err := m.agent().CSR(ctx, manifest.CSRRequest{Claim: claim(), Name: "mx1", Names: []string{"mail.acme.example"}, Key: "ecdsa256", KeepKey: keep}); err != nil {
			t.Fatal(err)
		}
	}
	first := renew("ecdsa256", true)
	request(false) // never used
	second := renew("ecdsa256", true)
	if first.SPKI != second.SPKI || first.SerialHex == second.SerialHex {
		t.Errorf("the key was not kept: %+v, %+v", first, second)
	}
	request(true) // never used
	third := renew("ecdsa256", false)
	if third.SPKI == second.SPKI {
		t.Error("a renewal that need not keep the key has the old one")
	}
	if other := renew("rsa2048", true); other.Key != "rsa2048" {
		t.Errorf("another kind of key: %+v", other)
	}
}

func TestAccountKey(t *testing.T) {
	m := newMachine(t)
	m.install()
	get := func(dir string) string {
		t.Helper()
		b, err := m.agent().AccountKey(context.Background(), manifest.AccountRequest{Claim: claim(), Directory: dir})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if a, b, other := get("https://a.example"), get("https://a.example"), get("https://b.example"); a != b || a == other {
		t.Error("an account key per directory, always the same, is wanted")
	}
	files, err := filepath.Glob(filepath.Join(m.layout.ACMEDir(), "*.pem"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	if fi, err := os.Stat(files[0]); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi, err)
	}
}

// The order for a certificate lies beside its waiting key and goes with it.
func TestOrderIsRemembered(t *testing.T) {
	m := newMachine(t)
	m.install()
	ctx := context.Background()
	const dir, where = "https://ca.example/dir", "https://ca.example/order/1"
	order := func(directory, location string) string {
		t.Helper()
		got, err := m.agent().Order(ctx, manifest.OrderRequest{Claim: claim(), Name: "mx1", Directory: directory, Location: location})
		if err != nil {
			t.Fatal(err)
		}
		return got.Location
	}
	if got := order(dir, ""); got != "" {
		t.Errorf("an order %q out of nothing", got)
	}
	csr, err := m.agent().CSR(ctx, manifest.CSRRequest{Claim: claim(), Name: "mx1", Names: []string{"mail.acme.example"}, Key: "ecdsa256"})
	if err != nil {
		t.Fatal(err)
	}
	order(dir, where)
	if got := order(dir, ""); got != where {
		t.Errorf("the order is %q", got)
	}
	if got := order("https://other.example/dir", ""); got != "" {
		t.Errorf("the order of another directory is %q", got)
	}
	if info, err := os.Stat(m.agent().orderFile("mx1")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	for _, bad := range []string{"https://ca.example/a b", "https://ca.example/\n", strings.Repeat("x", maxLocation+1)} {
		if _, err := m.agent().Order(ctx, manifest.OrderRequest{Claim: claim(), Name: "mx1", Directory: dir, Location: bad}); err == nil {
			t.Errorf("%.30q was written down", bad)
		}
	}
	if _, err := m.agent().InstallCert(ctx, manifest.CertRequest{Claim: claim(), Name: "mx1", Chain: sign(t, csr, nil, nil)}); err != nil {
		t.Fatal(err)
	}
	if got := order(dir, ""); got != "" {
		t.Errorf("after the certificate was installed there is still the order %q", got)
	}
	// Half a file is no order.
	if err := os.WriteFile(m.agent().orderFile("mx1"), []byte(`{"directory":"https`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := order(dir, ""); got != "" {
		t.Errorf("half a file is the order %q", got)
	}
}

// A further certificate goes with its key, also when it is gone already; the
// host's own stays.
func TestRemoveCertificate(t *testing.T) {
	m := newMachine(t)
	m.install()
	ctx := context.Background()
	for _, name := range []string{"mx1", "mx1-2", "mx1-20"} {
		csr, err := m.agent().CSR(ctx, manifest.CSRRequest{Claim: claim(), Name: name, Names: []string{name + ".acme.example"}, Key: "ecdsa256"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.agent().InstallCert(ctx, manifest.CertRequest{Claim: claim(), Name: name, Chain: sign(t, csr, nil, nil)}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) (manifest.CertRemoved, error) {
		return m.agent().RemoveCert(ctx, manifest.CertRemoval{Claim: claim(), Name: name})
	}
	for _, changed := range []bool{true, false} {
		if got, err := remove("mx1-2"); err != nil || got.Changed != changed {
			t.Errorf("%+v %v, want changed %v", got, err, changed)
		}
	}
	if _, err := remove(claim().Host); err == nil {
		t.Error("the host's own certificate was removed")
	}
	if _, err := remove("../x"); err == nil {
		t.Error("a path was removed")
	}
	left, err := m.agent().certificates()
	if err != nil || len(left) != 2 || left[0].Name != "mx1" || left[1].Name != "mx1-20" {
		t.Errorf("left: %+v %v", left, err)
	}
	keys, err := filepath.Glob(filepath.Join(m.agent().certVersions(), "*", "key.pem"))
	if err != nil || len(keys) != 2 {
		t.Errorf("keys: %v %v", keys, err)
	}
}
