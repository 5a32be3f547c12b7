package specs

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// scope is what expressions may refer to beside variables and locals.
type scope struct {
	iterators []string // of the dynamic blocks around
	dynamic   bool     // dynamic blocks may stand here
	alone     bool     // no references at all: a variable's default
	validates bool     // only variables: a validation rule
}

// checkBody compares a body with its schema, reports what does not belong and
// takes it out of the syntax tree, so that decoding meets only what it knows and
// reports nothing twice. Expressions with broken references become unknown
// values, which are skipped silently from there on.
func (l *loader) checkBody(body *hclsyntax.Body, s *blockSchema, header hcl.Range, sc scope) {
	sc.dynamic = (sc.dynamic || s.Dynamic) && !s.Static
	for _, a := range sortedAttrs(body) {
		as := s.attr(a.Name)
		if as == nil && !s.FreeForm {
			l.unknownAttribute(a, s, header)
			delete(body.Attributes, a.Name)
			continue
		}
		if as != nil && as.Kind == kindExpr {
			continue // declarations look after their own
		}
		if as != nil && as.Sensitive {
			l.hideLiterals(a.Expr)
		}
		l.checkExpr(&a.Expr, header, sc)
	}
	kept := body.Blocks[:0]
	for _, b := range body.Blocks {
		if b.Type == "dynamic" && l.checkDynamic(b, s, header, sc) || b.Type != "dynamic" && l.checkBlock(b, s, header, sc) {
			kept = append(kept, b)
		}
	}
	body.Blocks = kept
}

func sortedAttrs(body *hclsyntax.Body) []*hclsyntax.Attribute {
	attrs := make([]*hclsyntax.Attribute, 0, len(body.Attributes))
	for _, a := range body.Attributes {
		attrs = append(attrs, a)
	}
	sort.Slice(attrs, func(i, j int) bool { return attrs[i].SrcRange.Start.Byte < attrs[j].SrcRange.Start.Byte })
	return attrs
}

func (l *loader) unknownAttribute(a *hclsyntax.Attribute, s *blockSchema, header hcl.Range) {
	detail := ""
	switch near := spell(a.Name, s.attrNames()); {
	case s.Name == "rules" && fixedRule(a) != "":
		detail = fixedRule(a)
	case s.block(a.Name) != nil:
		detail = fmt.Sprintf("%q is a block: write %s { … } without the equals sign.", a.Name, a.Name)
	case near != "":
		detail = fmt.Sprintf("Did you mean %q?", near)
	case s.Name == "":
		detail = "Outside of blocks there are no attributes. Values of variables belong in a file for --var-file; named *.vars.hcl it may stay in this folder."
	case spell(a.Name, s.blockNames()) != "":
		detail = fmt.Sprintf("Did you mean the block %q?", spell(a.Name, s.blockNames()))
	default:
		detail = s.offers()
	}
	l.errorAt(codeUnknownAttribute, a.NameRange, header, fmt.Sprintf("unknown attribute %q", a.Name), detail)
}

// offers lists what a block takes.
func (b *blockSchema) offers() string {
	name := "A spec"
	if b.Name != "" {
		name = b.aBlock()
	}
	var parts []string
	if n := b.attrNames(); len(n) > 0 {
		parts = append(parts, "the attributes "+strings.Join(n, ", "))
	}
	if n := b.blockNames(); len(n) > 0 {
		parts = append(parts, "the blocks "+strings.Join(n, ", "))
	}
	if len(parts) == 0 {
		return name + " takes nothing inside."
	}
	return name + " takes " + strings.Join(parts, " and ") + "."
}

// checkBlock checks one literal block and everything in it; false drops it.
func (l *loader) checkBlock(b *hclsyntax.Block, parent *blockSchema, header hcl.Range, sc scope) bool {
	s := parent.block(b.Type)
	if s == nil {
		l.unknownBlock(b.Type, b.TypeRange, parent, header)
		return false
	}
	if len(b.Labels) != len(s.Labels) {
		l.wrongLabels(b, s, header)
		return false
	}
	if s.Variants != nil {
		v := s.variant(b.Labels[0])
		if v == nil {
			l.unknownVariant(b, s)
			return false
		}
		s = v
	}
	l.checkBody(b.Body, s, b.DefRange(), sc)
	return true
}

