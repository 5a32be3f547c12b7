package plan

import (
	"fmt"
	"slices"
	"strings"

	"mailform/specs"
)

// The codes of diagnostics about the spec's rules for what to leave alone.
const (
	codeUnforgettable = "MF3013" // a forget rule names what cannot be forgotten
	CodeUnusedRule    = "MF3014" // a rule of the spec names nothing
)

// rules are the spec's settings about what may be changed and what is left alone.
type rules struct {
	protect, unprotect *patterns
	forget             *patterns
	ignore             []specs.Ignore
	overlook           *patterns // over "ADDRESS" and "ADDRESS.FIELD"; see Input.Overlook
}

func newRules(in Input) rules {
	r := rules{
		protect: newPatterns(in.Protection.Protect), unprotect: newPatterns(in.Protection.Unprotect),
		ignore: in.Ignore, overlook: newPatterns(in.Overlook),
	}
	var forget []string
	for _, f := range in.Forget {
		forget = append(forget, f.Address)
	}
	r.forget = newPatterns(forget)
	return r
}

// permit finds out what the spec protects beyond the defaults and what it does
// not. What both name is protected.
func (b *builder) permit() {
	for _, n := range b.nodes {
		protect, unprotect := b.rules.protect.match(n.addr), b.rules.unprotect.match(n.addr)
		switch {
		case protect:
			if n.guard = n.protected(); n.guard == "" {
				n.guard = "protected by the spec"
			}
		case !unprotect:
			n.guard = n.protected()
		}
	}
}

// overlay puts what is observed in place of what is wanted in every field that
// is to be ignored, so that no later change of another field undoes it. It
// returns those differences.
func (b *builder) overlay(n *node) []Field {
	if n.have == nil || len(b.rules.ignore) == 0 && len(b.rules.overlook.globs) == 0 {
		return nil
	}
	var ignored []Field
	ignores := func(path string) bool { return b.rules.ignoresField(n.addr, path) }
	after := Attrs{}
	for _, name := range n.change.After.Names() {
		is, wish := n.have.Attrs[name], n.change.After[name]
		if !slices.Contains(n.want.CreateOnly, name) {
			var left []Field
			if wish, left = leaveAlone(name, is, wish, ignores); len(left) > 0 {
				ignored = append(ignored, left...)
			}
		}
		after[name] = wish
	}
	n.change.After = after
	return ignored
}

// ignoresField reports whether differences of a field are left alone.
func (r *rules) ignoresField(a Address, path string) bool {
	for _, rule := range r.ignore {
		if Match(rule.Address, a) && slices.ContainsFunc(rule.Fields, func(glob string) bool { return Match(glob, Address(path)) }) {
			return true
		}
	}
	return len(r.overlook.globs) > 0 && r.overlook.match(a+Address("."+path))
}

// leaveAlone returns what is wanted with what is observed in place of every
// ignored difference, and those differences. It walks values as diffValue does.
func leaveAlone(path string, is, wish Value, ignores func(string) bool) (Value, []Field) {
	if is.Equal(wish) {
		return wish, nil
	}
	if ignores(path) {
		return is, []Field{{Path: path, Before: is, After: wish}}
	}
	switch {
	case is.kind == KindObject && wish.kind == KindObject:
		names := append(sortedKeys(is.fields), sortedKeys(wish.fields)...)
		slices.Sort(names)
		out := map[string]Value{}
		var left []Field
		for _, name := range slices.Compact(names) {
			v, l := leaveAlone(path+"."+name, is.fields[name], wish.fields[name], ignores)
			left = append(left, l...)
			if !v.IsNull() {
				out[name] = v
			}
		}
		return Map(out), left
	case is.kind == KindList && wish.kind == KindList:
		if b, a := byName(is), byName(wish); b != nil && a != nil {
			return leaveElements(path, is, wish, func(e Value) string { return e.Field("name").Str() }, ignores)
		}
		if allObjects(is) && allObjects(wish) {
			return leaveElements(path, is, wish, func(e Value) string { return string(e.appendJSON(nil, false)) }, ignores)
		}
	}
	return wish, nil
}

// leaveElements is leaveAlone for lists of objects, whose elements key tells
// apart. One that stays although it is not wanted stays behind the one it is
// behind now.
func leaveElements(path string, is, wish Value, key func(Value) string, ignores func(string) bool) (Value, []Field) {
	var left []Field
	take := func(i int, before, after Value) Value {
		e := before
		if e.IsNull() {
			e = after
		}
		v, l := leaveAlone(path+"["+label(e, i)+"]", before, after, ignores)
		left = append(left, l...)
		return v
	}
	there := map[string][]Value{}
	for _, e := range is.list {
		there[key(e)] = append(there[key(e)], e)
	}
	var out []Value
	for i, e := range wish.list {
		before := Null()
		if same := there[key(e)]; len(same) > 0 {
			before, there[key(e)] = same[0], same[1:]
		}
		if v := take(i, before, e); !v.IsNull() {
			out = append(out, v)
		}
	}
	at := 0
	for i, e := range is.list {
		if len(there[key(e)]) > 0 {
			there[key(e)] = there[key(e)][1:]
			if v := take(i, e, Null()); !v.IsNull() {
				out = slices.Insert(out, at, v)
				at++
				continue
			}
		}
		if j := slices.IndexFunc(out, func(v Value) bool { return key(v) == key(e) }); j >= 0 {
			at = j + 1
		}
	}
	slices.SortStableFunc(left, func(x, y Field) int { return strings.Compare(x.Path, y.Path) })
	return List(out...), left
}

