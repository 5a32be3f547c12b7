package agent

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailform/server/manifest"
)

func (m *machine) mount1() (manifest.Mounted, error) {
	m.calls = nil
	return m.agent().Mount(m.t.Context(), manifest.MountRequest{Claim: claim(), Serial: "serial-1"})
}

func (m *machine) mustMount() manifest.Mounted {
	m.t.Helper()
	out, err := m.mount1()
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

const testDirectory = "https://ca.example/dir"

// makeSecrets gives a machine one of each: a certificate, an account, and a key that
// waits with its order.
func (m *machine) makeSecrets() {
	m.t.Helper()
	ctx, a := m.t.Context(), m.agent()
	for _, name := range []string{"mx1", "mx1-2"} {
		csr, err := a.CSR(ctx, manifest.CSRRequest{Claim: claim(), Name: name, Names: []string{"mail.acme.example"}, Key: "ecdsa256"})
		if err != nil {
			m.t.Fatal(err)
		}
		if name != "mx1" {
			continue
		}
		if _, err := a.InstallCert(ctx, manifest.CertRequest{Claim: claim(), Name: name, Chain: sign(m.t, csr, nil, nil), Meta: map[string]string{"directory": testDirectory}}); err != nil {
			m.t.Fatal(err)
		}
	}
	if _, err := a.AccountKey(ctx, manifest.AccountRequest{Claim: claim(), Directory: testDirectory}); err != nil {
		m.t.Fatal(err)
	}
	if _, err := a.Order(ctx, manifest.OrderRequest{Claim: claim(), Name: "mx1-2", Directory: testDirectory, Location: "https://ca.example/order/1"}); err != nil {
		m.t.Fatal(err)
	}
}

// secrets is every key that can be read where it belongs, and what waits beside it.
func (m *machine) secrets() string {
	m.t.Helper()
	var out []string
	for _, dir := range []string{m.layout.DKIMDir(), m.layout.TLSDir(), m.layout.ACMEDir()} {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			m.t.Fatal(err)
		}
		err = walk(real, func(path string, d fs.DirEntry) error {
			if d.IsDir() {
				return nil
			}
			rel, _ := filepath.Rel(real, path)
			if d.Type()&fs.ModeSymlink != 0 {
				target, err := os.Readlink(path)
				out = append(out, rel+" -> "+target)
				return err
			}
			if strings.HasPrefix(filepath.Dir(rel), "acme.example") && strings.HasSuffix(rel, ".json") {
				return nil // when the key signed
			}
			b, err := os.ReadFile(path)
			out = append(out, rel+"="+string(b))
			return err
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	return strings.Join(out, "\n")
}

// privateKeys are all files with a private key on the machine and its disks, none of
// which may ever be readable by others.
func (m *machine) privateKeys() (paths []string) {
	m.t.Helper()
	roots := []string{m.layout.Root}
	for _, d := range m.disks {
		if d.at == "" {
			roots = append(roots, d.files)
		}
	}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(b, []byte("PRIVATE KEY")) {
				return err
			}
			fi, err := d.Info()
			if err == nil && fi.Mode()&0o007 != 0 {
				m.t.Errorf("%s has mode %v", path, fi.Mode())
			}
			paths = append(paths, path)
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			m.t.Fatal(err)
		}
	}
	return paths
}

// keysMustBeIn fails unless the four private keys are below a folder, and nowhere else.
func (m *machine) keysMustBeIn(dir string) {
	m.t.Helper()
	paths := m.privateKeys()
	if len(paths) != 4 || slices.ContainsFunc(paths, func(p string) bool { return !strings.HasPrefix(p, dir+"/") }) {
		m.t.Errorf("private keys are in %q, want four below %s", paths, dir)
	}
	for _, k := range m.agent().keyDirs() {
		if _, err := os.Lstat(k.aside()); err == nil {
			m.t.Errorf("%s is left", k.aside())
		}
	}
	if fileExists(m.layout.KeysMovingFile()) {
		m.t.Error("keys seem to be on their way")
	}
}

// withKeys is a machine that serves with its keys on the system disk, and has a blank disk.
func withKeys(t *testing.T) *machine {
	m := newMachine(t)
	m.install()
	m.makeSecrets()
	m.acknowledged(wanted())
	m.attach(newFakeDisk(t, "serial-1", 20*gibibyte))
	return m
}

// replaced is a new machine with the disk of a machine that served from it.
func replaced(t *testing.T) (m *machine, secrets string) {
	old := newMachine(t)
	disk := newFakeDisk(t, "serial-1", 20*gibibyte)
	old.attach(disk)
	old.bare()
	old.mustMount()
	old.makeKeys()
	old.makeSecrets()
	old.acknowledged(onDisk())
	old.deliver("seg-1", "one")
	secrets = old.secrets()
	old.keysMustBeIn(old.layout.KeysDir())
	old.mustBeQuiet(onDisk())
	old.reboot()
	if err := old.umount(old.layout.StateDir()); err != nil {
		t.Fatal(err)
	}
	m = newMachine(t)
	m.attach(disk)
	m.bare()
	return m, secrets
}

// The next machine signs with the same keys, serves the same certificate, has the same
// account at the CA and continues its order.
func TestKeysOutliveTheMachine(t *testing.T) {
	t.Parallel()
	m, secrets := replaced(t)
	out := m.mustMount()
	if len(out.DKIM) != 1 || out.DKIM[0].Selector != "mf1-ed25519" || len(out.Certificates) != 1 || !out.Certificates[0].OnDisk || !out.Storage.Keys || !out.Storage.Mounted {
		t.Errorf("mounted: %+v", out)
	}
	if f := m.observe(); f.Storage == nil || !f.Storage.Keys || len(f.Storage.Drift) > 0 || len(f.DKIM) != 1 || f.Manifest != nil {
		t.Errorf("before the first converge: %+v, %+v", f.Storage, f.DKIM)
	}
	m.makeKeys() // asks for them
	if _, err := m.agent().AccountKey(t.Context(), manifest.AccountRequest{Claim: claim(), Directory: testDirectory}); err != nil {
		t.Fatal(err)
	}
	if o, err := m.agent().Order(t.Context(), manifest.OrderRequest{Claim: claim(), Name: "mx1-2", Directory: testDirectory}); err != nil || o.Location == "" {
		t.Errorf("order: %+v %v", o, err)
	}
	if got := m.secrets(); got != secrets {
		t.Errorf("the keys are others:\n%s\n%s", got, secrets)
	}
	m.acknowledged(onDisk())
	m.keysMustBeIn(m.layout.KeysDir())
	m.mustBeQuiet(onDisk())
}

// Keys move to a disk that comes later, and stay there.
func TestKeysMoveToTheDisk(t *testing.T) {
	t.Parallel()
	m := withKeys(t)
	secrets := m.secrets()
	m.mustConverge(onDisk())
	m.mustConverge(onDisk())
	if got := m.secrets(); got != secrets {
		t.Errorf("the keys are others:\n%s\n%s", got, secrets)
	}
	m.keysMustBeIn(m.layout.KeysDir())
	m.mustBeQuiet(onDisk())
	m.reboot()
	if !m.active[ServiceUnit] || m.secrets() != secrets {
		t.Error("after a boot the keys are not there")
	}
	m.mustBeQuiet(onDisk())
}

// A disk that an earlier version has filled holds no keys yet.
func TestKeysFollowTheMail(t *testing.T) {
	t.Parallel()
	m := withKeys(t)
	secrets := m.secrets()
	m.mustConverge(onDisk())
	m.mustConverge(onDisk())
	for _, k := range m.agent().keyDirs() { // as it was then
		if err := os.Remove(k.path); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(k.kept(), k.path); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{m.layout.KeysDir(), m.layout.KeptFile(), m.layout.StorageFile()} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if f := m.observe(); f.Storage.Keys || !slices.Contains(f.Storage.Drift, "the keys are not on the data disk") {
		t.Errorf("facts: %+v", f.Storage)
	}
	m.mustConverge(onDisk())
	if slices.ContainsFunc(m.calls, func(c string) bool { return strings.HasPrefix(c, "stop") }) {
		t.Errorf("mail stopped for it: %q", m.calls)
	}
	if m.secrets() != secrets {
		t.Error("the keys are others")
	}
	m.keysMustBeIn(m.layout.KeysDir())
	m.mustBeQuiet(onDisk())
}

// The agent is killed, or the machine loses its power, before each effect of a move of
// keys, to a disk, back from it, and to a machine that finds them on it. At no time is
// a key missing where the service looks for it, and a further converge ends the move
// with one copy of each.
func TestMoveOfKeysIsCutOffAnywhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		begin func(*testing.T) (*machine, string)
		move  manifest.ConvergeRequest
		mount bool
		at    func(*machine) string // where the keys are in the end
	}{
		{"to the disk", func(t *testing.T) (*machine, string) { m := withKeys(t); return m, m.secrets() },
			onDisk(), false, func(m *machine) string { return m.layout.KeysDir() }},
		{"back", func(t *testing.T) (*machine, string) {
			m := withKeys(t)
			m.mustConverge(onDisk())
			m.mustConverge(onDisk())
			return m, m.secrets()
		}, wanted(), false, func(m *machine) string { return m.layout.ConfigDir() }},
		{"found", replaced, onDisk(), true, func(m *machine) string { return m.layout.KeysDir() }},
	} {
		run := func(m *machine) error {
			if c.mount {
				if _, err := m.mount1(); err != nil {
					return err
				}
			}
			_, _, err := m.converge(c.move)
			return err
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			points := 0
			m, _ := c.begin(t)
			m.moving = func(string) { points++ }
			if err := run(m); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d moments to be killed at", points)
			for at := 1; at <= points; at++ {
				// The three folders go through the same; each moment is met both ways.
				power := (at+at/10)%2 == 0
				t.Run(fmt.Sprintf("%d/power cut %v", at, power), func(t *testing.T) {
					t.Parallel()
					m, secrets := c.begin(t)
					where := m.killedAt(at, func() { run(m) })
					m.privateKeys()
					if power {
						m.reboot()
					}
					if m.active[ServiceUnit] && m.secrets() != secrets {
						t.Fatalf("killed at %s: the service runs with other keys:\n%s", where, m.secrets())
					}
					f := m.observe()
					if known := len(f.DKIM) == 1 && len(f.Certificates) == 1; !known && !c.mount {
						t.Fatalf("killed at %s: the keys seem to be gone: %+v", where, f)
					}
					for range 2 {
						if err := run(m); err != nil {
							t.Fatalf("killed at %s: %v", where, err)
						}
					}
					if got := m.secrets(); got != secrets || !m.active[ServiceUnit] {
						t.Fatalf("killed at %s: the keys are others:\n%s\n%s", where, got, secrets)
					}
					m.keysMustBeIn(c.at(m))
				})
			}
		})
	}
}

