package alicloud

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/providers/internal/vendortest"
	"mailform/specs"
)

func TestDefinitionsAreThere(t *testing.T) {
	if vendortest.Definitions() == "" {
		t.Skip("the vendor's API definitions are not here: requests and answers are not checked against them (set MAILFORM_VENDOR_API)")
	}
}

func TestAHostIsMadeAndTakenAway(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	spec := testSpec()

	first := planFor(t, p, spec)
	equal(t, "first plan", pending(first), []string{
		"create host/mx1/address", "create host/mx1/address-link", "create host/mx1/firewall", "create host/mx1/instance",
		"create host/mx1/network", "create host/mx1/ssh-key", "create host/mx1/subnet",
	})
	out := c.apply(p, spec)

	if len(c.machines) != 1 {
		t.Fatalf("%d machines were booted", len(c.machines))
	}
	m := c.machines[0]
	link := out["host/mx1/address-link"]["ip"].Str()
	if link == "" || link != out["host/mx1/address"]["ip"].Str() || m.ip.String() != link {
		t.Errorf("the machine has address %v, the link says %q, the address %q", m.ip, link, out["host/mx1/address"]["ip"].Str())
	}
	if m.req.HostName != "mail.acme.example" || !strings.HasPrefix(operator, m.req.PublicKey) {
		t.Errorf("booted with %+v", m.req)
	}
	if out["host/mx1/instance"]["image_id"].Str() != "debian_12_11_x64_20G_alibase_20250716.vhd" {
		t.Errorf("image %v is not the newest debian-12", out["host/mx1/instance"]["image_id"])
	}

	// The machine has the host key whose fingerprint the tag tells.
	cc := booted(t, m)
	signer, err := ssh.ParsePrivateKey([]byte(cc.SSHKeys.Private))
	if err != nil {
		t.Fatal(err)
	}
	if f := ssh.FingerprintSHA256(signer.PublicKey()); f != out["host/mx1/instance"]["host_key"].Str() {
		t.Errorf("host key is %s, the output says %v", f, out["host/mx1/instance"]["host_key"])
	}
	if u := cc.user(t); u.Name != "root" || len(u.AuthorizedKeys) != 1 || cc.SSHPasswordAuth {
		t.Errorf("account %+v", u)
	}

	// The firewall lets mail in from everywhere and SSH from where the spec says.
	ip, out1 := m.ip, netip.MustParseAddr("192.0.2.1")
	for port, want := range map[int]bool{25: true, 465: true, 587: true, 143: true, 993: true, 22: false, 80: false, 3306: false} {
		if got := c.sim.Allows(ip, "tcp", port, out1); got != want {
			t.Errorf("port %d from outside: %v", port, got)
		}
	}
	if !c.sim.Allows(ip, "tcp", 22, netip.MustParseAddr("198.51.100.200")) {
		t.Error("SSH is closed to the operator")
	}

	if _, err := walk(p, planFor(t, p, spec, destroy), 0); err != nil {
		t.Fatal(err)
	}
	if !c.sim.Empty() {
		t.Errorf("left behind: %v", c.sim.Inventory())
	}
	if !m.stopped || !m.gone || m.ip.IsValid() {
		t.Errorf("the machine is still there: %+v", m)
	}
	// And again from nothing: the same intent in another generation.
	if _, err := walk(p, planFor(t, p, spec), 1); err != nil {
		t.Fatal(err)
	}
}

// observed gives one object.
func observed(t *testing.T, p *Provider, spec *specs.Spec, a plan.Address) plan.Object {
	t.Helper()
	desired, _ := p.Declare(spec)
	seen, err := p.Observe(context.Background(), plan.Scope{Stack: "acme-mail", Desired: desired})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range seen.Objects {
		if o.Address == a {
			return o
		}
	}
	t.Fatalf("%s is not there: %+v", a, seen.Objects)
	return plan.Object{}
}

