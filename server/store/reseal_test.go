package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// clearLog is a store with mail in the clear of every kind, and its messages' texts.
func clearLog(t *testing.T, dir string, opt Options) (l *Log, sent []Message, want []string) {
	t.Helper()
	l = sealedLog(t, dir, opt)
	if err := l.SetEncrypt(false); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		body := fmt.Sprintf("canary-old %d %s", i, strings.Repeat("x", 100*i))
		if i%7 == 0 {
			body = fmt.Sprintf("canary-large %d\r\n%s", i, strings.Repeat("canary-large\r\n", 2000+i))
		}
		sent, want = append(sent, deliverBody(t, l, body)), append(want, "P: 1\r\n"+body)
	}
	for _, e := range []QueueEntry{{Prefix: []byte("canary-queue: 1\r\n"), Domain: "x"}, {Prefix: []byte("canary-notice"), Domain: "x"}} {
		d := Delivery{Queue: []QueueEntry{e}}
		if len(e.Prefix) > 15 {
			d.Body, d.Size = strings.NewReader("canary-queued"), -1
		}
		if _, err := l.Deliver(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	return l, sent, want
}

var canaries = []string{"canary-old", "canary-large", "canary-queue", "canary-notice", "canary-queued"}

// Turning encryption on encrypts what was there before, some at a time, at no more than
// the rate that is given, until nothing of it is in any file; what it has come to is
// told. It goes on after a restart and is not begun again when it is done.
func TestSealOld(t *testing.T) {
	ctx := t.Context()
	for _, compress := range []bool{false, true} {
		dir := t.TempDir()
		opt := Options{MemoryBody: 10_000, SegmentBytes: 3000, Compress: compress}
		l, sent, want := clearLog(t, dir, opt)
		if done, err := l.Seal(ctx, CompactOptions{}); err != nil || done.Bodies > 0 {
			t.Errorf("with encryption off: %+v, %v", done, err)
		}
		if err := l.SetEncrypt(true); err != nil {
			t.Fatal(err)
		}
		st, err := l.Stats(ctx)
		if err != nil || st.Sealing == nil || !st.Sealing.On || st.Sealing.ClearFiles < 4 || st.Sealing.Clear < 5000 || !st.Sealing.Since.IsZero() {
			t.Fatalf("before: %+v, %v", st.Sealing, err)
		}
		before := *st.Sealing
		slept := time.Duration(0)
		o := CompactOptions{MaxCopy: 20_000, Rate: 1 << 20, Wait: func(_ context.Context, d time.Duration) error { slept += d; return nil }}
		if compress {
			o.MaxCopy = 1500
		}
		// References that were handed out before do not outlive a restart.
		renew := func() {
			t.Helper()
			box, w, err := l.Open(ctx, "a@b", "INBOX")
			if err != nil || box.Messages.Len() != len(sent) {
				t.Fatal(err)
			}
			w.Close()
			for i := range sent {
				sent[i] = *box.Messages.At(i)
			}
		}
		var keyed []string
		var octets int64
		runs := 0
		for left := (Sealing{ClearFiles: 1}); left.ClearFiles > 0; runs++ {
			done, err := l.Seal(ctx, o)
			if err != nil || done.Octets == 0 && done.Left.ClearFiles > 0 || runs > 100 {
				t.Fatalf("run %d: %+v, %v", runs, done, err)
			}
			if limit := o.MaxCopy + 40_000; done.Octets > limit && !compress {
				t.Errorf("run %d encrypted %d octets", runs, done.Octets)
			}
			keyed, octets = append(keyed, done.Keyed...), octets+done.Octets
			if left = done.Left; left.ClearFiles > 0 && left.Clear >= before.Clear+6000 {
				t.Errorf("run %d: %+v", runs, left)
			}
			if runs == 1 { // it goes on after a restart
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l = sealedLog(t, dir, opt)
				renew()
			}
		}
		if runs < 2 || octets < 50_000 || len(keyed) == 0 {
			t.Errorf("%d runs, %d octets, keys for %q", runs, octets, keyed)
		}
		if want := time.Duration(float64(octets) / float64(o.Rate) * float64(time.Second)); slept < want*9/10 {
			t.Errorf("it waited %s, for %d octets %s", slept, octets, want)
		}
		if found := onFiles(t, dir, canaries...); len(found) > 0 {
			t.Errorf("compress %t: in the clear: %v", compress, found)
		}
		verify := func() {
			t.Helper()
			for i, m := range sent {
				if got, err := readBody(l, m); err != nil || got != want[i] {
					t.Fatalf("message %d: %v, the same %t", i, err, got == want[i])
				}
			}
			q, err := l.Queue(ctx)
			if err != nil || len(q) != 2 {
				t.Fatalf("%v, %v", q, err)
			}
			for _, e := range q {
				r, err := l.OpenQueued(ctx, e)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(r)
				if err := errors.Join(err, r.Close()); err != nil || string(b) != "canary-notice" && string(b) != "canary-queue: 1\r\ncanary-queued" {
					t.Errorf("%q, %v", b, err)
				}
			}
			if err := l.Check(ctx); err != nil {
				t.Error(err)
			}
			st, err := l.Stats(ctx)
			if err != nil || st.Sealing == nil || st.Sealing.ClearFiles != 0 || st.Sealing.Since.IsZero() {
				t.Errorf("after: %+v, %v", st.Sealing, err)
			}
		}
		verify()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = sealedLog(t, dir, opt)
		renew()
		if done, err := l.Seal(ctx, o); err != nil || done.Bodies > 0 || len(done.Keyed) > 0 || done.Left.ClearFiles > 0 {
			t.Errorf("again: %+v, %v", done, err)
		}
		verify()
		if l.sealing.mark == 0 {
			t.Error("the next start reads all of the log again")
		}

		// Off: what comes is in the clear, and what is encrypted stays so and is read.
		if err := l.SetEncrypt(false); err != nil {
			t.Fatal(err)
		}
		deliverBody(t, l, "canary-off")
		if _, err := l.Compact(ctx, CompactOptions{MaxLive: 1, MaxCopy: 1 << 40}); err != nil {
			t.Fatal(err)
		}
		if found := onFiles(t, dir, canaries...); len(found) > 0 || len(onFiles(t, dir, "canary-off")) == 0 {
			t.Errorf("off: in the clear: %v", found)
		}
		if st, err := l.Stats(ctx); err != nil || st.Sealing == nil || st.Sealing.On || st.Sealing.ClearFiles == 0 {
			t.Errorf("off: %+v, %v", st.Sealing, err)
		}
		for i, m := range sent {
			if got, err := readBody(l, m); err != nil || got != want[i] {
				t.Fatalf("off: message %d: %v", i, err)
			}
		}
		// On once more.
		if err := l.SetEncrypt(true); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := l.Seal(ctx, CompactOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if found := onFiles(t, dir, append(canaries, "canary-off")...); len(found) > 0 {
			t.Errorf("on again: in the clear: %v", found)
		}
	}
}

// A message that is damaged stays where it is, is told of, and holds up nothing; so does
// one that is expunged meanwhile, and a backup that reads what is to go.
func TestSealOldDamage(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	l, sent, want := clearLog(t, dir, Options{MemoryBody: 10_000, SegmentBytes: 3000})
	harm := func(m Message, at int64) {
		t.Helper()
		seg, err := l.seg.acquire(m.Body.Segment)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seg.file.WriteAt([]byte("#"), m.Body.Offset+recordHeader+at); err != nil {
			t.Fatal(err)
		}
		if err := l.seg.release(seg); err != nil {
			t.Fatal(err)
		}
	}
	harm(sent[3], 5)
	harm(sent[7], 5)
	im, err := l.Image(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetEncrypt(true); err != nil {
		t.Fatal(err)
	}
	var done Sealed
	for range 4 {
		if done, err = l.Seal(ctx, CompactOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if done.Left.Stuck != 2 || done.Left.Waiting == 0 || done.Octets > 0 {
		t.Errorf("with a backup: %+v", done)
	}
	if err := im.Close(); err != nil {
		t.Fatal(err)
	}
	if done, err = l.Seal(ctx, CompactOptions{}); err != nil || done.Left.Stuck != 2 || done.Left.ClearFiles != 2 || done.Octets > 0 {
		t.Errorf("%+v, %v", done, err)
	}
	for i, m := range sent {
		got, err := readBody(l, m)
		if i == 3 || i == 7 {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("message %d: %v", i, err)
			}
			continue
		}
		if err != nil || got != want[i] {
			t.Errorf("message %d: %v", i, err)
		}
	}
}
