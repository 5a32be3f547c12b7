package store

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// However many messages clients have sent of which they do not say that they are
// all, memory holds few of them: the others are in files until then.
func TestStagedMemory(t *testing.T) {
	ctx := t.Context()
	l, err := Open(t.TempDir(), Options{ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
		t.Fatal(err)
	}
	text := func(i int) []byte {
		return append(fmt.Appendf(nil, "Subject: %d\r\n\r\n", i), make([]byte, 200<<10)...)
	}
	const many = 340
	var msgs []StagedMessage
	stage := func(r io.Reader, size int64) {
		t.Helper()
		s, err := l.Stage(ctx, "a@b", Named("INBOX"), r, size)
		if err != nil {
			t.Fatal(err)
		}
		msgs = append(msgs, StagedMessage{Body: s})
	}
	for i := range many {
		stage(bytes.NewReader(text(i)), int64(len(text(i))))
	}
	if held := l.staged.Load(); held > maxStaged+int64(len(text(0))) || msgs[many-1].Body.(*stagedBody).body.seg == nil {
		t.Errorf("%d octets are in memory, at most %d may be", held, maxStaged)
	}
	stage(strings.NewReader(""), -1) // what is nothing is a message, too
	stage(strings.NewReader("x"), 1)
	discarded := len(msgs) - 1
	msgs[discarded].Body.Discard()
	added, _, err := l.AppendStaged(ctx, "a@b", Named("INBOX"), msgs[:discarded], nil)
	if err != nil {
		t.Fatal(err)
	}
	if held := l.staged.Load(); held != 0 {
		t.Errorf("%d octets still count when all messages are stored", held)
	}
	for i, m := range added {
		r, err := l.Read(ctx, "a@b", m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if want := text(i); i < many && !bytes.Equal(got, want) || i == many && len(got) != 0 {
			t.Fatalf("message %d is another", i)
		}
	}
	if err := l.Check(ctx); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
