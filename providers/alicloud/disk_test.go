package alicloud

import (
	"slices"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/specs"
)

// withDisk gives the host a data disk with snapshots.
func withDisk(h *specs.Host) {
	h.Instance.DataDisk = &specs.DataDisk{Disk: specs.Disk{Category: "cloud_essd", SizeGiB: 200, Encrypted: true},
		Snapshots: &specs.Snapshots{Hour: 3, Days: 14}}
}

func TestADataDiskIsMadeAttachedAndSnapshotted(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	spec := testSpec(withDisk)
	out := c.apply(p, spec)
	m := c.machines[0]
	serial := out["host/mx1/data-disk-link"]["serial"].Str()
	if serial == "" || m.disks[serial] != 200 || out["host/mx1/data-disk"]["serial"].Str() != serial {
		t.Errorf("the machine sees %v; outputs %v", m.disks, out)
	}
	o := observed(t, p, spec, "host/mx1/data-disk")
	if !o.Attrs["encrypted"].True() || o.Attrs["delete_with_instance"].True() || !o.Attrs["zone"].Equal(observed(t, p, spec, "host/mx1/instance").Attrs["zone"]) {
		t.Errorf("disk %+v", o.Attrs)
	}
	snapshots := observed(t, p, spec, "host/mx1/snapshots")
	if snapshots.Attrs["disk"].Str() != o.ID || snapshots.Attrs["hour"].Num() != 3 || snapshots.Attrs["days"].Num() != 14 {
		t.Errorf("snapshots %+v", snapshots.Attrs)
	}

	// A plan without changes reads nine times, and knows what would go.
	before := len(c.sim.Calls())
	if left := pending(planFor(t, p, spec)); len(left) > 0 {
		t.Errorf("plan: %v", left)
	}
	if n := len(c.sim.Calls()) - before; n > 9 {
		t.Errorf("%d calls", n)
	}
	equal(t, "without the block", pending(planFor(t, p, testSpec())), []string{
		"delete host/mx1/data-disk (blocked)", "delete host/mx1/data-disk-link (blocked)", "delete host/mx1/snapshots (blocked)",
	})
	if ch := changeAt(planFor(t, p, testSpec()), "host/mx1/data-disk"); ch.Risk != plan.RiskLosesData {
		t.Errorf("risk %q", ch.Risk)
	}
	c.apply(p, testSpec(), allow("host/mx1/data-disk*"))
	if len(m.disks) != 0 || m.stopped {
		t.Errorf("the machine sees %v, stopped %v", m.disks, m.stopped)
	}
	c.apply(p, spec)
	if _, err := walk(p, planFor(t, p, spec, destroy), 0); err != nil {
		t.Fatal(err)
	}
	if !c.sim.Empty() {
		t.Errorf("left behind: %v", c.sim.Inventory())
	}
}

func changeAt(pl *plan.Plan, a plan.Address) plan.Change {
	for _, ch := range pl.Changes {
		if ch.Address == a {
			return ch
		}
	}
	return plan.Change{}
}

func TestADiskGrowsWhereItIsAndNeverShrinks(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec(withDisk))
	before := observed(t, p, testSpec(withDisk), "host/mx1/data-disk")
	bigger := testSpec(withDisk, func(h *specs.Host) {
		h.Instance.DataDisk.SizeGiB, h.Instance.DataDisk.Category = 300, "cloud_auto"
		h.Instance.DataDisk.Snapshots.Days = 30
		h.Instance.SystemDisk.SizeGiB = 60
	})
	equal(t, "plan", pending(planFor(t, p, bigger)), []string{
		"update host/mx1/data-disk", "update host/mx1/instance", "update host/mx1/snapshots",
	})
	c.apply(p, bigger)
	m := c.machines[0]
	o := observed(t, p, bigger, "host/mx1/data-disk")
	if o.ID != before.ID || m.disks[o.Outputs["serial"].Str()] != 300 || m.stopped {
		t.Errorf("the machine sees %v, stopped %v; disk %s then %s", m.disks, m.stopped, before.ID, o.ID)
	}
	if n := observed(t, p, bigger, "host/mx1/instance").Attrs["system_disk_gib"].Num(); n != 60 {
		t.Errorf("system disk of %d GiB", n)
	}

	// A smaller one means a new one, which is blocked, and says why.
	pl := planFor(t, p, testSpec(withDisk, func(h *specs.Host) { h.Instance.DataDisk.Category = "cloud_auto" }))
	ch := changeAt(pl, "host/mx1/data-disk")
	if ch.Action != plan.Replace || ch.Blocked == nil || ch.Blocked.Allow != "--allow host/mx1/data-disk" || ch.Risk != plan.RiskLosesData ||
		ch.Reason != "a disk cannot shrink: it has 300 GiB, the spec wants 200" {
		t.Errorf("%+v, blocked %+v", ch, ch.Blocked)
	}
	if ch := changeAt(pl, "host/mx1/instance"); ch.Action != plan.NoOp {
		t.Errorf("a system disk with more room than wanted is %s: %+v", ch.Action, ch.Fields)
	}
	c.apply(p, testSpec(withDisk), allow("host/mx1/data-disk"))
	if o := observed(t, p, testSpec(withDisk), "host/mx1/data-disk"); o.ID == before.ID || len(m.disks) != 1 || m.disks[o.Outputs["serial"].Str()] != 200 {
		t.Errorf("the machine sees %v", m.disks)
	}
}

