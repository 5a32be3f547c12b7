package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"mailform/server/manifest"
)

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
