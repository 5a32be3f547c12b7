package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// eraseWorld is a store with mail of two people: some their own, some shared, some
// expunged, some compacted since, with annotations and a queue.
func eraseWorld(t *testing.T, opt Options) (*Log, string) {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	opt.ReserveBytes = -1
	l, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []string{"alice@x", "bob@x"} {
		must(l.EnsureAccount(ctx, a, 0))
	}
	deliver := func(text string, accounts ...string) {
		t.Helper()
		d := Delivery{Body: strings.NewReader(text), Size: -1}
		for _, a := range accounts {
			d.Targets = append(d.Targets, Target{Account: a, Mailbox: "INBOX", Prefix: []byte("Delivered-To: " + a + "\r\n")})
		}
		_, err := l.Deliver(ctx, d)
		must(err)
	}
	for i := range 40 {
		deliver(fmt.Sprintf("SECRET-ALICE %d %s", i, strings.Repeat("a", i*40)), "alice@x")
		deliver(fmt.Sprintf("bob's own %d %s", i, strings.Repeat("b", i*40)), "bob@x")
		if i%10 == 0 {
			deliver(fmt.Sprintf("for both %d", i), "alice@x", "bob@x")
			deliver("SECRET-ALICE large "+noise(3000), "alice@x")
		}
	}
	_, err = l.UpdateFlags(ctx, "alice@x", Named("INBOX"), []UID{1, 2, 3, 4, 5}, FlagsAdd, []string{`\Deleted`})
	must(err)
	_, err = l.Expunge(ctx, "alice@x", Named("INBOX"), nil)
	must(err)
	_, err = l.Compact(ctx, CompactOptions{MaxLive: 1})
	must(err)
	must(l.SetMetadata(ctx, "alice@x", "", []MetadataEntry{{Name: "/private/comment", Value: []byte("SECRET-ALICE note")}}))
	_, err = l.CreateMailbox(ctx, "alice@x", "SECRET-ALICE folder", "")
	must(err)
	_, err = l.Deliver(ctx, Delivery{Body: strings.NewReader("SECRET-ALICE to the world"), Size: -1, Queue: []QueueEntry{
		{From: "alice@x", Recipients: []string{"c@far"}, Domain: "far", Account: "alice@x"}}})
	must(err)
	_, err = l.Deliver(ctx, Delivery{Body: strings.NewReader("bob to the world"), Size: -1, Queue: []QueueEntry{
		{From: "bob@x", Recipients: []string{"c@far"}, Domain: "far", Account: "bob@x"}}})
	must(err)
	must(l.flushNow(ctx)) // into the index file
	return l, dir
}

// leftOf counts how often a text stands in the files of a directory. The store may be
// at work there: when a file has been replaced meanwhile, all are looked at again.
func leftOf(t *testing.T, dir, text string) (n int) {
	t.Helper()
	for tries := 100; ; tries-- {
		n = 0
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			n += strings.Count(string(b), text)
			return err
		})
		if errors.Is(err, os.ErrNotExist) && tries > 0 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// What was erased is in no file any more, what others have is as it was, and a
// restart finds the same.
func TestErase(t *testing.T) {
	ctx := t.Context()
	for name, opt := range map[string]Options{
		"small segments": {SegmentBytes: 5000, MemoryBody: 2000},
		"one segment":    {MemoryBody: 2000},
		"checkpoints":    {SegmentBytes: 3000, MemoryBody: 2000, CheckpointBytes: 4000},
	} {
		t.Run(name, func(t *testing.T) {
			l, dir := eraseWorld(t, opt)
			if leftOf(t, dir, "SECRET-ALICE") < 40 {
				t.Fatal("there is nothing to erase: the test shows nothing")
			}
			before, err := l.Mailbox(ctx, "bob@x", "INBOX")
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, indexName)); err != nil || !strings.Contains(string(b), "SECRET-ALICE folder") {
				t.Fatalf("the index file knows nothing of it: the test shows too little (%v)", err)
			}
			e, err := l.Erase(ctx, "alice@x", CompactOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !e.Clean() || e.Messages != 43 || e.Queued != 1 || e.Shared != 3 || e.Segments == 0 || e.Records == 0 {
				t.Errorf("%+v", e)
			}
			if n := leftOf(t, dir, "SECRET-ALICE"); n != 0 {
				t.Errorf("%d traces are left", n)
			}
			if n := leftOf(t, dir, "for both 10"); n != 1 {
				t.Errorf("what bob has, too, stands %d times", n)
			}
			verify := func(l *Log) {
				t.Helper()
				if err := l.Check(ctx); err != nil {
					t.Error(err)
				}
				after, err := l.Mailbox(ctx, "bob@x", "INBOX")
				if err != nil || after != before {
					t.Errorf("bob's INBOX was %+v and is %+v, %v", before, after, err)
				}
				if q, err := l.Queue(ctx); err != nil || len(q) != 1 || q[0].Account != "bob@x" {
					t.Errorf("queue: %+v, %v", q, err)
				}
				if list, err := l.Mailboxes(ctx, "alice@x"); err != nil || len(list) != 0 {
					t.Errorf("alice has %+v, %v", list, err)
				}
				if m, err := l.Metadata(ctx, "alice@x", ""); err != nil || len(m) != 0 {
					t.Errorf("alice has %+v, %v", m, err)
				}
			}
			verify(l)
			again, err := l.Erase(ctx, "alice@x", CompactOptions{})
			if err != nil || !again.Clean() || again.Messages != 0 {
				t.Errorf("a second time: %+v, %v", again, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l, err = Open(dir, Options{ReserveBytes: -1})
			if err != nil {
				t.Fatal(err)
			}
			verify(l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// What a backup keeps from going, and what somebody puts back, is told.
func TestEraseNotClean(t *testing.T) {
	ctx := t.Context()
	l, _ := eraseWorld(t, Options{SegmentBytes: 5000, MemoryBody: 2000})
	im, err := l.Image(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e, err := l.Erase(ctx, "alice@x", CompactOptions{})
	if err != nil || e.Clean() || e.Waiting == 0 || len(e.Remains) == 0 {
		t.Errorf("beside a backup: %+v, %v", e, err)
	}
	if err := im.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = l.Erase(ctx, "alice@x", CompactOptions{}); err != nil || !e.Clean() {
		t.Errorf("after it: %+v, %v", e, err)
	}
	if err := l.EnsureAccount(ctx, "alice@x", 0); err != nil {
		t.Fatal(err)
	}
	var proof Erasure
	if err := l.prove(ctx, "alice@x", nil, &proof); err != nil || proof.Clean() {
		t.Errorf("an account in use: %+v, %v", proof, err)
	}
	if e, err = l.Erase(ctx, "nobody@x", CompactOptions{}); err != nil || !e.Clean() {
		t.Errorf("who never was: %+v, %v", e, err)
	}
}
