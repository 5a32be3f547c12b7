package search

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailform/server/store"
)

// resident is how many KiB of files in a directory count as the process's memory.
func resident(t *testing.T, dir string) (sum int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	must(t, err)
	within := false
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) >= 5 && strings.Contains(f[0], "-") {
			within = strings.Contains(line, dir)
		}
		if within && len(f) == 3 && f[0] == "Rss:" {
			n := 0
			_, err := fmt.Sscan(f[1], &n)
			must(t, err)
			sum += n
		}
	}
	return sum
}

// An index takes memory while it is asked, and its files none as soon as it is not.
func TestTrim(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir)
	for i := range 300 {
		must(t, x.Add(ref(i+1), message(fmt.Sprintf("Subject: number %d", i), strings.Repeat(fmt.Sprintf("word%d other%d ", i, i*7), 200))))
	}
	must(t, x.Flush())
	if n := resident(t, dir); n != 0 {
		t.Errorf("%d KiB right after it was written and read", n)
	}
	find := func() {
		t.Helper()
		h, err := x.Find(Body, Fold("word77"))
		must(t, err)
		defer h.Close()
		if h.Of(ref(78)) != Yes || h.Of(ref(79)) != No {
			t.Error("a word is not found as it should be")
		}
	}
	find()
	if n := resident(t, dir); n == 0 {
		t.Error("a search takes no memory, so this test shows nothing")
	}
	x.Trim()
	if n := resident(t, dir); n != 0 {
		t.Errorf("%d KiB after it was trimmed", n)
	}
	find()
	must(t, x.Close())
}

// At a start all accounts are gone through, and their indexes are not all left open;
// one that somebody asks stays open for a while, and gives its memory back before.
func TestStartIsModest(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir+"/store", store.Options{ReserveBytes: -1})
	must(t, err)
	defer s.Close()
	ctx := context.Background()
	must(t, s.EnsureAccount(ctx, alice, 0))
	text := "Subject: s\r\n\r\nHello\r\n"
	_, err = s.Deliver(ctx, store.Delivery{Body: strings.NewReader(text), Size: -1, Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}}})
	must(t, err)
	synctest.Test(t, func(t *testing.T) {
		n := NewIndexer(Config{Store: s, Dir: dir + "/search", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- n.Run(ctx) }()
		opened := func(want int, when string) {
			t.Helper()
			synctest.Wait()
			n.mu.Lock()
			defer n.mu.Unlock()
			if len(n.open) != want {
				t.Errorf("%s: %d indexes are open, want %d", when, len(n.open), want)
			}
		}
		n.Check(alice)
		opened(0, "after the check of a start")
		find := func() {
			h, err := n.Find(alice, Body, Fold("hello"))
			must(t, err)
			h.Close()
		}
		find()
		opened(1, "after a search")
		n.Check(alice)
		opened(1, "after another check")
		time.Sleep(2 * tick)
		opened(1, "two minutes later")
		if n := resident(t, dir+"/search"); n != 0 {
			t.Errorf("%d KiB of an index that nobody asks", n)
		}
		time.Sleep(closeAfter)
		opened(0, "after that")
		stop()
		must(t, <-done)
	})
}