// killedAt runs something until the agent is killed at its at-th moment.
func (m *machine) killedAt(at int, run func()) (where string) {
	n := 0
	m.moving = func(what string) {
		if n++; n == at {
			where = what
			panic(killed{})
		}
	}
	defer func() {
		m.moving = nil
		if r := recover(); r != nil && r != (killed{}) {
			panic(r)
		}
	}()
	run()
	return where
}

// While the disk is away its keys are known and none are made in their place.
func TestKeysAreAway(t *testing.T) {
	t.Parallel()
	m := withKeys(t)
	secrets := m.secrets()
	m.acknowledged(onDisk())
	m.mustConverge(onDisk())
	known := m.observe()
	serial := m.disks[0].serial
	m.write("/sys/block/vdb/serial", "\n", 0o644)
	m.reboot()
	m.umount(m.layout.StateDir())
	f := m.observe()
	if fmt.Sprint(f.DKIM) != fmt.Sprint(known.DKIM) || fmt.Sprint(f.Certificates) != fmt.Sprint(known.Certificates) || f.Storage.Mounted || !f.Storage.Keys {
		t.Errorf("known while they are away: %+v %+v %+v", f.DKIM, f.Certificates, f.Storage)
	}
	ctx, a := t.Context(), m.agent()
	_, keys := a.Keys(ctx, manifest.KeysRequest{Claim: claim(), Keys: []manifest.DKIMWanted{{Domain: "acme.example", Selector: "mf1-ed25519", Algorithm: "ed25519"}}})
	_, csr := a.CSR(ctx, manifest.CSRRequest{Claim: claim(), Name: "mx1", Names: []string{"mail.acme.example"}, Key: "ecdsa256"})
	_, account := a.AccountKey(ctx, manifest.AccountRequest{Claim: claim(), Directory: testDirectory})
	_, order := a.Order(ctx, manifest.OrderRequest{Claim: claim(), Name: "mx1", Directory: testDirectory})
	_, cert := a.RemoveCert(ctx, manifest.CertRemoval{Claim: claim(), Name: "mx1-2"})
	_, _, converge := m.converge(onDisk())
	_, _, leave := m.converge(wanted())
	for what, err := range map[string]error{"keys": keys, "csr": csr, "account": account, "order": order, "cert": cert, "converge": converge, "leave": leave} {
		if err == nil || !strings.Contains(err.Error(), "serial-1") {
			t.Errorf("%s while the keys are away: %v", what, err)
		}
	}
	if !strings.Contains(leave.Error(), "delete the links") {
		t.Errorf("who gives up a disk that is gone is told: %v", leave)
	}
	m.bare() // a new version can be installed all the same
	if fileExists(m.layout.KeysDir()) {
		t.Error("keys are made below the place of the disk")
	}
	m.write("/sys/block/vdb/serial", serial+"\n", 0o644)
	m.mustConverge(onDisk())
	if m.secrets() != secrets || !m.active[ServiceUnit] {
		t.Error("the keys are not back with their disk")
	}
	m.keysMustBeIn(m.layout.KeysDir())
	m.mustBeQuiet(onDisk())
}

