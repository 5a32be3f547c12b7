package store_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"mailform/server/store"
)

// residentOf is how many KiB of a file count as the process's memory.
func residentOf(t *testing.T, path string) (sum int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	within := false
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) >= 5 && strings.Contains(f[0], "-") {
			within = strings.HasSuffix(strings.TrimSpace(line), path)
		}
		if within && len(f) == 3 && f[0] == "Rss:" {
			n := 0
			if _, err := fmt.Sscan(f[1], &n); err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// To read a large mailbox does not leave the index file in the process's memory: at a
// start all mailboxes are looked at.
func TestLargeMailboxGivesIndexBack(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	open := func() *store.Log {
		l, err := store.Open(dir, store.Options{ReserveBytes: -1})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	fill := func(account string, n int) {
		if err := l.EnsureAccount(ctx, account, 0); err != nil {
			t.Fatal(err)
		}
		list := make([]store.Incoming, n)
		for i := range list {
			list[i] = store.Incoming{Mailbox: "INBOX", Body: strings.NewReader("x"), Size: 1}
		}
		if _, err := l.Import(ctx, account, list); err != nil {
			t.Fatal(err)
		}
	}
	fill("small@b", 2_000)
	fill("large@b", 10_000)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open()
	defer l.Close()
	l.TendIndex()
	at := func(account string) int {
		snap, watch, err := l.Open(ctx, account, "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		defer watch.Close()
		if snap.Messages.Len() < 2_000 {
			t.Fatal(snap.Messages.Len())
		}
		return residentOf(t, dir+"/index.db")
	}
	small := at("small@b")
	if small == 0 {
		t.Error("to read a small mailbox takes no memory of the index file, so this test shows nothing")
	}
	if large := at("large@b"); large > small {
		t.Errorf("%d KiB of the index file after a large mailbox was read, %d after a small one", large, small)
	}
}
