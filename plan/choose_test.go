package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestOnlyAndExcept(t *testing.T) {
	x, y, z := Address("cert/x"), Address("other/y"), Address("other/z")
	inside := func(r *Resource) { r.Within = x }
	anew := func(r *Resource) { r.ReplaceOn = []string{"v"} }
	for _, test := range []struct {
		name string
		in   Input
		want string
		left int
	}{
		{"the rest stays as it is", Input{Only: []string{"cert/*"},
			Desired:  []Resource{res(x, "2"), res(y, "2"), res(z, "1")},
			Observed: []Object{obj(x, "1"), obj(y, "1"), obj("other/orphan", "1")}},
			`~ cert/x (differs from the spec)
    v: "1" -> "2"`, 3},
		{"what is missing comes along, however far down", Input{Only: []string{"cert/*"},
			Desired: []Resource{res(x, "1", y), res(y, "1", z), res(z, "1"), res("other/w", "1", x)}},
			`+ cert/x (not there yet)
+ other/y (not there yet; cert/x needs it)
+ other/z (not there yet; other/y needs it)`, 1},
		{"what is there and sound is enough, whatever else is to be done to it", Input{Only: []string{"cert/*"},
			Desired:  []Resource{with(res(x, "2", z), ref("of", Unknown(y, "id"))), with(res(y, "2"), anew), res(z, "2")},
			Observed: []Object{with(obj(x, "1"), attr("of", String("id-of-other/y"))), obj(y, "1"), obj(z, "1")}},
			`~ cert/x (differs from the spec)
    v: "1" -> "2"`, 2},
		{"what is broken is not", Input{Only: []string{"cert/*"},
			Desired:  []Resource{res(x, "2", y), res(y, "1")},
			Observed: []Object{obj(x, "1"), with(obj(y, "1"), func(o *Object) { o.Tainted = "it never started" })}},
			`~ cert/x (differs from the spec)
    v: "1" -> "2"
± other/y (it never started; cert/x needs it)`, 0},
		{"an output that could not be seen is waited for where it comes from", Input{Only: []string{"cert/*"},
			Desired: []Resource{with(res(x, "1"), ref("of", Unknown(y, "ip"))),
				with(res(y, "1", z), func(r *Resource) { r.Outputs = []string{"ip"} }), res(z, "running")},
			Observed: []Object{obj(x, "1"), obj(y, "1"), obj(z, "stopped")}},
			`~ cert/x (differs from the spec)
    of: (none) -> (known after other/y.ip)
~ other/z (differs from the spec; cert/x needs it)
    v: "stopped" -> "running"`, 0},
		{"what would be lost or left pointing at nothing comes along", Input{Only: []string{"cert/*"},
			Desired: []Resource{with(res(x, "2"), anew), with(res(y, "1"), inside), with(res(z, "1"), ref("of", Unknown(x, "id"))), res("other/w", "2", x)},
			Observed: []Object{obj(x, "1"), obj(y, "1"), with(obj(z, "1"), attr("of", String("id-of-cert/x"))),
				obj("other/w", "1")}},
			`± cert/x (differs from the spec)
    v: "1" -> "2"
± other/y (cert/x is replaced)
~ other/z (cert/x is replaced)
    of: "id-of-cert/x" -> (known after cert/x.id)`, 1},
		{"a delete takes along what stands on it", Input{Only: []string{"cert/*"},
			Desired:  []Resource{res(z, "2")},
			Observed: []Object{obj(x, "1"), obj(y, "1", x), obj(z, "1", x), obj("other/free", "1")}},
			`- cert/x (no longer in the spec) [interrupts mail]
- other/y (no longer in the spec; cert/x goes, and it stands on that)
~ other/z (differs from the spec; cert/x goes, and it stands on that)
    v: "1" -> "2"`, 1},
		{"conflicts elsewhere are not this plan's business", Input{Only: []string{"cert/*"},
			Desired: []Resource{res(x, "1"), res(y, "1")}, Observed: []Object{with(obj(y, "2"), unowned)}},
			`+ cert/x (not there yet)`, 1},
		{"except leaves out, and blocks what cannot do without", Input{Except: []string{"other/y"},
			Desired: []Resource{res(x, "1", y), res(y, "1"), res(z, "1")}},
			`+ cert/x (not there yet) BLOCKED other/y is left out by --except: 
+ other/z (not there yet)`, 1},
		{"except goes before only", Input{Only: []string{"other/*"}, Except: []string{"other/y"},
			Desired: []Resource{res(x, "1"), res(y, "1"), res(z, "1")}},
			`+ other/z (not there yet)`, 2},
		{"nothing goes from under what is left out", Input{Except: []string{"other/y"},
			Observed: []Object{obj(x, "1"), obj(y, "1", x)}},
			`- cert/x (no longer in the spec) [interrupts mail] BLOCKED other/y is left out by --except and needs it:`, 1},
		{"nothing is replaced from under what is left out", Input{Except: []string{"other/y"},
			Desired:  []Resource{with(res(x, "2"), anew), with(res(y, "1"), inside)},
			Observed: []Object{obj(x, "1"), obj(y, "1")}},
			`± cert/x (differs from the spec) BLOCKED other/y is left out by --except and would be left without it: 
    v: "1" -> "2"`, 1},
		{"destroying a part takes what stands on it, and leaves the rest", Input{Destroy: true, Only: []string{"cert/*"},
			Desired:  []Resource{res(x, "1", z), res(y, "1", x), res(z, "1")},
			Observed: []Object{obj(x, "1", z), obj(y, "1", x), obj(z, "1")}},
			`- cert/x (the stack is destroyed) [interrupts mail]
- other/y (the stack is destroyed; cert/x goes, and it stands on that)`, 1},
		{"a look-up is looked up in any case", Input{Only: []string{"other/*"},
			Desired:  []Resource{with(res(x, "1"), lookup), with(res(y, "1"), ref("of", Unknown(x, "id")))},
			Observed: []Object{obj(x, "1")}},
			`+ other/y (not there yet)`, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := mustBuild(t, test.in)
			equalText(t, outline(p), test.want)
			if got := p.Summary().LeftOut; got != test.left {
				t.Errorf("%d left out, want %d", got, test.left)
			}
			for _, c := range p.Changes {
				if c.LeftOut != "" && (c.Action != NoOp || len(Diff(c.Before, c.After)) > 0) {
					t.Errorf("%s is left out but not as it was found: %+v", c.Address, c)
				}
			}
		})
	}
}

