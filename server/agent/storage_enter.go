package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mailform/server/manifest"
)

// enterDisk makes the disk StateDir.
func (c *converge) enterDisk(ctx context.Context, s storage) (err error) {
	a := c.a
	if s.mount != nil {
		if err := c.leaveVanished(ctx, s); err != nil {
			return err
		}
	}
	if s.holds, err = c.fileSystem(ctx, s); err != nil {
		return err
	}
	if !s.moving { // of a move that was finished
		if err := os.RemoveAll(a.Layout.MovedStateDir()); err != nil {
			return err
		}
	}
	// From here on the service does not run, unless it turns out that nothing is moved.
	if err := a.Systemd.DaemonReload(ctx); err != nil {
		return err
	}
	if err := a.stopService(ctx); err != nil {
		return err
	}
	// Of a disk that was taken away while it was mounted systemd may think that it is there.
	if s.mount == nil && fileExists(a.mountUnitFile()) {
		if err := a.Systemd.Stop(ctx, MountUnit); err != nil {
			return err
		}
	}
	if err := c.fillDisk(ctx, s); err != nil {
		// The old place is untouched. What was running runs on.
		background := context.WithoutCancel(ctx)
		return errors.Join(err, a.umountDisk(background), removeDurably(a.Layout.MovingFile()), a.resumeService(background))
	}
	if err := a.vacate(); err != nil {
		return err
	}
	if err := c.mountUnit(ctx, s.holds); err != nil {
		return err
	}
	if err := a.Systemd.Start(ctx, MountUnit); err != nil {
		return err
	}
	if now, err := a.lookAtStorage(s.serial); err != nil {
		return err
	} else if !now.here {
		return fmt.Errorf("systemd has started %s, but %s is not mounted", MountUnit, a.Layout.StateDir())
	}
	if err := removeDurably(a.Layout.MovingFile()); err != nil {
		return err
	}
	c.step("data disk", "changed", fmt.Sprintf("%s is on %s, %s with %s", a.Layout.StateDir(), s.disk.device, s.holds.kind, gib(s.holds.bytes)))
	return nil
}

// leaveVanished ends the mount of a disk that is gone: another one takes its
// place, as the plan has said. From one that is still there nothing is taken.
func (c *converge) leaveVanished(ctx context.Context, s storage) error {
	a := c.a
	if fileExists(a.Layout.Inside(s.mount.source)) {
		return failf(manifest.ExitConflict, "the mail is on %s, which is still attached; mailform does not move it from one data disk to another: copy %s to the new disk by hand, or detach the old one to begin without its mail",
			s.mount.source, a.Layout.StateDir())
	}
	if err := a.stopService(ctx); err != nil {
		return err
	}
	return a.unmountState(ctx)
}

