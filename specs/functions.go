package specs

import (
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functionDoc is one function as the reference shows it.
type functionDoc struct {
	name string
	args string
	doc  string
	f    function.Function
}

// functions gives the functions by name.
func (l *loader) functions() map[string]function.Function {
	fs := map[string]function.Function{}
	for _, d := range functionTable(l) {
		fs[d.name] = d.f
	}
	return fs
}

// functionTable lists every function of the language. None of them reads the
// clock, the environment or the network; only file and templatefile read files,
// through the loader, which may be nil for documentation.
func functionTable(l *loader) []functionDoc {
	table := []functionDoc{
		{"abs", "number", "The number without its sign.", stdlib.AbsoluteFunc},
		{"can", "expression", "Whether the expression can be evaluated.", tryfunc.CanFunc},
		{"ceil", "number", "The next whole number above.", stdlib.CeilFunc},
		{"chomp", "string", "The string without newlines at its end.", stdlib.ChompFunc},
		{"chunklist", "list, size", "The list in pieces of that size.", stdlib.ChunklistFunc},
		{"cidrhost", "network, number", "The address with that number in the network; negative numbers count from its end.", cidrHostFunc()},
		{"cidrsubnet", "network, bits, number", "The subnet with that number, when the network's prefix grows by so many bits.", cidrSubnetFunc()},
		{"cloudflare_ips", "", "The networks of Cloudflare's proxies as published at https://www.cloudflare.com/ips/ (" + cloudflareIPsDate + ").", cloudflareIPsFunc()},
		{"coalesce", "values…", "The first that is neither null nor an empty string.", coalesceFunc()},
		{"coalescelist", "lists…", "The first list that is not empty.", stdlib.CoalesceListFunc},
		{"compact", "list", "The list of strings without empty ones.", stdlib.CompactFunc},
		{"concat", "lists…", "One list after the other.", stdlib.ConcatFunc},
		{"contains", "list, value", "Whether the value is in the list.", stdlib.ContainsFunc},
		{"csvdecode", "string", "A list of objects, one for each line of CSV text; the first line names the attributes.", csvFunc()},
		{"distinct", "list", "The list with each value once.", stdlib.DistinctFunc},
		{"element", "list, index", "The element at that index, counted around.", stdlib.ElementFunc},
		{"endswith", "string, suffix", "Whether the string ends so.", testFunc("suffix", strings.HasSuffix)},
		{"file", "path", "The text of a file; the path starts from the stack's folder, ~/ from your home.", fileFunc(l)},
		{"flatten", "list", "Lists inside the list replaced by their elements.", stdlib.FlattenFunc},
		{"floor", "number", "The next whole number below.", stdlib.FloorFunc},
		{"format", "spec, values…", "Text with values in it: format(\"%s-%02d\", \"mx\", 1).", limitWidth(stdlib.FormatFunc)},
		{"formatlist", "spec, lists…", "format for each element.", limitWidth(stdlib.FormatListFunc)},
		{"indent", "spaces, string", "Every line but the first moved to the right.", limitIndent(stdlib.IndentFunc)},
		{"join", "separator, list", "The strings of the list in one.", stdlib.JoinFunc},
		{"jsondecode", "string", "The value a JSON text stands for.", jsonFunc()},
		{"jsonencode", "value", "The value as JSON text.", stdlib.JSONEncodeFunc},
		{"keys", "map", "The names, sorted.", stdlib.KeysFunc},
		{"length", "value", "How many elements, or characters of a string.", lengthFunc()},
		{"lookup", "map, key, default", "The value of that key, or the default.", stdlib.LookupFunc},
		{"lower", "string", "In lower case.", stdlib.LowerFunc},
		{"max", "numbers…", "The largest.", stdlib.MaxFunc},
		{"merge", "maps…", "One map of all; later ones win.", stdlib.MergeFunc},
		{"min", "numbers…", "The smallest.", stdlib.MinFunc},
		{"nonsensitive", "value", "The value, no longer treated as a secret.", nonsensitiveFunc()},
		{"parseint", "string, base", "The number that the digits stand for.", stdlib.ParseIntFunc},
		{"range", "start, limit, step", "Numbers from start, before limit. At most 1024.", stdlib.RangeFunc},
		{"regex", "pattern, string", "The first match: text, list of groups or map of named groups.", stdlib.RegexFunc},
		{"regexall", "pattern, string", "All matches.", stdlib.RegexAllFunc},
		{"replace", "string, old, new", "Every old replaced by new; /old/ is a regular expression.", replaceFunc()},
		{"reverse", "list", "The list from its end.", stdlib.ReverseListFunc},
		{"sensitive", "value", "The value, treated as a secret.", sensitiveFunc()},
		{"setintersection", "sets…", "What is in all of them.", stdlib.SetIntersectionFunc},
		{"setproduct", "lists…", "Every combination, at most 100,000.", limitProduct(stdlib.SetProductFunc)},
		{"setsubtract", "a, b", "What is in a and not in b.", stdlib.SetSubtractFunc},
		{"setunion", "sets…", "What is in any of them.", stdlib.SetUnionFunc},
		{"slice", "list, start, end", "The elements from start, before end.", stdlib.SliceFunc},
		{"sort", "list", "The strings in order.", stdlib.SortFunc},
		{"split", "separator, string", "The parts of the string.", stdlib.SplitFunc},
		{"startswith", "string, prefix", "Whether the string begins so.", testFunc("prefix", strings.HasPrefix)},
		{"strrev", "string", "The string from its end.", stdlib.ReverseFunc},
		{"substr", "string, offset, length", "A piece of the string.", stdlib.SubstrFunc},
		{"templatefile", "path, vars", "The text of a template file, in which ${NAME} and %{ for … } use the variables given and every function but templatefile and sensitive. What a sensitive variable goes into is sensitive.", templateFunc(l)},
		{"title", "string", "Each Word With A Capital.", stdlib.TitleFunc},
		{"tobool", "value", "As true or false.", stdlib.MakeToFunc(cty.Bool)},
		{"tolist", "value", "As a list.", stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType))},
		{"tomap", "value", "As a map.", stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType))},
		{"tonumber", "value", "As a number.", stdlib.MakeToFunc(cty.Number)},
		{"toset", "value", "As a set: each value once, in order.", stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType))},
		{"tostring", "value", "As a string.", stdlib.MakeToFunc(cty.String)},
		{"trim", "string, characters", "Without these characters at both ends.", stdlib.TrimFunc},
		{"trimprefix", "string, prefix", "Without that beginning.", stdlib.TrimPrefixFunc},
		{"trimspace", "string", "Without blanks and newlines at both ends.", stdlib.TrimSpaceFunc},
		{"trimsuffix", "string, suffix", "Without that end.", stdlib.TrimSuffixFunc},
		{"try", "expressions…", "The first that can be evaluated.", tryfunc.TryFunc},
		{"upper", "string", "In upper case.", stdlib.UpperFunc},
		{"values", "map", "The values, in the order of their names.", stdlib.ValuesFunc},
		{"zipmap", "keys, values", "A map of the two lists.", stdlib.ZipmapFunc},
	}
	sort.Slice(table, func(i, j int) bool { return table[i].name < table[j].name })
	return table
}

