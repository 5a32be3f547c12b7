package agent

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"mailform/server/manifest"
)

// A certificate NAME is the link TLSDir/NAME to a folder TLSDir/.versions/NAME-…
// that holds key.pem, chain.pem and meta.json. A new certificate is a new folder
// and one rename of the link, so that a reader never sees a chain without its key.
// The key of a certificate that is being asked for waits in TLSDir/.pending.

func (a *Agent) pendingKey(name string) string {
	return filepath.Join(a.Layout.TLSDir(), ".pending", name+".pem")
}

// pendingNames is the list of names that the pending key was made for.
func (a *Agent) pendingNames(name string) string {
	return filepath.Join(a.Layout.TLSDir(), ".pending", name+".json")
}

func (a *Agent) certVersions() string { return filepath.Join(a.Layout.TLSDir(), ".versions") }

// CSR makes the key for a new certificate, takes up the one that an earlier
// request left or keeps the one in use, and returns the signing request as PEM.
func (a *Agent) CSR(ctx context.Context, req manifest.CSRRequest) ([]byte, error) {
	if err := checkCertNames(req.Name, req.Names); err != nil {
		return nil, err
	}
	if req.Key != "ecdsa256" && req.Key != "rsa2048" {
		return nil, failf(manifest.ExitRequest, "unknown kind of TLS key %q", req.Key)
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := a.claimKeys(req.Claim); err != nil {
		return nil, err
	}
	key, err := a.keyForRequest(req)
	if err != nil {
		return nil, err
	}
	if err := writeJSON(a.pendingNames(req.Name), req.Names, 0o600); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(a.Rand, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: req.Names[0]},
		DNSNames: req.Names,
	}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// keyForRequest is the pending key, made when there is none that will do. One
// that is to be kept becomes pending, too, so that both are installed alike.
func (a *Agent) keyForRequest(req manifest.CSRRequest) (crypto.Signer, error) {
	pending, err := readKey(a.pendingKey(req.Name))
	if err != nil {
		return nil, err
	}
	current, err := readKey(a.Layout.CertKey(req.Name))
	if err != nil {
		return nil, err
	}
	var key crypto.Signer
	switch {
	case req.KeepKey && current != nil && kindOf(current.Public()) == req.Key:
		key = current
	case pending != nil && kindOf(pending.Public()) == req.Key && (current == nil || !samePublic(pending, current.Public())):
		return pending, nil
	default:
		if key, err = newKey(a.Rand, req.Key); err != nil {
			return nil, err
		}
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	path := a.pendingKey(req.Name)
	if err := mkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return key, writeFile(path, text, 0o600, -1)
}

// samePublic reports whether a public key is that of a private one.
func samePublic(key crypto.Signer, public crypto.PublicKey) bool {
	k, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(public)
}

func checkCertNames(name string, names []string) error {
	if !manifest.ValidName(name) {
		return failf(manifest.ExitRequest, "bad certificate name %q", name)
	}
	if names != nil && len(names) == 0 {
		return failf(manifest.ExitRequest, "certificate %s has no DNS names", name)
	}
	for _, n := range names {
		if !manifest.ValidDomain(strings.TrimPrefix(n, "*.")) {
			return failf(manifest.ExitRequest, "certificate %s: bad DNS name %q", name, n)
		}
	}
	return nil
}

// InstallCert installs a chain beside the key it was made for and asks a
// running daemon to serve it.
func (a *Agent) InstallCert(ctx context.Context, req manifest.CertRequest) (manifest.Certificate, error) {
	var none manifest.Certificate
	if err := checkCertNames(req.Name, nil); err != nil {
		return none, err
	}
	chain, err := parseChain([]byte(req.Chain))
	if err != nil {
		return none, failf(manifest.ExitRequest, "certificate %s: %v", req.Name, err)
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return none, err
	}
	defer unlock()
	if err := a.claimKeys(req.Claim); err != nil {
		return none, err
	}
	key, pending, err := a.keyFor(req.Name, chain[0])
	if err != nil {
		return none, err
	}
	if pending {
		if err := a.checkPendingNames(req.Name, chain[0]); err != nil {
			return none, err
		}
	}
	changed, err := a.installVersion(req, chain[0], key)
	if err != nil {
		return none, err
	}
	done := []string{a.orderFile(req.Name)}
	if pending {
		done = append(done, a.pendingKey(req.Name), a.pendingNames(req.Name))
	}
	for _, path := range done {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return none, err
		}
	}
	cert, err := a.certificate(req.Name)
	if err != nil {
		return none, err
	}
	if err := a.noteKept(); err != nil {
		return none, err
	}
	if changed {
		if err := a.reloadIfRunning(ctx); err != nil {
			return none, err
		}
	}
	return *cert, nil
}

// checkPendingNames refuses a certificate that leaves out a name it was asked for.
func (a *Agent) checkPendingNames(name string, leaf *x509.Certificate) error {
	var names []string
	if _, err := readJSON(a.pendingNames(name), &names); err != nil {
		return err
	}
	for _, n := range names {
		if !slices.Contains(leaf.DNSNames, n) {
			return failf(manifest.ExitConflict, "the certificate is for %s, not for %s, which it was asked for", strings.Join(leaf.DNSNames, ", "), n)
		}
	}
	return nil
}

// parseChain reads a PEM chain, leaf first.
func parseChain(b []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		block, b = pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("the chain holds something that is not a certificate")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("the chain is empty")
	}
	if len(chain[0].DNSNames) == 0 {
		return nil, errors.New("the first certificate names no DNS name")
	}
	return chain, nil
}

