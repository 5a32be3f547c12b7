package plan

import (
	"slices"
	"strconv"
	"strings"
)

// ValueKind is the type of a Value.
type ValueKind uint8

// The kinds of value an attribute can hold.
const (
	KindNull    ValueKind = iota // absent
	KindString                   // text
	KindInt                      // whole number
	KindBool                     // true or false
	KindList                     // ordered values; providers sort what has no order
	KindObject                   // named values
	KindUnknown                  // a Ref: known only once another resource is applied
	KindConcat                   // text with Refs inside
	KindSecret                   // only a one-way fingerprint; the text never enters a plan
)

// Value is one attribute's value: immutable, comparable with Equal and
// marshalled to canonical JSON. Unknown and secret values are kinds of their
// own, so no renderer can print what it must not or mistake a placeholder for text.
type Value struct {
	kind   ValueKind
	str    string
	num    int64
	list   []Value
	fields map[string]Value
	ref    Ref
}

// Attrs are the named values of a resource or an operation.
type Attrs map[string]Value

// Null is the absent value; it is also the zero Value.
func Null() Value { return Value{} }

// String returns a text value.
func String(s string) Value { return Value{kind: KindString, str: s} }

// Int returns a whole number.
func Int(n int64) Value { return Value{kind: KindInt, num: n} }

// Bool returns a truth value.
func Bool(b bool) Value {
	v := Value{kind: KindBool}
	if b {
		v.num = 1
	}
	return v
}

// List returns an ordered list. The slice is copied.
func List(vs ...Value) Value { return Value{kind: KindList, list: append([]Value{}, vs...)} }

// Strings returns a list of text values.
func Strings(ss ...string) Value {
	vs := make([]Value, len(ss))
	for i, s := range ss {
		vs[i] = String(s)
	}
	return Value{kind: KindList, list: vs}
}

// Map returns an Object value with named fields. The map is copied.
func Map(fields map[string]Value) Value {
	m := make(map[string]Value, len(fields))
	for k, v := range fields {
		m[k] = v
	}
	return Value{kind: KindObject, fields: m}
}

// Unknown returns the value of another resource's output, known after apply.
func Unknown(a Address, attr string) Value {
	return Value{kind: KindUnknown, ref: Ref{a, attr}}
}

// Concat joins texts, whole numbers and references; it collapses to a String
// when every part is known. Neighbouring texts become one part, so that two
// values which read the same are Equal.
func Concat(parts ...Value) Value {
	var flat []Value
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			flat = append(flat, String(text.String()))
			text.Reset()
		}
	}
	var add func([]Value)
	add = func(parts []Value) {
		for _, p := range parts {
			switch p.kind {
			case KindString:
				text.WriteString(p.str)
			case KindInt:
				text.WriteString(strconv.FormatInt(p.num, 10))
			case KindConcat:
				add(p.list)
			default:
				flush()
				flat = append(flat, p)
			}
		}
	}
	add(parts)
	if len(flat) == 0 {
		return String(text.String())
	}
	flush()
	return Value{kind: KindConcat, list: flat}
}

// Secret returns a sensitive value of which only the fingerprint is kept
// (see specs.Fingerprint). Two secrets are equal when their fingerprints are.
func Secret(fingerprint string) Value { return Value{kind: KindSecret, str: fingerprint} }

// Kind returns the value's type.
func (v Value) Kind() ValueKind { return v.kind }

// IsNull reports whether the value is absent.
func (v Value) IsNull() bool { return v.kind == KindNull }

// Str returns the text of a String, or "".
func (v Value) Str() string {
	if v.kind == KindString {
		return v.str
	}
	return ""
}

// Num returns the number of an Int, or 0.
func (v Value) Num() int64 {
	if v.kind == KindInt {
		return v.num
	}
	return 0
}

// True reports whether the value is the Bool true.
func (v Value) True() bool { return v.kind == KindBool && v.num == 1 }

// Fingerprint returns a Secret's fingerprint, or "".
func (v Value) Fingerprint() string {
	if v.kind == KindSecret {
		return v.str
	}
	return ""
}

// Items returns the elements of a List. The caller must not change them.
func (v Value) Items() []Value {
	if v.kind == KindList {
		return v.list
	}
	return nil
}

// Texts returns the String elements of a List.
func (v Value) Texts() []string {
	var out []string
	for _, e := range v.Items() {
		if e.kind == KindString {
			out = append(out, e.str)
		}
	}
	return out
}

