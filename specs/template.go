package specs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// templateFunc reads a file as an HCL template. Templates do not have this
// function, so they cannot call each other without end.
func templateFunc(l *loader) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "vars", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			vars := args[1]
			if ty := vars.Type(); !ty.IsObjectType() && !ty.IsMapType() {
				return cty.NilVal, function.NewArgErrorf(1, "the variables must be an object, like { name = \"Alice\" }")
			}
			tpl, err := l.template(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return l.renderTemplate(tpl, vars.AsValueMap())
		},
	})
}

// template reads and parses a template, once for each file.
func (l *loader) template(path string) (hclsyntax.Expression, error) {
	name, text, err := l.readText(path)
	if err != nil {
		return nil, err
	}
	if tpl := l.templates[name]; tpl != nil {
		return tpl, nil
	}
	if d := templateTooComplex(name, text); d != nil {
		return nil, fmt.Errorf("%s: %s; %s", name, d.Summary, lowerFirst(strings.TrimSuffix(d.Detail, ".")))
	}
	tpl, ds := hclsyntax.ParseTemplate(text, name, hcl.InitialPos)
	if ds.HasErrors() {
		return nil, templateError(ds)
	}
	if f := l.unusableFunction(tpl); f != nil {
		return nil, fmt.Errorf("%s: %s() cannot be used in a template", rangeOf(f.NameRange), f.Name)
	}
	l.templates[name] = tpl
	return tpl, nil
}

// unusableFunction finds a call of a function that templates do not have. What
// sensitive(…) would mark could stand in an error's text, so it belongs in the call.
func (l *loader) unusableFunction(tpl hclsyntax.Expression) (found *hclsyntax.FunctionCallExpr) {
	hclsyntax.VisitAll(tpl, func(n hclsyntax.Node) hcl.Diagnostics {
		if f, ok := n.(*hclsyntax.FunctionCallExpr); ok && found == nil {
			if _, known := l.funcs[f.Name]; !known || !inTemplates(f.Name) {
				found = f
			}
		}
		return nil
	})
	return found
}

func inTemplates(function string) bool { return function != "templatefile" && function != "sensitive" }

func (l *loader) renderTemplate(tpl hclsyntax.Expression, vars map[string]cty.Value) (cty.Value, error) {
	for _, t := range tpl.Variables() {
		if _, given := vars[t.RootName()]; !given {
			names := slices.Sorted(maps.Keys(vars))
			hint := "the call gives no variables"
			if len(names) > 0 {
				hint = "the call gives " + strings.Join(names, ", ")
			}
			return cty.NilVal, fmt.Errorf("%s: %s is not given; %s", rangeOf(t.SourceRange()), t.RootName(), hint)
		}
	}
	v, ds := tpl.Value(&hcl.EvalContext{Variables: vars, Functions: l.funcs})
	if ds.HasErrors() {
		return cty.NilVal, templateError(ds)
	}
	out, err := convert.Convert(v, cty.String)
	if err != nil || out.IsNull() {
		return cty.NilVal, errors.New("the template gives no text")
	}
	if oversized(out) {
		return cty.NilVal, fmt.Errorf("the text would exceed %s", formatSize(maxValue))
	}
	return out, nil
}

// templateError is the first of HCL's findings with its place in the template.
func templateError(ds hcl.Diagnostics) error {
	for _, d := range ds {
		if d.Severity == hcl.DiagError && d.Subject != nil {
			return fmt.Errorf("%s: %s: %s", rangeOf(*d.Subject), lowerFirst(d.Summary), d.Detail)
		}
	}
	return ds
}
