package plan

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// withDisk is the sample with its mail on a data disk of its own, declared as
// the alicloud provider declares it.
func withDisk(mailboxes ...string) []Resource {
	return append(sampleDesired(mailboxes...),
		Resource{Address: "host/mx1/data-disk", Provider: "alicloud", Kind: "disk", Outputs: []string{"id", "serial"},
			Attrs:      Attrs{"size_gib": Int(200), "zone": Unknown("host/mx1/subnet", "zone")},
			CreateOnly: []string{"zone"}, DependsOn: []Address{"host/mx1/instance"}, Protected: "the mail of mail.acme.example is on it"},
		Resource{Address: "host/mx1/data-disk-link", Provider: "alicloud", Kind: "disk-attachment", Outputs: []string{"serial"},
			Attrs:     Attrs{"disk": Unknown("host/mx1/data-disk", "id"), "instance": Unknown("host/mx1/instance", "id")},
			ReplaceOn: []string{"disk"}, Within: "host/mx1/instance"})
}

// linked puts the address link inside the instance, as the provider does.
func linked(rs []Resource) []Resource {
	for i := range rs {
		switch rs[i].Address {
		case "host/mx1/address-link":
			rs[i].Within = "host/mx1/instance"
		case "host/mx1/agent":
			rs[i].DependsOn = append(slices.Clone(rs[i].DependsOn), "host/mx1/data-disk-link")
		}
	}
	return rs
}

// twoStep compiles replacements of cloud resources to a removal and a creation, as
// the provider does; beside makes new things before the old ones go, but for links.
func twoStep(beside bool) func([]Change) []Op {
	return func(changes []Change) []Op {
		var ops []Op
		for _, op := range eachAlone(changes) {
			c := changes[slices.IndexFunc(changes, func(c Change) bool { return c.Address == op.Addresses[0] })]
			if c.Action == Replace {
				old := op
				old.ID, old.Kind, old.Removes, old.Inputs = "alicloud.remove "+string(c.Address), "remove", true, nil
				if beside && !strings.HasSuffix(string(c.Address), "-link") {
					old.After = []string{op.ID}
				} else {
					op.After = []string{old.ID}
				}
				ops = append(ops, old)
			}
			ops = append(ops, op)
		}
		return ops
	}
}

// comesAfter reports whether one operation waits for another, directly or not.
func comesAfter(p *Plan, op, other string) bool {
	i := slices.IndexFunc(p.Ops, func(o Op) bool { return o.ID == op })
	return i >= 0 && slices.ContainsFunc(p.Ops[i].After, func(id string) bool { return id == other || comesAfter(p, id, other) })
}

// A host that is made anew keeps its public address and its mail: they are taken
// off the old instance and put on the new one.
func TestReplacedHostKeepsAddressAndDataDisk(t *testing.T) {
	for _, beside := range []bool{false, true} {
		now := linked(withDisk("alice"))
		in := sampleInput(now, applied(now))
		in.Compilers["alicloud"] = twoStep(beside)
		in.Replace, in.Allow = []string{"host/mx1/instance"}, []string{"host/mx1/instance"}
		p := mustBuild(t, in)
		for a, want := range map[Address]Action{
			"host/mx1/address": NoOp, "host/mx1/data-disk": NoOp, "host/mx1/network": NoOp, "dns/acme.example/mx": NoOp, "dns/acme.example/spf": NoOp,
			"host/mx1/instance": Replace, "host/mx1/address-link": Replace, "host/mx1/data-disk-link": Replace,
			"host/mx1/agent": Replace, "cert/mx1": Replace, "dkim/acme.example/mf1-rsa": Replace, "server/mx1": Replace, "mailbox/alice@acme.example": Replace,
		} {
			c, _ := p.Change(a)
			if c.Action != want || c.Blocked != nil {
				t.Errorf("%s: %s (blocked: %v), want %s", a, c.Action, c.Blocked, want)
			}
		}
		const made, gone = "alicloud.replace host/mx1/instance", "alicloud.remove host/mx1/instance"
		order := [][2]string{ // the second comes after the first
			{"alicloud.remove host/mx1/address-link", gone}, {"alicloud.remove host/mx1/data-disk-link", gone},
			{made, "alicloud.replace host/mx1/address-link"}, {made, "alicloud.replace host/mx1/data-disk-link"},
			{"alicloud.remove host/mx1/data-disk-link", "alicloud.replace host/mx1/data-disk-link"},
			{"alicloud.replace host/mx1/address-link", "host.Install mx1"}, {"alicloud.replace host/mx1/data-disk-link", "host.Install mx1"},
			{"host.Install mx1", "acme.Obtain cert/mx1"}, {"acme.Obtain cert/mx1", "host.Converge mx1"},
		}
		if beside { // additive: the old one goes when all that is new works
			order = append(order, [2]string{made, gone}, [2]string{"host.Converge mx1", gone})
		} else {
			order = append(order, [2]string{gone, made})
		}
		for _, pair := range order {
			if !comesAfter(p, pair[1], pair[0]) {
				t.Errorf("beside %v: %s does not wait for %s", beside, pair[1], pair[0])
			}
		}
	}
}

