package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"mailform/server/store"
)

// TestReadOnly works on a store whose end is torn without changing a file of it.
func TestReadOnly(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	opt := store.Options{SegmentBytes: 4000, MemoryBody: 1500, CheckpointBytes: 5000}
	l, err := store.Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorkers(7, 1)[0]
	if err := ensure(ctx, l, []*worker{w}); err != nil {
		t.Fatal(err)
	}
	if err := w.run(ctx, l, 100); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	logs, err := filepath.Glob(filepath.Join(dir, "log", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(logs[len(logs)-1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 5001)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	content := func() map[string]string {
		files := map[string]string{}
		if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				b, rerr := os.ReadFile(path)
				files[path], err = string(b), rerr
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return files
	}
	before := content()
	opt.FS = store.ReadOnly()
	for range 3 { // what was written in memory is there when it is opened again
		if l, err = store.Open(dir, opt); err != nil {
			t.Fatal(err)
		}
		if err := w.verify(ctx, l); err != nil {
			t.Fatal(err)
		}
		if err := w.run(ctx, l, 100); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Compact(ctx, store.CompactOptions{MaxLive: 0.9}); err != nil {
			t.Fatal(err)
		}
		if err := l.Check(ctx); err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
	}
	after := content()
	for name, b := range after {
		if before[name] != b {
			t.Errorf("%s was changed", name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files, there were %d", len(after), len(before))
	}
	opt.FS = store.ReadOnly()
	if _, err := store.Open(filepath.Join(dir, "none"), opt); err == nil {
		t.Error("a store that is not there was opened")
	}
}
