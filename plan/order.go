package plan

import (
	"cmp"
	"slices"
	"strings"
)

// order gives every operation the operations that must have succeeded before it
// begins. Four kinds of edges; the first can make a cycle only through batches
// that cannot be done together, the others never do:
//
//   - what providers said about their own operations, and dependencies:
//     whatever makes a thing comes after whatever makes what it depends on, and
//     whatever removes a thing after whatever removes its dependents;
//   - whatever removes a thing comes after what changes its former dependents,
//     and whatever takes mail away from a domain after what takes its MX away;
//   - hosts take turns where mail would stop: see roll;
//   - mail sense: see tearDown.
//
// Edges that others imply are left out.
func (b *builder) order() {
	if len(b.ops) == 0 {
		return
	}
	g := b.newOpGraph()
	g.dependencies()
	_, cycles := g.sorted()
	for _, cycle := range cycles {
		names := make([]string, len(cycle))
		for i, o := range cycle {
			names[i] = b.ops[o].ID
		}
		b.fail("MF3008", "operations wait for each other",
			strings.Join(append(names, names[0]), " → ")+
				". A batch covers changes that cannot be done together. This is a defect of mailform; please report it.", nil)
	}
	if len(cycles) > 0 {
		return
	}
	g.releases()
	g.mailFirst()
	g.roll()
	order, _ := g.sorted()
	g.tearDown(order)
	if len(b.ops) <= maxReduced {
		order, _ = g.sorted()
		reduce(g.preds, order)
	}
	for o := range b.ops {
		slices.Sort(g.preds[o])
		after := make([]string, 0, len(g.preds[o]))
		for _, p := range slices.Compact(g.preds[o]) {
			after = append(after, b.ops[p].ID)
		}
		b.ops[o].After = nil
		if len(after) > 0 {
			b.ops[o].After = after
		}
	}
}

// maxReduced bounds the graphs from which implied edges are dropped: beyond it
// the quadratic cost is worth more than the shorter plan.
const maxReduced = 1500

// opGraph orders operations through the changes they serve. A change without
// operations is passed through: it is complete when what it depends on is.
type opGraph struct {
	b     *builder
	preds [][]int // by operation
	make  [][]int // by node: the operations that make, change or mark it
	rem   [][]int // by node: those that take it away

	madeSeen, goneSeen []int // by node: the last operation that asked

	wished [][2]int // the first should wait for the second, where that is possible
}

func (b *builder) newOpGraph() *opGraph {
	g := &opGraph{
		b:        b,
		preds:    make([][]int, len(b.ops)),
		make:     make([][]int, len(b.nodes)),
		rem:      make([][]int, len(b.nodes)),
		madeSeen: make([]int, len(b.nodes)),
		goneSeen: make([]int, len(b.nodes)),
	}
	number := make(map[string]int, len(b.ops))
	for o, op := range b.ops {
		number[op.ID] = o
		for _, a := range op.Addresses {
			n := b.at[a]
			if removes(op, n) {
				g.rem[n.index] = append(g.rem[n.index], o)
			} else {
				g.make[n.index] = append(g.make[n.index], o)
			}
		}
	}
	for o, op := range b.ops {
		for _, id := range op.After {
			g.preds[o] = append(g.preds[o], number[id])
		}
	}
	return g
}

func removes(op Op, n *node) bool {
	return n.change.Action == Delete || n.change.Action == Replace && op.Removes
}

func (g *opGraph) sorted() ([]int, [][]int) {
	return sortGraph(len(g.preds), func(o int) []int { return g.preds[o] })
}

func (g *opGraph) wait(o, p int) {
	if o != p {
		g.preds[o] = append(g.preds[o], p)
	}
}

// waitIfPossible makes operation o wait for p unless p waits for o.
func (g *opGraph) waitIfPossible(o, p int) {
	if !slices.Contains(g.preds[o], p) && !g.after(p, o) {
		g.wait(o, p)
	}
}

func (g *opGraph) dependencies() {
	for o, op := range g.b.ops {
		for _, a := range op.Addresses {
			n := g.b.at[a]
			if !removes(op, n) {
				for _, d := range n.deps {
					g.waitMade(o, d)
				}
				continue
			}
			before := len(g.preds[o])
			for _, u := range n.users {
				g.waitGone(o, u)
			}
			if n.change.Action == Replace {
				// What is deleted on a machine that is made anew may be deleted with it.
				gone := slices.Clone(g.preds[o][before:])
				g.preds[o] = g.preds[o][:before]
				for _, p := range gone {
					if g.b.ops[p].Removes {
						g.wait(o, p)
					} else {
						g.wished = append(g.wished, [2]int{o, p})
					}
				}
			}
		}
		for _, r := range op.Inputs.Refs() {
			// What its own change brings about is between the provider's operations.
			if !slices.Contains(op.Addresses, r.Address) {
				g.waitMade(o, g.b.at[r.Address])
			}
		}
		slices.Sort(g.preds[o])
		g.preds[o] = slices.Compact(g.preds[o])
	}
}

// releases makes whatever deletes a thing wait until those that depended on it,
// as found, are gone or changed, wherever that is possible.
func (g *opGraph) releases() {
	for _, w := range g.wished {
		g.waitIfPossible(w[0], w[1])
	}
	for _, ops := range [][][]int{g.rem, g.make} {
		for o, op := range g.b.ops {
			for _, a := range op.Addresses {
				n := g.b.at[a]
				if n.change.Action != Delete {
					continue
				}
				for _, u := range n.leavers {
					for _, p := range ops[u.index] {
						g.waitIfPossible(o, p)
					}
				}
			}
		}
	}
}

