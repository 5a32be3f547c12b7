package plan

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mailform/specs"
)

// ignoring is the sample with the spec's ignore rules, written "ADDRESS FIELD…".
func ignoring(in Input, rules ...string) Input {
	for _, r := range rules {
		words := strings.Fields(r)
		in.Ignore = append(in.Ignore, specs.Ignore{Address: words[0], Fields: words[1:]})
	}
	return in
}

func forgetting(in Input, globs ...string) Input {
	for _, g := range globs {
		in.Forget = append(in.Forget, specs.Forget{Address: g})
	}
	for i := range in.Observed {
		p := in.Observed[i].Provider
		in.Observed[i].Forgettable = p == "cloudflare" || p == "alicloud"
	}
	return in
}

func TestIgnoredDifferencesAreNone(t *testing.T) {
	now := sampleDesired("alice")
	world := drift(applied(now), "host/mx1/firewall", "rules", List(
		rule("imaps", "993/993", "192.0.2.0/24"), rule("office", "22/22", "192.0.2.9/32"), rule("smtp", "25/25", "0.0.0.0/0"),
		rule("ssh", "22/22", "198.51.100.0/24")))
	world = drift(world, "host/mx1/instance", "disk", Map(map[string]Value{"category": String("cloud_essd"), "size": Int(80)}))
	in := ignoring(sampleInput(now, world),
		"host/*/firewall rules[imaps].source rules[office] rules[submissions]", "host/mx1/instance disk.size")
	p := mustBuild(t, in)
	if p.HasChanges() {
		t.Errorf("not ignored:\n%s", outline(p))
	}
	if got := p.Summary().Ignored; got != 4 {
		t.Errorf("%d differences ignored, want 4", got)
	}
	c, _ := p.Change("host/mx1/firewall")
	if !slices.EqualFunc(c.After["rules"].Items(), c.Before["rules"].Items(), Value.Equal) {
		t.Errorf("a list of which every difference is ignored must be as it is: %s", c.After["rules"])
	}
	if again := mustBuild(t, in); !bytes.Equal(Encode(again), Encode(p)) {
		t.Error("two plans of one world differ")
	}
	var b bytes.Buffer
	for _, v := range Views(in, p) {
		if v.Change.Address == "host/mx1/instance" || v.Change.Address == "host/mx1/firewall" {
			if err := RenderView(&b, v, TextOptions{Width: 100}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, want := range []string{"ignored: the spec says 40 for disk.size", `ignored: the spec says "0.0.0.0/0" for rules[imaps].source`, "ignored: the spec has nothing for rules[office]"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("show does not say %q:\n%s", want, b.String())
		}
	}
}

// A change of another field must not undo what is ignored: providers write After.
func TestIgnoredValueSurvivesAnotherUpdate(t *testing.T) {
	now := change(sampleDesired("alice"), "host/mx1/firewall", "rules", List(
		rule("imaps", "993/993", "0.0.0.0/0"), rule("smtp", "25/25", "0.0.0.0/0"), rule("ssh", "22/22", "203.0.113.0/24"),
		rule("submissions", "465/465", "0.0.0.0/0")))
	now = change(now, "dns/acme.example/spf", "ttl", Int(60))
	world := drift(applied(sampleDesired("alice")), "host/mx1/firewall", "rules", List(
		rule("imaps", "993/993", "192.0.2.0/24"), rule("smtp", "25/25", "0.0.0.0/0"), rule("ssh", "22/22", "198.51.100.0/24"),
		rule("submissions", "465/465", "0.0.0.0/0"), rule("zabbix", "10050/10050", "192.0.2.0/24")))
	world = drift(world, "dns/acme.example/spf", "content", String("v=spf1 include:hand.made -all"))
	p := mustBuild(t, ignoring(sampleInput(now, world), "host/mx1/firewall rules[imaps].source rules[zabbix]", "dns/*/spf content"))
	equalText(t, outline(p), `
~ dns/acme.example/spf (differs from the spec)
    ttl: 300 -> 60
~ host/mx1/firewall (differs from the spec)
    rules[ssh].source: "198.51.100.0/24" -> "203.0.113.0/24"`)
	c, _ := p.Change("dns/acme.example/spf")
	if got := c.After["content"].Str(); got != "v=spf1 include:hand.made -all" {
		t.Errorf("the update would write %q", got)
	}
	c, _ = p.Change("host/mx1/firewall")
	if names := byName(c.After["rules"]); names["imaps"].Field("source").Str() != "192.0.2.0/24" || len(names) != 5 {
		t.Errorf("the update would write %s", c.After["rules"])
	}
}

func TestProtectAndUnprotect(t *testing.T) {
	now := sampleDesired("alice", "bob", "carol")
	in := sampleInput(sampleDesired("alice"), applied(now))
	in.Observed = slices.Concat(in.Observed, []Object{{Address: "dns/acme.example/a/old", Provider: "cloudflare", Kind: "record", Owner: Ours}})
	in.Protection = specs.Protection{Protect: []string{"dns/*/a/*", "mailbox/bob@*"}, Unprotect: []string{"mailbox/*"}}
	equalText(t, outline(mustBuild(t, in)), `
- dns/acme.example/a/old (no longer in the spec) [interrupts mail] BLOCKED protected by the spec: --allow dns/acme.example/a/old
- mailbox/bob@acme.example (no longer in the spec) [loses data] BLOCKED it holds mail: --allow mailbox/bob@acme.example
- mailbox/carol@acme.example (no longer in the spec) [loses data]`)
}

func TestForget(t *testing.T) {
	in := forgetting(sampleInput(sampleDesired("alice"), applied(sampleDesired("alice"))), "dns/*/dmarc", "dns/*/spf")
	in.Desired = slices.DeleteFunc(in.Desired, func(r Resource) bool { return r.Address == "dns/acme.example/spf" })
	p := mustBuild(t, in)
	equalText(t, outline(p), `
○ dns/acme.example/dmarc (forgotten as the spec says)
○ dns/acme.example/spf (forgotten as the spec says)`)
	for _, c := range p.Changes {
		if c.Action == Forget && (c.After != nil || c.Before == nil || c.ID == "") {
			t.Errorf("a provider cannot compile %+v", c)
		}
	}
	// Destroyed or not, what is forgotten stays.
	in.Destroy = true
	for _, c := range mustBuild(t, in).Changes {
		if forgotten := c.Action == Forget; forgotten != (strings.HasSuffix(string(c.Address), "/dmarc") || strings.HasSuffix(string(c.Address), "/spf")) && c.Action != Delete && c.Action != NoOp {
			t.Errorf("destroy: %s %s", c.Action, c.Address)
		}
	}
	// Once the marks are off there is nothing to do.
	in.Destroy = false
	for i := range in.Observed {
		if a := in.Observed[i].Address; strings.HasSuffix(string(a), "/dmarc") || strings.HasSuffix(string(a), "/spf") {
			in.Observed[i].Owner = Unowned
		}
	}
	if p := mustBuild(t, in); p.HasChanges() {
		t.Errorf("after forgetting:\n%s", outline(p))
	}
}

// What stays needs what it stands in: the network of a forgotten machine is not deleted.
func TestForgottenKeepsWhatItStandsIn(t *testing.T) {
	now := sampleDesired("alice")
	zone := slices.DeleteFunc(slices.Clone(now), func(r Resource) bool { return r.Provider != "cloudflare" || !r.Lookup })
	world := slices.DeleteFunc(applied(now), func(o Object) bool { return o.Provider != "alicloud" && !strings.HasPrefix(string(o.Address), "zone") })
	p := mustBuild(t, forgetting(sampleInput(zone, world), "host/mx1/instance"))
	for a, blocked := range map[Address]bool{"host/mx1/network": true, "host/mx1/subnet": true, "host/mx1/firewall": true,
		"host/mx1/instance": false} {
		c, _ := p.Change(a)
		if (c.Blocked != nil) != blocked {
			t.Errorf("%s %s: blocked %v, want %v", c.Action, a, c.Blocked, blocked)
		}
	}
}

func TestForgetCannot(t *testing.T) {
	for glob, want := range map[string]string{
		"mailbox/alice@acme.example": codeUnforgettable + " mailbox/alice@acme.example cannot be forgotten",
		"cert/mx1":                   codeUnforgettable + " cert/mx1 cannot be forgotten",
		"host/mx1/address":           "MF3002 host/mx1/address-link needs host/mx1/address, which is forgotten",
	} {
		in := forgetting(sampleInput(sampleDesired("alice"), applied(sampleDesired("alice"))), glob)
		if glob == "cert/mx1" { // nothing refers to it but in order
			in.Desired = slices.DeleteFunc(in.Desired, func(r Resource) bool { return r.Address == "cert/mx1" })
			for i := range in.Desired {
				in.Desired[i].DependsOn = slices.DeleteFunc(in.Desired[i].DependsOn, func(a Address) bool { return a == "cert/mx1" })
			}
		}
		in.Forget[0].Range = specs.Range{File: "mail.hcl", Line: 7}
		_, diags := Build(in)
		if len(diags) == 0 || diags[0].Code+" "+diags[0].Summary != want {
			t.Errorf("forget %s: %v", glob, diags)
		}
	}
}

func TestUnusedRulesWarn(t *testing.T) {
	in := ignoring(forgetting(sampleInput(sampleDesired("alice"), applied(sampleDesired("alice"))), "dns/acme.exmaple/*"),
		"hosts/* type", "host/mx1/instance disk.szie disk.size", "host/mx1/firewall rules[ssh].source")
	in.Protection = specs.Protection{Protect: []string{"mailbox/*"}, Unprotect: []string{"mailboxes/*"}}
	_, diags := Build(in)
	var got []string
	for _, d := range diags {
		got = append(got, string(d.Severity)+" "+d.Code+" "+d.Summary)
	}
	equalText(t, strings.Join(got, "\n"), `
warning MF3014 unprotect "mailboxes/*" names nothing
warning MF3014 forget "dns/acme.exmaple/*" names nothing
warning MF3014 ignore "hosts/*" names nothing
warning MF3014 ignore host/mx1/instance: field "disk.szie" names nothing`)
}

// zoneOf is a domain with n records of ours, of which some have another content.
func zoneOf(n, changed int) Input {
	var in Input
	for i := range n {
		a := Addr("dns", "acme.example", fmt.Sprintf("x%02d", i))
		r := Resource{Address: a, Provider: "cloudflare", Kind: "record", Attrs: Attrs{"content": String("is")}}
		in.Observed = append(in.Observed, Object{Address: a, Provider: "cloudflare", Kind: "record", Owner: Ours, Attrs: Attrs{"content": String("is")}})
		switch {
		case i < changed && i%2 == 0:
			continue // deleted
		case i < changed:
			r.Attrs = Attrs{"content": String("should be")}
		}
		in.Desired = append(in.Desired, r)
	}
	in.Desired = append(in.Desired, Resource{Address: "dns/acme.example/new", Provider: "cloudflare", Kind: "record"},
		Resource{Address: "dns/other.example/mx", Provider: "cloudflare", Kind: "record"})
	return in
}

func TestZoneThreshold(t *testing.T) {
	for _, test := range []struct {
		records, changed, percent int
		allow                     []string
		blocked                   int
	}{
		{20, 10, 0, nil, 0},
		{20, 11, 0, nil, 11},
		{20, 11, 55, nil, 0},
		{20, 5, 20, nil, 5},
		{20, 20, 100, nil, 0},
		{9, 9, 0, nil, 0}, // too few to speak of a share
		{20, 11, 0, []string{"dns/acme.example/*"}, 0},
		{20, 11, 0, []string{"dns/acme.example/x00"}, 0}, // ten are left, and that is half
		{20, 12, 0, []string{"dns/acme.example/x00"}, 11},
	} {
		in := zoneOf(test.records, test.changed)
		in.Allow, in.Protection.ZonePercent = test.allow, test.percent
		p := mustBuild(t, in)
		if got := p.Summary().Blocked; got != test.blocked {
			t.Errorf("%+v: %d blocked\n%s", test, got, outline(p))
		}
		for _, a := range []Address{"dns/acme.example/new", "dns/other.example/mx"} {
			if c, _ := p.Change(a); !c.Pending() {
				t.Errorf("%+v: %s is spoiled: %+v", test, a, c.Blocked)
			}
		}
		for _, c := range p.Changes {
			if c.Blocked != nil && c.Blocked.Allow != "--allow 'dns/acme.example/*'" {
				t.Errorf("%s: the way out is %q", c.Address, c.Blocked.Allow)
			}
		}
	}
	in := zoneOf(20, 20)
	in.Destroy = true
	if p := mustBuild(t, in); p.HasBlocked() {
		t.Errorf("destroy asks by itself:\n%s", outline(p))
	}
}

// TestNamesThatStay: as long as a name stays in DNS because its deletion is blocked,
// the server and its certificate do not give it up.
func TestNamesThatStay(t *testing.T) {
	build := func(allow ...string) *Plan {
		in := zoneOf(20, 20)
		in.Allow = allow
		gone := Attrs{"name": String("autoconfig.acme.example"), "content": String("203.0.113.7")}
		in.Observed = append(in.Observed, Object{Address: "dns/acme.example/autoconfig", Provider: "cloudflare", Kind: "record", Owner: Ours, Attrs: gone})
		server := func(domains map[string]Value) Attrs {
			return Attrs{"domains": Map(domains), "limit": Int(int64(len(domains)))}
		}
		discovery := func(on bool) map[string]Value {
			return map[string]Value{"acme.example": Map(map[string]Value{"discovery": Bool(on)})}
		}
		for host, is := range map[string]struct{ before, after map[string]Value }{
			"mx1": {discovery(true), discovery(false)}, "mx2": {discovery(true), nil},
			"mx3": {map[string]Value{"other.example": Bool(true)}, nil},
		} {
			a := Addr("server", host)
			in.Observed = append(in.Observed, Object{Address: a, Provider: "host", Kind: "server", Owner: Ours, Attrs: server(is.before)})
			in.Desired = append(in.Desired, Resource{Address: a, Provider: "host", Kind: "server", Attrs: server(is.after)})
		}
		for name, left := range map[string]string{"mx1": "mail.acme.example", "mx2": "autoconfig.acme.example"} {
			a := Addr("cert", name)
			in.Observed = append(in.Observed, Object{Address: a, Provider: "acme", Kind: "cert", Owner: Ours,
				Attrs: Attrs{"names": Strings("mail.acme.example", "autoconfig.acme.example", "old.example")}})
			in.Desired = append(in.Desired, Resource{Address: a, Provider: "acme", Kind: "cert", Attrs: Attrs{"names": Strings(left)}})
		}
		return mustBuild(t, in)
	}
	held, free := build(), build("dns/acme.example/*")
	for a, want := range map[Address]bool{"server/mx1": true, "server/mx2": true, "server/mx3": false, "cert/mx1": true, "cert/mx2": false} {
		c, _ := held.Change(a)
		if c.Action != Update || (c.Blocked != nil) != want || want && c.Blocked.Allow != "--allow 'dns/acme.example/*'" {
			t.Errorf("%s: %s, blocked %+v, want %v", a, c.Action, c.Blocked, want)
		}
		if c, _ := free.Change(a); c.Blocked != nil {
			t.Errorf("%s is blocked although all is allowed: %+v", a, c.Blocked)
		}
	}
}

// Whatever is ignored: no field of it is among the differences, and what would be
// written there is what is there.
func TestPropertyIgnored(t *testing.T) {
	scalar := rapid.SampledFrom([]Value{Null(), String("a"), String("b"), Int(1)})
	object := func(t *rapid.T) Value {
		m := map[string]Value{}
		for _, k := range []string{"p", "q"} {
			if v := scalar.Draw(t, k); !v.IsNull() {
				m[k] = v
			}
		}
		return Map(m)
	}
	list := func(t *rapid.T) Value {
		var vs []Value
		named := rapid.Bool().Draw(t, "named")
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "z"}), 0, 3, rapid.ID).Draw(t, "names") {
			v := object(t)
			if named {
				v = Map(map[string]Value{"name": String(name), "p": v.Field("p"), "o": v})
			}
			vs = append(vs, v)
		}
		return List(vs...)
	}
	draw := func(t *rapid.T) Attrs {
		return Attrs{"s": scalar.Draw(t, "s"), "o": object(t), "l": list(t)}
	}
	rapid.Check(t, func(t *rapid.T) {
		is, wish := draw(t), draw(t)
		all := Diff(is, wish)
		globs := []string{rapid.SampledFrom([]string{"*", "s", "o", "o.p", "o.*", "l", "l[x]", "l[*]", "l[y].p", "*.p", "l[z].o*", "l[0]", "none"}).Draw(t, "glob")}
		b := &builder{rules: newRules(Input{Ignore: []specs.Ignore{{Address: "x", Fields: globs}}})}
		n := &node{addr: "x", want: &Resource{Attrs: wish}, have: &Object{Attrs: is}}
		n.change.After = wish
		ignored := b.overlay(n)
		rest := Diff(is, n.change.After)
		matches := func(path string) bool { return Match(globs[0], Address(path)) }
		for _, f := range rest {
			if matches(f.Path) && !strings.HasPrefix(f.Path, "l[") {
				t.Fatalf("%s still differs: %s -> %s", f.Path, f.Before, f.After)
			}
		}
		for _, f := range ignored {
			if !matches(f.Path) {
				t.Fatalf("%s is ignored and was not named by %s", f.Path, globs[0])
			}
		}
		if len(all) == 0 && len(ignored) > 0 {
			t.Fatalf("ignored %v where nothing differs", ignored)
		}
		if globs[0] == "*" && len(rest) > 0 {
			t.Fatalf("everything is ignored and still differs: %v", rest)
		}
		if globs[0] == "none" && len(Diff(wish, n.change.After)) > 0 {
			t.Fatal("the wish changed although nothing is ignored")
		}
	})
}
