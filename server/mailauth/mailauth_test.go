package mailauth

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-msgauth/dkim"
	"go.uber.org/goleak"

	"mailform/server/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testKeys makes an RSA and an Ed25519 key for example.com and returns what DNS
// would say about them.
func testKeys(t testing.TB) (*Keys, func(string) ([]string, error)) {
	t.Helper()
	layout := manifest.Layout{Root: t.TempDir()}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaPublic, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	writeKey(t, layout, "s-rsa", rsaKey)
	writeKey(t, layout, "s-ed", edKey)
	txt := map[string]string{
		"s-rsa._domainkey.example.com": "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(rsaPublic),
		"s-ed._domainkey.example.com":  "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(edKey.Public().(ed25519.PublicKey)),
	}
	keys, err := Load(layout, &manifest.Manifest{Domains: []manifest.Domain{{Name: "example.com",
		DKIM: []manifest.DKIMKey{{Selector: "s-rsa", Algorithm: "rsa2048"}, {Selector: "s-ed", Algorithm: "ed25519"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return keys, func(name string) ([]string, error) { return []string{txt[name]}, nil }
}

func writeKey(t testing.TB, layout manifest.Layout, selector string, key crypto.Signer) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := layout.DKIMKey("example.com", selector)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

const message = "From: Alice <alice@example.com>\r\nTo: Bob <bob@elsewhere.example>\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n" +
	"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\nMIME-Version: 1.0\r\nReferences: <a@b>\r\n\t<c@d>\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\n\r\nHello,\r\n\r\n..  spaces  and\ttabs \r\n\r\n\r\n"

func verify(t *testing.T, lookup func(string) ([]string, error), message string) (passed []string, failed int) {
	t.Helper()
	results, err := dkim.VerifyWithOptions(strings.NewReader(message), &dkim.VerifyOptions{LookupTXT: lookup})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			failed++
			t.Logf("signature of %s: %v", r.Domain, r.Err)
			continue
		}
		passed = append(passed, r.Domain)
	}
	return passed, failed
}

func TestSignBothAlgorithmsVerify(t *testing.T) {
	keys, lookup := testKeys(t)
	for name, r := range map[string]func(string) io.Reader{
		"whole":        func(s string) io.Reader { return strings.NewReader(s) },
		"byte by byte": func(s string) io.Reader { return iotest.OneByteReader(strings.NewReader(s)) },
	} {
		for _, body := range []string{message, strings.Repeat("X-Long: "+strings.Repeat("x", 900)+"\r\n", 20) + message, message + strings.Repeat("more\r\n", 50_000)} {
			lines, err := keys.Sign("Example.com", r(body))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, want := range []string{"a=rsa-sha256", "a=ed25519-sha256", "c=relaxed/relaxed", "d=example.com", "s=s-rsa", "s=s-ed"} {
				if !strings.Contains(string(lines), want) {
					t.Errorf("%s: no %s in\n%s", name, want, lines)
				}
			}
			if passed, failed := verify(t, lookup, string(lines)+body); len(passed) != 2 || failed != 0 {
				t.Errorf("%s: %d signatures verify and %d fail, want 2 and 0", name, len(passed), failed)
			}
		}
	}
}

// A field that somebody adds to a signed message breaks the signature, whether
// the message had one (From) or not (Cc).
func TestSignatureForbidsAdditions(t *testing.T) {
	keys, lookup := testKeys(t)
	lines, err := keys.Sign("example.com", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	for _, add := range []string{"From: Mallory <m@evil.example>\r\n", "Cc: x@evil.example\r\n", "Subject: other\r\n", "Reply-To: x@evil.example\r\n", "Content-Type: text/html\r\n"} {
		if passed, _ := verify(t, lookup, add+string(lines)+message); len(passed) != 0 {
			t.Errorf("%d signatures survive an added %q", len(passed), add)
		}
	}
	if passed, _ := verify(t, lookup, "Received: from a by b; Sat, 21 Nov 2026 10:00:01 +0000\r\nList-Id: <l.example>\r\n"+string(lines)+message); len(passed) != 2 {
		t.Errorf("trace fields break the signature: %d verify", len(passed))
	}
}

func TestSignWithoutKey(t *testing.T) {
	keys, _ := testKeys(t)
	if lines, err := keys.Sign("other.example", strings.NewReader(message)); err != nil || lines != nil {
		t.Errorf("got %q, %v; want nothing", lines, err)
	}
	var none *Keys
	if none.Has("example.com") {
		t.Error("no keys at all have one")
	}
}

func TestSignRefusesBadInput(t *testing.T) {
	keys, _ := testKeys(t)
	broken := errors.New("disk")
	for name, tc := range map[string]struct {
		r    io.Reader
		want error
	}{
		"endless header": {strings.NewReader(strings.Repeat("X: y\r\n", 100_000)), ErrHeader},
		"no end":         {strings.NewReader("From: a@example.com\r\n"), ErrHeader},
		"empty":          {strings.NewReader(""), ErrHeader},
		"read error":     {iotest.ErrReader(broken), broken},
		"late error":     {io.MultiReader(strings.NewReader(message), iotest.ErrReader(broken)), broken},
	} {
		if _, err := keys.Sign("example.com", tc.r); !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v, want %v", name, err, tc.want)
		}
	}
}

func TestLoadReportsAndKeepsWhatWorks(t *testing.T) {
	layout := manifest.Layout{Root: t.TempDir()}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	writeKey(t, layout, "good", edKey)
	if err := os.WriteFile(layout.DKIMKey("example.com", "junk"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := Load(layout, &manifest.Manifest{Domains: []manifest.Domain{{Name: "example.com", DKIM: []manifest.DKIMKey{
		{Selector: "good", Algorithm: "ed25519"}, {Selector: "good", Algorithm: "rsa2048"},
		{Selector: "missing", Algorithm: "rsa2048"}, {Selector: "junk", Algorithm: "rsa2048"}}}}})
	if err == nil || !keys.Has("example.com") || len(keys.byDomain["example.com"]) != 1 {
		t.Errorf("keys %v, error %v", keys, err)
	}
	for _, want := range []string{"missing", "junk", "want rsa2048"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not speak of %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Error("the error quotes the file")
	}
}

// A key that is coming up, or was retired, is published and not signed with; its
// file may not even be there.
func TestIdleKeysDoNotSign(t *testing.T) {
	layout := manifest.Layout{Root: t.TempDir()}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	writeKey(t, layout, "now", edKey)
	writeKey(t, layout, "next", edKey)
	keys, err := Load(layout, &manifest.Manifest{Domains: []manifest.Domain{
		{Name: "example.com", DKIM: []manifest.DKIMKey{
			{Selector: "gone", Algorithm: "rsa2048", Idle: true}, {Selector: "now", Algorithm: "ed25519"}, {Selector: "next", Algorithm: "ed25519", Idle: true}}},
		{Name: "other.example", DKIM: []manifest.DKIMKey{{Selector: "next", Algorithm: "ed25519", Idle: true}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	lines, err := keys.Sign("example.com", strings.NewReader(message))
	if err != nil || strings.Count(string(lines), "DKIM-Signature:") != 1 || !strings.Contains(string(lines), "s=now") {
		t.Errorf("signed with\n%s, %v", lines, err)
	}
	if keys.Has("other.example") {
		t.Error("a domain with nothing but an idle key is said to sign")
	}
}

func FuzzSign(f *testing.F) {
	keys, _ := testKeys(f)
	f.Add([]byte(message))
	f.Add([]byte("\r\n\r\n"))
	f.Add([]byte(":\r\n :\r\n\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, err := keys.Sign("example.com", bytes.NewReader(b))
		if err == nil && bytes.Count(lines, []byte("DKIM-Signature:")) != 2 {
			t.Fatalf("signed with %q", lines)
		}
	})
}
