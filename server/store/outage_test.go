package store

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fullDisk is a disk without room, as long as full says so.
type fullDisk struct {
	osFS
	full atomic.Bool
}

func (d *fullDisk) Free(dir string) (int64, error) {
	if d.full.Load() {
		return 0, nil
	}
	return d.osFS.Free(dir)
}

// A full disk is a line when it begins, one each minute and one when it is over, however
// many messages it refuses.
func TestFullDiskInTheLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	disk := &fullDisk{}
	l, err := Open(t.TempDir(), Options{FS: disk, ReserveBytes: 1, Now: func() time.Time { return now },
		Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx := context.Background()
	if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
		t.Fatal(err)
	}
	deliver := func(n int, want error) {
		t.Helper()
		for range n {
			_, err := l.Deliver(ctx, Delivery{Body: strings.NewReader("x"), Size: 1, Targets: []Target{{Account: "a@b", Mailbox: "INBOX"}}})
			if !errors.Is(err, want) {
				t.Fatalf("%v, want %v", err, want)
			}
		}
	}
	lines := func(want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		out.Reset()
		if len(want) == 0 && len(got) == 1 && got[0] == "" {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d: %q", len(got), len(want), got)
		}
		for i, w := range want {
			for part := range strings.SplitSeq(w, "; ") {
				if !strings.Contains(got[i], part) {
					t.Errorf("got  %s\nwant %s", got[i], part)
				}
			}
		}
	}
	out.Reset() // of the start
	deliver(3, nil)
	lines()
	disk.full.Store(true)
	deliver(100, ErrFull)
	lines("level=ERROR; new mail is refused until the disk takes it; to_do=; 0 octets are free")
	now = now.Add(59 * time.Second)
	deliver(10, ErrFull)
	lines()
	now = now.Add(time.Second)
	deliver(10, ErrFull)
	lines("level=ERROR; still refused; refused=111; since_last=110; for=1m0s")
	// Changes that need next to no room are no sign that it is over.
	now = now.Add(30 * time.Second)
	if _, err := l.UpdateFlags(ctx, "a@b", Named("INBOX"), []UID{1}, FlagsAdd, []string{`\Seen`}); err != nil {
		t.Fatal(err)
	}
	deliver(1, ErrFull)
	disk.full.Store(false)
	deliver(5, nil) // right behind what was refused: a small message may fit where a large one does not
	lines()
	now = now.Add(10 * time.Second)
	deliver(5, nil)
	lines("level=INFO; taken again; refused=121; after=1m40s")
	disk.full.Store(true)
	deliver(2, ErrFull)
	lines("level=ERROR; new mail is refused until")
}
