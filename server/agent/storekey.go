package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"mailform/server/manifest"
	"mailform/server/store"
	"mailform/server/store/keyfile"
	"mailform/server/store/seal"
)

// storeKey makes the storage key of a host whose mail is to be encrypted, before the
// service reads a manifest that says so. One that a store needs already is never made
// anew: the mail could not be read with it.
func (c *converge) storeKey(want *manifest.Manifest) error {
	if want.Store == nil || !want.Store.Encrypt {
		return nil
	}
	a := c.a
	path := a.Layout.StoreKeyFile()
	key, err := keyfile.For(path, a.Layout.StoreDir())
	if err != nil {
		return err
	}
	need, err := store.KeyNeeded(a.Layout.StoreDir())
	if err != nil {
		return fmt.Errorf("%s: %w", a.Layout.StoreDir(), err)
	}
	switch {
	case need != "" && (key == nil || key.Fingerprint() != need):
		wrong := &seal.RootError{Want: need}
		if key != nil {
			wrong.Have = key.Fingerprint()
		}
		return failf(manifest.ExitFailed, "%v", wrong)
	case key != nil:
		c.step("storage key", "unchanged", "")
		return nil
	case c.req.DryRun:
		c.step("storage key", "would change", "it is made on the host")
		return nil
	}
	made, err := seal.NewKey(a.Rand)
	if err != nil {
		return err
	}
	a.effect("make the storage key")
	if err := writeFile(path, made.Octets(), keyfile.Mode, a.gid()); err != nil {
		return err
	}
	c.reload = true
	c.step("storage key", "changed", fmt.Sprintf("%s was made; it is nowhere but on this host until somebody runs mailformd store key export there", made.Fingerprint()))
	return nil
}

// storeKeyFacts tells of the storage key; nil when nothing is encrypted, and while the
// keys are on a disk that is not there.
func (a *Agent) storeKeyFacts(m *manifest.Manifest) (*manifest.StoreKey, error) {
	if m.Store == nil || !m.Store.Encrypt {
		return nil, nil
	}
	if away, err := a.keysAway(); err != nil || away {
		return nil, err
	}
	key, err := keyfile.For(a.Layout.StoreKeyFile(), a.Layout.StoreDir())
	if err != nil || key == nil {
		return &manifest.StoreKey{}, err
	}
	saved, err := os.ReadFile(a.Layout.StoreKeySavedFile())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return &manifest.StoreKey{Fingerprint: key.Fingerprint(), Saved: strings.TrimSpace(string(saved)) == key.Fingerprint()}, err
}
