package plan

import (
	"fmt"
	"slices"

	"mailform/specs"
)

// protect blocks what needs permission and what cannot be done without the
// blocked: it would need an output or the existence of something that will not
// come about, or take away something that stays in use. Everything else in the
// plan goes ahead; in particular whatever only comes after a blocked change in
// order, because what it stands on is there, as it was, and sound.
func (b *builder) protect() {
	for _, n := range b.nodes {
		c := &n.change
		if n.idle || b.in.Destroy || c.Blocked != nil || c.Action != Delete && c.Action != Replace {
			continue
		}
		if n.covered() {
			continue
		}
		if why := n.protected(); why != "" && !n.allowed {
			c.Blocked = &Block{Why: why, Allow: lift("allow", n.addr)}
			n.guarded = true
		}
	}
	b.spread()
}

// spread blocks what the blocks so far make impossible.
func (b *builder) spread() {
	for again := true; again; {
		again = false
		// Dependencies first, so that a block reaches everything in one round.
		for _, n := range b.sort {
			if n.change.Pending() {
				again = n.hold() || again
			}
		}
		for _, n := range b.nodes {
			if n.change.Blocked != nil {
				again = n.keep() || again
			}
		}
	}
}

// covered reports whether the node is lost with something protected. That is
// where it is decided: who allows that by name allows what it means.
func (n *node) covered() bool {
	home := n.lostWith()
	return home != nil && (home.protected() != "" || home.covered())
}

// hold blocks a pending change that cannot be done without a blocked one: it
// needs what will not come about, or it is on its way out with something
// protected that it stands on.
func (n *node) hold() bool {
	for _, d := range n.deps {
		if d.change.Blocked == nil {
			continue
		}
		with := n.change.Action == Delete && d.change.Action == Delete && d.guarded && !n.allowed
		if with || n.misses(d) {
			n.block(fmt.Sprintf("%s is blocked", d.addr), d)
			n.guarded = with
			return true
		}
	}
	return false
}

// keep blocks what would take away something that a blocked node still needs,
// or the blocked node itself.
func (n *node) keep() (more bool) {
	for _, d := range slices.Concat(n.former, n.deps) {
		if d.change.Action == Delete && d.change.Blocked == nil {
			d.block(fmt.Sprintf("%s stays and needs it", n.addr), n)
			d.keep()
			more = true
		}
	}
	if home := n.lostWith(); home != nil && n.have != nil && home.change.Action == Replace && home.change.Blocked == nil {
		home.block(fmt.Sprintf("%s would be lost with it", n.addr), n)
		more = true
	}
	return more
}

// misses reports whether n cannot be done while d is blocked.
func (n *node) misses(d *node) bool {
	if n.change.Action == Delete {
		return false
	}
	if !d.ours() || d.have.Tainted != "" || n.have != nil && n.lostWith() == d {
		return true
	}
	for _, r := range n.change.After.Refs() {
		if r.Address == d.addr && d.renewed() {
			return true
		}
	}
	return false
}

func (n *node) block(why string, root *node) {
	n.change.Blocked = &Block{Why: why, Allow: root.change.Blocked.Allow}
}

// unused warns about patterns that matched nothing: most likely a typing error.
func (b *builder) unused(name, why string, ps *patterns) {
	for i, g := range ps.globs {
		if !ps.used[i] {
			b.report(specs.SeverityWarning, "MF3009", fmt.Sprintf("%s %s %s", name, g, why),
				"Addresses are written as in the plan, for example mailbox/alice@acme.example; * stands for anything.", nil)
		}
	}
}