// keyFor finds the private key a leaf was made for: the pending or the current one.
func (a *Agent) keyFor(name string, leaf *x509.Certificate) (key crypto.Signer, pending bool, err error) {
	for _, path := range []string{a.pendingKey(name), a.Layout.CertKey(name)} {
		key, err := readKey(path)
		if err != nil {
			return nil, false, err
		}
		if key == nil {
			continue
		}
		if samePublic(key, leaf.PublicKey) {
			return key, path == a.pendingKey(name), nil
		}
	}
	return nil, false, failf(manifest.ExitConflict, "the certificate for %s was made for a key that is not on this host", strings.Join(leaf.DNSNames, ", "))
}

func (a *Agent) installVersion(req manifest.CertRequest, leaf *x509.Certificate, key crypto.Signer) (changed bool, err error) {
	sum := sha256.Sum256(leaf.Raw)
	version := req.Name + "-" + hex.EncodeToString(sum[:8])
	link, target := filepath.Join(a.Layout.TLSDir(), req.Name), filepath.Join(".versions", version)
	before, err := os.Readlink(link)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, conflict(link, "it is not a certificate of mailform's")
	}
	if before == target {
		return false, nil
	}
	dir := filepath.Join(a.certVersions(), version)
	for _, d := range []string{a.certVersions(), dir} {
		if err := (&dirItem{a, d, 0o750, 0, true}).apply(context.Background()); err != nil {
			return false, err
		}
	}
	text, err := encodeKey(key)
	if err != nil {
		return false, err
	}
	if err := writeFile(filepath.Join(dir, "key.pem"), text, secretMode, a.gid()); err != nil {
		return false, err
	}
	if err := writeFile(filepath.Join(dir, "chain.pem"), []byte(req.Chain), 0o644, -1); err != nil {
		return false, err
	}
	meta := manifest.CertMeta{Directory: req.Meta["directory"], Extra: map[string]string{}}
	for k, v := range req.Meta {
		if k != "directory" {
			meta.Extra[k] = v
		}
	}
	if err := writeJSON(filepath.Join(dir, "meta.json"), meta, 0o644); err != nil {
		return false, err
	}
	if err := switchLink(target, link); err != nil {
		return false, err
	}
	return true, a.pruneCerts(req.Name, version, filepath.Base(before))
}

// RemoveCert takes a certificate, its key and what waits for it away and asks a
// running daemon to forget it. One that is gone is no error. The host's own stays:
// the daemon needs it.
func (a *Agent) RemoveCert(ctx context.Context, req manifest.CertRemoval) (manifest.CertRemoved, error) {
	var none manifest.CertRemoved
	if err := checkCertNames(req.Name, nil); err != nil {
		return none, err
	}
	if req.Name == req.Host {
		return none, failf(manifest.ExitRequest, "certificate %s is the host's own", req.Name)
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return none, err
	}
	defer unlock()
	if err := a.claimKeys(req.Claim); err != nil {
		return none, err
	}
	removed := none
	for _, path := range []string{filepath.Join(a.Layout.TLSDir(), req.Name), a.pendingKey(req.Name), a.pendingNames(req.Name), a.orderFile(req.Name)} {
		switch err := os.Remove(path); {
		case err == nil:
			removed.Changed = true
		case !errors.Is(err, fs.ErrNotExist):
			return none, err
		}
	}
	if err := a.pruneCerts(req.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return none, err
	}
	if removed.Changed {
		return removed, errors.Join(a.noteKept(), a.reloadIfRunning(ctx))
	}
	return removed, nil
}

// pruneCerts deletes versions of a certificate other than the ones to keep, so
// that old private keys do not pile up.
func (a *Agent) pruneCerts(name string, keep ...string) error {
	entries, err := os.ReadDir(a.certVersions())
	if err != nil {
		return err
	}
next:
	for _, e := range entries {
		v := e.Name()
		if i := strings.LastIndexByte(v, '-'); i < 0 || v[:i] != name {
			continue
		}
		for _, k := range keep {
			if v == k {
				continue next
			}
		}
		if err := os.RemoveAll(filepath.Join(a.certVersions(), v)); err != nil {
			return err
		}
	}
	return nil
}

// certificates lists what is installed, by name.
func (a *Agent) certificates() ([]manifest.Certificate, error) {
	entries, err := os.ReadDir(a.Layout.TLSDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []manifest.Certificate
	for _, e := range entries {
		if !manifest.ValidName(e.Name()) || e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		c, err := a.certificate(e.Name())
		if err != nil {
			return nil, err
		}
		out = append(out, *c)
	}
	return out, nil
}

func (a *Agent) certificate(name string) (*manifest.Certificate, error) {
	b, err := os.ReadFile(a.Layout.CertChain(name))
	if err != nil {
		return nil, err
	}
	chain, err := parseChain(b)
	if err != nil {
		return nil, err
	}
	leaf := chain[0]
	var meta manifest.CertMeta
	if _, err := readJSON(filepath.Join(a.Layout.TLSDir(), name, "meta.json"), &meta); err != nil {
		return nil, err
	}
	sum, spki := sha256.Sum256(leaf.Raw), sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	names := append([]string{}, leaf.DNSNames...)
	sort.Strings(names)
	onDisk, err := keyDir{a: a, name: "tls", path: a.Layout.TLSDir()}.linked()
	if err != nil {
		return nil, err
	}
	return &manifest.Certificate{
		Name: name, Names: names, Key: kindOf(leaf.PublicKey), Issuer: leaf.Issuer.String(),
		Directory: meta.Directory, RenewalInfo: meta.Extra[manifest.MetaRenewalInfo], SerialHex: hex.EncodeToString(leaf.SerialNumber.Bytes()),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, SHA256: hex.EncodeToString(sum[:]), SPKI: hex.EncodeToString(spki[:]),
		OnDisk: onDisk,
	}, nil
}
