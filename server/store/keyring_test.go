package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A keyring with the same line damaged in both copies is kept as it was when the next
// key is added; check says so, and a keyring from before brings the key back.
func TestDamagedKeyringIsKept(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := sealedLog(t, dir, Options{})
	m := deliverBody(t, l, "text") // for a@b
	good, err := os.ReadFile(filepath.Join(dir, keyringName))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[bytes.Index(bad, []byte(`"a@b" `))+30] ^= 1
	for _, name := range []string{keyringName, keyringCopy} {
		if err := os.WriteFile(filepath.Join(dir, name), bad, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l = sealedLog(t, dir, Options{})
	if err := l.Check(ctx); err == nil || !strings.Contains(err.Error(), "keyring: stored data is damaged: 1 keys") || !strings.Contains(err.Error(), "store key mend") {
		t.Errorf("check: %v", err)
	}
	im, err := l.Image(ctx)
	if err != nil {
		t.Fatal(err)
	}
	backed := false
	for _, f := range im.Files {
		backed = backed || f.Name == keyringName && f.Size == int64(len(bad))
	}
	if err := im.Close(); err != nil || !backed {
		t.Errorf("a backup has no keyring: %v", err)
	}
	if got, err := readBody(l, m); !errors.Is(err, ErrNoKey) {
		t.Errorf("without its key: %q, %v", got, err)
	}
	again, err := l.Deliver(ctx, Delivery{Body: strings.NewReader("new"), Size: -1, Targets: []Target{{Account: "a@b", Mailbox: "INBOX"}, {Account: "c@b", Mailbox: "INBOX"}}})
	if err != nil {
		t.Fatal(err)
	}
	aside, err := l.keyringsAside()
	if err != nil || len(aside) != 1 {
		t.Fatalf("kept: %q, %v", aside, err)
	}
	kept := filepath.Join(dir, aside[0])
	if b, err := os.ReadFile(kept); err != nil || !bytes.Equal(b, bad) {
		t.Errorf("it is not kept as it was: %v", err)
	}
	if st, err := os.Stat(kept); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := l.Check(ctx); err == nil || !strings.Contains(err.Error(), aside[0]) || !strings.Contains(err.Error(), "a@b, INBOX, UID 1") {
		t.Errorf("check: %v", err)
	}
	// The damage mended by hand, or a backup: both are the same file.
	names, err := l.Mend(ctx, good)
	if err != nil || len(names) != 1 || names[0] != "a@b" {
		t.Fatalf("mended: %q, %v", names, err)
	}
	for range 2 {
		for m, want := range map[*Message]string{&m: "P: 1\r\ntext", &again[0]: "new"} {
			if got, err := readAs(l, "a@b", *m); err != nil || got != want {
				t.Errorf("%q, %v", got, err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = sealedLog(t, dir, Options{})
	}
	if names, err := l.Mend(ctx, good); err != nil || len(names) != 0 {
		t.Errorf("mended again: %q, %v", names, err)
	}
	// Erasing the account takes both of its keys, and its line in what was kept.
	e, err := l.Erase(ctx, "a@b", CompactOptions{})
	if err != nil || !e.Clean() {
		t.Errorf("%+v, %v", e, err)
	}
	if b, err := os.ReadFile(kept); err != nil || bytes.Contains(b, []byte("a@b")) || !bytes.Contains(b, []byte("\n\"\" ")) {
		t.Errorf("%q, %v", b, err)
	}
	if names, err := l.Mend(ctx, good); err != nil || len(names) != 0 {
		t.Errorf("a key that was destroyed is back: %q, %v", names, err)
	}
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(ctx); err != nil {
		t.Error(err)
	}
}
