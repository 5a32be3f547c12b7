package specs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"pgregory.net/rapid"
)

// Formatting moves blanks and nothing else: every word and every comment stays,
// in its order, and doing it twice changes nothing.
func TestFormatMovesOnlyBlanks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := untidy(t, 0)
		once, ds := Format("x.hcl", []byte(text))
		if len(ds) > 0 {
			t.Fatalf("%q: %v", text, ds)
		}
		if before, after := words(text), words(string(once)); before != after {
			t.Fatalf("%q became %q:\n%s\n%s", text, once, before, after)
		}
		if twice, _ := Format("x.hcl", once); string(twice) != string(once) {
			t.Fatalf("%q, then %q", once, twice)
		}
	})
}

// words are the tokens of a file, comments included.
func words(text string) string {
	tokens, _ := hclsyntax.LexConfig([]byte(text), "", hcl.InitialPos)
	var b strings.Builder
	for _, t := range tokens {
		if t.Type != hclsyntax.TokenNewline && t.Type != hclsyntax.TokenEOF {
			fmt.Fprintf(&b, "%c%q ", t.Type, strings.TrimRight(string(t.Bytes), " \t\r\n"))
		}
	}
	return b.String()
}

// untidy draws the text of a body as somebody in a hurry would write it.
func untidy(t *rapid.T, depth int) string {
	blank := func() string { return rapid.SampledFrom([]string{"", " ", "   ", "\t"}).Draw(t, "blank") }
	value := func() string {
		return rapid.SampledFrom([]string{
			`"10GiB"`, "1", "[ 1,2 ,3]", "[\n1, # one\n2,\n]", "{ a=1, b = \"x\" }", "{\na = 1\n  // b\nlonger=2\n}", "var.a[ 0 ].b", "f( 1,\n2 )", "(1\n+2)", `"${ a }-%{ if true }x%{ endif }"`,
			"<<E\n  kept  as # it is\n${ a }\nE", "<<-E\n      deep\n   E", "a?b:c", "[for x in y:x if x!=\"\"]", "{for k,v in m:k=>v...}", "-1", "!a", "a[*].b", "\"王选\"",
		}).Draw(t, "value")
	}
	comment := func() string {
		return rapid.SampledFrom([]string{"", "", "# why", "// because", "/* one */", "/* two\n  lines */", "#"}).Draw(t, "comment")
	}
	var b strings.Builder
	for i := range rapid.IntRange(0, 6).Draw(t, "items") {
		switch rapid.IntRange(0, 4).Draw(t, "item") {
		case 0:
			b.WriteString(blank() + comment() + "\n")
		case 1:
			b.WriteString(strings.Repeat("\n", rapid.IntRange(0, 3).Draw(t, "lines")))
		case 2, 3:
			v := value()
			b.WriteString(blank() + rapid.SampledFrom([]string{"a", "long_name"}).Draw(t, "name") + fmt.Sprint(i) + blank() + "=" + blank() + v)
			if !strings.HasPrefix(v, "<<") {
				b.WriteString(blank() + comment())
			}
			b.WriteString("\n")
		case 4:
			b.WriteString(blank() + "block" + rapid.SampledFrom([]string{"", ` "x"`, "   \"x\"\t\"y\""}).Draw(t, "labels") + " {" + blank())
			if depth < 2 {
				b.WriteString(comment() + "\n" + untidy(t, depth+1))
			}
			b.WriteString("}" + blank() + comment() + "\n")
		}
	}
	return b.String()
}
