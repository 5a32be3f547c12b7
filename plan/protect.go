package plan

import (
	"cmp"
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
		if why := n.guard; why != "" && !n.allowed {
			c.Blocked = &Block{Why: why, Allow: lift("allow", n.addr)}
			n.guarded = true
		}
	}
	b.limitZones()
	b.keepNames()
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
			if n.change.Blocked != nil || n.change.Action == Forget {
				again = n.keep() || again
			}
		}
	}
}

// covered reports whether the node is lost with something protected. That is
// where it is decided: who allows that by name allows what it means.
func (n *node) covered() bool {
	home := n.lostWith()
	return home != nil && (home.guard != "" || home.covered())
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
		goes := d.change.Action == Delete || n.change.Action == Forget && d.change.Action == Replace
		if goes && d.change.Blocked == nil {
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
	if n.change.Action == Delete || n.change.Action == Forget {
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
	n.change.Blocked = &Block{Why: why}
	if root.change.Blocked != nil {
		n.change.Blocked.Allow = root.change.Blocked.Allow
	}
}

// Bounds of how much of a zone one plan may change or delete without permission.
// Half of a zone is more than an everyday change makes (a host's new address, a
// key's rotation, another policy) and less than a domain taken out by mistake. A
// zone in which little is ours is easily looked through, and easily over half.
const (
	defaultZonePercent = 50
	minZoneRecords     = 10
)

// limitZones blocks the changes and deletes of our own records in a zone of which
// the plan would change more than may go unnoticed. What it adds goes ahead.
func (b *builder) limitZones() {
	percent := cmp.Or(b.in.Protection.ZonePercent, defaultZonePercent)
	owned, moving := map[string]int{}, map[string][]*node{}
	for _, n := range b.nodes {
		if b.in.Destroy || n.addr.Kind() != "dns" || !n.ours() {
			continue
		}
		zone := n.addr.Segments()[1]
		owned[zone]++
		switch n.change.Action {
		case Update, Replace, Delete:
			if n.change.Blocked == nil && !n.allowed {
				moving[zone] = append(moving[zone], n)
			}
		}
	}
	for _, zone := range sortedKeys(moving) {
		all, some := owned[zone], moving[zone]
		if all < minZoneRecords || len(some)*100 <= percent*all {
			continue
		}
		for _, n := range some {
			n.change.Blocked = &Block{
				Why:   fmt.Sprintf("the plan changes or deletes %d of our %d records of %s, more than %d %%", len(some), all, zone, percent),
				Allow: lift("allow", Addr("dns", zone, "*")),
			}
		}
	}
}

// unused warns about patterns that matched nothing: most likely a typing error.
func (b *builder) unused(name, why string, ps *patterns) {
	for i, g := range ps.globs {
		if !ps.used[i] {
			b.report(specs.SeverityWarning, CodeUnusedFlag, fmt.Sprintf("%s %s %s", name, g, why),
				"Addresses are written as in the plan, for example mailbox/alice@acme.example; * stands for anything.", nil)
		}
	}
}