// What is on the data disk outlives the machine and is lost with the disk, but not
// while it is still on its way there.
func TestWhatIsOnTheDataDisk(t *testing.T) {
	const disk, instance, mailbox = Address("host/mx1/data-disk"), Address("host/mx1/instance"), Address("mailbox/alice@acme.example")
	for _, test := range []struct {
		name      string
		found     Address // where the mailbox is
		diskThere bool
		replace   Address
		want      Action
	}{
		{"machine made anew", disk, true, instance, NoOp},
		{"machine made anew, found where it is declared", "", true, instance, NoOp},
		{"disk made anew", disk, true, disk, Replace},
		{"disk added", instance, false, "", NoOp},
		{"machine made anew before the mail has moved", instance, true, instance, Replace},
		{"machine made anew with a new disk", instance, false, instance, Replace},
	} {
		now := linked(withDisk("alice"))
		i := slices.IndexFunc(now, func(r Resource) bool { return r.Address == mailbox })
		now[i].Within = disk
		was := applied(now)
		was[slices.IndexFunc(was, func(o Object) bool { return o.Address == mailbox })].Within = test.found
		if !test.diskThere {
			was = slices.DeleteFunc(was, func(o Object) bool { return strings.HasPrefix(string(o.Address), string(disk)) })
		}
		in := sampleInput(now, was)
		if test.replace != "" {
			in.Replace, in.Allow = []string{string(test.replace)}, []string{string(test.replace)}
		}
		c, _ := mustBuild(t, in).Change(mailbox)
		loses := c.Risk == RiskLosesData
		if c.Action != test.want || c.Blocked != nil || loses != (test.want == Replace) {
			t.Errorf("%s: %s with risk %q (blocked: %v), want %s", test.name, c.Action, c.Risk, c.Blocked, test.want)
		}
	}
}

func TestDomainLeavesByItsMXFirst(t *testing.T) {
	// Two domains on one host, of which one goes. The server's settings are written
	// as a whole, so that its update carries the deletes of the mailboxes.
	all := []Resource{{Address: "server/mx1", Provider: "host", Kind: "server", Attrs: Attrs{"domains": Strings("a.example", "b.example")}}}
	for _, d := range []string{"a.example", "b.example"} {
		all = append(all,
			Resource{Address: Addr("mailbox", "x@"+d), Provider: "host", Kind: "mailbox", DependsOn: []Address{"server/mx1"}},
			Resource{Address: Addr("dkim", d, "mf1"), Provider: "host", Kind: "dkim-key", DependsOn: []Address{"server/mx1"}},
			Resource{Address: Addr("dns", d, "mx"), Provider: "cloudflare", Kind: "record", DependsOn: []Address{"server/mx1"}},
			Resource{Address: Addr("dns", d, "spf"), Provider: "cloudflare", Kind: "record"})
	}
	in := Input{Desired: change(slices.Clone(all[:5]), "server/mx1", "domains", Strings("a.example")), Observed: applied(all)}
	compile := sampleCompilers()
	in.Compilers = map[string]func([]Change) []Op{"cloudflare": compile["cloudflare"], "host": allTogether}
	p := mustBuild(t, in)
	mx := opServing(t, p, "dns/b.example/mx")
	for _, a := range []Address{"mailbox/x@b.example", "dkim/b.example/mf1", "dns/b.example/spf"} {
		if op := opServing(t, p, a); !comesAfter(p, op, mx) {
			t.Errorf("%s (%s) does not wait for %s", a, op, mx)
		}
	}
}

func opServing(t testing.TB, p *Plan, a Address) string {
	t.Helper()
	i := slices.IndexFunc(p.Ops, func(op Op) bool { return slices.Contains(op.Addresses, a) })
	if i < 0 {
		t.Fatalf("nothing is done at %s:\n%s", a, outline(p))
	}
	return p.Ops[i].ID
}

