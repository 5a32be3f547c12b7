package store

import (
	"errors"
	"strings"
	"testing"

	"mailform/server/store/seal"
)

// keyringFS tells of each call that changes the keyring or its copy.
type keyringFS struct {
	FS
	writes func(what, name string) error
}

func (f *keyringFS) Create(name string) (File, error) {
	if err := f.told("create", name); err != nil {
		return nil, err
	}
	return f.FS.Create(name)
}

func (f *keyringFS) Rename(from, to string) error {
	if err := f.told("rename", to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *keyringFS) SyncDir(dir string) error {
	if err := f.told("sync", dir+"/"+keyringName); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

func (f *keyringFS) told(what, name string) error {
	if f.writes == nil || !strings.Contains(name, keyringName) {
		return nil
	}
	return f.writes(what, name)
}

// Nothing is sealed with a key before it is on the disk: a message that is could be
// durable at a power cut that the key is not.
func TestKeysAreWrittenBeforeTheyAreUsed(t *testing.T) {
	fs := &keyringFS{FS: osFS{}}
	dir := t.TempDir()
	l := sealedLog(t, dir, Options{FS: fs})
	var calls []string
	var fail error
	fs.writes = func(what, name string) error {
		calls = append(calls, what)
		if _, err := l.Keys().NewBody(seal.Binding{Part: seal.PartBody}, "a@b"); !errors.Is(err, seal.ErrNoKey) {
			t.Errorf("%s %s: the key is used already: %v", what, name, err)
		}
		if len(calls) == 5 { // of the second file
			return fail
		}
		return nil
	}
	// A disk that fails in the middle: the delivery is refused, and no key is left that
	// the next one would take for one that is on the disk.
	fail = errors.New("no room")
	targets := []Target{{Account: "a@b", Mailbox: "INBOX"}}
	if _, err := l.Deliver(t.Context(), Delivery{Size: -1, Targets: targets, Body: strings.NewReader("lost")}); !errors.Is(err, fail) {
		t.Errorf("delivered with a key that could not be written: %v", err)
	}
	if len(calls) < 5 {
		t.Fatalf("the second file was not written: %q", calls)
	}
	calls, fail = nil, nil
	m := deliverBody(t, l, "kept")
	if len(calls) < 6 {
		t.Errorf("the keyring was not written: %q", calls)
	}
	fs.writes = nil
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = sealedLog(t, dir, Options{})
	if got, err := readBody(l, m); err != nil || got != "P: 1\r\nkept" {
		t.Errorf("%q, %v", got, err)
	}
}
