package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"mailform/server/manifest"
)

// The mail may be on a disk of its own, which outlives the machine: StateDir is
// then the root of the disk's file system, with the mail, the passwords that
// were made here, and the owner mark in it. Whoever makes the machine anew finds
// all of it again.
//
// How it gets there. On a blank disk a file system with our label is made. The
// service stops, StateDir is copied, and the owner mark, written last, says that the
// copy is whole. From before that moment until the disk is mounted in StateDir's
// place MovingFile keeps the service from starting, after a reboot too, so that no
// mail gets into the old place any more. Wherever this is cut off, the next converge
// sees from the disk and from these two marks where to go on. What was in StateDir
// stays in MovedStateDir until the converge after that.

// fsLabel marks a file system as one that mailform made.
const fsLabel = "mailform"

const (
	diskWait   = 30 * time.Second // for a disk that was attached just now
	growMargin = 256 << 20        // bytes at a disk's end that no file system has to cover
)

// MountUnit mounts the data disk at StateDir; systemd prescribes its name.
const MountUnit = manifest.MountUnit

// storageRecord is StorageFile. It is written before the file system is made, so
// that a half-made one is known for what it is, and once more when it is in use: what
// is unreadable on a disk from then on is damage, and nothing is made in its place.
type storageRecord struct {
	Serial string `json:"serial"`
	UUID   string `json:"uuid"`
	Kind   string `json:"kind"`
	InUse  bool   `json:"in_use,omitempty"`
}

// storage is what there is to see of a data disk.
type storage struct {
	serial string
	disk   *disk   // nil while it is not attached
	holds  content // of the disk
	broken bool    // the disk holds something, nobody knows what
	mount  *mount  // what StateDir is a mount of; nil when it is a plain folder
	here   bool    // the mount is of the disk
	moving bool
	some   bool // keys are on a data disk
	keys   bool // all keys are
	record storageRecord
}

func (a *Agent) lookAtStorage(serial string) (storage, error) {
	s := storage{serial: serial, moving: fileExists(a.Layout.MovingFile())}
	if _, err := readJSON(a.Layout.StorageFile(), &s.record); err != nil {
		return s, err
	}
	var err error
	if s.some, s.keys, err = a.keysOnDisk(); err != nil {
		return s, err
	}
	if s.mount, err = a.mountAt(a.Layout.StateDir()); err != nil || serial == "" {
		if !a.mountedByUs() {
			s.mount = nil
		}
		return s, err
	}
	if s.disk, err = a.findDisk(serial); err != nil || s.disk == nil {
		return s, err
	}
	s.here = a.on(s.mount, s.disk)
	s.holds, err = s.disk.look()
	if errors.Is(err, errUnknownContent) {
		s.broken, err = true, nil
	}
	if err == nil && s.here && s.holds.kind == "xfs" {
		s.holds.bytes, err = xfsBytes(a.Layout.StateDir())
	}
	return s, err
}

// mountedByUs tells a data disk of ours from a file system that a person has mounted
// at StateDir, which stays there.
func (a *Agent) mountedByUs() bool {
	return fileExists(a.mountUnitFile()) || fileExists(a.Layout.StorageFile())
}

// drift says in words what a converge would change.
func (a *Agent) storageDrift(s storage) []string {
	dir := a.Layout.StateDir()
	switch {
	case s.serial == "" && s.mount == nil && !s.moving && !s.some:
		return nil
	case s.serial == "":
		return []string{dir + " is on a data disk that is not asked for"}
	case s.disk == nil:
		return []string{"the data disk " + s.serial + " is not attached"}
	case s.mount == nil:
		return []string{dir + " is not on the data disk " + s.disk.device}
	case !s.here:
		return []string{fmt.Sprintf("%s is on %s, not on the data disk %s", dir, s.mount.source, s.disk.device)}
	}
	var out []string
	if s.disk.bytes-s.holds.bytes > growMargin {
		out = append(out, fmt.Sprintf("the file system covers %s of the %s of %s", gib(s.holds.bytes), gib(s.disk.bytes), s.disk.device))
	}
	if s.moving {
		out = append(out, "the move to the data disk is not finished")
	}
	if !s.keys {
		out = append(out, "the keys are not on the data disk")
	} else if a.keysUnsettled() {
		out = append(out, "the move of the keys is not finished")
	}
	if s.record != s.inUse() {
		out = append(out, "that it is in use is not noted")
	}
	if diff, err := a.mountUnit(s.holds).check(); err != nil {
		out = append(out, err.Error())
	} else if diff != "" {
		out = append(out, MountUnit+" "+diff)
	}
	return out
}

// inUse is the record of a disk that is in use.
func (s storage) inUse() storageRecord {
	return storageRecord{Serial: s.serial, UUID: s.holds.uuid, Kind: s.holds.kind, InUse: true}
}

