package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
)

// upgrade uploads another mailformd and converges.
func (m *machine) upgrade(program string) (manifest.ConvergeResult, error) {
	m.t.Helper()
	m.write("/usr/local/lib/mailform/.upload-test", program, 0o755)
	a := m.agent()
	sum, err := fileSHA256(a.Executable)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := a.Install(context.Background(), manifest.InstallRequest{Claim: claim(), SHA256: sum}); err != nil {
		m.t.Fatal(err)
	}
	m.write("/usr/local/lib/mailform/.upload-test", program, 0o755)
	res, _, err := m.converge(wanted())
	return res, err
}

// state is what a change may not leave behind: the files of the machine, what
// runs, and what is active.
func (m *machine) state() string {
	m.t.Helper()
	var b strings.Builder
	for _, p := range m.agent().trialFiles() {
		text, _ := os.ReadFile(p)
		fmt.Fprintf(&b, "%s %s\n", filepath.Base(p), manifest.SHA256(text))
	}
	active := []string{}
	for u := range m.active {
		if u != revertTimer {
			active = append(active, u)
		}
	}
	slices.Sort(active)
	fmt.Fprintf(&b, "%q runs %s, %s is active, serves %s", active, versionOf(m.exe), m.agent().activeVersion(), m.serving)
	return b.String()
}

func TestUnhealthyVersionIsTakenBack(t *testing.T) {
	for name, spoil := range map[string]func(*machine){
		"does not start":         func(m *machine) { m.poison = "bad" },
		"a port does not answer": func(m *machine) { m.deaf = 143 },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.install()
			if res := m.mustConverge(wanted()); res.Trial != "" {
				t.Fatalf("the first converge waits for a confirmation: there is nothing to go back to")
			}
			before := m.state()
			spoil(m)
			_, err := m.upgrade("bad")
			if ExitCode(err) != manifest.ExitUnhealthy {
				t.Fatalf("got %v", err)
			}
			for _, want := range []string{"out of stamps", "taken back", "mailformd 1.0 (" + before[strings.Index(before, "runs ")+5:][:12]} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			if after := m.state(); after != before {
				t.Errorf("got\n%s\nwant\n%s", after, before)
			}
			if fileExists(m.layout.TrialDir()) || m.active[revertTimer] {
				t.Error("the change still waits")
			}
			f := m.observe()
			if f.Reverted == nil || !strings.Contains(f.Reverted.Why, "does not serve") || len(f.Versions) != 2 || f.Versions[0].Active == f.Versions[1].Active {
				t.Errorf("facts: %+v %+v", f.Reverted, f.Versions)
			}
		})
	}
}

// A change that nobody confirms is taken back by the timer, or by a reboot; one
// that is confirmed stays.
func TestUnconfirmedChange(t *testing.T) {
	begin := func(t *testing.T) (*machine, string, string) {
		m := newMachine(t)
		m.install()
		m.mustConverge(wanted())
		before := m.state()
		res, err := m.upgrade("next")
		if err != nil || res.Trial == "" || !m.active[revertTimer] {
			t.Fatalf("%+v %v, timer %v", res, err, m.active[revertTimer])
		}
		return m, before, res.Trial
	}
	t.Run("timer", func(t *testing.T) {
		m, before, _ := begin(t)
		if did, err := m.agent().Revert(t.Context()); !did || err != nil {
			t.Fatalf("not taken back: %v", err)
		}
		if after := m.state(); after != before {
			t.Errorf("got\n%s\nwant\n%s", after, before)
		}
		if did, err := m.agent().Revert(t.Context()); did || err != nil {
			t.Errorf("again: %v %v", did, err)
		}
	})
	t.Run("reboot", func(t *testing.T) {
		m, before, id := begin(t)
		m.write("/proc/sys/kernel/random/boot_id", "another", 0o644)
		m.calls = nil
		if did, err := m.agent().Revert(t.Context()); !did || err != nil {
			t.Fatalf("not taken back: %v", err)
		}
		if slices.ContainsFunc(m.calls, func(c string) bool { return strings.HasPrefix(c, "restart") || strings.HasPrefix(c, "start") }) {
			t.Errorf("units were started from within the boot, which waits for this one: %q", m.calls)
		}
		if m.agent().activeVersion() != m.observe().Versions[slices.IndexFunc(m.observe().Versions, func(v manifest.Version) bool { return v.Active })].SHA256 || !strings.Contains(before, m.agent().activeVersion()+" is active") {
			t.Error("the new version is active")
		}
		if _, err := m.agent().Confirm(t.Context(), manifest.TrialRequest{Claim: claim(), Trial: id}); err == nil {
			t.Error("a change that is no more was confirmed")
		}
	})
	t.Run("confirmed", func(t *testing.T) {
		m, before, id := begin(t)
		m.confirm(id)
		m.now = m.now.Add(time.Hour)
		if did, err := m.agent().Revert(t.Context()); did || err != nil || m.state() == before || m.active[revertTimer] {
			t.Errorf("%v %v, timer %v", did, err, m.active[revertTimer])
		}
		if drift := m.observe().Service.Drift; len(drift) != 0 {
			t.Errorf("drift %q", drift)
		}
	})
	t.Run("the next run goes on", func(t *testing.T) {
		m, before, id := begin(t)
		if drift := m.observe().Service.Drift; !slices.Contains(drift, "a change is not confirmed yet") {
			t.Errorf("drift %q", drift)
		}
		if res := m.mustConverge(wanted()); res.Trial != id {
			t.Fatalf("trial %q, not %q", res.Trial, id)
		}
		if i := slices.Index(m.calls, "stop "+revertService); i < 0 || i+1 >= len(m.calls) || m.calls[i+1] != "restart "+revertTimer {
			t.Errorf("the wait does not begin again: %q", m.calls)
		}
		if did, err := m.agent().Revert(t.Context()); !did || err != nil || m.state() != before {
			t.Errorf("%v %v\n%s\nwant\n%s", did, err, m.state(), before)
		}
	})
}