func TestReplaceAsAsked(t *testing.T) {
	x, y := Address("other/x"), Address("other/y")
	equal := []Object{obj(x, "1"), with(obj(y, "1"), attr("of", String("id-of-other/x")))}
	wanted := []Resource{res(x, "1"), with(res(y, "1"), ref("of", Unknown(x, "id")))}
	equalText(t, outline(mustBuild(t, Input{Desired: wanted, Observed: equal, Replace: []string{"other/x"}})),
		`± other/x (replaced as asked)
~ other/y (other/x is replaced)
    of: "id-of-other/x" -> (known after other/x.id)`)
	equalText(t, outline(mustBuild(t, Input{Desired: []Resource{with(wanted[0], protected)}, Observed: equal[:1], Replace: []string{"*/x"}})),
		`± other/x (replaced as asked) [interrupts mail] BLOCKED it is precious: --allow other/x`)
	equalText(t, outline(mustBuild(t, Input{Desired: wanted[:1], Replace: []string{"other/x"}})), "+ other/x (not there yet)")
}

func TestPatternsThatNameNothing(t *testing.T) {
	in := Input{Desired: []Resource{res("cert/mx1", "1"), res("mailbox/alice@acme.example", "1"), res("mailbox/bob@acme.example", "1"),
		with(res("zone/acme.example", "1"), lookup)}, Observed: []Object{obj("zone/acme.example", "1"), obj("other/orphan", "1")}}
	for _, test := range []struct {
		f    func(*Input)
		code string
		text string
	}{
		{func(in *Input) { in.Only = []string{"certs/*"} }, "MF3011", "Did you mean cert/mx1"},
		{func(in *Input) { in.Only = []string{"cert/mx2"} }, "MF3011", "--only cert/mx2 names nothing"},
		{func(in *Input) { in.Except = []string{"mailbox/bbo@acme.example"} }, "MF3011", "Did you mean mailbox/bob@acme.example"},
		{func(in *Input) { in.Replace = []string{"nonsense"} }, "MF3011", "--replace nonsense"},
		{func(in *Input) { in.Replace = []string{"mailbox/alice@acme.example"} }, "MF3012", "would have no mail"},
		{func(in *Input) { in.Replace = []string{"zone/*"} }, "MF3012", "never makes it"},
		{func(in *Input) { in.Replace = []string{"other/orphan"} }, "MF3012", "no longer in the spec"},
	} {
		in := in
		test.f(&in)
		_, diags := Build(in)
		if len(diags) != 1 || diags[0].Code != test.code || !strings.Contains(diags[0].Summary+diags[0].Detail, test.text) {
			t.Errorf("want %s %q, got %+v", test.code, test.text, diags)
		}
	}
	if _, diags := Build(Input{Only: []string{"x"}}); len(diags) != 1 {
		t.Errorf("an empty stack: %+v", diags)
	}
}