func (l *loader) unknownBlock(name string, at hcl.Range, parent *blockSchema, header hcl.Range) {
	detail := ""
	switch near := spell(name, parent.blockNames()); {
	case parent.attr(name) != nil:
		detail = fmt.Sprintf("%q is an attribute: write %s = … with an equals sign.", name, name)
	case near != "":
		detail = fmt.Sprintf("Did you mean %q?", near)
	case spell(name, parent.attrNames()) != "":
		detail = fmt.Sprintf("Did you mean the attribute %q?", spell(name, parent.attrNames()))
	default:
		detail = parent.offers()
		if l.root.block(name) != nil {
			detail = fmt.Sprintf("A block of this type stands outside of other blocks. %s", detail)
		} else if home := l.root.home(name); home != "" {
			detail = fmt.Sprintf("A block of this type belongs in %s. %s", home, detail)
		}
	}
	l.errorAt(codeUnknownBlock, at, header, fmt.Sprintf("unknown block %q", name), detail)
}

// home finds which block takes blocks of that name.
func (b *blockSchema) home(name string) string {
	for _, c := range b.Blocks {
		if c.block(name) != nil {
			return article(c.Name + " block")
		}
		if h := c.home(name); h != "" {
			return h
		}
	}
	return ""
}

func (l *loader) wrongLabels(b *hclsyntax.Block, s *blockSchema, header hcl.Range) {
	form := s.Name
	for _, lb := range s.Labels {
		form += fmt.Sprintf(" %q", strings.ToUpper(lb.Name))
	}
	at := b.TypeRange
	if len(b.Labels) > len(s.Labels) {
		at = b.LabelRanges[len(s.Labels)]
	}
	l.errorAt(codeWrongLabels, at, header, fmt.Sprintf("%s has %s", article(s.Name+" block"), counted(len(s.Labels), "label")),
		fmt.Sprintf("This one has %d. Write: %s { … }", len(b.Labels), form))
}

