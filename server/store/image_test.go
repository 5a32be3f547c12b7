package store_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailform/server/store"
)

// An image stays readable, and is the store of its moment, whatever is expunged,
// written and checkpointed before it is closed; then what it kept is removed.
func TestImage(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	opt := store.Options{SegmentBytes: 4000, MemoryBody: 500, CheckpointBytes: 6000, ReserveBytes: -1}
	l, err := store.Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer closeLog(t, l)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		must(l.EnsureAccount(ctx, fmt.Sprintf("a%d@example.org", i), 0))
	}
	fill := func() {
		for n := range 40 {
			text := strings.Repeat("x", 100+40*n)
			_, err := l.Deliver(ctx, store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)),
				Targets: []store.Target{{Account: "a0@example.org", Mailbox: "INBOX", Flags: []string{`\Deleted`}}}})
			must(err)
		}
	}
	fill()
	want := everything(t, l)
	im, err := l.Image(ctx)
	must(err)
	for range 3 {
		_, err = l.Expunge(ctx, "a0@example.org", store.Named("INBOX"), nil)
		must(err)
		fill()
	}
	to := t.TempDir()
	for _, f := range im.Files {
		in, err := im.Open(f)
		must(err)
		text, err := io.ReadAll(io.NewSectionReader(in, 0, f.Size))
		must(err)
		must(in.Close())
		if int64(len(text)) != f.Size {
			t.Errorf("%s has %d octets, the image says %d", f.Name, len(text), f.Size)
		}
		must(os.MkdirAll(filepath.Dir(filepath.Join(to, f.Name)), 0o700))
		must(os.WriteFile(filepath.Join(to, f.Name), text, 0o600))
	}
	there := func() (n int) {
		for _, f := range im.Files {
			if _, err := os.Stat(filepath.Join(dir, f.Name)); err == nil && strings.HasSuffix(f.Name, ".body") {
				n++
			}
		}
		return n
	}
	before := there()
	must(im.Close())
	if after := there(); before == 0 || after != 0 {
		t.Errorf("bodies of expunged messages: %d while the image was open, %d afterwards", before, after)
	}
	must(l.Check(ctx))

	c, err := store.Open(to, opt)
	must(err)
	defer closeLog(t, c)
	if d := c.Damage(); len(d) > 0 {
		t.Errorf("the copy has damage: %v", d)
	}
	must(c.Check(ctx))
	if got := everything(t, c); got != want {
		t.Errorf("the copy has\n%s\nwant\n%s", got, want)
	}
}