func TestAPlanWithoutChangesCostsAtMostNineCalls(t *testing.T) {
	for _, rules := range []int{0, 150} {
		c := newCloud(t)
		p := c.provider()
		spec := testSpec(func(h *specs.Host) {
			for i := range rules {
				h.Allow = append(h.Allow, specs.Allow{Name: "many", Protocol: "tcp", FromPort: 1000 + i, ToPort: 1000 + i,
					From: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
			}
		})
		c.apply(p, spec)
		before := len(c.sim.Calls())
		desired, _ := p.Declare(spec)
		seen, err := p.Observe(context.Background(), plan.Scope{Stack: "acme-mail", Desired: desired})
		if err != nil {
			t.Fatal(err)
		}
		made := len(c.sim.Calls()) - before
		if seen.Calls != made || made > 9 {
			t.Errorf("%d rules: %d calls were made, %d counted", rules, made, seen.Calls)
		}
		for _, call := range c.sim.Calls()[before:] {
			if !call.ReadOnly() {
				t.Errorf("observing called %s", call.Action)
			}
		}
	}
}

func TestAHostThatLeavesTheSpecIsProtectedAndThenDeleted(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec())
	none := &specs.Spec{Stack: specs.Stack{Name: "acme-mail"}}
	equal(t, "without permission", pending(planFor(t, p, none)), []string{
		"delete host/mx1/address (blocked)", "delete host/mx1/address-link (blocked)", "delete host/mx1/firewall (blocked)",
		"delete host/mx1/instance (blocked)", "delete host/mx1/network (blocked)", "delete host/mx1/ssh-key (blocked)", "delete host/mx1/subnet (blocked)",
	})
	c.apply(p, none, allow("host/mx1/*"))
	if !c.sim.Empty() {
		t.Errorf("left behind: %v", c.sim.Inventory())
	}
}

func TestChangesInPlace(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec())
	bigger := testSpec(func(h *specs.Host) { h.Instance.Type = "ecs.g7.xlarge"; h.Instance.Bandwidth = 50 })
	pl := planFor(t, p, bigger)
	equal(t, "plan", pending(pl), []string{"update host/mx1/address", "update host/mx1/instance"})
	for _, ch := range pl.Changes {
		if ch.Address == "host/mx1/instance" && ch.Risk != plan.RiskInterrupts {
			t.Errorf("a change of type has risk %q", ch.Risk)
		}
	}
	roomier := planFor(t, p, testSpec(func(h *specs.Host) { h.Instance.SystemDisk.SizeGiB *= 2 }))
	equal(t, "plan", pending(roomier), []string{"update host/mx1/instance"})
	for _, ch := range roomier.Changes {
		if ch.Risk != plan.RiskNone {
			t.Errorf("a larger disk, which the instance does not stop for: %s has risk %q", ch.Address, ch.Risk)
		}
	}
	before := observed(t, p, bigger, "host/mx1/instance")
	c.apply(p, bigger)
	after := observed(t, p, bigger, "host/mx1/instance")
	if before.ID != after.ID || after.Attrs["type"].Str() != "ecs.g7.xlarge" || !before.Outputs["host_key"].Equal(after.Outputs["host_key"]) {
		t.Errorf("before %+v after %+v", before, after)
	}
	if len(c.machines) != 1 || c.machines[0].stopped {
		t.Error("the machine should have been restarted, not made anew")
	}
}

func TestAStoppedInstanceIsStartedAndItsAddressKnownAgain(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec())
	id := observed(t, p, testSpec(), "host/mx1/instance").ID
	stop := plan.Op{Kind: opStopInstance, Addresses: []plan.Address{"host/mx1/instance"}, Inputs: plan.Attrs{"id": plan.String(id)}}
	if _, err := p.Do(context.Background(), stop, "t", nil); err != nil {
		t.Fatal(err)
	}
	stop.Kind = opWaitStopped
	if _, err := p.Do(context.Background(), stop, "t", nil); err != nil {
		t.Fatal(err)
	}
	if _, known := observed(t, p, testSpec(), "host/mx1/address-link").Outputs["ip"]; known {
		t.Error("a stopped machine cannot be reached, yet its address is given")
	}
	equal(t, "plan", pending(planFor(t, p, testSpec())), []string{"update host/mx1/instance"})
	out := c.apply(p, testSpec())
	if out["host/mx1/address-link"]["ip"].Str() == "" {
		t.Error("the address is not given after the start")
	}
}

func TestMovingToAnotherZone(t *testing.T) {
	zone := func(z string) func(*specs.Host) { return func(h *specs.Host) { h.Instance.Zone = "cn-hongkong-" + z } }
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec(zone("b")))
	ip := observed(t, p, testSpec(), "host/mx1/address").Outputs["ip"]
	equal(t, "without permission", pending(planFor(t, p, testSpec(zone("c")))), []string{
		"replace host/mx1/address-link (blocked)", "replace host/mx1/instance (blocked)", "replace host/mx1/subnet (blocked)",
	})
	pl := planFor(t, p, testSpec(zone("c")), allow("host/mx1/*"))
	if _, err := walk(p, pl, 1); err != nil {
		t.Fatal(err)
	}
	if left := pending(planFor(t, p, testSpec(zone("c")))); len(left) > 0 {
		t.Errorf("after moving: %v", left)
	}
	o := observed(t, p, testSpec(), "host/mx1/address-link")
	if !o.Outputs["ip"].Equal(ip) {
		t.Errorf("the address changed from %v to %v", ip, o.Outputs["ip"])
	}
	if n := len(c.sim.Inventory()); n != 6 {
		t.Errorf("there are %d things: %v", n, c.sim.Inventory())
	}
	if !c.machines[0].gone || c.machines[1].ip.String() != ip.Str() {
		t.Error("the old machine is there, or the new one has no address")
	}
}

