// Package mailform_test holds the structure of the whole repository.
package mailform_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mayImport lists, for each top-level folder, which others it may import.
// Imports run one way: cmd -> apply, providers -> plan -> specs.
var mayImport = map[string][]string{
	"cmd":   {"cmd", "apply", "providers", "plan", "specs", "server"},
	"apply": {"apply", "plan", "specs"},
	// Of server, providers may use the leaves (see TestLeaves).
	"providers": {"providers", "plan", "specs", "server/manifest", "server/bucket"},
	"plan":      {"plan", "specs"},
	"specs":     {"specs"},
	"server":    {"server"},
}

// pure lists what packages without I/O, clock and randomness may not import.
var pure = map[string][]string{
	"specs": {"net/http", "os", "os/exec", "math/rand", "math/rand/v2", "crypto/rand"},
	"plan":  {"net/http", "os", "os/exec", "math/rand", "math/rand/v2", "crypto/rand"},
}

func TestImportsRunOneWay(t *testing.T) {
	eachFile(t, func(path string, imports []string) {
		top, _, _ := strings.Cut(path, "/")
		allowed, known := mayImport[top]
		if !known {
			return
		}
		for _, imp := range imports {
			if rest, ours := strings.CutPrefix(imp, "mailform/"); ours {
				if !within(rest, allowed) {
					t.Errorf("%s imports %s: %s may import only %v", path, imp, top, allowed)
				}
				continue
			}
			for _, banned := range pure[top] {
				if imp == banned {
					t.Errorf("%s imports %s: %s does no I/O and draws no randomness", path, imp, top)
				}
			}
		}
	})
}

// The two commands are each other's strangers: mailform has no server inside but
// its manifest, mailformd has no specs and no providers.
func TestCommandsKeepApart(t *testing.T) {
	eachFile(t, func(path string, imports []string) {
		var allowed []string
		switch {
		case strings.HasPrefix(path, "cmd/mailform/"):
			allowed = []string{"cmd/mailform", "apply", "providers", "plan", "specs", "server/manifest", "server/account"}
		case strings.HasPrefix(path, "cmd/mailformd/"):
			allowed = []string{"cmd/mailformd", "server"}
		default:
			return
		}
		for _, imp := range imports {
			if rest, ours := strings.CutPrefix(imp, "mailform/"); ours && !within(rest, allowed) {
				t.Errorf("%s imports %s: it may import only %v", path, imp, allowed)
			}
		}
	})
}

// What both sides of the house share imports nothing of either: the documents
// they exchange, and the client for the object storage that holds one side's
// lock and the other's backups.
func TestLeaves(t *testing.T) {
	eachFile(t, func(path string, imports []string) {
		if !within(filepath.Dir(path), []string{"server/manifest", "server/bucket"}) {
			return
		}
		for _, imp := range imports {
			if strings.HasPrefix(imp, "mailform/") {
				t.Errorf("%s imports %s: it may import nothing of mailform", path, imp)
			}
		}
	})
}

// No package registers itself: main wires everything.
func TestNoInitFunctions(t *testing.T) {
	fset := token.NewFileSet()
	eachFile(t, func(path string, _ []string) {
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if name, pos := funcName(decl); name == "init" {
				t.Errorf("%s: init function", fset.Position(pos))
			}
		}
	})
}

func within(path string, folders []string) bool {
	for _, f := range folders {
		if path == f || strings.HasPrefix(path, f+"/") {
			return true
		}
	}
	return false
}

// eachFile visits every Go file that is not a test, with its imports.
func eachFile(t *testing.T, visit func(path string, imports []string)) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		var imports []string
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, imp)
		}
		visit(filepath.ToSlash(path), imports)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func funcName(decl ast.Decl) (string, token.Pos) {
	if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
		return f.Name.Name, f.Pos()
	}
	return "", token.NoPos
}
