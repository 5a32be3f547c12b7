package specs

import (
	"fmt"
	"sort"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// Reference returns the language's documentation as plain text of 80 columns,
// generated from the schema that Load checks against. topic is "" for
// everything, a block's path such as "host" or "host.instance" ("instance" alone
// will do), "functions", or "codes". ok is false when there is no such topic;
// Topics lists them.
func Reference(topic string) (doc string, ok bool) {
	var b strings.Builder
	root := rootSchema()
	switch topic {
	case "":
		paragraph(&b, "", root.Doc)
		b.WriteString("\n")
		paragraph(&b, "", dynamicText)
		for _, s := range root.Blocks {
			b.WriteString("\n")
			s.write(&b, s.Name)
		}
		b.WriteString("\n")
		writeFunctions(&b)
		b.WriteString("\n")
		writeCodes(&b)
	case "functions":
		writeFunctions(&b)
	case "codes":
		writeCodes(&b)
	default:
		path, s := root.find("", topic)
		if s == nil {
			return "", false
		}
		s.write(&b, path)
	}
	return b.String(), true
}

// Topics lists what Reference knows, in reading order.
func Topics() []string {
	var out []string
	var walk func(prefix string, b *blockSchema)
	walk = func(prefix string, b *blockSchema) {
		for _, c := range b.children() {
			out = append(out, prefix+c.Name)
			walk(prefix+c.Name+".", c)
		}
	}
	walk("", rootSchema())
	return append(out, "functions", "codes")
}

// find looks a block up by its path or, deeper down, by its name alone.
func (b *blockSchema) find(prefix, topic string) (string, *blockSchema) {
	for _, c := range b.children() {
		if prefix+c.Name == topic || c.Name == topic {
			return prefix + c.Name, c
		}
	}
	for _, c := range b.children() {
		if p, s := c.find(prefix+c.Name+".", topic); s != nil {
			return p, s
		}
	}
	return "", nil
}

const dynamicText = "Hosts, domains, zones and most of what stands inside blocks may be made by dynamic blocks, one for each element of a list or map: dynamic \"TYPE\" { for_each = …, labels = […], content { … } }."

// children are the blocks inside, or the forms of a block that has several.
func (b *blockSchema) children() []*blockSchema {
	return append(append([]*blockSchema(nil), b.Blocks...), b.Variants...)
}

// heading is how the block begins: its type and labels.
func (b *blockSchema) heading() string {
	if b.Of != "" {
		return b.title()
	}
	head := b.Name
	for _, lb := range b.Labels {
		head += fmt.Sprintf(" %q", strings.ToUpper(lb.Name))
	}
	return head
}

// countText says how often the block may stand, "" for at most once.
func (b *blockSchema) countText() string {
	switch {
	case b.Required:
		return "required"
	case b.Many:
		return "any number"
	}
	return ""
}

func (b *blockSchema) write(w *strings.Builder, path string) {
	head := b.heading()
	if at := strings.LastIndexByte(path, '.'); at >= 0 && b.Of == "" {
		head += "   (in " + path[:at] + ")"
	}
	if many := b.countText(); many != "" {
		head += "   (" + many + ")"
	}
	w.WriteString(head + "\n")
	paragraph(w, "  ", b.Doc)
	for _, lb := range b.Labels {
		w.WriteString("\n")
		paragraph(w, "  ", fmt.Sprintf("%s: %s", strings.ToUpper(lb.Name), lb.Doc))
	}
	if len(b.Exports) > 0 {
		w.WriteString("\n")
		paragraph(w, "  ", b.exportText())
	}
	if b.Example != "" {
		w.WriteString("\n")
		for _, line := range strings.Split(b.Example, "\n") {
			w.WriteString(strings.TrimRight("      "+line, " ") + "\n")
		}
	}
	for i := range b.Attrs {
		w.WriteString("\n")
		b.Attrs[i].write(w)
	}
	for _, c := range b.children() {
		w.WriteString("\n")
		c.write(w, path+"."+c.Name)
	}
}

func (a *attrSchema) write(w *strings.Builder) {
	fmt.Fprintf(w, "  %s = %s\n", a.Name, a.typeText())
	paragraph(w, "      ", a.Doc)
	paragraph(w, "      ", strings.Join(a.facts(), " "))
}

// facts are sentences about the attribute: first what holds when it is not
// written, last the example if there is one.
func (a *attrSchema) facts() []string {
	var facts []string
	switch {
	case a.Required:
		facts = append(facts, "Required.")
	case a.Default != cty.NilVal:
		facts = append(facts, "Default: "+quoteIfText(a.Default)+".")
	case a.DefaultIs != "":
		facts = append(facts, "Default: "+a.DefaultIs+".")
	default:
		facts = append(facts, "Optional.")
	}
	if l := a.limitText(); l != "" {
		facts = append(facts, l)
	}
	if a.Sensitive {
		facts = append(facts, "Sensitive: never shown.")
	}
	if a.Example != "" {
		facts = append(facts, "Example: "+a.Example)
	}
	return facts
}

// typeText names the type of an attribute for people.
func (a *attrSchema) typeText() string {
	name := map[kind]string{
		kindString: "text", kindBool: "true or false", kindInt: "number", kindSize: "size", kindGiB: "size", kindDuration: "duration",
		kindBandwidth: "bandwidth", kindPrefix: "network", kindIP: "IP address", kindPorts: "port or range", kindDomain: "domain",
		kindHostname: "host name", kindEmail: "mail address", kindRecipient: "local part or mail address", kindLocal: "local part",
		kindName: "name", kindURL: "URL", kindHostPort: "host:port", kindRemote: "host name or IP address", kindPath: "path",
		kindDays: "days", kindHour: "time of day", kindPercent: "percentage", kindWebName: "name in the zone", kindBucket: "bucket", kindObjectKey: "object name",
		kindDatabase: "PostgreSQL URL", kindExtension: "file name extension", kindFilter: "expression in quotes", kindAddressGlob: "address glob", kindFieldGlob: "field glob",
		kindPHC: "argon2id hash", kindSSHKey: "SSH public key", kindHostKey: "SSH host key", kindSelector: "DNS label", kindExpr: "expression",
	}[a.Kind]
	if len(a.Choices) > 0 {
		name = strings.Join(quoteAll(a.Choices), " | ")
	}
	switch {
	case !a.List:
		return name
	case len(a.Choices) > 0:
		return "list of " + name
	case a.Kind == kindRecipient:
		return "list of local parts or mail addresses"
	}
	return "list of " + pluralType(name)
}

// pluralType is a type's name for several.
func pluralType(name string) string {
	if strings.HasSuffix(name, "s") {
		return name + "es"
	}
	return name + "s"
}

func (a *attrSchema) limitText() string {
	show := func(n int64) string { return fmt.Sprint(n) }
	switch a.Kind {
	case kindSize:
		show = formatSize
	case kindGiB:
		show = func(n int64) string { return formatSize(n << 30) }
	case kindDuration:
		show = formatMinutes
	case kindDays:
		show = func(n int64) string { return fmt.Sprintf("%dd", n) }
	case kindPercent:
		show = func(n int64) string { return fmt.Sprintf("%d%%", n) }
	case kindBandwidth:
		show = func(n int64) string { return fmt.Sprintf("%dMbps", n) }
	}
	switch {
	case a.List && a.Min > 0:
		return fmt.Sprintf("At least %d.", a.Min)
	case a.Max > 0 && a.ZeroIs != "":
		return fmt.Sprintf("0, or from %s to %s.", show(a.Min), show(a.Max))
	case a.Max > 0:
		return fmt.Sprintf("From %s to %s.", show(a.Min), show(a.Max))
	case a.Kind == kindName:
		return "1 to 32 characters of a-z, 0-9 and -."
	case a.Kind == kindLocal:
		return "1 to 64 characters of a-z, 0-9, . _ - and '."
	}
	return ""
}

func writeFunctions(w *strings.Builder) {
	w.WriteString("functions\n")
	for _, d := range functionTable(nil) {
		fmt.Fprintf(w, "  %s\n", d.signature())
		paragraph(w, "      ", d.doc)
	}
}

func writeCodes(w *strings.Builder) {
	w.WriteString("codes\n")
	codes := Codes()
	sort.SliceStable(codes, func(i, j int) bool { return codes[i].Code < codes[j].Code })
	for _, c := range codes {
		paragraph(w, "  ", c.Code+"  "+c.Meaning)
	}
}

// paragraph writes wrapped text with an indent.
func paragraph(w *strings.Builder, indent, s string) {
	for _, line := range wrap(s, 80-len(indent)) {
		w.WriteString(indent + line + "\n")
	}
}

func firstSentence(s string) string {
	s, _, _ = strings.Cut(s, ". ")
	return strings.TrimSuffix(s, ".")
}
