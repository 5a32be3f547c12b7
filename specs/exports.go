package specs

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// exports holds what expressions may use of blocks, by the block's type, its
// label as it is written, and the attribute. What is not known before apply is
// not in it.
type exports map[string]map[string]map[string]*named

// declareExports notes what a block of the spec exports. The first of two
// blocks with the same label counts; that there are two is said elsewhere.
func (l *loader) declareExports(b *hclsyntax.Block) {
	s := l.root.block(b.Type)
	label := b.Labels[0]
	if s == nil || len(s.Exports) == 0 || l.exports[b.Type][label] != nil {
		return
	}
	of := map[string]*named{}
	l.exports[b.Type][label] = of
	for _, name := range s.Exports {
		title := b.Type + "." + label + "." + name
		x := &named{name: title, title: title, header: b.DefRange(), state: visitDone, value: cty.DynamicVal}
		switch a := b.Body.Attributes[name]; {
		case name == "name":
			as := attrSchema{Name: name, Kind: s.Labels[0].Kind}
			x.value = as.exported(cty.StringVal(label))
		case a != nil:
			x.attr, x.export, x.state = a, s.attr(name), visitNew
		case name == "address" && hasBlock(b.Body, "instance"):
			continue // known only after apply
		}
		of[name] = x
	}
}

func hasBlock(body *hclsyntax.Body, name string) bool {
	return slices.ContainsFunc(body.Blocks, func(b *hclsyntax.Block) bool {
		return b.Type == name || b.Type == "dynamic" && len(b.Labels) == 1 && b.Labels[0] == name
	})
}

// exported is a value in the form a Spec holds it, as expressions see it;
// unknown when it is refused, which is said where it stands.
func (a *attrSchema) exported(v cty.Value) cty.Value {
	if v.IsMarked() || !v.IsWhollyKnown() || v.IsNull() {
		return cty.DynamicVal
	}
	x, f := a.parse(v)
	if f != nil {
		return cty.DynamicVal
	}
	switch x := x.(type) {
	case string:
		return cty.StringVal(x)
	case netip.Addr:
		return cty.StringVal(x.String())
	}
	return cty.DynamicVal
}

// all lists everything that blocks of a type export, in a fixed order.
func (e exports) all(root string) []*named {
	var out []*named
	for _, label := range sortedKeys(e[root]) {
		out = append(out, e.of(root, label)...)
	}
	return out
}

func (e exports) of(root, label string) []*named {
	var out []*named
	for _, name := range sortedKeys(e[root][label]) {
		out = append(out, e[root][label][name])
	}
	return out
}

// used lists what a reference needs: one attribute, a whole block, or all of them.
func (e exports) used(t hcl.Traversal) []*named {
	root, label := t.RootName(), stepName(t)
	switch {
	case label == "":
		return e.all(root)
	case len(t) > 2:
		if x := e[root][label][nameOf(t[2])]; x != nil {
			return []*named{x}
		}
	}
	return e.of(root, label)
}

// usedBlocks collects exports into objects: by block type and label.
type usedBlocks map[string]map[string]map[string]cty.Value

func (u usedBlocks) add(x *named) {
	root, rest, _ := strings.Cut(x.name, ".")
	at := strings.LastIndexByte(rest, '.')
	label, attr := rest[:at], rest[at+1:]
	if u[root] == nil {
		u[root] = map[string]map[string]cty.Value{}
	}
	if u[root][label] == nil {
		u[root][label] = map[string]cty.Value{}
	}
	u[root][label][attr] = x.value
}

func (u usedBlocks) object(root string) cty.Value {
	blocks := make(map[string]cty.Value, len(u[root]))
	for label, attrs := range u[root] {
		blocks[label] = cty.ObjectVal(attrs)
	}
	return cty.ObjectVal(blocks)
}

// checkExport reports a reference to a block that cannot be resolved.
func (l *loader) checkExport(t hcl.Traversal, header hcl.Range) bool {
	root, label, at := t.RootName(), stepName(t), t.SourceRange()
	if len(t) == 1 && l.made[root] {
		l.errorAt(codeReferenceUnavailable, at, header, fmt.Sprintf("not every %s is known yet", root),
			fmt.Sprintf("A dynamic block makes some, whose names expressions cannot see. Use the list that its for_each goes over, or name one: %s.NAME.", root))
		return false
	}
	if len(t) == 1 {
		return true
	}
	of := l.exports[root][label]
	if of == nil {
		labels := sortedKeys(l.exports[root])
		detail := fmt.Sprintf("The spec has no %s.", root)
		if len(labels) > 0 {
			detail = thereAre(labels)
		}
		if near := spell(label, labels); near != "" {
			detail = fmt.Sprintf("Did you mean %q?", near)
		}
		if i := slices.IndexFunc(labels, func(s string) bool { return strings.HasPrefix(s, label+".") }); i >= 0 && label != "" {
			detail = fmt.Sprintf("A name with dots goes into brackets: %s[%q].name", root, labels[i])
		}
		if l.made[root] {
			detail = "Those that a dynamic block makes cannot be referred to. " + detail
		}
		l.errorAt(codeUndefinedReference, at, header, fmt.Sprintf("no %s %q", root, label), detail)
		return false
	}
	if len(t) == 2 {
		return true
	}
	name := nameOf(t[2])
	if of[name] != nil {
		return true
	}
	s := l.root.block(root)
	if slices.Contains(s.Exports, name) {
		l.errorAt(codeReferenceUnavailable, at, header, fmt.Sprintf("the %s of %s %q is known only after apply", name, root, label),
			fmt.Sprintf("It is an instance, which gets its address when it is created. DNS records that carry it are made by themselves, and SPF names the host through its MX; elsewhere, %s.%s.hostname can stand for it.", root, label))
		return false
	}
	detail := fmt.Sprintf("Of %s, expressions can use %s.", article(root), strings.Join(s.Exports, ", "))
	if near := spell(name, s.Exports); near != "" {
		detail = fmt.Sprintf("Did you mean %q? %s", near, detail)
	}
	l.errorAt(codeReferenceUnavailable, at, header, traversalText(t)+" is not available here", detail)
	return false
}

// exportText says for the reference what expressions may use of the block.
func (b *blockSchema) exportText() string {
	return fmt.Sprintf("In expressions, unless a dynamic block made it: %s; %s[*].name is the list of all names.", strings.Join(b.exportForms(), ", "), b.Name)
}

func (b *blockSchema) exportForms() []string {
	form := b.Name + ".NAME."
	if b.Labels[0].Kind == kindDomain {
		form = b.Name + `["NAME"].`
	}
	var out []string
	for _, e := range b.Exports {
		out = append(out, form+e)
	}
	return out
}

// exportList lists what the blocks inside export.
func (b *blockSchema) exportList() string {
	var forms []string
	for _, c := range b.Blocks {
		if len(c.Exports) > 0 {
			forms = append(forms, c.exportForms()...)
		}
	}
	return strings.Join(forms, ", ")
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
