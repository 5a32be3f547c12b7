package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"mailform/server/manifest"
)

// An item is one thing on the host that converge keeps as it should be.
type item interface {
	name() string
	// check says how the thing differs, "" when it does not. A conflict with
	// something that is not ours is an error.
	check() (string, error)
	apply(context.Context) error
}

// settle brings items to their wanted state. All are checked before the first
// is changed, so that a conflict leaves the host as it was.
func (a *Agent) settle(ctx context.Context, items []item, emit func(manifest.AgentEvent), dryRun bool) (changed bool, err error) {
	if err := checkAll(items); err != nil {
		return false, err
	}
	for _, it := range items {
		diff, err := it.check() // again: an earlier item may have settled it
		if err != nil {
			return changed, fmt.Errorf("%s: %w", it.name(), err)
		}
		switch {
		case diff == "":
			emit(manifest.AgentEvent{Step: it.name(), Status: "unchanged"})
			continue
		case dryRun:
			emit(manifest.AgentEvent{Step: it.name(), Status: "would change", Detail: diff})
		default:
			if err := it.apply(ctx); err != nil {
				return changed, fmt.Errorf("%s: %w", it.name(), err)
			}
			emit(manifest.AgentEvent{Step: it.name(), Status: "changed", Detail: diff})
		}
		changed = true
	}
	return changed, nil
}

// checkAll finds conflicts.
func checkAll(items []item) error {
	for _, it := range items {
		if _, err := it.check(); err != nil {
			return fmt.Errorf("%s: %w", it.name(), err)
		}
	}
	return nil
}

// baseItems are what every other thing rests on: the user and the folders.
func (a *Agent) baseItems() []item {
	items := []item{
		&accountItem{a},
		a.file(a.Layout.SysusersFile(), sysusersConf, 0o644),
		&userItem{a},
		&dirItem{a, a.Layout.VersionsDir(), 0o755, -1, false},
		&dirItem{a, a.Layout.ConfigDir(), 0o750, 0, true},
		&dirItem{a, a.Layout.StateDir(), 0o750, 0, true},
	}
	for _, k := range a.keyDirs() {
		items = append(items, &keyDirItem{k})
	}
	return append(items, &storeItem{dirItem{a, a.Layout.StoreDir(), 0o700, 1, true}})
}

// ids returns the service's user and group, -1 while they do not exist.
func (a *Agent) ids() (uid, gid int) {
	uid, gid = -1, -1
	if u, g, ok := lookupID(a.Layout.PasswdFile(), User); ok {
		uid, gid = u, g
	}
	if g, _, ok := lookupID(a.Layout.GroupFile(), User); ok {
		gid = g
	}
	return uid, gid
}

func (a *Agent) gid() int {
	_, gid := a.ids()
	return gid
}

// dirItem is a folder. owner: -1 or 0 root, 1 the service; with group the
// service's group may enter as far as the mode allows.
type dirItem struct {
	a     *Agent
	path  string
	mode  fs.FileMode
	owner int
	group bool
}

func (d *dirItem) name() string { return "folder " + d.path }

func (d *dirItem) wantIDs() (uid, gid int) {
	uid, gid = d.a.uid, -1
	su, sg := d.a.ids()
	if d.owner == 1 {
		uid = su
	}
	if d.group {
		gid = sg
	}
	return uid, gid
}

func (d *dirItem) check() (string, error) {
	fi, err := os.Lstat(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "does not exist", nil
	}
	if err != nil {
		return "", err
	}
	if !fi.IsDir() {
		return "", conflict(d.path, "it is not a folder")
	}
	uid, gid := d.wantIDs()
	return accessDiff(fi, d.mode, uid, gid), nil
}

func (d *dirItem) apply(context.Context) error {
	if err := mkdirAll(d.path, d.mode); err != nil {
		return err
	}
	uid, gid := d.wantIDs()
	if err := os.Chown(d.path, uid, gid); err != nil {
		return err
	}
	return os.Chmod(d.path, d.mode)
}

// accessDiff compares mode and ids; ids below 0 do not matter.
func accessDiff(fi fs.FileInfo, mode fs.FileMode, uid, gid int) string {
	var diffs []string
	if fi.Mode().Perm() != mode {
		diffs = append(diffs, fmt.Sprintf("mode is %04o, not %04o", fi.Mode().Perm(), mode))
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		if uid >= 0 && int(st.Uid) != uid {
			diffs = append(diffs, fmt.Sprintf("owner is %d, not %d", st.Uid, uid))
		}
		if gid >= 0 && int(st.Gid) != gid {
			diffs = append(diffs, fmt.Sprintf("group is %d, not %d", st.Gid, gid))
		}
	}
	return strings.Join(diffs, ", ")
}

// Header is the first line of every text file that mailform writes outside its
// own folders. A file in its place without it is somebody else's.
const Header = "# Managed by mailform. The next apply undoes changes made here.\n"

// fileItem is a text file outside our folders, marked with Header.
type fileItem struct {
	a       *Agent
	path    string
	content string
	mode    fs.FileMode
	changed bool // set by apply
}

func (a *Agent) file(path, content string, mode fs.FileMode) *fileItem {
	return &fileItem{a: a, path: path, content: Header + content, mode: mode}
}

func (f *fileItem) name() string { return "file " + f.path }

func (f *fileItem) check() (string, error) {
	fi, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "does not exist", nil
	}
	if err != nil {
		return "", err
	}
	found, err := f.foreign()
	if err != nil {
		return "", err
	}
	if found != nil {
		switch asked, err := f.a.asked(found); {
		case err != nil:
			return "", err
		case !asked:
			return "", f.a.foreign(found.Name, f.path+" exists")
		}
		return fmt.Sprintf("is taken over from %s; what is there is kept as %s…", found.Owner, filepath.Base(f.path)+manifest.SavedSuffix), nil
	}
	if !fi.Mode().IsRegular() {
		return "", conflict(f.path, "it is not a file of mailform's")
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return "", err
	}
	if string(b) != f.content {
		return "its content differs", nil
	}
	return accessDiff(fi, f.mode, f.a.uid, -1), nil
}

func (f *fileItem) apply(ctx context.Context) error {
	if err := mkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	found, err := f.foreign()
	if err != nil {
		return err
	}
	if found != nil {
		if asked, err := f.a.asked(found); err != nil || !asked {
			return errors.Join(err, f.a.foreign(found.Name, f.path+" exists"))
		}
		if err := f.save(ctx, found); err != nil {
			return err
		}
	}
	f.changed = true
	return writeFile(f.path, []byte(f.content), f.mode, -1)
}

// accessItem is a secret file in our own folders that the service reads.
type accessItem struct {
	a    *Agent
	path string
}

func (k *accessItem) name() string { return "access to " + k.path }

func (k *accessItem) check() (string, error) {
	fi, err := os.Stat(k.path)
	if err != nil {
		return "", err
	}
	return accessDiff(fi, secretMode, k.a.uid, k.a.gid()), nil
}

func (k *accessItem) apply(context.Context) error {
	if err := os.Chown(k.path, k.a.uid, k.a.gid()); err != nil {
		return err
	}
	return os.Chmod(k.path, secretMode)
}

// secretMode is the mode of keys and hashes: root writes, the service reads.
const secretMode fs.FileMode = 0o640
