package agent

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"mailform/server/manifest"
)

// tempPrefix begins the names of files that are being written.
const tempPrefix = ".mailform-tmp-"

func isTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// writeFile replaces path atomically and durably: a reader, and the machine
// after a power cut, finds the old file or the new one, never a part. gid < 0
// leaves the group alone.
func writeFile(path string, data []byte, mode fs.FileMode, gid int) error {
	return replaceFile(path, bytes.NewReader(data), mode, gid)
}

func replaceFile(path string, src io.Reader, mode fs.FileMode, gid int) (err error) {
	dir := filepath.Dir(path)
	f, err := os.OpenFile(filepath.Join(dir, tempPrefix+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := io.Copy(f, src); err != nil {
		return err
	}
	if gid >= 0 {
		if err := f.Chown(-1, gid); err != nil {
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func copyFile(from, to string, mode fs.FileMode) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	return replaceFile(to, src, mode, -1)
}

// switchLink makes link point at target in one step.
func switchLink(target, link string) error {
	if err := mkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(link), tempPrefix+rand.Text())
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, link); err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(link))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// mkdirAll makes a folder and its parents durable. The mode is the last one's;
// parents that are missing get 0755.
func mkdirAll(dir string, mode fs.FileMode) error {
	if fi, err := os.Stat(dir); err == nil {
		if !fi.IsDir() {
			return conflict(dir, "it is not a folder")
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := mkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(dir, mode); err != nil {
		return err
	}
	return syncDir(parent)
}

func writeJSON(path string, v any, mode fs.FileMode) error {
	b, err := manifest.Encode(v)
	if err != nil {
		return err
	}
	return writeFile(path, b, mode, -1)
}

// readJSON reads a document; ok is false when the file does not exist.
func readJSON(path string, v any) (ok bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := manifest.Decode(bufio.NewReader(f), v); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lookupID finds a name in a passwd(5) or group(5) file and returns its third
// and fourth fields as numbers; -1 for what is not there.
func lookupID(file, name string) (id, group int, ok bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) < 3 || f[0] != name {
			continue
		}
		id, err := strconv.Atoi(f[2])
		if err != nil {
			return 0, 0, false
		}
		group = -1
		if len(f) > 3 {
			if g, err := strconv.Atoi(f[3]); err == nil {
				group = g
			}
		}
		return id, group, true
	}
	return 0, 0, false
}
