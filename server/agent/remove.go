package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"mailform/server/manifest"
)

// Remove stops the service and deletes what mailform installed. Mail stays,
// with the owner mark beside it, unless the request says to purge it; the same
// stack finds it again when it comes back.
func (a *Agent) Remove(ctx context.Context, req manifest.RemoveRequest) (manifest.Removed, error) {
	var out manifest.Removed
	unlock, err := a.lock(ctx)
	if err != nil {
		return out, err
	}
	defer unlock()
	if err := a.claim(req.Claim, false); err != nil {
		return out, err
	}
	// What stands in our places and is not ours stays.
	units := slices.DeleteFunc(append(a.unitItems(manifest.EveryService()), a.revertItems()...), func(u *fileItem) bool { return existsAt(u.path) && !u.ours() })
	if err := a.binaryConflict(); err != nil {
		return out, err
	}
	if err := a.stopUnits(ctx); err != nil {
		return out, err
	}
	if err := a.removeUser(ctx, req.Purge, &out); err != nil { // while its mail is mounted
		return out, err
	}
	if err := a.removeStorage(ctx, req.Purge, &out); err != nil {
		return out, err
	}
	var back []takenRecord
	remove := func(path string) error {
		if !existsAt(path) {
			return nil
		}
		r, err := a.giveBack(path)
		if err == nil {
			out.Paths = append(out.Paths, path)
		}
		if r != nil {
			back, out.Restored = append(back, *r), append(out.Restored, r.Path)
		}
		return err
	}
	removeAll := func(dir string) error {
		if !fileExists(dir) {
			return nil
		}
		out.Paths = append(out.Paths, dir)
		return os.RemoveAll(dir)
	}
	for _, u := range units {
		if err := remove(u.path); err != nil {
			return out, err
		}
	}
	if err := a.removeAccess(ctx, remove); err != nil {
		return out, err
	}
	if err := a.removeTuning(ctx, remove); err != nil {
		return out, err
	}
	if err := a.Systemd.DaemonReload(ctx); err != nil {
		return out, err
	}
	if err := a.resumeTaken(ctx, back); err != nil {
		return out, err
	}
	if f := a.file(a.Layout.SysusersFile(), sysusersConf, 0o644); f.ours() {
		if err := remove(f.path); err != nil {
			return out, err
		}
	}
	if err := a.removeFolders(); err != nil {
		return out, err
	}
	if err := a.removeConfig(out.Restored, removeAll); err != nil {
		return out, err
	}
	if err := removeAll(a.Layout.RunDir()); err != nil {
		return out, err
	}
	// Now the program, and last the mark that the host is ours: a removal that is
	// cut off earlier can be begun again, and one that is cut off here leaves
	// only a folder that the same stack may take up again.
	if err := removeAll(a.Layout.VersionsDir()); err != nil {
		return out, err
	}
	if err := remove(a.Layout.Binary()); err != nil {
		return out, err
	}
	if err := syncDir(filepath.Dir(a.Layout.Binary())); err != nil {
		return out, err
	}
	mail, err := os.ReadDir(a.Layout.StoreDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	if !req.Purge && len(mail) > 0 {
		out.Kept = append(out.Kept, a.Layout.StateDir()+": the mail, until it is purged")
		return out, nil
	}
	if m, err := a.mountAt(a.Layout.StateDir()); err != nil {
		return out, err
	} else if m != nil { // not ours
		out.Paths = append(out.Paths, a.Layout.StateDir()+"/…")
		return out, emptyDir(a.Layout.StateDir())
	}
	return out, removeAll(a.Layout.StateDir())
}

// removeStorage takes a data disk out of use. Its mail stays on it unless it is purged.
func (a *Agent) removeStorage(ctx context.Context, purge bool, out *manifest.Removed) error {
	unit := a.mountUnit(content{})
	if _, err := unit.check(); err != nil {
		return err
	}
	if m, err := a.mountAt(a.Layout.StateDir()); err != nil {
		return err
	} else if m == nil || !a.mountedByUs() {
		// the system disk's, or a person's own file system, which stays mounted
	} else if purge {
		if err := emptyDir(a.Layout.StateDir()); err != nil {
			return err
		}
	} else {
		out.Kept = append(out.Kept, m.source+": the mail, on its own disk")
	}
	if fileExists(unit.path) {
		out.Paths = append(out.Paths, unit.path)
	}
	if err := a.unmountState(ctx); err != nil {
		return err
	}
	switch moved := a.Layout.MovedStateDir(); {
	case !fileExists(moved):
	case purge:
		out.Paths = append(out.Paths, moved)
		return os.RemoveAll(moved)
	default:
		out.Kept = append(out.Kept, moved+": the mail as it was before it moved to its own disk")
	}
	return nil
}

// removeConfig removes our folder, but for what was in it before it was ours.
func (a *Agent) removeConfig(restored []string, removeAll func(string) error) error {
	dir := a.Layout.ConfigDir()
	if !slices.ContainsFunc(restored, func(path string) bool { return filepath.Dir(path) == dir }) {
		return removeAll(dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); !slices.Contains(restored, path) {
			if err := removeAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// stopUnits stops and disables what exists of our units.
func (a *Agent) stopUnits(ctx context.Context) error {
	names := append([]string{ServiceUnit}, socketUnits(manifest.EveryService())...)
	names = append(names, revertTimer, revertAtBoot)
	states, err := a.Systemd.Units(ctx, names...)
	if err != nil {
		return err
	}
	var there []string
	for i, n := range names {
		if f := (&fileItem{a: a, path: filepath.Join(a.Layout.UnitDir(), n)}); existsAt(f.path) && !f.ours() {
			continue // somebody else's
		}
		if states[i].LoadState != "not-found" {
			there = append(there, n)
		}
	}
	if len(there) == 0 {
		return nil
	}
	if err := a.Systemd.Stop(ctx, there...); err != nil {
		return err
	}
	return a.Systemd.Disable(ctx, there...)
}
