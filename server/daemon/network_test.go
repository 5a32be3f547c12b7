package daemon

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

func TestRoots(t *testing.T) {
	if pool, err := Roots(""); pool != nil || err != nil {
		t.Errorf("without a bundle: %v, %v", pool, err)
	}
	h := newHost(t)
	h.writeCertificate(1)
	pool, err := Roots(h.layout.CertChain("mx1"))
	h.must(err)
	cert, err := readCertificate(h.layout, "mx1")
	h.must(err)
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Errorf("the bundle's authority is not trusted: %v", err)
	}
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{junk, junk + ".missing"} {
		if _, err := Roots(path); err == nil {
			t.Errorf("%s was accepted", path)
		}
	}
}
