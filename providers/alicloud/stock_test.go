package alicloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/specs"
)

// soldIn makes types sold out in zones, by the letter: "ecs.g7.large b". The vendor
// does not announce it.
func soldIn(pairs ...string) func(*alicloudsim.Config) {
	return func(cfg *alicloudsim.Config) {
		cfg.NoStock = func(zone, t string) bool { return slices.Contains(pairs, t+" "+zone[len(zone)-1:]) }
	}
}

func standIns(types ...string) func(*specs.Host) {
	return func(h *specs.Host) { h.Instance.Instead = types }
}

func TestAnotherZoneIsFoundWhenOneIsSoldOut(t *testing.T) {
	c := newCloud(t, soldIn("ecs.g7.large b"))
	p := c.provider()
	spec := testSpec(withDisk)
	out := c.apply(p, spec) // and the plan is empty afterwards
	inst := observed(t, p, spec, "host/mx1/instance")
	subnet := observed(t, p, spec, "host/mx1/subnet")
	if inst.Attrs["zone"].Str() != "cn-hongkong-c" || subnet.Attrs["zone"].Str() != "cn-hongkong-c" {
		t.Errorf("the instance is in %v, the vSwitch in %v", inst.Attrs["zone"], subnet.Attrs["zone"])
	}
	// What is reported is what there is.
	if out["host/mx1/subnet"]["id"].Str() != subnet.ID || out["host/mx1/subnet"]["zone"].Str() != "cn-hongkong-c" || out["host/mx1/instance"]["zone"].Str() != "cn-hongkong-c" {
		t.Errorf("reported %v", out["host/mx1/subnet"])
	}
	if n := len(c.sim.Inventory()); n != 8 || len(c.machines) != 1 {
		t.Errorf("there are %v", c.sim.Inventory())
	}
}

func TestAnotherTypeStandsInWhenAllZonesAreSoldOut(t *testing.T) {
	c := newCloud(t, soldIn("ecs.g7.large b", "ecs.g7.large c", "ecs.g8i.large c", "ecs.g8i.large d"))
	p := c.provider()
	spec := testSpec(standIns("ecs.g8i.large", "ecs.c7.large"))
	c.apply(p, spec)
	inst := observed(t, p, spec, "host/mx1/instance")
	if got := inst.Attrs["stands_in"].Str(); got != "ecs.c7.large" || !inst.Attrs["type"].Equal(plan.String("ecs.g7.large")) {
		t.Errorf("type %v, stands in %v", inst.Attrs["type"], inst.Attrs["stands_in"])
	}
	// It stays as long as the spec lets it stand in …
	if left := pending(planFor(t, p, spec)); len(left) > 0 {
		t.Errorf("plan: %v", left)
	}
	// … and when it does not, or wants another type, that is a change of type.
	for _, other := range []*specs.Spec{testSpec(), testSpec(standIns("ecs.g8i.large", "ecs.c7.large"), func(h *specs.Host) { h.Instance.Type = "ecs.g7.xlarge" })} {
		equal(t, "plan", pending(planFor(t, p, other)), []string{"update host/mx1/instance"})
	}
}

func TestWhereTheZoneIsGivenOnlyTypesAreTried(t *testing.T) {
	c := newCloud(t, soldIn("ecs.g7.large b"))
	p := c.provider()
	inB := func(h *specs.Host) { h.Instance.Zone = "cn-hongkong-b" }
	spec := testSpec(inB, standIns("ecs.c7.large"))
	c.apply(p, spec)
	if o := observed(t, p, spec, "host/mx1/instance"); o.Attrs["zone"].Str() != "cn-hongkong-b" || o.Attrs["stands_in"].Str() != "ecs.c7.large" {
		t.Errorf("%+v", o.Attrs)
	}
}

func TestWhenNothingCanBeHadTheErrorSaysWhatCan(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.NoStock = func(zone, t string) bool { return t == "ecs.g7.large" || t == "ecs.g8i.large" }
		cfg.Announced = true
	})
	p := c.provider()
	spec := testSpec(standIns("ecs.g8i.large"))
	_, err := walk(p, planFor(t, p, spec), 0)
	var e *plan.Error
	if !errors.As(err, &e) || e.Code != codeStock || !strings.Contains(e.Got, "ecs.g7.large or ecs.g8i.large") ||
		!strings.Contains(e.Fix, "ecs.c7.large (cn-hongkong-b, cn-hongkong-c, cn-hongkong-d)") {
		t.Errorf("%v; fix: %v", err, e)
	}
	// Announced or not.
	c = newCloud(t, soldIn("ecs.g7.large b", "ecs.g7.large c"))
	p = c.provider()
	_, err = walk(p, planFor(t, p, testSpec()), 0)
	if fix := fixOf(err); plan.ClassOf(err) != plan.ErrFatal || !strings.Contains(fix, "of the same size cn-hongkong sells now: ecs.c7.large") {
		t.Errorf("%v; fix: %s", err, fix)
	}
	// Nothing is doubled by that, and the next attempt goes on from there.
	if n := len(c.sim.Inventory()); n != 5 {
		t.Errorf("there are %v", c.sim.Inventory())
	}
}

