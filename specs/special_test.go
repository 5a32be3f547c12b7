package specs

import (
	"io/fs"
	"testing"
	"testing/fstest"
)

// A pipe named like a spec must not make a command wait for ever.
func TestSpecialFilesAreNotRead(t *testing.T) {
	files := fstest.MapFS{"pipe.hcl": {Mode: fs.ModeNamedPipe | 0o644}}
	_, _, ds := Load(LoadOptions{
		Dir:     ".",
		ReadDir: func(dir string) ([]fs.DirEntry, error) { return fs.ReadDir(files, dir) },
		Open: func(name string) (fs.File, error) {
			t.Errorf("%s was opened", name)
			return files.Open(name)
		},
	})
	if len(ds) != 1 || ds[0].Code != codeUnreadable || ds[0].Summary != "cannot read pipe.hcl" {
		t.Errorf("got %+v", ds)
	}
}
