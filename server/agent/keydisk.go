package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"mailform/server/manifest"
)

// With a data disk the keys are on it, too: DKIM and TLS keys, the storage key, certificates, the ACME
// accounts and what waits for an order. A machine that gets the disk signs with the
// same selectors and serves the same certificates as the one before it.
//
// Each of the four folders of ConfigDir that hold keys is then a link into KeysDir,
// so that whoever reads a key finds it in the same place on every host. A folder that
// is a link has its keys on the disk, one that is a folder has them where it is, and
// there is never any doubt: a whole, durable and compared copy is made under another
// name, and then link and folder change places in one step. What is left of either
// is deleted after that. Cut off anywhere, the next converge begins with what the
// folder is and throws away the rest.
//
// The one thing that this cannot tell is whose a copy on the disk is: one that a
// cut-off move has made, or the keys of the machine that had the disk before.
// KeysMovingFile, which is there while keys are on their way, says that it is the former.

// keyDir is a folder with keys.
type keyDir struct {
	a     *Agent
	name  string // in KeysDir: "dkim"
	path  string // in ConfigDir
	mode  fs.FileMode
	group bool // the service's group may enter
}

func (a *Agent) keyDirs() []keyDir {
	return []keyDir{
		{a, "tls", a.Layout.TLSDir(), 0o750, true},
		{a, "dkim", a.Layout.DKIMDir(), 0o750, true},
		{a, "acme", a.Layout.ACMEDir(), 0o700, false},
		{a, "store", a.Layout.StoreKeyDir(), 0o750, true},
	}
}

func (k keyDir) kept() string { return filepath.Join(k.a.Layout.KeysDir(), k.name) }

// target is what the link says: relative, so that it holds under any root.
func (k keyDir) target() string { return "../../var/lib/mailform/keys/" + k.name }

// aside is what is about to take the folder's place, or has had it.
func (k keyDir) aside() string { return k.path + ".moved" }

// linked reports whether the keys are on the data disk.
func (k keyDir) linked() (bool, error) {
	target, err := os.Readlink(k.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EINVAL): // nothing, or no link
		return false, nil
	case err != nil:
		return false, err
	case target != k.target():
		return false, conflict(k.path, "it is a link that mailform did not make")
	}
	return true, nil
}

// keysOnDisk reports whether any of the keys are on the data disk, and whether all are.
func (a *Agent) keysOnDisk() (some, all bool, err error) {
	all = true
	for _, k := range a.keyDirs() {
		linked, err := k.linked()
		if err != nil {
			return false, false, err
		}
		some, all = some || linked, all && linked
	}
	return some, all, nil
}

// keysUnsettled reports whether something is left of a move of keys.
func (a *Agent) keysUnsettled() bool {
	return fileExists(a.Layout.KeysMovingFile()) || slices.ContainsFunc(a.keyDirs(), func(k keyDir) bool {
		_, err := os.Lstat(k.aside())
		return err == nil
	})
}

// keysAway says that the keys are on a data disk which is not mounted, so that
// nothing is known of them and none may be made in their place.
func (a *Agent) keysAway() (bool, error) {
	some, _, err := a.keysOnDisk()
	if err != nil || !some {
		return false, err
	}
	m, err := a.mountAt(a.Layout.StateDir())
	return m == nil, err
}

// needKeys is an error while the keys are away.
func (a *Agent) needKeys() error {
	away, err := a.keysAway()
	if err != nil || !away {
		return err
	}
	var rec storageRecord
	if _, err := readJSON(a.Layout.StorageFile(), &rec); err != nil {
		return err
	}
	return failf(manifest.ExitFailed, "the keys of this host are on its data disk with serial number %q, which is not mounted at %s: attach it and apply again; none are made in their place", rec.Serial, a.Layout.StateDir())
}

// claimKeys checks a claim on a host whose keys are to be used.
func (a *Agent) claimKeys(c manifest.Claim) error {
	if err := a.claim(c, false); err != nil {
		return err
	}
	return a.needKeys()
}

