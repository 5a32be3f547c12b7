package specs

import (
	"fmt"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// named is a value that expressions use by its name: a local, or what a block
// exports, like host.mx1.hostname.
type named struct {
	name   string // "people", "host.mx1.hostname"
	title  string // "local.people", "host.mx1.hostname"
	attr   *hclsyntax.Attribute
	export *attrSchema // how a block's attribute is read; nil for a local
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
		l.locals[a.Name] = &named{name: a.Name, title: "local." + a.Name, attr: a, header: b.DefRange()}
	}
}

// evalNamed evaluates every local and everything that blocks export, each after
// what it uses.
func (l *loader) evalNamed() {
	names := make([]string, 0, len(l.locals))
	for n := range l.locals {
		names = append(names, n)
	}
	sort.Strings(names)
	values := make(map[string]cty.Value, len(names))
	for _, n := range names {
		l.eval(l.locals[n], nil)
		values[n] = l.locals[n].value
	}
	l.ctx.Variables["local"] = cty.ObjectVal(values)
	for _, s := range l.root.Blocks {
		if len(s.Exports) == 0 {
			continue
		}
		all := usedBlocks{}
		for _, x := range l.exports.all(s.Name) {
			l.eval(x, nil)
			all.add(x)
		}
		l.ctx.Variables[s.Name] = all.object(s.Name)
	}
}

// eval goes depth first; open holds the values that wait for this one.
func (l *loader) eval(x *named, open []*named) {
	if x.state == visitDone {
		return
	}
	if x.state == visitOpen {
		l.cycle(x, open)
		return
	}
	x.state = visitOpen
	x.value = cty.DynamicVal
	open = append(open, x)
	// Only what it uses is put in its scope: building the whole object anew for
	// each of n locals would cost n².
	locals, blocks := map[string]cty.Value{}, usedBlocks{}
	for _, t := range x.attr.Expr.Variables() {
		if t.RootName() == "local" {
			if dep := l.locals[stepName(t)]; dep != nil {
				l.eval(dep, open)
				locals[dep.name] = dep.value
			}
			continue
		}
		for _, dep := range l.exports.used(t) {
			l.eval(dep, open)
			blocks.add(dep)
		}
	}
	ctx := l.ctx.NewChild()
	ctx.Variables = map[string]cty.Value{"local": cty.ObjectVal(locals)}
	for root := range l.exports {
		ctx.Variables[root] = blocks.object(root)
	}
	v, ds := x.attr.Expr.Value(ctx)
	l.hcl(ds, codeEvaluation, x.header)
	switch {
	case ds.HasErrors():
	case oversized(v):
		l.errorAt(codeValueTooLarge, x.attr.Expr.Range(), x.header, fmt.Sprintf("%s is too large", x.title), fmt.Sprintf("Values may have %s.", formatSize(maxValue)))
	case x.export != nil:
		x.value = x.export.exported(v)
	default:
		x.value = v
	}
	x.state = visitDone
}

// cycle reports a circle once, at its first value in source order.
func (l *loader) cycle(x *named, open []*named) {
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
		path = append(path, c.title)
		places = append(places, fmt.Sprintf("%s at %s", c.name, rangeOf(c.attr.NameRange)))
	}
	path = append(path, path[0])
	l.errorAt(codeReferenceCycle, cycle[first].attr.NameRange, cycle[first].header, "values refer to each other in a circle",
		strings.Join(path, " → ")+". They are defined here: "+strings.Join(places, "; ")+".")
}
