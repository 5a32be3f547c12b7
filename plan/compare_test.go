package plan

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// applySome walks the plan's operations until limit are done, and says what an
// executor's journal would: which were done and what ids they made.
func (w *world) applySome(p *Plan, limit int) Made {
	begun, ids := map[string]bool{}, map[Address]string{}
	some := *p
	for range limit {
		for _, op := range p.Ops {
			if !begun[op.ID] && !slices.ContainsFunc(op.After, func(id string) bool { return !begun[id] }) {
				w.do(&some, op)
				begun[op.ID] = true
				for _, a := range op.Addresses {
					ids[a] = w.objects[a].ID
				}
				break
			}
		}
	}
	return p.Steps(begun, ids)
}

// resumed makes a saved plan again in the world as it is now.
func resumed(in Input, w *world, saved *Plan, made Made) Input {
	return Input{Stack: in.Stack, Desired: in.Desired, Observed: w.observe(), Compilers: in.Compilers, Approved: saved, Made: made,
		Protection: in.Protection, Ignore: in.Ignore, Forget: in.Forget}
}

// A saved plan that was cut short anywhere can be carried on, and then the world
// is as it would have been.
func TestPropertySavedPlanResumes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genRuled(t)
		saved := build(t, in)
		w, straight := newWorld(in.Desired, in.Observed), newWorld(in.Desired, in.Observed)
		made := w.applySome(saved, rapid.IntRange(0, len(saved.Ops)).Draw(t, "done"))
		rest := build(t, resumed(in, w, saved, made))
		if moved := Compare(saved, rest, made); len(moved) > 0 {
			t.Fatalf("nobody moved anything, but: %q\nsaved:\n%s\nrest:\n%s", moved, outline(saved), outline(rest))
		}
		w.apply(rest, -1)
		straight.apply(saved, -1)
		for a := range straight.objects {
			if is, want := w.objects[a], straight.objects[a]; is.Owner != want.Owner || is.Address != want.Address || len(Diff(is.Attrs, want.Attrs)) > 0 && !derived(want) {
				t.Fatalf("%s is %+v, uninterrupted %+v\nsaved:\n%s\nrest:\n%s", a, is, want, outline(saved), outline(rest))
			}
		}
		if len(w.objects) != len(straight.objects) {
			t.Fatalf("%d objects, uninterrupted %d", len(w.objects), len(straight.objects))
		}
	})
}

// derived reports whether an object holds ids, which differ from run to run.
func derived(o Object) bool { return !o.Attrs["ref"].IsNull() }

// What somebody else does to what an interrupted run had completed is found.
func TestPropertyResumeFindsStrangers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genInput(t)
		in.Destroy = false
		saved := build(t, in)
		w := newWorld(in.Desired, in.Observed)
		made := w.applySome(saved, rapid.IntRange(1, max(1, len(saved.Ops))).Draw(t, "done"))
		var completed []Address
		for _, a := range slices.Sorted(maps.Keys(made)) {
			if c, _ := saved.Change(a); made[a].Complete && c.Action != Delete && c.Pending() {
				completed = append(completed, a)
			}
		}
		if len(completed) == 0 {
			return
		}
		victim := rapid.SampledFrom(completed).Draw(t, "victim")
		o := w.objects[victim]
		o.Attrs = maps.Clone(o.Attrs)
		o.Attrs["size"] = String("vandalised")
		w.objects[victim] = o
		rest := build(t, resumed(in, w, saved, made))
		moved := Compare(saved, rest, made)
		if !slices.ContainsFunc(moved, func(m string) bool { return strings.HasPrefix(m, string(victim)+": ") }) {
			t.Fatalf("%s was changed by somebody else; told: %q\nsaved:\n%s\nrest:\n%s", victim, moved, outline(saved), outline(rest))
		}
	})
}

func TestResumeSaysWhatStrangersDid(t *testing.T) {
	in := sampleInput(sampleDesired("alice"), zoneFound())
	in.Compilers = compilers(in, eachAlone)
	saved := mustBuild(t, in)
	for name, test := range map[string]struct {
		done     int // operations of the first run
		stranger func(*world)
		want     []string
	}{
		"nobody, before anything":  {0, func(*world) {}, nil},
		"nobody, half-way":         {9, func(*world) {}, nil},
		"nobody, and all was done": {len(saved.Ops), func(*world) {}, nil},
		"a record of ours changed": {len(saved.Ops), func(w *world) {
			drift(w.values("dns/acme.example/spf"), "dns/acme.example/spf", "content", String("v=spf1 +all"))
		}, []string{`dns/acme.example/spf: content became "v=spf1 mx include:spf.crm.example -all", is now "v=spf1 +all"`}},
		"a machine of ours is gone": {len(saved.Ops), func(w *world) { delete(w.objects, "dns/acme.example/spf") },
			[]string{"dns/acme.example/spf: was created, and is gone again"}},
		"a record came in the way of what is left": {0, func(w *world) {
			w.objects["dns/acme.example/mx"] = Object{Address: "dns/acme.example/mx", Provider: "cloudflare", Kind: "record", ID: "r9", Attrs: Attrs{"content": String("mx.old.example")}}
		}, []string{"dns/acme.example/mx: is blocked now: what is there carries no mark of ours and differs from the spec"}},
	} {
		w := newWorld(in.Desired, in.Observed)
		made := w.applySome(saved, test.done)
		test.stranger(w)
		fresh := mustBuild(t, resumed(in, w, saved, made))
		if moved := Compare(saved, fresh, made); !slices.Equal(moved, test.want) {
			t.Errorf("%s: %q, want %q", name, moved, test.want)
		}
	}
}

// values returns the object at an address, its attributes free to be changed.
func (w *world) values(a Address) []Object {
	o := w.objects[a]
	o.Attrs = maps.Clone(o.Attrs)
	w.objects[a] = o
	return []Object{o}
}
