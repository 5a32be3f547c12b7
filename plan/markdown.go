package plan

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"mailform/plan/style"
)

// markdownFold is how many of many similar changes a Markdown plan shows: pull
// request comments have a length limit.
const markdownFold = 20

// RenderMarkdown writes the plan as GitHub-flavoured Markdown for a pull request.
func RenderMarkdown(w io.Writer, p *Plan, e Estimate) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "### mailform plan for stack %s\n\n", code(p.Stack))
	if !p.HasChanges() && !p.HasBlocked() && p.Summary().Wait == 0 {
		sum := p.Summary()
		first, rest, _ := strings.Cut(nothingToDo(p, sum), ". ")
		fmt.Fprintf(&b, "**%s.**", prose(strings.TrimSuffix(first, ".")))
		if rest != "" {
			fmt.Fprintf(&b, " %s", prose(rest))
		}
		b.WriteByte('\n')
		for _, s := range []string{leftOutWords(p, sum), ignoredWords(sum.Ignored), foreignWords(p.Foreign)} {
			if s != "" {
				fmt.Fprintf(&b, "\n%s.\n", prose(s))
			}
		}
		adviceMarkdown(&b, e.Advice)
		for _, s := range e.upcomingWords() {
			fmt.Fprintf(&b, "\n%s.\n", prose(s))
		}
		_, err := w.Write(b.Bytes())
		return err
	}
	var parts []string
	for i, word := range summaryWords(p, p.Summary(), e, style.Sheet{}) {
		if i == 0 {
			word.text = "**" + word.text + "**"
		} else {
			word.text = prose(word.text)
		}
		parts = append(parts, word.text)
	}
	b.WriteString(strings.Join(parts, " · ") + "\n")

	groups := p.groups()
	if p.HasBlocked() {
		b.WriteString("\n#### Blocked\n\n")
		for _, g := range groups {
			for _, f := range foldRuns(g.Changes, markdownFold) {
				if f.Shown[0].Blocked == nil {
					continue
				}
				for _, c := range f.Shown {
					fmt.Fprintf(&b, "- %s %s: %s", code(c.Action.Glyph()), code(string(c.Address)), prose(c.Blocked.Why))
					if c.Blocked.Allow != "" {
						fmt.Fprintf(&b, "; to go ahead: %s", code(c.Blocked.Allow))
					}
					b.WriteByte('\n')
				}
				if f.Hidden > 0 {
					fmt.Fprintf(&b, "- %s\n", f.hidden())
				}
			}
		}
	}
	for _, g := range groups {
		fmt.Fprintf(&b, "\n#### %s\n\n| | Address | What | Why |\n|---|---|---|---|\n", prose(g.Title))
		for _, f := range foldRuns(g.Changes, markdownFold) {
			for _, c := range f.Shown {
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(c.Action.Glyph()), code(string(c.Address)), markdownWhat(c), markdownWhy(c, e))
			}
			if f.Hidden > 0 {
				fmt.Fprintf(&b, "| | %s | | |\n", f.hidden())
			}
		}
	}
	if p.HasChanges() && !p.Destroy {
		fmt.Fprintf(&b, "\nTo apply exactly this: %s\n", code("mailform apply --approve "+Hash(p)))
	}
	adviceMarkdown(&b, e.Advice)
	_, err := w.Write(b.Bytes())
	return err
}

// markdownWhat is what a change does, for a table cell.
func markdownWhat(c Change) string {
	var lines []string
	if c.Action == Create {
		for _, name := range c.After.Names() {
			if v := c.After[name]; !v.empty() {
				lines = append(lines, prose(name)+" "+value(name, v))
			}
		}
	}
	for _, f := range c.Fields {
		before, after := value(f.Path, f.Before), value(f.Path, f.After)
		if before == after && f.Before.kind == KindString {
			b, a := focus(display(f.Before), display(f.After), maxValue)
			before, after = code(b), code(a)
		}
		line := prose(f.Path) + ": " + before + " → " + after
		if f.Replaces {
			line += " (replaces it)"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "<br>")
}

// markdownWhy is why, at what risk, and with what effect on mail.
func markdownWhy(c Change, e Estimate) string {
	var lines []string
	if c.Reason != "" {
		lines = append(lines, prose(c.Reason))
	}
	if c.Risk != RiskNone {
		lines = append(lines, "**"+prose(string(c.Risk))+"**")
	}
	if price, ok := e.price(c.Address); ok {
		lines = append(lines, prose(price.words()))
	}
	if c.Effect != "" {
		lines = append(lines, prose(c.Effect))
	}
	if c.Blocked != nil {
		lines = append(lines, "**blocked**")
	}
	return strings.Join(lines, "<br>")
}

// value is an attribute's in a table.
func value(name string, v Value) string {
	if v.empty() {
		return "(none)"
	}
	return code(shorten(displayAs(name, v)))
}

// code is a code span that nothing inside can end, also in a table cell.
func code(s string) string {
	s = strings.ReplaceAll(style.Clean(s), "|", `\|`)
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		s = " " + s + " "
	}
	return fence + s + fence
}

// prose is text in which nothing is markup.
func prose(s string) string {
	var b strings.Builder
	for _, r := range style.Clean(s) {
		if strings.ContainsRune("\\`*_[]<>|#~@", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