func counted(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun
	case 1:
		return "one " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (l *loader) unknownVariant(b *hclsyntax.Block, s *blockSchema) {
	var names []string
	for _, v := range s.Variants {
		names = append(names, v.Name)
	}
	detail := thereAre(names)
	if near := spell(b.Labels[0], names); near != "" {
		detail = fmt.Sprintf("Did you mean %q? %s", near, detail)
	}
	l.errorAt(codeWrongLabels, b.LabelRanges[0], hcl.Range{}, fmt.Sprintf("unknown %s %q", s.Name, b.Labels[0]), detail)
}

// checkDynamic checks a dynamic block and its content; false drops it.
func (l *loader) checkDynamic(b *hclsyntax.Block, parent *blockSchema, header hcl.Range, sc scope) bool {
	bad := func(at hcl.Range, summary, detail string) bool {
		l.errorAt(codeBadDynamic, at, header, summary, detail)
		return false
	}
	if !sc.dynamic {
		return bad(b.TypeRange, "a dynamic block cannot stand here", "What is inside "+article(parent.title()+" block")+" is needed before anything can be made.")
	}
	if len(b.Labels) != 1 {
		return bad(b.TypeRange, "a dynamic block has one label", `It is the type of the blocks to make: dynamic "mailbox" { … }`)
	}
	s := parent.block(b.Labels[0])
	if s == nil {
		l.unknownBlock(b.Labels[0], b.LabelRanges[0], parent, header)
		return false
	}
	if s.Static {
		return bad(b.LabelRanges[0], fmt.Sprintf("a dynamic block cannot make %s", article(s.Name+" block")), "It is needed before anything can be made. Write it out.")
	}
	each, labels, iter := b.Body.Attributes["for_each"], b.Body.Attributes["labels"], b.Body.Attributes["iterator"]
	for _, a := range sortedAttrs(b.Body) {
		if a != each && a != labels && a != iter {
			return bad(a.NameRange, fmt.Sprintf("unknown attribute %q", a.Name), fmt.Sprintf("A dynamic block takes for_each, labels, iterator and a content block. What each %s holds goes into content { … }.", s.Name))
		}
	}
	if each == nil {
		return bad(b.DefRange(), "a dynamic block needs for_each", "Give it the list or map that makes one block for each element.")
	}
	if (labels != nil) != (len(s.Labels) > 0) {
		if labels != nil {
			return bad(labels.NameRange, fmt.Sprintf("%s has no labels", article(s.Name+" block")), "Leave the attribute out.")
		}
		return bad(b.DefRange(), "a dynamic block for labelled blocks needs labels", fmt.Sprintf("%s has a label: labels = [%s.value]", capital(article(s.Name+" block")), s.Name))
	}
	if len(b.Body.Blocks) != 1 || b.Body.Blocks[0].Type != "content" || len(b.Body.Blocks[0].Labels) != 0 {
		return bad(b.DefRange(), "a dynamic block needs one content block", fmt.Sprintf("content { … } holds what stands inside each %s.", s.Name))
	}
	iterator := s.Name
	if iter != nil {
		if iterator = hcl.ExprAsKeyword(iter.Expr); iterator == "" || iterator == "var" || iterator == "local" {
			return bad(iter.Expr.Range(), "not a usable iterator", "It is one bare name, used as NAME.value and NAME.key.")
		}
	}
	l.checkExpr(&each.Expr, header, sc)
	inner := sc
	inner.iterators = append(append([]string(nil), sc.iterators...), iterator)
	if labels != nil {
		list, ok := labels.Expr.(*hclsyntax.TupleConsExpr)
		if !ok || len(list.Exprs) != len(s.Labels) {
			return bad(labels.Expr.Range(), "labels must be a list of one element", fmt.Sprintf("For example: labels = [%s.value]", iterator))
		}
		for i := range list.Exprs {
			l.checkExpr(&list.Exprs[i], header, inner)
		}
	}
	l.checkBody(b.Body.Blocks[0].Body, s, b.DefRange(), inner)
	return true
}

// checkExpr checks references, functions and numbers of an expression. A broken
// one is replaced by an unknown value.
func (l *loader) checkExpr(e *hclsyntax.Expression, header hcl.Range, sc scope) {
	ok := true
	whole := map[hcl.Range]bool{} // where all blocks of a type are meant
	for _, t := range (*e).Variables() {
		ok = l.checkReference(t, header, sc) && ok
		if len(t) == 1 && l.exports[t.RootName()] != nil && !slices.Contains(sc.iterators, t.RootName()) {
			whole[t.SourceRange()] = true
		}
	}
	hclsyntax.VisitAll(*e, func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.SplatExpr:
			if whole[n.Source.Range()] { // host[*] goes over the hosts, not over their names
				at := n.Source.Range()
				n.Source = &hclsyntax.FunctionCallExpr{Name: "values", Args: []hclsyntax.Expression{n.Source}, NameRange: at, OpenParenRange: at, CloseParenRange: at}
			}
		case *hclsyntax.FunctionCallExpr:
			if _, known := l.funcs[n.Name]; !known {
				l.unknownFunction(n, header)
				ok = false
			}
			if n.Name == "sensitive" {
				l.hideLiterals(n)
			}
		case *hclsyntax.LiteralValueExpr:
			if n.Val.Type() == cty.Number && n.Val.IsKnown() && !n.Val.IsNull() && hugeNumber(n.Val.AsBigFloat()) {
				l.errorAt(codeValueTooLarge, n.SrcRange, header, "this number is too large or too small", "No value of a spec comes near it.")
				ok = false
			}
		}
		return nil
	})
	if !ok {
		*e = &hclsyntax.LiteralValueExpr{Val: cty.DynamicVal, SrcRange: (*e).Range()}
	}
}

func (l *loader) unknownFunction(f *hclsyntax.FunctionCallExpr, header hcl.Range) {
	names := make([]string, 0, len(l.funcs))
	for n := range l.funcs {
		names = append(names, n)
	}
	sort.Strings(names)
	detail := "All functions are listed by: mailform docs functions"
	if near := spell(f.Name, names); near != "" {
		detail = fmt.Sprintf("Did you mean %s()? %s", near, detail)
	}
	if f.Name == "env" || f.Name == "getenv" {
		detail = "The environment comes in through variables: declare variable \"NAME\" and set MAILFORM_VAR_NAME."
	}
	l.errorAt(codeUnknownFunction, f.NameRange, header, fmt.Sprintf("unknown function %s()", f.Name), detail)
}