func fileFunc(l *loader) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			_, b, err := l.readText(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(string(b)), nil
		},
	})
}

// readText reads a file that a function names. The error says which and why not.
func (l *loader) readText(p string) (name string, text []byte, err error) {
	if l.o.Home == "" && (p == "~" || strings.HasPrefix(p, "~/")) {
		return "", nil, fmt.Errorf("%s: the home folder is not known", p)
	}
	name = l.resolve(p)
	text, err = l.files.read(name)
	switch {
	case errors.Is(err, errTooLarge):
		return "", nil, fmt.Errorf("%s is too large; %s", name, lowerFirst(strings.TrimSuffix(tooLargeText, ".")))
	case err != nil:
		return "", nil, fmt.Errorf("%s cannot be read: %w", name, err)
	case !utf8.Valid(text):
		return "", nil, fmt.Errorf("%s is not UTF-8 text", name)
	}
	return name, text, nil
}

// csvFunc is csvdecode that forgives the byte order mark spreadsheets write.
func csvFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "str", Type: cty.String}},
		Type: func(args []cty.Value) (cty.Type, error) {
			return stdlib.CSVDecodeFunc.ReturnTypeForValues([]cty.Value{withoutBOM(args[0])})
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return stdlib.CSVDecodeFunc.Call([]cty.Value{withoutBOM(args[0])})
		},
	})
}

