package agent

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"mailform/server/manifest"
)

// newKey makes a private key of a kind that specs name.
func newKey(rand io.Reader, kind string) (crypto.Signer, error) {
	switch kind {
	case "rsa2048":
		return rsa.GenerateKey(rand, 2048)
	case "rsa4096":
		return rsa.GenerateKey(rand, 4096)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand)
		return key, err
	case "ecdsa256":
		return ecdsa.GenerateKey(elliptic.P256(), rand)
	}
	return nil, failf(manifest.ExitRequest, "unknown kind of key %q", kind)
}

// kindOf names a key as newKey does.
func kindOf(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa%d", k.N.BitLen())
	case ed25519.PublicKey:
		return "ed25519"
	case *ecdsa.PublicKey:
		return fmt.Sprintf("ecdsa%d", k.Curve.Params().BitSize)
	}
	return "unknown"
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// readKey reads a PKCS #8 PEM file; nil when it does not exist. Its errors
// never quote the file.
func readKey(path string) (crypto.Signer, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM private key", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds no signing key", path)
	}
	return s, nil
}

// Keys makes the signing keys that are missing, returns the public half of every
// wanted one, and deletes the retired ones.
func (a *Agent) Keys(ctx context.Context, req manifest.KeysRequest) (manifest.KeysResult, error) {
	var out manifest.KeysResult
	for _, w := range slices.Concat(req.Keys, req.Retire) {
		if !manifest.ValidDomain(w.Domain) || !manifest.ValidSelector(w.Selector) {
			return out, failf(manifest.ExitRequest, "bad signing key name %q of %q", w.Selector, w.Domain)
		}
		if w.Algorithm == "ecdsa256" { // RFC 6376 and RFC 8463 know RSA and Ed25519 only
			return out, failf(manifest.ExitRequest, "%s cannot sign for DKIM", w.Algorithm)
		}
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return out, err
	}
	defer unlock()
	if err := a.claimKeys(req.Claim); err != nil {
		return out, err
	}
	for _, w := range req.Keys {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		key, err := a.signingKey(w, req.Replace)
		if err != nil {
			return out, fmt.Errorf("signing key %s of %s: %w", w.Selector, w.Domain, err)
		}
		pub, err := dkimPublic(w.Domain, w.Selector, key)
		if err != nil {
			return out, err
		}
		out.Keys = append(out.Keys, pub)
	}
	if out.Retired, err = a.retireKeys(req.Retire); err != nil {
		return out, err
	}
	return out, a.noteKept()
}

func (a *Agent) signingKey(w manifest.DKIMWanted, replace bool) (crypto.Signer, error) {
	path := a.Layout.DKIMKey(w.Domain, w.Selector)
	key, err := readKey(path)
	if err != nil {
		return nil, err
	}
	if key != nil {
		if have := kindOf(key.Public()); have == w.Algorithm {
			return key, nil
		} else if !replace {
			return nil, failf(manifest.ExitConflict, "conflict: %s is an %s key, not %s; a new selector lets both be used while DNS changes", path, have, w.Algorithm)
		}
	}
	if key, err = newKey(a.Rand, w.Algorithm); err != nil {
		return nil, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	dir := &dirItem{a, filepath.Dir(path), 0o750, 0, true}
	if err := dir.apply(context.Background()); err != nil {
		return nil, err
	}
	if err := a.forgetUse(w.Domain, w.Selector); err != nil { // of the key that was here
		return nil, err
	}
	return key, writeFile(path, text, secretMode, a.gid())
}

// dkimPublic gives a key's TXT record: RFC 6376 3.6.1 (RSA as
// SubjectPublicKeyInfo), RFC 8463 4.2 (Ed25519 as the bare 32 octets).
func dkimPublic(domain, selector string, key crypto.Signer) (manifest.DKIMPublic, error) {
	out := manifest.DKIMPublic{Domain: domain, Selector: selector, Algorithm: kindOf(key.Public())}
	switch pub := key.Public().(type) {
	case ed25519.PublicKey:
		out.TXT = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub)
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return out, err
		}
		out.TXT = "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	default:
		return out, fmt.Errorf("signing key %s of %s is an %s key", selector, domain, out.Algorithm)
	}
	return out, nil
}

// publicKeys lists every signing key on the host, by domain and selector.
func (a *Agent) publicKeys() ([]manifest.DKIMPublic, error) {
	files, err := filepath.Glob(filepath.Join(a.Layout.DKIMDir(), "*", "*.pem"))
	if err != nil {
		return nil, err
	}
	sort.Strings(files)
	var out []manifest.DKIMPublic
	for _, f := range files {
		domain, selector := filepath.Base(filepath.Dir(f)), strings.TrimSuffix(filepath.Base(f), ".pem")
		if !manifest.ValidDomain(domain) || !manifest.ValidSelector(selector) {
			continue
		}
		key, err := readKey(f)
		if err != nil {
			return nil, err
		}
		if key == nil {
			continue
		}
		pub, err := dkimPublic(domain, selector, key)
		if err != nil {
			return nil, err
		}
		if fi, err := os.Stat(f); err == nil {
			pub.Created = fi.ModTime().UTC().Truncate(time.Second)
		}
		var use manifest.KeyUse
		if _, err := readJSON(a.Layout.DKIMUse(domain, selector), &use); err != nil {
			return nil, err
		}
		pub.SignsSince, pub.SignedUntil = use.SignsSince, use.SignedUntil
		out = append(out, pub)
	}
	return out, nil
}

// retireKeys deletes signing keys that the applied manifest does not name.
func (a *Agent) retireKeys(keys []manifest.DKIMWanted) ([]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	m, _, err := a.readManifest()
	if err != nil {
		return nil, err
	}
	inUse := map[string]bool{}
	if m != nil {
		for _, d := range m.Domains {
			for _, k := range d.DKIM {
				inUse[a.Layout.DKIMKey(d.Name, k.Selector)] = true
			}
		}
	}
	var gone []string
	for _, k := range keys {
		path := a.Layout.DKIMKey(k.Domain, k.Selector)
		if inUse[path] {
			return gone, failf(manifest.ExitRequest, "signing key %s of %s is still in use", k.Selector, k.Domain)
		}
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return gone, err
		}
		gone = append(gone, k.Selector+"._domainkey."+k.Domain)
		if err := a.forgetUse(k.Domain, k.Selector); err != nil {
			return gone, err
		}
		dir := filepath.Dir(path)
		if os.Remove(dir) == nil { // it was the domain's last key
			dir = a.Layout.DKIMDir()
		}
		if err := syncDir(dir); err != nil {
			return gone, err
		}
	}
	return gone, nil
}
