package host

import (
	"errors"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/host/hostsim"
)

// A machine that mailform cannot serve from is refused by the plan, before anything
// is put on it.
func TestUnsupportedMachines(t *testing.T) {
	for version, want := range map[string]string{"none": "not been booted with systemd", "237": "Version=237"} {
		l := newLab(t, hostsim.Config{Systemd: version})
		_, err := l.plan(l.provider(l.spec()), l.spec(), nil)
		var e *plan.Error
		if !errors.As(err, &e) || e.Code != "MF5432" || e.Class != plan.ErrBlocked || !strings.Contains(e.Got, want) || !strings.Contains(e.Fix, "systemd") {
			t.Errorf("systemd %s: %v", version, err)
		}
	}
	l := newLab(t, hostsim.Config{Systemd: "239 (239-82.0.3.4.al8.2)"})
	if _, err := l.plan(l.provider(l.spec()), l.spec(), nil); err != nil {
		t.Errorf("systemd 239: %v", err)
	}
}

// A disk that cannot be written is told apart from one that is full.
func TestToolFix(t *testing.T) {
	for stderr, want := range map[string]string{
		"mkdir: cannot create directory '/usr/local/lib/mailform': Read-only file system": "/usr/local, which has to be a file system that can be written",
		"dd: error writing 'x': No space left on device":                                  "Make room",
		"gzip: command not found":                                                         "coreutils and gzip",
	} {
		if got := toolFix(stderr); !strings.Contains(got, want) {
			t.Errorf("%q: %s", stderr, got)
		}
	}
}
