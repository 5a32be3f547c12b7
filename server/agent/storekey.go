package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"mailform/server/manifest"
	"mailform/server/store/keyfile"
	"mailform/server/store/seal"
)

// storeKeyPlace is where this host keeps its storage key.
func (a *Agent) storeKeyPlace() keyfile.Place {
	p := keyfile.Of(a.Layout)
	p.GID = a.gid()
	return p
}

// storeKey makes the storage key of a host whose mail is to be encrypted, before the
// service reads a manifest that says so. One that a store needs already is never made
// anew: the mail could not be read with it.
func (c *converge) storeKey(want *manifest.Manifest) error {
	if want.Store == nil || !want.Store.Encrypt {
		return nil
	}
	a := c.a
	place := a.storeKeyPlace()
	key, err := place.Key()
	if err != nil {
		return err
	}
	need, err := place.Need()
	if err != nil {
		return fmt.Errorf("%s: %w", place.Store, err)
	}
	switch {
	case need != "" && (key == nil || key.Fingerprint() != need):
		wrong := &seal.RootError{Want: need}
		if key != nil {
			wrong.Have = key.Fingerprint()
		}
		return failf(manifest.ExitFailed, "%v", wrong)
	case key != nil:
		return c.storeKeyAccess(place)
	case c.req.DryRun:
		c.step("storage key", "would change", "it is made on the host")
		return nil
	}
	a.effect("make the storage key")
	made, err := place.Make(a.Rand)
	if err != nil {
		return err
	}
	c.reload = true
	c.step("storage key", "changed", fmt.Sprintf("%s was made; it is nowhere but on this host until somebody runs mailform storage-key export", made.Fingerprint()))
	return nil
}

// storeKeyAccess has the key for root and the service alone.
func (c *converge) storeKeyAccess(place keyfile.Place) error {
	open, err := c.a.storeKeyOpen(place)
	switch {
	case err != nil:
		return err
	case len(open) == 0:
		c.step("storage key", "unchanged", "")
		return nil
	case c.req.DryRun:
		c.step("storage key", "would change", "mode and owner")
		return nil
	}
	c.a.effect("mode of the storage key")
	for _, path := range open {
		if err := errors.Join(os.Chown(path, c.a.uid, c.a.gid()), os.Chmod(path, keyfile.Mode)); err != nil {
			return err
		}
	}
	c.step("storage key", "changed", "mode and owner")
	return nil
}

// storeKeyOpen are the files of storage keys that are for others than root and the service.
func (a *Agent) storeKeyOpen(place keyfile.Place) (open []string, err error) {
	for _, path := range []string{place.Path, place.Next()} {
		fi, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if accessDiff(fi, keyfile.Mode, a.uid, a.gid()) != "" {
			open = append(open, path)
		}
	}
	return open, nil
}

// storeKeyFacts tells of the storage key; nil when nothing is encrypted, and while the
// keys are on a disk that is not there. drift is what is not as it should be.
func (a *Agent) storeKeyFacts(m *manifest.Manifest) (_ *manifest.StoreKey, drift string, err error) {
	if m.Store == nil || !m.Store.Encrypt {
		return nil, "", nil
	}
	if away, err := a.keysAway(); err != nil || away {
		return nil, "", err
	}
	place := a.storeKeyPlace()
	key, err := place.Key()
	if err != nil {
		return nil, "", err
	}
	if key == nil {
		return &manifest.StoreKey{}, "there is no storage key", nil
	}
	if open, err := a.storeKeyOpen(place); err != nil {
		return nil, "", err
	} else if len(open) > 0 {
		drift = fmt.Sprintf("%v is not for root and the service alone", open)
	}
	saved, err := place.IsSaved(*key)
	return &manifest.StoreKey{Fingerprint: key.Fingerprint(), Saved: saved}, drift, err
}

// ExportStorageKey answers with the storage key, as it is written down. That somebody
// has it is noted when he says so: NoteStorageKey.
func (a *Agent) ExportStorageKey(ctx context.Context, req manifest.StorageKeyRequest) (out manifest.StorageKey, err error) {
	unlock, err := a.lock(ctx)
	if err != nil {
		return out, err
	}
	defer unlock()
	if err := a.owned(req.Claim); err != nil {
		return out, err
	}
	key, err := a.storeKeyPlace().Key()
	if err != nil {
		return out, err
	}
	if key == nil {
		return out, failf(manifest.ExitFailed, "there is no storage key on this host")
	}
	return manifest.StorageKey{Fingerprint: key.Fingerprint(), Key: key.Text()}, nil
}

// NoteStorageKey notes that somebody has a copy of the storage key.
func (a *Agent) NoteStorageKey(ctx context.Context, req manifest.StorageKeyRequest) (manifest.StoreKey, error) {
	unlock, err := a.lock(ctx)
	if err != nil {
		return manifest.StoreKey{}, err
	}
	defer unlock()
	if err := a.owned(req.Claim); err != nil {
		return manifest.StoreKey{}, err
	}
	place := a.storeKeyPlace()
	key, err := place.Key()
	if err != nil {
		return manifest.StoreKey{}, err
	}
	if key == nil || key.Fingerprint() != req.Fingerprint {
		return manifest.StoreKey{}, failf(manifest.ExitFailed, "%s is not the storage key of this host any more", req.Fingerprint)
	}
	return manifest.StoreKey{Fingerprint: req.Fingerprint, Saved: true}, place.NoteSaved(req.Fingerprint)
}

// ImportStorageKey puts a storage key in its place that was exported. A server that did
// not start without it is started by the next converge.
func (a *Agent) ImportStorageKey(ctx context.Context, req manifest.StorageKeyRequest) (out manifest.StoreKey, err error) {
	unlock, err := a.lock(ctx)
	if err != nil {
		return out, err
	}
	defer unlock()
	if err := a.owned(req.Claim); err != nil {
		return out, err
	}
	key, err := seal.ParseText(req.Key)
	if err != nil {
		return out, failf(manifest.ExitFailed, "%v", err)
	}
	if away, err := a.keysAway(); err != nil || away {
		return out, errors.Join(err, failf(manifest.ExitFailed, "the keys of this host are on a data disk that is not mounted"))
	}
	aside, err := a.storeKeyPlace().Import(key)
	if err != nil {
		return out, failf(manifest.ExitFailed, "%v", err)
	}
	return manifest.StoreKey{Fingerprint: key.Fingerprint(), Saved: true, Aside: aside}, nil
}