// keyDirItem is a folder with keys, wherever it is.
type keyDirItem struct{ keyDir }

func (k *keyDirItem) name() string { return "folder " + k.path }

// dirs are the folders to look after; none while the disk is away.
func (k *keyDirItem) dirs() ([]item, error) {
	linked, err := k.linked()
	if err != nil {
		return nil, err
	}
	if !linked {
		return []item{&dirItem{k.a, k.path, k.mode, -1, k.group}}, nil
	}
	if away, err := k.a.keysAway(); err != nil || away {
		return nil, err
	}
	return []item{&dirItem{k.a, k.a.Layout.KeysDir(), 0o750, 0, true}, &dirItem{k.a, k.kept(), k.mode, -1, k.group}}, nil
}

func (k *keyDirItem) check() (string, error) {
	dirs, err := k.dirs()
	for _, d := range dirs {
		if diff, err := d.check(); err != nil || diff != "" {
			return diff, err
		}
	}
	return "", err
}

func (k *keyDirItem) apply(ctx context.Context) error {
	dirs, err := k.dirs()
	for _, d := range dirs {
		if err := d.apply(ctx); err != nil {
			return err
		}
	}
	return err
}

// keysMoving is KeysMovingFile: the serial number of the disk to or from which keys
// are on their way. What is on it is then a copy of what is a folder here.
type keysMoving struct {
	Serial string `json:"serial"`
}

func (a *Agent) copiesOn(serial string) (bool, error) {
	var m keysMoving
	ok, err := readJSON(a.Layout.KeysMovingFile(), &m)
	return ok && m.Serial == serial, err
}

// keysConflict refuses a disk with other keys than are here. dir is where its KeysDir is.
func (a *Agent) keysConflict(dir, serial string) error {
	if copies, err := a.copiesOn(serial); err != nil || copies {
		return err
	}
	for _, k := range a.keyDirs() {
		if fits, err := k.fits(filepath.Join(dir, k.name)); err != nil {
			return err
		} else if !fits {
			return failf(manifest.ExitConflict, "it holds keys of this host, and so does %s, which are others; move away those that are not wanted and run again", k.path)
		}
	}
	return nil
}

// fits reports whether nothing is lost when the folder becomes a link to another
// place, or that place a copy of the folder.
func (k keyDir) fits(there string) (bool, error) {
	for _, dir := range []string{k.path, there} {
		if linked, err := k.linked(); err != nil || linked {
			return linked, err
		}
		if some, err := hasFiles(dir); err != nil || !some {
			return err == nil, err
		}
	}
	diff, err := within(k.path, there)
	return diff == "", err
}

// keepKeys moves the keys to the data disk, which is mounted.
func (c *converge) keepKeys(ctx context.Context, serial string) error {
	a := c.a
	if err := a.clearAside(); err != nil {
		return err
	}
	_, all, err := a.keysOnDisk()
	if err != nil {
		return err
	}
	if all {
		if err := removeDurably(a.Layout.KeysMovingFile()); err != nil {
			return err
		}
		return a.secureKeys(a.Layout.KeysDir())
	}
	if err := a.keysConflict(a.Layout.KeysDir(), serial); err != nil {
		return err
	}
	if err := (&dirItem{a, a.Layout.KeysDir(), 0o750, 0, true}).apply(ctx); err != nil {
		return err
	}
	copies, err := a.copiesOn(serial)
	if err != nil {
		return err
	}
	detail := "the keys are on it, too"
	for _, k := range a.keyDirs() {
		// What the machine that had the disk before has left there.
		if some, err := hasFiles(k.kept()); err != nil {
			return err
		} else if linked, err := k.linked(); err != nil {
			return err
		} else if some && !linked && !copies {
			detail = "the keys on it are in use"
			if err := k.link(); err != nil {
				return err
			}
		}
	}
	if !copies {
		a.effect("note that keys move")
		if err := writeJSON(a.Layout.KeysMovingFile(), keysMoving{serial}, 0o644); err != nil {
			return err
		}
	}
	for _, k := range a.keyDirs() {
		if linked, err := k.linked(); err != nil {
			return err
		} else if linked {
			continue
		}
		if err := k.copyToDisk(ctx); err != nil {
			return err
		}
		if err := k.link(); err != nil {
			return err
		}
	}
	if err := a.secureKeys(a.Layout.KeysDir()); err != nil {
		return err
	}
	a.effect("note that keys have moved")
	if err := removeDurably(a.Layout.KeysMovingFile()); err != nil {
		return err
	}
	c.reload = true
	c.step("data disk", "changed", detail)
	return nil
}

