package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailform/server/manifest"
)

// tuned and guarded, so that every kind of file of ours is asked for.
func everything() manifest.ConvergeRequest {
	req := guarded()
	req.Manifest.Tuning = manifest.DefaultTuning(false)
	return req
}

// take asks for everything that stands in the way.
func (m *machine) take() []manifest.Taken {
	m.t.Helper()
	var out []manifest.Taken
	for _, f := range m.observe().Foreign {
		out = append(out, manifest.Taken{Name: f.Name, SHA256: f.SHA256})
	}
	return out
}

// A file that is not ours is told of, stops a converge that changes nothing, is
// taken over by its name, and comes back in the end.
func TestTakeForeignFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, name, text, line string }{
		{"/etc/systemd/system/mailformd.service", "mailformd.service", "[Service]\nExecStart=/bin/theirs\n", "ExecStart=/bin/theirs"},
		{"/etc/systemd/system/mailformd-smtp.socket", "mailformd-smtp.socket", "[Socket]\nListenStream=2525\n", "ListenStream=2525"},
		{"/etc/systemd/system/mailformd-firewall.service", "mailformd-firewall.service", "# theirs\n\n[Unit]\nDescription=theirs\n", "Description=theirs"},
		{"/etc/sysctl.d/90-mailform.conf", "sysctl", "net.core.somaxconn = 1\n", "net.core.somaxconn = 1"},
		{"/etc/systemd/journald.conf.d/mailform.conf", "journald", "[Journal]\nSystemMaxUse=1M\n", "SystemMaxUse=1M"},
		{"/etc/ssh/sshd_config.d/10-mailform.conf", "sshd", "Port 2222\n", "Port 2222"},
		{"/etc/mailform/firewall.nft", "firewall", "flush ruleset\n", "flush ruleset"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newGuarded(t)
			m.write(c.path, c.text, 0o644)
			if err := os.Chmod(m.path(c.path), 0o604); err != nil {
				t.Fatal(err)
			}
			f := m.observe().Foreign
			if len(f) != 1 || f[0].Name != c.name || f[0].Path != m.path(c.path) || f[0].Bytes != int64(len(c.text)) || f[0].SHA256 != manifest.SHA256([]byte(c.text)) || f[0].Line != c.line {
				t.Fatalf("seen: %+v", f)
			}
			before := m.snapshot()
			_, _, err := m.converge(everything())
			if ExitCode(err) != manifest.ExitConflict || !strings.Contains(err.Error(), "--take host/mx1/file/"+c.name) || m.snapshot() != before {
				t.Fatalf("without being asked: %v", err)
			}
			// What has changed since it was looked at is not what was asked for.
			req := everything()
			req.Take = []manifest.Taken{{Name: c.name, SHA256: "of something else"}}
			if _, _, err := m.converge(req); ExitCode(err) != manifest.ExitConflict || m.snapshot() != before {
				t.Fatalf("asked for something else: %v", err)
			}
			// Something was saved there before.
			m.write(c.path+manifest.SavedSuffix, "saved by somebody", 0o600)
			req.Take = m.take()
			res := m.mustConverge(req)
			m.confirm(res.Trial)
			if err := m.agent().PasswordsReceived(t.Context(), res.Passwords); err != nil {
				t.Fatal(err)
			}
			saved := m.path(c.path + manifest.SavedSuffix)
			if b, _ := os.ReadFile(saved); string(b) != "saved by somebody" {
				t.Errorf("an earlier saved one was written over: %q", b)
			}
			fi, err := os.Stat(saved + "-2")
			if b, _ := os.ReadFile(saved + "-2"); err != nil || string(b) != c.text || fi.Mode().Perm() != 0o604 {
				t.Errorf("kept: %q %v %v", b, fi, err)
			}
			if f := m.observe(); len(f.Foreign) != 0 || len(f.Service.Drift) != 0 {
				t.Errorf("then: %+v %q", f.Foreign, f.Service.Drift)
			}
			if res := m.mustConverge(everything()); res.Changed {
				t.Error("a second converge changes something")
			}
			m.remove(c.path, c.text, saved)
		})
	}
}