// TestASearchInterruptedAnywhere drops every answer of a search over two zones and two
// types: nothing is doubled and nothing is left behind.
func TestASearchInterruptedAnywhere(t *testing.T) {
	sold := soldIn("ecs.g7.large b", "ecs.g7.large c")
	spec := testSpec(standIns("ecs.c7.large"))
	run := func(c *cloud, resolve bool) error {
		p := c.provider()
		pl := planFor(t, p, spec)
		if resolve {
			_, err := walk(p, pl, 0)
			return err
		}
		_, err := walkUntilAmbiguous(p, pl)
		return err
	}
	ref := newCloud(t, sold)
	if err := run(ref, true); err != nil {
		t.Fatal(err)
	}
	want := worldOf(ref)
	effects := 0
	for _, call := range ref.sim.Calls() {
		if !call.ReadOnly() {
			effects++
		}
	}
	runs := 0
	for n := range effects {
		for _, after := range []bool{false, true} {
			for _, crash := range []bool{false, true} {
				runs++
				name := fmt.Sprintf("effect %d, after=%v, crash=%v", n+1, after, crash)
				c := newCloud(t, sold)
				seen := 0
				c.inject(func(call alicloudsim.Call) alicloudsim.Fault {
					if !call.ReadOnly() {
						if seen++; seen == n+1 {
							return alicloudsim.Fault{Drop: true, After: after}
						}
					}
					return alicloudsim.Fault{}
				})
				err := run(c, !crash)
				if crash {
					err = run(c, false)
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if got := worldOf(c); !slices.Equal(got, want) || count(c.machines) != 1 {
					t.Errorf("%s: the world is %v, want %v", name, got, want)
				}
				if left := pending(planFor(t, c.provider(), spec)); len(left) > 0 {
					t.Errorf("%s: plan %v", name, left)
				}
			}
		}
	}
	t.Logf("%d effects, %d interruptions, no duplicate, no orphan", effects, runs)
}

func TestAnInstanceIsNotTakenAwayWhenThereIsNoOther(t *testing.T) {
	sold := false
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.NoStock, cfg.Announced = func(zone, _ string) bool { return sold && zone == "cn-hongkong-b" }, true
	})
	p := c.provider()
	spec := testSpec(withDisk)
	c.apply(p, spec)
	sold = true
	replace := func(in *plan.Input) { in.Replace = []string{"host/mx1/instance"} }
	before := len(c.sim.Calls())
	_, err := walk(p, planFor(t, p, spec, replace, allow("host/mx1/instance")), 1)
	if plan.ClassOf(err) != plan.ErrFatal || !strings.Contains(err.Error(), "zone cn-hongkong-b does not sell ecs.g7.large now") || !strings.Contains(fixOf(err), "runs on") {
		t.Errorf("%v; %s", err, fixOf(err))
	}
	for _, call := range c.sim.Calls()[before:] {
		if !call.ReadOnly() {
			t.Errorf("%s was called", call.Action)
		}
	}
	// Without a data disk any zone will do.
	c = newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.NoStock = func(zone, _ string) bool { return sold && zone == "cn-hongkong-b" }
	})
	sold = false
	p = c.provider()
	c.apply(p, testSpec())
	sold = true
	if _, err := walk(p, planFor(t, p, testSpec(), replace, allow("host/mx1/instance")), 1); err != nil {
		t.Fatal(err)
	}
	if left := pending(planFor(t, p, testSpec())); len(left) > 0 || len(c.machines) != 2 {
		t.Errorf("plan: %v", left)
	}
}