// bringKeysBack moves the keys from the data disk, which is mounted, to the system disk.
func (c *converge) bringKeysBack(ctx context.Context) error {
	a := c.a
	if err := a.clearAside(); err != nil {
		return err
	}
	some, _, err := a.keysOnDisk()
	if err != nil {
		return err
	}
	var rec storageRecord
	if _, err := readJSON(a.Layout.StorageFile(), &rec); err != nil {
		return err
	}
	if copies, err := a.copiesOn(rec.Serial); err != nil || !some && !copies {
		return err
	}
	if away, err := a.keysAway(); err != nil {
		return err
	} else if away {
		return failf(manifest.ExitFailed, "the keys of this host are on the data disk with serial number %q, which is not mounted: attach it once more, so that they come back; or, if it is gone for good, delete the links %s, %s, %s and %s, and new keys are made",
			rec.Serial, a.Layout.TLSDir(), a.Layout.DKIMDir(), a.Layout.ACMEDir(), a.Layout.StoreKeyDir())
	}
	a.effect("note that keys move")
	if err := writeJSON(a.Layout.KeysMovingFile(), keysMoving{rec.Serial}, 0o644); err != nil {
		return err
	}
	for _, k := range a.keyDirs() {
		linked, err := k.linked()
		if err != nil {
			return err
		}
		if linked {
			if err := k.copyBack(ctx); err != nil {
				return err
			}
		}
	}
	a.effect("delete the keys on the disk")
	if err := os.RemoveAll(a.Layout.KeysDir()); err != nil {
		return err
	}
	if err := syncDir(a.Layout.StateDir()); err != nil {
		return err
	}
	a.effect("note that keys have moved")
	for _, f := range []string{a.Layout.KeysMovingFile(), a.Layout.KeptFile()} {
		if err := removeDurably(f); err != nil {
			return err
		}
	}
	c.reload = true
	c.step("data disk", "changed", "the keys are on the system disk")
	return nil
}

// clearAside throws away what a move that was cut off has left beside the folders.
func (a *Agent) clearAside() error {
	for _, k := range a.keyDirs() {
		if _, err := os.Lstat(k.aside()); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if _, err := os.Lstat(k.path); err != nil { // it may be all there is
			return err
		}
		if err := os.RemoveAll(k.aside()); err != nil {
			return err
		}
		if err := syncDir(filepath.Dir(k.path)); err != nil {
			return err
		}
	}
	return nil
}

// copyToDisk makes what is on the disk a whole copy of the folder.
func (k keyDir) copyToDisk(ctx context.Context) error {
	a, tmp := k.a, filepath.Join(k.a.Layout.KeysDir(), tempPrefix+k.name)
	if err := copyKeys(ctx, a, k.path, tmp); err != nil {
		return err
	}
	a.effect("replace the copy of " + k.name)
	if err := os.RemoveAll(k.kept()); err != nil { // of an earlier try
		return err
	}
	a.effect("name the copy of " + k.name)
	if err := os.Rename(tmp, k.kept()); err != nil {
		return err
	}
	a.effect("sync the copy of " + k.name)
	if err := syncDir(a.Layout.KeysDir()); err != nil {
		return err
	}
	return syncDir(a.Layout.StateDir())
}

// link puts the link into the folder's place.
func (k keyDir) link() error {
	k.a.effect("prepare the link to " + k.name)
	if err := os.Symlink(k.target(), k.aside()); err != nil {
		return err
	}
	return k.switchOver()
}

