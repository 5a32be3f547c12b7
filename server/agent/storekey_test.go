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
	key, err := keyfile.Of(m.layout).Key()
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
	if err := os.Rename(away, keyfile.Of(m.layout).Next()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.converge(req); err != nil || fileExists(path) {
		t.Errorf("with the next key: %v", err)
	}
}

// The key leaves the host for its own stack alone, and that it was received is noted
// for the key that it was.
func TestStorageKeyRequests(t *testing.T) {
	m := newMachine(t)
	m.install()
	req := wanted()
	ctx := t.Context()
	if _, _, err := m.converge(req); err != nil {
		t.Fatal(err)
	}
	mine := manifest.StorageKeyRequest{Claim: req.Claim}
	if _, err := m.agent().ExportStorageKey(ctx, mine); err == nil || !strings.Contains(err.Error(), "no storage key on this host") {
		t.Errorf("without encryption: %v", err)
	}
	req.Manifest.Store = &manifest.Store{Encrypt: true}
	res, _, err := m.converge(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.agent().PasswordsReceived(ctx, res.Passwords); err != nil {
		t.Fatal(err)
	}
	theirs := mine
	theirs.Stack = "theirs"
	got, err := m.agent().ExportStorageKey(ctx, mine)
	if err != nil || got.Key == "" {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"export": second(m.agent().ExportStorageKey(ctx, theirs)), "note": second(m.agent().NoteStorageKey(ctx, theirs)), "import": second(m.agent().ImportStorageKey(ctx, theirs)),
	} {
		if e := (*Error)(nil); !errors.As(err, &e) || e.Code != manifest.ExitOwned {
			t.Errorf("%s for another stack: %v", name, err)
		}
	}
	for _, shown := range []string{fmt.Sprint(got), fmt.Sprintf("%+v", got), fmt.Sprintf("%#v", got), fmt.Sprintf("%x", manifest.StorageKeyRequest{Key: got.Key}), fmt.Sprintf("%d", &got)} {
		if strings.Contains(shown, got.Key[30:]) || strings.Contains(shown, fmt.Sprintf("%x", got.Key[30:])) {
			t.Errorf("the key is shown: %s", shown)
		}
	}
	another := mine
	another.Fingerprint = "0123456789abcdef"
	if _, err := m.agent().NoteStorageKey(ctx, another); err == nil || m.observe().StoreKey.Saved {
		t.Errorf("another key was noted: %v", err)
	}
	mine.Fingerprint = got.Fingerprint
	if _, err := m.agent().NoteStorageKey(ctx, mine); err != nil || !m.observe().StoreKey.Saved {
		t.Errorf("not noted: %v", err)
	}
	// A mode that lets others read it is drift, and mended.
	if err := os.Chmod(m.layout.StoreKeyFile(), 0o644); err != nil {
		t.Fatal(err)
	}
	if f := m.observe(); !strings.Contains(strings.Join(f.Service.Drift, " "), "not for root and the service alone") {
		t.Errorf("drift: %q", f.Service.Drift)
	}
	if _, _, err := m.converge(req); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(m.layout.StoreKeyFile()); err != nil || fi.Mode() != keyfile.Mode || len(m.observe().Service.Drift) > 0 {
		t.Errorf("%v, %v, %q", fi, err, m.observe().Service.Drift)
	}
	// What was lost comes back.
	if err := os.Remove(m.layout.StoreKeyFile()); err != nil {
		t.Fatal(err)
	}
	mine.Key = got.Key
	if out, err := m.agent().ImportStorageKey(ctx, mine); err != nil || out.Fingerprint != got.Fingerprint {
		t.Errorf("%+v, %v", out, err)
	}
	if f := m.observe(); f.StoreKey.Fingerprint != got.Fingerprint || !f.StoreKey.Saved {
		t.Errorf("%+v", f.StoreKey)
	}
}

func second[T any](_ T, err error) error { return err }
