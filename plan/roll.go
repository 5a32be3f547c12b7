package plan

import (
	"cmp"
	"slices"
)

// section is what is done to one host that serves mail and that its mail may not
// survive: its machine is stopped or made anew, or its server gets another version
// or other settings.
type section struct {
	host string
	ops  []int
}

// roll lets hosts take turns where mail would stop, or stop for good when
// something is wrong with what they get: the next one begins when the one before it
// is through and serves. What adds to a host and what makes a new one goes on
// beside. When one fails the others wait for it in vain, and serve as they did.
func (g *opGraph) roll() {
	if g.b.in.Destroy {
		return
	}
	sections := g.sections()
	if len(sections) < 2 {
		return
	}
	order, _ := g.sorted()
	position := make([]int, len(g.preds))
	for i, o := range order {
		position[o] = i
	}
	for _, s := range sections {
		slices.SortFunc(s.ops, func(x, y int) int { return cmp.Compare(position[x], position[y]) })
	}
	// Where other things have an order already, the turns follow it; otherwise names do.
	slices.SortStableFunc(sections, func(a, b section) int {
		if g.after(a.ops[0], b.ops[len(b.ops)-1]) {
			return 1
		}
		if g.after(b.ops[0], a.ops[len(a.ops)-1]) {
			return -1
		}
		return cmp.Compare(a.host, b.host)
	})
	for i := 1; i < len(sections); i++ {
		for _, o := range sections[i].ops {
			for _, p := range sections[i-1].ops {
				g.waitIfPossible(o, p)
			}
		}
	}
}

// sections finds the hosts that take turns, by name.
func (g *opGraph) sections() []section {
	ops := map[string]map[int]bool{}
	for _, n := range g.b.nodes {
		if !n.stopsMail() {
			continue
		}
		host := n.addr.Segments()[1]
		if ops[host] == nil {
			ops[host] = map[int]bool{}
		}
		of := [][]int{g.make[n.index], g.rem[n.index]}
		if server := g.b.at[Addr("server", host)]; server != nil && server.change.Action != Delete {
			of = append(of, g.make[server.index]) // until it serves again
		}
		for _, list := range of {
			for _, o := range list {
				ops[host][o] = true
			}
		}
	}
	var out []section
	for _, host := range sortedKeys(ops) {
		s := section{host: host}
		for o := range ops[host] {
			s.ops = append(s.ops, o)
		}
		if len(s.ops) > 0 {
			slices.Sort(s.ops)
			out = append(out, s)
		}
	}
	return out
}

// stopsMail reports whether a change may stop the mail of a host that is there.
func (n *node) stopsMail() bool {
	seg := n.addr.Segments()
	if len(seg) < 2 || n.idle || !n.change.Pending() {
		return false
	}
	switch n.change.Action {
	case Update, Replace, Rotate:
		return seg[0] == "server" || seg[0] == "host" && n.change.Risk != RiskNone
	}
	return false
}
