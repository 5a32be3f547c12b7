package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// world is an outside system that does exactly what it is told: the simplest
// thing a plan can be applied to. It complains about what a real one refuses.
type world struct {
	objects map[Address]Object
	wants   map[Address]Resource
	made    int
	errs    []string
}

func newWorld(desired []Resource, observed []Object) *world {
	w := &world{objects: map[Address]Object{}, wants: map[Address]Resource{}}
	for _, r := range desired {
		w.wants[r.Address] = r
	}
	for _, o := range observed {
		w.objects[o.Address] = o
	}
	return w
}

func (w *world) observe() []Object {
	var out []Object
	for _, a := range sortedKeys(w.objects) {
		out = append(out, w.objects[a])
	}
	return out
}

func (w *world) errorf(format string, args ...any) {
	w.errs = append(w.errs, fmt.Sprintf(format, args...))
}

// apply walks the operations in an order that their After allows, stopping
// after limit of them (all when negative).
func (w *world) apply(p *Plan, limit int) {
	done := map[string]bool{}
	for len(done) < len(p.Ops) && limit != 0 {
		stuck := true
		for _, op := range p.Ops {
			if done[op.ID] || limit == 0 || slices.ContainsFunc(op.After, func(id string) bool { return !done[id] }) {
				continue
			}
			w.do(p, op)
			done[op.ID] = true
			stuck = false
			limit--
		}
		if stuck {
			w.errorf("operations are stuck")
			return
		}
	}
}

func (w *world) do(p *Plan, op Op) {
	for _, a := range op.Addresses {
		c, ok := p.Change(a)
		if !ok {
			w.errorf("%s: no change at %s", op.ID, a)
			continue
		}
		switch {
		case c.Action == Delete, op.Removes:
			w.remove(p, c)
		case c.Action == Create, c.Action == Replace:
			w.create(c)
		case c.Action == Update, c.Action == Rotate:
			o := w.objects[a]
			o.Attrs = w.known(c)
			o.Owner, o.Due = Ours, ""
			w.objects[a] = o
		case c.Action == Forget:
			o := w.objects[a]
			o.Owner = Unowned
			w.objects[a] = o
		case c.Action == Adopt:
			o := w.objects[a]
			o.Owner = Ours
			w.objects[a] = o
		}
	}
}

func (w *world) create(c Change) {
	if _, there := w.objects[c.Address]; there && c.Action == Create {
		w.errorf("%s is created but is there", c.Address)
	}
	r := w.wants[c.Address]
	w.made++
	o := Object{Address: c.Address, Provider: c.Provider, Kind: c.Kind, Owner: Ours, ID: fmt.Sprintf("id-%d", w.made),
		Attrs: w.known(c), Outputs: Attrs{}, DependsOn: c.DependsOn, Protected: r.Protected}
	for _, out := range r.Outputs {
		o.Outputs[out] = String(fmt.Sprintf("%s-%d", out, w.made))
	}
	for a, r := range w.wants {
		if r.Within == c.Address {
			delete(w.objects, a) // what was inside the old one is gone
		}
	}
	w.objects[c.Address] = o
}

func (w *world) remove(p *Plan, c Change) {
	for _, o := range w.objects {
		u, _ := p.Change(o.Address)
		leaves := u.Pending() && (u.Action == Delete || u.Action == Replace && u.Kind == "two-step")
		if leaves && slices.Contains(o.DependsOn, c.Address) {
			w.errorf("%s is removed before %s, which depends on it", c.Address, o.Address)
		}
	}
	delete(w.objects, c.Address)
}

// known resolves a change's wish from what there is now.
func (w *world) known(c Change) Attrs {
	out := c.After.Resolve(func(r Ref) (Value, bool) {
		v, ok := w.objects[r.Address].Outputs[r.Attr]
		return v, ok
	})
	for _, r := range out.Refs() {
		w.errorf("%s is applied before %s is known", c.Address, r)
	}
	return out
}

// eachAlone compiles every change to an operation of its own; a Replace of kind
// "two-step" to a removal and a creation.
func eachAlone(changes []Change) []Op {
	var ops []Op
	for _, c := range changes {
		if !c.Pending() {
			continue
		}
		id := c.Provider + "." + string(c.Action) + " " + string(c.Address)
		op := Op{ID: id, Provider: c.Provider, Kind: string(c.Action), Title: string(c.Action) + " " + string(c.Address),
			Addresses: []Address{c.Address}, Inputs: c.After, Seconds: 1}
		if c.Action == Replace && c.Kind == "two-step" {
			first := op
			first.ID, first.Removes, first.Inputs = c.Provider+".remove "+string(c.Address), true, nil
			op.After = []string{first.ID}
			ops = append(ops, first)
		}
		ops = append(ops, op)
	}
	return ops
}

// allTogether compiles the changes of a provider to one operation for what is
// made and one for what is taken away.
func allTogether(changes []Change) []Op {
	make := Op{ID: "batch make", Kind: "batch", Title: "make", Seconds: 3}
	rem := Op{ID: "batch remove", Kind: "batch", Title: "remove", Seconds: 2}
	for _, c := range changes {
		make.Provider, rem.Provider = c.Provider, c.Provider
		switch {
		case !c.Pending():
		case c.Action == Delete:
			rem.Addresses = append(rem.Addresses, c.Address)
		default:
			make.Addresses = append(make.Addresses, c.Address)
		}
	}
	var ops []Op
	for _, op := range []Op{make, rem} {
		if len(op.Addresses) > 0 {
			op.ID = op.Provider + "." + op.ID
			ops = append(ops, op)
		}
	}
	return ops
}

// compilers serves every provider named in the input with compile.
func compilers(in Input, compile func([]Change) []Op) map[string]func([]Change) []Op {
	m := map[string]func([]Change) []Op{}
	for _, r := range in.Desired {
		m[r.Provider] = compile
	}
	for _, o := range in.Observed {
		m[o.Provider] = compile
	}
	return m
}

// mustBuild builds a plan that has no errors.
func mustBuild(t testing.TB, in Input) *Plan {
	t.Helper()
	if in.Stack == "" {
		in.Stack = "test"
	}
	if in.Compilers == nil {
		in.Compilers = compilers(in, eachAlone)
	}
	p, diags := Build(in)
	if diags.HasErrors() {
		t.Fatalf("Build: %v", diags)
	}
	return p
}

// outline is a plan's changes, one a line, for tests to compare: glyph,
// address, and in brackets what is worth knowing.
func outline(p *Plan) string {
	var b strings.Builder
	for _, c := range p.Changes {
		if c.Action == NoOp {
			continue
		}
		fmt.Fprintf(&b, "%s %s", c.Action.Glyph(), c.Address)
		if c.Reason != "" {
			fmt.Fprintf(&b, " (%s)", c.Reason)
		}
		if c.Risk != RiskNone {
			fmt.Fprintf(&b, " [%s]", c.Risk)
		}
		if c.Blocked != nil {
			fmt.Fprintf(&b, " BLOCKED %s: %s", c.Blocked.Why, c.Blocked.Allow)
		}
		b.WriteByte('\n')
		for _, f := range c.Fields {
			fmt.Fprintf(&b, "    %s: %s -> %s\n", f.Path, f.Before, f.After)
		}
	}
	return b.String()
}

func equalText(t *testing.T, got, want string) {
	t.Helper()
	if got, want := strings.TrimSpace(got), strings.TrimSpace(want); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
