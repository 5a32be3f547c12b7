package plan

import (
	"bytes"
	"slices"
	"strings"

	"mailform/plan/style"
)

// Advice is something that mailform cannot do and a person should: ask the vendor
// for a port, choose another region. It is shown once, at the end, and is no part
// of a plan.
type Advice struct {
	Code  string   `json:"code"`            // stable: "port-25-closed"
	About string   `json:"about"`           // what it is about: "host mx1"
	Title string   `json:"title"`           // what was found, in a few words
	Text  string   `json:"text"`            // what it means, and what to do
	Links []string `json:"links,omitempty"` // where to do it, or to read more
	Spec  string   `json:"spec,omitempty"`  // lines for the spec that are another way out
}

// Advisor is a provider that has advice about what it has observed in this run.
// It asks nobody.
type Advisor interface {
	Advise() []Advice
}

// SortAdvice puts advice into its order and leaves out what is said twice.
func SortAdvice(list []Advice) []Advice {
	slices.SortStableFunc(list, func(a, b Advice) int { return strings.Compare(a.About+"\x00"+a.Code, b.About+"\x00"+b.Code) })
	return slices.CompactFunc(list, func(a, b Advice) bool { return a.Code == b.Code && a.About == b.About })
}

// AdviceText is advice for people, in so many columns. It ends with a new line
// unless there is none.
func AdviceText(list []Advice, width int, sheet style.Sheet) string {
	t := &text{sheet: sheet, width: max(width, 40)}
	t.advice(list)
	return t.out.String()
}

func (t *text) advice(list []Advice) {
	for i, a := range list {
		if i > 0 {
			t.line(0)
		}
		for j, row := range style.Wrap(strings.Fields(style.Clean(a.About+": "+a.Title)), " ", t.width-8) {
			head := "        "
			if j == 0 {
				head = t.sheet.Yellow("advice") + "  "
			}
			t.line(0, head, t.sheet.Bold(strings.Join(row, " ")))
		}
		for paragraph := range strings.Lines(a.Text) {
			for _, row := range style.Wrap(strings.Fields(style.Clean(strings.TrimRight(paragraph, "\n"))), " ", t.width-2) {
				t.line(2, strings.Join(row, " "))
			}
		}
		for _, link := range a.Links {
			t.line(4, style.Clean(link))
		}
		for row := range strings.Lines(a.Spec) {
			t.line(4, style.Clean(strings.TrimRight(row, "\n")))
		}
	}
}

// adviceMarkdown writes advice for a pull request.
func adviceMarkdown(b *bytes.Buffer, list []Advice) {
	if len(list) == 0 {
		return
	}
	b.WriteString("\n#### Advice\n")
	for _, a := range list {
		b.WriteString("\n**" + prose(a.About+": "+a.Title) + "** " + prose(strings.Join(strings.Fields(a.Text), " ")) + "\n")
		for _, link := range a.Links {
			b.WriteString("<" + strings.Map(func(r rune) rune {
				if r <= ' ' || r == '<' || r == '>' {
					return -1
				}
				return r
			}, link) + ">\n")
		}
		if a.Spec != "" {
			b.WriteString("\n```hcl\n" + strings.ReplaceAll(a.Spec, "```", "") + "```\n")
		}
	}
}
