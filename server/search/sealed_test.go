package search

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailform/server/store"
	"mailform/server/store/seal"
)

// The index of an account whose mail is encrypted has none of its words in any file,
// finds them all the same, and is made anew when it is of the other kind.
func TestSealedIndex(t *testing.T) {
	dir := t.TempDir()
	root, err := seal.NewKey(rand.Reader)
	must(t, err)
	s, err := store.Open(dir+"/store", store.Options{ReserveBytes: -1, Root: &root})
	must(t, err)
	defer s.Close()
	ctx := context.Background()
	must(t, s.EnsureAccount(ctx, alice, 0))
	deliver := func(text string) {
		t.Helper()
		_, err := s.Deliver(ctx, store.Delivery{Body: strings.NewReader("Subject: s\r\n\r\n" + text), Size: -1, Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}}})
		must(t, err)
	}
	var many strings.Builder
	for i := range 20_000 {
		many.WriteString(strings.Repeat(string(rune('a'+i%26)), 1+i%7))
		many.WriteString(string(rune('a'+i/26%26)) + string(rune('a'+i/676%26)) + " ")
	}
	index := func() *Indexer {
		n := NewIndexer(Config{Store: s, Dir: dir + "/search", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Keys: s.Keys})
		must(t, n.update(ctx, alice, &pending{all: true}))
		return n
	}
	finds := func(n *Indexer, text string) (yes int) {
		h, err := n.Find(alice, Body, Fold(text))
		must(t, err)
		defer h.Close()
		snap, watch, err := s.Open(ctx, alice, "INBOX")
		must(t, err)
		watch.Close()
		for _, m := range snap.Messages.All() {
			if h.Of(m.Body) == Yes {
				yes++
			}
		}
		return yes
	}
	inFiles := func() bool {
		files, err := filepath.Glob(dir + "/search/*/*")
		must(t, err)
		if len(files) == 0 {
			t.Fatal("there is no index")
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			must(t, err)
			if bytes.Contains(bytes.ToLower(b), []byte("canary")) {
				return true
			}
		}
		return false
	}
	deliver("canary in the clear")
	must(t, index().close())
	if !inFiles() {
		t.Fatal("what is in the clear is not found")
	}
	must(t, s.SetEncrypt(true))
	deliver("canary encrypted " + many.String())
	for range 2 { // made, and read again
		n := index()
		if got := finds(n, "canary"); got != 2 {
			t.Errorf("found in %d messages, want 2", got)
		}
		must(t, n.close())
		if inFiles() {
			t.Error("a word is in a file of the index")
		}
	}
	// Damage of any block is noticed, and the index made anew.
	files, err := filepath.Glob(dir + "/search/*/*" + suffix)
	must(t, err)
	b, err := os.ReadFile(files[0])
	must(t, err)
	if len(b) < 2*sealedBlock {
		t.Fatalf("%d octets are in one block: the test shows less than it says", len(b))
	}
	for _, bad := range [][]byte{b[:len(b)-1], b[:sealedHead+sealedBlock+seal.Overhead], b[:sealedHead], append(bytes.Clone(b[:len(b)-9]), b[len(b)-8:]...)} {
		must(t, os.WriteFile(files[0], bad, 0o600))
		if _, err := openSegment(files[0], 1, alice, s.Keys()); err == nil {
			t.Errorf("%d of %d octets pass for the file", len(bad), len(b))
		}
	}
	n := index()
	if got := finds(n, "canary"); got != 2 {
		t.Errorf("after damage: found in %d messages, want 2", got)
	}
	_, err = n.Erase(alice)
	must(t, err)
	if files, _ := filepath.Glob(dir + "/search/*"); len(files) > 0 {
		t.Errorf("erased, there are still %v", files)
	}
}
