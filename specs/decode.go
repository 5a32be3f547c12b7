package specs

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// node is a decoded block: every attribute of its schema parsed, or reported.
type node struct {
	schema *blockSchema
	labels []item
	header hcl.Range
	values map[string]value
	blocks map[string][]*node
}

// item is one parsed value and where it stands.
type item struct {
	v   any
	at  hcl.Range
	bad bool // it was refused; the finding is made
}

// value is an attribute's value; of a list, its items.
type value struct {
	item
	items  []item
	given  bool // in the spec, not a default
	marked bool // it was sensitive
}

// get returns an attribute's value, or T's zero when it is absent or was refused.
func get[T any](n *node, name string) T {
	v, _ := n.values[name].v.(T)
	return v
}

// list returns a list attribute's values.
func list[T any](n *node, name string) []T {
	var out []T
	for _, it := range n.values[name].items {
		if v, ok := it.v.(T); ok {
			out = append(out, v)
		}
	}
	return out
}

// given reports whether the spec itself sets the attribute.
func (n *node) given(name string) bool { return n.values[name].given }

// at is where the attribute's value stands, or the block's header.
func (n *node) at(name string) hcl.Range {
	if v := n.values[name]; v.given {
		return v.at
	}
	return n.header
}

// one returns the only nested block of that name, or a node of defaults.
func (n *node) one(name string) (child *node, given bool) {
	if bs := n.blocks[name]; len(bs) > 0 {
		return bs[0], true
	}
	return n.schema.block(name).defaults(n.header), false
}

// label returns the block's first label, "" when it was refused.
func (n *node) label() string {
	s, _ := n.labels[0].v.(string)
	return s
}

// defaults is what a block that is not written stands for.
func (b *blockSchema) defaults(header hcl.Range) *node {
	n := &node{schema: b, header: header, values: map[string]value{}, blocks: map[string][]*node{}}
	for i := range b.Attrs {
		n.setDefault(&b.Attrs[i])
	}
	return n
}

// setDefault parses the schema's default; TestDefaultsParse holds that it can.
func (n *node) setDefault(a *attrSchema) {
	if a.Default == cty.NilVal {
		return
	}
	v := value{item: item{at: n.header}}
	if a.List {
		for it := a.Default.ElementIterator(); it.Next(); {
			_, e := it.Element()
			x, _ := a.parse(e)
			v.items = append(v.items, item{v: x, at: n.header})
		}
	} else {
		v.v, _ = a.parse(a.Default)
	}
	n.values[a.Name] = v
}

// decodeRoot decodes all files into one node.
func (l *loader) decodeRoot() *node {
	root := &node{schema: l.root, values: map[string]value{}, blocks: map[string][]*node{}}
	for _, b := range l.bodies {
		l.decodeBody(root, b, l.ctx)
	}
	l.checkCounts(root)
	return root
}

// decodeBody parses a body into n. checkBody has already taken out what does
// not belong, so only the values are left to judge.
func (l *loader) decodeBody(n *node, body *hclsyntax.Body, ctx *hcl.EvalContext) {
	for i := range n.schema.Attrs {
		a := &n.schema.Attrs[i]
		if attr := body.Attributes[a.Name]; attr != nil {
			l.decodeAttr(n, a, attr.Expr, ctx)
			continue
		}
		n.setDefault(a)
		if a.Required {
			l.errorAt(codeMissingAttribute, n.header, hcl.Range{}, a.Name+" is missing", fmt.Sprintf("%s needs it: %s. For example: %s = %s", n.schema.aBlock(), lowerFirst(firstSentence(a.Doc)), a.Name, a.Example))
			n.values[a.Name] = value{item: item{bad: true, at: n.header}}
		}
	}
	for _, b := range body.Blocks {
		if b.Type == "dynamic" {
			l.expand(n, b, ctx)
			continue
		}
		s := n.schema.block(b.Type)
		if s.Name == "variable" || s.Name == "locals" {
			continue
		}
		c := &node{schema: s, header: b.DefRange()}
		for i := range s.Labels {
			l.decodeLabel(c, i, b.Labels[i], b.LabelRanges[i])
		}
		if s.Variants != nil {
			c.schema = s.variant(b.Labels[0])
		}
		l.decodeBlock(n, b.Type, c, b.Body, ctx)
	}
}

// decodeBlock decodes what is inside a block whose labels are known.
func (l *loader) decodeBlock(parent *node, name string, c *node, body *hclsyntax.Body, ctx *hcl.EvalContext) {
	c.values = make(map[string]value, len(c.schema.Attrs))
	if len(c.schema.Blocks) > 0 {
		c.blocks = make(map[string][]*node, len(c.schema.Blocks))
	}
	l.decodeBody(c, body, ctx)
	l.checkCounts(c)
	parent.blocks[name] = append(parent.blocks[name], c)
}

func (l *loader) decodeLabel(c *node, i int, text string, at hcl.Range) {
	as := attrSchema{Name: c.schema.Labels[i].Name, Kind: c.schema.Labels[i].Kind}
	v, f := as.parseText(text)
	if f != nil {
		l.errorAt(f.code, at, hcl.Range{}, f.summary, f.detail)
	}
	c.labels = append(c.labels, item{v: v, at: at, bad: f != nil})
}

