package alicloud

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unicode"
)

// The published definitions are trimmed and lack disks and snapshot policies. What
// the vendor's own generated client says of an operation stands in for its definition:
// names and types of parameters and fields, without limits. Its source is read,
// not compiled: it would cost minutes.

// generatedClients is where the sources are, "" when the go command does not know.
func generatedClients() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aliyun/alibaba-cloud-sdk-go").Output()
	if err != nil {
		return ""
	}
	return filepath.Join(strings.TrimSpace(string(out)), "services")
}

// fromClient reads one operation's definition from the generated client of a product.
func fromClient(dir, name string) (definition, error) {
	types := map[string]*ast.StructType{}
	if err := readTypes(filepath.Join(dir, snake(name)+".go"), types); err != nil {
		return definition{}, err
	}
	req, resp := types[name+"Request"], types[name+"Response"]
	if req == nil || resp == nil {
		return definition{}, fmt.Errorf("%s: no request or no response", name)
	}
	d := definition{Methods: []string{"post"}, Parameters: map[string]schema{}}
	for _, f := range fields(req) {
		d.Parameters[f.tag("name")] = parameter(f.kind, types)
	}
	var err error
	d.Response, err = answerOf(dir, resp, types)
	return d, err
}

type field struct {
	kind string // the type as written
	tags reflect.StructTag
}

func (f field) tag(name string) string { return f.tags.Get(name) }

func fields(s *ast.StructType) (all []field) {
	for _, f := range s.Fields.List {
		if f.Tag == nil {
			continue
		}
		text, err := strconv.Unquote(f.Tag.Value)
		if err == nil {
			all = append(all, field{typeName(f.Type), reflect.StructTag(text)})
		}
	}
	return all
}

func typeName(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.Ident:
		return t.Name
	case *ast.SelectorExpr:
		return typeName(t.X) + "." + t.Sel.Name
	case *ast.StarExpr:
		return typeName(t.X)
	case *ast.ArrayType:
		return "[]" + typeName(t.Elt)
	}
	return ""
}

func parameter(kind string, types map[string]*ast.StructType) schema {
	if item, list := strings.CutPrefix(kind, "[]"); list {
		s := parameter(item, types)
		return schema{Type: "array", Items: &s}
	}
	switch kind {
	case "requests.Integer":
		return schema{Type: "integer"}
	case "requests.Boolean":
		return schema{Type: "boolean"}
	}
	if s := types[kind]; s != nil {
		o := schema{Type: "object", Properties: map[string]schema{}}
		for _, f := range fields(s) {
			o.Properties[f.tag("name")] = parameter(f.kind, types)
		}
		return o
	}
	return schema{Type: "string"}
}

func answerOf(dir string, s *ast.StructType, types map[string]*ast.StructType) (schema, error) {
	o := schema{Type: "object", Properties: map[string]schema{}}
	for _, f := range fields(s) {
		item, list := strings.CutPrefix(f.kind, "[]")
		var v schema
		switch {
		case item == "string":
			v.Type = "string"
		case item == "bool":
			v.Type = "boolean"
		case strings.HasPrefix(item, "int"), strings.HasPrefix(item, "float"):
			v.Type = "number"
		default:
			if types[item] == nil {
				if err := readTypes(filepath.Join(dir, "struct_"+snake(item)+".go"), types); err != nil {
					return o, err
				}
			}
			var err error
			if v, err = answerOf(dir, types[item], types); err != nil {
				return o, err
			}
		}
		if list {
			element := v
			v = schema{Type: "array", Items: &element}
		}
		o.Properties[f.tag("json")] = v
	}
	return o, nil
}

func readTypes(path string, types map[string]*ast.StructType) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if t, ok := n.(*ast.TypeSpec); ok {
			if s, ok := t.Type.(*ast.StructType); ok {
				types[t.Name.Name] = s
			}
		}
		return true
	})
	return nil
}

// snake is how the vendor names the file of a type.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
