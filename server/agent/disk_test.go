package agent

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeDisk is a disk whose superblock is in a file and whose files are in a
// folder that is moved to where it is mounted.
type fakeDisk struct {
	serial, name string
	image, files string
	at           string // where it is mounted
}

// attach gives the machine a disk.
func (m *machine) attach(d *fakeDisk) {
	m.t.Helper()
	d.name = "vd" + string(rune('b'+len(m.disks)))
	m.disks = append(m.disks, d)
	m.write("/sys/block/"+d.name+"/serial", d.serial+"\n", 0o444)
	if err := os.MkdirAll(m.path("/dev"), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(d.image, m.path("/dev/"+d.name)); err != nil {
		m.t.Fatal(err)
	}
	m.showMounts()
}

func newFakeDisk(t *testing.T, serial string, size int64) *fakeDisk {
	t.Helper()
	dir := t.TempDir()
	d := &fakeDisk{serial: serial, image: filepath.Join(dir, "image"), files: filepath.Join(dir, "files")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.resize(t, size)
	return d
}

func (d *fakeDisk) resize(t *testing.T, size int64) {
	t.Helper()
	if err := os.Truncate(d.image, size); err != nil {
		t.Fatal(err)
	}
}

func (d *fakeDisk) put(t *testing.T, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(d.image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// ext4Superblock is as much of one as says what is asked of it.
func ext4Superblock(uuid, label string, size int64) []byte {
	sb := make([]byte, 1024)
	le := binary.LittleEndian
	le.PutUint32(sb[4:], uint32(size/4096))
	le.PutUint32(sb[24:], 2)
	le.PutUint16(sb[56:], 0xef53)
	le.PutUint32(sb[96:], 0x40)
	id, _ := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	copy(sb[104:120], id)
	copy(sb[120:136], label)
	return sb
}

// point is a moment at which the agent can be killed.
func (m *machine) point(what string) {
	if m.before != nil {
		m.before(what)
	}
}

// Has implements Tools.
func (m *machine) Has(program string) bool {
	if m.tools != nil {
		return m.tools.Has(program)
	}
	return program == "mkfs.ext4" || program == "nft" && !m.withoutNFT || filepath.Base(program) == "sshd" && m.active["ssh.service"]
}

// Output implements Tools for nft -j list table.
func (m *machine) Output(_ context.Context, program string, args ...string) ([]byte, error) {
	if m.banned == nil {
		return nil, errors.New("No such file or directory")
	}
	sets := map[bool][]string{}
	for client, seconds := range m.banned {
		v6 := strings.Contains(client, ":")
		sets[v6] = append(sets[v6], fmt.Sprintf(`{"elem": {"val": %q, "timeout": 600, "expires": %d}}`, client, seconds))
	}
	return fmt.Appendf(nil, `{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "inet", "name": "mailform_bans"}}, {"set": {"name": "banned4", "elem": [%s]}}, {"set": {"name": "banned6", "elem": [%s]}}]}`,
		strings.Join(sets[false], ", "), strings.Join(sets[true], ", ")), nil
}

// Run implements Tools.
func (m *machine) Run(ctx context.Context, program string, args ...string) error {
	m.calls = append(m.calls, program)
	m.point(program)
	defer m.point(program)
	if m.tools != nil {
		return m.tools.Run(ctx, program, args...)
	}
	last := args[len(args)-1]
	switch filepath.Base(program) {
	case "nft":
		switch args[0] {
		case "-f":
			b, err := os.ReadFile(last)
			m.table = string(b)
			if strings.Contains(m.table, "add table inet mailform_bans\n") && m.banned == nil {
				m.banned = map[string]int64{}
			}
			return err
		case "delete":
			switch {
			case args[1] == "element":
				delete(m.banned, strings.Trim(last, "{ }"))
			case last == "mailform":
				m.table = ""
			default:
				m.banned = nil
			}
		case "list":
			if last == "mailform" && m.table == "" || last == "mailform_bans" && m.banned == nil {
				return errors.New("No such file or directory")
			}
		}
		return nil
	case "sshd":
		b, err := os.ReadFile(m.layout.SSHDropIn())
		if err == nil && m.sshRefuses != "" && strings.Contains(string(b), m.sshRefuses) {
			return errors.New("Bad configuration option")
		}
		return nil
	case "mkfs.ext4":
		d := m.diskNamed(last)
		fi, err := os.Stat(d.image)
		if err != nil {
			return err
		}
		d.put(m.t, 1024, ext4Superblock(args[slices.Index(args, "-U")+1], args[slices.Index(args, "-L")+1], fi.Size()))
		return os.MkdirAll(filepath.Join(d.files, lostAndFound), 0o700)
	case "resize2fs":
		d := m.diskNamed(last)
		fi, err := os.Stat(d.image)
		if err != nil {
			return err
		}
		d.put(m.t, 1024+4, binary.LittleEndian.AppendUint32(nil, uint32(fi.Size()/4096)))
		return nil
	case "mount":
		return m.mount(m.diskNamed(args[len(args)-2]), m.path(last))
	case "umount":
		return m.umount(m.path(last))
	}
	return fmt.Errorf("no program %s", program)
}

func (m *machine) diskNamed(device string) *fakeDisk {
	m.t.Helper()
	for _, d := range m.disks {
		if "/dev/"+d.name == device {
			return d
		}
	}
	m.t.Fatalf("no disk %q", device)
	return nil
}

func (m *machine) mount(d *fakeDisk, dir string) error {
	if d.at != "" {
		return errors.New("already mounted")
	}
	if err := errors.Join(os.Rename(dir, dir+".under"), os.Rename(d.files, dir)); err != nil {
		return err
	}
	d.at = dir
	m.showMounts()
	return nil
}

func (m *machine) umount(dir string) error {
	for _, d := range m.disks {
		if d.at == dir {
			d.at = ""
			defer m.showMounts()
			return errors.Join(os.Rename(dir, d.files), os.Rename(dir+".under", dir))
		}
	}
	return nil
}

func (m *machine) showMounts() {
	text := "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n"
	for _, d := range m.disks {
		if d.at != "" {
			text += fmt.Sprintf("40 22 254:16 / %s rw,noatime shared:5 - ext4 /dev/%s rw\n", strings.TrimPrefix(d.at, m.layout.Root), d.name)
		}
	}
	m.write("/proc/self/mountinfo", text, 0o444)
}

// startMount is what systemd does for the mount unit and for what requires it.
func (m *machine) startMount() error {
	if m.real != "" {
		if at, err := m.agent().mountAt(m.layout.StateDir()); err != nil || at != nil || !m.loaded[MountUnit] {
			return err
		}
		m.active[MountUnit] = true
		return m.tools.Run(context.Background(), "mount", m.real, "/var/lib/mailform")
	}
	text, err := os.ReadFile(m.path("/etc/systemd/system/" + MountUnit))
	if errors.Is(err, os.ErrNotExist) || fileExistsAt(m.disks, m.layout.StateDir()) {
		return nil
	}
	for _, d := range m.disks {
		f, err := os.Open(d.image)
		if err != nil {
			return err
		}
		holds, _ := probe(f, 1<<21)
		f.Close()
		if holds.uuid != "" && strings.Contains(string(text), "by-uuid/"+holds.uuid+"\n") {
			m.active[MountUnit] = true
			return m.mount(d, m.layout.StateDir())
		}
	}
	return errors.New("dependency failed for mailformd.service")
}

func fileExistsAt(disks []*fakeDisk, dir string) bool {
	return slices.ContainsFunc(disks, func(d *fakeDisk) bool { return d.at == dir })
}

// reboot is a power cut and what systemd starts after it.
func (m *machine) reboot() {
	m.t.Helper()
	for _, d := range m.disks {
		if d.at != "" {
			if err := m.umount(d.at); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	m.active = map[string]bool{}
	if err := os.RemoveAll(m.path("/run")); err != nil {
		m.t.Fatal(err)
	}
	m.write("/run/mailform-agent.lock", "", 0o600)
	if err := m.DaemonReload(m.t.Context()); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	for u := range m.enabled {
		if strings.HasSuffix(u, ".socket") {
			m.Start(m.t.Context(), u)
		}
	}
	if m.enabled[ServiceUnit] {
		m.Restart(m.t.Context(), ServiceUnit)
	}
}
