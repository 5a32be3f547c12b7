package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// compile lets every provider turn its changes into operations and holds it to
// its promises: a broken one is a defect of mailform, better found here than
// half-way through an apply.
//
// A change that a provider finds no operation for while something it stands on
// is blocked cannot be done either, whatever the provider's reason is. It is
// blocked, too, and everything is compiled once more.
func (b *builder) compile() {
	if b.in.Compilers == nil {
		return
	}
	for {
		b.ops = nil
		b.compileAll()
		if b.diags.HasErrors() || !b.blockUnserved() {
			return
		}
		b.spread()
	}
}

// blockUnserved blocks pending changes without operations that stand on
// something blocked. A delete needs none when what it lived on goes.
func (b *builder) blockUnserved() (more bool) {
	served := make([]bool, len(b.nodes))
	for _, op := range b.ops {
		for _, a := range op.Addresses {
			served[b.at[a].index] = true
		}
	}
	for _, n := range b.sort {
		if n.idle || served[n.index] || !n.change.Pending() || n.change.Action == Delete {
			continue
		}
		if d := n.blockedBelow(map[*node]bool{}); d != nil {
			n.block(fmt.Sprintf("%s is blocked", d.addr), d)
			more = true
		}
	}
	return more
}

// blockedBelow finds something blocked that the node depends on, however far down.
func (n *node) blockedBelow(seen map[*node]bool) *node {
	for _, d := range n.deps {
		if seen[d] {
			continue
		}
		seen[d] = true
		if d.change.Blocked != nil {
			return d
		}
		if found := d.blockedBelow(seen); found != nil {
			return found
		}
	}
	return nil
}

func (b *builder) compileAll() {
	changes := map[string][]Change{}
	pending := map[string]bool{}
	for _, n := range b.nodes {
		if n.idle {
			continue
		}
		changes[n.change.Provider] = append(changes[n.change.Provider], n.change)
		if n.change.Pending() {
			pending[n.change.Provider] = true
		}
	}
	seen := map[string]bool{}
	for _, provider := range sortedKeys(changes) {
		compile := b.in.Compilers[provider]
		if compile == nil {
			if pending[provider] {
				b.broken(provider, "", "it has changes and no compiler")
			}
			continue
		}
		for _, op := range compile(changes[provider]) {
			if why := b.checkOp(provider, op); why != "" {
				b.broken(provider, op.ID, why)
			}
			if seen[op.ID] {
				b.broken(provider, op.ID, "two operations have this id")
			}
			seen[op.ID] = true
			b.ops = append(b.ops, op)
		}
	}
	for _, op := range b.ops {
		for _, id := range op.After {
			if !seen[id] {
				b.broken(op.Provider, op.ID, fmt.Sprintf("it comes after %q, which does not exist", id))
			}
		}
	}
	slices.SortFunc(b.ops, func(x, y Op) int { return cmp.Compare(x.ID, y.ID) })
}

// checkOp says what is wrong with an operation, "" when nothing is.
func (b *builder) checkOp(provider string, op Op) string {
	switch {
	case op.ID == "":
		return "it has no id"
	case op.Provider != provider:
		return fmt.Sprintf("it says it is %q's", op.Provider)
	case len(op.Addresses) == 0:
		return "it serves no address"
	case op.Seconds < 0:
		return "its duration is negative"
	}
	serves := false
	for _, a := range op.Addresses {
		n := b.at[a]
		switch {
		case n == nil || n.idle:
			return fmt.Sprintf("it serves %q, which is not in the plan", a)
		case n.change.Blocked != nil:
			return fmt.Sprintf("it serves %q, which is blocked", a)
		}
		serves = serves || n.change.Pending()
	}
	if !serves {
		return "it serves no change that is pending"
	}
	for _, r := range op.Inputs.Refs() {
		if n := b.at[r.Address]; n == nil || n.idle {
			return fmt.Sprintf("it refers to %s, which is not in the plan", r)
		}
	}
	return ""
}

func (b *builder) broken(provider, op, why string) {
	b.fail("MF3007", fmt.Sprintf("provider %s broke a promise", provider),
		fmt.Sprintf("Operation %q: %s. This is a defect of mailform; please report it.", op, why), nil)
}
