package plan

import (
	"strconv"
	"strings"
)

// Diff returns the differences of all attributes, sorted by path. Objects are
// compared field by field ("disk.size"). In a list of objects the elements are
// told apart by their "name" ("rules[smtp].source"), or, when they have none,
// those that are equal are left out and the rest appear and disappear as a
// whole ("rules[2]"). Any other list is one value.
func Diff(before, after Attrs) []Field {
	names := map[string]bool{}
	for n := range before {
		names[n] = true
	}
	for n := range after {
		names[n] = true
	}
	var fields []Field
	for _, n := range sortedKeys(names) {
		fields = diffValue(fields, n, before[n], after[n])
	}
	return fields
}

func diffValue(fields []Field, path string, before, after Value) []Field {
	if before.Equal(after) {
		return fields
	}
	switch {
	case before.kind == KindObject && after.kind == KindObject:
		return diffObject(fields, path, before, after)
	case before.kind == KindList && after.kind == KindList:
		if b, a := byName(before), byName(after); b != nil && a != nil {
			return diffNamed(fields, path, b, a, before, after)
		}
		if allObjects(before) && allObjects(after) {
			return diffBag(fields, path, before, after)
		}
	}
	return append(fields, Field{Path: path, Before: before, After: after})
}

func diffObject(fields []Field, path string, before, after Value) []Field {
	names := map[string]bool{}
	for n := range before.fields {
		names[n] = true
	}
	for n := range after.fields {
		names[n] = true
	}
	for _, n := range sortedKeys(names) {
		fields = diffValue(fields, path+"."+n, before.fields[n], after.fields[n])
	}
	return fields
}

// diffNamed compares lists of named objects. When only their order differs the
// list is one difference.
func diffNamed(fields []Field, path string, b, a map[string]Value, before, after Value) []Field {
	names := map[string]bool{}
	for n := range b {
		names[n] = true
	}
	for n := range a {
		names[n] = true
	}
	start := len(fields)
	for _, n := range sortedKeys(names) {
		fields = diffValue(fields, path+"["+n+"]", b[n], a[n])
	}
	if len(fields) == start {
		fields = append(fields, Field{Path: path, Before: before, After: after})
	}
	return fields
}

// diffBag compares lists of objects without names of their own: those with an equal on
// the other side are left out.
func diffBag(fields []Field, path string, before, after Value) []Field {
	count := map[string]int{}
	for _, e := range after.list {
		count[string(e.appendJSON(nil, false))]++
	}
	start := len(fields)
	for i, e := range before.list {
		k := string(e.appendJSON(nil, false))
		if count[k] > 0 {
			count[k]--
			continue
		}
		fields = append(fields, Field{Path: path + "[" + label(e, i) + "]", Before: e})
	}
	// What is left in count are the new ones; of equal ones the last are new.
	added := len(fields)
	for i := len(after.list) - 1; i >= 0; i-- {
		k := string(after.list[i].appendJSON(nil, false))
		if count[k] > 0 {
			count[k]--
			fields = append(fields, Field{Path: path + "[" + label(after.list[i], i) + "]", After: after.list[i]})
		}
	}
	for i, j := added, len(fields)-1; i < j; i, j = i+1, j-1 {
		fields[i], fields[j] = fields[j], fields[i]
	}
	if len(fields) == start {
		fields = append(fields, Field{Path: path, Before: before, After: after})
	}
	return fields
}

// label tells an element apart in a path: by its name, which others may have
// too, or by its position.
func label(e Value, i int) string {
	if name := e.Field("name").Str(); name != "" {
		return name
	}
	return strconv.Itoa(i)
}

// byName returns a list's elements by their "name", nil unless every element is
// an object with a name of its own. An empty list has no elements.
func byName(v Value) map[string]Value {
	m := make(map[string]Value, len(v.list))
	for _, e := range v.list {
		name := e.Field("name").Str()
		if _, twice := m[name]; e.kind != KindObject || name == "" || twice {
			return nil
		}
		m[name] = e
	}
	return m
}

func allObjects(v Value) bool {
	for _, e := range v.list {
		if e.kind != KindObject {
			return false
		}
	}
	return true
}

// fits reports whether a known value could be what the pattern becomes once its
// references are resolved.
func fits(pattern, known Value) bool {
	switch pattern.kind {
	case KindUnknown:
		return !known.IsNull()
	case KindConcat:
		return known.kind == KindString && fitsText(pattern.list, known.str)
	case KindList:
		if known.kind != KindList || len(known.list) != len(pattern.list) {
			return false
		}
		for i, p := range pattern.list {
			if !fits(p, known.list[i]) {
				return false
			}
		}
		return true
	case KindObject:
		if known.kind != KindObject {
			return false
		}
		for _, k := range sortedKeys(pattern.fields) {
			if !fits(pattern.fields[k], known.fields[k]) {
				return false
			}
		}
		for k, v := range known.fields {
			if _, named := pattern.fields[k]; !named && !v.IsNull() {
				return false
			}
		}
		return true
	}
	return pattern.Equal(known)
}

// fitsText reports whether text has the parts' texts in it in their order, with
// something in between where a part is not text.
func fitsText(parts []Value, text string) bool {
	gap := false
	for i, p := range parts {
		if p.kind != KindString {
			gap = true
			continue
		}
		switch last := i == len(parts)-1; {
		case !gap:
			if !strings.HasPrefix(text, p.str) {
				return false
			}
			text = text[len(p.str):]
		case last:
			return strings.HasSuffix(text, p.str) && len(text) > len(p.str)
		default:
			at := strings.Index(text, p.str)
			if at < 1 {
				return false
			}
			text = text[at+len(p.str):]
		}
		gap = false
	}
	return !gap || text != ""
}
