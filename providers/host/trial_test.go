package host

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/server/manifest"
	"mailform/specs"
)

// variant is mailformd as another version, with some texts in it replaced by
// others of the same length.
func variant(t *testing.T, mark string, oldNew ...string) string {
	t.Helper()
	b, err := os.ReadFile(mailformd)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(oldNew); i += 2 {
		if len(oldNew[i]) != len(oldNew[i+1]) || !bytes.Contains(b, []byte(oldNew[i])) {
			t.Fatalf("mailformd holds no %q of this length", oldNew[i])
		}
		b = bytes.ReplaceAll(b, []byte(oldNew[i]), []byte(oldNew[i+1]))
	}
	file := filepath.Join(t.TempDir(), "mailformd")
	if err := os.WriteFile(file, append(b, mark...), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// crashing is a mailformd whose agent is well and whose server ends at once: it
// does not find its sockets.
func crashing(t *testing.T) string {
	return variant(t, "crashing", "LISTEN_FDNAMES", "LISTEN_FDNAMEX")
}

// upgrade applies a spec with another version.
func (l *lab) upgrade(spec *specs.Spec, version, program string) (*run, error) {
	l.t.Helper()
	p := l.provider(spec)
	p.Version, p.Agents = version, agentFile(program)
	r, err := l.plan(p, spec, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return r, r.apply()
}

func TestCrashingVersionIsTakenBack(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	start := time.Now()
	_, err := l.upgrade(spec, "1.1", crashing(t))
	var e *plan.Error
	if !errors.As(err, &e) || e.Code != "MF5416" || !strings.Contains(e.Got, "LISTEN_FDNAME") || !strings.Contains(e.Got, "taken back: mailformd dev (") {
		t.Fatalf("got %v", err)
	}
	t.Logf("%s until the earlier version served again", time.Since(start).Round(time.Millisecond))
	l.serves(spec)
	// The next run tries again; a version that is well stays.
	r, err := l.upgrade(spec, "1.2", variant(t, "next"))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = l.plan(r.p, spec, nil); err != nil || len(r.pending()) != 0 {
		t.Errorf("after the upgrade: %q %v", r.pending(), err)
	}
}

// serves checks every port of the lab's host.
func (l *lab) serves(spec *specs.Spec) {
	l.t.Helper()
	p := l.provider(spec)
	if _, err := l.plan(p, spec, nil); err != nil {
		l.t.Fatal(err)
	}
	t, err := p.target("mx1")
	if err != nil {
		l.t.Fatal(err)
	}
	if err := p.verify(context.Background(), t, mailOf("mail.acme.example"), nil); err != nil {
		l.t.Errorf("the host does not serve: %v", err)
	}
}

// A version that is well on its machine and cannot be reached from outside.
func TestUnreachableVersionIsTakenBack(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	before := l.activeVersion()
	l.down[993] = true
	_, err := l.upgrade(spec, "1.1", variant(t, "next"))
	var e *plan.Error
	if !errors.As(err, &e) || e.Code != "MF5430" || !strings.Contains(e.Got, "993") || !strings.Contains(e.Fix, "was taken back") {
		t.Fatalf("got %v", err)
	}
	l.down[993] = false
	if now := l.activeVersion(); now != before {
		t.Errorf("version %s is active, not %s", now, before)
	}
	l.serves(spec)
}

func (l *lab) activeVersion() string {
	l.t.Helper()
	if l.machine != nil {
		return strings.TrimSpace(l.machine.Sh("readlink /usr/local/lib/mailform/active"))
	}
	sha, err := os.Readlink(filepath.Join(l.host.Root(), "usr/local/lib/mailform/active"))
	if err != nil {
		l.t.Fatal(err)
	}
	return sha
}

func (l *lab) setDialing(f func(port int) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dialing = f
}

// clock lets a test decide when a simulated machine's timers elapse.
type clock struct {
	mu     sync.Mutex
	timers map[*func()]time.Duration
}

func (c *clock) afterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timers == nil {
		c.timers = map[*func()]time.Duration{}
	}
	c.timers[&f] = d
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, running := c.timers[&f]
		delete(c.timers, &f)
		return running
	}
}

// elapse lets a minute pass and returns how many timers elapsed in it.
func (c *clock) elapse() (n int) {
	c.mu.Lock()
	var due []func()
	for f, d := range c.timers {
		if d <= time.Minute {
			due = append(due, *f)
			delete(c.timers, f)
		}
	}
	c.mu.Unlock()
	for _, f := range due {
		f()
	}
	return len(due)
}

// Whoever made the change is gone, or shut out: the host takes it back by itself.
func TestDeadMan(t *testing.T) {
	for _, how := range []string{"timer", "reboot", "the next run is in time"} {
		t.Run(how, func(t *testing.T) {
			var c clock
			var cut sync.Map
			l := newLab(t, hostsim.Config{AfterFunc: c.afterFunc, Watch: func(s hostsim.Step) bool {
				_, now := cut.Load("now")
				return !now || !strings.Contains(s.Command, "confirm") && !strings.Contains(s.Command, "take-back")
			}})
			spec := l.spec()
			l.converge(spec)
			before := l.activeVersion()
			cut.Store("now", true)
			if _, err := l.upgrade(spec, "1.1", variant(t, "next")); err == nil {
				t.Fatal("a change that could not be confirmed succeeded")
			}
			if l.activeVersion() == before {
				t.Fatal("the change was not made")
			}
			cut.Delete("now")
			switch how {
			case "timer":
				if n := c.elapse(); n != 1 {
					t.Fatalf("%d timers elapsed", n)
				}
			case "reboot":
				l.host.Stop()
				if err := l.host.Start(); err != nil {
					t.Fatal(err)
				}
			default:
				r, err := l.upgrade(spec, "1.1", variant(t, "next"))
				if err != nil {
					t.Fatal(err)
				}
				if n := c.elapse(); n != 0 || l.activeVersion() == before {
					t.Errorf("%d timers elapsed, version %s is active", n, l.activeVersion())
				}
				if r, err = l.plan(r.p, spec, nil); err != nil || len(r.pending()) != 0 {
					t.Errorf("left: %q %v", r.pending(), err)
				}
				return
			}
			if now := l.activeVersion(); now != before {
				t.Errorf("version %s is active, not %s: %s", now, before, l.host.Log("mailformd-revert.service"))
			}
			l.serves(spec)
		})
	}
}

func TestRollbackOverSSH(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	r, err := l.upgrade(spec, "1.1", variant(t, "next"))
	if err != nil {
		t.Fatal(err)
	}
	desired, _ := r.p.Declare(spec)
	versions, err := r.p.Versions(t.Context(), desired[slices.IndexFunc(desired, IsAgent)], func(plan.Ref) (plan.Value, bool) { return plan.Value{}, false })
	if err != nil || len(versions) != 2 {
		t.Fatalf("%+v %v", versions, err)
	}
	i := slices.IndexFunc(versions, func(v manifest.Version) bool { return !v.Active })
	if err := r.p.Rollback(t.Context(), "mx1", versions[i].SHA256, nil); err != nil {
		t.Fatal(err)
	}
	if now := l.activeVersion(); now != versions[i].SHA256 {
		t.Errorf("version %s is active", now)
	}
	l.serves(spec)
	if r, err = l.plan(r.p, spec, nil); err != nil || !slices.Equal(r.pending(), []string{"~ server/mx1"}) {
		t.Errorf("after the rollback: %q %v", r.pending(), err)
	}
}