// checkReference reports a reference that cannot be resolved.
func (l *loader) checkReference(t hcl.Traversal, header hcl.Range, sc scope) bool {
	root, at := t.RootName(), t.SourceRange()
	for _, it := range sc.iterators {
		if root == it {
			return true
		}
	}
	name := stepName(t)
	switch {
	case sc.alone:
		l.errorAt(codeUndefinedReference, at, header, "no references here", "A variable's default must be a value by itself. For a value made from others, use locals.")
	case root == "var" && name == "" || root == "local" && name == "":
		l.errorAt(codeUndefinedReference, at, header, fmt.Sprintf("%s is not a value", root), fmt.Sprintf("Name one of them: %s.NAME", root))
	case root == "var":
		if l.variables[name] != nil {
			return true
		}
		l.errorAt(codeUndefinedReference, at, header, fmt.Sprintf("no variable %q", name), l.suggest(name, fmt.Sprintf("Declare it: variable %q { }", name)))
	case root == "local" && sc.validates:
		l.errorAt(codeUndefinedReference, at, header, "no locals here", "A validation rule may use variables only.")
	case l.exports[root] != nil && sc.validates:
		l.errorAt(codeUndefinedReference, at, header, "no other blocks here", "A validation rule may use variables only.")
	case l.exports[root] != nil:
		return l.checkExport(t, header)
	case root == "local":
		if l.locals[name] != nil {
			return true
		}
		l.errorAt(codeUndefinedReference, at, header, fmt.Sprintf("no local %q", name), l.suggest(name, fmt.Sprintf("Define it: locals { %s = … }", name)))
	case len(t) > 1 && (l.root.block(root) != nil || l.root.home(root) != ""):
		l.errorAt(codeReferenceUnavailable, at, header, fmt.Sprintf("%s is not available here", traversalText(t)),
			"Of other blocks, only what hosts and domains export can be used: "+l.root.exportList()+". For a value used twice, define a local and use it in both places.")
	case len(t) == 1:
		l.errorAt(codeUndefinedReference, at, header, root+" is not defined", l.suggest(root, fmt.Sprintf("If it is meant as text, put it in quotes: %q", root)))
	default:
		l.errorAt(codeUndefinedReference, at, header, traversalText(t)+" is not defined", l.suggest(root, "Values come from variables (var.NAME) and locals (local.NAME)."))
	}
	return false
}

// suggest proposes the variable or local that was probably meant.
func (l *loader) suggest(name, otherwise string) string {
	var all []string
	for n := range l.variables {
		all = append(all, "var."+n)
	}
	for n := range l.locals {
		all = append(all, "local."+n)
	}
	sort.Strings(all)
	names := make([]string, len(all))
	for i, n := range all {
		_, names[i], _ = strings.Cut(n, ".")
		if names[i] == name {
			return fmt.Sprintf("Did you mean %s?", n)
		}
	}
	if near := spell(name, names); near != "" {
		for i := range names {
			if names[i] == near {
				return fmt.Sprintf("Did you mean %s?", all[i])
			}
		}
	}
	return otherwise
}

// stepName is NAME in root.NAME or root["NAME"].
func stepName(t hcl.Traversal) string {
	if len(t) < 2 {
		return ""
	}
	return nameOf(t[1])
}

// nameOf is NAME in .NAME or ["NAME"].
func nameOf(step hcl.Traverser) string {
	switch s := step.(type) {
	case hcl.TraverseAttr:
		return s.Name
	case hcl.TraverseIndex:
		if s.Key.Type() == cty.String && s.Key.IsKnown() && !s.Key.IsNull() {
			return s.Key.AsString()
		}
	}
	return ""
}

func traversalText(t hcl.Traversal) string {
	out := t.RootName()
	for _, s := range t[1:] {
		if a, ok := s.(hcl.TraverseAttr); ok {
			out += "." + a.Name
		} else {
			out += "[…]"
		}
	}
	return out
}

// hideLiterals keeps the texts that stand literally in a secret's expression
// out of every snippet; references and functions stay visible.
func (l *loader) hideLiterals(e hclsyntax.Expression) {
	hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.TemplateExpr:
			l.src.hide(n.SrcRange)
		case *hclsyntax.LiteralValueExpr:
			l.src.hide(n.SrcRange)
		}
		return nil
	})
}
