package store_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"mailform/server/store"
)

// damageTransaction changes one octet of the record that says where messages of an
// account are, in the log's first segment, and loses what was derived from it.
func damageTransaction(t *testing.T, fs *store.SimFS, account, behind string) {
	t.Helper()
	for _, n := range fs.Names("/s/checkpoint/") {
		if err := fs.Remove(n); err != nil {
			t.Fatal(err)
		}
	}
	const segment = "/s/log/0000000000000001.log"
	b := fs.Content(segment)
	at := bytes.Index(b, []byte(behind)) + len(behind)
	at += bytes.Index(b[at:], []byte(account))
	b[at] ^= 1
	fs.SetContent(segment, b)
}

// unreferenced returns what salvage finds that is in no mailbox.
func unreferenced(t *testing.T, l *store.Log) (found []string) {
	t.Helper()
	if err := l.Unreferenced(t.Context(), func(_ store.BodyRef, r io.Reader) error {
		b, err := io.ReadAll(r)
		found = append(found, string(b))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestBodiesOutliveADamagedTransaction damages the record that says where messages
// are: their octets stay for salvage, over restarts and compactions, until everything
// that is in no mailbox is asked to go.
func TestBodiesOutliveADamagedTransaction(t *testing.T) {
	const account = "a0@example.org"
	small, large := "Subject: small\r\n\r\nx\r\n", "Subject: large\r\n\r\n"+strings.Repeat("large body\r\n", 300)
	ctx := t.Context()
	for name, text := range map[string]string{"small": small, "large": large} {
		t.Run(name, func(t *testing.T) {
			opt := store.Options{MemoryBody: 1000, SegmentBytes: 4000, CheckpointBytes: 1 << 40}
			fs := store.NewSimFS(rand.New(rand.NewPCG(1, 2)))
			l := reopen(t, fs, opt)
			deliver := func(account, text string) {
				t.Helper()
				if err := l.EnsureAccount(ctx, account, 0); err != nil {
					t.Fatal(err)
				}
				if _, err := l.Deliver(ctx, store.Delivery{Body: strings.NewReader(text), Size: -1,
					Targets: []store.Target{{Account: account, Mailbox: "INBOX", Prefix: []byte("Delivered-To: " + account + "\r\n")}}}); err != nil {
					t.Fatal(err)
				}
			}
			deliver(account, text)
			for range 6 { // the log goes on to other segments
				deliver("b@example.org", strings.Repeat("y", 900))
			}
			closeLog(t, l)
			damageTransaction(t, fs, account, "Delivered-To: "+account)

			l = reopen(t, fs, opt)
			if len(l.Damage()) == 0 {
				t.Fatal("no damage was found")
			}
			for range 3 { // also when what is damaged is not replayed any more
				if err := l.Rebuild(ctx); err != nil {
					t.Fatal(err)
				}
				boxes, err := l.Mailboxes(ctx, "b@example.org")
				if err != nil || len(boxes) == 0 {
					t.Fatal(boxes, err)
				}
				if _, err := l.Compact(ctx, store.CompactOptions{MaxLive: 0.9}); err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(unreferenced(t, l), text) {
					t.Fatal("the body of a message whose place was lost has gone")
				}
				if err := l.Check(ctx); err == nil {
					t.Error("a check finds nothing wrong")
				}
				closeLog(t, l)
				l = reopen(t, fs, opt)
			}
			e, err := l.Erase(ctx, "c@example.org", store.CompactOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if name == "large" && (e.Clean() || !strings.Contains(strings.Join(e.Remains, "\n"), "whose it was cannot be told")) {
				t.Errorf("an account is said to be gone with all it had: %q", e.Remains)
			}
			if _, err := l.Compact(ctx, store.CompactOptions{MaxLive: 1, MaxCopy: 1 << 30}); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(unreferenced(t, l), text) {
				t.Error("it is still there, though all that is in no mailbox was to go")
			}
			if err := l.Check(ctx); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			closeLog(t, l)
		})
	}
}