// genChoice draws globs that name something.
func genChoice(t *rapid.T, in Input, label string) []string {
	var all []string
	for _, r := range in.Desired {
		all = append(all, string(r.Address))
	}
	for _, o := range in.Observed {
		if o.Owner == Ours {
			all = append(all, string(o.Address))
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) == 0 {
		return nil
	}
	out := rapid.SliceOfN(rapid.SampledFrom(all), 1, 3).Draw(t, label)
	for i := range out {
		if rapid.IntRange(0, 3).Draw(t, "glob") == 0 {
			out[i] = Address(out[i]).Kind() + "/*"
		}
	}
	return out
}

// --only changes what it names and what that needs; nothing else in the world
// moves, and nothing that it changes is left standing on nothing.
func TestPropertyOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genInput(t)
		in.Only = genChoice(t, in, "only")
		w := newWorld(in.Desired, in.Observed)
		before := snapshot(w)
		p := build(t, in)
		named := func(a Address) bool {
			return slices.ContainsFunc(in.Only, func(g string) bool { return Match(g, a) })
		}
		for _, c := range p.Changes {
			if c.Pending() && len(in.Only) > 0 && !named(c.Address) && !comesAlong(p, before, c) {
				t.Fatalf("%s of %s, which nobody asked for:\n%s", c.Action, c.Address, outline(p))
			}
		}
		w.apply(p, -1)
		for _, e := range w.errs {
			t.Errorf("%s; plan:\n%s\n%v", e, outline(p), p.Ops)
		}
		after := snapshot(w)
		for a, was := range before {
			if c, ok := p.Change(a); ok && c.Pending() {
				continue
			}
			if is, there := after[a]; !there || is != was {
				t.Fatalf("%s moved from %s to %s:\n%s", a, was, is, outline(p))
			}
		}
		in.Observed = w.observe()
		again, diags := Build(in)
		if diags.HasErrors() && diags[0].Code == "MF3011" {
			return // everything it named is deleted
		}
		if again.HasChanges() && p.HasBlocked() {
			// What was done may have freed what was blocked: something protected that
			// would have been lost is whole now. Then the next plan finishes it.
			w.apply(again, -1)
			in.Observed = w.observe()
			if again, diags = Build(in); diags.HasErrors() && diags[0].Code == "MF3011" {
				return
			}
		}
		if again.HasChanges() {
			t.Fatalf("not converged:\n%s\nthen:\n%s", outline(p), outline(again))
		}
	})
}

// snapshot is every object of a world as text.
func snapshot(w *world) map[Address]string {
	out := map[Address]string{}
	for a, o := range w.objects {
		out[a] = fmt.Sprint(o.ID, o.Owner, o.Attrs, o.Outputs)
	}
	return out
}

