package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"mailform/server/account"
	"mailform/server/mailauth"
	"mailform/server/manifest"
	"mailform/server/route"
	"mailform/server/store"
	"mailform/server/store/keyfile"
	"mailform/server/store/seal"
)

// state is everything a reload reads again. It does not change once made.
type state struct {
	manifest  *manifest.Manifest
	sha256    string // of the manifest's file
	directory *account.Directory
	retained  []manifest.Retained
	routes    *route.Table
	keys      *mailauth.Keys
	certs     certificates
	root      *seal.Key // nil: there is no storage key
}

// load reads the documents and keys of a host. keyErr tells what is wrong with
// certificate and signing keys; the state is still usable then.
func load(l manifest.Layout) (s *state, keyErr, err error) {
	text, err := os.ReadFile(l.ManifestFile())
	if err != nil {
		return nil, nil, err
	}
	s = &state{sha256: manifest.SHA256(text)}
	if s.manifest, err = manifest.ReadManifest(text); err != nil {
		return nil, nil, err
	}
	var credentials manifest.Credentials
	if err := readJSON(l.CredentialsFile(), &credentials); err != nil {
		return nil, nil, err
	}
	if credentials.Format > manifest.Format {
		return nil, nil, fmt.Errorf("%s has format %d, this mailformd knows up to %d", l.CredentialsFile(), credentials.Format, manifest.Format)
	}
	if s.directory, err = account.NewDirectory(s.manifest, &credentials); err != nil {
		return nil, nil, err
	}
	if err := readJSON(l.RetainedFile(), &s.retained); err != nil {
		return nil, nil, err
	}
	if s.routes, err = route.New(s.manifest, s.retained); err != nil {
		return nil, nil, err
	}
	if s.root, err = keyfile.Of(l).Key(); err != nil {
		return nil, nil, err
	}
	var certErr error
	s.certs, certErr = readCertificates(l, s.manifest.Host)
	s.keys, keyErr = mailauth.Load(l, s.manifest)
	return s, errors.Join(certErr, keyErr), nil
}

// readJSON reads a file that may be missing.
func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// ready has the store keep mail as the manifest says, and makes its accounts.
func (s *state) ready(ctx context.Context, st store.Store) error {
	if c, ok := st.(interface{ SetCompress(bool) error }); ok {
		if err := c.SetCompress(s.manifest.Store != nil && s.manifest.Store.Compress); err != nil {
			return fmt.Errorf("compress messages: %w", err)
		}
	}
	if c, ok := st.(interface {
		GiveRoot(*seal.Key)
		SetEncrypt(bool) error
	}); ok {
		c.GiveRoot(s.root)
		if err := c.SetEncrypt(s.manifest.Store != nil && s.manifest.Store.Encrypt); err != nil {
			return fmt.Errorf("encrypt messages: %w", err)
		}
	}
	if err := ensureAccounts(ctx, st, s.directory); err != nil {
		return err
	}
	return st.SetQuotas(ctx, quotasOf(s.manifest))
}

// quotasOf are the manifest's limits that EnsureAccount does not set.
func quotasOf(m *manifest.Manifest) store.Quotas {
	q := store.Quotas{Domains: map[string]store.Quota{}, Messages: map[string]int64{}}
	for _, d := range m.Domains {
		if limit := (store.Quota{Bytes: d.QuotaBytes, Messages: d.QuotaMessages}); limit != (store.Quota{}) {
			q.Domains[strings.ToLower(d.Name)] = limit
		}
		for _, b := range d.Mailboxes {
			if b.QuotaMessages > 0 {
				q.Messages[strings.ToLower(b.Local+"@"+d.Name)] = b.QuotaMessages
			}
		}
	}
	return q
}

// ensureAccounts makes the mailboxes of every account. The store commits those
// that wait together, so many wait at once.
func ensureAccounts(ctx context.Context, st store.Store, d *account.Directory) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for _, a := range d.Accounts() {
		g.Go(func() error {
			if err := st.EnsureAccount(ctx, a.Address, a.QuotaBytes); err != nil {
				return fmt.Errorf("mailbox %s: %w", a.Address, err)
			}
			return nil
		})
	}
	return g.Wait()
}
