package imap

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mailform/server/search"
	"mailform/server/store"
)

// slowStore waits before the first message it reads.
type slowStore struct {
	Store
	begun, goOn chan struct{}
	once        sync.Once
	reads       atomic.Int64
}

func (s *slowStore) Read(ctx context.Context, account string, m store.Message) (io.ReadCloser, error) {
	s.once.Do(func() {
		close(s.begun)
		<-s.goOn
	})
	s.reads.Add(1)
	return s.Store.Read(ctx, account, m)
}

// Whoever asks for a long search and hangs up does not keep the server at work.
func TestSearchEndsWithItsClient(t *testing.T) {
	slow := &slowStore{begun: make(chan struct{}), goOn: make(chan struct{})}
	w := newWorld(t, func(c *Config, _ *Settings) {
		slow.Store, c.Store, c.Timeouts.Progress = c.Store, slow, 1
	})
	const messages = 500
	for range messages {
		w.deliver("INBOX", "Subject: x\n\nx")
	}
	l := w.dial("a")
	l.login()
	l.send("0 SELECT INBOX\r\n")
	l.skip("0 OK *")
	l.send("1 SEARCH BODY nothing\r\n")
	<-slow.begun
	if err := l.nc.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	l.nc.Close() // with a reset: the next octets to the client fail
	close(slow.goOn)
	// A shutdown waits for commands that are being carried out.
	if err := w.srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := slow.reads.Load(); n > 128 {
		t.Errorf("%d of %d messages were read for a client that had gone", n, messages)
	}
}

// What the index answers about many texts does not fill the memory.
func TestManyTexts(t *testing.T) {
	index, err := search.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	for i := range 1000 {
		if err := index.Add(store.BodyRef{Segment: 1, Offset: int64(i) * 8, Size: 10}, strings.NewReader("Subject: x\r\n\r\nword\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := index.Flush(); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config, _ *Settings) {
		c.Find = func(_ string, fields search.Field, text string) (*search.Hits, error) {
			return index.Find(fields, text)
		}
		c.maxHits = 50 * 256
	})
	w.deliver("INBOX", "Subject: x\n\nx")
	l := w.dial("a")
	l.login()
	l.send("0 SELECT INBOX\r\n")
	l.skip("0 OK *")
	for _, c := range []struct {
		texts int
		want  string
	}{{10, "OK *"}, {1000, "NO [LIMIT] *"}, {10, "OK *"}} {
		var keys strings.Builder
		for i := range c.texts {
			fmt.Fprintf(&keys, " NOT BODY text%d", i)
		}
		l.send("1 SEARCH" + keys.String() + "\r\n")
		l.skip("1 " + c.want)
	}
}
