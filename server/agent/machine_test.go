package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
)

// machine is a host in a temporary folder with a service manager and a daemon
// that live in memory.
type machine struct {
	t      *testing.T
	layout manifest.Layout
	now    time.Time
	calls  []string // what systemd was asked to change
	starts int      // of the service since it was last reset
	purged []string // whose mail the daemon says it has deleted
	stuck  bool     // erasing is not clean

	system  []string // units of the system's own
	loaded  map[string]bool
	active  map[string]bool
	enabled map[string]bool
	reload  map[string]bool // NeedDaemonReload
	serving string          // manifest the daemon has read
	exe     string          // what the service runs
	sick    bool            // the daemon never becomes ready
	poison  string          // the content of a version that never becomes ready
	deaf    int             // a port that does not answer

	sshReads   string           // our part of what the SSH server has read
	sshRefuses string           // a line that sshd -t refuses
	table      string           // what nft has loaded for us
	banned     map[string]int64 // nil: the table of bans is not loaded
	lifted     []string         // what the daemon was told to forget
	withoutNFT bool
	disks      []*fakeDisk
	tools      Tools        // nil: those of fakeDisk
	real       string       // a device that the mount unit really mounts
	before     func(string) // called before, and after, each effect outside the agent
	moving     func(string) // called before each effect of a move of keys
	hashed     int
}

func newMachine(t *testing.T) *machine {
	m := &machine{
		t: t, layout: manifest.Layout{Root: t.TempDir()}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		loaded: map[string]bool{}, active: map[string]bool{}, enabled: map[string]bool{}, reload: map[string]bool{},
	}
	m.write("/usr/local/lib/mailform/.upload-test", "the program", 0o755)
	m.write("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n", 0o644)
	return m
}

func (m *machine) path(p string) string { return filepath.Join(m.layout.Root, p) }

func (m *machine) write(p, text string, mode os.FileMode) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(p)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(p), []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) agent() *Agent {
	a := New(Config{
		Layout: m.layout, Version: "1.0", Executable: m.path("/usr/local/lib/mailform/.upload-test"),
		Systemd: m, Tools: m, Daemon: daemon{m}, Prober: m,
		NewPassword: func() (string, error) { m.hashed++; return fmt.Sprintf("first-password-%d", m.hashed), nil },
		// The text must not be found in the hash, or the search for leaks would find it there.
		SCRAMKeys:    func(p string) (string, error) { return "SCRAM-SHA-256$" + manifest.SHA256([]byte(p)), nil },
		HashPassword: func(p string) (string, error) { return "$argon2id$" + manifest.SHA256([]byte(p)), nil },
		Rand:         rand.Reader,
		Now:          func() time.Time { return m.now },
		Sleep:        func(_ context.Context, d time.Duration) error { m.now = m.now.Add(d); return nil },
	})
	if m.moving != nil {
		a.effect = m.moving
	}
	return a
}

