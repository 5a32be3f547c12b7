package backup

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"mailform/server/store"
	"mailform/server/store/seal"
)

// A bucket has nothing of encrypted mail in the clear, nor the storage key; what it has
// is proven by a restore without the key, and read with it.
func TestEncryptedBackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, err := seal.KeyOf(bytes.Repeat([]byte{5}, seal.KeySize))
	w.must(err)
	w.log.GiveRoot(&key)
	w.must(w.log.SetEncrypt(true))
	for _, text := range []string{"a canary", "a large canary " + strings.Repeat("x", 5000)} {
		w.deliver("a@x", text)
	}
	m, err := w.backup(t.Context())
	w.must(err)
	p := w.place()
	for _, name := range w.sim.Objects() {
		text, err := p.text(t.Context(), name, 1<<30)
		w.must(err)
		if bytes.Contains(text, []byte("canary")) || bytes.Contains(text, key.Octets()) {
			t.Errorf("%s has the mail in the clear", name)
		}
	}
	want := dump(t, w.log)
	if !strings.Contains(want, "a@x") {
		t.Fatalf("the store has %s", want)
	}
	dir := filepath.Join(w.restore(m.Time), "store")
	var wrong *seal.RootError
	if _, err := store.Open(dir, small); !errors.As(err, &wrong) || wrong.Want != key.Fingerprint() {
		t.Errorf("without the key: %v", err)
	}
	opt := small
	opt.Root = &key
	l, err := store.Open(dir, opt)
	w.must(err)
	if got := dump(t, l); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	w.must(l.Close())
}
