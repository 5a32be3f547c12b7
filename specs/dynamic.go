package specs

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// expand makes the blocks that a dynamic block stands for. checkDynamic has held
// its form. It does what HCL's own dynblock does; that one makes the iterator anew
// for each attribute, which is half of the cost of reading 5,000 mailboxes.
func (l *loader) expand(n *node, b *hclsyntax.Block, ctx *hcl.EvalContext) {
	name, content := b.Labels[0], b.Body.Blocks[0].Body
	s := n.schema.block(name)
	each, ok := l.forEach(b, ctx)
	if !ok {
		return
	}
	iterator := name
	if iter := b.Body.Attributes["iterator"]; iter != nil {
		iterator = hcl.ExprAsKeyword(iter.Expr)
	}
	var labels []hclsyntax.Expression
	if a := b.Body.Attributes["labels"]; a != nil {
		labels = a.Expr.(*hclsyntax.TupleConsExpr).Exprs
	}
	set := each.Type().IsSetType()
	for it := each.ElementIterator(); it.Next(); {
		key, v := it.Element()
		if set {
			key = v
		}
		inner := ctx.NewChild()
		inner.Variables = map[string]cty.Value{iterator: cty.ObjectVal(map[string]cty.Value{"key": key, "value": v})}
		c := &node{schema: s, header: b.DefRange()}
		known := true
		for i, e := range labels {
			text, ok := l.labelText(e, inner, c.header)
			if !ok {
				known = false
				break
			}
			l.decodeLabel(c, i, text, e.Range())
		}
		if known {
			l.decodeBlock(n, name, c, content, inner)
		}
	}
}

// forEach is what a dynamic block goes over.
func (l *loader) forEach(b *hclsyntax.Block, ctx *hcl.EvalContext) (cty.Value, bool) {
	e := b.Body.Attributes["for_each"].Expr
	v, ds := e.Value(ctx)
	l.hcl(ds, codeEvaluation, b.DefRange())
	if ds.HasErrors() {
		return v, false
	}
	bad := func(summary, detail string) (cty.Value, bool) {
		l.errorAt(codeBadDynamic, e.Range(), b.DefRange(), summary, detail)
		return v, false
	}
	plain, _ := v.UnmarkDeep()
	switch {
	case !plain.IsWhollyKnown(): // why it is unknown has been reported
		return v, false
	case plain.IsNull():
		return bad("for_each is null", "It must be a list, set or map; an empty one makes no blocks.")
	case !plain.CanIterateElements():
		return bad("for_each must be a list, set or map", fmt.Sprintf("The value is %s.", typeWords(plain.Type())))
	case v.IsMarked():
		return bad("for_each is sensitive", "How many blocks there are, and their names, cannot be kept secret. Use nonsensitive(…) if they need not be.")
	}
	return v, true
}

// labelText evaluates one label of a block that is being made.
func (l *loader) labelText(e hclsyntax.Expression, ctx *hcl.EvalContext, header hcl.Range) (string, bool) {
	v, ds := e.Value(ctx)
	l.hcl(ds, codeEvaluation, header)
	if ds.HasErrors() {
		return "", false
	}
	bad := func(summary, detail string) (string, bool) {
		l.errorAt(codeBadDynamic, e.Range(), header, summary, detail)
		return "", false
	}
	if isSensitive(v) {
		return bad("a block's name is sensitive", "Names are shown in plans. Use nonsensitive(…) if it is no secret.")
	}
	if !v.IsWhollyKnown() {
		return "", false // why has been reported
	}
	text, err := convert.Convert(v, cty.String)
	switch {
	case err != nil:
		return bad("a block's name must be a string", fmt.Sprintf("The value is %s.", typeWords(v.Type())))
	case text.IsNull():
		return bad("a block's name is null", "Every element must give one. Leave elements without a name out with a for expression: [for x in … : x if …].")
	}
	return text.AsString(), true
}