func TestCategoriesThatCannotBeChanged(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		want     bool
	}{
		{"cloud_efficiency", "cloud_essd", true}, {"cloud_essd", "cloud_efficiency", true}, {"cloud_essd_entry", "cloud_auto", true},
		{"cloud_essd_entry", "cloud_ssd", false}, {"cloud_essd", "cloud_essd_entry", false}, {"cloud", "cloud_essd", false},
	} {
		if got := changeable(tc.from, tc.to); got != tc.want {
			t.Errorf("%s to %s: %v", tc.from, tc.to, got)
		}
	}
}

func TestReplacingTheInstanceKeepsTheDiskAndTheAddress(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	spec := testSpec(withDisk)
	c.apply(p, spec)
	disk, ip := observed(t, p, spec, "host/mx1/data-disk"), observed(t, p, spec, "host/mx1/address").Outputs["ip"]
	zone := disk.Attrs["zone"]
	record := plan.Attrs{"content": ip}
	replace := func(in *plan.Input) {
		in.Replace = []string{"host/mx1/instance"}
		// What refers to the association's address stays as it is.
		in.Desired = append(in.Desired, plan.Resource{Address: "dns/acme.example/a/mx1", Provider: "test", Kind: "record",
			Attrs: plan.Attrs{"content": plan.Unknown("host/mx1/address-link", "ip")}})
		in.Observed = append(in.Observed, plan.Object{Address: "dns/acme.example/a/mx1", Provider: "test", Kind: "record", Owner: plan.Ours, Attrs: record})
	}
	pl := planFor(t, p, spec, allow("host/mx1/instance"), replace)
	equal(t, "plan", pending(pl), []string{"replace host/mx1/address-link", "replace host/mx1/data-disk-link", "replace host/mx1/instance"})
	if _, err := walk(p, pl, 1); err != nil {
		t.Fatal(err)
	}
	old, fresh := c.machines[0], c.machines[1]
	if !old.gone || len(old.disks) != 0 || old.pulled {
		t.Errorf("the old machine: %+v", old)
	}
	o := observed(t, p, spec, "host/mx1/data-disk")
	if o.ID != disk.ID || fresh.disks[disk.Outputs["serial"].Str()] != 200 || fresh.ip.String() != ip.Str() || !o.Attrs["zone"].Equal(zone) {
		t.Errorf("the new machine has %v and %v", fresh.disks, fresh.ip)
	}
	if left := pending(planFor(t, p, spec)); len(left) > 0 {
		t.Errorf("plan: %v", left)
	}
}

// TestAnInstanceThatIsGoneComesBackBesideItsDisk: the disk decides about the zone.
func TestAnInstanceThatIsGoneComesBackBesideItsDisk(t *testing.T) {
	sold := ""
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.NoStock, cfg.Announced = func(zone, _ string) bool { return zone == sold }, true
	})
	p := c.provider()
	sold = "cn-hongkong-b"
	spec := testSpec(withDisk)
	c.apply(p, spec)
	if z := observed(t, p, spec, "host/mx1/data-disk").Attrs["zone"].Str(); z != "cn-hongkong-c" {
		t.Fatalf("the disk is in %s", z)
	}
	sold = ""
	without := planFor(t, p, spec, destroy)
	_, err := walkWith(p, without, 3, func(p *Provider, op plan.Op, generation int) (plan.Result, error) {
		if slices.Contains(op.Addresses, "host/mx1/data-disk") || slices.Contains(op.Addresses, "host/mx1/network") {
			return plan.Result{}, nil // only this far
		}
		return step(p, op, generation)
	})
	if err != nil {
		t.Fatal(err)
	}
	c.apply(p, spec)
	if z := observed(t, p, spec, "host/mx1/instance").Attrs["zone"].Str(); z != "cn-hongkong-c" {
		t.Errorf("the instance came back in %s, away from its disk", z)
	}
}

