package specs

import (
	"fmt"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// ReferenceMarkdown returns the whole of Reference as a Markdown page: the same
// texts from the same schema. REFERENCE.md of the repository is this page.
func ReferenceMarkdown() string {
	var w strings.Builder
	root := rootSchema()
	w.WriteString("# The spec, block by block\n\n" +
		"<!-- Generated from the schema that mailform checks specs against; do not edit. To write it anew: go test ./specs -run TestReferencePage -update -->\n\n")
	w.WriteString(markdownText(root.Doc) + " The same text in the terminal: `mailform docs [BLOCK]`.\n\n" + markdownText(dynamicText) + "\n\n")
	root.writeContents(&w, "", 0)
	w.WriteString("- [functions](#functions)\n- [codes](#codes)\n")
	for _, c := range root.Blocks {
		c.writeMarkdown(&w, c.Name, 2)
	}
	w.WriteString("\n## functions\n\n")
	for _, d := range functionTable(nil) {
		fmt.Fprintf(&w, "- `%s`: %s\n", d.signature(), markdownText(d.doc))
	}
	w.WriteString("\n## codes\n\nEvery finding of `mailform validate` has a code that keeps its meaning.\n\n")
	for _, c := range Codes() {
		fmt.Fprintf(&w, "- `%s`: %s\n", c.Code, markdownText(c.Meaning))
	}
	return w.String()
}

func (b *blockSchema) writeContents(w *strings.Builder, prefix string, depth int) {
	for _, c := range b.children() {
		path := prefix + c.Name
		fmt.Fprintf(w, "%s- [%s](#%s)\n", strings.Repeat("  ", depth), path, anchor(path))
		c.writeContents(w, path+".", depth+1)
	}
}

// anchor is the name that Markdown renderers give a heading: without its dots.
func anchor(heading string) string { return strings.ReplaceAll(heading, ".", "") }

func (b *blockSchema) writeMarkdown(w *strings.Builder, path string, level int) {
	fmt.Fprintf(w, "\n%s %s\n\n", strings.Repeat("#", min(level, 6)), path)
	fmt.Fprintf(w, "`%s { … }`", b.heading())
	if many := b.countText(); many != "" {
		fmt.Fprintf(w, " (%s)", many)
	}
	fmt.Fprintf(w, "\n\n%s\n", markdownText(b.Doc))
	for _, lb := range b.Labels {
		fmt.Fprintf(w, "\n- `%s`: %s\n", strings.ToUpper(lb.Name), markdownText(lb.Doc))
	}
	if len(b.Exports) > 0 {
		fmt.Fprintf(w, "\n%s\n", markdownText(b.exportText()))
	}
	if b.Example != "" {
		fmt.Fprintf(w, "\n```hcl\n%s\n```\n", b.Example)
	}
	if len(b.Attrs) > 0 {
		w.WriteString("\n")
	}
	for i := range b.Attrs {
		a := &b.Attrs[i]
		fmt.Fprintf(w, "- `%s` = %s  \n  %s  \n  %s\n", a.Name, markdownText(a.typeText()), markdownText(a.Doc), a.markdownFacts())
	}
	for _, c := range b.children() {
		c.writeMarkdown(w, path+"."+c.Name, level+1)
	}
}

// markdownFacts are the attribute's facts with code set as code.
func (a *attrSchema) markdownFacts() string {
	facts := a.facts()
	if a.Default != cty.NilVal && !a.Required {
		facts[0] = "Default: `" + quoteIfText(a.Default) + "`."
	} else {
		facts[0] = markdownText(facts[0])
	}
	if a.Example != "" {
		facts[len(facts)-1] = "Example: `" + a.Example + "`"
	}
	return strings.Join(facts, " ")
}

// markdownText keeps plain text plain: what Markdown, or GitHub's mathematics,
// would take for markup is escaped.
func markdownText(s string) string {
	return strings.NewReplacer("*", `\*`, "<", `\<`, "`", "\\`", "|", `\|`, "$", `\$`, "[", `\[`).Replace(s)
}
