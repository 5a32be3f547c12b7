package specs

import (
	"fmt"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// local is one attribute of a locals block.
type local struct {
	name   string
	attr   *hclsyntax.Attribute
	header hcl.Range
	state  uint8 // visitNew, visitOpen, visitDone
	value  cty.Value
}

const (
	visitNew uint8 = iota
	visitOpen
	visitDone
)

func (l *loader) declareLocals(b *hclsyntax.Block) {
	for _, a := range sortedAttrs(b.Body) {
		if first := l.locals[a.Name]; first != nil {
			l.errorAt(codeBadDeclaration, a.NameRange, b.DefRange(), fmt.Sprintf("local %q is defined twice", a.Name),
				fmt.Sprintf("It is first defined at %s.", rangeOf(first.attr.NameRange)))
			continue
		}
		l.locals[a.Name] = &local{name: a.Name, attr: a, header: b.DefRange()}
	}
}

// evalLocals evaluates every local after those it uses.
func (l *loader) evalLocals() {
	names := make([]string, 0, len(l.locals))
	for n := range l.locals {
		names = append(names, n)
	}
	sort.Strings(names)
	values := make(map[string]cty.Value, len(names))
	for _, n := range names {
		l.evalLocal(l.locals[n], nil)
		values[n] = l.locals[n].value
	}
	l.ctx.Variables["local"] = cty.ObjectVal(values)
}

// evalLocal goes depth first; open holds the locals that wait for this one.
func (l *loader) evalLocal(x *local, open []*local) {
	if x.state == visitDone {
		return
	}
	if x.state == visitOpen {
		l.localCycle(x, open)
		return
	}
	x.state = visitOpen
	x.value = cty.DynamicVal
	open = append(open, x)
	// Only what it uses is put in its scope: building the whole object anew for
	// each of n locals would cost n².
	uses := map[string]cty.Value{}
	for _, t := range x.attr.Expr.Variables() {
		if t.RootName() != "local" {
			continue
		}
		if dep := l.locals[stepName(t)]; dep != nil {
			l.evalLocal(dep, open)
			uses[dep.name] = dep.value
		}
	}
	ctx := l.ctx.NewChild()
	ctx.Variables = map[string]cty.Value{"local": cty.ObjectVal(uses)}
	v, ds := x.attr.Expr.Value(ctx)
	l.hcl(ds, codeEvaluation, x.header)
	switch {
	case ds.HasErrors():
	case oversized(v):
		l.errorAt(codeValueTooLarge, x.attr.Expr.Range(), x.header, fmt.Sprintf("local.%s is too large", x.name), fmt.Sprintf("Values may have %s.", formatSize(maxValue)))
	default:
		x.value = v
	}
	x.state = visitDone
}

// localCycle reports a circle once, at its first local in source order.
func (l *loader) localCycle(x *local, open []*local) {
	start := 0
	for open[start] != x {
		start++
	}
	cycle := open[start:]
	first := 0
	for i, c := range cycle {
		a, b := c.attr.NameRange, cycle[first].attr.NameRange
		if a.Filename < b.Filename || a.Filename == b.Filename && a.Start.Byte < b.Start.Byte {
			first = i
		}
	}
	var path, places []string
	for i := range cycle {
		c := cycle[(first+i)%len(cycle)]
		path = append(path, "local."+c.name)
		places = append(places, fmt.Sprintf("%s at %s", c.name, rangeOf(c.attr.NameRange)))
	}
	path = append(path, path[0])
	l.errorAt(codeLocalCycle, cycle[first].attr.NameRange, cycle[first].header, "locals refer to each other in a circle",
		strings.Join(path, " → ")+". They are defined here: "+strings.Join(places, "; ")+".")
}