// TestAnotherAddress: an address that is made anew is taken from the instance, given
// back, and another one takes its place. What names it follows in the same run.
func TestAnotherAddress(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec())
	old := observed(t, p, testSpec(), "host/mx1/address").Outputs["ip"].Str()
	pl := planFor(t, p, testSpec(), allow("host/mx1/address"), func(in *plan.Input) { in.Replace = []string{"host/mx1/address"} })
	equal(t, "plan", pending(pl), []string{"replace host/mx1/address", "replace host/mx1/address-link"})
	out, err := walk(p, pl, 1)
	if err != nil {
		t.Fatal(err)
	}
	ip := out["host/mx1/address-link"]["ip"].Str()
	if ip == "" || ip == old || c.machines[0].ip.String() != ip {
		t.Errorf("the address was %s and is %s, the machine has %v", old, ip, c.machines[0].ip)
	}
	if n := len(c.sim.Inventory()); n != 6 {
		t.Errorf("there are %d things: %v", n, c.sim.Inventory())
	}
	equal(t, "afterwards", pending(planFor(t, p, testSpec())), nil)
}

func TestSoldOut(t *testing.T) {
	sold := func(zone, _ string) bool { return zone == "cn-hongkong-b" }
	c := newCloud(t, func(cfg *alicloudsim.Config) { cfg.NoStock = sold })
	p := c.provider()
	inB := testSpec(func(h *specs.Host) { h.Instance.Zone = "cn-hongkong-b" })
	_, err := walk(p, planFor(t, p, inB), 0)
	if plan.ClassOf(err) != plan.ErrFatal || !strings.Contains(err.Error(), "OperationDenied.NoStock") {
		t.Fatalf("err = %v", err)
	}
	if fix := fixOf(err); !strings.Contains(fix, "cn-hongkong-c") {
		t.Errorf("the fix does not name a zone that has it: %q", fix)
	}
	// The person follows the advice; the empty vSwitch is in the way of nobody.
	c.apply(p, testSpec(func(h *specs.Host) { h.Instance.Zone = "cn-hongkong-c" }))
	if n := len(c.sim.Inventory()); n != 6 {
		t.Errorf("there are %d things: %v", n, c.sim.Inventory())
	}

	// When the vendor tells beforehand, a spec without a zone never tries.
	c = newCloud(t, func(cfg *alicloudsim.Config) { cfg.NoStock, cfg.Announced = sold, true })
	c.apply(c.provider(), testSpec())
	if z := observed(t, c.provider(), testSpec(), "host/mx1/instance").Attrs["zone"].Str(); z != "cn-hongkong-c" {
		t.Errorf("zone %s was chosen", z)
	}
}

func TestStockThatReturnsNeedsANewToken(t *testing.T) {
	sold := true
	c := newCloud(t, func(cfg *alicloudsim.Config) { cfg.NoStock = func(string, string) bool { return sold } })
	p := c.provider()
	if _, err := walk(p, planFor(t, p, testSpec()), 0); err == nil {
		t.Fatal("nothing was sold out")
	}
	sold = false
	// The same token again: the vendor would repeat its refusal to the same request
	// and calls this one a mismatch. The provider sees that no instance exists.
	if _, err := walk(p, planFor(t, p, testSpec()), 0); err != nil {
		t.Fatal(err)
	}
	if len(c.machines) != 1 {
		t.Errorf("%d machines", len(c.machines))
	}
}

func fixOf(err error) string {
	var e *plan.Error
	if errors.As(err, &e) {
		return e.Fix
	}
	return ""
}

