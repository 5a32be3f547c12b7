package plan

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"mailform/plan/style"
)

// maxValue is the widest a text that changed inside a long token is shown.
const maxValue = 72

// display writes a value for people on one line. Text stands bare where that
// cannot be misread. Secrets and what is not known yet show as such.
func display(v Value) string {
	switch v.kind {
	case KindString:
		bare := v.str != "" && !strings.ContainsFunc(v.str, func(r rune) bool {
			return r <= ' ' || strings.ContainsRune("\"'`[]{}(),…→", r) || !strconv.IsPrint(r)
		})
		if bare {
			return v.str
		}
		return strconv.Quote(v.str)
	case KindInt:
		return size(v.num)
	case KindUnknown:
		return "(known after apply)"
	case KindConcat:
		var b strings.Builder
		for _, e := range v.list {
			if e.kind == KindString {
				b.WriteString(style.Clean(e.str))
			} else {
				b.WriteString(display(e))
			}
		}
		return b.String()
	case KindList:
		parts := make([]string, len(v.list))
		for i, e := range v.list {
			parts[i] = display(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case KindObject:
		return "{" + strings.Join(displayFields(v, ""), ", ") + "}"
	}
	return style.Clean(v.String())
}

// size writes a whole number, and one that can only be a count of bytes as a
// spec does: 5GiB.
func size(n int64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return strconv.FormatInt(n>>30, 10) + "GiB"
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "MiB"
	}
	return strconv.FormatInt(n, 10)
}

// displayAs writes the value of an attribute: whole seconds, which its name tells, as a
// spec does.
func displayAs(name string, v Value) string {
	if v.kind == KindInt && strings.HasSuffix(name, "_seconds") {
		return duration(v.num)
	}
	return display(v)
}

// duration writes a number of seconds as a spec does, in the largest unit that it is
// a whole number of: 30d.
func duration(n int64) string {
	for _, u := range []struct {
		name    string
		seconds int64
	}{{"d", 24 * 60 * 60}, {"h", 60 * 60}, {"m", 60}} {
		if n != 0 && n%u.seconds == 0 {
			return strconv.FormatInt(n/u.seconds, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "s"
}

// displayFields writes an object's fields but one.
func displayFields(v Value, but string) []string {
	var parts []string
	for _, k := range v.FieldNames() {
		if f := v.fields[k]; k != but && !f.IsNull() {
			parts = append(parts, style.Clean(k)+" "+displayAs(k, f))
		}
	}
	return parts
}

// item writes an element of a list on a line of its own, its name first.
func item(v Value) string {
	name := v.Field("name").Str()
	if v.kind != KindObject || name == "" {
		return display(v)
	}
	return style.Clean(name) + ": " + strings.Join(displayFields(v, "name"), ", ")
}

// wanted shows the attributes of something that is created: short ones as
// words, every element of a list of objects on its own line, and together those
// that are not known yet.
func (t *text) wanted(attrs Attrs) (words []word, lines []string) {
	var later []string
	for _, name := range attrs.Names() {
		v := attrs[name]
		label := style.Clean(name)
		switch {
		case v.empty(), v.kind == KindString && v.str == "":
		case strings.HasSuffix(name, "_id"):
			// The vendor's id of something else the plan shows: nothing a person chose.
		case v.kind == KindUnknown:
			later = append(later, label)
		case v.kind == KindList && allObjects(v):
			lines = append(lines, t.sheet.Dim(label+":"))
			shown := v.list
			if t.fold > 0 && len(shown) > t.fold+1 {
				shown = shown[:t.fold]
			}
			for _, e := range shown {
				lines = append(lines, "  "+style.Elide(item(e), t.width-8))
			}
			if n := len(v.list) - len(shown); n > 0 {
				lines = append(lines, t.sheet.Dim(fmt.Sprintf("  … and %s more", thousands(n))))
			}
		default:
			words = append(words, word{label + " " + shorten(displayAs(name, v)), func(s string) string {
				if value, ok := strings.CutPrefix(s, label+" "); ok {
					return t.sheet.Dim(label+" ") + value
				}
				return s
			}})
		}
	}
	if len(later) > 0 {
		words = append(words, word{"(known after apply: " + strings.Join(later, ", ") + ")", t.sheet.Dim})
	}
	return words, lines
}

// fields shows the differences of a change, one a line: path, before → after. A
// pair that does not fit takes two lines or more.
func (t *text) fields(fields []Field) {
	const indent = 6
	column := 0
	for _, f := range fields {
		column = max(column, style.Width(style.Clean(f.Path)))
	}
	column = min(column, t.width/3)
	for _, f := range fields {
		path := style.Clean(f.Path)
		lead := t.sheet.Dim(style.Pad(path, column)) + "  "
		if style.Width(path) > column {
			t.line(indent, t.sheet.Dim(path))
			lead = strings.Repeat(" ", column+2)
		}
		for i, line := range t.field(f, t.width-indent-column-2) {
			switch {
			case i == 0:
				t.line(indent, lead, line)
			case strings.HasPrefix(line, "→ "):
				t.line(indent+column, t.sheet.Dim("→ "), line[len("→ "):])
			default:
				t.line(indent+column+2, line)
			}
		}
	}
}

// field is one difference in lines of at most room columns. A line that begins
// with an arrow stands two columns further left.
func (t *text) field(f Field, room int) []string {
	note := ""
	if f.Replaces {
		note = "  (replaces it)"
		room -= len(note)
		note = t.sheet.Yellow(note)
	}
	before, after := displayAs(f.Path, f.Before), displayAs(f.Path, f.After)
	switch {
	case f.Before.empty() && f.After.kind == KindObject:
		return []string{t.sheet.Green("+ ") + style.Elide(strings.Join(displayFields(f.After, "name"), ", "), room-2) + note}
	case f.Before.empty():
		return prefixed(t.sheet.Green("+ "), breakText(shorten(after), room-2), note)
	case f.After.empty():
		return prefixed(t.sheet.Red("- "), breakText(shorten(before), room-2), note)
	case f.Before.kind == KindSecret && f.After.kind == KindSecret:
		pair := before + t.sheet.Dim(" → ") + after
		if another := " (another one)"; style.Width(before)+3+style.Width(after)+len(another) <= room {
			return []string{pair + t.sheet.Dim(another) + note}
		}
		return []string{pair + note, t.sheet.Dim("(another one)")}
	case style.Width(before)+3+style.Width(after) <= room:
		return []string{before + t.sheet.Dim(" → ") + after + note}
	case f.Before.kind == KindList && f.After.kind == KindList:
		return t.elements(f.Before, f.After, room)
	case shorten(before) == before && shorten(after) == after:
		return append(prefixed("", breakText(before, room), note), prefixed("→ ", breakText(after, room), "")...)
	}
	before, after = focus(before, after, min(maxValue, room))
	return []string{before + note, "→ " + after}
}

// prefixed puts a mark before the first of the lines and a note after it.
func prefixed(mark string, lines []string, note string) []string {
	lines[0] = mark + lines[0] + note
	return lines
}

// maxToken is the longest run of characters without a space that is shown whole:
// longer ones are keys and hashes.
const maxToken = 48

// shorten elides the middle of every long token of a text.
func shorten(s string) string {
	if len(s) <= maxToken {
		return s
	}
	tokens := strings.Split(s, " ")
	for i, token := range tokens {
		if style.Width(token) > maxToken {
			tokens[i] = style.Elide(token, maxToken/2)
		}
	}
	return strings.Join(tokens, " ")
}

// breakText breaks a text at spaces into lines of at most w columns, at least one.
func breakText(s string, w int) []string {
	var lines []string
	for _, line := range style.Wrap(strings.Split(s, " "), " ", w) {
		lines = append(lines, style.Elide(strings.Join(line, " "), w))
	}
	return lines
}

// elements shows what came to and what left a long list.
func (t *text) elements(before, after Value, room int) []string {
	key := func(v Value) string { return string(v.appendJSON(nil, false)) }
	was, is := map[string]bool{}, map[string]bool{}
	for _, e := range before.list {
		was[key(e)] = true
	}
	for _, e := range after.list {
		is[key(e)] = true
	}
	var lines []string
	kept := 0
	for _, e := range before.list {
		if is[key(e)] {
			kept++
		} else {
			lines = append(lines, t.sheet.Red("- ")+style.Elide(item(e), room-2))
		}
	}
	for _, e := range after.list {
		if !was[key(e)] {
			lines = append(lines, t.sheet.Green("+ ")+style.Elide(item(e), room-2))
		}
	}
	if len(lines) == 0 {
		return []string{"in another order"}
	}
	if t.fold > 0 && len(lines) > t.fold+1 {
		lines = append(lines[:t.fold], t.sheet.Dim(fmt.Sprintf("… and %s more", thousands(len(lines)-t.fold))))
	}
	if kept > 0 {
		lines = append(lines, t.sheet.Dim(fmt.Sprintf("  %s stay", thousands(kept))))
	}
	return lines
}

// focus shortens two texts to w columns each so that what differs between them
// stays visible.
func focus(before, after string, w int) (string, string) {
	pre := 0
	for pre < len(before) && pre < len(after) {
		r, size := utf8.DecodeRuneInString(before[pre:])
		if r2, _ := utf8.DecodeRuneInString(after[pre:]); r != r2 {
			break
		}
		pre += size
	}
	suf := 0
	for suf < len(before)-pre && suf < len(after)-pre {
		r, size := utf8.DecodeLastRuneInString(before[:len(before)-suf])
		if r2, _ := utf8.DecodeLastRuneInString(after[:len(after)-suf]); r != r2 {
			break
		}
		suf += size
	}
	return around(before, pre, suf, w), around(after, pre, suf, w)
}

// around shows text without its first pre and last suf bytes, and of those as
// much as fits.
func around(text string, pre, suf, w int) string {
	if style.Width(text) <= w {
		return text
	}
	head, mid, tail := text[:pre], text[pre:len(text)-suf], text[len(text)-suf:]
	room := w - style.Width(mid) - 2
	switch {
	case room < 0 && style.Width(head) < w/2:
		return style.Elide(text, w)
	case room < 0:
		return "…" + style.Elide(mid, w-2) + "…"
	}
	left := min(style.Width(head), room/2)
	right := min(style.Width(tail), room-left)
	left = min(style.Width(head), room-right)
	if cut := style.Tail(head, left); cut != head {
		head = "…" + cut
	}
	if cut := style.Head(tail, right); cut != tail {
		tail = cut + "…"
	}
	return head + mid + tail
}
