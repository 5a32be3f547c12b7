package keyfile

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"mailform/server/store/seal"
)

func place(t *testing.T) Place {
	t.Helper()
	dir := t.TempDir()
	return Place{Path: filepath.Join(dir, "root.key"), Saved: filepath.Join(dir, "saved"), Store: filepath.Join(dir, "store"), GID: -1}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A key is read from a file of its own that has a key's octets and nothing else; all
// that is wrong with another is said, without any of what is in it.
func TestFiles(t *testing.T) {
	t.Parallel()
	octets := bytes.Repeat([]byte("k"), seal.KeySize)
	for name, c := range map[string]struct {
		make func(path string) error
		want string // in the error; "" is a key
	}{
		"a key":         {func(p string) error { return os.WriteFile(p, octets, 0o640) }, ""},
		"for its owner": {func(p string) error { return os.WriteFile(p, octets, 0o400) }, ""},
		"empty":         {func(p string) error { return os.WriteFile(p, nil, 0o640) }, "has 32 octets, not 0"},
		"truncated":     {func(p string) error { return os.WriteFile(p, octets[:31], 0o640) }, "has 32 octets, not 31"},
		"too long":      {func(p string) error { return os.WriteFile(p, append(octets[:32:32], '\n'), 0o640) }, "longer than the 32 octets"},
		"huge":          {func(p string) error { return os.Truncate(mustFile(p), 1<<40) }, "longer than the 32 octets"},
		"a link": {func(p string) error {
			return errors.Join(os.WriteFile(p+".else", octets, 0o640), os.Symlink(p+".else", p))
		}, "is a symbolic link"},
		"a folder": {func(p string) error { return os.Mkdir(p, 0o700) }, "is no file"},
		"a pipe":   {func(p string) error { return syscall.Mkfifo(p, 0o600) }, "is no file"},
	} {
		p := place(t)
		must(t, c.make(p.Path))
		k, err := p.Key()
		if c.want == "" {
			if err != nil || k == nil || !bytes.Equal(k.Octets(), octets) {
				t.Errorf("%s: %v, %v", name, k, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), p.Path) || strings.Contains(err.Error(), "kkk") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Make(rand.Reader); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: a key was made in its place: %v", name, err)
		}
	}
	p := place(t)
	if k, err := p.Key(); k != nil || err != nil {
		t.Errorf("none: %v, %v", k, err)
	}
	if os.Geteuid() == 0 {
		return // who reads everything
	}
	must(t, os.WriteFile(p.Path, octets, 0))
	if _, err := p.Key(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("one that may not be read: %v", err)
	}
}

func mustFile(path string) string {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		panic(err)
	}
	return path
}

// Of many that make the key at the same time one does; all have the same one then.
func TestMakeTogether(t *testing.T) {
	t.Parallel()
	p := place(t)
	var wg sync.WaitGroup
	made := make([]string, 16)
	for i := range made {
		wg.Go(func() {
			k, err := p.Make(rand.Reader)
			if err == nil {
				made[i] = k.Fingerprint()
			}
		})
	}
	wg.Wait()
	k, err := p.Key()
	if err != nil || k == nil {
		t.Fatalf("%v, %v", k, err)
	}
	made = slices.DeleteFunc(made, func(s string) bool { return s == "" })
	if len(made) != 1 || made[0] != k.Fingerprint() {
		t.Errorf("made %v, there is %s", made, k.Fingerprint())
	}
	fi, err := os.Stat(p.Path)
	if err != nil || fi.Mode() != Mode {
		t.Errorf("%v, %v", fi, err)
	}
	left, err := os.ReadDir(filepath.Dir(p.Path))
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// fullDisk writes the first octets of a file and no more.
type fullDisk struct {
	disk
	room int
}

func (d fullDisk) Write(name string, b []byte, mode fs.FileMode, gid int) error {
	return errors.Join(d.disk.Write(name, b[:min(d.room, len(b))], mode, gid), syscall.ENOSPC)
}

// On a disk that is full no key comes to be, and none that is there is harmed.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, room := range []int{0, 20, seal.KeySize} {
		p := place(t)
		full := p
		full.FS = fullDisk{room: room}
		if _, err := full.Make(rand.Reader); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("made: %v", err)
		}
		if k, err := p.Key(); k != nil || err != nil {
			t.Errorf("room for %d: there is %v, %v", room, k, err)
		}
		key, err := p.Make(rand.Reader)
		must(t, err)
		if _, err := full.Rotate(rewrapped(func(seal.Key) error { t.Error("the keyring needs a key that is nowhere"); return nil }), rand.Reader); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("rotated: %v", err)
		}
		if _, err := full.Import(key); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("imported: %v", err)
		}
		if k, err := p.Key(); err != nil || k == nil || *k != key {
			t.Errorf("room for %d: there is %v, %v", room, k, err)
		}
		left, err := os.ReadDir(filepath.Dir(p.Path))
		if err != nil || len(left) != 1 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

type rewrapped func(seal.Key) error

func (f rewrapped) SetRoot(k seal.Key) error { return f(k) }

// A key that an imported one takes the place of is kept: mail that was moved away may
// need it. One that no store needs takes no key's place.
func TestImport(t *testing.T) {
	t.Parallel()
	p := place(t)
	old, err := p.Make(rand.Reader)
	must(t, err)
	key, err := seal.NewKey(rand.Reader)
	must(t, err)
	need := ""
	p.Needed = func() (string, error) { return need, nil }
	if _, err := p.Import(key); err == nil || !strings.Contains(err.Error(), "no store that needs this one") {
		t.Errorf("imported over another: %v", err)
	}
	need = old.Fingerprint()
	if _, err := p.Import(key); err == nil || !strings.Contains(err.Error(), "needs "+need) {
		t.Errorf("imported one that is not needed: %v", err)
	}
	need = key.Fingerprint()
	aside, err := p.Import(key)
	must(t, err)
	if k, err := p.Key(); err != nil || *k != key {
		t.Errorf("%v, %v", k, err)
	}
	if b, err := os.ReadFile(aside); err != nil || !bytes.Equal(b, old.Octets()) {
		t.Errorf("aside: %v", err)
	}
	if saved, err := p.IsSaved(key); err != nil || !saved {
		t.Errorf("saved: %t, %v", saved, err)
	}
	// One that is damaged is mended.
	must(t, os.Truncate(p.Path, 5))
	if aside, err := p.Import(key); err != nil || aside != "" {
		t.Errorf("%q, %v", aside, err)
	}
	if k, err := p.Key(); err != nil || *k != key {
		t.Errorf("%v, %v", k, err)
	}
	// Where there is nothing yet, the folder is made.
	p = place(t)
	p.Path, p.Saved = filepath.Join(p.Store, "root.key"), filepath.Join(p.Store, "saved")
	p.Needed = func() (string, error) { return "", nil }
	if _, err := p.Import(key); err != nil {
		t.Error(err)
	}
	if fi, err := os.Stat(p.Path); err != nil || fi.Mode() != Mode {
		t.Errorf("%v, %v", fi, err)
	}
}