// checkCounts reports blocks that are missing or stand too often.
func (l *loader) checkCounts(n *node) {
	for _, s := range n.schema.Blocks {
		bs := n.blocks[s.Name]
		if s.Required && len(bs) == 0 {
			l.add(Diagnostic{Severity: SeverityError, Code: codeMissingBlock, Summary: fmt.Sprintf("the %s block is missing", s.Name),
				Detail: fmt.Sprintf("%s\n\n%s", s.Doc, s.Example), Subject: place(n.header)})
		}
		if s.Many {
			continue
		}
		for _, b := range bs[min(len(bs), 1):] {
			l.errorAt(codeRepeatedBlock, b.header, hcl.Range{}, fmt.Sprintf("a second %s block", s.Name), fmt.Sprintf("There may be one; the first is at %s.", rangeOf(bs[0].header)))
		}
	}
}

// refuse reports what is wrong with a value.
func (l *loader) refuse(n *node, f *flaw, at hcl.Range) item {
	l.errorAt(f.code, at, n.header, f.summary, f.detail)
	return item{bad: true, at: at}
}

// decodeAttr evaluates and parses one attribute.
func (l *loader) decodeAttr(n *node, a *attrSchema, expr hclsyntax.Expression, ctx *hcl.EvalContext) {
	at := expr.Range()
	val, ds := expr.Value(ctx)
	l.hcl(ds, codeEvaluation, n.header)
	marked := isSensitive(val)
	bad := func(f *flaw) { n.values[a.Name] = value{item: l.refuse(n, f, at), given: true, marked: marked} }
	switch {
	case ds.HasErrors():
		n.values[a.Name] = value{item: item{bad: true, at: at}, given: true}
		return
	case marked && !a.Sensitive:
		bad(&flaw{codeExposedSecret, a.Name + " cannot be sensitive", "Its value is shown in plans and published. If it is no secret after all, write nonsensitive(…)."})
		return
	}
	if marked {
		val, _ = val.UnmarkDeep()
	}
	switch {
	case !val.IsWhollyKnown(): // the reason has been reported
		n.values[a.Name] = value{item: item{bad: true, at: at}, given: true, marked: marked}
	case val.IsNull() && a.Required:
		bad(&flaw{codeMissingAttribute, a.Name + " is null", fmt.Sprintf("%s needs a value here.", n.schema.aBlock())})
	case val.IsNull(): // null means not set
		n.setDefault(a)
	case a.List:
		l.decodeList(n, a, val, expr, marked)
	default:
		x, f := a.parse(val)
		if f != nil {
			bad(f)
			return
		}
		n.values[a.Name] = value{item: item{v: x, at: at}, given: true, marked: marked}
	}
}

// decodeList parses the elements of a list, set or tuple.
func (l *loader) decodeList(n *node, a *attrSchema, val cty.Value, expr hcl.Expression, marked bool) {
	at := expr.Range()
	v := value{item: item{at: at}, given: true, marked: marked}
	if !val.CanIterateElements() || val.Type().IsMapType() || val.Type().IsObjectType() {
		v.item = l.refuse(n, &flaw{codeWrongType, a.Name + " must be a list", "Put it in brackets: " + a.Name + " = [ … ]"}, at)
		n.values[a.Name] = v
		return
	}
	length := val.LengthInt()
	if length < int(a.Min) {
		v.item = l.refuse(n, &flaw{codeOutOfRange, a.Name + " is empty", "It needs at least one element."}, at)
		n.values[a.Name] = v
		return
	}
	places := elementRanges(expr)
	v.items = make([]item, 0, length)
	i := 0
	for it := val.ElementIterator(); it.Next(); i++ {
		_, e := it.Element()
		where := at
		if len(places) == length {
			where = places[i]
		}
		if e.IsNull() {
			v.items = append(v.items, l.refuse(n, &flaw{codeWrongType, a.Name + " has a null in it", "Every element must be a value; compact(…) takes empty ones out."}, where))
			continue
		}
		x, f := a.parse(e)
		switch keys, several := x.([]string); {
		case f != nil:
			v.items = append(v.items, l.refuse(n, f, where))
		case several:
			for _, k := range keys {
				v.items = append(v.items, item{v: k, at: where})
			}
		default:
			v.items = append(v.items, item{v: x, at: where})
		}
	}
	n.values[a.Name] = v
}

// elementRanges gives the places of a literal list's elements.
func elementRanges(e hcl.Expression) []hcl.Range {
	tuple, ok := hcl.UnwrapExpressionUntil(e, func(e hcl.Expression) bool { _, ok := e.(*hclsyntax.TupleConsExpr); return ok }).(*hclsyntax.TupleConsExpr)
	if !ok {
		return nil
	}
	out := make([]hcl.Range, len(tuple.Exprs))
	for i, x := range tuple.Exprs {
		out[i] = x.Range()
	}
	return out
}
