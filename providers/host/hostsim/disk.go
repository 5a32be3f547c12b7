package hostsim

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Disk is a cloud disk. What is on it stays on it when it goes from one machine
// to another. Its bytes are an image file, of which only the superblock is ever
// written; its files are a folder that is moved to where the disk is mounted,
// because an ordinary user cannot mount.
type Disk struct {
	Serial string
	dir    string

	mu   sync.Mutex
	host *Host  // that it is attached to
	name string // there: "vdb"
	at   string // where it is mounted, as the machine names it; "" when it is not
}

// NewDisk makes a blank disk. Like a machine's root folder it is in a temporary
// folder; Destroy removes it.
func NewDisk(serial string, bytes int64) (*Disk, error) {
	if serial == "" || strings.ContainsAny(serial, "/\n") {
		return nil, fmt.Errorf("hostsim: bad serial number %q", serial)
	}
	dir, err := os.MkdirTemp(shortTemp(), "mfd")
	if err != nil {
		return nil, err
	}
	d := &Disk{Serial: serial, dir: dir}
	if err := os.WriteFile(d.image(), nil, 0o600); err != nil {
		return nil, err
	}
	return d, d.Resize(bytes)
}

func (d *Disk) image() string { return filepath.Join(d.dir, "image") }
func (d *Disk) files() string { return filepath.Join(d.dir, "files") }

// Resize gives the disk another size, in bytes, also while it is in use.
func (d *Disk) Resize(bytes int64) error { return os.Truncate(d.image(), bytes) }

// Destroy deletes the disk. It must not be attached.
func (d *Disk) Destroy() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.host != nil {
		return fmt.Errorf("hostsim: disk %s is attached", d.Serial)
	}
	return os.RemoveAll(d.dir)
}