// Nobody can say which keys are right when the disk brings others than the machine has.
func TestOtherKeysOnTheDisk(t *testing.T) {
	t.Parallel()
	m, _ := replaced(t)
	m.makeKeys()
	have := m.read1(m.layout.DKIMKey("acme.example", "mf1-ed25519"))
	if _, err := m.mount1(); ExitCode(err) != manifest.ExitConflict || !strings.Contains(err.Error(), "it holds keys of this host") {
		t.Fatalf("other keys on both sides: %v", err)
	}
	if m.disks[0].at != "" || m.read1(m.layout.DKIMKey("acme.example", "mf1-ed25519")) != have {
		t.Error("refused, but something is different")
	}
	if err := os.RemoveAll(filepath.Join(m.layout.DKIMDir(), "acme.example")); err != nil {
		t.Fatal(err)
	}
	m.mustMount()
}

// A link of somebody else's is not followed.
func TestForeignLinkToKeys(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.bare()
	if err := os.Remove(m.layout.DKIMDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/srv/keys", m.layout.DKIMDir()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.agent().Keys(t.Context(), manifest.KeysRequest{Claim: claim()}); ExitCode(err) != manifest.ExitConflict {
		t.Errorf("somebody else's link: %v", err)
	}
}

// What cannot be read any more on a disk that was in use is damage: nothing is made
// in its place.
func TestDamagedDiskIsNotBlank(t *testing.T) {
	t.Parallel()
	m := withKeys(t)
	m.acknowledged(onDisk())
	m.deliver("seg-1", "one")
	m.reboot()
	m.umount(m.layout.StateDir())
	m.disks[0].put(t, 1024, bytes.Repeat([]byte("x"), 1024)) // where the superblock was
	_, _, err := m.converge(onDisk())
	if ExitCode(err) != manifest.ExitConflict || slices.Contains(m.calls, "mkfs.ext4") {
		t.Errorf("%v, calls %q", err, m.calls)
	}
}

