package specs

import (
	"bytes"

	"github.com/aymanbagabas/go-udiff"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format lays a spec's file out canonically: two spaces of indent, equals signs
// of neighbouring attributes in one column, one newline at the end. It changes
// nothing but blanks and keeps every comment; formatting twice gives the same.
// name stands in the findings that a file with syntax errors gives; then src is
// returned as it is.
func Format(name string, src []byte) ([]byte, Diagnostics) {
	var c collector
	if d := tooComplex(name, src); d != nil {
		c.add(*d)
		return src, c.done()
	}
	if _, ds := hclsyntax.ParseConfig(src, name, hcl.InitialPos); ds.HasErrors() {
		c.hcl(ds, codeSyntax, hcl.Range{})
		return src, c.done()
	}
	out := src
	// hclwrite settles at once on what people write; odd input needs another round.
	for range 4 {
		next := hclwrite.Format(out)
		if bytes.Equal(next, out) {
			break
		}
		out = next
	}
	out = append(bytes.TrimRight(out, " \t\r\n"), '\n')
	if len(out) == 1 {
		out = nil
	}
	return out, nil
}

// FormatDiff is the unified diff between a file and what Format makes of it, ""
// when they are equal. Passwords that stand in the file are masked in it.
func FormatDiff(name string, src, formatted []byte) string {
	return udiff.Unified(name, name+" (formatted)", masked(src), masked(formatted))
}

// masked is a spec's text without the secrets that stand in it.
func masked(text []byte) string {
	s := NewSources()
	s.Add("", text)
	return s.files[""].masked(0, len(text))
}
