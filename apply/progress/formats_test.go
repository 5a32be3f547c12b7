package progress

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestFormatsAreDescribed holds FORMATS.md to the types that are marshalled: every
// key with its type and the comment that stands beside it in the code, which must
// not be missing. go test ./apply/progress -update writes the page.
func TestFormatsAreDescribed(t *testing.T) {
	d := formats{t: t, types: map[string]*declared{}, values: map[string][]string{}}
	d.load("../../specs")
	d.load("../../plan")
	d.load("..")
	d.load(".")
	d.load("../../cmd/mailform/internal/rehearsal")
	d.load("../../cmd/mailform/internal/baddays")
	d.load("../../cmd/mailform")
	d.page.WriteString(`<!-- Written by go test ./apply/progress -update from the comments in the code. -->
# Documents for other programs

What mailform prints with ` + "`--json`" + `. Each document says its version. New keys may come under the same version;
a key that is there keeps its meaning. Text for people may change at any time.
`)
	for _, root := range []struct{ title, name string }{
		{"A plan", "plan.jsonPlan"}, {"A drift", "plan.jsonDrift"}, {"What is there", "plan.jsonViews"},
		{"The graph of a plan", "plan.jsonGraph"}, {"The events of an apply", "progress.JSONEvent"},
		{"Findings in a spec", "specs.jsonReport"}, {"The locks", "main.locksView"},
		{"The state of the hosts", "main.statusDocument"}, {"What the servers log", "main.logged"}, {"Removed mailboxes", "main.retainedDocument"},
		{"An erased mailbox", "main.erasedDocument"}, {"Banned clients", "main.bansDocument"},
		{"A rehearsal", "main.rehearsalResult"},
		{"A rehearsal of bad days", "main.faultsResult"},
	} {
		fmt.Fprintf(&d.page, "\n## %s\n\n%s\n", root.title, d.prose(root.name))
		d.done = map[string]bool{}
		d.table(root.name, "")
	}
	const path = "../../FORMATS.md"
	if *update {
		if err := os.WriteFile(path, []byte(d.page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != d.page.String() {
		t.Errorf("%s does not say what the code does: go test ./apply/progress -update writes it (%v)", path, err)
	}
}

// formats collects the declarations of the packages whose types are marshalled.
type formats struct {
	t      *testing.T
	page   strings.Builder
	types  map[string]*declared
	values map[string][]string // by named type: its constants, with their comments
	done   map[string]bool     // types that have their table in this section
}

type declared struct {
	doc  string
	expr ast.Expr
	pkg  string
}

func (d *formats) load(dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, decl := range f.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					d.types[f.Name.Name+"."+s.Name.Name] = &declared{gen.Doc.Text(), s.Type, f.Name.Name}
				case *ast.ValueSpec:
					typ, ok := s.Type.(*ast.Ident)
					if !ok || len(s.Values) != 1 {
						continue
					}
					if lit, ok := s.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
						text, _ := strconv.Unquote(lit.Value)
						key := f.Name.Name + "." + typ.Name
						d.values[key] = append(d.values[key], strconv.Quote(text)+remark(s.Comment))
					}
				}
			}
		}
	}
}

func remark(c *ast.CommentGroup) string {
	if text := oneLine(c.Text()); text != "" {
		return " (" + text + ")"
	}
	return ""
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// prose is a type's comment, without the name it begins with in Go.
func (d *formats) prose(name string) string {
	decl := d.types[name]
	if decl == nil {
		d.t.Fatalf("there is no type %s", name)
	}
	_, short, _ := strings.Cut(name, ".")
	text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(decl.doc), short+" is "))
	if text == "" {
		d.t.Errorf("%s has no comment", name)
		return ""
	}
	var out []string
	for _, line := range strings.Split(strings.ToUpper(text[:1])+text[1:], "\n") {
		out = append(out, strings.Replace(line, "\t", "    ", 1))
	}
	return strings.Join(out, "\n")
}

// table writes one struct and then those it holds.
func (d *formats) table(name, title string) {
	if d.done[name] {
		return
	}
	d.done[name] = true
	s, ok := d.types[name].expr.(*ast.StructType)
	if !ok {
		d.t.Fatalf("%s is no struct", name)
	}
	if title != "" {
		fmt.Fprintf(&d.page, "\n### %s\n", title)
	}
	d.page.WriteString("\n| key | type | meaning |\n|---|---|---|\n")
	var next []string
	for _, f := range s.Fields.List {
		if f.Tag == nil {
			continue
		}
		tag, _ := strconv.Unquote(f.Tag.Value)
		key, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		if key == "" || key == "-" {
			continue
		}
		text := oneLine(f.Comment.Text())
		if text == "" {
			text = oneLine(f.Doc.Text())
			// "EstimateMS, with begin, is …" begins with the field's name in Go.
			if len(f.Names) > 0 {
				text = strings.TrimPrefix(strings.TrimPrefix(text, f.Names[0].Name), ", ")
			}
		}
		if text == "" {
			d.t.Errorf("%s: the key %q is not described", name, key)
		}
		typ, held, values := d.describe(d.types[name].pkg, f.Type)
		if len(values) > 0 {
			text += ": " + strings.Join(values, ", ")
		}
		fmt.Fprintf(&d.page, "| `%s` | %s | %s |\n", key, typ, strings.TrimSpace(strings.ReplaceAll(text, "|", "\\|")))
		if held != "" && !slices.Contains(next, held) {
			next = append(next, held)
		}
	}
	for _, held := range next {
		d.table(held, d.title(held))
	}
}

// title names a struct for readers: jsonChange is "change", hostView "host".
func (d *formats) title(name string) string {
	_, short, _ := strings.Cut(name, ".")
	short = strings.TrimPrefix(strings.TrimPrefix(short, "json"), "JSON")
	if held := strings.TrimSuffix(short, "View"); held != "" {
		short = held
	}
	return strings.ToLower(short)
}

// describe says what JSON a Go type becomes, which struct it holds, and which
// values it can have.
func (d *formats) describe(pkg string, e ast.Expr) (typ, held string, values []string) {
	switch e := e.(type) {
	case *ast.StarExpr:
		typ, held, values = d.describe(pkg, e.X)
		return typ + " or null", held, values
	case *ast.ArrayType:
		typ, held, values = d.describe(pkg, e.Elt)
		return "array of " + typ, held, values
	case *ast.MapType:
		typ, held, values = d.describe(pkg, e.Value)
		return "object of " + typ, held, values
	case *ast.SelectorExpr:
		if from := e.X.(*ast.Ident).Name; from+"."+e.Sel.Name != "time.Time" {
			return d.describe(from, e.Sel)
		}
		return "string, RFC 3339", "", nil
	case *ast.Ident:
		switch e.Name {
		case "string":
			return "string", "", nil
		case "bool":
			return "boolean", "", nil
		case "int", "int64", "float64":
			return "number", "", nil
		case "publicValue":
			return "value", "", nil
		case "publicAttrs":
			return "object of values or null", "", nil
		}
		name := pkg + "." + e.Name
		decl := d.types[name]
		if decl == nil {
			break
		}
		if _, ok := decl.expr.(*ast.StructType); ok {
			return "object, [" + d.title(name) + "](#" + d.title(name) + ")", name, nil
		}
		typ, held, _ = d.describe(pkg, decl.expr)
		return typ, held, d.values[name]
	}
	d.t.Fatalf("what does %s.%v become in JSON?", pkg, e)
	return "", "", nil
}