func TestSeveralHostsAndKeys(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	spec := testSpec(func(h *specs.Host) {
		h.SSH.User = "admin"
		h.SSH.Port = 2222
		h.SSH.AuthorizedKeys = []string{operator, strings.Replace(operator, "A6Tf", "B6Tf", 1)}
	})
	second := *spec.Hosts[0]
	second.Name, second.Hostname = "mx2", "mail2.acme.example"
	spec.Hosts = append(spec.Hosts, &second)
	c.apply(p, spec)
	if n := len(c.sim.Inventory()); n != 12 {
		t.Errorf("there are %d things: %v", n, c.sim.Inventory())
	}
	cc := booted(t, c.machines[0])
	if u := cc.user(t); u.Name != "admin" || len(u.AuthorizedKeys) != 2 || u.Sudo == "" {
		t.Errorf("account %+v", u)
	}
	if len(cc.WriteFiles) != 1 || cc.WriteFiles[0].Content != "Port 2222\n" {
		t.Errorf("files %+v", cc.WriteFiles)
	}
	// One leaves, the other is not touched.
	spec.Hosts = spec.Hosts[:1]
	c.apply(p, spec, allow("host/mx2/*"))
	left := c.sim.Inventory()
	if len(left) != 6 || slices.ContainsFunc(left, func(s string) bool { return strings.Contains(s, "mx2") }) {
		t.Errorf("left: %v", left)
	}
}

func TestAnotherStackIsNotSeen(t *testing.T) {
	c := newCloud(t)
	other := c.provider(func(cfg *Config) { cfg.Stack = "other" })
	desired, _ := other.Declare(testSpec())
	pl, diags := plan.Build(plan.Input{Stack: "other", Desired: desired, Compilers: map[string]func([]plan.Change) []plan.Op{Name: other.Compile}})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if _, err := walk(other, pl, 0); err != nil {
		t.Fatal(err)
	}
	p := c.provider()
	if n := len(pending(planFor(t, p, testSpec()))); n != 7 {
		t.Errorf("%d changes, want all 7 creates", n)
	}
	if n := len(pending(planFor(t, p, testSpec(), destroy))); n != 0 {
		t.Errorf("destroying would touch %d things of another stack", n)
	}
}

func TestCopiedTagsAreShownAndNotMistaken(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec())
	// Someone makes a second group "like that one", tags and all, and one with the
	// tags of something else.
	vpcID := observed(t, p, testSpec(), "host/mx1/network").ID
	for name, address := range map[string]string{"copy": "host/mx1/firewall", "odd": "host/mx1/network"} {
		resp := &idAnswer{answer: newAnswer()}
		raw(t, p, &createSecurityGroup{rpc: newRPC(ecsCreateSecurityGroup), VpcId: vpcID, SecurityGroupName: name, Tag: addressTags("acme-mail", address)}, resp)
	}
	got := pending(planFor(t, p, testSpec()))
	if len(got) != 2 || !strings.HasPrefix(got[0], "delete host/mx1/firewall/sg-") || !strings.HasPrefix(got[1], "delete host/mx1/network/sg-") {
		t.Fatalf("plan: %v", got)
	}
	c.apply(p, testSpec())
	if n := len(c.sim.Inventory()); n != 6 {
		t.Errorf("there are %d things: %v", n, c.sim.Inventory())
	}
}

func TestDestroyAfterACrashInTheMiddleOfBooting(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	_, err := walkWith(p, planFor(t, p, testSpec()), 0, func(p *Provider, op plan.Op, generation int) (plan.Result, error) {
		if op.Kind == opWaitRunning {
			return plan.Result{}, errors.New("killed")
		}
		return step(p, op, generation)
	})
	if err == nil || len(c.machines) != 0 {
		t.Fatalf("err %v, %d machines", err, len(c.machines))
	}
	if _, err := walk(p, planFor(t, p, testSpec(), destroy), 0); err != nil {
		t.Fatal(err)
	}
	if !c.sim.Empty() {
		t.Errorf("left behind: %v", c.sim.Inventory())
	}
}

func TestAnInstanceThatDoesNotStartIsReported(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.Boot = func(alicloudsim.BootRequest) (alicloudsim.Machine, error) { return nil, errors.New("kernel panic") }
	})
	p := c.provider()
	_, err := walk(p, planFor(t, p, testSpec()), 0)
	if plan.ClassOf(err) != plan.ErrFatal || !strings.Contains(err.Error(), "does not start: it is Stopped") {
		t.Errorf("class %q: %v", plan.ClassOf(err), err)
	}
}

func TestAWrongClockIsNamed(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.MaxSkew = 15 * time.Minute
		cfg.Now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	})
	_, err := c.provider().Observe(context.Background(), plan.Scope{Stack: "acme-mail"})
	if !strings.Contains(fixOf(err), "clock") || !strings.Contains(fixOf(err), time.Now().UTC().Format("2006-01-02")) {
		t.Errorf("%v; %s", err, fixOf(err))
	}
}