func withoutBOM(v cty.Value) cty.Value {
	if !v.IsKnown() {
		return v
	}
	return cty.StringVal(strings.TrimPrefix(v.AsString(), "\ufeff"))
}

// jsonFunc is jsondecode with a limit on nesting.
func jsonFunc() function.Function {
	check := func(v cty.Value) error {
		if v.IsKnown() && jsonTooDeep([]byte(v.AsString())) {
			return function.NewArgErrorf(0, "the JSON text is nested deeper than %d levels", maxNesting)
		}
		return nil
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "str", Type: cty.String}},
		Type: func(args []cty.Value) (cty.Type, error) {
			if err := check(args[0]); err != nil {
				return cty.NilType, err
			}
			return stdlib.JSONDecodeFunc.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return stdlib.JSONDecodeFunc.Call(args) },
	})
}

// guarded runs a check on a function's known arguments before the function itself.
func guarded(f function.Function, check func(args []cty.Value) error) function.Function {
	var params []function.Parameter
	for _, p := range f.Params() {
		p.AllowMarked = true // the function itself unmarks what it must
		params = append(params, p)
	}
	rest := f.VarParam()
	if rest != nil {
		r := *rest
		r.AllowMarked = true
		rest = &r
	}
	run := func(args []cty.Value) error {
		plain := make([]cty.Value, len(args))
		for i, a := range args {
			plain[i], _ = a.UnmarkDeep()
		}
		return check(plain)
	}
	return function.New(&function.Spec{
		Params: params, VarParam: rest,
		Type: func(args []cty.Value) (cty.Type, error) {
			if err := run(args); err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(args) },
	})
}

var widthRE = regexp.MustCompile(`[0-9]{4,}`)

// limitWidth refuses format verbs wider than any text needs.
func limitWidth(f function.Function) function.Function {
	return guarded(f, func(args []cty.Value) error {
		if len(args) > 0 && args[0].IsKnown() && !args[0].IsNull() && args[0].Type() == cty.String &&
			strings.Contains(args[0].AsString(), "%") && widthRE.MatchString(args[0].AsString()) {
			for _, verb := range strings.Split(args[0].AsString(), "%")[1:] {
				if at := widthRE.FindStringIndex(verb); at != nil && strings.Trim(verb[:at[0]], "+-# 0123456789.[]*") == "" {
					return function.NewArgErrorf(0, "a width or precision may have three digits")
				}
			}
		}
		return nil
	})
}

func limitIndent(f function.Function) function.Function {
	return guarded(f, func(args []cty.Value) error {
		if args[0].IsKnown() && !args[0].IsNull() && args[0].GreaterThan(cty.NumberIntVal(1000)).True() {
			return function.NewArgErrorf(0, "at most 1000 spaces")
		}
		return nil
	})
}

func limitProduct(f function.Function) function.Function {
	return guarded(f, func(args []cty.Value) error {
		n := 1
		for _, a := range args {
			if a.IsKnown() && !a.IsNull() && a.CanIterateElements() {
				if n *= max(a.LengthInt(), 1); n > 100_000 {
					return errors.New("the product has more than 100,000 elements")
				}
			}
		}
		return nil
	})
}

// lengthFunc also counts the characters of a string.
func lengthFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true, AllowUnknown: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			ty := args[0].Type()
			if ty == cty.String || ty == cty.DynamicPseudoType || ty.IsTupleType() || ty.IsObjectType() || ty.IsCollectionType() {
				return cty.Number, nil
			}
			return cty.NilType, function.NewArgErrorf(0, "a string, list, set, map or object is needed")
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			switch v := args[0]; {
			case v.Type() == cty.DynamicPseudoType:
				return cty.UnknownVal(cty.Number), nil
			case v.Type() == cty.String:
				return stdlib.Strlen(v)
			case v.Type().IsTupleType():
				return cty.NumberIntVal(int64(v.Type().Length())), nil
			case v.Type().IsObjectType():
				return cty.NumberIntVal(int64(len(v.Type().AttributeTypes()))), nil
			default:
				return v.Length(), nil
			}
		},
	})
}