// remove takes mailform away and looks whether a file is there as it was.
func (m *machine) remove(path, text, earlier string) {
	m.t.Helper()
	out, err := m.agent().Remove(context.Background(), manifest.RemoveRequest{Claim: claim(), Purge: true})
	if err != nil || !slices.Equal(out.Restored, []string{m.path(path)}) {
		m.t.Fatalf("removed: %+v %v", out, err)
	}
	fi, err := os.Stat(m.path(path))
	if b, _ := os.ReadFile(m.path(path)); err != nil || string(b) != text || fi.Mode().Perm() != 0o604 {
		m.t.Errorf("came back: %q %v %v", b, fi, err)
	}
	if saved, _ := filepath.Glob(m.path(path) + manifest.SavedSuffix + "*"); earlier == "" && len(saved) > 0 {
		m.t.Errorf("left: %q", saved)
	}
	if earlier == "" {
		return
	}
	if existsAt(earlier+"-2") || filepath.Dir(m.path(path)) != m.layout.ConfigDir() && !existsAt(earlier) {
		m.t.Error("what was saved is left, or what somebody else saved is gone")
	}
}

// What is not asked for by the manifest is nobody's business.
func TestForeignFileElsewhere(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.install()
	m.write("/etc/sysctl.d/90-mailform.conf", "net.core.somaxconn = 1\n", 0o644)
	m.write("/etc/systemd/system/mailformd-pop3.socket", "[Socket]\nListenStream=110\n", 0o644)
	if _, _, err := m.converge(wanted()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.agent().Remove(context.Background(), manifest.RemoveRequest{Claim: claim(), Purge: true}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/etc/sysctl.d/90-mailform.conf", "/etc/systemd/system/mailformd-pop3.socket"} {
		if !existsAt(m.path(path)) {
			t.Errorf("%s is gone", path)
		}
	}
}

// A change that is taken back gives back what it took.
func TestTakenIsTakenBack(t *testing.T) {
	t.Parallel()
	m := newGuarded(t)
	m.write("/etc/ssh/sshd_config.d/10-mailform.conf", "Port 2222\n", 0o644)
	m.mustConverge(wanted())
	req := everything()
	req.Take = m.take()
	res := m.mustConverge(req)
	if _, err := m.agent().TakeBack(context.Background(), manifest.TrialRequest{Claim: claim(), Trial: res.Trial}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(m.layout.SSHDropIn()); string(b) != "Port 2222\n" || existsAt(m.layout.SSHDropIn()+manifest.SavedSuffix) || m.sshReads != "Port 2222\n" {
		t.Errorf("after it was taken back: %q, sshd reads %q", b, m.sshReads)
	}
	if f := m.observe().Foreign; len(f) != 1 || f[0].Name != "sshd" {
		t.Errorf("foreign: %+v", f)
	}
}

// A run that is killed anywhere while it takes over is finished by the next one,
// and nothing is lost.
func TestTakeCutOff(t *testing.T) {
	t.Parallel()
	const theirs = "[Service]\nExecStart=/bin/theirs\n"
	for n := 1; ; n += 3 { // the whole row would tell little more
		m := newGuarded(t)
		path := "/etc/systemd/system/mailformd.service"
		m.write(path, theirs, 0o604)
		m.loaded["mailformd.service"], m.enabled["mailformd.service"] = true, true
		req := everything()
		req.Take = m.take()
		points := 0
		m.before = func(string) {
			if points++; points == n {
				panic(killed{})
			}
		}
		done := m.survives(req)
		m.before = nil
		req.Take = m.take()
		if _, _, err := m.converge(req); err != nil {
			t.Fatalf("after point %d: %v", n, err)
		}
		if f := m.observe(); len(f.Foreign) != 0 || f.Service.Active != "active" {
			t.Errorf("after point %d: %+v", n, f)
		}
		m.enabled["mailformd.service"] = false
		m.remove(path, theirs, "")
		if !m.enabled["mailformd.service"] {
			t.Errorf("after point %d: their unit was enabled and is not", n)
		}
		if done {
			break
		}
	}
}

// survives reports whether a converge came to its end.
func (m *machine) survives(req manifest.ConvergeRequest) (done bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(killed); !ok {
				panic(r)
			}
		}
	}()
	_, _, err := m.converge(req)
	return err == nil
}