// Remembered is what is left to be wanted when what a forget rule names is taken
// out. What is only looked up carries no mark that could be taken off.
func Remembered(desired []Resource, rules []specs.Forget) []Resource {
	return slices.DeleteFunc(slices.Clone(desired), func(r Resource) bool {
		return !r.Lookup && slices.ContainsFunc(rules, func(f specs.Forget) bool { return Match(f.Address, r.Address) })
	})
}

// remember takes what is forgotten out of what is wanted.
func (b *builder) remember(desired []Resource) []Resource {
	left := Remembered(desired, b.in.Forget)
	if len(left) == len(desired) {
		return left
	}
	b.forgotten = map[Address]bool{}
	for _, r := range desired {
		b.forgotten[r.Address] = !r.Lookup && b.rules.forget.match(r.Address)
	}
	for i := range left {
		r := &left[i]
		// What only comes after it in order finds it as it is.
		r.DependsOn = slices.DeleteFunc(slices.Clone(r.DependsOn), func(a Address) bool { return b.forgotten[a] })
	}
	return left
}

// release takes our mark off, where the thing can do without us.
func (b *builder) release(n *node) {
	c := &n.change
	c.Action, c.Reason = Forget, reasonForgotten
	c.Effect = "it stays as it is, and mailform no longer looks after it"
	if n.have.Forgettable {
		return
	}
	d := specs.Diagnostic{Severity: specs.SeverityError, Code: codeUnforgettable, Summary: fmt.Sprintf("%s cannot be forgotten", n.addr),
		Detail: "It has no mark of its own that could be taken off: it is a part of the mail server that mailform looks after, and the next plan would find it again. " +
			"To be rid of it, take it out of the spec. To keep what somebody changed about it, use an ignore block. To give up the whole machine, take its host block out and forget host/NAME/*."}
	for _, f := range b.in.Forget {
		if Match(f.Address, n.addr) && f.Range != (specs.Range{}) {
			r := f.Range
			d.Subject = &r
			break
		}
	}
	b.diags = append(b.diags, d)
}

// unusedRules warns about rules of the spec that name nothing: most likely a
// typing error, or they outlived what they were written for.
func (b *builder) unusedRules() {
	warn := func(r specs.Range, what, glob string) {
		d := specs.Diagnostic{Severity: specs.SeverityWarning, Code: CodeUnusedRule, Summary: fmt.Sprintf("%s %q names nothing", what, glob),
			Detail: "Addresses and fields are written as mailform show prints them; * stands for anything."}
		if r != (specs.Range{}) {
			d.Subject = &r
		}
		b.diags = append(b.diags, d)
	}
	for _, rule := range []struct {
		name string
		ps   *patterns
	}{{"protect", b.rules.protect}, {"unprotect", b.rules.unprotect}} {
		for i, glob := range rule.ps.globs {
			if !rule.ps.used[i] {
				warn(b.in.Protection.Range, rule.name, glob)
			}
		}
	}
	for i, glob := range b.rules.forget.globs {
		if !b.rules.forget.used[i] {
			warn(b.in.Forget[i].Range, "forget", glob)
		}
	}
	for _, rule := range b.rules.ignore {
		named, used := false, make([]bool, len(rule.Fields))
		for _, n := range b.nodes {
			if n.want == nil || !Match(rule.Address, n.addr) {
				continue
			}
			named = true
			for i, glob := range rule.Fields {
				used[i] = used[i] || n.hasField(glob)
			}
		}
		if !named {
			warn(rule.Range, "ignore", rule.Address)
			continue
		}
		for i, glob := range rule.Fields {
			if !used[i] {
				warn(rule.Range, "ignore "+rule.Address+": field", glob)
			}
		}
	}
}

// hasField reports whether a glob names a field of what is wanted or of what is there.
func (n *node) hasField(glob string) bool {
	attrs := n.want.Attrs
	for name, v := range attrs {
		if v.hasPath(name, glob) || n.have != nil && n.have.Attrs[name].hasPath(name, glob) {
			return true
		}
	}
	return false
}

// hasPath reports whether a glob names the value at a path or one inside it.
func (v Value) hasPath(path, glob string) bool {
	if Match(glob, Address(path)) {
		return true
	}
	for name, f := range v.fields {
		if f.hasPath(path+"."+name, glob) {
			return true
		}
	}
	if v.kind == KindList && allObjects(v) {
		for i, e := range v.list {
			if e.hasPath(path+"["+label(e, i)+"]", glob) {
				return true
			}
		}
	}
	return false
}
