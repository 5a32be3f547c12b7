package specs

import (
	"fmt"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// maxFindings bounds how many findings one Load keeps. One mistake in a dynamic
// block can be found once for each of thousands of rows.
const maxFindings = 500

// collector gathers findings: each once, at most maxFindings.
type collector struct {
	found    Diagnostics
	seen     map[string]bool
	severity map[string]Severity // of rules, by code; see applyRules
	dropped  Diagnostics
}

func (c *collector) add(d Diagnostic) {
	if s := c.severity[d.Code]; s != "" {
		d.Severity = s
	}
	if d.Severity == severityIgnore {
		return
	}
	key := d.Code + "\x00" + d.Summary + "\x00" + d.Detail
	if d.Subject != nil {
		key += "\x00" + d.Subject.String()
	}
	if c.seen[key] {
		return
	}
	if len(c.found) >= maxFindings {
		c.dropped = append(c.dropped, Diagnostic{Severity: d.Severity})
		return
	}
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	c.seen[key] = true
	c.found = append(c.found, d)
}

// errorAt reports an error. context is the header of the block around it, or the zero Range.
func (c *collector) errorAt(code string, subject, context hcl.Range, summary, detail string) {
	c.add(Diagnostic{Severity: SeverityError, Code: code, Summary: summary, Detail: detail, Subject: place(subject), Context: place(context)})
}

func (c *collector) warnAt(code string, subject, context hcl.Range, summary, detail string) {
	c.add(Diagnostic{Severity: SeverityWarning, Code: code, Summary: summary, Detail: detail, Subject: place(subject), Context: place(context)})
}

// done returns the findings in source order.
func (c *collector) done() Diagnostics {
	ds := c.found
	sort.SliceStable(ds, func(i, j int) bool { return before(ds[i], ds[j]) })
	if len(c.dropped) > 0 {
		severity := SeverityWarning
		if c.dropped.HasErrors() {
			severity = SeverityError
		}
		ds = append(ds, Diagnostic{Severity: severity, Code: codeMoreToSay,
			Summary: fmt.Sprintf("and %d more findings", len(c.dropped)), Detail: "They are likely of the same kind as those above."})
	}
	return ds
}

func before(a, b Diagnostic) bool {
	if (a.Subject == nil) != (b.Subject == nil) {
		return a.Subject == nil
	}
	if a.Subject != nil && *a.Subject != *b.Subject {
		x, y := a.Subject, b.Subject
		if x.File != y.File {
			return x.File < y.File
		}
		if x.StartByte != y.StartByte {
			return x.StartByte < y.StartByte
		}
		return x.EndByte < y.EndByte
	}
	if a.Code != b.Code {
		return a.Code < b.Code
	}
	return a.Summary < b.Summary
}

// hcl adds HCL's own diagnostics under one of our codes. Reasons that could
// quote a sensitive value are left out.
func (c *collector) hcl(ds hcl.Diagnostics, code string, context hcl.Range) {
	for _, d := range ds {
		out := Diagnostic{Severity: SeverityError, Code: code, Summary: lowerFirst(d.Summary), Detail: d.Detail}
		if d.Subject != nil {
			out.Subject = place(*d.Subject)
		}
		if context.Filename != "" {
			out.Context = place(context)
		}
		if d.Expression != nil && d.EvalContext != nil && touchesSecret(d.Expression, d.EvalContext) {
			out.Detail = "The reason is not shown because a sensitive value is involved."
		}
		if better, ok := clearer[d.Summary]; ok {
			out.Detail = better
		}
		c.add(out)
	}
}

// clearer says in our words what HCL says in the language lawyer's.
var clearer = map[string]string{
	"Invalid single-argument block definition": "A block on one line can hold one attribute only. Put each attribute on a line of its own.",
	"Attribute redefined":                      "This attribute is already set above, in the same block. Keep one of them.",
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// touchesSecret reports whether a sensitive value goes into an expression.
func touchesSecret(e hcl.Expression, ctx *hcl.EvalContext) bool {
	for _, t := range e.Variables() {
		v, ds := t.TraverseAbs(ctx)
		if ds.HasErrors() {
			// The traversal itself failed; judge by what its root holds.
			v, ds = t[:1].TraverseAbs(ctx)
		}
		if !ds.HasErrors() && v.ContainsMarked() {
			return true
		}
	}
	syntax, ok := hcl.UnwrapExpressionUntil(e, func(e hcl.Expression) bool { _, ok := e.(hclsyntax.Expression); return ok }).(hclsyntax.Expression)
	if !ok {
		return false
	}
	found := false
	hclsyntax.VisitAll(syntax, func(n hclsyntax.Node) hcl.Diagnostics {
		if f, ok := n.(*hclsyntax.FunctionCallExpr); ok && f.Name == "sensitive" {
			found = true
		}
		return nil
	})
	return found
}

// sensitive marks secret values.
type markType struct{}

var sensitive = markType{}

func isSensitive(v cty.Value) bool { return v.ContainsMarked() }
