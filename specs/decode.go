package specs

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
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
		l.decodeBody(root, dynblock.Expand(b, l.ctx, dynblock.OptCheckForEach(checkForEach)))
	}
	l.checkCounts(root)
	return root
}

// checkForEach refuses what a dynamic block cannot go over.
func checkForEach(v cty.Value, e hcl.Expression, _ *hcl.EvalContext) hcl.Diagnostics {
	at := e.Range()
	bad := func(summary, detail string, extra any) hcl.Diagnostics {
		return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &at, Extra: extra}}
	}
	plain, _ := v.UnmarkDeep()
	switch {
	case !plain.IsWhollyKnown():
		return bad("unknown", "", consequence{}) // why it is unknown has been reported
	case plain.IsNull():
		return bad("for_each is null", "It must be a list, set or map; an empty one makes no blocks.", nil)
	case !plain.CanIterateElements():
		return bad("for_each must be a list, set or map", fmt.Sprintf("The value is %s.", typeWords(plain.Type())), nil)
	case v.IsMarked():
		return bad("for_each is sensitive", "How many blocks there are, and their names, cannot be kept secret. Use nonsensitive(…) if they need not be.", nil)
	}
	return nil
}

// hclSchema is what HCL needs to know to take a body apart.
func (b *blockSchema) hclSchema() *hcl.BodySchema {
	s := &hcl.BodySchema{}
	for i := range b.Attrs {
		s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: b.Attrs[i].Name})
	}
	for _, c := range b.Blocks {
		h := hcl.BlockHeaderSchema{Type: c.Name}
		for _, lb := range c.Labels {
			h.LabelNames = append(h.LabelNames, lb.Name)
		}
		s.Blocks = append(s.Blocks, h)
	}
	return s
}

// decodeBody parses a body into n. checkBody has already taken out what does
// not belong, so HCL has only evaluation errors to report.
func (l *loader) decodeBody(n *node, body hcl.Body) {
	content, ds := body.Content(n.schema.hclSchema())
	l.hcl(ds, codeBadDynamic, n.header)
	for i := range n.schema.Attrs {
		a := &n.schema.Attrs[i]
		if attr := content.Attributes[a.Name]; attr != nil {
			l.decodeAttr(n, a, attr)
		} else {
			n.setDefault(a)
			if a.Required {
				l.errorAt(codeMissingAttribute, n.header, hcl.Range{}, a.Name+" is missing", fmt.Sprintf("%s needs it: %s. For example: %s = %s", n.schema.aBlock(), lowerFirst(firstSentence(a.Doc)), a.Name, a.Example))
				n.values[a.Name] = value{item: item{bad: true, at: n.header}}
			}
		}
	}
	for _, b := range content.Blocks {
		s := n.schema.block(b.Type)
		if s.Name == "variable" || s.Name == "locals" {
			continue
		}
		n.blocks[b.Type] = append(n.blocks[b.Type], l.decodeBlock(s, b))
	}
}

func (l *loader) decodeBlock(s *blockSchema, b *hcl.Block) *node {
	c := &node{schema: s, header: b.DefRange, values: map[string]value{}, blocks: map[string][]*node{}}
	for i, lb := range s.Labels {
		as := attrSchema{Name: lb.Name, Kind: lb.Kind}
		v, f := as.parseText(b.Labels[i])
		if f != nil {
			l.errorAt(f.code, b.LabelRanges[i], hcl.Range{}, f.summary, f.detail)
		}
		c.labels = append(c.labels, item{v: v, at: b.LabelRanges[i], bad: f != nil})
	}
	if s.Variants != nil {
		v := *s.variant(b.Labels[0])
		c.schema = &v
	}
	l.decodeBody(c, b.Body)
	l.checkCounts(c)
	return c
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

// decodeAttr evaluates and parses one attribute.
func (l *loader) decodeAttr(n *node, a *attrSchema, attr *hcl.Attribute) {
	at := attr.Expr.Range()
	v := value{item: item{at: at}, given: true}
	defer func() { n.values[a.Name] = v }()
	refuse := func(f *flaw, at hcl.Range) item {
		l.errorAt(f.code, at, n.header, f.summary, f.detail)
		return item{bad: true, at: at}
	}

	val, ds := attr.Expr.Value(l.ctx)
	l.hcl(ds, codeEvaluation, n.header)
	if ds.HasErrors() {
		v.bad = true
		return
	}
	if isSensitive(val) && !a.Sensitive {
		v.item = refuse(&flaw{codeExposedSecret, a.Name + " cannot be sensitive", "Its value is shown in plans and published. If it is no secret after all, write nonsensitive(…)."}, at)
		return
	}
	v.marked = isSensitive(val)
	val, _ = val.UnmarkDeep()
	if !val.IsWhollyKnown() {
		v.bad = true // the reason has been reported
		return
	}
	if val.IsNull() { // null means not set
		n.setDefault(a)
		v = n.values[a.Name]
		if a.Required {
			v.item = refuse(&flaw{codeMissingAttribute, a.Name + " is null", fmt.Sprintf("%s needs a value here.", n.schema.aBlock())}, at)
		}
		return
	}
	if !a.List {
		x, f := a.parse(val)
		if f != nil {
			v.item = refuse(f, at)
			return
		}
		v.v = x
		return
	}
	if !val.CanIterateElements() || val.Type().IsMapType() || val.Type().IsObjectType() {
		v.item = refuse(&flaw{codeWrongType, a.Name + " must be a list", "Put it in brackets: " + a.Name + " = [ … ]"}, at)
		return
	}
	places := elementRanges(attr.Expr)
	if n := val.LengthInt(); n < int(a.Min) {
		v.item = refuse(&flaw{codeOutOfRange, a.Name + " is empty", "It needs at least one element."}, at)
		return
	}
	i := 0
	for it := val.ElementIterator(); it.Next(); i++ {
		_, e := it.Element()
		where := at
		if len(places) == val.LengthInt() {
			where = places[i]
		}
		if e.IsNull() {
			v.items = append(v.items, refuse(&flaw{codeWrongType, a.Name + " has a null in it", "Every element must be a value; compact(…) takes empty ones out."}, where))
			continue
		}
		x, f := a.parse(e)
		switch keys, several := x.([]string); {
		case f != nil:
			v.items = append(v.items, refuse(f, where))
		case several:
			for _, k := range keys {
				v.items = append(v.items, item{v: k, at: where})
			}
		default:
			v.items = append(v.items, item{v: x, at: where})
		}
	}
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