func TestADiskThatSomebodyMovedComesBack(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	spec := testSpec(withDisk)
	c.apply(p, spec)
	disk, inst := observed(t, p, spec, "host/mx1/data-disk").ID, observed(t, p, spec, "host/mx1/instance").ID
	raw(t, p, &diskAction{rpc: newRPC(ecsDetachDisk), DiskId: disk, InstanceId: inst}, &idAnswer{answer: newAnswer()})
	equal(t, "plan", pending(planFor(t, p, spec)), []string{"update host/mx1/data-disk-link"})
	c.apply(p, spec)
	raw(t, p, &diskAction{rpc: newRPC(ecsModifyDiskAttribute), DiskId: disk, DeleteWithInstance: "true"}, &idAnswer{answer: newAnswer()})
	equal(t, "plan", pending(planFor(t, p, spec)), []string{"update host/mx1/data-disk"})
	c.apply(p, spec)
	raw(t, p, &snapshotPolicyAction{rpc: newRPC(ecsCancelAutoSnapshotPolicy), DiskIds: jsonList(disk)}, &idAnswer{answer: newAnswer()})
	equal(t, "plan", pending(planFor(t, p, spec)), []string{"update host/mx1/snapshots"})
	c.apply(p, spec)
}

func TestForgettingAHost(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	spec := testSpec(withDisk)
	c.apply(p, spec)
	things := c.sim.Inventory()
	before := len(c.sim.Calls())
	forget := func(in *plan.Input) { in.Forget = []specs.Forget{{Address: "host/mx1/*"}} }
	pl := planFor(t, p, spec, forget)
	for _, s := range pending(pl) {
		if !strings.HasPrefix(s, "forget ") {
			t.Errorf("plan: %s", s)
		}
	}
	if n := len(pending(pl)); n != 10 {
		t.Errorf("%d things are forgotten", n)
	}
	if _, err := walk(p, pl, 0); err != nil {
		t.Fatal(err)
	}
	for _, call := range c.sim.Calls()[before:] {
		if !call.ReadOnly() && call.Action != "UntagResources" && call.Action != "UnTagResources" && call.Action != "ModifySecurityGroupRule" {
			t.Errorf("forgetting called %s", call.Action)
		}
	}
	equal(t, "things", c.sim.Inventory(), things)
	if left := pending(planFor(t, p, spec, forget)); len(left) > 0 {
		t.Errorf("after forgetting: %v", left)
	}
	if left := pending(planFor(t, p, &specs.Spec{}, destroy)); len(left) > 0 {
		t.Errorf("destroying would still touch %v", left)
	}
	ip := c.machines[0].ip
	if !c.sim.Allows(ip, "tcp", 25, prefixes("192.0.2.0/24")[0].Addr()) {
		t.Error("a port was closed")
	}
}

func TestForgettingPartOfAHost(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	spec := testSpec(withDisk)
	c.apply(p, spec)
	// The link is nothing without the address; that is said.
	link := planFor(t, p, spec, func(in *plan.Input) { in.Forget = []specs.Forget{{Address: "host/mx1/address-link"}} })
	if _, err := walk(p, link, 0); plan.ClassOf(err) != plan.ErrSpec || !strings.Contains(fixOf(err), "forget host/mx1/address too") {
		t.Errorf("err %v; %s", err, fixOf(err))
	}
	// A vSwitch that was forgotten is not ours, although our instance stands in it.
	none := &specs.Spec{Stack: specs.Stack{Name: "acme-mail"}}
	forget := func(in *plan.Input) {
		in.Forget = []specs.Forget{{Address: "host/mx1/subnet"}, {Address: "host/mx1/network"}}
	}
	if _, err := walk(p, planFor(t, p, none, forget), 0); err != nil {
		t.Fatal(err)
	}
	for _, ch := range planFor(t, p, none, forget).Changes {
		if ch.Address == "host/mx1/subnet" || ch.Address == "host/mx1/network" {
			t.Errorf("%s is still seen: %s", ch.Address, ch.Action)
		}
	}
	c.apply(p, none, forget, allow("host/mx1/*"))
	if left := c.sim.Inventory(); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}
