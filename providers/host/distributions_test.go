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
