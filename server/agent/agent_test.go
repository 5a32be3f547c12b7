package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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

func TestConvergeTwice(t *testing.T) {
	m := newMachine(t)
	m.install()
	res, events, err := m.converge(wanted())
	if err != nil {
		t.Fatal(err)
	}
	if !res.Changed || len(res.Passwords) != 1 || res.Passwords["bob@acme.example"] == "" {
		t.Fatalf("first converge: %+v", res)
	}
	if got := res.Service; got.Active != "active" || !got.Enabled || !slices.Equal(got.Ports, []int{25, 143, 465, 587, 993}) {
		t.Errorf("service: %+v", got)
	}
	if text := fmt.Sprint(events); strings.Contains(text, "canary") || strings.Contains(text, "first-password") {
		t.Errorf("a secret stands in the events: %s", text)
	}
	if err := m.agent().PasswordsReceived(context.Background(), res.Passwords); err != nil {
		t.Fatal(err)
	}

	before := m.snapshot()
	res, events, err = m.converge(wanted())
	if err != nil || res.Changed || len(res.Passwords) != 0 || len(m.calls) != 0 {
		t.Fatalf("second converge: %+v, %v, systemd was asked %q\n%v", res, err, m.calls, events)
	}
	if after := m.snapshot(); after != before {
		t.Errorf("the second converge touched files:\n%s\n%s", before, after)
	}
	f := m.observe()
	if len(f.Service.Drift) != 0 {
		t.Errorf("drift after converge: %q", f.Service.Drift)
	}
	if got := f.Passwords; got["alice@acme.example"] != manifest.Fingerprint("$argon2id$canary-alice") || got["bob@acme.example"] != "host" {
		t.Errorf("passwords: %v", got)
	}
	text, err := manifest.Encode(f)
	if err != nil || strings.Contains(string(text), "canary") || strings.Contains(string(text), "PRIVATE") {
		t.Errorf("facts hold a secret: %v\n%s", err, text)
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

func TestUnseenPasswordIsMadeAgain(t *testing.T) {
	m := newMachine(t)
	m.install()
	first := m.mustConverge(wanted()).Passwords["bob@acme.example"]
	// The connection broke before the password arrived.
	if got := m.observe().Passwords["bob@acme.example"]; got != "host, not shown" {
		t.Fatalf("password of bob: %q", got)
	}
	second := m.mustConverge(wanted()).Passwords["bob@acme.example"]
	if second == "" || second == first {
		t.Errorf("first %q, then %q", first, second)
	}
}

func TestRemovedMailboxIsRetained(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	without := wanted()
	without.Manifest.Domains[0].Mailboxes = without.Manifest.Domains[0].Mailboxes[:1]
	m.mustConverge(without)
	if !slices.Contains(m.calls, "reload") {
		t.Errorf("the daemon was not told: %q", m.calls)
	}
	f := m.observe()
	if len(f.Retained) != 1 || f.Retained[0].Address != "bob@acme.example" || !f.Retained[0].Since.Equal(m.now) {
		t.Fatalf("retained: %+v", f.Retained)
	}
	m.mustConverge(wanted())
	if f := m.observe(); len(f.Retained) != 0 {
		t.Errorf("still retained: %+v", f.Retained)
	}
}

func TestSecretsThatTheSenderDoesNotKnow(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	keep := wanted()
	keep.Manifest.Relay.Password = ""
	keep.Manifest.Domains[0].Mailboxes[0].PasswordHash = ""
	keep.KeepRelayPassword = manifest.Fingerprint("canary-relay")
	keep.KeepPasswords = map[string]string{"alice@acme.example": manifest.Fingerprint("$argon2id$canary-alice")}
	if err := m.agent().PasswordsReceived(context.Background(), map[string]string{"bob@acme.example": ""}); err != nil {
		t.Fatal(err)
	}
	if res := m.mustConverge(keep); res.Changed {
		t.Error("kept secrets changed the manifest")
	}
	keep.KeepPasswords["alice@acme.example"] = "0123"
	if _, _, err := m.converge(keep); ExitCode(err) != manifest.ExitRequest {
		t.Errorf("an unknown fingerprint was accepted: %v", err)
	}
}

func TestForeignFilesAreConflicts(t *testing.T) {
	for _, path := range []string{
		"/etc/systemd/system/mailformd.service", "/etc/systemd/system/mailformd-smtp.socket",
		"/etc/systemd/system/mailformd-imaps.socket", "/usr/local/sbin/mailformd", "/etc/mailform/manifest.json", "/var/lib/mailform/x",
	} {
		m := newMachine(t)
		m.write(path, "somebody else's\n", 0o600)
		_, _, err := m.converge(wanted())
		if ExitCode(err) != manifest.ExitConflict && !strings.Contains(path, "systemd/system") {
			t.Errorf("%s: %v", path, err)
		}
		if strings.Contains(path, "systemd/system") {
			m.install()
			before := m.snapshot()
			_, _, err = m.converge(wanted())
			if ExitCode(err) != manifest.ExitConflict || m.snapshot() != before {
				t.Errorf("%s: %v", path, err)
			}
		}
		if err == nil || !strings.Contains(err.Error(), m.path(path)) {
			t.Errorf("%s is not named: %v", path, err)
		}
		if b, _ := os.ReadFile(m.path(path)); string(b) != "somebody else's\n" {
			t.Errorf("%s was overwritten", path)
		}
	}
}

func TestForeignSysusersFile(t *testing.T) {
	m := newMachine(t)
	m.write("/etc/sysusers.d/mailform.conf", "u mailform 77\n", 0o644)
	a := m.agent()
	sum, err := fileSHA256(a.Executable)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Install(context.Background(), manifest.InstallRequest{Claim: claim(), SHA256: sum})
	if ExitCode(err) != manifest.ExitConflict || !strings.Contains(err.Error(), "/etc/sysusers.d/mailform.conf") {
		t.Errorf("got %v", err)
	}
}

func TestNewVersionRestartsTheService(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	m.write("/usr/local/lib/mailform/.upload-test", "the next program", 0o755)
	m.install()
	if f := m.observe(); f.Service.BinarySHA256 == "" || f.Service.BinarySHA256 == m.agent().installedVersion() {
		t.Errorf("the old version is not seen to run: %+v", f.Service)
	}
	res := m.mustConverge(wanted())
	if !slices.Contains(m.calls, "restart "+ServiceUnit) {
		t.Errorf("systemd was asked %q", m.calls)
	}
	m.confirm(res.Trial)
	if f := m.observe(); f.Service.BinarySHA256 != m.agent().installedVersion() {
		t.Errorf("the new version does not run: %+v", f.Service)
	}
	entries, err := os.ReadDir(m.layout.VersionsDir())
	if err != nil || len(entries) != 4 { // the upload, the new one, the one before, the link
		t.Errorf("versions: %v %v", entries, err)
	}
}

func TestOwnerAndFencing(t *testing.T) {
	m := newMachine(t)
	m.install()
	req := wanted()
	req.Epoch = 7
	m.mustConverge(req)

	other := wanted()
	other.Stack, other.Manifest.Stack = "rival", "rival"
	if _, _, err := m.converge(other); ExitCode(err) != manifest.ExitOwned || !strings.Contains(err.Error(), "acme-mail") {
		t.Errorf("another stack: %v", err)
	}
	late := wanted()
	late.Epoch = 6
	if _, _, err := m.converge(late); ExitCode(err) != manifest.ExitFenced {
		t.Errorf("a lower epoch: %v", err)
	}
	if res := m.mustConverge(req); res.Service.Active != "active" {
		t.Error("the same epoch was refused")
	}
}

func TestDriftIsSeenAndMended(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	for name, spoil := range map[string]func(){
		"mailformd.service its content differs":  func() { m.write("/etc/systemd/system/mailformd.service", Header+"[Service]\n", 0o644) },
		"mailformd.service is inactive":          func() { delete(m.active, ServiceUnit) },
		"mailformd-imaps.socket does not listen": func() { delete(m.active, "mailformd-imaps.socket") },
		"mailformd.service is not enabled":       func() { delete(m.enabled, ServiceUnit) },
		"does not serve the manifest on disk":    func() { m.serving = "" },
		"mode is 0777, not 0750":                 func() { os.Chmod(m.path("/etc/mailform"), 0o777) },
	} {
		spoil()
		drift := strings.Join(m.observe().Service.Drift, "\n")
		if !strings.Contains(drift, name) {
			t.Errorf("drift %q does not say %q", drift, name)
		}
		res := m.mustConverge(wanted())
		if !res.Changed {
			t.Errorf("%s: converge changed nothing", name)
		}
		if res.Trial != "" {
			m.confirm(res.Trial)
		}
		if drift := m.observe().Service.Drift; len(drift) != 0 {
			t.Errorf("%s: still there after converge: %q", name, drift)
		}
	}
}

func TestUnhealthyServiceIsReported(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.sick = true
	_, _, err := m.converge(wanted())
	if ExitCode(err) != manifest.ExitUnhealthy || !strings.Contains(err.Error(), "out of stamps") {
		t.Fatalf("got %v", err)
	}
	m.sick = false
	if err := m.read(); err != nil {
		t.Fatal(err)
	}
	m.mustConverge(wanted())
}

func TestDryRunChangesNothing(t *testing.T) {
	m := newMachine(t)
	m.install()
	before := m.snapshot()
	req := wanted()
	req.DryRun = true
	res, events, err := m.converge(req)
	if err != nil || !res.Changed || len(events) == 0 || len(m.calls) != 0 {
		t.Errorf("%+v %v %v %q", res, events, err, m.calls)
	}
	if m.snapshot() != before {
		t.Error("a dry run touched files")
	}
}

// After a removal that kept the mail nobody knows the last epoch but the owner mark.
func TestComingBackUnderAnyEpoch(t *testing.T) {
	m := newMachine(t)
	m.write("/var/lib/mailform/owner.json", `{"stack":"acme-mail","host":"mx1","epoch":7}`, 0o644)
	a := m.agent()
	sum, err := fileSHA256(a.Executable)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Install(context.Background(), manifest.InstallRequest{Claim: claim(), SHA256: sum}); err != nil {
		t.Fatal(err)
	}
	if o, err := m.agent().readOwner(); err != nil || o.Epoch != 7 {
		t.Errorf("owner %+v, %v", o, err)
	}
	// Once it is installed, epochs count again.
	if _, _, err := m.converge(wanted()); ExitCode(err) != manifest.ExitFenced {
		t.Errorf("an early epoch is not refused: %v", err)
	}
}

func TestForeignUser(t *testing.T) {
	m := newMachine(t)
	m.write("/etc/passwd", "mailform:x:77:77:Mail Form:/home/mailform:/bin/sh\n", 0o644)
	a := m.agent()
	sum, err := fileSHA256(a.Executable)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Install(context.Background(), manifest.InstallRequest{Claim: claim(), SHA256: sum})
	if ExitCode(err) != manifest.ExitConflict || !strings.Contains(err.Error(), "there is a user mailform, uid 77, gid 77, home /home/mailform") {
		t.Errorf("got %v", err)
	}
}

// Mail from before belongs to the number that the service's user had then.
func TestMailGetsItsOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to give files to somebody else")
	}
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	m.write("/var/lib/mailform/store/log/0001.seg", "mail", 0o600)
	for _, path := range []string{"/var/lib/mailform/store", "/var/lib/mailform/store/log/0001.seg"} {
		if err := os.Chown(m.path(path), 977, 977); err != nil {
			t.Fatal(err)
		}
	}
	m.mustConverge(wanted())
	fi, err := os.Stat(m.path("/var/lib/mailform/store/log/0001.seg"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := accessDiff(fi, 0o600, os.Getuid(), os.Getgid()); diff != "" {
		t.Error(diff)
	}
}

func TestRemove(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	m.write("/var/lib/mailform/store/0001.seg", "mail", 0o600)
	out, err := m.agent().Remove(context.Background(), manifest.RemoveRequest{Claim: claim()})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.active) != 0 || len(m.enabled) != 0 || len(m.loaded) != 0 {
		t.Errorf("units are left: %v %v %v", m.active, m.enabled, m.loaded)
	}
	for _, gone := range []string{"/etc/sysusers.d", "/etc/mailform", "/usr/local/lib/mailform", "/usr/local/sbin/mailformd", "/etc/systemd/system/mailformd.service"} {
		if fileExists(m.path(gone)) {
			t.Errorf("%s is left", gone)
		}
	}
	if _, _, ok := lookupID(m.path("/etc/passwd"), User); ok {
		t.Error("the user is left")
	}
	if !fileExists(m.path("/var/lib/mailform/store/0001.seg")) {
		t.Fatal("the mail is gone")
	}
	if !strings.Contains(strings.Join(out.Kept, "\n"), "/var/lib/mailform") {
		t.Errorf("kept: %q", out.Kept)
	}
	// The same stack comes back to its mail, then purges it.
	m.write("/usr/local/lib/mailform/.upload-test", "the program", 0o755)
	m.install()
	m.mustConverge(wanted())
	if _, err := m.agent().Remove(context.Background(), manifest.RemoveRequest{Claim: claim(), Purge: true}); err != nil {
		t.Fatal(err)
	}
	if fileExists(m.path("/var/lib/mailform")) {
		t.Error("the purged state is left")
	}
}

// Changes in quick succession are no crash loop: systemd, which counts starts,
// does not refuse one of them.
func TestManyRestartsAreNoCrashLoop(t *testing.T) {
	m := newMachine(t)
	m.install()
	for range 15 {
		delete(m.active, ServiceUnit)
		m.mustConverge(wanted())
	}
	if !m.active[ServiceUnit] {
		t.Error("the service does not run")
	}
}
