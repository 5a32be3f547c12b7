package cloudflare

import (
	"slices"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

func blockSpec(z specs.Zone) *specs.Spec {
	s := testSpec()
	z.Name = "acme.example"
	s.Zones = []*specs.Zone{&z}
	return s
}

func TestZoneSettings(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	p := w.apply(blockSpec(specs.Zone{SecurityLevel: "under_attack", MinTLS: "1.2"}), how{})
	if got := w.sim.Settings("acme.example"); got["security_level"] != "under_attack" || got["min_tls_version"] != "1.2" || got["ssl"] != "full" {
		t.Errorf("settings: %v", got)
	}
	var titles []string
	for _, op := range p.Ops {
		if op.Kind == opSetting {
			titles = append(titles, op.Title)
		}
	}
	expect(t, "operations", titles, []string{
		"set the minimum TLS version of zone acme.example to 1.2", "set the security level of zone acme.example to under_attack",
	})
	// The attack is over, and somebody changed the rest by hand.
	w.run(&plan.Plan{Ops: []plan.Op{{Kind: opSetting, ID: "x", Inputs: plan.Attrs{
		"zone_id": plan.String(w.p.zones[0].id), "setting": plan.String("min_tls_version"), "value": plan.String("1.0")}}}})
	c := change(w.plan(blockSpec(specs.Zone{SecurityLevel: "medium", MinTLS: "1.2"}), how{}), "zone/acme.example/security")
	if len(c.Fields) != 2 || c.Fields[0].Path != "min_tls" {
		t.Errorf("fields: %v", c.Fields)
	}
	// A setting that leaves the spec stays as it is.
	w.apply(blockSpec(specs.Zone{MinTLS: "1.3"}), how{})
	w.apply(testSpec(), how{})
	if got := w.sim.Settings("acme.example"); got["security_level"] != "under_attack" || got["min_tls_version"] != "1.3" {
		t.Errorf("settings without the block: %v", got)
	}
	w.apply(blockSpec(specs.Zone{MinTLS: "1.3"}), how{})
	destroy := w.plan(blockSpec(specs.Zone{MinTLS: "1.3"}), how{destroy: true, allow: []string{"**"}})
	if slices.ContainsFunc(destroy.Ops, func(op plan.Op) bool { return op.Kind == opSetting }) {
		t.Error("destroying changes settings")
	}
	w.apply(blockSpec(specs.Zone{MinTLS: "1.3"}), how{destroy: true, allow: []string{"**"}})
	if got := w.sim.Settings("acme.example"); got["min_tls_version"] != "1.3" {
		t.Errorf("settings after destroy: %v", got)
	}
}

// A plan without changes costs three calls, and with a zone block a constant number more.
func TestCallsOfAZoneBlock(t *testing.T) {
	for _, c := range []struct {
		spec  *specs.Spec
		calls int
	}{
		{testSpec(), 3},
		{blockSpec(specs.Zone{CAA: []string{"letsencrypt.org"}}), 4}, // our rules, if there are any
		{blockSpec(specs.Zone{SecurityLevel: "high"}), 5},
		{fullSpec(), 7},
	} {
		w := newWorld(t, cloudflaresim.Config{})
		w.apply(c.spec, how{})
		w.sim.SeedRules("acme.example", make([]cloudflaresim.Rule, 50)...)
		w.sim.ResetCalls()
		desired, _ := w.p.Declare(c.spec)
		o, err := w.p.Observe(t.Context(), plan.Scope{Stack: testStack, Desired: desired})
		if err != nil || o.Calls != c.calls || len(w.sim.Calls()) != c.calls {
			t.Errorf("%d calls, %d counted, want %d: %v", len(w.sim.Calls()), o.Calls, c.calls, err)
		}
	}
}

func (w *world) rules() []string {
	var out []string
	for _, r := range w.sim.Rules("acme.example") {
		out = append(out, strings.TrimPrefix(r.Description, "mf1:acme-mail:")+" "+r.Action+" "+r.Expression)
	}
	return out
}

func rulesOf(text ...string) specs.Zone {
	var z specs.Zone
	for _, t := range text {
		f := strings.Fields(t)
		z.Rules = append(z.Rules, specs.ZoneRule{Name: f[0], Action: f[1], Expression: f[2]})
	}
	return z
}

// Rules are a walk through states: each converges, and the rules of others stay
// where they are among themselves.
func TestRules(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	walk := func(z specs.Zone, want ...string) *plan.Plan {
		t.Helper()
		p := w.apply(blockSpec(z), how{})
		expect(t, "rules", w.rules(), want)
		return p
	}
	walk(rulesOf("a block x", "b block y"), "a block x", "b block y")
	w.sim.SeedRules("acme.example", cloudflaresim.Rule{Description: "theirs", Action: "log", Expression: "z"}, cloudflaresim.Rule{Description: "mf1:other:a", Action: "skip", Expression: "z"})
	walk(rulesOf("a block x", "b block y"), "a block x", "b block y", "theirs log z", "mf1:other:a skip z")
	walk(rulesOf("a block x", "b challenge y"), "a block x", "b challenge y", "theirs log z", "mf1:other:a skip z")
	p := walk(rulesOf("n block n", "a block x", "b challenge y"), "n block n", "a block x", "b challenge y", "theirs log z", "mf1:other:a skip z")
	expect(t, "a new first rule", pendingRules(p), []string{"create zone/acme.example/rule/n"})
	walk(rulesOf("b challenge y", "a block x"), "b challenge y", "a block x", "theirs log z", "mf1:other:a skip z")
	walk(rulesOf("a block x"), "a block x", "theirs log z", "mf1:other:a skip z")
	walk(specs.Zone{}, "theirs log z", "mf1:other:a skip z")
	p = walk(rulesOf("a block x"), "theirs log z", "mf1:other:a skip z", "a block x")
	if !slices.ContainsFunc(p.Foreign, func(f plan.Foreign) bool { return strings.Contains(f.Scope, "WAF custom rules") && f.Count == 2 }) {
		t.Errorf("foreign rules: %v", p.Foreign)
	}
	w.apply(blockSpec(rulesOf("a block x")), how{destroy: true, allow: []string{"**"}})
	expect(t, "after destroy", w.rules(), []string{"theirs log z", "mf1:other:a skip z"})
}

func pendingRules(p *plan.Plan) []string {
	return slices.DeleteFunc(pending(p), func(s string) bool { return !strings.Contains(s, "/rule/") })
}

// A rule that was disabled or turned into something else by hand is put right, and one
// with a second copy of our mark goes.
func TestRulesThatDrifted(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.sim.SeedRules("acme.example",
		cloudflaresim.Rule{Description: "mf1:acme-mail:a", Action: "block", Expression: "x"},
		cloudflaresim.Rule{Description: "mf1:acme-mail:a", Action: "block", Expression: "x", Enabled: true},
	)
	w.apply(blockSpec(rulesOf("a block x")), how{})
	rules := w.sim.Rules("acme.example")
	if len(rules) != 1 || !rules[0].Enabled {
		t.Errorf("rules: %+v", rules)
	}
}

// Each write beyond records, with each thing that can happen to it: nothing is done
// twice, and in the end all is as wanted.
func TestFaultsBeyondRecords(t *testing.T) {
	s := fullSpec()
	changed := fullSpec()
	z := changed.Zones[0]
	z.SecurityLevel, z.Rules[0].Action = "under_attack", "block"
	z.Rules = append(z.Rules, specs.ZoneRule{Name: "more", Action: "block", Expression: "m"})
	for _, c := range []struct {
		name    string
		fault   cloudflaresim.Fault
		class   plan.ErrorClass
		verdict plan.Verdict // of what does not move
	}{
		{"lost before it happened", cloudflaresim.Fault{Drop: true}, plan.ErrAmbiguous, plan.NotDone},
		{"answer lost", cloudflaresim.Fault{Lose: true}, plan.ErrAmbiguous, plan.Done},
		{"answer garbled", cloudflaresim.Fault{Garble: true}, plan.ErrAmbiguous, plan.Done},
		{"server error", cloudflaresim.Fault{Status: 500}, plan.ErrAmbiguous, plan.NotDone},
		{"throttled", cloudflaresim.Fault{Status: 429, RetryAfter: 3}, plan.ErrThrottled, plan.NotDone},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, cloudflaresim.Config{})
			for _, spec := range []*specs.Spec{s, changed} {
				p := w.plan(spec, how{})
				for _, op := range p.Ops {
					if op.Kind != opSetting && op.Kind != opWriteRule {
						continue
					}
					w.sim.SetFault(writes(c.fault))
					if _, err := w.p.Do(t.Context(), op, "", nil); plan.ClassOf(err) != c.class {
						t.Errorf("%s: class %q: %v", op.ID, plan.ClassOf(err), err)
					}
					w.sim.SetFault(nil)
					verdict, _, err := w.p.Resolve(t.Context(), op, "")
					if err != nil || verdict != c.verdict && !op.Inputs["move"].True() {
						t.Errorf("%s: resolved as %q, want %q (%v)", op.ID, verdict, c.verdict, err)
					}
					if verdict == plan.NotDone {
						if _, err := w.p.Do(t.Context(), op, "", nil); err != nil {
							t.Errorf("%s again: %v", op.ID, err)
						}
					}
				}
				w.apply(spec, how{})
			}
			if n := len(w.sim.Rules("acme.example")); n != 2 {
				t.Errorf("%d rules, want 2: %v", n, w.rules())
			}
		})
	}
}
