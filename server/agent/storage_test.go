package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailform/server/manifest"
)

const gibibyte = 1 << 30

// onDisk asks for the mail to be on the disk "serial-1".
func onDisk() manifest.ConvergeRequest {
	req := wanted()
	req.Manifest.DataDisk = "serial-1"
	return req
}

// acknowledged converges until nobody waits for a first password.
func (m *machine) acknowledged(req manifest.ConvergeRequest) {
	m.t.Helper()
	res := m.mustConverge(req)
	if err := m.agent().PasswordsReceived(m.t.Context(), res.Passwords); err != nil {
		m.t.Fatal(err)
	}
}

// deliver puts mail where the store keeps it.
func (m *machine) deliver(name, text string) {
	m.t.Helper()
	m.write("/var/lib/mailform/store/"+name, text, 0o600)
}

func (m *machine) mail() string {
	m.t.Helper()
	var out []string
	root := m.layout.StoreDir()
	err := walk(root, func(path string, d os.DirEntry) error {
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(root, path)
		out = append(out, rel+"="+string(b))
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func (m *machine) mustBeQuiet(req manifest.ConvergeRequest) {
	m.t.Helper()
	before := m.snapshot()
	res, events, err := m.converge(req)
	if err != nil || res.Changed || len(m.calls) > 0 {
		m.t.Fatalf("a further converge: changed %v, %v, calls %q\n%v", res.Changed, err, m.calls, events)
	}
	if after := m.snapshot(); after != before {
		m.t.Errorf("a further converge touched files:\n%s\n%s", before, after)
	}
	if f := m.observe(); len(f.Service.Drift) > 0 || f.Storage != nil && len(f.Storage.Drift) > 0 {
		m.t.Errorf("drift: %q %+v", f.Service.Drift, f.Storage)
	}
}

func TestDataDiskFromTheBeginning(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.attach(newFakeDisk(t, "serial-1", 20*gibibyte))
	m.install()
	m.acknowledged(onDisk())
	d := m.disks[0]
	if d.at != m.layout.StateDir() {
		t.Fatalf("the disk is mounted at %q", d.at)
	}
	if fileExists(m.layout.MovedStateDir()) || fileExists(m.layout.MovingFile()) {
		t.Error("something is left of a move, though there was nothing to move")
	}
	f := m.observe()
	if s := f.Storage; s == nil || s.Serial != "serial-1" || s.Device != "/dev/vdb" || s.Kind != "ext4" || s.Bytes != 20*gibibyte || !s.Mounted {
		t.Errorf("facts: %+v", s)
	}
	m.mustBeQuiet(onDisk())

	// The machine boots, the disk is there again; without it the service does not run.
	m.deliver("seg-1", "hello")
	m.reboot()
	if !m.active[ServiceUnit] || m.mail() != "seg-1=hello" {
		t.Errorf("after a boot: active %v, mail %q", m.active[ServiceUnit], m.mail())
	}
	m.mustBeQuiet(onDisk())
}

func TestMailMovesToTheDisk(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.install()
	m.acknowledged(wanted())
	m.deliver("seg-1", "one")
	m.deliver("log/seg-2", "two")
	m.attach(newFakeDisk(t, "serial-1", 20*gibibyte))
	mail, passwords := m.mail(), m.read1(m.layout.CredentialsFile())
	res := m.mustConverge(onDisk())
	if got := m.mail(); got != mail || m.disks[0].at != m.layout.StateDir() {
		t.Errorf("mail: %q, want %q; the disk is at %q", got, mail, m.disks[0].at)
	}
	if m.read1(m.layout.CredentialsFile()) != passwords || len(res.Passwords) > 0 {
		t.Error("passwords are not as they were")
	}
	if !fileExists(filepath.Join(m.layout.MovedStateDir(), "store/seg-1")) {
		t.Error("the old copy is gone already")
	}
	if res.Service.Active != "active" {
		t.Errorf("service: %+v", res.Service)
	}
	if res = m.mustConverge(onDisk()); !res.Changed || fileExists(m.layout.MovedStateDir()) {
		t.Error("the converge after it leaves the old copy")
	}
	m.mustBeQuiet(onDisk())
}

func (m *machine) read1(path string) string {
	m.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// killed is what the agent panics with when it is killed: no error is handled any more.
type killed struct{}

// upTo converges until the agent is killed at its at-th moment; where is "" when it
// came to its end.
func (m *machine) upTo(at int, req manifest.ConvergeRequest) (where string) {
	n := 0
	m.before = func(what string) {
		if n++; n == at {
			where = what
			panic(killed{})
		}
	}
	defer func() {
		m.before = nil
		if r := recover(); r != nil && r != (killed{}) {
			panic(r)
		}
	}()
	m.converge(req)
	return where
}

// aboutToMove is a machine with mail and a blank disk.
func aboutToMove(t *testing.T) *machine {
	m := newMachine(t)
	m.install()
	m.acknowledged(wanted())
	m.deliver("seg-1", "one")
	m.attach(newFakeDisk(t, "serial-1", 20*gibibyte))
	return m
}

// The agent is killed, or the machine loses its power, before and after each effect of a
// move. The service never runs without its mail, what it receives in between is not
// lost, and a further converge ends the move.
func TestMoveIsCutOffAnywhere(t *testing.T) {
	t.Parallel()
	points := 0
	m := aboutToMove(t)
	m.before = func(string) { points++ }
	m.mustConverge(onDisk())
	if points < 20 {
		t.Fatalf("only %d moments to be killed at", points)
	}
	t.Logf("%d moments to be killed at", points)
	for at := 1; at <= points; at++ {
		for _, power := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/power cut %v", at, power), func(t *testing.T) {
				t.Parallel()
				m := aboutToMove(t)
				where := m.upTo(at, onDisk())
				if power {
					m.reboot()
				}
				want := "seg-1=one"
				if m.active[ServiceUnit] {
					if got := m.mail(); got != want {
						t.Fatalf("killed at %s: the service runs with %q", where, got)
					}
					m.deliver("seg-2", "two")
					want += " seg-2=two"
				}
				if _, _, err := m.converge(onDisk()); err != nil {
					t.Fatalf("killed at %s: %v", where, err)
				}
				if got := m.mail(); got != want || m.disks[0].at != m.layout.StateDir() || !m.active[ServiceUnit] {
					t.Fatalf("killed at %s: mail %q, want %q; disk at %q", where, got, want, m.disks[0].at)
				}
				m.mustConverge(onDisk())
				m.mustBeQuiet(onDisk())
			})
		}
	}
}

// Between the two halves of the switch there is no StateDir at all.
func TestMoveIsCutOffInTheSwitch(t *testing.T) {
	t.Parallel()
	m := aboutToMove(t)
	for at := 1; !fileExists(m.layout.MovedStateDir()); at++ {
		m = aboutToMove(t)
		if m.upTo(at, onDisk()) == "" {
			t.Fatal("nothing was moved")
		}
	}
	if err := os.RemoveAll(m.layout.StateDir()); err != nil {
		t.Fatal(err)
	}
	m.reboot()
	if m.active[ServiceUnit] {
		t.Error("the service runs without a place for mail")
	}
	if f := m.observe(); f.Owner == nil {
		t.Error("the machine seems to be nobody's")
	}
	m.mustConverge(onDisk())
	if m.mail() != "seg-1=one" || m.disks[0].at != m.layout.StateDir() {
		t.Errorf("mail %q, disk at %q", m.mail(), m.disks[0].at)
	}
}

// A disk that holds something is not touched, and what it holds is named.
func TestDiskThatHoldsSomething(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at    int64
		magic string
		want  string
	}{
		{0, "LUKS\xba\xbe", "LUKS"}, {512, "LABELONE", "LVM"}, {4096, raidMagic, "RAID"}, {4086, "SWAPSPACE2", "swap"}, {0, "XFSB", "xfs"},
		{65536 + 64, "_BHRfS_M", "btrfs"}, {1024 + 56, "\x53\xef", "ext2"}, {512, "EFI PART", "GPT"}, {510, "\x55\xaa", "partition table"},
		{4*gibibyte - 512, "EFI PART", "GPT"}, {4*gibibyte - 65536, raidMagic, "RAID"}, {4*gibibyte - 8192, raidMagic, "RAID"},
		{3, "NTFS    ", "NTFS"}, {70000, "something", "unknown kind"}, {4*gibibyte - 9, "something", "unknown kind"},
	} {
		m := newMachine(t)
		m.install()
		m.acknowledged(wanted())
		d := newFakeDisk(t, "serial-1", 4*gibibyte)
		m.attach(d)
		d.put(t, c.at, []byte(c.magic))
		_, _, err := m.converge(onDisk())
		if ExitCode(err) != manifest.ExitConflict || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "/dev/vdb") {
			t.Errorf("%s: %v", c.want, err)
		}
		if slices.ContainsFunc(m.calls, func(call string) bool { return strings.HasPrefix(call, "mkfs") || strings.HasPrefix(call, "stop") }) {
			t.Errorf("%s: calls %q", c.want, m.calls)
		}
		if !m.active[ServiceUnit] {
			t.Errorf("%s: the service no longer runs", c.want)
		}
	}
}

