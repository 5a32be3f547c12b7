// Package vendortest is what the tests of the vendors' providers share: where the
// vendors' published definitions are, and whether every behaviour of a vendor has a
// test. Only tests import it, and it imports nothing of mailform.
package vendortest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Definitions is the folder with the vendors' published definitions: the one that
// MAILFORM_VENDOR_API names, or shared/vendor-api beside one of the folders above; ""
// when there is none.
func Definitions() string {
	if dir := os.Getenv("MAILFORM_VENDOR_API"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	for err == nil {
		shared := filepath.Join(dir, "shared", "vendor-api")
		if _, err := os.Stat(shared); err == nil {
			return shared
		}
		up := filepath.Dir(dir)
		if up == dir {
			break
		}
		dir = up
	}
	return ""
}

// Behaviours makes sure that each behaviour names tests that are there, and that none
// of those on the page that gathers them is left out. They are numbered with a letter,
// as in "A12"; folders are where tests are, by what stands before their names.
func Behaviours(t *testing.T, letter string, behaviours map[string][]string, folders map[string]string) {
	t.Helper()
	there := map[string]bool{}
	for prefix, dir := range folders {
		for _, name := range testsIn(t, dir) {
			there[prefix+name] = true
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(behaviours)) {
		if len(behaviours[rule]) == 0 {
			t.Errorf("%s has no test", rule)
		}
		for _, name := range behaviours[rule] {
			if !there[name] {
				t.Errorf("%s: there is no %s", rule, name)
			}
		}
	}
	dir := Definitions()
	if dir == "" {
		t.Skip("the page of the vendors' behaviours is not here (set MAILFORM_VENDOR_API)")
	}
	page, err := os.ReadFile(filepath.Join(dir, "BEHAVIOUR.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (`+letter+`\d+) \|`).FindAllStringSubmatch(string(page), -1)
	if len(rows) == 0 {
		t.Error("the page has no behaviours")
	}
	for _, row := range rows {
		if behaviours[row[1]] == nil {
			t.Errorf("%s is on the page and has no test", row[1])
		}
	}
}

// testsIn are the names of the tests of a folder.
func testsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(dir, err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}
