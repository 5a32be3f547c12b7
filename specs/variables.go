package specs

import (
	"errors"
	"fmt"
	"path"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// EnvPrefix begins the names of environment variables that set variables of a spec.
const EnvPrefix = "MAILFORM_VAR_"

// variable is a declaration and, in the end, its value.
type variable struct {
	name        string
	header      hcl.Range
	block       *hclsyntax.Block
	description string
	sensitive   bool
	ty          cty.Type // cty.DynamicPseudoType for any
	defaults    *typeexpr.Defaults
	value       cty.Value // cty.NilVal until it has one
	validations []*hclsyntax.Block
	given       *assignment
}

// assignment is a value that was given from outside.
type assignment struct {
	from  string // "--var", "MAILFORM_VAR_x" or the file's name
	text  string // of --var and environment
	isRaw bool
	expr  hcl.Expression // of a file
	at    hcl.Range
}

// declare collects the names of all variables, locals and exporting blocks, so that every
// reference can be checked before anything is evaluated.
func (l *loader) declare() {
	for _, s := range l.root.Blocks {
		if len(s.Exports) > 0 {
			l.exports[s.Name] = map[string]map[string]*named{}
		}
	}
	for _, body := range l.bodies {
		for _, b := range body.Blocks {
			switch {
			case b.Type == "variable" && len(b.Labels) == 1:
				l.declareVariable(b)
			case b.Type == "locals" && len(b.Labels) == 0:
				l.declareLocals(b)
			case b.Type == "dynamic" && len(b.Labels) == 1:
				l.made[b.Labels[0]] = true
			case len(b.Labels) == 1:
				l.declareExports(b)
			}
		}
	}
	sort.Slice(l.varOrder, func(i, j int) bool { return l.varOrder[i].name < l.varOrder[j].name })
	for _, v := range l.varOrder {
		l.declareDetails(v)
	}
}

func (l *loader) declareVariable(b *hclsyntax.Block) {
	name, at := b.Labels[0], b.LabelRanges[0]
	if !hclsyntax.ValidIdentifier(name) {
		l.errorAt(codeBadDeclaration, at, hcl.Range{}, fmt.Sprintf("%q cannot be a variable's name", name), "Names have letters, digits, _ and -, and begin with a letter.")
		return
	}
	if first := l.variables[name]; first != nil {
		l.errorAt(codeBadDeclaration, at, hcl.Range{}, fmt.Sprintf("variable %q is declared twice", name), fmt.Sprintf("It is first declared at %s.", rangeOf(first.header)))
		return
	}
	v := &variable{name: name, header: b.DefRange(), block: b, ty: cty.DynamicPseudoType}
	l.variables[name] = v
	l.varOrder = append(l.varOrder, v)
}

func (l *loader) declareDetails(v *variable) {
	attrs := v.block.Body.Attributes
	if a := attrs["type"]; a != nil {
		ty, defaults, ds := typeexpr.TypeConstraintWithDefaults(a.Expr)
		l.hcl(ds, codeBadDeclaration, v.header)
		if !ds.HasErrors() {
			v.ty, v.defaults = ty, defaults
		}
	}
	if a := attrs["sensitive"]; a != nil {
		v.sensitive = l.constant(a, cty.Bool, v.header).True()
	}
	if a := attrs["description"]; a != nil {
		v.description = l.constant(a, cty.String, v.header).AsString()
	}
	for _, b := range v.block.Body.Blocks {
		if b.Type == "validation" && len(b.Labels) == 0 {
			v.validations = append(v.validations, b)
		}
	}
}

// constant evaluates an attribute that cannot have references; the type's zero when it is wrong.
func (l *loader) constant(a *hclsyntax.Attribute, ty cty.Type, header hcl.Range) cty.Value {
	v, ds := a.Expr.Value(nil)
	if !ds.HasErrors() {
		if v, _ = v.UnmarkDeep(); v.IsWhollyKnown() && !v.IsNull() {
			if c, err := convert.Convert(v, ty); err == nil {
				return c
			}
		}
	}
	l.errorAt(codeBadDeclaration, a.Expr.Range(), header, fmt.Sprintf("%s must be a plain %s", a.Name, ty.FriendlyName()), "Write the value itself, without references or functions.")
	if ty == cty.Bool {
		return cty.False
	}
	return cty.StringVal("")
}

// evalVariables gives every variable its value.
func (l *loader) evalVariables() {
	l.assignments()
	for _, v := range l.varOrder {
		l.defaultOf(v)
		l.take(v)
		if v.value == cty.NilVal {
			v.value = cty.DynamicVal
		}
		if v.sensitive {
			v.value = v.value.Mark(sensitive)
		}
	}
	values := map[string]cty.Value{}
	for _, v := range l.varOrder {
		values[v.name] = v.value
	}
	l.ctx = &hcl.EvalContext{Variables: map[string]cty.Value{"var": cty.ObjectVal(values), "local": cty.EmptyObjectVal}, Functions: l.funcs}
	for _, v := range l.varOrder {
		for _, b := range v.validations {
			l.validate(v, b)
		}
	}
}

func (l *loader) defaultOf(v *variable) {
	a := v.block.Body.Attributes["default"]
	if a == nil {
		return
	}
	if v.sensitive {
		l.hideLiterals(a.Expr)
	}
	l.checkExpr(&a.Expr, v.header, scope{alone: true})
	val, ds := a.Expr.Value(&hcl.EvalContext{Functions: l.funcs})
	l.hcl(ds, codeEvaluation, v.header)
	if ds.HasErrors() || !val.IsWhollyKnown() {
		v.value = cty.DynamicVal
		return
	}
	v.value = l.fit(v, val, a.Expr.Range(), "its default")
}

// fit converts a value to the variable's type.
func (l *loader) fit(v *variable, val cty.Value, at hcl.Range, from string) cty.Value {
	val, marks := val.UnmarkDeep()
	if v.defaults != nil && !val.IsNull() {
		val = v.defaults.Apply(val)
	}
	out, err := convert.Convert(val, v.ty)
	if err != nil {
		l.errorAt(codeBadVariableValue, at, v.header, fmt.Sprintf("the value of var.%s from %s does not fit", v.name, from),
			fmt.Sprintf("The variable's type is %s: %s.", typeexpr.TypeString(v.ty), conversionProblem(err)))
		return cty.DynamicVal
	}
	if oversized(out) {
		l.errorAt(codeValueTooLarge, at, v.header, fmt.Sprintf("the value of var.%s is too large", v.name), fmt.Sprintf("Values may have %s.", formatSize(maxValue)))
		return cty.DynamicVal
	}
	return out.WithMarks(marks)
}

// conversionProblem names the place inside the value. It never quotes the value:
// cty's conversion errors speak of types only.
func conversionProblem(err error) string {
	var pe cty.PathError
	if errors.As(err, &pe) && len(pe.Path) > 0 {
		var b strings.Builder
		for _, s := range pe.Path {
			switch s := s.(type) {
			case cty.GetAttrStep:
				b.WriteString("." + s.Name)
			case cty.IndexStep:
				if s.Key.IsKnown() && s.Key.Type() == cty.Number {
					b.WriteString("[" + s.Key.AsBigFloat().Text('f', 0) + "]")
				} else {
					b.WriteString("[…]")
				}
			}
		}
		return fmt.Sprintf("at %s, %s", b.String(), pe.Error())
	}
	return err.Error()
}

// take evaluates what was given from outside.
func (l *loader) take(v *variable) {
	g := v.given
	if g == nil {
		if v.value == cty.NilVal {
			what := ""
			if v.description != "" {
				what = capital(strings.TrimRight(v.description, ".")) + ". "
			}
			l.errorAt(codeMissingVariable, v.block.LabelRanges[0], v.header, fmt.Sprintf("variable %q has no value", v.name),
				fmt.Sprintf("%sSet it with --var %s=…, in a --var-file, with %s%s in the environment, or give it a default.", what, v.name, EnvPrefix, v.name))
		}
		return
	}
	at := v.block.LabelRanges[0]
	if !g.isRaw {
		at = g.at
	}
	var val cty.Value
	var ds hcl.Diagnostics
	switch {
	case !g.isRaw:
		val, ds = g.expr.Value(nil)
	case v.ty == cty.String || v.ty == cty.DynamicPseudoType:
		val = cty.StringVal(g.text)
	default:
		val, ds = parseValue(g.text)
	}
	if ds.HasErrors() {
		v.value = cty.DynamicVal
		detail := fmt.Sprintf("It must be written as an HCL value of type %s.", typeexpr.TypeString(v.ty))
		if !g.isRaw {
			detail = "It must be a value by itself, without references or functions."
		}
		l.errorAt(codeBadVariableValue, at, v.header, fmt.Sprintf("the value of var.%s from %s cannot be read", v.name, g.from), detail)
		return
	}
	v.value = l.fit(v, val, at, g.from)
}

// parseValue reads an HCL value without references or functions.
func parseValue(text string) (cty.Value, hcl.Diagnostics) {
	if d := tooComplex("value", []byte(text)); d != nil || len(text) > maxFileBytes {
		return cty.DynamicVal, hcl.Diagnostics{{Severity: hcl.DiagError}}
	}
	e, ds := hclsyntax.ParseExpression([]byte(text), "", hcl.InitialPos)
	if ds.HasErrors() {
		return cty.DynamicVal, ds
	}
	return e.Value(nil)
}

// assignments finds for every variable the value of highest precedence.
func (l *loader) assignments() {
	l.fromEnvironment()
	for _, f := range l.o.VarFiles {
		l.fromFile(f)
	}
	for _, arg := range l.o.Vars {
		name, text, ok := strings.Cut(arg, "=")
		name = strings.TrimSpace(name)
		if !ok || !hclsyntax.ValidIdentifier(name) {
			l.add(Diagnostic{Severity: SeverityError, Code: codeBadAssignment, Summary: "an argument of --var is not NAME=VALUE", Detail: "Write it like --var region=cn-hongkong."})
			continue
		}
		v := l.variables[name]
		if v == nil {
			l.add(Diagnostic{Severity: SeverityError, Code: codeUndeclaredVariable, Summary: fmt.Sprintf("--var %s: no such variable", name), Detail: l.suggestVariable(name)})
			continue
		}
		v.given = &assignment{from: "--var", text: text, isRaw: true}
	}
}

func (l *loader) suggestVariable(name string) string {
	names := make([]string, len(l.varOrder))
	for i, v := range l.varOrder {
		names[i] = v.name
	}
	if near := spell(name, names); near != "" {
		return fmt.Sprintf("Did you mean %q?", near)
	}
	if len(names) == 0 {
		return "The spec declares no variables."
	}
	return "The spec declares " + strings.Join(names, ", ") + "."
}

// fromEnvironment takes MAILFORM_VAR_*. A name that nothing declares may be
// meant for another stack; only a near miss is worth a warning.
func (l *loader) fromEnvironment() {
	for _, kv := range l.o.Environ {
		key, text, ok := strings.Cut(kv, "=")
		name, mine := strings.CutPrefix(key, EnvPrefix)
		if !ok || !mine {
			continue
		}
		if v := l.variables[name]; v != nil {
			v.given = &assignment{from: key, text: text, isRaw: true}
			continue
		}
		for _, v := range l.varOrder {
			if strings.EqualFold(v.name, name) {
				l.add(Diagnostic{Severity: SeverityWarning, Code: codeUndeclaredVariable, Summary: key + " sets no variable",
					Detail: fmt.Sprintf("Names are case-sensitive. Did you mean %s%s?", EnvPrefix, v.name)})
			}
		}
	}
}

func (l *loader) fromFile(name string) {
	text, err := l.files.read(name)
	if err != nil {
		l.add(fileFinding(name, err))
		return
	}
	// No value of a variable file is ever shown: any may be a secret.
	l.src.Add(name, text)
	var attrs hcl.Attributes
	var ds hcl.Diagnostics
	if path.Ext(name) == ".json" {
		if jsonTooDeep(text) {
			l.add(Diagnostic{Severity: SeverityError, Code: codeTooComplex, Summary: name + " is nested too deeply", Detail: fmt.Sprintf("%d levels are allowed.", maxNesting)})
			return
		}
		var f *hcl.File
		f, ds = json.Parse(text, name)
		if f != nil && !ds.HasErrors() {
			attrs, ds = f.Body.JustAttributes()
		}
	} else {
		if d := tooComplex(name, text); d != nil {
			l.add(*d)
			return
		}
		var f *hcl.File
		f, ds = hclsyntax.ParseConfig(text, name, hcl.InitialPos)
		if !ds.HasErrors() {
			attrs, ds = f.Body.JustAttributes()
		}
	}
	l.src.hideValues(name)
	l.hcl(ds, codeBadAssignment, hcl.Range{})
	names := make([]string, 0, len(attrs))
	for n := range attrs {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		a := attrs[n]
		v := l.variables[n]
		if v == nil {
			l.warnAt(codeUndeclaredVariable, a.NameRange, hcl.Range{}, fmt.Sprintf("no variable %q", n), l.suggestVariable(n))
			continue
		}
		v.given = &assignment{from: name, expr: a.Expr, at: a.Expr.Range()}
	}
}

// validate applies one validation rule.
func (l *loader) validate(v *variable, b *hclsyntax.Block) {
	cond, msg := b.Body.Attributes["condition"], b.Body.Attributes["error_message"]
	for name, a := range map[string]*hclsyntax.Attribute{"condition": cond, "error_message": msg} {
		if a == nil {
			l.errorAt(codeMissingAttribute, b.DefRange(), v.header, name+" is missing", "A validation block needs condition and error_message.")
		}
	}
	if cond == nil || msg == nil || v.value.Type() == cty.DynamicPseudoType && !v.value.IsKnown() {
		return
	}
	l.checkExpr(&cond.Expr, v.header, scope{validates: true})
	l.checkExpr(&msg.Expr, v.header, scope{validates: true})
	ok, ds := cond.Expr.Value(l.ctx)
	l.hcl(ds, codeEvaluation, v.header)
	ok, _ = ok.UnmarkDeep()
	if ds.HasErrors() || !ok.IsWhollyKnown() {
		return
	}
	truth, err := convert.Convert(ok, cty.Bool)
	if err != nil || truth.IsNull() {
		l.errorAt(codeWrongType, cond.Expr.Range(), v.header, "condition must be true or false", fmt.Sprintf("The value is %s.", typeWords(ok.Type())))
		return
	}
	if truth.True() {
		return
	}
	detail := "The rule's message cannot be shown because it holds a sensitive value."
	text, ds := msg.Expr.Value(l.ctx)
	l.hcl(ds, codeEvaluation, v.header)
	if s, err := convert.Convert(text, cty.String); err == nil && !ds.HasErrors() && !isSensitive(s) && s.IsKnown() && !s.IsNull() {
		detail = s.AsString()
	}
	if v.given != nil {
		detail += fmt.Sprintf(" The value comes from %s.", v.given.from)
	}
	l.errorAt(codeValidationFailed, v.block.LabelRanges[0], v.header, fmt.Sprintf("the value of var.%s is refused", v.name), detail)
}