// Field returns one field of an Object, Null when absent.
func (v Value) Field(name string) Value { return v.fields[name] }

// FieldNames returns the sorted field names of an Object.
func (v Value) FieldNames() []string { return sortedKeys(v.fields) }

// Refs appends every reference inside the value to refs.
func (v Value) Refs(refs []Ref) []Ref {
	switch v.kind {
	case KindUnknown:
		return append(refs, v.ref)
	case KindList, KindConcat:
		for _, e := range v.list {
			refs = e.Refs(refs)
		}
	case KindObject:
		for _, k := range sortedKeys(v.fields) {
			refs = v.fields[k].Refs(refs)
		}
	}
	return refs
}

// Known reports whether no reference is left inside the value.
func (v Value) Known() bool { return len(v.Refs(nil)) == 0 }

// Resolve replaces every reference that lookup knows. A Concat whose parts are
// all known becomes a String.
func (v Value) Resolve(lookup func(Ref) (Value, bool)) Value {
	switch v.kind {
	case KindUnknown:
		if r, ok := lookup(v.ref); ok {
			return r
		}
	case KindList:
		out := make([]Value, len(v.list))
		for i, e := range v.list {
			out[i] = e.Resolve(lookup)
		}
		v.list = out
	case KindObject:
		out := make(map[string]Value, len(v.fields))
		for k, e := range v.fields {
			out[k] = e.Resolve(lookup)
		}
		v.fields = out
	case KindConcat:
		out := make([]Value, len(v.list))
		for i, e := range v.list {
			out[i] = e.Resolve(lookup)
		}
		return Concat(out...)
	}
	return v
}

// Resolve resolves every attribute.
func (a Attrs) Resolve(lookup func(Ref) (Value, bool)) Attrs {
	if a == nil {
		return nil
	}
	out := make(Attrs, len(a))
	for k, v := range a {
		out[k] = v.Resolve(lookup)
	}
	return out
}

// Names returns the sorted attribute names.
func (a Attrs) Names() []string { return sortedKeys(a) }

// Refs returns every reference inside the attributes, in a stable order.
func (a Attrs) Refs() []Ref {
	var refs []Ref
	for _, k := range sortedKeys(a) {
		refs = a[k].Refs(refs)
	}
	return refs
}

// Equal reports whether two values are the same. An unknown value equals only
// the same reference; null equals null and the empty list.
func (v Value) Equal(o Value) bool {
	if v.empty() && o.empty() {
		return true
	}
	if v.kind != o.kind {
		return false
	}
	switch v.kind {
	case KindString, KindSecret:
		return v.str == o.str
	case KindInt, KindBool:
		return v.num == o.num
	case KindUnknown:
		return v.ref == o.ref
	case KindList, KindConcat:
		if len(v.list) != len(o.list) {
			return false
		}
		for i := range v.list {
			if !v.list[i].Equal(o.list[i]) {
				return false
			}
		}
		return true
	case KindObject:
		for k, e := range v.fields {
			if !e.Equal(o.fields[k]) {
				return false
			}
		}
		for k, e := range o.fields {
			if !e.Equal(v.fields[k]) {
				return false
			}
		}
		return true
	}
	return true
}

func (v Value) empty() bool {
	return v.kind == KindNull || (v.kind == KindList && len(v.list) == 0)
}

// GoString keeps secrets out of %#v.
func (v Value) GoString() string { return v.String() }

// String renders the value for people on one line. A secret is •••, an
// unknown value says what it waits for.
func (v Value) String() string {
	switch v.kind {
	case KindString:
		return strconv.Quote(v.str)
	case KindInt:
		return strconv.FormatInt(v.num, 10)
	case KindBool:
		return strconv.FormatBool(v.num == 1)
	case KindSecret:
		return "•••"
	case KindUnknown:
		return "(known after " + v.ref.String() + ")"
	case KindConcat:
		var b strings.Builder
		for _, e := range v.list {
			if e.kind == KindString {
				b.WriteString(e.str)
			} else {
				b.WriteString(e.String())
			}
		}
		return b.String()
	case KindList:
		parts := make([]string, len(v.list))
		for i, e := range v.list {
			parts[i] = e.String()
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case KindObject:
		parts := make([]string, 0, len(v.fields))
		for _, k := range sortedKeys(v.fields) {
			parts = append(parts, k+" = "+v.fields[k].String())
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "(none)"
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
