package specs

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// files is a stack in memory: paths below "stack" are the spec's.
type files map[string]string

// options gives LoadOptions that read from memory. Absolute paths and the home
// folder /home/op work as on a disk.
func (f files) options() LoadOptions {
	m := fstest.MapFS{}
	for name, text := range f {
		m[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	clean := func(p string) string { return strings.TrimPrefix(p, "/") }
	return LoadOptions{
		Dir:     "stack",
		Home:    "/home/op",
		ReadDir: func(d string) ([]fs.DirEntry, error) { return m.ReadDir(clean(d)) },
		Open:    func(n string) (fs.File, error) { return m.Open(clean(n)) },
	}
}

// load loads one file of text.
func load(text string) (*Spec, *Sources, Diagnostics) {
	return Load(files{"stack/main.hcl": text}.options())
}

// mustLoad loads text that must have no errors.
func mustLoad(t *testing.T, text string) *Spec {
	t.Helper()
	s, src, ds := load(text)
	if s == nil {
		t.Fatalf("the spec has errors:\n%s", show(src, ds))
	}
	return s
}

func show(src *Sources, ds Diagnostics) string {
	var b strings.Builder
	_ = WriteDiagnostics(&b, src, ds, 100, false)
	return b.String()
}

// osOptions reads a real folder.
func osOptions(dir string) LoadOptions {
	return LoadOptions{Dir: dir, ReadDir: os.ReadDir, Open: func(n string) (fs.File, error) { return os.Open(n) }}
}

// golden compares text with testdata/name, or rewrites that with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	goldenFile(t, filepath.Join("testdata", name), got)
}

// goldenFile does so with any file of the repository.
func goldenFile(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs; rewrite it with -update if this is right. Got:\n%s", path, got)
	}
}

// base is a complete spec that tests add to.
const base = `
stack "acme" {}

host "mx1" {
  hostname = "mail.acme.example"
  address  = "203.0.113.7"
}
`

const goodHash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"