// Another machine gets the disk: mail and passwords are there.
func TestDiskOutlivesTheMachine(t *testing.T) {
	t.Parallel()
	disk := newFakeDisk(t, "serial-1", 20*gibibyte)
	old := newMachine(t)
	old.attach(disk)
	old.install()
	old.acknowledged(onDisk())
	old.deliver("seg-1", "one")
	passwords := old.read1(old.layout.CredentialsFile())
	old.reboot()
	if err := old.umount(old.layout.StateDir()); err != nil {
		t.Fatal(err)
	}

	m := newMachine(t)
	m.attach(disk)
	m.bare()
	m.mustMount()
	res := m.mustConverge(onDisk())
	if len(res.Passwords) > 0 || m.read1(m.layout.CredentialsFile()) != passwords {
		t.Error("passwords were made anew")
	}
	if m.mail() != "seg-1=one" {
		t.Errorf("mail: %q", m.mail())
	}
	m.mustBeQuiet(onDisk())

	// Somebody else's mail is not taken.
	m.reboot()
	if err := m.umount(m.layout.StateDir()); err != nil {
		t.Fatal(err)
	}
	other := newMachine(t)
	other.attach(disk)
	other.install()
	other.mustConverge(wanted())
	owner := manifest.Owner{Stack: "other", Host: "mx1"}
	if err := writeJSON(filepath.Join(disk.files, "owner.json"), owner, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.converge(onDisk()); ExitCode(err) != manifest.ExitOwned || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("another stack's disk: %v", err)
	}
	if !other.active[ServiceUnit] || disk.at != "" {
		t.Errorf("refused, but the service is active: %v, the disk is at %q", other.active[ServiceUnit], disk.at)
	}
	// Mail on both sides: nobody can say which is right.
	if err := writeJSON(filepath.Join(disk.files, "owner.json"), manifest.Owner{Stack: "acme-mail", Host: "mx1"}, 0o644); err != nil {
		t.Fatal(err)
	}
	other.deliver("seg-9", "nine")
	if _, _, err := other.converge(onDisk()); ExitCode(err) != manifest.ExitConflict || !strings.Contains(err.Error(), "so does") {
		t.Errorf("mail on both: %v", err)
	}
	if !other.active[ServiceUnit] || other.mail() != "seg-9=nine" {
		t.Error("refused, but the service does not go on as before")
	}
}

