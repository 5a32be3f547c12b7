package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailform/server/store"
	"mailform/server/store/keyfile"
	"mailform/server/store/seal"
)

// The storage key is exported to files for one only, comes back after a loss, and may
// be changed; what is printed of it is its fingerprint.
func TestStoreKeyCommands(t *testing.T) {
	ctx := t.Context()
	t.Setenv("MAILFORM_ROOT", t.TempDir())
	path, dir := layout().StoreKeyFile(), layout().StoreDir()
	key, err := seal.NewKey(rand.Reader)
	if err := errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.MkdirAll(filepath.Dir(dir), 0o700), os.WriteFile(path, key.Octets(), 0o600)); err != nil {
		t.Fatal(err)
	}
	read := func(root *seal.Key) (text string, err error) {
		l, err := store.Open(dir, store.Options{Root: root, ReserveBytes: -1})
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		box, w, err := l.Open(ctx, "a@b", "INBOX")
		if err != nil {
			return "", err
		}
		w.Close()
		r, err := l.Read(ctx, "a@b", *box.Messages.At(0))
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(r)
		return string(b), errors.Join(err, r.Close())
	}
	l, err := store.Open(dir, store.Options{Root: &key, Encrypt: true, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, derr := l.Deliver(ctx, store.Delivery{Body: strings.NewReader(""), Targets: []store.Target{{Account: "a@b", Mailbox: "INBOX"}}})
	if derr == nil {
		t.Error("an account that is not there has mail")
	}
	err = l.EnsureAccount(ctx, "a@b", 0)
	_, derr = l.Deliver(ctx, store.Delivery{Body: strings.NewReader("text"), Size: -1, Targets: []store.Target{{Account: "a@b", Mailbox: "INBOX"}}})
	if err := errors.Join(err, derr, l.Close()); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := storeCommand()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(args)
		err := cmd.ExecuteContext(ctx)
		if b, rerr := os.ReadFile(path); rerr == nil {
			if k, kerr := seal.KeyOf(b); kerr == nil && strings.Contains(out.String(), k.Text()[30:]) {
				t.Errorf("%s prints the key", args)
			}
		}
		return out.String(), err
	}
	show := func(want ...string) {
		t.Helper()
		out, err := run("key", "show")
		for _, w := range want {
			if err != nil || !strings.Contains(out, w) {
				t.Errorf("show: %q, %v; want %q", out, err, w)
			}
		}
	}
	show("here:    "+key.Fingerprint()+"  never exported", "needed:  "+key.Fingerprint())
	if _, err := run("key", "export"); err == nil || !strings.Contains(err.Error(), "--out") {
		t.Errorf("exported to what is no terminal: %v", err)
	}
	saved := filepath.Join(t.TempDir(), "key")
	if _, err := run("key", "export", "--out", saved); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(saved); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	if _, err := run("key", "export", "--out", saved); err == nil {
		t.Error("a file that is there was written over")
	}
	show(key.Fingerprint() + "  exported")

	// Lost: the store says which it needs, is checked all the same, and salvage says
	// what it leaves out.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	show("here:    none", "needed:  "+key.Fingerprint())
	var said strings.Builder
	if err := sayKey(&said, dir); err != nil || !strings.Contains(said.String(), key.Fingerprint()) || !strings.Contains(said.String(), "is not on this host") {
		t.Errorf("a restore says %q, %v", said.String(), err)
	}
	if out, err := run("check"); err != nil {
		t.Errorf("check without the key: %q, %v", out, err)
	}
	if out, err := run("salvage", filepath.Join(t.TempDir(), "x")); err == nil || !strings.Contains(out, "left out") || !strings.Contains(out, "lost: ") {
		t.Errorf("salvage without the key: %q, %v", out, err)
	}
	if _, err := run("erase", "a@b"); err == nil {
		t.Error("erased without the key")
	}
	other, err := seal.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte(other.Text()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run("key", "import", wrong); err == nil || !strings.Contains(err.Error(), key.Fingerprint()) {
		t.Errorf("another key was taken: %v", err)
	}
	if out, err := run("key", "import", saved); err != nil || !strings.Contains(out, key.Fingerprint()) {
		t.Fatalf("import: %q, %v", out, err)
	}
	if b, err := keyfile.Of(layout()).Key(); err != nil || b == nil || *b != key {
		t.Errorf("imported %v, %v", b, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != keyfile.Mode {
		t.Errorf("%v, %v", fi, err)
	}
	if text, err := read(&key); err != nil || text != "text" {
		t.Errorf("%q, %v", text, err)
	}

	// Changed, also when the change before was cut off between its two files.
	for range 2 {
		if _, err := run("key", "rotate"); err != nil {
			t.Fatal(err)
		}
		now, err := keyfile.Of(layout()).Key()
		if err != nil || *now == key {
			t.Fatalf("%v, %v", now, err)
		}
		if text, err := read(now); err != nil || text != "text" {
			t.Errorf("%q, %v", text, err)
		}
		if _, err := read(&key); err == nil {
			t.Error("the key from before still opens the store")
		}
		show(now.Fingerprint() + "  never exported")
		if err := errors.Join(os.Rename(path, keyfile.Of(layout()).Next()), os.WriteFile(path, key.Octets(), 0o600)); err != nil {
			t.Fatal(err)
		}
		show("here:    "+now.Fingerprint(), "needed:  "+now.Fingerprint())
	}
}