// Wherever a taking back is cut off, it can be done again.
func TestTakingBackIsCutOffAnywhere(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		m := newMachine(t)
		m.install()
		m.mustConverge(wanted())
		before := m.state()
		if _, err := m.upgrade("next"); err != nil {
			t.Fatal(err)
		}
		m.now = m.now.Add(time.Minute)
		points := 0
		m.before = func(string) {
			if points++; points == n {
				panic(killed{})
			}
		}
		func() {
			defer func() {
				if r := recover(); r != nil && r != any(killed{}) {
					panic(r)
				}
			}()
			if _, err := m.agent().Revert(t.Context()); err != nil {
				t.Fatal(err)
			}
		}()
		m.before = nil
		if _, err := m.agent().Revert(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after := m.state(); after != before {
			t.Errorf("cut off at %d: got\n%s\nwant\n%s", n, after, before)
		}
		if points < n {
			t.Logf("%d points", points)
			return
		}
	}
}

func TestRollback(t *testing.T) {
	m := newMachine(t)
	m.install()
	m.mustConverge(wanted())
	first := m.agent().activeVersion()
	for i := range 4 {
		m.now = m.now.Add(time.Hour)
		res, err := m.upgrade(fmt.Sprintf("version %d", i))
		if err != nil {
			t.Fatal(err)
		}
		m.confirm(res.Trial)
	}
	versions := m.observe().Versions
	if len(versions) != keepVersions || !versions[0].Active || versions[0].Served.IsZero() || slices.ContainsFunc(versions, func(v manifest.Version) bool { return v.SHA256 == first }) {
		t.Fatalf("versions %+v", versions)
	}
	to := versions[2].SHA256
	out, err := m.agent().Rollback(t.Context(), manifest.RollbackRequest{Claim: claim(), SHA256: to})
	if err != nil || out.Trial == "" || out.Service.BinarySHA256 != to {
		t.Fatalf("%+v %v", out, err)
	}
	m.confirm(out.Trial)
	if f := m.observe(); !f.Versions[2].Active || f.Service.BinarySHA256 != to {
		t.Errorf("%+v", f.Versions)
	}
	if out, err := m.agent().Rollback(t.Context(), manifest.RollbackRequest{Claim: claim(), SHA256: to}); err != nil || out.Trial != "" {
		t.Errorf("again: %+v %v", out, err)
	}
	if _, err := m.agent().Rollback(t.Context(), manifest.RollbackRequest{Claim: claim(), SHA256: first}); ExitCode(err) != manifest.ExitRequest {
		t.Errorf("a version that is not there: %v", err)
	}
	// The one that is rolled back to is sick, too.
	m.poison = "version 2"
	before := m.state()
	if _, err := m.agent().Rollback(t.Context(), manifest.RollbackRequest{Claim: claim(), SHA256: versions[1].SHA256}); ExitCode(err) != manifest.ExitUnhealthy || m.state() != before {
		t.Errorf("a sick one: %v\n%s\nwant\n%s", err, m.state(), before)
	}
}