func gib(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

// storageFacts tells of the disk that the applied manifest names, or else of the one
// that is in use; nil without one.
func (a *Agent) storageFacts(m *manifest.Manifest) (*manifest.Storage, error) {
	var record storageRecord
	if _, err := readJSON(a.Layout.StorageFile(), &record); err != nil {
		return nil, err
	}
	serial := ""
	if m != nil {
		serial = m.DataDisk
	}
	unnamed := serial == "" && record.InUse
	if unnamed {
		serial = record.Serial
	}
	if serial == "" {
		return nil, nil
	}
	s, err := a.lookAtStorage(serial)
	if err != nil {
		return nil, err
	}
	f := &manifest.Storage{Serial: s.serial, Kind: s.holds.kind, UUID: s.holds.uuid, Bytes: s.holds.bytes, Keys: s.some, Drift: a.storageDrift(s)}
	if unnamed && m != nil {
		f.Drift = append(f.Drift, "the manifest does not name it")
	}
	if s.disk != nil {
		f.Device, f.DeviceBytes = s.disk.device, s.disk.bytes
	}
	if f.Mounted = s.here; f.Mounted {
		if free, err := freeBytes(a.Layout.StateDir()); err == nil {
			f.FreeBytes = free
		}
	}
	return f, nil
}

// storage brings StateDir to where the manifest wants it. It reports whether
// StateDir is another folder than before.
func (c *converge) storage(ctx context.Context) (switched bool, err error) {
	a := c.a
	s, err := a.lookAtStorage(c.req.Manifest.DataDisk)
	if err != nil {
		return false, err
	}
	for start := a.Now(); s.serial != "" && s.disk == nil && !c.req.DryRun && a.Now().Sub(start) < diskWait; {
		c.emit(manifest.AgentEvent{Step: "data disk", Status: "waiting", Detail: "it is not attached yet"})
		if err := a.Sleep(ctx, time.Second); err != nil {
			return false, err
		}
		if s, err = a.lookAtStorage(s.serial); err != nil {
			return false, err
		}
	}
	if s.serial != "" && s.disk == nil {
		return false, failf(manifest.ExitFailed, "the data disk with serial number %s is not attached to this machine; %s", s.serial, a.attached())
	}
	drift := a.storageDrift(s)
	switch {
	case c.req.DryRun:
		for _, d := range drift {
			c.step("data disk", "would change", d)
		}
		return false, nil
	case s.serial == "":
		if len(drift) == 0 {
			return false, nil
		}
		return true, c.leaveDisk(ctx)
	case len(drift) == 0:
		c.step("data disk", "unchanged", "")
		return false, c.tidy()
	case s.here:
		return false, errors.Join(c.growDisk(ctx, s), c.settleOnDisk(ctx, s.serial))
	}
	if err := c.enterDisk(ctx, s); err != nil {
		return false, fmt.Errorf("data disk %s: %w", s.disk.device, err)
	}
	return true, c.settleOnDisk(ctx, s.serial)
}

// settleOnDisk notes that the disk, which is mounted now, is in use, and moves the
// keys to it.
func (c *converge) settleOnDisk(ctx context.Context, serial string) error {
	s, err := c.a.lookAtStorage(serial)
	if err != nil {
		return err
	}
	if s.record != s.inUse() {
		if err := writeJSON(c.a.Layout.StorageFile(), s.inUse(), 0o644); err != nil {
			return err
		}
	}
	return c.keepKeys(ctx, serial)
}

// tidy forgets what StateDir was before it moved.
func (c *converge) tidy() error {
	dir := c.a.Layout.MovedStateDir()
	if !fileExists(dir) {
		return nil
	}
	c.step("data disk", "changed", "the old copy in "+dir+" is deleted")
	return os.RemoveAll(dir)
}

// growDisk makes the file system as large as its disk, while it is in use, and
// ends a move that was cut off after the mount.
func (c *converge) growDisk(ctx context.Context, s storage) error {
	a := c.a
	if s.disk.bytes-s.holds.bytes > growMargin {
		program, target := "resize2fs", s.disk.device
		if s.holds.kind == "xfs" {
			program, target = "xfs_growfs", s.mount.dir
		}
		if err := a.Tools.Run(ctx, program, target); err != nil {
			return err
		}
		c.step("data disk", "changed", "the file system grew to "+gib(s.disk.bytes))
	}
	if err := c.mountUnit(ctx, s.holds); err != nil {
		return err
	}
	return removeDurably(a.Layout.MovingFile())
}

// leaveDisk takes the disk out of StateDir. The mail on it stays on it; the keys come
// back, since this machine goes on using them.
func (c *converge) leaveDisk(ctx context.Context) error {
	a := c.a
	if err := c.bringKeysBack(ctx); err != nil {
		return err
	}
	if err := a.stopService(ctx); err != nil {
		return err
	}
	if err := a.unmountState(ctx); err != nil {
		return err
	}
	if moved := a.Layout.MovedStateDir(); fileExists(a.Layout.MovingFile()) && fileExists(moved) {
		// A move was given up half-way: the mail is where it was.
		if err := os.RemoveAll(a.Layout.StateDir()); err != nil {
			return err
		}
		if err := os.Rename(moved, a.Layout.StateDir()); err != nil {
			return err
		}
	}
	for _, f := range []string{a.Layout.StorageFile(), a.Layout.MovingFile()} {
		if err := removeDurably(f); err != nil {
			return err
		}
	}
	c.step("data disk", "changed", "no longer in use; the mail on it stays on it")
	return nil
}

// unmountState ends the mount at StateDir and takes its unit away.
func (a *Agent) unmountState(ctx context.Context) error {
	path := a.mountUnitFile()
	if fileExists(path) {
		if err := a.Systemd.DaemonReload(ctx); err != nil {
			return err
		}
		if err := a.Systemd.Stop(ctx, MountUnit); err != nil {
			return err
		}
		if err := a.Systemd.Disable(ctx, MountUnit); err != nil {
			return err
		}
	}
	if m, err := a.mountAt(a.Layout.StateDir()); err != nil {
		return err
	} else if m != nil && a.mountedByUs() {
		if err := a.Tools.Run(ctx, "umount", m.dir); err != nil {
			return err
		}
	}
	if !fileExists(path) {
		return nil
	}
	if err := removeDurably(path); err != nil {
		return err
	}
	return a.Systemd.DaemonReload(ctx)
}

func (a *Agent) mountUnitFile() string { return filepath.Join(a.Layout.UnitDir(), MountUnit) }

func (a *Agent) mountUnit(on content) *fileItem {
	return a.file(a.mountUnitFile(), mountText(on), 0o644)
}

// mountText is the mount unit. The machine boots without the disk; the service
// does not start without it.
func mountText(on content) string {
	return fmt.Sprintf(`[Unit]
Description=mailform's data disk

[Mount]
What=/dev/disk/by-uuid/%s
Where=%s
Type=%s
Options=noatime,nosuid,nodev,noexec

[Install]
WantedBy=multi-user.target
`, on.uuid, manifest.Layout{Root: "/"}.StateDir(), on.kind)
}

// mountUnit writes and enables the mount unit.
func (c *converge) mountUnit(ctx context.Context, on content) error {
	a := c.a
	changed, err := a.settle(ctx, []item{a.mountUnit(on)}, c.emit, false)
	c.changed = c.changed || changed
	if err != nil {
		return err
	}
	states, err := a.Systemd.Units(ctx, MountUnit)
	if err != nil {
		return err
	}
	if changed || states[0].NeedDaemonReload || states[0].LoadState == "not-found" {
		if err := a.Systemd.DaemonReload(ctx); err != nil {
			return err
		}
	}
	if states[0].UnitFileState == "enabled" {
		return nil
	}
	return a.Systemd.Enable(ctx, MountUnit)
}

// stopService stops the service and the sockets that would start it again.
func (a *Agent) stopService(ctx context.Context) error {
	names := append(socketUnits(manifest.EveryService()), ServiceUnit)
	states, err := a.Systemd.Units(ctx, names...)
	if err != nil {
		return err
	}
	var running []string
	for i, n := range names {
		if s := states[i].ActiveState; s != "inactive" && s != "failed" {
			running = append(running, n)
		}
	}
	if len(running) == 0 {
		return nil
	}
	return a.Systemd.Stop(ctx, running...)
}

// resumeService starts what was enabled.
func (a *Agent) resumeService(ctx context.Context) error {
	names := append(socketUnits(manifest.EveryService()), ServiceUnit)
	states, err := a.Systemd.Units(ctx, names...)
	if err != nil {
		return err
	}
	var start []string
	for i, n := range names {
		if states[i].UnitFileState == "enabled" {
			start = append(start, n)
		}
	}
	if len(start) == 0 {
		return nil
	}
	return a.Systemd.Start(ctx, start...)
}

// umountDisk ends the mount at DiskDir, if there is one.
func (a *Agent) umountDisk(ctx context.Context) error {
	m, err := a.mountAt(a.Layout.DiskDir())
	if err != nil || m == nil {
		return err
	}
	return a.Tools.Run(ctx, "umount", m.dir)
}

// machinePath is a path as the machine's own programs know it.
func (a *Agent) machinePath(p string) string {
	if rest, err := filepath.Rel(a.Layout.Inside("/"), p); err == nil {
		return "/" + rest
	}
	return p
}

// removeDurably deletes a file that may be missing.
func removeDurably(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
