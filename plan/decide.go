package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// decide gives every node its change, dependencies first: what happens to a
// thing decides what is known of its outputs, and so what its users become. What
// may not happen without being allowed by name is blocked; see protect.
// When the plan is about a part of the stack, the rest stays as it was found;
// what then turns out to be needed is chosen, too, and all is decided once more.
func (b *builder) decide() {
	take, allow := newPatterns(b.in.Take), newPatterns(b.in.Allow)
	for _, n := range b.nodes {
		n.allowed = allow.match(n.addr)
	}
	for again := true; again; again = b.reconsider() {
		for more := true; more; more = b.widen() {
			b.decideAll(take)
			if b.diags.HasErrors() {
				return
			}
		}
		b.bar()
		b.protect()
	}
	b.spareMail()
	b.explain()
	b.unused("--take", "has no effect: nothing there is in the way without our mark", take)
	b.unused("--allow", "matches nothing in the plan", allow)
	b.unused("--ignore", "ignores nothing", b.rules.overlook)
	b.unusedRules()
}

func (b *builder) decideAll(take *patterns) {
	for _, n := range b.sort {
		n.idle, n.off, n.guarded = false, nil, n.guarded && n.held != nil
		n.change = Change{Address: n.addr, Action: NoOp}
		c := &n.change
		if n.want != nil {
			c.Provider, c.Kind = n.want.Provider, n.want.Kind
		} else {
			c.Provider, c.Kind = n.have.Provider, n.have.Kind
		}
		for _, d := range n.deps {
			if !d.idle {
				c.DependsOn = append(c.DependsOn, d.addr)
			}
		}
		if n.have != nil {
			c.ID, c.Before = n.have.ID, n.have.Attrs
		}

		switch {
		case n.want == nil && b.rules.forget.match(n.addr):
			b.release(n)
		case b.in.Destroy:
			b.destroy(n)
		case n.want == nil:
			b.remove(n, reasonUnwanted)
		case n.want.Lookup:
			b.lookUp(n)
		default:
			b.converge(n, take)
		}
		if c.Action == Replace && len(c.Ignored) > 0 {
			// A new one has no value that somebody could have chosen.
			c.After, c.Ignored = b.wish(n, n.want.Attrs), nil
		}
		if c.Action != NoOp && c.Action != Rotate && len(b.in.Overlook) > 0 && b.rules.overlook.match(n.addr) {
			c.Ignored = append(c.Ignored, c.Fields...)
			if len(c.Fields) == 0 {
				c.Ignored = append(c.Ignored, Field{})
			}
			c.Action, c.Fields, c.Reason, c.Risk, c.Blocked = NoOp, nil, "", RiskNone, nil
		}
		if n.held != nil && c.Action != NoOp {
			c.Blocked = n.held
		}
		if !n.chosen {
			n.leaveOut()
		}
		if n.have != nil && !n.renewed() {
			c.Outputs = n.have.Outputs
		}
	}
}

// destroy deletes what is ours. What is only looked up stays in the plan, so
// that its provider can still find it.
func (b *builder) destroy(n *node) {
	switch {
	case n.want != nil && n.want.Lookup:
		if n.idle = n.have == nil; !n.idle {
			n.change.After = b.wish(n, n.want.Attrs)
		}
	case n.ours():
		b.remove(n, reasonDestroyed)
	default:
		n.idle = true
	}
}

func (b *builder) remove(n *node, reason string) {
	c := &n.change
	c.Action, c.Reason = Delete, reason
	c.Effect = lossInWords(n.addr)
	c.Risk = riskOfDelete(n.addr, n.protected())
}

func (b *builder) lookUp(n *node) {
	if n.have == nil {
		b.fail("MF3004", fmt.Sprintf("%s is not there", n.addr),
			fmt.Sprintf("mailform uses this %s %s but never creates it. Create it, or correct its name in the spec; the credentials must be allowed to read it.",
				n.want.Provider, n.want.Kind), n.want)
		return
	}
	n.change.After = b.wish(n, n.want.Attrs)
}

// converge compares one wanted resource with what is there.
func (b *builder) converge(n *node, take *patterns) {
	c := &n.change
	c.After = b.wish(n, n.want.Attrs)
	c.Effect = n.want.Effect
	if n.have == nil {
		c.Action, c.Reason = Create, b.whyMissing(n)
		return
	}
	c.Ignored = b.overlay(n)
	c.Fields = b.compare(n)

	home := n.lostWith()
	switch {
	case n.have.Owner == OtherStack:
		c.Action, c.Reason = n.changeInPlace(), "belongs to another stack"
		c.Blocked = &Block{Why: fmt.Sprintf("it belongs to stack %q, which must give it up first", n.have.OwnedBy)}
		return
	case home != nil && n.have.Owner == Unowned:
		c.Action, c.Reason = Create, cause(home)
		c.ID, c.Before, c.Fields, c.Ignored = "", nil, nil, nil
		c.After = b.wish(n, n.want.Attrs)
		return
	case n.have.Owner == Unowned:
		b.claim(n, take)
		return
	}
	if home != nil {
		c.Action, c.Fields = Replace, nil
		c.Reason = cause(home)
	} else if n.asked {
		c.Action, c.Reason = Replace, reasonAsked
	} else if n.have.Tainted != "" {
		c.Action, c.Reason = Replace, n.have.Tainted
	} else if len(c.Fields) > 0 {
		c.Action, c.Reason = n.changeInPlace(), b.whyDifferent(n)
	} else if n.have.Due != "" {
		c.Action, c.Reason = Rotate, n.have.Due
	} else if n.want.Waits != "" {
		c.Action, c.Reason = Wait, n.want.Waits
	}
	b.weigh(n)
}