// copyBack puts a folder with what is on the disk into the link's place.
func (k keyDir) copyBack(ctx context.Context) error {
	if err := copyKeys(ctx, k.a, k.kept(), k.aside()); err != nil {
		return err
	}
	return k.switchOver()
}

// switchOver exchanges the folder and what is aside, and deletes what it was.
func (k keyDir) switchOver() error {
	k.a.effect("switch " + k.name)
	if err := exchange(k.aside(), k.path); err != nil {
		return err
	}
	k.a.effect("sync " + k.name)
	if err := syncDir(filepath.Dir(k.path)); err != nil {
		return err
	}
	k.a.effect("delete the old " + k.name)
	return os.RemoveAll(k.aside())
}

// copyKeys copies a folder with keys and compares the copy with it.
func copyKeys(ctx context.Context, a *Agent, from, to string) error {
	a.effect("clear " + filepath.Base(to))
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	a.effect("copy to " + filepath.Base(to))
	if err := copyTree(ctx, from, to, ""); err != nil {
		return err
	}
	a.effect("compare " + filepath.Base(to))
	for _, pair := range [][2]string{{from, to}, {to, from}} {
		if diff, err := within(pair[0], pair[1]); err != nil {
			return err
		} else if diff != "" {
			return fmt.Errorf("the copy of %s differs: %s", from, diff)
		}
	}
	return nil
}

// within says what of one tree is missing from another one, or is different there,
// "" for nothing. A tree that does not exist is empty. Its answer quotes no file.
func within(part, whole string) (string, error) {
	diff := ""
	err := walk(part, func(path string, d fs.DirEntry) error {
		rel, err := filepath.Rel(part, path)
		if err != nil {
			return err
		}
		same, err := equalFiles(path, filepath.Join(whole, rel), d)
		if err == nil && !same {
			diff, err = rel, fs.SkipAll
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) && !fileExists(part) {
		err = nil
	}
	return diff, err
}

func equalFiles(one, other string, d fs.DirEntry) (bool, error) {
	fi, err := os.Lstat(other)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || fi.Mode().Type() != d.Type() {
		return false, err
	}
	read := func(path string) ([]byte, error) { return nil, nil }
	switch {
	case d.Type()&fs.ModeSymlink != 0:
		read = func(path string) ([]byte, error) {
			target, err := os.Readlink(path)
			return []byte(target), err
		}
	case d.Type().IsRegular():
		read = os.ReadFile
	}
	a, err := read(one)
	if err != nil {
		return false, err
	}
	b, err := read(other)
	return bytes.Equal(a, b), err
}

// secureKeys gives everything in a KeysDir the access that it has here: the
// service's group may have had another number on the machine before.
func (a *Agent) secureKeys(dir string) error {
	if !fileExists(dir) {
		return nil
	}
	return walk(dir, func(path string, d fs.DirEntry) error {
		if d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		mode, group := keyAccess(rel, d.IsDir())
		gid := os.Getegid()
		if group {
			gid = a.gid()
		}
		fi, err := os.Lstat(path)
		if err != nil || accessDiff(fi, mode, a.uid, gid) == "" {
			return err
		}
		if err := os.Chown(path, a.uid, gid); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	})
}

// keyAccess is the mode of a file or folder below KeysDir, and whether it is for the
// service's group: accounts, and keys that wait for their certificates, are root's alone.
func keyAccess(rel string, dir bool) (mode fs.FileMode, group bool) {
	top, rest, _ := strings.Cut(filepath.ToSlash(rel), "/")
	private := top == "acme" || top == "tls" && (rest == ".pending" || strings.HasPrefix(rest, ".pending/"))
	switch {
	case private && dir:
		return 0o700, false
	case private:
		return 0o600, false
	case dir:
		return 0o750, true
	case filepath.Base(rel) == "key.pem", top == "store" && strings.HasPrefix(rest, "root.key"), top == "dkim" && strings.HasSuffix(rel, ".pem"):
		return secretMode, true
	}
	return 0o644, false
}
