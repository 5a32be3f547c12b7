package hostsim

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A disk's files are whole, with their modes, when they were moved to another file system.
func TestMoveToAnotherFileSystem(t *testing.T) {
	if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
		t.Skip("no second file system to write to: there is no /dev/shm")
	}
	away, err := os.MkdirTemp("/dev/shm", "mailform-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(away) })
	from, to := filepath.Join(t.TempDir(), "files"), filepath.Join(away, "files")
	if err := os.MkdirAll(filepath.Join(from, "store"), 0o770); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "store/log"), []byte("mail"), 0o640); err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(filepath.Join(from, "store"))
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range [][2]string{{from, to}, {to, from}} {
		if err := move(way[0], way[1]); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(way[0]); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", way[0], err)
		}
		if text, err := os.ReadFile(filepath.Join(way[1], "store/log")); string(text) != "mail" {
			t.Errorf("%q, %v", text, err)
		}
		if got, err := os.Stat(filepath.Join(way[1], "store")); err != nil || got.Mode() != want.Mode() {
			t.Errorf("mode %v, want %v", got.Mode(), want.Mode())
		}
	}
}