// AttachDisk puts a disk into the machine. One that is there already stays.
func (h *Host) AttachDisk(d *Disk) error {
	h.diskMu.Lock()
	defer h.diskMu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.host == h:
		return nil
	case d.host != nil:
		return fmt.Errorf("hostsim: disk %s is attached already", d.Serial)
	}
	for letter := 'b'; ; letter++ {
		d.name = "vd" + string(letter)
		if !slices.ContainsFunc(h.disks, func(o *Disk) bool { return o.name == d.name }) {
			break
		}
	}
	if err := os.MkdirAll(h.path("/sys/block/"+d.name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(h.path("/sys/block/"+d.name+"/serial"), []byte(d.Serial+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.MkdirAll(h.path("/dev"), 0o755); err != nil {
		return err
	}
	// A root folder that was copied has the link of the machine it was copied from.
	if err := os.Remove(h.path("/dev/" + d.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(d.image(), h.path("/dev/"+d.name)); err != nil {
		return err
	}
	d.host = h
	h.disks = append(h.disks, d)
	return h.showMounts()
}

// Disks are the serial numbers of the disks in the machine.
func (h *Host) Disks() []string {
	h.diskMu.Lock()
	defer h.diskMu.Unlock()
	var out []string
	for _, d := range h.disks {
		out = append(out, d.Serial)
	}
	return out
}

// DetachDisk takes the disk with a serial number out of the machine, even while
// it is in use. It does nothing when the disk is not there.
func (h *Host) DetachDisk(serial string) error {
	h.diskMu.Lock()
	defer h.diskMu.Unlock()
	i := slices.IndexFunc(h.disks, func(d *Disk) bool { return d.Serial == serial })
	if i < 0 {
		return nil
	}
	d := h.disks[i]
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := h.release(d); err != nil {
		return err
	}
	h.disks = slices.Delete(h.disks, i, i+1)
	d.host = nil
	return errors.Join(os.Remove(h.path("/dev/"+d.name)), os.RemoveAll(h.path("/sys/block/"+d.name)), h.showMounts())
}

// releaseDisks ends all mounts, as the end of a machine does.
func (h *Host) releaseDisks() error {
	h.diskMu.Lock()
	defer h.diskMu.Unlock()
	var errs []error
	for _, d := range h.disks {
		d.mu.Lock()
		errs = append(errs, h.release(d))
		d.mu.Unlock()
	}
	return errors.Join(append(errs, h.showMounts())...)
}

// hidden is where a folder waits while a disk is mounted on it.
func hidden(dir string) string { return dir + ".hostsim-under" }

// occupy moves the disk's files to a folder. Callers hold both locks.
func (h *Host) occupy(d *Disk, dir string) error {
	if d.at != "" {
		return fmt.Errorf("/dev/%s already mounted on %s.", d.name, d.at)
	}
	if _, err := os.Stat(d.files()); err != nil {
		return fmt.Errorf("wrong fs type, bad option, bad superblock on /dev/%s", d.name)
	}
	place := h.path(dir)
	if err := os.MkdirAll(place, 0o755); err != nil { // systemd makes mount points, too
		return err
	}
	if err := os.Rename(place, hidden(place)); err != nil {
		return err
	}
	if err := move(d.files(), place); err != nil {
		return errors.Join(err, os.Rename(hidden(place), place))
	}
	d.at = dir
	return h.showMounts()
}

// release moves them back.
func (h *Host) release(d *Disk) error {
	if d.at == "" {
		return nil
	}
	place := h.path(d.at)
	d.at = ""
	return errors.Join(move(place, d.files()), os.Rename(hidden(place), place))
}

// showMounts writes what the kernel would show in /proc/self/mountinfo.
func (h *Host) showMounts() error {
	text := "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n"
	for i, d := range h.disks {
		if d.at != "" {
			text += fmt.Sprintf("%d 22 254:%d / %s rw,noatime - ext4 /dev/%s rw\n", 40+i, 16*(i+1), strings.ReplaceAll(d.at, " ", `\040`), d.name)
		}
	}
	if err := os.MkdirAll(h.path("/proc/self"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(h.path("/proc/self/mountinfo"), []byte(text), 0o644)
}

// superblock positions of ext4, in bytes from the start of the disk:
// https://www.kernel.org/doc/html/latest/filesystems/ext4/super.html
const (
	superAt    = 1024
	superSize  = 1024
	blocksAt   = superAt + 4
	blockBytes = 4096
)

func (d *Disk) write(at int64, b []byte) error {
	f, err := os.OpenFile(d.image(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, at)
	return err
}

func (d *Disk) blocks() (uint32, error) {
	fi, err := os.Stat(d.image())
	if err != nil {
		return 0, err
	}
	return uint32(fi.Size() / blockBytes), nil
}

// uuid is that of the disk's file system, "" without one.
func (d *Disk) uuid() string {
	f, err := os.Open(d.image())
	if err != nil {
		return ""
	}
	defer f.Close()
	sb := make([]byte, superSize)
	if _, err := f.ReadAt(sb, superAt); err != nil || sb[56] != 0x53 || sb[57] != 0xef {
		return ""
	}
	h := hex.EncodeToString(sb[104:120])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// format is mkfs.ext4.
func (d *Disk) format(uuid, label string) error {
	if d.at != "" {
		return fmt.Errorf("/dev/%s is mounted; will not make a filesystem here!", d.name)
	}
	id, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	if err != nil || len(id) != 16 || len(label) > 16 {
		return fmt.Errorf("bad UUID %q or label %q", uuid, label)
	}
	blocks, err := d.blocks()
	if err != nil {
		return err
	}
	sb := make([]byte, superSize)
	le := binary.LittleEndian
	le.PutUint32(sb[4:], blocks)
	le.PutUint32(sb[24:], 2)      // 4 KiB blocks
	le.PutUint16(sb[56:], 0xef53) // the magic number
	le.PutUint32(sb[96:], 0x40)   // extents: ext4
	copy(sb[104:], id)
	copy(sb[120:136], label)
	if err := os.RemoveAll(d.files()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(d.files(), "lost+found"), 0o700); err != nil {
		return err
	}
	return d.write(superAt, sb)
}

// diskTool carries out a program for disks.
func (s *supervisor) diskTool(program string, args []string) reply {
	h := s.host
	h.diskMu.Lock()
	defer h.diskMu.Unlock()
	var words []string
	options := map[string]string{}
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case slices.Contains([]string{"-L", "-U", "-m", "-t", "-o"}, a) && i+1 < len(args):
			options[a] = args[i+1]
			i++
		case a == "-q", a == "-F":
		case strings.HasPrefix(a, "-"):
			return failed("%s: option %s is not simulated", program, a)
		default:
			words = append(words, a)
		}
	}
	find := func(is func(*Disk) bool) *Disk {
		if i := slices.IndexFunc(h.disks, is); i >= 0 {
			return h.disks[i]
		}
		return nil
	}
	if len(words) == 0 {
		return failed("%s: too few arguments", program)
	}
	d := find(func(d *Disk) bool { return "/dev/"+d.name == words[0] })
	if program == "umount" {
		d = find(func(d *Disk) bool { return d.at == words[0] })
	}
	if d == nil {
		return failed("%s: %s: no such disk or mount", program, words[0])
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	switch program {
	case "mkfs.ext4":
		err = d.format(options["-U"], options["-L"])
	case "resize2fs":
		var blocks uint32
		if blocks, err = d.blocks(); err == nil {
			err = d.write(blocksAt, binary.LittleEndian.AppendUint32(nil, blocks))
		}
	case "mount":
		if len(words) != 2 {
			return failed("mount: bad usage")
		}
		err = h.occupy(d, filepath.Clean(words[1]))
	case "umount":
		err = errors.Join(h.release(d), h.showMounts())
	}
	if err != nil {
		return failed("%s: %v", program, err)
	}
	return reply{}
}

// startMount starts a mount unit.
func (s *supervisor) startMount(u *loadedUnit) error {
	uuid, ok := strings.CutPrefix(u.unit.get("Mount", "What"), "/dev/disk/by-uuid/")
	where := u.unit.get("Mount", "Where")
	if !ok || where == "" {
		return fmt.Errorf("%s: only a file system by its UUID is simulated as What=", u.name)
	}
	h := s.host
	h.diskMu.Lock()
	defer h.diskMu.Unlock()
	for _, d := range h.disks {
		if d.uuid() != uuid {
			continue
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.at != where {
			if err := h.occupy(d, where); err != nil {
				return fmt.Errorf("Job for %s failed: %v", u.name, err)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		u.active = "active"
		return nil
	}
	return fmt.Errorf("A dependency job for %s failed: the device with UUID %s has not appeared.", u.name, uuid)
}

// stopMount stops what needs a mount, and ends it.
func (s *supervisor) stopMount(u *loadedUnit) error {
	where := u.unit.get("Mount", "Where")
	for _, n := range s.names() {
		s.mu.Lock()
		other := s.loaded[n]
		s.mu.Unlock()
		if other != nil && slices.Contains(other.unit.list("Unit", "RequiresMountsFor"), where) {
			if err := s.stop(n); err != nil {
				return err
			}
		}
	}
	h := s.host
	h.diskMu.Lock()
	defer h.diskMu.Unlock()
	var err error
	for _, d := range h.disks {
		d.mu.Lock()
		if d.at == where {
			err = h.release(d)
		}
		d.mu.Unlock()
	}
	s.mu.Lock()
	u.active = "inactive"
	s.mu.Unlock()
	return errors.Join(err, h.showMounts())
}

// requireMounts starts the mount units that a unit's folders are on.
func (s *supervisor) requireMounts(u *loadedUnit) error {
	for _, dir := range u.unit.list("Unit", "RequiresMountsFor") {
		for _, n := range s.names() {
			s.mu.Lock()
			other := s.loaded[n]
			s.mu.Unlock()
			if other == nil || filepath.Ext(n) != ".mount" {
				continue
			}
			if where := other.unit.get("Mount", "Where"); where == dir || strings.HasPrefix(dir, where+"/") {
				if err := s.start(n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// conditionMet evaluates ConditionPathExists=, systemd.unit(5).
func (s *supervisor) conditionMet(u *loadedUnit) bool {
	for _, c := range u.unit.list("Unit", "ConditionPathExists") {
		path, not := strings.CutPrefix(c, "!")
		_, err := os.Stat(s.host.path(path))
		if errors.Is(err, fs.ErrNotExist) != not {
			return false
		}
	}
	return true
}

// Clone makes another disk, attached to nothing, with the same serial number and
// content. The disk must not be mounted.
func (d *Disk) Clone() (*Disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at != "" {
		return nil, fmt.Errorf("hostsim: disk %s is mounted", d.Serial)
	}
	fi, err := os.Stat(d.image())
	if err != nil {
		return nil, err
	}
	c, err := NewDisk(d.Serial, fi.Size())
	if err != nil {
		return nil, err
	}
	f, err := os.Open(d.image())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sb := make([]byte, superSize) // nothing else is ever written
	if _, err := f.ReadAt(sb, superAt); err != nil {
		return nil, err
	}
	if err := c.write(superAt, sb); err != nil {
		return nil, err
	}
	if err := copyFiles(d.files(), c.files()); err != nil && !errors.Is(err, fs.ErrNotExist) { // a blank one has none
		return c, err
	}
	return c, nil
}

// copyFiles copies a folder with its files, folders and links.
func copyFiles(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if e.IsDir() {
			return errors.Join(os.Mkdir(target, 0o700), os.Chmod(target, info.Mode().Perm()))
		}
		if e.Type()&fs.ModeSymlink != 0 {
			link, err := os.Readlink(path)
			return errors.Join(err, os.Symlink(link, target))
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(target, text, 0o600), os.Chmod(target, info.Mode().Perm()))
	})
}

// move renames a folder, to another file system by copying it: a machine's root and
// its disks need not be on the same.
func move(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	if err := copyFiles(from, to); err != nil {
		return errors.Join(err, os.RemoveAll(to))
	}
	return os.RemoveAll(from)
}
