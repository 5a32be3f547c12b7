package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"mailform/server/manifest"
)

// Tools are the machine's own programs for disks: mkfs.ext4, resize2fs,
// mkfs.xfs, xfs_growfs, mount and umount.
type Tools interface {
	Has(program string) bool
	Run(ctx context.Context, program string, args ...string) error
	// Output is Run for what a program prints.
	Output(ctx context.Context, program string, args ...string) ([]byte, error)
}

// Programs are the Tools found in PATH.
type Programs struct{}

// Has implements Tools.
func (Programs) Has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// Run implements Tools. It is not bounded in time: a file system of some TiB
// takes its while.
func (Programs) Run(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); lines[0] != "" {
		err = fmt.Errorf("%s (%w)", strings.Join(lines[max(0, len(lines)-3):], "; "), err)
	}
	return fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
}

// Output implements Tools.
func (Programs) Output(ctx context.Context, program string, args ...string) ([]byte, error) {
	return run(ctx, program, args...)
}

// disk is a block device that is attached.
type disk struct {
	device string // "/dev/vdb", as the machine names it
	path   string // where it is under the layout's root
	bytes  int64
}

// findDisk finds the disk with a serial number; nil when it is not attached.
func (a *Agent) findDisk(serial string) (*disk, error) {
	if serial == "" || strings.ContainsAny(serial, "/\n") {
		return nil, failf(manifest.ExitRequest, "bad serial number %q of a data disk", serial)
	}
	path, err := a.diskPath(serial)
	if err != nil || path == "" {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := &disk{device: "/dev/" + filepath.Base(path), path: path}
	if d.bytes, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	return d, nil
}

// diskPath looks where the drivers tell serial numbers (virtio-blk beside the
// disk, NVMe at the controller), then among the links that udev makes.
func (a *Agent) diskPath(serial string) (string, error) {
	blocks, err := os.ReadDir(a.Layout.BlockDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, b := range blocks {
		for _, file := range []string{"serial", "device/serial"} {
			have, err := os.ReadFile(filepath.Join(a.Layout.BlockDir(), b.Name(), file))
			if err == nil && sameSerial(strings.TrimSpace(string(have)), serial) {
				return filepath.Join(a.Layout.DevDir(), b.Name()), nil
			}
		}
	}
	links, err := os.ReadDir(filepath.Join(a.Layout.DevDir(), "disk", "by-id"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, l := range links {
		// "virtio-SERIAL", "nvme-MODEL_SERIAL", "scsi-0ALIBABA_SERIAL"
		if name, ok := strings.CutSuffix(l.Name(), serial); ok && (strings.HasSuffix(name, "-") || strings.HasSuffix(name, "_")) {
			return filepath.EvalSymlinks(filepath.Join(a.Layout.DevDir(), "disk", "by-id", l.Name()))
		}
	}
	return "", nil
}

// sameSerial compares what a driver tells with the number that is looked for:
// virtio-blk has room for 20 characters.
func sameSerial(have, want string) bool {
	return have == want || len(have) == 20 && strings.HasPrefix(want, have)
}

// attached names the disks of the machine, for an error message.
func (a *Agent) attached() string {
	blocks, _ := os.ReadDir(a.Layout.BlockDir())
	var names []string
	for _, b := range blocks {
		if strings.HasPrefix(b.Name(), "loop") || strings.HasPrefix(b.Name(), "ram") {
			continue
		}
		name := b.Name()
		for _, file := range []string{"serial", "device/serial"} {
			if s, err := os.ReadFile(filepath.Join(a.Layout.BlockDir(), b.Name(), file)); err == nil && len(strings.TrimSpace(string(s))) > 0 {
				name += " (" + strings.TrimSpace(string(s)) + ")"
				break
			}
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "it shows no disks"
	}
	return "it has " + strings.Join(names, ", ")
}

// look reads what a disk holds.
func (d *disk) look() (content, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	return probe(f, d.bytes)
}

// parts lists what the kernel has made of a disk: partitions, and volumes that
// stand on it.
func (a *Agent) parts(d *disk) []string {
	dir := filepath.Join(a.Layout.BlockDir(), filepath.Base(d.path))
	var names []string
	if entries, err := os.ReadDir(dir); err == nil {
		for _, e := range entries {
			if fileExists(filepath.Join(dir, e.Name(), "partition")) {
				names = append(names, e.Name())
			}
		}
	}
	if holders, err := os.ReadDir(filepath.Join(dir, "holders")); err == nil {
		for _, e := range holders {
			names = append(names, e.Name())
		}
	}
	return names
}

// mount is a line of mountinfo, proc(5).
type mount struct {
	dir    string // where
	kind   string // file system
	source string // what, "/dev/vdb"
}

func (a *Agent) mounts() ([]mount, error) {
	f, err := os.Open(a.Layout.MountInfoFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMountInfo(f)
}

func parseMountInfo(r io.Reader) ([]mount, error) {
	var out []mount
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 2 {
			continue
		}
		out = append(out, mount{dir: unescape(left[4]), kind: right[0], source: unescape(right[1])})
	}
	return out, lines.Err()
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			n := 0
			for _, c := range s[i+1 : i+4] {
				if c < '0' || c > '7' {
					n = -1
					break
				}
				n = n*8 + int(c-'0')
			}
			if n >= 0 && n < 256 {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountAt returns what is mounted at a folder, the topmost; nil for nothing. Both
// the machine's own names and those under the layout's root are understood.
func (a *Agent) mountAt(dir string) (*mount, error) {
	all, err := a.mounts()
	if err != nil {
		return nil, err
	}
	real := dir
	if r, err := filepath.EvalSymlinks(dir); err == nil {
		real = r
	}
	for _, m := range slices.Backward(all) {
		if at := a.Layout.Inside(m.dir); at == dir || at == real || m.dir == dir || m.dir == real {
			return &m, nil
		}
	}
	return nil, nil
}

// on reports whether a mount is of a disk.
func (a *Agent) on(m *mount, d *disk) bool {
	if m == nil || d == nil {
		return false
	}
	resolve := func(p string) string {
		if r, err := filepath.EvalSymlinks(p); err == nil {
			return r
		}
		return p
	}
	return m.source == d.device || resolve(m.source) == resolve(d.path) || resolve(a.Layout.Inside(m.source)) == resolve(d.path)
}