func (m *machine) Available(context.Context) error { return nil }
func (m *machine) Sysusers(_ context.Context, file string) error {
	m.calls = append(m.calls, "sysusers")
	if text, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(text), "g ") {
		m.write("/etc/group", fmt.Sprintf("mailform:x:%s:\n", strings.Fields(string(text))[2]), 0o644)
		return nil
	}
	if accountLine(m.layout.PasswdFile(), User) != nil {
		return nil
	}
	m.write("/etc/passwd", fmt.Sprintf("root:x:0:0::/:\nmailform:x:%d:%d:mailform mail server:/var/lib/mailform:/usr/sbin/nologin\n", os.Getuid(), os.Getgid()), 0o644)
	m.write("/etc/group", fmt.Sprintf("mailform:x:%d:\n", os.Getgid()), 0o644)
	_, err := os.Stat(file)
	return err
}
func (m *machine) RemoveUser(_ context.Context, user string) error {
	m.calls = append(m.calls, "userdel "+user)
	m.write("/etc/passwd", "root:x:0:0::/:\n", 0o644)
	m.write("/etc/group", "", 0o644)
	return nil
}
func (m *machine) DaemonReload(context.Context) error {
	m.calls = append(m.calls, "daemon-reload")
	m.point("daemon-reload")
	defer m.point("daemon-reload")
	entries, err := os.ReadDir(m.layout.UnitDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	m.loaded = map[string]bool{}
	for _, e := range entries {
		m.loaded[e.Name()] = true
	}
	for _, u := range m.system {
		m.loaded[u] = true
	}
	return nil
}
func (m *machine) each(verb string, units []string, do func(string) error) error {
	m.calls = append(m.calls, verb+" "+strings.Join(units, " "))
	m.point(verb)
	defer m.point(verb)
	for _, u := range units {
		if !m.loaded[u] && verb != "disable" { // which only looks at files
			return fmt.Errorf("unit %s not found", u)
		}
		if (verb == "start" || verb == "restart") && u != MountUnit && fileExists(m.layout.MovingFile()) {
			continue // its condition is not met, which is no failure
		}
		if err := do(u); err != nil {
			return err
		}
	}
	return nil
}
func (m *machine) Enable(_ context.Context, units ...string) error {
	return m.each("enable", units, func(u string) error { m.enabled[u] = true; return nil })
}
func (m *machine) Disable(_ context.Context, units ...string) error {
	return m.each("disable", units, func(u string) error { delete(m.enabled, u); return nil })
}
func (m *machine) Start(_ context.Context, units ...string) error {
	return m.each("start", units, func(u string) error {
		if strings.HasSuffix(u, ".socket") && m.active[ServiceUnit] {
			return errors.New("socket service already active, refusing")
		}
		m.active[u] = true
		if u == MountUnit {
			return m.startMount()
		}
		return nil
	})
}
func (m *machine) Stop(_ context.Context, units ...string) error {
	return m.each("stop", units, func(u string) error {
		delete(m.active, u)
		if u == MountUnit {
			return m.umount(m.layout.StateDir())
		}
		return nil
	})
}

func (m *machine) Restart(_ context.Context, units ...string) error {
	return m.each("restart", units, func(u string) error {
		m.active[u] = true
		if u != ServiceUnit {
			return nil
		}
		if m.starts++; m.starts > 10 { // as the unit says it
			m.active = map[string]bool{}
			return errors.New("start request repeated too quickly")
		}
		if err := m.startMount(); err != nil {
			delete(m.active, u)
			return err
		}
		var err error
		if m.exe, err = filepath.EvalSymlinks(m.layout.ActiveBinary()); err != nil || m.sick {
			return err
		}
		program, err := os.ReadFile(m.exe)
		if err != nil {
			return err
		}
		if m.poison != "" && string(program) == m.poison {
			delete(m.active, u)
			return errors.New("Job for mailformd.service failed")
		}
		return m.read()
	})
}
func (m *machine) Units(_ context.Context, units ...string) ([]UnitState, error) {
	var out []UnitState
	for _, u := range units {
		s := UnitState{LoadState: "not-found", ActiveState: "inactive", UnitFileState: "disabled", NeedDaemonReload: m.reload[u]}
		if m.loaded[u] {
			s.LoadState = "loaded"
		}
		if m.active[u] {
			s.ActiveState = "active"
			if u == ServiceUnit {
				s.MainExe = m.exe
			}
		}
		if m.enabled[u] {
			s.UnitFileState = "enabled"
		}
		out = append(out, s)
	}
	return out, nil
}
func (m *machine) Reload(_ context.Context, unit string) error {
	m.calls = append(m.calls, "reload "+unit)
	m.point("reload")
	defer m.point("reload")
	b, err := os.ReadFile(m.layout.SSHDropIn())
	m.sshReads = string(b)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
func (m *machine) ResetFailed(context.Context, ...string) error {
	m.starts = 0
	return nil
}
func (m *machine) Listening(_ context.Context, unit string) ([]string, error) {
	if !m.active[unit] {
		return nil, nil
	}
	return []string{unit}, nil
}
func (m *machine) Probe(_ context.Context, s manifest.ServicePort, addr, _ string) error {
	if s.Port == m.deaf || addr != SocketUnit(s) || m.exe == "" {
		return errors.New("connection reset")
	}
	return nil
}
func (m *machine) Log(context.Context, string, int) string { return "panic: out of stamps" }

func (m *machine) read() error {
	b, err := os.ReadFile(m.layout.ManifestFile())
	m.serving = manifest.SHA256(b)
	return err
}

type daemon struct{ m *machine }

func (d daemon) Status(context.Context) (manifest.Status, error) {
	if !d.m.active[ServiceUnit] || d.m.sick {
		return manifest.Status{}, errors.New("connection refused")
	}
	return manifest.Status{ManifestSHA256: d.m.serving, Purged: d.m.purged}, nil
}

func (d daemon) Look(ctx context.Context) (manifest.Status, error) {
	d.m.calls = append(d.m.calls, "look")
	return d.Status(ctx)
}

func (d daemon) Lift(_ context.Context, a netip.Addr) error {
	d.m.lifted = append(d.m.lifted, a.String())
	return nil
}

func (d daemon) Erase(_ context.Context, address string) (manifest.Erased, error) {
	d.m.calls = append(d.m.calls, "erase "+address)
	return manifest.Erased{Account: address, Clean: !d.m.stuck}, nil
}

func (d daemon) Reload(ctx context.Context) (manifest.Status, error) {
	d.m.calls = append(d.m.calls, "reload")
	if err := d.m.read(); err != nil {
		return manifest.Status{}, err
	}
	return d.Status(ctx)
}

func claim() manifest.Claim {
	return manifest.Claim{Stack: "acme-mail", Host: "mx1", Actor: "alice@laptop"}
}

func wanted() manifest.ConvergeRequest {
	return manifest.ConvergeRequest{Claim: claim(), Manifest: manifest.Manifest{
		Format: manifest.Format, Stack: "acme-mail", Host: "mx1", Hostname: "mail.acme.example", MaxMessageBytes: 50 << 20,
		Relay: &manifest.Relay{Host: "relay.example", Port: 587, Username: "u", Password: "canary-relay"},
		Domains: []manifest.Domain{{
			Name: "acme.example", DKIM: []manifest.DKIMKey{{Selector: "mf1-ed25519", Algorithm: "ed25519"}},
			Mailboxes: []manifest.Mailbox{{Local: "alice", PasswordHash: "$argon2id$canary-alice"}, {Local: "bob"}},
		}},
	}}
}

func (m *machine) install() {
	m.t.Helper()
	m.bare()
	m.makeKeys()
}

// bare is a machine with nothing but the program.
func (m *machine) bare() {
	m.t.Helper()
	a := m.agent()
	sum, err := fileSHA256(a.Executable)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := a.Install(context.Background(), manifest.InstallRequest{Claim: claim(), SHA256: sum}); err != nil {
		m.t.Fatal(err)
	}
	m.write("/usr/local/lib/mailform/.upload-test", "the program", 0o755) // the next agent() runs from here
}

// makeKeys asks for the signing key that wanted names.
func (m *machine) makeKeys() {
	m.t.Helper()
	if _, err := m.agent().Keys(context.Background(), manifest.KeysRequest{Claim: claim(), Keys: []manifest.DKIMWanted{{Domain: "acme.example", Selector: "mf1-ed25519", Algorithm: "ed25519"}}}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) converge(req manifest.ConvergeRequest) (manifest.ConvergeResult, []manifest.AgentEvent, error) {
	var events []manifest.AgentEvent
	m.calls = nil
	res, err := m.agent().Converge(context.Background(), req, func(e manifest.AgentEvent) { events = append(events, e) })
	return res, events, err
}

func (m *machine) mustConverge(req manifest.ConvergeRequest) manifest.ConvergeResult {
	m.t.Helper()
	res, _, err := m.converge(req)
	if err != nil {
		m.t.Fatal(err)
	}
	return res
}

func (m *machine) confirm(id string) {
	m.t.Helper()
	if _, err := m.agent().Confirm(context.Background(), manifest.TrialRequest{Claim: claim(), Trial: id}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) observe() *manifest.Facts {
	m.t.Helper()
	f, err := m.agent().Observe(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

// snapshot lists every file with its mode, time and size.
func (m *machine) snapshot() string {
	m.t.Helper()
	var b strings.Builder
	err := filepath.Walk(m.layout.Root, func(p string, fi os.FileInfo, err error) error {
		if err == nil && !strings.HasSuffix(p, "agent.lock") {
			fmt.Fprintln(&b, p, fi.Mode(), fi.ModTime().UnixNano(), fi.Size())
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return b.String()
}
