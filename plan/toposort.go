package plan

import "slices"

// sortGraph orders the nodes 0 to n-1 so that each comes after all its
// predecessors, the lowest number first where there is a choice of roots. When
// that is impossible it returns one shortest cycle for every strongly connected
// component (Tarjan 1972), each starting at its lowest node and following preds.
func sortGraph(n int, preds func(int) []int) (order []int, cycles [][]int) {
	t := tarjan{preds: preds, index: make([]int, n), low: make([]int, n), onStack: make([]bool, n)}
	for v := range n {
		if t.index[v] == 0 {
			t.visit(v)
		}
	}
	// Tarjan finishes a component only after everything it points at, so with
	// edges that point at predecessors the components come out in order.
	for _, c := range t.components {
		if len(c) > 1 || slices.Contains(preds(c[0]), c[0]) {
			cycles = append(cycles, shortestCycle(c, preds))
		}
		order = append(order, c...)
	}
	slices.SortFunc(cycles, func(x, y []int) int { return x[0] - y[0] })
	return order, cycles
}

type tarjan struct {
	preds      func(int) []int
	index, low []int
	onStack    []bool
	stack      []int
	next       int
	components [][]int
}

func (t *tarjan) visit(v int) {
	t.next++
	t.index[v], t.low[v] = t.next, t.next
	t.stack = append(t.stack, v)
	t.onStack[v] = true
	for _, w := range t.preds(v) {
		if t.index[w] == 0 {
			t.visit(w)
			t.low[v] = min(t.low[v], t.low[w])
		} else if t.onStack[w] {
			t.low[v] = min(t.low[v], t.index[w])
		}
	}
	if t.low[v] != t.index[v] {
		return
	}
	for i := len(t.stack) - 1; ; i-- {
		t.onStack[t.stack[i]] = false
		if t.stack[i] == v {
			t.components = append(t.components, slices.Sorted(slices.Values(t.stack[i:])))
			t.stack = t.stack[:i]
			return
		}
	}
}

// shortestCycle finds the shortest way from the component's lowest node along
// preds back to itself, breadth first.
func shortestCycle(component []int, preds func(int) []int) []int {
	start := component[0]
	from := map[int]int{}
	queue := []int{start}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		for _, w := range preds(v) {
			if w == start {
				var path []int
				for u := v; u != start; u = from[u] {
					path = append(path, u)
				}
				path = append(path, start)
				slices.Reverse(path)
				return path
			}
			if _, seen := from[w]; !seen && slices.Contains(component, w) {
				from[w] = v
				queue = append(queue, w)
			}
		}
	}
	return component
}

// reduce drops every edge that a longer way already implies. preds must be
// acyclic and order sorted as sortGraph gives it. Its cost is edges × nodes ÷ 64
// words, so callers bound the number of nodes.
func reduce(preds [][]int, order []int) {
	n := len(preds)
	words := (n + 63) / 64
	reach := make([][]uint64, n) // everything before a node
	position := make([]int, n)
	for i, v := range order {
		position[v] = i
	}
	for _, v := range order {
		reach[v] = make([]uint64, words)
		// Nearest predecessors first: one that is reached through another is implied.
		slices.SortFunc(preds[v], func(x, y int) int { return position[y] - position[x] })
		kept := preds[v][:0]
		for _, p := range preds[v] {
			if reach[v][p/64]&(1<<(p%64)) != 0 {
				continue
			}
			kept = append(kept, p)
			reach[v][p/64] |= 1 << (p % 64)
			for w := range words {
				reach[v][w] |= reach[p][w]
			}
		}
		preds[v] = kept
	}
}
