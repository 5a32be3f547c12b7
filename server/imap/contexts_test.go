package imap

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"mailform/server/store"
)

// countingStore counts the messages that are read.
type countingStore struct {
	Store
	reads atomic.Int64
}

func (s *countingStore) Read(ctx context.Context, account string, m store.Message) (io.ReadCloser, error) {
	s.reads.Add(1)
	return s.Store.Read(ctx, account, m)
}

// A client that asks for more than is followed gets its results all the same, and
// is told; what is followed stays so.
func TestContextsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", "Subject: x\n\nx")
	l := w.dial("a")
	l.login()
	l.send("s SELECT INBOX\r\n")
	l.skip("s OK *")
	long := "UID " + strings.Repeat("1,", maxContextWeight/2) + "1"
	l.send("long UID SEARCH RETURN (UPDATE COUNT) " + long + "\r\n")
	l.expect(`* NO [NOUPDATE "long"] *`)
	l.expect(`* ESEARCH (TAG "long") UID COUNT 1`)
	l.expect("long OK *")
	for i := range 3 * maxContexts {
		l.send(fmt.Sprintf("c%d UID SEARCH RETURN (UPDATE COUNT) UNSEEN\r\n", i))
		if i >= maxContexts {
			l.expect(fmt.Sprintf(`* NO [NOUPDATE "c%d"] *`, i))
		}
		l.expect(fmt.Sprintf(`* ESEARCH (TAG "c%d") UID COUNT 1`, i))
		l.expect(fmt.Sprintf("c%d OK *", i))
	}
	l.send("t STORE 1 +FLAGS.SILENT (\\Seen)\r\n")
	for i := range maxContexts {
		l.expect(fmt.Sprintf(`* ESEARCH (TAG "c%d") UID REMOVEFROM (0 1)`, i))
	}
	l.expect("t OK *")
}

// A result for which too many messages would have to be read again is given up, and
// not without a word.
func TestContextReadsAreBounded(t *testing.T) {
	var counted *countingStore
	w := newWorld(t, func(c *Config, _ *Settings) {
		counted = &countingStore{Store: c.Store}
		c.Store = counted
	})
	const messages = maxContextReads + 100
	l := w.dial("a")
	l.login()
	l.send("0 SELECT INBOX\r\n")
	l.skip("0 OK *")
	// Of what is not in the index and follows from flags, too, the messages are read.
	l.send("1 UID SEARCH RETURN (UPDATE COUNT) UNSEEN BODY word\r\n")
	l.expect(`* ESEARCH (TAG "1") UID COUNT 0`)
	l.expect("1 OK *")
	l.send("2 UID SEARCH RETURN (UPDATE COUNT) UNSEEN\r\n")
	l.expect(`* ESEARCH (TAG "2") UID COUNT 0`)
	l.expect("2 OK *")
	var staged []store.StagedMessage
	for range messages {
		s, err := w.store.Stage(t.Context(), alice, store.Named("INBOX"), strings.NewReader("Subject: x\r\n\r\nword"), -1)
		if err != nil {
			t.Fatal(err)
		}
		staged = append(staged, store.StagedMessage{Body: s})
	}
	if _, _, err := w.store.AppendStaged(t.Context(), alice, store.Named("INBOX"), staged, nil); err != nil {
		t.Fatal(err)
	}
	before := counted.reads.Load()
	l.send("3 NOOP\r\n")
	l.expect(fmt.Sprintf("* %d EXISTS", messages))
	l.expect("* * RECENT")
	l.expect(`* NO [NOUPDATE "1"] *`)
	l.expect(fmt.Sprintf(`* ESEARCH (TAG "2") UID ADDTO (0 1:%d)`, messages))
	l.expect("3 OK *")
	if n := counted.reads.Load() - before; n > maxContextReads+1 {
		t.Errorf("%d messages were read", n)
	}
	l.send("4 CANCELUPDATE \"1\"\r\n")
	l.expect("4 NO *")
	// So many changes at once are not remembered one by one.
	l.send(fmt.Sprintf("5 STORE 2:%d +FLAGS.SILENT (\\Seen)\r\n", messages))
	l.expect(fmt.Sprintf(`* ESEARCH (TAG "2") UID REMOVEFROM (0 2:%d)`, messages))
	l.expect("5 OK *")
	l.send("6 STORE 3 -FLAGS.SILENT (\\Seen)\r\n")
	l.expect(`* ESEARCH (TAG "2") UID ADDTO (0 3)`)
	l.expect("6 OK *")
}

// A set of places moves with the mailbox.
func TestPlaceSet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(rt, "messages")
		some := func(label string) []bool { return rapid.SliceOfN(rapid.Bool(), n, n).Draw(rt, label) }
		var p placeSet
		want := some("in")
		for i, in := range want {
			if in {
				p.add(i)
			}
		}
		for i, out := range some("out again") {
			if out {
				p.remove(i)
				want[i] = false
			}
		}
		var cut []int
		var kept []bool
		for i, gone := range some("cut") {
			if gone {
				cut = append(cut, i)
			} else {
				kept = append(kept, want[i])
			}
		}
		p.cut(cut)
		for i := range n + 100 {
			if p.has(i) != (i < len(kept) && kept[i]) {
				rt.Fatalf("place %d: %v", i, p.has(i))
			}
		}
	})
}
