package store_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"mailform/server/store"
)

// TestCompact expunges most of a store: compaction takes the octets off the
// disk, and nothing that is left changes, neither for who held it nor after a restart.
func TestCompact(t *testing.T) {
	ctx := t.Context()
	fs := store.NewSimFS(rand.New(rand.NewPCG(5, 6)))
	now := time.Unix(1_800_000_000, 0)
	var changed []store.UID
	opt := store.Options{SegmentBytes: 8000, Now: func() time.Time { return now }}
	opt.Changed = func(_ string, added []*store.Message, _ bool) {
		for _, m := range added {
			changed = append(changed, m.UID)
		}
	}
	l := reopen(t, fs, opt)
	w := &worker{account: "a@b", model: newModel()}
	if err := l.EnsureAccount(ctx, w.account, 0); err != nil {
		t.Fatal(err)
	}
	var gone []store.UID
	for i := range 100 {
		a := action{Kind: "deliver", Box: "INBOX", Text: fmt.Sprintf("message-%03d-text,", i), Large: 150, N: i, Head: "Received: x\r\n"}
		if i%10 == 0 {
			a.ID = fmt.Sprintf("q%d", i)
		} else {
			gone = append(gone, store.UID(i+1))
		}
		if err := w.make(ctx, l, a); err != nil {
			t.Fatal(err)
		}
	}
	snap, watch, err := l.Open(ctx, "a@b", "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	queued, err := l.Queue(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []action{
		{Kind: "flag", Box: "INBOX", UIDs: gone, Flag: `\Deleted`}, {Kind: "expunge", Box: "INBOX"},
		{Kind: "copy", Box: "INBOX", UIDs: []store.UID{1}, To: "Archive"},
	} {
		if err := w.make(ctx, l, a); err != nil {
			t.Fatal(err)
		}
	}
	watch.Take()
	changed = nil
	reader, err := l.Read(ctx, "a@b", *snap.Messages.At(0))
	if err != nil {
		t.Fatal(err)
	}
	image, err := l.Image(ctx)
	if err != nil {
		t.Fatal(err)
	}

	var waited time.Duration
	c, err := l.Compact(ctx, store.CompactOptions{Rate: 1000, Wait: func(_ context.Context, d time.Duration) error { waited += d; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if c.Bodies == 0 || c.Damaged != 0 || c.Waiting == 0 || c.Segments != 0 {
		t.Errorf("beside an image: %+v", c)
	}
	if want := time.Duration(c.Copied) * time.Millisecond; waited < want || waited > want+time.Second {
		t.Errorf("%d octets at 1000 a second waited for %v", c.Copied, waited)
	}
	if err := image.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		text := fmt.Sprintf("message-%03d-text", i)
		if on := onDisk(fs, text); on != (i%10 == 0) {
			t.Errorf("message %d is on the disk: %v", i, on)
		}
	}
	if st, err := l.Stats(ctx); err != nil || st.Compacted == nil || st.Compacted.Copied != c.Copied || st.Messages != 11 || st.Queued != 10 ||
		st.Live <= 0 || st.Live > st.LogOctets || st.LogSegments == 0 || st.LogOctets > 20_000 {
		t.Errorf("stats: %+v, %v", st, err)
	}
	if len(changed) != 11 { // also the copy
		t.Errorf("the search index was told of %d messages", len(changed))
	}
	if ev := watch.Take(); len(ev) != 0 {
		t.Errorf("sessions were told %+v", ev)
	}
	// Who held a message or an entry from before reads it as before.
	for i, m := range snap.Messages.All() {
		text, err := content(l.Read(ctx, "a@b", *m))
		if i%10 == 0 && (err != nil || !strings.Contains(text, fmt.Sprintf("message-%03d-text", i))) {
			t.Errorf("message %d: %q, %v", i, text, err)
		}
		if i%10 != 0 && err == nil {
			t.Errorf("message %d was expunged, its octets are gone, and yet it reads %q", i, text)
		}
	}
	for _, e := range queued {
		if _, err := content(l.OpenQueued(ctx, e)); err != nil {
			t.Errorf("queue entry %s: %v", e.ID, err)
		}
	}
	if text, err := io.ReadAll(reader); err != nil || !strings.Contains(string(text), "message-000") {
		t.Errorf("a reader that was open: %v", err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	// A body that was known from before may be queued again.
	again := []store.QueueEntry{{ID: "again", Account: "a@b", Domain: "example.net", Body: queued[0].Body}}
	if _, err := l.Deliver(ctx, store.Delivery{Queue: again}); err != nil {
		t.Fatal(err)
	}
	if _, err := content(l.OpenQueued(ctx, again[0])); err != nil {
		t.Errorf("an entry with a body from before: %v", err)
	}
	if err := l.RemoveQueue(ctx, "again"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.verify(ctx, l); err != nil {
			t.Error(err)
		}
		if err := l.Check(ctx); err != nil {
			t.Error(err)
		}
		closeLog(t, l)
		l = reopen(t, fs, opt)
		if d := l.Damage(); len(d) > 0 {
			t.Errorf("damage after a restart: %v", d)
		}
	}
	// There is nothing left to do.
	if c, err := l.Compact(ctx, store.CompactOptions{}); err != nil || c.Bodies != 0 {
		t.Errorf("a second run: %+v, %v", c, err)
	}
	// What a segment in use has of expunged messages goes when it is asked for.
	for _, a := range []action{
		{Kind: "deliver", Box: "box", Text: "short-lived-text,", N: 1}, {Kind: "flag", Box: "box", UIDs: []store.UID{1}, Flag: `\Deleted`}, {Kind: "expunge", Box: "box"},
	} {
		if err := w.make(ctx, l, a); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Compact(ctx, store.CompactOptions{}); err != nil || !onDisk(fs, "short-lived-text") {
		t.Errorf("a segment that is mostly in use was compacted: %v", err)
	}
	if _, err := l.Compact(ctx, store.CompactOptions{MaxLive: 1, MaxCopy: 1 << 40}); err != nil || onDisk(fs, "short-lived-text") {
		t.Errorf("an expunged message is on the disk: %v", err)
	}
	if err := w.verify(ctx, l); err != nil {
		t.Error(err)
	}
	closeLog(t, l)
	if _, err := l.Compact(ctx, store.CompactOptions{}); err == nil {
		t.Error("a closed store was compacted")
	}
}

func onDisk(fs *store.SimFS, text string) bool {
	for _, name := range fs.Names("/s/") {
		if strings.Contains(string(fs.Content(name)), text) {
			return true
		}
	}
	return false
}
