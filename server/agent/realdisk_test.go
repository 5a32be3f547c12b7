package agent

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mailform/server/manifest"
)

// These tests work on loop devices with the machine's own programs. They need root.

// loopTools runs the machine's programs with paths inside a private root.
type loopTools struct{ root, kind string }

// Has implements Tools: of file systems the machine has one kind.
func (l loopTools) Has(program string) bool {
	if strings.HasPrefix(program, "mkfs.") && program != "mkfs."+l.kind {
		return false
	}
	return Programs{}.Has(program)
}

// Run implements Tools.
func (l loopTools) Run(ctx context.Context, program string, args ...string) error {
	args = slices.Clone(args)
	for i, a := range args {
		if strings.HasPrefix(a, "/run/") || strings.HasPrefix(a, "/var/") {
			args[i] = l.root + a
		}
	}
	return Programs{}.Run(ctx, program, args...)
}

// Output implements Tools.
func (l loopTools) Output(ctx context.Context, program string, args ...string) ([]byte, error) {
	return Programs{}.Output(ctx, program, args...)
}

// loopDevice is an image of a size in bytes as a block device.
func loopDevice(t *testing.T, size int64) (device, image string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for loop devices")
	}
	image = filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		t.Skipf("loop devices do not work here: %s", out)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "--detach", device).Run() })
	return device, image
}

// withRealDisk is a machine whose disk "serial-1" is a device of this one.
func withRealDisk(t *testing.T, device, kind string) *machine {
	t.Helper()
	m := newMachine(t)
	m.tools = loopTools{m.layout.Root, kind}
	for _, dir := range []string{"/dev/disk/by-id", "/proc/self"} {
		if err := os.MkdirAll(m.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"/dev/disk/by-id/virtio-serial-1": device, "/proc/self/mountinfo": "/proc/self/mountinfo"} {
		if err := os.Symlink(target, m.path(link)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { exec.Command("umount", m.layout.StateDir()).Run() })
	t.Cleanup(func() { exec.Command("umount", m.layout.DiskDir()).Run() })
	m.real = device
	return m
}

func needPrograms(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s", p)
		}
	}
}

// TestRealDisk makes, fills, grows and finds again a file system.
func TestRealDisk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind  string
		check []string // says that a file system is whole
	}{
		{"ext4", []string{"e2fsck", "-fn"}},
		{"xfs", []string{"xfs_repair", "-n"}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			needPrograms(t, "losetup", "mkfs."+c.kind, "resize2fs", "xfs_growfs", "mount", c.check[0])
			loop, image := loopDevice(t, gibibyte)
			m := withRealDisk(t, loop, c.kind)
			m.install()
			m.acknowledged(wanted())
			m.deliver("seg-1", strings.Repeat("mail ", 1000))
			mail := m.mail()
			m.mustConverge(onDisk())
			if got, err := m.agent().mountAt(m.layout.StateDir()); err != nil || got == nil || got.source != loop || m.mail() != mail {
				t.Fatalf("mounted: %+v, %v", got, err)
			}
			m.mustConverge(onDisk())
			f := m.observe()
			if f.Storage.Kind != c.kind || f.Storage.Bytes != gibibyte || f.Storage.FreeBytes == 0 || len(f.Storage.Drift) > 0 {
				t.Errorf("facts: %+v", f.Storage)
			}

			if err := os.Truncate(image, 3*gibibyte); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("losetup", "--set-capacity", loop).CombinedOutput(); err != nil {
				t.Fatalf("%s", out)
			}
			size := int64(3 * gibibyte)
			if c.kind == "ext4" && !mayResize(t) {
				// A container may not grow ext4 while it is mounted: that is said, and
				// nothing else suffers.
				size = gibibyte
				if _, _, err := m.converge(onDisk()); err == nil || !strings.Contains(err.Error(), "resize2fs "+loop) {
					t.Errorf("where ext4 cannot grow: %v", err)
				}
				if !m.active[ServiceUnit] || m.mail() != mail {
					t.Error("the service or its mail is gone")
				}
				if err := os.Truncate(image, size); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command("losetup", "--set-capacity", loop).CombinedOutput(); err != nil {
					t.Fatalf("%s", out)
				}
			} else {
				m.mustConverge(onDisk())
			}
			if f = m.observe(); f.Storage.Bytes != size || len(f.Storage.Drift) > 0 || m.mail() != mail {
				t.Errorf("after it grew: %+v", f.Storage)
			}
			if res := m.mustConverge(onDisk()); res.Changed {
				t.Error("a further converge changes something")
			}

			// The disk is found again by a machine that has only just been made.
			if out, err := exec.Command("umount", m.layout.StateDir()).CombinedOutput(); err != nil {
				t.Fatalf("%s", out)
			}
			if sig, err := (&disk{path: loop, bytes: size}).look(); err != nil || sig.label != fsLabel || sig.uuid != f.Storage.UUID {
				t.Errorf("on the disk: %+v %v", sig, err)
			}
			if out, err := exec.Command(c.check[0], append(c.check[1:], loop)...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", c.check[0], err, out)
			}
		})
	}
}

// mayResize reports whether this process has CAP_SYS_RESOURCE, capabilities(7),
// without which the kernel does not grow an ext4 that is mounted.
func mayResize(t *testing.T) bool {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "CapEff:\t")
	mask, err := strconv.ParseUint(strings.TrimSpace(rest[:16]), 16, 64)
	return err == nil && mask&(1<<24) != 0
}

// What real programs put on a disk is known, and refused before anything is
// written or stopped.
func TestRealContents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want   string
		script string // with the device as $1
	}{
		{"partition table", "echo type=83 | sfdisk -q $1"},
		{"GPT partition table", "echo type=L | sfdisk -q --label gpt $1"},
		{"GPT partition table", "echo type=L | sfdisk -q --label gpt $1 && dd if=/dev/zero of=$1 bs=1M count=1 status=none"}, // its second copy is left
		{"LUKS volume", "echo secret | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 $1 -"},
		{"LUKS volume", "echo secret | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $1 -"},
		{"LVM physical volume", "pvcreate -q -y --devices $1 $1"},
		{"swap space", "mkswap -q $1"},
		{"ext4", "mkfs.ext4 -q $1"},
		{"ext2 or ext3", "mkfs.ext4 -q -t ext3 $1"},
		{"xfs", "mkfs.xfs -q $1"},
	} {
		t.Run(c.want, func(t *testing.T) {
			t.Parallel()
			needPrograms(t, "losetup", "sfdisk", "cryptsetup", "pvcreate", "mkswap", "mkfs.ext4", "mkfs.xfs")
			loop, _ := loopDevice(t, gibibyte)
			if out, err := exec.Command("sh", "-c", c.script, "sh", loop).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", c.script, err, out)
			}
			m := withRealDisk(t, loop, "ext4")
			m.install()
			m.acknowledged(wanted())
			m.calls = nil
			_, _, err := m.converge(onDisk())
			if ExitCode(err) != manifest.ExitConflict || !strings.Contains(err.Error(), "it holds "+c.want) || !strings.Contains(err.Error(), loop) {
				t.Errorf("%v", err)
			}
			if slices.ContainsFunc(m.calls, func(call string) bool { return strings.HasPrefix(call, "mkfs") || strings.HasPrefix(call, "stop") }) {
				t.Errorf("calls %q", m.calls)
			}
		})
	}
}