func TestDiskGrows(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.attach(newFakeDisk(t, "serial-1", 20*gibibyte))
	m.install()
	m.acknowledged(onDisk())
	m.disks[0].resize(t, 40*gibibyte)
	if f := m.observe(); len(f.Storage.Drift) != 1 || !strings.Contains(f.Storage.Drift[0], "20.0 GiB of the 40.0 GiB") {
		t.Errorf("drift: %q", f.Storage.Drift)
	}
	m.mustConverge(onDisk())
	if !slices.Equal(m.calls, []string{"resize2fs"}) {
		t.Errorf("calls: %q", m.calls)
	}
	m.mustBeQuiet(onDisk())
}

func TestDiskIsMissing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.attach(newFakeDisk(t, "serial-2", 20*gibibyte))
	m.install()
	if _, _, err := m.converge(onDisk()); err == nil || !strings.Contains(err.Error(), "vdb (serial-2)") {
		t.Errorf("another disk: %v", err)
	}
	m.mustConverge(wanted())

	// A disk that was in use and is gone: nothing is made anew in its place.
	m = newMachine(t)
	m.attach(newFakeDisk(t, "serial-1", 20*gibibyte))
	m.install()
	m.acknowledged(onDisk())
	m.write("/sys/block/vdb/serial", "\n", 0o644)
	m.reboot()
	m.umount(m.layout.StateDir())
	f := m.observe()
	if f.Storage.Mounted || len(f.Storage.Drift) == 0 || f.Passwords["bob@acme.example"] != "host" || f.Owner == nil {
		t.Errorf("facts: %+v, passwords %v, owner %v", f.Storage, f.Passwords, f.Owner)
	}
	if _, _, err := m.converge(onDisk()); err == nil || m.mail() != "" {
		t.Errorf("converge without the disk: %v", err)
	}
}