// fileSystem returns the disk's file system and makes it on a blank disk.
func (c *converge) fileSystem(ctx context.Context, s storage) (content, error) {
	a := c.a
	ours := s.record.Serial == s.serial && !s.record.InUse
	switch {
	case len(a.parts(s.disk)) > 0:
		return content{}, failf(manifest.ExitConflict, "it has %s on it; mailform uses a whole disk, and only a blank one", strings.Join(a.parts(s.disk), ", "))
	case s.holds.label == fsLabel && (s.holds.kind == "ext4" || s.holds.kind == "xfs"):
		return s.holds, nil
	case s.holds.kind != "":
		return content{}, failf(manifest.ExitConflict, "it holds %s, which mailform did not make; if nobody needs it, blank the disk (wipefs --all %s) and run again", s.holds, s.disk.device)
	case s.broken && !ours:
		return content{}, failf(manifest.ExitConflict, "it is not blank: it holds data of an unknown kind; if nobody needs it, blank both ends of the disk (blkdiscard %s) and run again", s.disk.device)
	}
	kind := ""
	for _, k := range []string{"ext4", "xfs"} {
		if a.Tools.Has("mkfs." + k) {
			kind = k
			break
		}
	}
	if kind == "" {
		return content{}, failf(manifest.ExitFailed, "this machine has neither mkfs.ext4 nor mkfs.xfs: install e2fsprogs")
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return content{}, err
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562 5.4
	rec := storageRecord{Serial: s.serial, UUID: dashed(id), Kind: kind}
	if err := writeJSON(a.Layout.StorageFile(), rec, 0o644); err != nil {
		return content{}, err
	}
	args := []string{"-q", "-F", "-L", fsLabel, "-U", rec.UUID, "-m", "1", s.disk.device}
	if kind == "xfs" {
		args = []string{"-q", "-f", "-L", fsLabel, "-m", "uuid=" + rec.UUID, s.disk.device}
	}
	if err := a.Tools.Run(ctx, "mkfs."+kind, args...); err != nil {
		return content{}, err
	}
	made, err := s.disk.look()
	if err != nil {
		return content{}, err
	}
	if made.label != fsLabel || made.uuid != rec.UUID {
		return content{}, fmt.Errorf("mkfs.%s reports success, but the disk holds %s with UUID %q", kind, made, made.uuid)
	}
	c.step("data disk", "changed", fmt.Sprintf("made %s on %s", kind, s.disk.device))
	return made, nil
}

// fillDisk sees to it that the disk holds a whole StateDir: its own, or a copy
// of the one that is here.
func (c *converge) fillDisk(ctx context.Context, s storage) (err error) {
	a := c.a
	if err := a.umountDisk(ctx); err != nil { // left by a converge that was cut off
		return err
	}
	dir := a.Layout.DiskDir()
	if err := mkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := a.Tools.Run(ctx, "mount", "-t", s.holds.kind, "-o", "nosuid,nodev,noexec", s.disk.device, a.machinePath(dir)); err != nil {
		return err
	}
	mark := filepath.Join(dir, filepath.Base(a.Layout.OwnerFile()))
	owner := &manifest.Owner{}
	whole, err := readJSON(mark, owner)
	if err != nil {
		return err
	}
	if whole {
		if owner.Stack != c.req.Stack || owner.Host != c.req.Host {
			return failf(manifest.ExitOwned, "the disk holds the mail of host %q of stack %q, not of %q of %q", owner.Host, owner.Stack, c.req.Host, c.req.Stack)
		}
		keys := filepath.Join(dir, filepath.Base(a.Layout.KeysDir()))
		if err := a.keysConflict(keys, s.serial); err != nil {
			return err
		}
		if err := a.secureKeys(keys); err != nil { // while nobody but root gets here
			return err
		}
		if !s.moving {
			if mail, err := hasFiles(a.Layout.StoreDir()); err != nil {
				return err
			} else if mail {
				return failf(manifest.ExitConflict, "it holds mail of this host, and so does %s on the system disk; move away the one that is not wanted and run again", a.Layout.StoreDir())
			}
		}
		// Epochs are counted by the machine, not by the disk that it was given.
		here, err := a.readOwner()
		if err != nil {
			return err
		}
		if err := writeJSON(mark, here, 0o644); err != nil {
			return err
		}
	} else if err := c.copyState(ctx, dir, mark); err != nil {
		return err
	}
	return a.umountDisk(ctx)
}

// copyState copies StateDir to the disk and, last, commits the copy.
func (c *converge) copyState(ctx context.Context, dir, mark string) error {
	a := c.a
	if err := emptyDir(dir); err != nil { // what an earlier try has left
		return err
	}
	need, err := measure(a.Layout.StateDir())
	if err != nil {
		return err
	}
	free, err := freeBytes(dir)
	if err != nil {
		return err
	}
	if need.bytes+need.bytes/20 > free {
		return failf(manifest.ExitFailed, "%s has %s, the disk has room for %s: make it larger", a.Layout.StateDir(), gib(need.bytes), gib(free))
	}
	if need.bytes > 64<<20 {
		c.emit(manifest.AgentEvent{Step: "data disk", Status: "waiting", Detail: fmt.Sprintf("copying %s of mail; the service is stopped meanwhile", gib(need.bytes))})
	}
	if err := copyTree(ctx, a.Layout.StateDir(), dir, filepath.Base(mark)); err != nil {
		return err
	}
	have, err := measure(dir)
	if err != nil {
		return err
	}
	if again, err := measure(a.Layout.StateDir()); err != nil {
		return err
	} else if again != need {
		return fmt.Errorf("%s has changed while it was copied: is something writing there?", a.Layout.StateDir())
	}
	if owner, err := os.Stat(a.Layout.OwnerFile()); err == nil { // it is the commit
		need.files, need.bytes = need.files-1, need.bytes-owner.Size()
	}
	if have != need {
		return fmt.Errorf("the copy has %d files with %d bytes, not %d with %d", have.files, have.bytes, need.files, need.bytes)
	}
	if err := writeFile(a.Layout.MovingFile(), []byte(Header), 0o644, -1); err != nil {
		return err
	}
	return copyFile(a.Layout.OwnerFile(), mark, 0o644)
}

// vacate puts an empty StateDir in the place of one that holds something; only
// the owner mark stays, for when the disk is not mounted.
func (a *Agent) vacate() error {
	dir, moved := a.Layout.StateDir(), a.Layout.MovedStateDir()
	if !fileExists(moved) {
		if some, err := hasFiles(dir, filepath.Base(a.Layout.OwnerFile())); err != nil || !some {
			return err
		}
		if err := os.Rename(dir, moved); err != nil {
			return err
		}
	}
	if err := mkdirAll(dir, 0o750); err != nil {
		return err
	}
	return copyFile(filepath.Join(moved, filepath.Base(a.Layout.OwnerFile())), a.Layout.OwnerFile(), 0o644)
}
