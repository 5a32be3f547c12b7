package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"mailform/server/manifest"
)

// AccountKey returns the account key of an ACME directory as PEM and makes it
// when it is missing. It is the one private key that leaves the host: over the
// encrypted session, into memory.
func (a *Agent) AccountKey(ctx context.Context, req manifest.AccountRequest) ([]byte, error) {
	if req.Directory == "" {
		return nil, failf(manifest.ExitRequest, "no ACME directory is named")
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := a.claimKeys(req.Claim); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(req.Directory))
	path := a.Layout.ACMEAccountKey(hex.EncodeToString(sum[:8]))
	key, err := readKey(path)
	if err != nil {
		return nil, err
	}
	if key != nil {
		return encodeKey(key)
	}
	if key, err = newKey(a.Rand, "ecdsa256"); err != nil {
		return nil, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := mkdirAll(a.Layout.ACMEDir(), 0o700); err != nil {
		return nil, err
	}
	return text, writeFile(path, text, 0o600, -1)
}

// orderFile says where the CA keeps the order for a certificate that is being
// asked for. It lies beside the key that waits for it.
func (a *Agent) orderFile(name string) string {
	return filepath.Join(a.Layout.TLSDir(), ".pending", name+".order.json")
}

// maxLocation bounds an order's URL.
const maxLocation = 2048

// Order answers with the order for a certificate, after writing it down when the
// request has one. An order of another directory is none.
func (a *Agent) Order(ctx context.Context, req manifest.OrderRequest) (manifest.Order, error) {
	var none manifest.Order
	if err := checkCertNames(req.Name, nil); err != nil {
		return none, err
	}
	if req.Directory == "" {
		return none, failf(manifest.ExitRequest, "no ACME directory is named")
	}
	if l := req.Location; len(l) > maxLocation || strings.ContainsFunc(l, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return none, failf(manifest.ExitRequest, "certificate %s: the order's URL is malformed", req.Name)
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return none, err
	}
	defer unlock()
	if err := a.claimKeys(req.Claim); err != nil {
		return none, err
	}
	path := a.orderFile(req.Name)
	if req.Location != "" {
		kept := manifest.Order{Directory: req.Directory, Location: req.Location}
		if err := mkdirAll(filepath.Dir(path), 0o700); err != nil {
			return none, err
		}
		return kept, writeJSON(path, kept, 0o600)
	}
	var kept manifest.Order
	if _, err := readJSON(path, &kept); err != nil {
		// Half a file, or somebody else's: without it an order is made anew.
		return none, os.Remove(path)
	}
	if kept.Directory != req.Directory {
		return none, nil
	}
	return kept, nil
}