// Access on the disk of a machine on which the service's group had another number.
func TestKeysAreSecured(t *testing.T) {
	t.Parallel()
	m, _ := replaced(t)
	for _, path := range []string{"dkim", "dkim/acme.example", "dkim/acme.example/mf1-ed25519.pem", "tls/.pending/mx1-2.pem", "acme"} {
		if err := os.Chmod(filepath.Join(m.disks[0].files, "keys", path), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(m.disks[0].files, "credentials.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.mustMount()
	m.mustConverge(onDisk())
	for path, want := range map[string]fs.FileMode{
		"../credentials.json": 0o640, "dkim": 0o750, "dkim/acme.example": 0o750, "dkim/acme.example/mf1-ed25519.pem": 0o640, "tls/.pending/mx1-2.pem": 0o600, "tls/.pending": 0o700, "acme": 0o700,
	} {
		if fi, err := os.Stat(filepath.Join(m.layout.KeysDir(), path)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", path, fi.Mode(), err, want)
		}
	}
	m.privateKeys()
}

// Whoever takes mailform off a machine by hand finds keys and mail on the disk, or
// with a purge neither.
func TestRemoveLeavesKeysOnTheDisk(t *testing.T) {
	t.Parallel()
	for _, purge := range []bool{false, true} {
		m := withKeys(t)
		m.acknowledged(onDisk())
		m.mustConverge(onDisk())
		m.deliver("seg-1", "one")
		if _, err := m.agent().Remove(t.Context(), manifest.RemoveRequest{Claim: claim(), Purge: purge}); err != nil {
			t.Fatal(err)
		}
		paths := m.privateKeys()
		if want := map[bool]int{false: 4}[purge]; len(paths) != want || slices.ContainsFunc(paths, func(p string) bool { return !strings.HasPrefix(p, m.disks[0].files) }) {
			t.Errorf("purge %v: keys in %q", purge, paths)
		}
	}
}
