package plan

import (
	"fmt"
	"slices"
)

// The codes of diagnostics about what was asked for, not about the spec.
const (
	CodeUnusedFlag     = "MF3009" // a flag changes nothing
	CodeNamesNothing   = "MF3011" // a flag names an address that is nowhere
	CodeNotReplaceable = "MF3012" // --replace names what cannot be replaced
)

// Asked is what a person asked of a plan beyond the spec: addresses or globs (see
// Match). A saved plan keeps it, so that it can be made again.
type Asked struct {
	Only    []string `json:"only,omitempty"`    // change these, and what they cannot do without
	Except  []string `json:"except,omitempty"`  // leave these as they are, and what cannot do without them
	Replace []string `json:"replace,omitempty"` // make these anew, whether or not they differ
	Allow   []string `json:"allow,omitempty"`   // protection that is lifted
	Take    []string `json:"take,omitempty"`    // unmarked objects that become ours although they differ
}

func (a Asked) none() bool {
	return len(a.Only)+len(a.Except)+len(a.Replace)+len(a.Allow)+len(a.Take) == 0
}

// choose finds out what --only, --except and --replace name. A pattern that
// names nothing is an error: a typing error would otherwise do nothing, or all.
// What is only looked up is read in any case.
func (b *builder) choose() {
	only, except, renew := newPatterns(b.in.Only), newPatterns(b.in.Except), newPatterns(slices.DeleteFunc(slices.Clone(b.in.Replace), func(glob string) bool { return slices.Contains(b.in.Renewed, glob) }))
	approved, blocked := map[Address]bool{}, map[Address]bool{}
	if b.in.Approved != nil {
		for _, c := range b.in.Approved.Changes {
			approved[c.Address], blocked[c.Address] = c.Pending(), c.Blocked != nil
		}
	}
	cannot := map[string]string{} // a pattern of --replace: why what it names cannot be replaced
	can := map[string]bool{}
	for _, n := range b.nodes {
		named := only.match(n.addr) || len(only.globs) == 0
		if b.in.Approved != nil {
			named = approved[n.addr]
		}
		n.excluded = except.match(n.addr) || blocked[n.addr]
		n.chosen = named && !n.excluded
		if n.want != nil && n.want.Lookup {
			n.chosen, n.excluded = true, false
		}
		renew.match(n.addr)
		why := n.irreplaceable(b.in.Destroy)
		for _, glob := range renew.globs {
			switch {
			case !Match(glob, n.addr):
			case why == "":
				n.asked, can[glob] = !b.in.Made[n.addr].Complete, true
			default:
				cannot[glob] = fmt.Sprintf("%s: %s.", n.addr, why)
			}
		}
	}
	if b.in.Approved != nil {
		return // what has gone since then is for Compare to say
	}
	b.unnamed("--only", only)
	b.unnamed("--except", except)
	b.unnamed("--replace", renew)
	for _, glob := range renew.globs {
		if !can[glob] && cannot[glob] != "" {
			b.fail(CodeNotReplaceable, "--replace "+glob+" names nothing that can be replaced", cannot[glob], nil)
		}
	}
}

// irreplaceable says why --replace cannot be asked for, "" when it can.
func (n *node) irreplaceable(destroy bool) string {
	switch {
	case destroy:
		return "everything is deleted"
	case n.want == nil:
		return "it is no longer in the spec and goes anyway"
	case n.want.Lookup:
		return "mailform uses it and never makes it"
	}
	return mailRuleFor(n.addr).whole
}

// leaveOut puts a change off: the object stays as it was found.
func (n *node) leaveOut() {
	if n.idle || n.change.Action == NoOp {
		return
	}
	off := n.change
	n.off = &off
	n.change = Change{
		Address: off.Address, Provider: off.Provider, Kind: off.Kind, ID: off.ID, DependsOn: off.DependsOn,
		Action: NoOp, LeftOut: off.Action,
	}
	if n.have != nil {
		n.change.Before, n.change.After = n.have.Attrs, n.have.Attrs
	}
}

// would is what there is to do about the object, whether or not it is put off.
func (n *node) would() *Change {
	if n.off != nil {
		return n.off
	}
	return &n.change
}

// selects reports whether the plan is about a part of the stack.
func (b *builder) selects() bool {
	return len(b.in.Only)+len(b.in.Except) > 0 || b.in.Approved != nil
}

// widen chooses what the chosen changes cannot be made without. What --except
// names is never chosen; see bar.
func (b *builder) widen() (more bool) {
	if !b.selects() {
		return false
	}
	for _, n := range b.nodes {
		b.requires(n, func(d *node, because, _ string) {
			if !d.chosen && !d.excluded {
				d.chosen, d.brought, d.because = true, true, because
				more = true
			}
		})
	}
	return more
}

