package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailform/server/manifest"
	"mailform/server/store"
	"mailform/server/store/keyfile"
)

// The storage key is made once, before the service reads that mail is to be encrypted,
// and never in the place of one that a store needs.
func TestStoreKey(t *testing.T) {
	m := newMachine(t)
	m.install()
	path := m.layout.StoreKeyFile()
	req := wanted()
	if _, _, err := m.converge(req); err != nil {
		t.Fatal(err)
	}
	if fileExists(path) {
		t.Error("there is a storage key where nothing is encrypted")
	}
	req.Manifest.Store = &manifest.Store{Encrypt: true}
	req.DryRun = true
	if _, events, err := m.converge(req); err != nil || fileExists(path) || !strings.Contains(fmt.Sprint(events), "storage key") {
		t.Errorf("dry run: %v, %v", events, err)
	}
	req.DryRun = false
	res, events, err := m.converge(req)
	if err != nil || !res.Changed {
		t.Fatalf("%+v, %v", res, err)
	}
	key, err := keyfile.Read(path)
	if err != nil || key == nil {
		t.Fatalf("no key: %v", err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != keyfile.Mode {
		t.Errorf("%v, %v", fi, err)
	}
	if text := fmt.Sprint(events); strings.Contains(text, string(key.Octets())) || strings.Contains(text, key.Text()) || !strings.Contains(text, key.Fingerprint()) {
		t.Errorf("events: %s", text)
	}
	if err := m.agent().PasswordsReceived(t.Context(), res.Passwords); err != nil {
		t.Fatal(err)
	}
	if f := m.observe(); f.StoreKey == nil || *f.StoreKey != (manifest.StoreKey{Fingerprint: key.Fingerprint()}) || len(f.Service.Drift) > 0 {
		t.Errorf("observed: %+v, drift %q", f.StoreKey, f.Service.Drift)
	}
	if err := os.WriteFile(m.layout.StoreKeySavedFile(), []byte(key.Fingerprint()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if f := m.observe(); !f.StoreKey.Saved {
		t.Errorf("exported: %+v", f.StoreKey)
	}
	before := m.snapshot()
	if res, _, err := m.converge(req); err != nil || res.Changed || m.snapshot() != before {
		t.Errorf("the second converge: %+v, %v", res, err)
	}
	// A store that needs it, and the key is gone: none is made.
	l, err := store.Open(m.layout.StoreDir(), store.Options{Root: key, Encrypt: true})
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	away := filepath.Join(t.TempDir(), "key")
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	if f := m.observe(); f.StoreKey == nil || f.StoreKey.Fingerprint != "" || !strings.Contains(strings.Join(f.Service.Drift, " "), "no storage key") {
		t.Errorf("without the key: %+v, drift %q", f.StoreKey, f.Service.Drift)
	}
	if _, _, err := m.converge(req); err == nil || !strings.Contains(err.Error(), key.Fingerprint()) || !strings.Contains(err.Error(), "store key import") || fileExists(path) {
		t.Errorf("without the key: %v", err)
	}
	// One whose change was cut off is in the other file.
	if err := os.Rename(away, keyfile.Next(path)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.converge(req); err != nil || fileExists(path) {
		t.Errorf("with the next key: %v", err)
	}
}
