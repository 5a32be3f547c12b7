package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailform/providers/world"
)

// TestDANE: the TLSA record names the key that the server shows, and a new
// certificate keeps it.
func TestDANE(t *testing.T) {
	t.Parallel()
	w, s := newShell(t, nil)
	s.rewrite(t, `domain "example.com" {`, "domain \"example.com\" {\n  dane = true")
	s.must(t, 0, "apply", "--auto-approve")
	first := shown(t, w)
	want := "3 1 1 " + keySum(first)
	if got := tlsa(w); got != want {
		t.Fatalf("the record says %q, the server's key is %q", got, want)
	}
	if todo := s.actions(t); len(todo) != 0 {
		t.Errorf("there is something to do after apply: %v", todo)
	}
	s.must(t, 0, "apply", "--auto-approve", "--replace", "cert/mx1")
	second := shown(t, w)
	if keySum(second) != keySum(first) || second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Errorf("serial %x with key %s; before it was %x with key %s", second.SerialNumber, keySum(second), first.SerialNumber, keySum(first))
	}
	if got := tlsa(w); got != want {
		t.Errorf("the record says %q, expected %q", got, want)
	}
	if todo := s.actions(t); len(todo) != 0 {
		t.Errorf("there is something to do after the replacement: %v", todo)
	}
	s.must(t, 0, "rehearse")
}

// rewrite replaces text that stands in the starter spec once.
func (s shell) rewrite(t *testing.T, old, new string) {
	t.Helper()
	path := filepath.Join(s.dir, starterFile)
	text := string(read(t, path))
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%s holds %q %d times, expected once", path, old, n)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(text, old, new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// shown is the certificate that the world's mail server shows on port 993.
func shown(t *testing.T, w *world.World) *x509.Certificate {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, w.CABundle()))
	conn, err := w.Dial(context.Background(), "mail.example.com:993")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "mail.example.com"})
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0]
}

func keySum(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// tlsa is the content of the world's TLSA records.
func tlsa(w *world.World) string {
	var out []string
	for _, r := range w.DNS().Records("example.com") {
		if r.Type == "TLSA" {
			out = append(out, strings.ToLower(r.Content))
		}
	}
	return strings.Join(out, ", ")
}
