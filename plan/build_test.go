package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailform/specs"
)

// res and obj are the smallest things that can be wanted and found.
func res(a Address, value string, deps ...Address) Resource {
	return Resource{Address: a, Provider: "p", Kind: "thing", Attrs: Attrs{"v": String(value)}, Outputs: []string{"id"}, DependsOn: deps}
}

func obj(a Address, value string, deps ...Address) Object {
	return Object{Address: a, Provider: "p", Kind: "thing", ID: "i", Owner: Ours,
		Attrs: Attrs{"v": String(value)}, Outputs: Attrs{"id": String("id-of-" + string(a))}, DependsOn: deps}
}

// with changes a copy of a resource or an object.
func with[T any](x T, f func(*T)) T {
	f(&x)
	return x
}

func ref(attr string, v Value) func(*Resource) {
	return func(r *Resource) {
		r.Attrs = Attrs{"v": r.Attrs["v"], attr: v}
	}
}

func TestActions(t *testing.T) {
	x := Address("other/x")
	y := Address("other/y")
	for _, test := range []struct {
		name string
		in   Input
		want string
	}{
		{"create", Input{Desired: []Resource{res(x, "1")}},
			"+ other/x (not there yet)"},
		{"no-op", Input{Desired: []Resource{res(x, "1")}, Observed: []Object{obj(x, "1")}}, ""},
		{"what only the object has is not managed",
			Input{Desired: []Resource{res(x, "1")}, Observed: []Object{with(obj(x, "1"), func(o *Object) { o.Attrs["extra"] = Int(3) })}}, ""},
		{"update", Input{Desired: []Resource{res(x, "2")}, Observed: []Object{obj(x, "1")}},
			`~ other/x (differs from the spec)
    v: "1" -> "2"`},
		{"update that interrupts", Input{
			Desired:  []Resource{with(res(x, "2"), func(r *Resource) { r.Interrupts = "it restarts" })},
			Observed: []Object{obj(x, "1")}},
			`~ other/x (differs from the spec) [interrupts mail]
    v: "1" -> "2"`},
		{"update of a field that interrupts, and one that does not",
			Input{Desired: []Resource{
				with(res(x, "2"), func(r *Resource) { r.Interrupts, r.InterruptsOn = "it restarts", []string{"w", "v"} }),
				with(res(y, "2"), func(r *Resource) { r.Interrupts, r.InterruptsOn = "it restarts", []string{"w", "vv"} }),
			}, Observed: []Object{obj(x, "1"), obj(y, "1")}},
			`~ other/x (differs from the spec) [interrupts mail]
    v: "1" -> "2"
~ other/y (differs from the spec)
    v: "1" -> "2"`},
		{"create-only is not compared", Input{
			Desired:  []Resource{with(res(x, "2"), func(r *Resource) { r.CreateOnly = []string{"v"} })},
			Observed: []Object{obj(x, "1")}}, ""},
		{"replace", Input{
			Desired:  []Resource{with(res(x, "2"), func(r *Resource) { r.ReplaceOn = []string{"v"} })},
			Observed: []Object{obj(x, "1")}},
			`± other/x (differs from the spec)
    v: "1" -> "2"`},
		{"tainted", Input{
			Desired:  []Resource{res(x, "1")},
			Observed: []Object{with(obj(x, "1"), func(o *Object) { o.Tainted = "it never started" })}},
			`± other/x (it never started)`},
		{"due", Input{
			Desired:  []Resource{res(x, "1")},
			Observed: []Object{with(obj(x, "1"), func(o *Object) { o.Due = "expires in 20 days" })}},
			`↻ other/x (expires in 20 days)`},
		{"orphan", Input{Observed: []Object{obj(x, "1")}}, `- other/x (no longer in the spec)`},
		{"unowned is none of our business", Input{Observed: []Object{with(obj(x, "1"), unowned)}}, ""},
		{"another stack's is none of our business", Input{Observed: []Object{with(obj(x, "1"), others)}}, ""},
		{"adopt", Input{Desired: []Resource{res(x, "1")}, Observed: []Object{with(obj(x, "1"), unowned)}},
			`= other/x (is there already as wanted, without our mark)`},
		{"conflict", Input{Desired: []Resource{res(x, "2")}, Observed: []Object{with(obj(x, "1"), unowned)}},
			`~ other/x (something that is not ours is in its place) BLOCKED what is there carries no mark of ours and differs from the spec: --take other/x
    v: "1" -> "2"`},
		{"take", Input{Desired: []Resource{res(x, "2")}, Observed: []Object{with(obj(x, "1"), unowned)}, Take: []string{"other/*"}},
			`~ other/x (taken over as asked)
    v: "1" -> "2"`},
		{"another stack's", Input{Desired: []Resource{res(x, "1")}, Observed: []Object{with(obj(x, "1"), others)}, Take: []string{"*"}},
			`~ other/x (belongs to another stack) BLOCKED it belongs to stack "neighbour", which must give it up first: `},
		{"a look-up is never changed", Input{
			Desired:  []Resource{with(res(x, "2"), lookup)},
			Observed: []Object{with(obj(x, "1"), unowned)}}, ""},
		{"a look-up is never deleted", Input{Destroy: true,
			Desired:  []Resource{with(res(x, "1"), lookup)},
			Observed: []Object{obj(x, "1")}}, ""},
		{"destroy", Input{Destroy: true,
			Desired:  []Resource{with(res(x, "1"), func(r *Resource) { r.Protected = "precious" }), res(y, "1"), res("other/z", "1")},
			Observed: []Object{obj(x, "1"), with(obj(y, "1"), unowned), obj("other/orphan", "1")}},
			`- other/orphan (the stack is destroyed)
- other/x (the stack is destroyed) [interrupts mail]`},
		{"a known output is compared", Input{
			Desired:  []Resource{res(x, "1"), with(res(y, "1"), ref("of", Unknown(x, "id")))},
			Observed: []Object{obj(x, "1"), with(obj(y, "1"), attr("of", String("id-of-other/x")))}}, ""},
		{"an output of something that is updated stays known", Input{
			Desired:  []Resource{res(x, "2"), with(res(y, "1"), ref("of", Unknown(x, "id")))},
			Observed: []Object{obj(x, "1"), with(obj(y, "1"), attr("of", String("id-of-other/x")))}},
			`~ other/x (differs from the spec)
    v: "1" -> "2"`},
		{"an output that could not be observed is no difference", Input{
			Desired: []Resource{res(x, "1"), with(res(y, "1"), ref("of", Concat(String("a="), Unknown(x, "id"), String("!"))))},
			Observed: []Object{with(obj(x, "1"), func(o *Object) { o.Outputs = nil }),
				with(obj(y, "1"), attr("of", String("a=7!")))}}, ""},
		{"unless what is there cannot be it", Input{
			Desired: []Resource{res(x, "1"), with(res(y, "1"), ref("of", Concat(String("b="), Unknown(x, "id"), String("!"))))},
			Observed: []Object{with(obj(x, "1"), func(o *Object) { o.Outputs = nil }),
				with(obj(y, "1"), attr("of", String("a=7!")))}},
			`~ other/y (differs from the spec)
    of: "a=7!" -> b=(known after other/x.id)!`},
		{"replacing cascades through references", Input{
			Desired: []Resource{
				with(res(x, "2"), func(r *Resource) { r.ReplaceOn = []string{"v"} }),
				with(res(y, "1"), ref("of", Unknown(x, "id"))),
				with(res("other/z", "1"), func(r *Resource) { ref("of", Unknown(x, "id"))(r); r.ReplaceOn = []string{"of"} }),
				with(res("other/zz", "1"), ref("of", Unknown("other/z", "id"))),
			},
			Observed: []Object{obj(x, "1"),
				with(obj(y, "1"), attr("of", String("id-of-other/x"))),
				with(obj("other/z", "1"), attr("of", String("id-of-other/x"))),
				with(obj("other/zz", "1"), attr("of", String("id-of-other/z")))}},
			`± other/x (differs from the spec)
    v: "1" -> "2"
~ other/y (other/x is replaced)
    of: "id-of-other/x" -> (known after other/x.id)
± other/z (other/x is replaced)
    of: "id-of-other/x" -> (known after other/x.id)
~ other/zz (other/z is replaced)
    of: "id-of-other/z" -> (known after other/z.id)`},
		{"what is inside is lost with it", Input{
			Desired: []Resource{
				with(res(x, "2"), func(r *Resource) { r.ReplaceOn = []string{"v"} }),
				with(res(y, "1"), func(r *Resource) { r.Within = x })},
			Observed: []Object{obj(x, "1"), obj(y, "1")}},
			`± other/x (differs from the spec)
    v: "1" -> "2"
± other/y (other/x is replaced)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			equalText(t, outline(mustBuild(t, test.in)), test.want)
		})
	}
}

func unowned(o *Object)  { o.Owner = Unowned }
func others(o *Object)   { o.Owner, o.OwnedBy = OtherStack, "neighbour" }
func lookup(r *Resource) { r.Lookup = true }

func attr(name string, v Value) func(*Object) {
	return func(o *Object) { o.Attrs = Attrs{"v": o.Attrs["v"], name: v} }
}

// joiner merges texts, as a sender policy is merged, unless the other says no.
type joiner struct{}

func (joiner) Merge(r Resource, o Object) (Resource, bool) {
	theirs := o.Attrs["v"].Str()
	if theirs == "no" {
		return r, false
	}
	r.Attrs = Attrs{"v": String(theirs + "+" + r.Attrs["v"].Str())}
	return r, true
}

func TestMerge(t *testing.T) {
	x := Address("dns/acme.example/spf")
	for theirs, want := range map[string]string{
		"a": `~ dns/acme.example/spf (joined with what is there, which stays in it)
    v: "a" -> "a+b"`,
		"no": `~ dns/acme.example/spf (something that is not ours is in its place) BLOCKED what is there carries no mark of ours and differs from the spec: --take dns/acme.example/spf
    v: "no" -> "b"`,
	} {
		in := Input{Desired: []Resource{res(x, "b")}, Observed: []Object{with(obj(x, theirs), unowned)}, Mergers: map[string]Merger{"p": joiner{}}}
		equalText(t, outline(mustBuild(t, in)), want)
	}
}

// Who caused a difference is known with a ledger only; what is done about it is
// the same without.
func TestAttribution(t *testing.T) {
	x := Address("other/x")
	for _, test := range []struct {
		want, is, applied string
		reason            string
	}{
		{"2", "1", "1", "the spec changed"},
		{"1", "2", "1", "changed outside mailform since the last apply"},
		{"2", "3", "1", "the spec changed, and so did the world outside mailform"},
		{"2", "1", "", "differs from the spec"},
	} {
		in := Input{Desired: []Resource{res(x, test.want)}, Observed: []Object{obj(x, test.is)}}
		without := mustBuild(t, in)
		in.Ledger = &Ledger{Entries: map[Address]LedgerEntry{x: {}}}
		if test.applied != "" {
			in.Ledger.Entries[x] = LedgerEntry{Applied: Attrs{"v": String(test.applied)}}
		}
		p := mustBuild(t, in)
		if c, _ := p.Change(x); c.Reason != test.reason {
			t.Errorf("want %s, is %s, applied %s: %q", test.want, test.is, test.applied, c.Reason)
		}
		if Hash(p) != Hash(without) {
			t.Errorf("want %s, is %s: the ledger changed the plan", test.want, test.is)
		}
	}
	p := mustBuild(t, Input{Desired: []Resource{res(x, "1")}, Ledger: &Ledger{Entries: map[Address]LedgerEntry{x: {}}}})
	equalText(t, outline(p), "+ other/x (removed outside mailform since the last apply)")
}

func protected(r *Resource) { r.Protected = "it is precious" }

func TestProtection(t *testing.T) {
	x, y, z := Address("other/x"), Address("other/y"), Address("other/z")
	replaced := with(with(res(x, "2"), protected), func(r *Resource) { r.ReplaceOn = []string{"v"} })
	orphan := with(obj(x, "1"), func(o *Object) { o.Protected = "it is precious" })
	for _, test := range []struct {
		name string
		in   Input
		want string
	}{
		{"a protected delete is blocked, the rest goes ahead", Input{
			Desired: []Resource{res(y, "1")}, Observed: []Object{orphan}},
			`- other/x (no longer in the spec) [interrupts mail] BLOCKED it is precious: --allow other/x
+ other/y (not there yet)`},
		{"unless it is allowed by name", Input{Observed: []Object{orphan}, Allow: []string{"other/x"}},
			`- other/x (no longer in the spec) [interrupts mail]`},
		{"a protected update is not blocked", Input{Desired: []Resource{with(res(x, "2"), protected)}, Observed: []Object{obj(x, "1")}},
			`~ other/x (differs from the spec)
    v: "1" -> "2"`},
		{"who needs an output of the blocked is blocked; who only comes later is not", Input{
			Desired: []Resource{replaced, with(res(y, "1"), ref("of", Unknown(x, "id"))), res(z, "1", x)},
			Observed: []Object{obj(x, "1"),
				with(obj(y, "1"), attr("of", String("id-of-other/x")))}},
			`± other/x (differs from the spec) [interrupts mail] BLOCKED it is precious: --allow other/x
    v: "1" -> "2"
~ other/y (other/x is replaced) BLOCKED other/x is blocked: --allow other/x
    of: "id-of-other/x" -> (known after other/x.id)
+ other/z (not there yet)`},
		{"nothing is put on what is broken", Input{
			Desired:  []Resource{with(res(x, "1"), protected), res(y, "1", x)},
			Observed: []Object{with(obj(x, "1"), func(o *Object) { o.Tainted = "it never started" })}},
			`± other/x (it never started) [interrupts mail] BLOCKED it is precious: --allow other/x
+ other/y (not there yet) BLOCKED other/x is blocked: --allow other/x`},
		{"who needs its existence is blocked", Input{
			Desired:  []Resource{res(x, "2"), res(y, "1", x), res(z, "1", y)},
			Observed: []Object{with(obj(x, "1"), unowned)}},
			`~ other/x (something that is not ours is in its place) BLOCKED what is there carries no mark of ours and differs from the spec: --take other/x
    v: "1" -> "2"
+ other/y (not there yet) BLOCKED other/x is blocked: --take other/x
+ other/z (not there yet) BLOCKED other/y is blocked: --take other/x`},
		{"what a blocked orphan stands on stays, and what stands on it", Input{
			Observed: []Object{with(orphan, func(o *Object) { o.DependsOn = []Address{y} }), obj(y, "1"), obj(z, "1", x), obj("other/free", "1", y)}},
			`- other/free (no longer in the spec)
- other/x (no longer in the spec) [interrupts mail] BLOCKED it is precious: --allow other/x
- other/y (no longer in the spec) BLOCKED other/x stays and needs it: --allow other/x
- other/z (no longer in the spec) BLOCKED other/x is blocked: --allow other/x`},
		{"what is inside is decided with it", Input{
			Desired:  []Resource{replaced, with(with(res(y, "1"), protected), func(r *Resource) { r.Within = x })},
			Observed: []Object{obj(x, "1"), obj(y, "1")}, Allow: []string{"other/x"}},
			`± other/x (differs from the spec) [interrupts mail]
    v: "1" -> "2"
± other/y (other/x is replaced) [interrupts mail]`},
		{"nothing protected is lost with what is not", Input{
			Desired: []Resource{with(replaced, func(r *Resource) { r.Protected = "" }),
				with(res(y, "1"), func(r *Resource) { r.Within = x }), with(with(res(z, "1"), protected), func(r *Resource) { r.Within = y })},
			Observed: []Object{obj(x, "1"), obj(y, "1"), obj(z, "1")}},
			`± other/x (differs from the spec) BLOCKED other/y would be lost with it: --allow other/z
    v: "1" -> "2"
± other/y (other/x is replaced) BLOCKED other/z would be lost with it: --allow other/z
± other/z (other/y is replaced) [interrupts mail] BLOCKED it is precious: --allow other/z`},
		{"nothing is replaced from under what cannot be made again", Input{
			Desired: []Resource{replaced, with(res(y, "1", z), func(r *Resource) { r.Within = x }), res(z, "1")},
			Observed: []Object{obj(x, "1"), obj(y, "1"),
				with(obj(z, "1"), others)}, Allow: []string{"other/x"}},
			`± other/x (differs from the spec) [interrupts mail] BLOCKED other/y would be lost with it: 
    v: "1" -> "2"
± other/y (other/x is replaced) BLOCKED other/z is blocked: 
~ other/z (belongs to another stack) BLOCKED it belongs to stack "neighbour", which must give it up first:`},
	} {
		t.Run(test.name, func(t *testing.T) {
			equalText(t, outline(mustBuild(t, test.in)), test.want)
		})
	}
}

// A provider that can do nothing while something is blocked leaves its changes
// blocked, not silently undone.
func TestUnservedIsBlocked(t *testing.T) {
	x, y, z := Address("other/x"), Address("other/y"), Address("other/z")
	in := Input{
		Desired: []Resource{with(with(res(x, "2"), protected), func(r *Resource) { r.ReplaceOn = []string{"v"} }),
			res(y, "1", x), res(z, "1", y), res("other/free", "1")},
		Observed: []Object{obj(x, "1")},
	}
	in.Compilers = compilers(in, func(changes []Change) []Op {
		return slices.DeleteFunc(eachAlone(changes), func(op Op) bool { return op.Addresses[0] == y })
	})
	p := mustBuild(t, in)
	equalText(t, outline(p), `+ other/free (not there yet)
± other/x (differs from the spec) [interrupts mail] BLOCKED it is precious: --allow other/x
    v: "1" -> "2"
+ other/y (not there yet) BLOCKED other/x is blocked: --allow other/x
+ other/z (not there yet) BLOCKED other/y is blocked: --allow other/x`)
	equalText(t, opList(p), "p.create other/free <-")
}

// Every broken promise of a spec or a provider is found before anything is done.
func TestDiagnostics(t *testing.T) {
	x, y, z := Address("other/x"), Address("other/y"), Address("other/z")
	at := specs.Range{File: "mail.hcl", Line: 3, Column: 1}
	op := func(f func(*Op)) map[string]func([]Change) []Op {
		o := Op{ID: "p.do", Provider: "p", Addresses: []Address{x}}
		f(&o)
		return map[string]func([]Change) []Op{"p": func([]Change) []Op { return []Op{o} }}
	}
	for _, test := range []struct {
		name string
		in   Input
		code string
		text string
	}{
		{"declared twice", Input{Desired: []Resource{res(x, "1"), res(x, "2")}}, "MF3001", "other/x is declared twice"},
		{"found twice", Input{Desired: []Resource{res(x, "1")}, Observed: []Object{obj(x, "1"), obj(x, "2")}}, "MF3005", "found twice"},
		{"unknown dependency", Input{Desired: []Resource{res(x, "1", "other/nobody")}}, "MF3002", "other/nobody"},
		{"dependency on what goes", Input{Desired: []Resource{res(x, "1", y)}, Observed: []Object{obj(y, "1")}}, "MF3002", "other/y"},
		{"unknown reference", Input{Desired: []Resource{with(res(x, "1"), ref("of", Unknown("other/nobody", "id")))}}, "MF3002", "other/nobody"},
		{"unknown output", Input{Desired: []Resource{with(res(x, "1"), ref("of", Unknown(y, "ip"))), res(y, "1")}}, "MF3010", "ip of other/y"},
		{"cycle", Input{Desired: []Resource{res(x, "1", y), with(res(y, "1"), ref("of", Unknown(z, "id"))), res(z, "1", x), res("other/w", "1", x)}},
			"MF3003", "other/x → other/y → other/z → other/x"},
		{"itself", Input{Desired: []Resource{res(x, "1", x)}}, "MF3003", "other/x → other/x"},
		{"missing look-up", Input{Desired: []Resource{with(res(x, "1"), lookup)}}, "MF3004", "other/x is not there"},
		{"another kind", Input{Desired: []Resource{res(x, "1")}, Observed: []Object{with(obj(x, "1"), func(o *Object) { o.Kind = "other" })}}, "MF3006", "p other i"},
		{"no compiler", Input{Desired: []Resource{res(x, "1")}, Compilers: map[string]func([]Change) []Op{}}, "MF3007", "no compiler"},
		{"no address", Input{Desired: []Resource{res(x, "1")}, Compilers: op(func(o *Op) { o.Addresses = nil })}, "MF3007", "serves no address"},
		{"unknown address", Input{Desired: []Resource{res(x, "1")}, Compilers: op(func(o *Op) { o.Addresses = []Address{y} })}, "MF3007", `"other/y", which is not in the plan`},
		{"unknown input", Input{Desired: []Resource{res(x, "1")}, Compilers: op(func(o *Op) { o.Inputs = Attrs{"a": Unknown(y, "id")} })}, "MF3007", "other/y.id"},
		{"unknown predecessor", Input{Desired: []Resource{res(x, "1")}, Compilers: op(func(o *Op) { o.After = []string{"q"} })}, "MF3007", `"q"`},
		{"nothing pending", Input{Desired: []Resource{res(x, "1")}, Observed: []Object{obj(x, "1")}, Compilers: op(func(*Op) {})}, "MF3007", "no change that is pending"},
		{"does what is blocked", Input{Desired: []Resource{res(x, "1")}, Observed: []Object{with(obj(x, "1"), others)}, Compilers: op(func(*Op) {})}, "MF3007", "blocked"},
		{"same id", Input{Desired: []Resource{res(x, "1")}, Compilers: map[string]func([]Change) []Op{"p": func([]Change) []Op {
			return []Op{{ID: "a", Provider: "p", Addresses: []Address{x}}, {ID: "a", Provider: "p", Addresses: []Address{x}}}
		}}}, "MF3007", "two operations"},
		{"batches that wait for each other", Input{
			Desired: []Resource{res(x, "1"), res(y, "1", x), res(z, "1", y)},
			Compilers: map[string]func([]Change) []Op{"p": func([]Change) []Op {
				return []Op{{ID: "outer", Provider: "p", Addresses: []Address{x, z}}, {ID: "inner", Provider: "p", Addresses: []Address{y}}}
			}}}, "MF3008", "inner → outer → inner"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.in.Compilers == nil {
				test.in.Compilers = compilers(test.in, eachAlone)
			}
			for i := range test.in.Desired {
				test.in.Desired[i].Origin = at
			}
			p, diags := Build(test.in)
			if p != nil || !diags.HasErrors() {
				t.Fatalf("no error, plan %v", p)
			}
			found := slices.ContainsFunc(diags, func(d specs.Diagnostic) bool {
				spec := d.Code == "MF3007" || d.Code == "MF3008" || d.Subject != nil && *d.Subject == at
				return d.Code == test.code && strings.Contains(d.Summary+"\n"+d.Detail, test.text) && spec
			})
			if !found {
				t.Errorf("want %s %q with its place, got %+v", test.code, test.text, diags)
			}
		})
	}
}

func TestFlagThatMatchesNothingIsPointedOut(t *testing.T) {
	in := Input{Observed: []Object{obj("mailbox/bob@acme.example", "1")}, Allow: []string{"mailbox/bbo@acme.example", "mailbox/*"}}
	_, diags := Build(in)
	if len(diags) != 1 || diags[0].Severity != specs.SeverityWarning || !strings.Contains(diags[0].Summary, "mailbox/bbo@acme.example") {
		t.Errorf("diagnostics: %+v", diags)
	}
}

func TestLiftQuotesForTheShell(t *testing.T) {
	for a, want := range map[Address]string{
		"mailbox/bob@acme.example":       "--allow mailbox/bob@acme.example",
		"mailbox/o'brien@acme.example":   `--allow 'mailbox/o'\''brien@acme.example'`,
		"dns/acme.example/a/*;rm -rf /x": "--allow 'dns/acme.example/a/*;rm -rf /x'",
	} {
		if got := lift("allow", a); got != want {
			t.Errorf("lift(%q) = %s", a, got)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern string
		a       Address
		want    bool
	}{
		{"cert/mx1", "cert/mx1", true},
		{"cert/mx", "cert/mx1", false},
		{"cert/*", "cert/mx1", true},
		{"dns/acme.example/*", "dns/acme.example/dkim/2026a", true},
		{"dns/*/mx", "dns/acme.example/mx", true},
		{"dns/*/mx", "dns/acme.example/mx2", false},
		{"*", "anything/at/all", true},
		{"mailbox/?@x", "mailbox/é@x", true},
		{"mailbox/?@x", "mailbox/ab@x", false},
		{"mailbox/a*b@x", "mailbox/a*b@x", true},
		{"*a*b*", "xxaxxbxx", true},
		{"*a*b*", "xxbxxaxx", false},
		{"", "x", false},
	} {
		if got := Match(test.pattern, test.a); got != test.want {
			t.Errorf("Match(%q, %q) = %v", test.pattern, test.a, got)
		}
	}
}

func TestDiff(t *testing.T) {
	named := func(name string, port int64) Value {
		return Map(map[string]Value{"name": String(name), "port": Int(port)})
	}
	plain := func(port int64) Value { return Map(map[string]Value{"port": Int(port)}) }
	for _, test := range []struct {
		name          string
		before, after Value
		want          string
	}{
		{"equal", List(named("a", 1)), List(named("a", 1)), ""},
		{"null and the empty list are the same", Null(), List(), ""},
		{"nested", Map(map[string]Value{"disk": Map(map[string]Value{"size": Int(1), "kind": String("x")})}),
			Map(map[string]Value{"disk": Map(map[string]Value{"size": Int(2), "kind": String("x")})}), "v.disk.size: 1 -> 2"},
		{"named", List(named("a", 1), named("b", 2), named("c", 3)), List(named("b", 4), named("c", 3), named("d", 5)),
			"v[a]: {name = \"a\", port = 1} -> (none)\nv[b].port: 2 -> 4\nv[d]: (none) -> {name = \"d\", port = 5}"},
		{"named from nothing", List(), List(named("a", 1)), "v[a]: (none) -> {name = \"a\", port = 1}"},
		{"named in another order", List(named("a", 1), named("b", 2)), List(named("b", 2), named("a", 1)),
			"v: [{name = \"a\", port = 1}, {name = \"b\", port = 2}] -> [{name = \"b\", port = 2}, {name = \"a\", port = 1}]"},
		{"without names", List(plain(1), plain(2), plain(2)), List(plain(2), plain(3)),
			"v[0]: {port = 1} -> (none)\nv[2]: {port = 2} -> (none)\nv[1]: (none) -> {port = 3}"},
		{"texts are one value", Strings("a", "b"), Strings("a"), `v: ["a", "b"] -> ["a"]`},
		{"another type", String("1"), Int(1), `v: "1" -> 1`},
		{"secrets", Secret("a"), Secret("b"), `v: ••• -> •••`},
	} {
		var b strings.Builder
		for _, f := range Diff(Attrs{"v": test.before}, Attrs{"v": test.after}) {
			fmt.Fprintf(&b, "%s: %s -> %s\n", f.Path, f.Before, f.After)
		}
		if got := strings.TrimSpace(b.String()); got != test.want {
			t.Errorf("%s:\n%s\nwant:\n%s", test.name, got, test.want)
		}
	}
}
