package plan

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mailform/specs"
)

// genInput draws a spec and a world of a dozen things in layers: each provider
// is a layer and depends only on those before it, so that batches make sense.
func genInput(t *rapid.T) Input {
	in := Input{Stack: "s", Destroy: rapid.IntRange(0, 9).Draw(t, "destroy") == 0}
	var placed []Resource
	text := rapid.SampledFrom([]string{"x", "y", "z"})
	for layer := range 4 {
		before := len(placed)
		for i := range rapid.IntRange(0, 4).Draw(t, "size") {
			r := Resource{
				Address: Addr([]string{"host", "dns", "mailbox", "server"}[layer], fmt.Sprint(layer, i), "x"), Provider: fmt.Sprint("p", layer),
				Kind:    rapid.SampledFrom([]string{"thing", "two-step"}).Draw(t, "kind"),
				Outputs: []string{"id", "ip"},
				Attrs:   Attrs{"size": String(text.Draw(t, "want")), "once": String(text.Draw(t, "once"))},
			}
			r.CreateOnly = []string{"once"}
			if rapid.Bool().Draw(t, "fixed") {
				r.ReplaceOn = []string{"size"}
			}
			if before > 0 {
				d := placed[rapid.IntRange(0, before-1).Draw(t, "ref")]
				if !d.Lookup {
					r.Attrs["ref"] = rapid.SampledFrom([]Value{
						Unknown(d.Address, "id"), Concat(String("a:"), Unknown(d.Address, "ip")), List(Unknown(d.Address, "id")), Null(),
					}).Draw(t, "how")
				}
				if rapid.Bool().Draw(t, "refFixed") {
					r.ReplaceOn = append(r.ReplaceOn, "ref")
				}
				r.DependsOn = append(r.DependsOn, placed[rapid.IntRange(0, before-1).Draw(t, "dep")].Address)
				if rapid.IntRange(0, 5).Draw(t, "within") == 0 {
					r.Within = placed[rapid.IntRange(0, before-1).Draw(t, "home")].Address
				}
			}
			if rapid.IntRange(0, 4).Draw(t, "protected") == 0 {
				r.Protected = "it is precious"
			}
			placed = append(placed, r)
		}
	}

	found := map[Address]bool{}
	for _, r := range placed {
		fate := rapid.IntRange(0, 9).Draw(t, "fate")
		if r.Within != "" && !found[r.Within] {
			fate = min(fate, 2) // what is inside nothing is not there
		}
		if fate < 8 {
			in.Desired = append(in.Desired, r)
		}
		if fate < 3 {
			continue // not there
		}
		found[r.Address] = true
		o := Object{Address: r.Address, Provider: r.Provider, Kind: r.Kind, ID: "old", Owner: Ours, Protected: r.Protected,
			Attrs:   Attrs{"size": String(text.Draw(t, "is")), "ref": Null(), "extra": String("kept")},
			Outputs: Attrs{"id": String("old-id"), "ip": String("old-ip")}, DependsOn: r.DependsOn}
		for _, ref := range r.Attrs.Refs() {
			o.DependsOn = append(slices.Clone(o.DependsOn), ref.Address)
		}
		state := rapid.IntRange(0, 9).Draw(t, "state")
		if r.Within != "" && state < 2 {
			state = 9 // what lives inside our own things is ours
		}
		switch state {
		case 0:
			o.Owner = Unowned
		case 1:
			o.Owner, o.OwnedBy = OtherStack, "neighbour"
		case 2:
			o.Tainted = "half made"
		case 3:
			o.Due = "expires soon"
		case 4, 5:
			o.Attrs = r.Attrs.Resolve(func(ref Ref) (Value, bool) { return String("old-" + ref.Attr), true })
		}
		in.Observed = append(in.Observed, o)
	}
	// What is wanted must not need what is not.
	for i := range in.Desired {
		r := &in.Desired[i]
		gone := func(a Address) bool {
			return !slices.ContainsFunc(in.Desired, func(d Resource) bool { return d.Address == a })
		}
		r.DependsOn = slices.DeleteFunc(slices.Clone(r.DependsOn), gone)
		if r.Within != "" && gone(r.Within) {
			r.Within = ""
		}
		for _, ref := range r.Attrs.Refs() {
			if gone(ref.Address) {
				r.Attrs["ref"] = String("literal")
			}
		}
	}
	if rapid.Bool().Draw(t, "allow") {
		in.Allow = []string{"*"}
	}
	if rapid.Bool().Draw(t, "take") {
		in.Take = []string{"*"}
	}
	compile := eachAlone
	if rapid.Bool().Draw(t, "batch") {
		compile = allTogether
	}
	in.Compilers = compilers(in, compile)
	return in
}

