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
// order, because what it stands on is there, as it was.
func (b *builder) protect() {
	allow := newPatterns(b.in.Allow)
	allowed := make([]bool, len(b.nodes))
	for _, n := range b.nodes {
		allowed[n.index] = allow.match(n.addr)
		c := &n.change
		if n.idle || b.in.Destroy || c.Blocked != nil || c.Action != Delete && c.Action != Replace {
			continue
		}
		if n.lostWith() != nil {
			continue // decided where it is replaced
		}
		if why := n.protected(); why != "" && !allowed[n.index] {
			c.Blocked = &Block{Why: why, Allow: flag("allow", n.addr)}
		}
	}
	b.unused("--allow", "matches nothing in the plan", allow)

	// Dependencies first: who needs what will not come about. A thing on its way
	// out that stands on a protected one stays with it.
	for _, n := range b.sort {
		if !n.change.Pending() {
			continue
		}
		for _, d := range n.deps {
			together := n.change.Action == Delete && d.change.Action == Delete && !allowed[n.index]
			if d.change.Blocked != nil && (together || n.misses(d)) {
				n.blockWith(d)
				break
			}
		}
	}
	// And what is still in use stays.
	for _, n := range b.nodes {
		if n.change.Blocked != nil {
			n.keepDeps()
		}
	}
}

// keepDeps blocks the deletes of what a blocked node still needs.
func (n *node) keepDeps() {
	for _, d := range slices.Concat(n.former, n.deps) {
		if d.change.Action == Delete && d.change.Blocked == nil {
			d.change.Blocked = &Block{Why: fmt.Sprintf("%s stays and needs it", n.addr), Allow: n.change.Blocked.Allow}
			d.keepDeps()
		}
	}
}

// misses reports whether n cannot be done while d is blocked.
func (n *node) misses(d *node) bool {
	if n.change.Action == Delete {
		return false
	}
	if !d.ours() || n.lostWith() == d {
		return true
	}
	for _, r := range n.change.After.Refs() {
		if r.Address == d.addr && d.renewed() {
			return true
		}
	}
	return false
}

func (n *node) blockWith(d *node) {
	n.change.Blocked = &Block{Why: fmt.Sprintf("%s is blocked", d.addr), Allow: d.change.Blocked.Allow}
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
