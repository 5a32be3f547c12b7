package host

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/plan"
)

// within is how soon a machine has to be back after a change that went wrong.
const within = time.Minute

// TestRealMachineGoesBack breaks the service in ways that only the machine itself can mend.
func TestRealMachineGoesBack(t *testing.T) {
	l := newRealLab(t)
	spec := l.spec()
	l.converge(spec)
	before := l.activeVersion()
	waitFor := func(start time.Time, what string) {
		t.Helper()
		for l.activeVersion() != before {
			if time.Since(start) > within {
				t.Fatalf("%s: not back after %s:\n%s", what, within, l.machine.Sh("systemctl --no-pager status mailformd-revert.timer mailformd-revert.service mailformd.service; journalctl --no-pager -n 50"))
			}
			time.Sleep(500 * time.Millisecond) // on a clock that is the machine's
		}
		l.serves(spec)
		t.Logf("%s: back after %s", what, time.Since(start).Round(time.Millisecond))
	}

	// A version that crashes at its start.
	start := time.Now()
	_, err := l.upgrade(spec, "1.1", crashing(t))
	var e *plan.Error
	if !errors.As(err, &e) || e.Code != "MF5416" || !strings.Contains(e.Got, "LISTEN_FDNAME") {
		t.Fatalf("got %v", err)
	}
	waitFor(start, "a version that crashes")

	// What happens when the ports are looked at, just before a change is confirmed.
	when := func(version string, happens func()) {
		t.Helper()
		p := l.provider(spec)
		p.Version, p.Agents = version, agentFile(variant(t, version))
		r, err := l.plan(p, spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		once := sync.OnceFunc(happens)
		l.setDialing(func(port int) error {
			if port != 25 {
				return nil
			}
			once()
			return errors.New("no route to host")
		})
		if err := r.apply(); err == nil {
			t.Fatal("a change that could not be confirmed succeeded")
		}
		l.setDialing(nil)
	}
	when("1.2", func() {
		start = time.Now()
		l.machine.Partition(true)
	})
	l.machine.Partition(false)
	waitFor(start, "a version that nobody can confirm")

	when("1.3", func() {
		start = time.Now()
		l.machine.PowerCut()
	})
	l.machine.PowerOn()
	waitFor(start, "a power cut before the confirmation")
}

// TestRealMachineUnderLoad upgrades a real machine while it is at work.
func TestRealMachineUnderLoad(t *testing.T) {
	l := newRealLab(t)
	spec := l.spec()
	r := l.converge(spec)
	l.underLoad(r.secrets[mailboxAddr("bob", "acme.example")], func() { l.upgradeOften(spec) })
}