// genRuled draws an input and what its spec leaves alone. What others refer to
// or live in cannot be forgotten.
func genRuled(t *rapid.T) Input {
	in := genInput(t)
	needed := map[Address]bool{}
	for _, r := range in.Desired {
		needed[r.Within] = true
		needed[r.Address] = r.Within != "" || needed[r.Address]
		for _, ref := range r.Attrs.Refs() {
			needed[ref.Address] = true
		}
	}
	for i := range in.Observed {
		o := &in.Observed[i]
		o.Forgettable = true
		switch rapid.IntRange(0, 19).Draw(t, "rule") {
		case 0:
			if !needed[o.Address] {
				o.DependsOn = nil // or what it stands on could be deleted once it is foreign
				in.Forget = append(in.Forget, specs.Forget{Address: string(o.Address)})
			}
		case 1:
			in.Ignore = append(in.Ignore, specs.Ignore{Address: string(o.Address), Fields: []string{rapid.SampledFrom([]string{"size", "*"}).Draw(t, "ignored")}})
		case 2:
			in.Protection.Protect = append(in.Protection.Protect, string(o.Address))
		case 3:
			in.Protection.Unprotect = append(in.Protection.Unprotect, string(o.Address))
		}
	}
	return in
}

func build(t *rapid.T, in Input) *Plan {
	p, diags := Build(in)
	if diags.HasErrors() {
		t.Fatalf("Build: %v", diags)
	}
	return p
}

// A plan, applied as a whole, leaves nothing to do but what is blocked, and asks
// for nothing out of order on the way.
func TestPropertyApplyConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genRuled(t)
		w := newWorld(in.Desired, in.Observed)
		p := build(t, in)
		w.apply(p, -1)
		for _, e := range w.errs {
			t.Errorf("%s; plan:\n%s\n%v", e, outline(p), p.Ops)
		}
		in.Observed = w.observe()
		if again := build(t, in); again.HasChanges() {
			t.Fatalf("not converged; first plan:\n%s\nsecond plan:\n%s", outline(p), outline(again))
		}
	})
}

// An apply that stops anywhere is finished by the next one.
func TestPropertyInterruptedApplyConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genRuled(t)
		w := newWorld(in.Desired, in.Observed)
		p := build(t, in)
		w.apply(p, rapid.IntRange(0, len(p.Ops)).Draw(t, "stop"))
		in.Observed = w.observe()
		rest := build(t, in)
		w.apply(rest, -1)
		in.Observed = w.observe()
		for _, e := range w.errs {
			t.Errorf("%s; first plan:\n%s\nsecond plan:\n%s", e, outline(p), outline(rest))
		}
		if again := build(t, in); again.HasChanges() {
			t.Fatalf("not converged:\n%s", outline(again))
		}
	})
}

// What the spec ignores stays as it is through every apply that does not make
// its object anew, and what it forgets is there as it was, without our mark.
func TestPropertyRulesHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genRuled(t)
		w := newWorld(in.Desired, in.Observed)
		w.apply(build(t, in), -1)
		for _, before := range in.Observed {
			now, there := w.objects[before.Address]
			forgotten := before.Owner == Ours && slices.ContainsFunc(in.Forget, func(f specs.Forget) bool { return f.Address == string(before.Address) })
			switch {
			case forgotten && (!there || now.Owner != Unowned || !now.Attrs["size"].Equal(before.Attrs["size"])):
				t.Fatalf("%s was forgotten and is now %+v", before.Address, now)
			case !there || in.Destroy:
				continue
			}
			for _, rule := range in.Ignore {
				if rule.Address == string(before.Address) && now.ID == before.ID && !now.Attrs["size"].Equal(before.Attrs["size"]) {
					t.Fatalf("%s: size was %s, is now %s, although ignored", before.Address, before.Attrs["size"], now.Attrs["size"])
				}
			}
		}
	})
}

// The order of the input does not matter, and a plan survives its file.
func TestPropertyDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genRuled(t)
		file := Encode(build(t, in))
		in.Desired = rapid.Permutation(in.Desired).Draw(t, "desired")
		in.Observed = rapid.Permutation(in.Observed).Draw(t, "observed")
		p := build(t, in)
		if again := Encode(p); !bytes.Equal(file, again) {
			t.Fatalf("two plans:\n%s\n%s", file, again)
		}
		back, err := Decode(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(Encode(back), file) || Hash(back) != Hash(p) {
			t.Fatal("the plan changed in its file")
		}
		if moved := Compare(back, p, nil); len(moved) > 0 {
			t.Fatalf("nothing moved, but: %q", moved)
		}
	})
}

// What is not ours is not touched: not another stack's ever, and an unmarked
// object only when it is as wanted or was asked for.
func TestPropertyForeignIsLeftAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genRuled(t)
		p := build(t, in)
		for _, o := range in.Observed {
			c, ok := p.Change(o.Address)
			if !ok || !c.Pending() || o.Owner == Ours {
				continue
			}
			if o.Owner == OtherStack || in.Destroy || c.Action != Adopt && len(in.Take) == 0 {
				t.Fatalf("%s of %s, which is %s", c.Action, o.Address, o.Owner)
			}
		}
		for _, op := range p.Ops {
			for _, a := range op.Addresses {
				if c, _ := p.Change(a); c.Blocked != nil {
					t.Fatalf("%s does what is blocked", op.ID)
				}
			}
		}
	})
}