func TestBesideADataDiskOnlyItsZoneWillDo(t *testing.T) {
	sold := false
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.NoStock = func(zone, t string) bool { return sold && zone == "cn-hongkong-b" && t == "ecs.g7.large" }
	})
	p := c.provider()
	spec := testSpec(withDisk)
	c.apply(p, spec)
	sold = true
	replace := func(in *plan.Input) { in.Replace = []string{"host/mx1/instance"} }
	_, err := walk(p, planFor(t, p, spec, replace, allow("host/mx1/instance")), 1)
	if fix := fixOf(err); !strings.Contains(fix, "zone cn-hongkong-b, which its data disk cannot leave, sells now: ecs.c7.large") {
		t.Errorf("%v; %s", err, fix)
	}
	c.apply(p, testSpec(withDisk, standIns("ecs.c7.large")))
	if o := observed(t, p, spec, "host/mx1/instance"); o.Attrs["zone"].Str() != "cn-hongkong-b" {
		t.Errorf("%+v", o.Attrs)
	}
}

func TestATypeThatIsSoldOutDoesNotStopTheMail(t *testing.T) {
	announced := true
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.NoStock = func(_, t string) bool { return t == "ecs.g7.xlarge" }
		cfg.Announced = announced
	})
	p := c.provider()
	c.apply(p, testSpec())
	bigger := testSpec(func(h *specs.Host) { h.Instance.Type = "ecs.g7.xlarge" })
	before := len(c.sim.Calls())
	_, err := walk(p, planFor(t, p, bigger), 0)
	if plan.ClassOf(err) != plan.ErrFatal || !strings.Contains(err.Error(), "does not sell ecs.g7.xlarge now") {
		t.Errorf("err = %v", err)
	}
	for _, call := range c.sim.Calls()[before:] {
		if !call.ReadOnly() {
			t.Errorf("%s was called", call.Action)
		}
	}

	// When it comes as a surprise, the machine is already stopped: it starts again.
	c = newCloud(t, func(cfg *alicloudsim.Config) { cfg.NoStock = func(_, t string) bool { return t == "ecs.g7.xlarge" } })
	p = c.provider()
	c.apply(p, testSpec())
	_, err = walk(p, planFor(t, p, bigger), 0)
	if !strings.Contains(fixOf(err), "starts again with its former type") {
		t.Errorf("err = %v; %s", err, fixOf(err))
	}
	c.apply(p, testSpec())
	if c.machines[0].stopped {
		t.Error("the machine is stopped")
	}
}

func TestTheSubnetAloneFindsItsZone(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	only := func(in *plan.Input) { in.Only = []string{"host/mx1/subnet"} }
	pl := planFor(t, p, testSpec(), only)
	equal(t, "plan", slices.DeleteFunc(pending(pl), func(s string) bool { return !strings.HasPrefix(s, "create") }), []string{"create host/mx1/network", "create host/mx1/subnet"})
	if _, err := walk(p, pl, 0); err != nil {
		t.Fatal(err)
	}
	if z := observed(t, p, testSpec(), "host/mx1/subnet").Attrs["zone"].Str(); z != "cn-hongkong-b" {
		t.Errorf("the vSwitch is in %q", z)
	}
	c.apply(p, testSpec())
}

func TestOptionsOfAnInstance(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) { cfg.Roles = []string{"mail-backup"} })
	p := c.provider()
	spec := testSpec(func(h *specs.Host) { h.Instance.RAMRole, h.Instance.SystemDisk.Encrypted = "mail-backup", true })
	c.apply(p, spec)
	for _, call := range c.sim.Calls() {
		if call.Action == "RunInstances" && (call.Params.Get("RamRoleName") != "mail-backup" || call.Params.Get("SystemDisk.Encrypted") != "true") {
			t.Errorf("%v", call.Params)
		}
	}
	// It is protected: not even we can delete it without lifting that first.
	id := observed(t, p, spec, "host/mx1/instance").ID
	del := plan.Op{Kind: opDeleteInstance, Addresses: []plan.Address{"host/mx1/instance"}, Inputs: plan.Attrs{"id": plan.String(id)}}
	if _, err := p.Do(context.Background(), del, "t", nil); plan.ClassOf(err) != plan.ErrBlocked {
		t.Errorf("err = %v", err)
	}
	// Somebody lifts it: the next apply protects again.
	raw(t, p, &instanceAction{rpc: newRPC(ecsModifyInstanceAttribute), InstanceId: id, DeletionProtection: "false"}, &idAnswer{answer: newAnswer()})
	equal(t, "plan", pending(planFor(t, p, spec)), []string{"update host/mx1/instance"})
	c.apply(p, spec)
	c.apply(p, &specs.Spec{}, allow("host/mx1/*"))

	_, err := walk(p, planFor(t, p, testSpec(func(h *specs.Host) { h.Instance.RAMRole = "nobody" })), 9)
	if !strings.Contains(err.Error(), "InvalidRamRole.NotFound") || !strings.Contains(fixOf(err), "ram_role") {
		t.Errorf("err = %v; %s", err, fixOf(err))
	}
}