// comesAlong reports whether a pending change has a reason to be made beside
// those that were named: something else that is pending needs it, or takes away
// what it stands on.
func comesAlong(p *Plan, before map[Address]string, c Change) bool {
	for _, n := range p.Changes {
		if !n.Pending() || n.Address == c.Address {
			continue
		}
		if n.Action != Delete && slices.Contains(n.DependsOn, c.Address) {
			return true
		}
		// An output that could not be observed may be waiting for anything below it.
		for _, r := range n.After.Refs() {
			if n.Action != Delete && below(p, r.Address, c.Address, map[Address]bool{}) {
				return true
			}
		}
		// What goes or is made anew takes along what stands on it, as found or as wanted.
		if (n.Action == Delete || n.Action == Replace) && before[c.Address] != "" && (slices.Contains(c.DependsOn, n.Address) || strings.Contains(c.Reason, string(n.Address))) {
			return true
		}
	}
	return false
}

// below reports whether a needs b, directly or not.
func below(p *Plan, a, b Address, seen map[Address]bool) bool {
	if a == b {
		return true
	}
	c, ok := p.Change(a)
	if !ok || seen[a] {
		return false
	}
	seen[a] = true
	return slices.ContainsFunc(c.DependsOn, func(d Address) bool { return below(p, d, b, seen) })
}

// A part first and then the rest gives the same world as all at once. (Where
// something is blocked, what is not touched may be all that a change needs.)
func TestPropertyOnlyThenTheRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genInput(t)
		in.Allow, in.Take = []string{"*"}, []string{"*"}
		whole := newWorld(in.Desired, in.Observed)
		all := build(t, in)
		if all.HasBlocked() {
			return
		}
		whole.apply(all, -1)

		parts := newWorld(in.Desired, in.Observed)
		first := in
		first.Only = genChoice(t, in, "only")
		parts.apply(build(t, first), -1)
		in.Observed = parts.observe()
		rest := build(t, in)
		parts.apply(rest, -1)
		for _, e := range parts.errs {
			t.Errorf("%s", e)
		}
		if got, want := shape(parts), shape(whole); got != want {
			t.Fatalf("in parts:\n%s\nat once:\n%s", got, want)
		}
	})
}

// shape is a world without the ids that it gave out.
func shape(w *world) string {
	var b strings.Builder
	for _, o := range w.observe() {
		fmt.Fprintln(&b, o.Address, o.Kind, o.Owner, o.Attrs["size"], len(o.Outputs))
	}
	return b.String()
}

// What --except names is not changed, come what may.
func TestPropertyExcept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genInput(t)
		in.Except = genChoice(t, in, "except")
		w := newWorld(in.Desired, in.Observed)
		before := snapshot(w)
		p := build(t, in)
		w.apply(p, -1)
		for _, e := range w.errs {
			t.Errorf("%s; plan:\n%s\n%v", e, outline(p), p.Ops)
		}
		after := snapshot(w)
		for a, was := range before {
			if slices.ContainsFunc(in.Except, func(g string) bool { return Match(g, a) }) && after[a] != was {
				t.Fatalf("%s moved from %s to %s:\n%s", a, was, after[a], outline(p))
			}
		}
	})
}

// A saved plan can be made again from the world it was made from, whatever else
// has come into the spec since.
func TestPropertyApproved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genRuled(t)
		if len(in.Forget) == 0 && rapid.Bool().Draw(t, "part") {
			in.Only = genChoice(t, in, "only")
		}
		saved := build(t, in)
		now := Input{Stack: in.Stack, Desired: in.Desired, Observed: in.Observed, Compilers: in.Compilers, Approved: saved,
			Protection: in.Protection, Ignore: in.Ignore, Forget: in.Forget}
		extra := Resource{Address: "alias/new@acme.example", Provider: "p9", Kind: "thing", Attrs: Attrs{"size": String("x")}}
		now.Desired = append(slices.Clone(now.Desired), extra)
		now.Compilers["p9"] = eachAlone
		fresh := build(t, now)
		if moved := Compare(saved, fresh, nil); len(moved) > 0 {
			t.Fatalf("nothing moved, but: %q\nsaved:\n%s\nfresh:\n%s", moved, outline(saved), outline(fresh))
		}
		var got, want []string
		for _, op := range fresh.Ops {
			got = append(got, fmt.Sprint(op))
		}
		for _, op := range saved.Ops {
			want = append(want, fmt.Sprint(op))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("operations:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
