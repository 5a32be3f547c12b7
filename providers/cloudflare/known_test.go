package cloudflare

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

// zoneID asks the vendor for the id of a zone.
func (w *world) zoneID(name string) string {
	w.t.Helper()
	all, _, err := w.p.api.listZones(w.t.Context())
	for _, z := range all {
		if z.name == name {
			return z.id
		}
	}
	w.t.Fatalf("there is no zone %s: %v", name, err)
	return ""
}

// withIDs gives a spec blocks with nothing but the ids of these zones.
func (w *world) withIDs(s *specs.Spec, zones ...string) *specs.Spec {
	w.t.Helper()
	for _, name := range zones {
		s.Zones = append(s.Zones, &specs.Zone{Name: name, ID: w.zoneID(name)})
	}
	return s
}

// With the ids of the zones in the spec a plan reads the records and whether
// it is signed, and nothing else.
func TestZoneIDSavesACall(t *testing.T) {
	other := cloudflaresim.Zone{Name: "other.example"}
	two := func() *specs.Spec {
		s := testSpec()
		second := *s.Domains[0]
		second.Name = "other.example"
		s.Domains = append(s.Domains, &second)
		return s
	}
	inParent := func() *specs.Spec {
		s := testSpec()
		second := *s.Domains[0]
		second.Name = "team.acme.example"
		s.Domains = append(s.Domains, &second)
		return s
	}
	for _, c := range []struct {
		name  string
		spec  *specs.Spec
		zones []string
		calls []string
	}{
		{"one zone", testSpec(), []string{"acme.example"}, []string{"dnssec", "records"}},
		{"a domain in its parent's zone", inParent(), []string{"acme.example"}, []string{"dnssec", "records"}},
		{"two zones", two(), []string{"acme.example", "other.example"}, []string{"dnssec", "dnssec", "records", "records"}},
		{"one of two is not known", two(), []string{"acme.example"}, []string{"dnssec", "dnssec", "records", "records", "zones"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example"}, other}})
			listed := w.plan(c.spec, how{})
			s := w.withIDs(c.spec, c.zones...)
			if got, want := sprint(pending(w.plan(s, how{}))), sprint(pending(listed)); got != want {
				t.Errorf("with ids the plan is\n%s\nand without\n%s", got, want)
			}
			w.apply(s, how{})
			w.sim.ResetCalls()
			desired, _ := w.p.Declare(s)
			o, err := w.p.Observe(t.Context(), plan.Scope{Stack: testStack, Desired: desired})
			if err != nil {
				t.Fatal(err)
			}
			var calls []string
			for _, call := range w.sim.Calls() {
				path, _, _ := strings.Cut(call.Path, "?")
				calls = append(calls, strings.TrimPrefix(path[strings.LastIndexByte(path, '/')+1:], "dns_"))
			}
			slices.Sort(calls)
			expect(t, "calls", calls, c.calls)
			if o.Calls != len(c.calls) {
				t.Errorf("%d calls were counted, want %d", o.Calls, len(c.calls))
			}
			// The zones are known for certificates, too.
			if err := w.present(t.Context(), "_acme-challenge.mail.acme.example", "x"); err != nil {
				t.Error(err)
			}
		})
	}
}

// An id that is not the zone's is found out before anything is written, with the
// zones listed and without.
func TestWrongZoneID(t *testing.T) {
	const nobodys = "023e105f4ecef8ad9ca31a8372d0c353"
	zones := []cloudflaresim.Zone{{Name: "acme.example"}, {Name: "other.example"}, {Name: "team.acme.example"}, {Name: "empty.example"}}
	seeded := func(t *testing.T) *world {
		w := newWorld(t, cloudflaresim.Config{Zones: zones})
		w.sim.Seed("other.example", cloudflaresim.Record{Type: "A", Name: "www.other.example", Content: "192.0.2.1", TTL: 300})
		w.sim.Seed("team.acme.example", cloudflaresim.Record{Type: "A", Name: "www.team.acme.example", Content: "192.0.2.1", TTL: 300})
		return w
	}
	inTeam := func() *specs.Spec {
		s := testSpec()
		s.Domains[0].Name, s.Hosts[0].Hostname = "team.acme.example", "mail.team.acme.example"
		return s
	}
	delegated := cloudflaresim.Record{Type: "NS", Name: "team.acme.example", Content: "ada.ns.cloudflare.example", TTL: 300}
	for _, c := range []struct {
		name         string
		spec         *specs.Spec
		zone, idOf   string // idOf "" for an id that is nobody's
		without      string // what is said when the zones are not listed
		with         string // and when they are
		fix, fixWith string
	}{
		{"nobody's", testSpec(), "acme.example", "", "Cloudflare has no zone with this id", "zone acme.example has the id ", "overview page", "write id = "},
		{"another zone's", testSpec(), "acme.example", "other.example", "has records of www.other.example", "that is the id of zone other.example", "overview page", "write id = "},
		{"another zone's without records", testSpec(), "acme.example", "empty.example", "that is the id of zone empty.example", "that is the id of zone empty.example", "overview page", "write id = "},
		{"a zone's inside it", testSpec(), "acme.example", "team.acme.example", "that is the id of zone team.acme.example", "that is the id of zone team.acme.example", "overview page", "write id = "},
		{"the zone's around it", inTeam(), "acme.example", "acme.example", "leaves team.acme.example to the name server ada", "team.acme.example is a zone of its own", `zone "team.acme.example" { id = `, `zone "team.acme.example" { id = `},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := seeded(t)
			w.sim.Seed("acme.example", delegated)
			id := nobodys
			if c.idOf != "" {
				id = w.zoneID(c.idOf)
			}
			c.spec.Zones = []*specs.Zone{{Name: c.zone, ID: id}}
			check := func(got, fix string) {
				t.Helper()
				_, err := w.tryPlan(c.spec, how{})
				var e *plan.Error
				if !errors.As(err, &e) || e.Class != plan.ErrSpec || !strings.Contains(e.Got, got) || !strings.Contains(e.Fix, fix) {
					t.Errorf("got %v, want %q and the fix %q", err, got, fix)
				}
			}
			check(c.without, c.fix)
			unknown := *c.spec.Domains[0]
			unknown.Name = "other.example"
			c.spec.Domains = append(c.spec.Domains, &unknown)
			check(c.with, c.fixWith)
		})
	}
}

