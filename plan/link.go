package plan

import (
	"fmt"
	"slices"
	"strings"
)

// link finds out who depends on whom, checks that every dependency and every
// referenced output is declared, and sorts the nodes so that dependencies come
// first.
//
// What the spec wants depends on what the spec says. What it no longer wants
// depends on what its provider observed: nothing else is left to say so. When
// everything goes, both count.
func (b *builder) link() {
	for _, n := range b.nodes {
		n.home = b.at[n.inside()]
		if n.want == nil {
			for _, a := range n.have.DependsOn {
				if d := b.at[a]; d != nil {
					n.deps = append(n.deps, d)
				}
			}
			continue
		}
		for _, a := range n.want.DependsOn {
			b.need(n, a, "")
		}
		if n.want.Within != "" {
			b.need(n, n.want.Within, "")
		}
		for _, r := range n.want.Attrs.Refs() {
			b.need(n, r.Address, r.Attr)
		}
		for _, name := range sortedKeys(n.want.SameAs) {
			b.need(n, n.want.SameAs[name].Address, n.want.SameAs[name].Attr)
		}
		if n.have != nil {
			for _, a := range n.have.DependsOn {
				switch d := b.at[a]; {
				case d == nil:
				case b.in.Destroy:
					n.deps = append(n.deps, d)
				case d.want == nil:
					n.former = append(n.former, d)
				}
			}
		}
	}
	for _, n := range b.nodes {
		n.deps = distinct(n.deps)
		n.former = distinct(n.former)
		for _, d := range n.former {
			d.leavers = append(d.leavers, n)
		}
		for _, d := range n.deps {
			d.users = append(d.users, n)
		}
	}

	order, cycles := sortGraph(len(b.nodes), func(i int) []int { return indexes(b.nodes[i].deps) })
	for _, cycle := range cycles {
		names := make([]string, len(cycle))
		for i, n := range cycle {
			names[i] = string(b.nodes[n].addr)
		}
		first := b.nodes[cycle[0]]
		b.fail("MF3003", "these depend on each other",
			strings.Join(append(names, names[0]), " → ")+
				". None of them could be the first. Take one of the dependencies out.", first.want)
	}
	for _, i := range order {
		b.sort = append(b.sort, b.nodes[i])
	}
}

// need makes n depend on what is wanted at a and checks that it is declared and,
// with attr, that it declares this output.
func (b *builder) need(n *node, a Address, attr string) {
	d := b.at[a]
	switch {
	case b.forgotten[a]:
		b.fail("MF3002", fmt.Sprintf("%s needs %s, which is forgotten", n.addr, a),
			"What a forget rule names is no longer made or read. Forget both, or take what refers to it out of the spec.", n.want)
	case d == nil || d.want == nil:
		b.fail("MF3002", fmt.Sprintf("%s needs %s, which is not declared", n.addr, a),
			"Nothing in the spec makes it. Declare it, or take out what refers to it.", n.want)
	case attr != "" && !slices.Contains(d.want.Outputs, attr):
		b.fail("MF3010", fmt.Sprintf("%s needs %s of %s, which it does not have", n.addr, attr, a),
			fmt.Sprintf("Its outputs are: %s.", orNone(strings.Join(d.want.Outputs, ", "))), n.want)
	default:
		n.deps = append(n.deps, d)
	}
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// distinct sorts nodes by address and drops repetitions.
func distinct(nodes []*node) []*node {
	slices.SortFunc(nodes, func(x, y *node) int { return x.index - y.index })
	return slices.Compact(nodes)
}

func indexes(nodes []*node) []int {
	out := make([]int, len(nodes))
	for i, n := range nodes {
		out[i] = n.index
	}
	return out
}