func TestDiskIsLeft(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.attach(newFakeDisk(t, "serial-1", 20*gibibyte))
	m.install()
	m.acknowledged(onDisk())
	m.deliver("seg-1", "one")
	m.acknowledged(wanted())
	if m.mail() != "" || m.disks[0].at != "" || !fileExists(filepath.Join(m.disks[0].files, "store/seg-1")) || !m.active[ServiceUnit] {
		t.Errorf("mail %q, disk at %q, active %v", m.mail(), m.disks[0].at, m.active[ServiceUnit])
	}
	m.mustBeQuiet(wanted())

	if _, err := m.agent().Remove(t.Context(), manifest.RemoveRequest{Claim: claim()}); err != nil {
		t.Fatal(err)
	}
}

// A file system that a person has mounted for the mail stays where it is.
func TestForeignMountStays(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.attach(newFakeDisk(t, "serial-1", 20*gibibyte))
	if err := os.MkdirAll(m.layout.StateDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(m.disks[0].files, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.mount(m.disks[0], m.layout.StateDir()); err != nil {
		t.Fatal(err)
	}
	m.install()
	m.acknowledged(wanted())
	m.deliver("seg-1", "one")
	m.mustBeQuiet(wanted())
	if m.disks[0].at != m.layout.StateDir() {
		t.Fatalf("mounted at %q", m.disks[0].at)
	}
	if _, err := m.agent().Remove(t.Context(), manifest.RemoveRequest{Claim: claim()}); err != nil {
		t.Fatal(err)
	}
	if m.disks[0].at != m.layout.StateDir() || m.mail() == "" {
		t.Errorf("mounted at %q, mail %q", m.disks[0].at, m.mail())
	}
	m.write("/usr/local/lib/mailform/.upload-test", "the program", 0o755)
	m.install()
	if _, err := m.agent().Remove(t.Context(), manifest.RemoveRequest{Claim: claim(), Purge: true}); err != nil {
		t.Fatal(err)
	}
	if m.disks[0].at != m.layout.StateDir() || m.mail() != "" || fileExists(m.layout.OwnerFile()) {
		t.Errorf("mounted at %q, mail %q", m.disks[0].at, m.mail())
	}
}

func TestRemoveKeepsTheDisk(t *testing.T) {
	t.Parallel()
	for _, purge := range []bool{false, true} {
		m := newMachine(t)
		m.attach(newFakeDisk(t, "serial-1", 20*gibibyte))
		m.install()
		m.acknowledged(onDisk())
		m.deliver("seg-1", "one")
		out, err := m.agent().Remove(t.Context(), manifest.RemoveRequest{Claim: claim(), Purge: purge})
		if err != nil {
			t.Fatal(err)
		}
		if kept := fileExists(filepath.Join(m.disks[0].files, "store/seg-1")); kept == purge || m.disks[0].at != "" || fileExists(m.layout.StateDir()) {
			t.Errorf("purge %v: mail kept %v, disk at %q, %+v", purge, kept, m.disks[0].at, out)
		}
	}
}

func TestParseMountInfo(t *testing.T) {
	got, err := parseMountInfo(strings.NewReader(`22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
36 22 254:16 / /var/lib/mail\040form rw,noatime master:1 propagate_from:2 - xfs /dev/vdb rw,attr2
broken
`))
	if err != nil || fmt.Sprint(got) != "[{/ ext4 /dev/vda1} {/var/lib/mail form xfs /dev/vdb}]" {
		t.Errorf("%v %v", got, err)
	}
}

func FuzzParseMountInfo(f *testing.F) {
	f.Add("36 22 254:16 / /var/lib/mail\\040form rw - xfs /dev/vdb rw\n")
	f.Add(`\777 - \`)
	f.Fuzz(func(t *testing.T, s string) { parseMountInfo(strings.NewReader(s)) })
}

func FuzzProbe(f *testing.F) {
	f.Add(ext4Superblock("01234567-89ab-cdef-0123-456789abcdef", "mailform", gibibyte), int64(1024), int64(4096))
	f.Add([]byte("XFSB"), int64(0), int64(600))
	f.Add([]byte("EFI PART"), int64(512), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, at, size int64) {
		if at < 0 || at > 1<<20 || size < 0 || size > 1<<22 || len(b) > 1<<16 {
			return
		}
		image := append(make([]byte, at), b...)
		c, err := probe(bytes.NewReader(image), size)
		if err == nil && c.kind == "" && int64(len(image)) <= size && len(bytes.Trim(image, "\x00")) > 0 && size <= blankSpan {
			t.Errorf("%d bytes of something are taken for a blank disk", len(b))
		}
	})
}