// coalesceFunc also passes over empty strings, which is what CSV cells give.
func coalesceFunc() function.Function {
	return function.New(&function.Spec{
		VarParam: &function.Parameter{Name: "values", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowDynamicType: true},
		Type: func(args []cty.Value) (cty.Type, error) {
			types := make([]cty.Type, len(args))
			for i, a := range args {
				types[i] = a.Type()
			}
			ty, _ := convert.UnifyUnsafe(types)
			if ty == cty.NilType {
				return cty.NilType, errors.New("all values must have the same type")
			}
			return ty, nil
		},
		Impl: func(args []cty.Value, ty cty.Type) (cty.Value, error) {
			for _, a := range args {
				if !a.IsKnown() {
					return cty.UnknownVal(ty), nil
				}
				if a.IsNull() || a.Type() == cty.String && a.AsString() == "" {
					continue
				}
				return convert.Convert(a, ty)
			}
			return cty.NilVal, errors.New("all values are null or empty")
		},
	})
}

func testFunc(what string, test func(s, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "string", Type: cty.String}, {Name: what, Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(test(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

// replaceFunc takes /…/ as a regular expression, as Terraform does.
func replaceFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "string", Type: cty.String}, {Name: "old", Type: cty.String}, {Name: "new", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, old, repl := args[0].AsString(), args[1].AsString(), args[2].AsString()
			out := ""
			if len(old) > 1 && old[0] == '/' && old[len(old)-1] == '/' {
				re, err := regexp.Compile(old[1 : len(old)-1])
				if err != nil {
					return cty.NilVal, function.NewArgErrorf(1, "not a regular expression")
				}
				out = re.ReplaceAllString(s, repl)
			} else {
				if n := strings.Count(s, old); n*len(repl) > maxValue {
					return cty.NilVal, fmt.Errorf("the result would exceed %s", formatSize(maxValue))
				}
				out = strings.ReplaceAll(s, old, repl)
			}
			return cty.StringVal(out), nil
		},
	})
}

func sensitiveFunc() function.Function {
	return markFunc(func(v cty.Value) cty.Value { return v.Mark(sensitive) })
}

func nonsensitiveFunc() function.Function {
	return markFunc(func(v cty.Value) cty.Value { v, _ = v.UnmarkDeep(); return v })
}

func markFunc(mark func(cty.Value) cty.Value) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowUnknown: true, AllowNull: true, AllowMarked: true, AllowDynamicType: true}},
		Type:   func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
		Impl:   func(args []cty.Value, _ cty.Type) (cty.Value, error) { return mark(args[0]), nil },
	})
}

// cloudflareIPsDate is when the lists below were last compared with
// https://www.cloudflare.com/ips-v4 and /ips-v6.
const cloudflareIPsDate = "list of 2023-09-28"

func cloudflareIPsFunc() function.Function {
	return function.New(&function.Spec{
		Type: function.StaticReturnType(cty.List(cty.String)),
		Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
			networks := cloudflareIPs()
			vs := make([]cty.Value, len(networks))
			for i, n := range networks {
				vs[i] = cty.StringVal(n)
			}
			return cty.ListVal(vs), nil
		},
	})
}

// cloudflareIPs are the networks from which Cloudflare's proxies connect.
func cloudflareIPs() []string {
	return []string{
		"173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22", "141.101.64.0/18",
		"108.162.192.0/18", "190.93.240.0/20", "188.114.96.0/20", "197.234.240.0/22", "198.41.128.0/17",
		"162.158.0.0/15", "104.16.0.0/13", "104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22",
		"2400:cb00::/32", "2606:4700::/32", "2803:f800::/32", "2405:b500::/32", "2405:8100::/32",
		"2a06:98c0::/29", "2c0f:f248::/32",
	}
}

// signature is how the reference writes a function.
func (d functionDoc) signature() string { return d.name + "(" + d.args + ")" }

// quoteIfText renders a default value for the reference.
func quoteIfText(v cty.Value) string {
	switch {
	case v == cty.NilVal:
		return ""
	case v.Type() == cty.String:
		return strconv.Quote(v.AsString())
	case v.Type() == cty.Bool:
		return strconv.FormatBool(v.True())
	case v.Type() == cty.Number:
		return v.AsBigFloat().Text('f', -1)
	}
	var parts []string
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		parts = append(parts, quoteIfText(e))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