// bar blocks what cannot be done because of what --except names.
func (b *builder) bar() {
	if len(b.in.Except) == 0 {
		return
	}
	for _, n := range b.sort {
		b.requires(n, func(d *node, _, without string) {
			if d.excluded && n.change.Blocked == nil {
				n.change.Blocked = &Block{Why: without}
			}
		})
	}
}

// reconsider reports whether all must be decided once more because something
// came along for a change that then was blocked. That change stays blocked, so
// that nothing comes along for it again.
func (b *builder) reconsider() bool {
	if !b.selects() {
		return false
	}
	required := make([]bool, len(b.nodes))
	for _, n := range b.nodes {
		b.requires(n, func(d *node, because, _ string) {
			if !required[d.index] {
				required[d.index], d.because = true, because
			}
		})
	}
	if !slices.ContainsFunc(b.nodes, func(n *node) bool { return n.brought && n.change.Pending() && !required[n.index] }) {
		return false
	}
	more := false // every further round holds something more, so there is a last one
	for _, n := range b.nodes {
		if n.chosen && n.change.Blocked != nil && n.held == nil {
			n.held, more = n.change.Blocked, true
		}
	}
	for _, n := range b.nodes {
		if n.brought && more {
			n.chosen, n.brought = false, false
		}
	}
	return more
}

// explain says of what came along why it did.
func (b *builder) explain() {
	for _, n := range b.nodes {
		if n.brought && n.because != "" && n.change.Action != NoOp {
			n.change.Reason += "; " + n.because
		}
	}
}

// requires tells of every change that n's, which is chosen, cannot be made
// without: why it would come along, and why n is blocked if it does not.
//
// An object of ours that is sound is enough to stand on, however it differs from
// the spec: a certificate is renewed without the update of the machine it is on.
func (b *builder) requires(n *node, tell func(d *node, because, without string)) {
	if !n.chosen || !n.change.Pending() {
		return
	}
	if n.change.Action == Delete {
		for _, u := range slices.Concat(n.users, n.leavers) {
			// As it is, it would stand on nothing.
			if does := u.would().Action; does == Delete || does != NoOp && slices.Contains(u.former, n) {
				tell(u, fmt.Sprintf("%s goes, and it stands on that", n.addr), fmt.Sprintf("%s is left out by --except and needs it", u.addr))
			}
		}
		return
	}
	if n.change.Action == Forget {
		return
	}
	need := func(d *node) {
		tell(d, fmt.Sprintf("%s needs it", n.addr), fmt.Sprintf("%s is left out by --except", d.addr))
	}
	for _, d := range n.deps {
		if d.would().Action != NoOp && (!d.ours() || d.have.Tainted != "") {
			need(d)
		}
	}
	for _, r := range n.change.After.Refs() {
		if d := b.at[r.Address]; !d.renewed() {
			d.pending(map[*node]bool{}, need)
		}
	}
	if n.change.Action == Replace {
		for _, u := range n.users {
			if u.ours() && u.points(n.addr) {
				tell(u, "", fmt.Sprintf("%s is left out by --except and would be left without it", u.addr))
			}
		}
	}
}

// pending tells of what an output that could not be observed may be waiting for.
func (n *node) pending(seen map[*node]bool, tell func(*node)) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.would().Action != NoOp {
		tell(n)
	}
	for _, d := range n.deps {
		d.pending(seen, tell)
	}
}

// points reports whether the object, as it is, is lost or left pointing at what
// is gone when the thing at an address is made anew.
func (n *node) points(at Address) bool {
	if n.want != nil && n.home != nil && n.home.addr == at {
		return n.would().Action != NoOp
	}
	return slices.ContainsFunc(n.would().Fields, func(f Field) bool {
		return slices.ContainsFunc(f.After.Refs(nil), func(r Ref) bool { return r.Address == at })
	})
}

// unnamed reports patterns that name nothing in the spec or the world.
func (b *builder) unnamed(flag string, ps *patterns) {
	for i, glob := range ps.globs {
		if ps.used[i] {
			continue
		}
		detail := "There is nothing here yet."
		if near := b.near(glob); len(near) > 0 {
			detail = "Did you mean " + either(near) + "?"
		}
		b.fail(CodeNamesNothing, fmt.Sprintf("%s %s names nothing", flag, glob),
			detail+" Addresses are written as in the plan; * stands for anything, slashes included.", nil)
	}
}