// mailFirst makes whatever takes away a domain's mailboxes, aliases and keys wait
// until other servers are no longer told to send mail for it here, wherever that
// is possible: what still arrived in between would be refused.
func (g *opGraph) mailFirst() {
	gone := map[string][]int{} // by domain: the operations that take its MX away
	for _, n := range g.b.nodes {
		if seg := n.addr.Segments(); len(seg) == 3 && seg[0] == "dns" && seg[2] == "mx" && n.change.Action == Delete {
			gone[seg[1]] = g.rem[n.index]
		}
	}
	if len(gone) == 0 {
		return
	}
	for o, op := range g.b.ops {
		for _, a := range op.Addresses {
			if g.b.at[a].change.Action != Delete {
				continue
			}
			for _, p := range gone[domainOf(a)] {
				g.waitIfPossible(o, p)
			}
		}
	}
}

// after reports whether operation o waits for p, directly or not.
func (g *opGraph) after(o, p int) bool {
	seen := make([]bool, len(g.preds))
	var visit func(int) bool
	visit = func(o int) bool {
		if o == p {
			return true
		}
		if seen[o] {
			return false
		}
		seen[o] = true
		return slices.ContainsFunc(g.preds[o], visit)
	}
	return visit(o)
}

// waitMade makes operation o wait until n is made.
func (g *opGraph) waitMade(o int, n *node) {
	if g.madeSeen[n.index] == o+1 {
		return
	}
	g.madeSeen[n.index] = o + 1
	for _, p := range g.make[n.index] {
		g.wait(o, p)
	}
	if len(g.make[n.index]) == 0 && n.change.Action != Delete {
		for _, d := range n.deps {
			g.waitMade(o, d)
		}
	}
}

// waitGone makes operation o wait until what is to be removed of n is gone.
func (g *opGraph) waitGone(o int, n *node) {
	if g.goneSeen[n.index] == o+1 {
		return
	}
	g.goneSeen[n.index] = o + 1
	for _, p := range g.rem[n.index] {
		g.wait(o, p)
	}
	if len(g.rem[n.index]) == 0 {
		for _, u := range n.users {
			g.waitGone(o, u)
		}
	}
}

// tearDown orders the removals that nothing else in the plan waits for, old
// objects beside which new ones were made among them: by the phases of mail (mailRules), and after everything that is created or changed,
// so that a failure half-way leaves too much rather than too little. It adds
// edges only towards such removals and only upwards in phase, so it cannot make
// a cycle.
func (g *opGraph) tearDown(order []int) {
	var (
		n     = len(g.preds)
		late  = make([]bool, n) // a pure removal with only such after it
		phase = make([]int, n)
		waits = make([]bool, n)
		succs = make([][]int, n)
	)
	for o, ps := range g.preds {
		for _, p := range ps {
			succs[p] = append(succs[p], o)
		}
	}
	for _, o := range slices.Backward(order) {
		late[o] = g.onlyDeletes(o)
		for _, s := range succs[o] {
			late[o] = late[o] && late[s]
		}
	}
	last := 0
	for _, o := range order {
		if !late[o] {
			continue
		}
		for _, a := range g.b.ops[o].Addresses {
			rule := mailRuleFor(a)
			phase[o] = max(phase[o], rule.phase)
			waits[o] = waits[o] || rule.waits
		}
		for _, p := range g.preds[o] {
			phase[o] = max(phase[o], phase[p])
		}
		last = max(last, phase[o])
	}
	edge := func(in func(int) bool, ends [][]int) (found []int) {
		for o := range n {
			if in(o) && !slices.ContainsFunc(ends[o], in) {
				found = append(found, o)
			}
		}
		return found
	}
	makes := func(o int) bool { return !late[o] }
	waiting := func(o int) bool { return late[o] && waits[o] }
	// Ends and beginnings are found before any edge is added.
	builtUp, first := edge(makes, succs), edge(waiting, g.preds)
	position := make([]int, n)
	for i, o := range order {
		position[o] = i
	}
	// The one that may stand for the others must not come after any of them.
	slices.SortFunc(first, func(x, y int) int {
		return cmp.Or(cmp.Compare(phase[x], phase[y]), cmp.Compare(position[x], position[y]))
	})
	var ends []int
	for ph := 0; ph <= last; ph++ {
		in := func(o int) bool { return late[o] && phase[o] == ph }
		begins := edge(in, g.preds)
		if len(begins) == 0 {
			continue
		}
		finish := edge(in, succs)
		g.barrier(ends, begins)
		ends = finish
	}
	g.barrier(builtUp, first)
}

// onlyDeletes reports whether an operation does nothing but take away.
func (g *opGraph) onlyDeletes(o int) bool {
	for _, a := range g.b.ops[o].Addresses {
		if n := g.b.at[a]; n.change.Pending() && !removes(g.b.ops[o], n) {
			return false
		}
	}
	return true
}

// barrier makes every operation of after wait for all of before. When these are
// too many pairs one of after stands for the others.
func (g *opGraph) barrier(before, after []int) {
	if len(before) == 0 || len(after) == 0 {
		return
	}
	if len(before)*len(after) > maxBarrier {
		for _, o := range after[1:] {
			g.wait(o, after[0])
		}
		after = after[:1]
	}
	for _, o := range after {
		for _, p := range before {
			g.wait(o, p)
		}
	}
}

// maxBarrier is the largest number of edges one barrier may add.
const maxBarrier = 4096