// A link is kept as a link: /dev/null masks a unit.
func TestTakeMaskedUnit(t *testing.T) {
	t.Parallel()
	m := newGuarded(t)
	path := m.path("/etc/systemd/system/mailformd.service")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", path); err != nil {
		t.Fatal(err)
	}
	req := wanted()
	if f := m.observe().Foreign; len(f) != 1 || f[0].What != manifest.ForeignLink || f[0].Line != "/dev/null" {
		t.Fatalf("%+v", f)
	}
	req.Take = m.take()
	m.mustConverge(req)
	if target, _ := os.Readlink(path + manifest.SavedSuffix); target != "/dev/null" {
		t.Errorf("kept: %q", target)
	}
	if _, err := m.agent().Remove(context.Background(), manifest.RemoveRequest{Claim: claim(), Purge: true}); err != nil {
		t.Fatal(err)
	}
	if target, _ := os.Readlink(path); target != "/dev/null" {
		t.Errorf("came back: %q", target)
	}
}

// Lines that may be secret, or that not everybody may read, are not told.
func TestForeignSecretsStay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		mode os.FileMode
		line string
	}{
		{"ExecStart=/bin/x\n", 0o644, "ExecStart=/bin/x"},
		{"ExecStart=/bin/x\n", 0o640, ""},
		{"Environment=TOKEN=canary\nExecStart=/bin/x\n", 0o644, ""},
		{"ExecStart=/bin/x --password canary\n", 0o644, ""},
		{"\x1b[31mred\n", 0o644, ""},
		{strings.Repeat("x", 200), 0o644, ""},
		{"# a comment\n\n; another\nA=1\n", 0o644, "A=1"},
	} {
		m := newMachine(t)
		m.install()
		m.write("/etc/systemd/system/mailformd.service", c.text, c.mode)
		if f := m.observe().Foreign; len(f) != 1 || f[0].Line != c.line {
			t.Errorf("%q: %+v", c.text, f)
		}
	}
}

// A user or group of the same name is used as it is, and stays.
func TestTakeForeignAccount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ file, line, name, says string }{
		{"/etc/passwd", "mailform:x:0:0:Mail Form:/home/mailform:/bin/sh\n", "user", "user mailform, uid 0, gid 0, home /home/mailform"},
		{"/etc/group", "mailform:x:0:\n", "group", "group mailform, gid 0"},
	} {
		m := newMachine(t)
		m.write("/etc/group", "mailform:x:0:\n", 0o644)
		m.write("/etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644)
		m.write(c.file, c.line, 0o644)
		a := m.agent()
		sum, err := fileSHA256(a.Executable)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Install(context.Background(), manifest.InstallRequest{Claim: claim(), SHA256: sum})
		if ExitCode(err) != manifest.ExitConflict || !strings.Contains(err.Error(), "--take host/mx1/file/"+c.name) || !strings.Contains(err.Error(), c.says) {
			t.Fatalf("install: %v", err)
		}
		// Now the program is there, and tells of it.
		m.write("/usr/local/lib/mailform/.upload-test", "the program", 0o755)
		f := m.observe()
		if len(f.Foreign) != 1 || f.Foreign[0].Name != c.name || f.Foreign[0].Line != c.says {
			t.Fatalf("%+v", f.Foreign)
		}
		if _, err := m.agent().Keys(context.Background(), manifest.KeysRequest{Claim: claim(), Keys: []manifest.DKIMWanted{{Domain: "acme.example", Selector: "mf1-ed25519", Algorithm: "ed25519"}}}); err != nil {
			t.Fatal(err)
		}
		req := wanted()
		req.Take = m.take()
		m.mustConverge(req)
		if f := m.observe(); len(f.Foreign) != 0 || len(f.Service.Drift) != 0 {
			t.Fatalf("then: %+v %q", f.Foreign, f.Service.Drift)
		}
		if _, err := m.agent().Remove(context.Background(), manifest.RemoveRequest{Claim: claim(), Purge: true}); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(m.path(c.file)); !strings.Contains(string(b), "mailform:x:0:") {
			t.Errorf("%s: %q", c.name, b)
		}
	}
}