// A token that may not read the zone with this id: the id may be to blame.
func TestZoneIDOutOfSight(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{
		Zones:  []cloudflaresim.Zone{{Name: "acme.example"}, {Name: "other.example"}},
		Tokens: []cloudflaresim.Token{{Value: testToken}, {Value: "limited", Zones: []string{"acme.example"}}},
	})
	s := testSpec()
	s.Zones = []*specs.Zone{{Name: "acme.example", ID: w.zoneID("other.example")}}
	w.p = w.provider("limited")
	_, err := w.tryPlan(s, how{})
	var e *plan.Error
	if !errors.As(err, &e) || e.Class != plan.ErrCredentials || !strings.Contains(e.Fix, `or the id in the block zone "acme.example" is not that of this zone`) {
		t.Errorf("got %v", err)
	}
}

// Of several zones with one name the id decides which.
func TestZoneIDChooses(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example"}, {Name: "acme.example", Status: "pending", Account: "another"}, {Name: "other.example"}}})
	all, _, err := w.p.api.listZones(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := testSpec()
	s.Zones = []*specs.Zone{{Name: "acme.example", ID: all[1].id}, {Name: "other.example"}}
	for range 2 { // with the zones listed, and without
		desired, _ := w.p.Declare(s)
		o, err := w.p.Observe(t.Context(), plan.Scope{Stack: testStack, Desired: desired})
		if err != nil || o.Objects[0].ID != all[1].id {
			t.Errorf("got %+v, %v", o.Objects, err)
		}
		s.Zones = s.Zones[:1]
	}
}

// largeSpec has more records than one transaction of the free plan takes.
func largeSpec() *specs.Spec {
	s := testSpec()
	for i := range 60 {
		d := *s.Domains[0]
		d.Name = fmt.Sprintf("d%d.acme.example", i)
		s.Domains = append(s.Domains, &d)
	}
	return s
}

// A zone whose id the spec gives is changed in one transaction, too, when its plan
// allows one as large: the plan is read when there is that much to change.
func TestZoneIDAndItsPlan(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{
		Zones:  []cloudflaresim.Zone{{Name: "acme.example", Plan: "pro", DNSSEC: "active"}},
		Tokens: []cloudflaresim.Token{{Value: testToken}, {Value: "nozones", Permissions: []string{"DNS:Edit"}}},
	})
	s := w.withIDs(largeSpec(), "acme.example")
	writes := func() int {
		n := 0
		for _, op := range w.plan(s, how{}).Ops {
			if op.Kind == opWrite {
				n++
			}
		}
		return n
	}
	if n := writes(); n != 1 {
		t.Errorf("%d transactions on a plan that is paid for, want 1", n)
	}
	if got := advised(w.p); got != "" {
		t.Errorf("advice: %s", got)
	}
	// What the token may not read is said, and the smallest number holds.
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "A", Name: "acme.example", Content: "192.0.2.1"}, cloudflaresim.Record{Type: "A", Name: "www.acme.example", Content: "192.0.2.1"})
	w.p = w.provider("nozones")
	if n := writes(); n != 2 {
		t.Errorf("%d transactions on a plan that is not known, want 2", n)
	}
	if got := advised(w.p); !strings.Contains(got, "its Cloudflare plan could not be read") || !strings.Contains(got, "Zone:Read") {
		t.Errorf("advice: %s", got)
	}
}
