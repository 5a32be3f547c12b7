package host

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/server/manifest"
)

// A host whose clock is a year behind or ahead is installed, configured and changed
// like any other; that is said, and no key is rotated before its time.
func TestClockWrongByAYear(t *testing.T) {
	t.Parallel()
	for _, years := range []int{1, -1} {
		t.Run(fmt.Sprintf("%+d", years), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, hostsim.Config{})
			// It is this side's clock that is moved: the host's programs have the real one.
			l.now = time.Now().AddDate(years, 0, 0)
			spec := l.spec()
			spec.Domains[0].DKIM.Rotate = 180 * 24 * time.Hour
			l.ca.valid(l.now)
			l.converge(spec)
			keys := string(l.read("/etc/mailform/manifest.json"))
			for run := range 3 {
				l.now = l.now.Add(24 * time.Hour)
				p := l.provider(spec)
				r, err := l.plan(p, spec, func(in *plan.Input) {
					in.Desired, in.Observed, _, _ = p.Schedule(plan.Scheduling{Now: l.now, Desired: withRecords(in.Desired), Observed: in.Observed})
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range r.plan.Changes {
					if c.Kind == kindKey && c.Action != plan.NoOp && c.Action != plan.Wait {
						t.Errorf("day %d: %s %s: %s", run, c.Action, c.Address, c.Reason)
					}
				}
				advice := p.Advise()
				if len(advice) != 1 || advice[0].Code != adviceClockOff || !strings.Contains(advice[0].Title, map[int]string{1: "behind", -1: "ahead of"}[years]) {
					t.Errorf("advice: %+v", advice)
				}
			}
			// A change goes through, with its lease and the check of the ports.
			spec.Server.MaxMessageBytes = 10 << 20
			l.converge(spec)
			if now := string(l.read("/etc/mailform/manifest.json")); now == keys || strings.Count(now, "selector") != strings.Count(keys, "selector") {
				t.Errorf("the manifest: %s", now)
			}
			l.mustSettle(spec)
		})
	}
}

// withRecords adds the signing keys' records, which another provider declares.
func withRecords(desired []plan.Resource) []plan.Resource {
	var out []plan.Resource
	for _, r := range desired {
		out = append(out, r)
		if r.Kind == kindKey {
			s := r.Address.Segments()
			out = append(out, plan.Resource{Address: recordAddr(s[1], s[2]), Provider: "test", Kind: "record", Attrs: plan.Attrs{"content": plan.Unknown(r.Address, "txt")}})
		}
	}
	return out
}

func TestByOurClock(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := manifest.DKIMPublic{Created: made}
	if got := byOurClock(f, 3600); !got.Created.Equal(made.Add(-time.Hour)) || !got.SignedUntil.IsZero() {
		t.Errorf("%+v", got)
	}
	if got := byOurClock(f, -60); !got.Created.Equal(made) {
		t.Errorf("%+v", got)
	}
}