// claim decides about an object in a wanted slot that carries no mark.
func (b *builder) claim(n *node, take *patterns) {
	c := &n.change
	if len(c.Fields) > 0 {
		if m := b.in.Mergers[n.want.Provider]; m != nil {
			wish := *n.want
			wish.Attrs = c.After
			if joined, ok := m.Merge(wish, *n.have); ok {
				c.After = b.wish(n, joined.Attrs)
				c.Ignored = b.overlay(n)
				c.Fields = b.compare(n)
				if len(c.Fields) > 0 {
					c.Action, c.Reason = n.changeInPlace(), "joined with what is there, which stays in it"
					b.weigh(n)
					return
				}
			}
		}
	}
	switch {
	case len(c.Fields) == 0:
		c.Action, c.Reason = Adopt, "is there already as wanted, without our mark"
	case take.match(n.addr):
		c.Action, c.Reason = n.changeInPlace(), "taken over as asked"
		b.weigh(n)
	default:
		c.Action, c.Reason = n.changeInPlace(), "something that is not ours is in its place"
		c.Blocked = &Block{Why: "what is there carries no mark of ours and differs from the spec", Allow: lift("take", n.addr)}
	}
}

// weigh gives a change of an existing object its risk.
func (b *builder) weigh(n *node) {
	c := &n.change
	switch {
	case c.Action == Replace:
		c.Risk = riskOfReplace(n.addr, n.protected(), n.want.Interrupts)
	case c.Action == Update && n.interrupted():
		c.Risk = RiskInterrupts
		c.Effect = n.want.Interrupts
	}
}

// interrupted reports whether the node's differences are such that their update
// interrupts mail.
func (n *node) interrupted() bool {
	on := n.want.InterruptsOn
	return n.want.Interrupts != "" && (len(on) == 0 || slices.ContainsFunc(n.change.Fields, func(f Field) bool {
		return slices.ContainsFunc(on, func(path string) bool {
			rest, within := strings.CutPrefix(f.Path, path)
			return within && (rest == "" || rest[0] == '.' || rest[0] == '[')
		})
	}))
}

// changeInPlace is what the node's differences amount to.
func (n *node) changeInPlace() Action {
	if slices.ContainsFunc(n.change.Fields, func(f Field) bool { return f.Replaces }) {
		return Replace
	}
	return Update
}

// lostWith returns what the object exists inside of when that is made anew, so
// that the object is gone and has to be made again.
func (n *node) lostWith() *node {
	if n.want == nil || n.home == nil || !n.home.renewed() {
		return nil
	}
	return n.home
}

// inside names what the object exists inside of: as it was found, or else as it is wanted.
func (n *node) inside() Address {
	switch {
	case n.have != nil && n.have.Within != "":
		return n.have.Within
	case n.want != nil:
		return n.want.Within
	}
	return ""
}

// protected says why deleting or replacing the node must be allowed by name.
func (n *node) protected() string {
	if n.want != nil && n.want.Protected != "" {
		return n.want.Protected
	}
	if n.have != nil {
		return n.have.Protected
	}
	return ""
}

// wish resolves what is known of the wanted attributes.
//
// An output of something that stays as it is may be unknown all the same, when
// it could not be observed (the address of a stopped instance). Nothing says
// that it will change, so a value that fits around it counts as wanted.
func (b *builder) wish(n *node, attrs Attrs) Attrs {
	out := attrs.Resolve(b.known)
	if n.have == nil {
		return out
	}
	for name, v := range out {
		refs := v.Refs(nil)
		stays := len(refs) > 0
		for _, r := range refs {
			d := b.at[r.Address]
			stays = stays && d != nil && !d.renewed()
		}
		if is := n.have.Attrs[name]; stays && fits(v, is) {
			out[name] = is
		}
	}
	return out
}

// compare returns how the object differs from the wish, CreateOnly attributes aside.
func (b *builder) compare(n *node) []Field {
	wish := maps.Clone(n.change.After)
	for _, name := range n.want.CreateOnly {
		delete(wish, name)
	}
	var fields []Field
	for _, name := range wish.Names() {
		start := len(fields)
		fields = diffValue(fields, name, n.have.Attrs[name], wish[name])
		if slices.Contains(n.want.ReplaceOn, name) {
			for i := start; i < len(fields); i++ {
				fields[i].Replaces = true
			}
		}
	}
	return fields
}
