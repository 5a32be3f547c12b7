package host

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/server/manifest"
	"mailform/specs"
)

// planned is a plan as a run of mailform makes it: what is found adds to the wishes.
func (l *lab) planned(spec *specs.Spec, take ...string) *run {
	l.t.Helper()
	p := l.provider(spec)
	r, err := l.plan(p, spec, func(in *plan.Input) {
		in.Desired, in.Observed, _, _ = p.Schedule(plan.Scheduling{Now: time.Now(), Desired: in.Desired, Observed: in.Observed})
		in.Take = take
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

// field is a difference in words.
func (r *run) field(at plan.Address, path string) string {
	c, _ := r.plan.Change(at)
	for _, f := range c.Fields {
		if f.Path == path {
			return f.Before.Str() + " -> " + f.After.Str()
		}
	}
	return ""
}

// A foreign file is shown field by field and stops the server and the mailboxes,
// not the keys; asked for, it is taken over, and comes back in the end.
func TestTakeForeignFile(t *testing.T) {
	t.Parallel()
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	spec.Hosts[0].Tune = true
	file := filepath.Join(l.host.Root(), "/etc/sysctl.d/90-mailform.conf")
	for _, dir := range []string{filepath.Dir(file)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte("# ours\nvm.swappiness = 10\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec.Domains[0].Mailboxes = append(spec.Domains[0].Mailboxes, &specs.Mailbox{Local: "carol"})
	r := l.planned(spec)
	c, ok := r.plan.Change("host/mx1/file/sysctl")
	if !ok || c.Action != plan.Update || c.Blocked == nil || c.Blocked.Allow != "--take host/mx1/file/sysctl" {
		t.Fatalf("%+v", c)
	}
	if by, line := r.field(c.Address, "by"), r.field(c.Address, "line"); !strings.HasSuffix(by, ", not mailform -> mailform") || line != "vm.swappiness = 10 -> " {
		t.Errorf("by %q, line %q", by, line)
	}
	for _, a := range []plan.Address{"server/mx1", "mailbox/carol@acme.example"} {
		if c, _ := r.plan.Change(a); c.Blocked == nil || c.Blocked.Allow != "--take host/mx1/file/sysctl" {
			t.Errorf("%s: %+v", a, c.Blocked)
		}
	}
	if slices.Contains(r.kinds(), opConverge) {
		t.Errorf("operations: %q", r.kinds())
	}

	r = l.planned(spec, "host/mx1/file/*")
	// What was changed after it was shown is not taken.
	if err := os.WriteFile(file, []byte("vm.swappiness = 20\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var refused *plan.Error
	if err := r.apply(); !errors.As(err, &refused) || refused.Code != "MF5411" || !strings.Contains(refused.Got, "not what it was") {
		t.Errorf("%v", err)
	}
	r = l.planned(spec, "host/mx1/file/*")
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	op := r.ordered()[slices.Index(r.kinds(), opConverge)]
	if v, _, err := r.p.Resolve(t.Context(), op, "token"); err != nil || v != plan.Done && len(r.secrets) == 0 {
		t.Errorf("resolved: %v %v", v, err)
	}
	if b, _ := os.ReadFile(file + manifest.SavedSuffix); string(b) != "vm.swappiness = 20\n" {
		t.Errorf("kept: %q", b)
	}
	if p := l.planned(spec).pending(); len(p) > 0 {
		t.Errorf("then: %q", p)
	}
	gone, err := l.plan(l.provider(spec), spec, func(in *plan.Input) { in.Destroy = true })
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.apply(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(file); string(b) != "vm.swappiness = 20\n" {
		t.Errorf("came back: %q", b)
	}
}

// On a bare machine the first run stops at what is in the way, and says how to go on.
func TestTakeOnBareMachine(t *testing.T) {
	t.Parallel()
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	file := filepath.Join(l.host.Root(), "/etc/sysusers.d/mailform.conf")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("u mailform 77\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var refused *plan.Error
	if err := l.planned(spec).apply(); !errors.As(err, &refused) || refused.Code != "MF5411" || !strings.Contains(refused.Got, "--take host/mx1/file/sysusers") {
		t.Fatalf("%v", err)
	}
	if c, ok := l.planned(spec).plan.Change("host/mx1/file/sysusers"); !ok || c.Blocked == nil {
		t.Fatalf("%+v", c)
	}
	r := l.planned(spec, "host/mx1/file/sysusers")
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	if p := l.planned(spec).pending(); len(p) > 0 {
		t.Errorf("then: %q", p)
	}
}