// Whatever the world is like: other servers are told to send mail here last, once
// all of the server is made and checked, and told not to before anything of it goes.
func TestPropertyMXLastAndFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		full := linked(withDisk("alice", "bob"))
		world := applied(full)
		// Things are missing, or differ; what lives on what is missing is missing, too.
		missing := map[Address]bool{}
		for _, r := range full {
			missing[r.Address] = !r.Lookup && (missing[r.Within] || rapid.IntRange(0, 7).Draw(t, "missing") == 0)
		}
		world = slices.DeleteFunc(world, func(o Object) bool { return missing[o.Address] })
		for i := range world {
			switch rapid.IntRange(0, 9).Draw(t, "state") {
			case 0:
				for name := range world[i].Attrs {
					world[i].Attrs[name] = String("drifted")
					break
				}
			case 1:
				world[i].Tainted = "half made"
			}
		}
		in := sampleInput(full, world)
		in.Compilers["alicloud"] = twoStep(rapid.Bool().Draw(t, "beside"))
		in.Destroy = rapid.IntRange(0, 2).Draw(t, "destroy") == 0
		in.Allow, in.Take = []string{"*"}, []string{"*"}
		if rapid.Bool().Draw(t, "smaller") {
			in.Desired = slices.DeleteFunc(slices.Clone(full), func(r Resource) bool {
				return r.Address == "dns/acme.example/mx" || strings.HasPrefix(string(r.Address), "mailbox/bob")
			})
		}
		p, diags := Build(in)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		mx, _ := p.Change("dns/acme.example/mx")
		if !mx.Pending() {
			return
		}
		var of []string
		for _, op := range p.Ops {
			if slices.Contains(op.Addresses, mx.Address) {
				of = append(of, op.ID)
			}
		}
		for _, op := range p.Ops {
			for _, a := range op.Addresses {
				c, _ := p.Change(a)
				for _, m := range of {
					switch {
					case !c.Pending() || op.ID == m:
					case mx.Action == Delete:
						takes := c.Action == Delete && (domainOf(a) == "acme.example" || in.Destroy && strings.HasPrefix(string(a), "host/"))
						if takes && !comesAfter(p, op.ID, m) {
							t.Fatalf("%s (%s) does not wait for %s:\n%s", op.ID, a, m, outline(p))
						}
					case a == "server/mx1" || a == "cert/mx1" || a == "host/mx1/agent":
						if !comesAfter(p, m, op.ID) {
							t.Fatalf("%s does not wait for %s (%s):\n%s", m, op.ID, a, outline(p))
						}
					}
				}
			}
		}
	})
}

// A machine whose mail was seen on a disk that stays is not where the mail is lost.
func TestTheRiskOfAMachineIsWhereItsMailIs(t *testing.T) {
	storage := func(within Address) func([]Resource, []Object) ([]Resource, []Object) {
		return func(want []Resource, have []Object) ([]Resource, []Object) {
			want = append(want, Resource{Address: "host/mx1/storage", Provider: "host", Kind: "storage", Attrs: Attrs{}, Within: "host/mx1/data-disk"})
			return want, append(have, Object{Address: "host/mx1/storage", Provider: "host", Kind: "storage", Owner: Ours, Attrs: Attrs{}, Within: within})
		}
	}
	for _, tc := range []struct {
		name    string
		change  func([]Resource, []Object) ([]Resource, []Object)
		destroy bool
		want    Risk
	}{
		{name: "on the data disk", change: storage("host/mx1/data-disk"), want: RiskInterrupts},
		{name: "yet to move", change: storage("host/mx1/instance"), want: RiskLosesData},
		{name: "not seen", want: RiskLosesData},
		{name: "the disk goes too", change: storage("host/mx1/data-disk"), destroy: true, want: RiskLosesData},
	} {
		want := linked(withDisk("alice"))
		have := applied(want)
		if tc.change != nil {
			want, have = tc.change(want, have)
		}
		in := sampleInput(want, have)
		in.Destroy = tc.destroy
		if !tc.destroy {
			in.Replace, in.Allow = []string{"host/mx1/instance"}, []string{"host/mx1/instance"}
		}
		c, _ := mustBuild(t, in).Change("host/mx1/instance")
		if c.Risk != tc.want {
			t.Errorf("%s: %s %q, want %q", tc.name, c.Action, c.Risk, tc.want)
		}
	}
}
