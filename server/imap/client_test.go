package imap

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailform/server/store"
)

// TestClient does what a mail program does, through go-imap's client over TLS.
func TestClient(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Settings) { c.AllowPlaintext = false })
	news := make(chan uint32, 10)
	dial := func(o *imapclient.Options) *imapclient.Client {
		t.Helper()
		if o == nil {
			o = &imapclient.Options{}
		}
		o.TLSConfig = &tls.Config{RootCAs: w.roots, ServerName: "mail.example.org"}
		c, err := imapclient.DialTLS(w.tls.String(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.Login(alice, secret).Wait(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := dial(nil)
	boxes, err := c.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true}, ReturnSpecialUse: true}).Collect()
	check(err)
	if len(boxes) != 6 || boxes[0].Mailbox != "INBOX" || boxes[0].Status == nil {
		t.Errorf("mailboxes: %+v", boxes)
	}
	text := []byte("From: a@example.org\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\nDate: Sun, 22 Nov 2026 08:30:00 +0800\r\n\r\nbody\r\n")
	ap := c.Append("Drafts", int64(len(text)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft}})
	_, err = ap.Write(text)
	check(err)
	check(ap.Close())
	appended, err := ap.Wait()
	check(err)
	sel, err := c.Select("Drafts", nil).Wait()
	check(err)
	if sel.NumMessages != 1 || sel.UIDValidity != appended.UIDValidity {
		t.Errorf("select: %+v", sel)
	}
	section := &imap.FetchItemBodySection{Peek: true}
	msgs, err := c.Fetch(imap.UIDSetNum(appended.UID), &imap.FetchOptions{Envelope: true, Flags: true, UID: true, RFC822Size: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	check(err)
	if len(msgs) != 1 || msgs[0].Envelope.Subject != "café" || !bytes.Equal(msgs[0].FindBodySection(section), text) || msgs[0].RFC822Size != int64(len(text)) {
		t.Errorf("fetch: %+v", msgs)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "CAFÉ"}}}, nil).Wait()
	check(err)
	if len(found.AllUIDs()) != 1 {
		t.Errorf("search: %+v", found)
	}
	moved, err := c.Move(imap.SeqSetNum(1), "Sent").Wait()
	check(err)
	if moved.DestUIDs.String() != "1" {
		t.Errorf("move: %+v", moved)
	}

	// Another program is told at once.
	idler := dial(&imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				news <- *data.NumMessages
			}
		}}})
	_, err = idler.Select("INBOX", nil).Wait()
	check(err)
	idle, err := idler.Idle()
	check(err)
	w.deliver("INBOX", "Subject: new\n\nx")
	if n := <-news; n != 1 {
		t.Errorf("%d messages were announced", n)
	}
	check(idle.Close())
	check(idle.Wait())
	check(c.Logout().Wait())
}

// A large message is fetched in pieces, each right.
func TestLargeMessageInPieces(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	b.WriteString("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n")
	head := b.Len()
	for b.Len() < 3<<20 {
		b.WriteString(strings.Repeat(string(rune('a'+rng.IntN(26))), 70) + "\r\n")
	}
	text := b.String()
	if _, err := w.store.Deliver(context.Background(), store.Delivery{Body: strings.NewReader(text + "\r\n--b--\r\n"), Size: -1,
		Targets: []store.Target{{Account: alice, Mailbox: "INBOX", Prefix: []byte("X: y\r\n")}}}); err != nil {
		t.Fatal(err)
	}
	c, err := imapclient.DialInsecure(w.plain.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(alice, secret).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	const piece = 300_000
	for off := 0; off < len(text)-head; off += piece {
		item := &imap.FetchItemBodySection{Part: []int{1}, Peek: true, Partial: &imap.SectionPartial{Offset: int64(off), Size: piece}}
		msgs, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{item}}).Collect()
		if err != nil {
			t.Fatal(err)
		}
		want := text[head:][off:min(off+piece, len(text)-head)]
		if got := string(msgs[0].FindBodySection(item)); got != want {
			t.Fatalf("piece at %d: %d octets, want %d", off, len(got), len(want))
		}
	}
}

// What cannot be read is said, and the rest is shown.
func TestDamagedMessage(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Settings) { c.Store = damagedStore{c.Store} })
	w.deliver("INBOX", "Subject: one\n\nx")
	w.deliver("INBOX", "Subject: two\n\nx")
	w.deliver("INBOX", "Subject: three\n\nx")
	w.deliver("INBOX", "Subject: large\n\n"+strings.Repeat("x", 2<<20))
	w.talk(`
		a> 0 SELECT INBOX
		a<~ 0 OK *
		a> 1 FETCH 1:3 BODY.PEEK[HEADER.FIELDS (Subject)]
		a< * 1 FETCH *
		a< Subject: one
		a< 
		a< )
		a< * 3 FETCH *
		a< Subject: three
		a< 
		a< )
		a< 1 NO [CORRUPTION] *
		a> 2 SEARCH SUBJECT t
		a< * SEARCH 3
		a< 2 OK *
	`)
	// In the middle of a large one there is no way to say so but to hang up.
	w.troubled = true
	l := w.dial("b")
	l.login()
	l.send("1 SELECT INBOX\r\n2 FETCH 4 BODY.PEEK[]\r\n3 NOOP\r\n")
	rest, err := io.ReadAll(l.r)
	if err != nil || len(rest) > 2<<20 || bytes.Contains(rest, []byte("\r\n2 ")) {
		t.Errorf("%d octets, %v", len(rest), err)
	}
	if log := w.log.String(); !strings.Contains(log, "fetch broke off") {
		t.Error("the log does not say so")
	}
}

// damagedStore cannot read the second message, nor the fourth to its end.
type damagedStore struct{ Store }

func (d damagedStore) Read(ctx context.Context, account string, m store.Message) (io.ReadCloser, error) {
	if m.UID == 2 {
		return nil, store.ErrDamaged
	}
	r, err := d.Store.Read(ctx, account, m)
	if m.UID == 4 {
		return brokenReader{r}, err
	}
	return r, err
}

type brokenReader struct{ io.ReadCloser }

func (b brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if off > 1<<20 {
		return 0, store.ErrDamaged
	}
	return b.ReadCloser.(io.ReaderAt).ReadAt(p, off)
}

// FuzzSession sends arbitrary octets before and after login. The session must
// end when the client hangs up, and the server still work.
func FuzzSession(f *testing.F) {
	panics := &logBuffer{}
	w := newWorld(f, func(c *Config, _ *Settings) {
		c.Logger = slog.New(slog.NewTextHandler(panics, &slog.HandlerOptions{Level: slog.LevelError}))
		c.Sleep = func(context.Context, time.Duration) error { return nil }
		c.MaxSessions = 1 << 30
		c.Timeouts.Linger = time.Millisecond
	})
	w.deliver("INBOX", multipart)
	for _, s := range []string{
		"1 NOOP\r\n", "1 SELECT INBOX\r\n2 FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE BODY[1.MIME]<0.5>)\r\n3 STORE 1 +FLAGS (\\Seen)\r\n4 SEARCH OR NOT SEEN TEXT x\r\n",
		"1 APPEND Drafts (\\Seen) {3}\r\nabc\r\n2 IDLE\r\nDONE\r\n", "1 LIST (SUBSCRIBED) \"\" (\"*\" %) RETURN (STATUS (MESSAGES))\r\n", "1 LOGIN {3+}\r\nabc {1000000+}\r\n",
		"1 AUTHENTICATE PLAIN\r\n*\r\n2 AUTHENTICATE PLAIN AGE=\r\n", "1 NOTIFY SET STATUS (SELECTED-DELAYED (MessageNew (UID BODY[]) MessageExpunge)) (SUBTREE (INBOX &AOk-) NONE)\r\n2 NOTIFY NONE\r\n", "1 UID FETCH 1:* BINARY.PEEK[3]\r\n", "((((((((((((\r\n", "1 X {0+}\r\n {0+}\r\n\r\n", "1 SEARCH ((((((SEEN))))))\r\n",
		"1 SELECT INBOX\r\n2 UID SEARCH RETURN (UPDATE CONTEXT PARTIAL -1:-2) OR UID 1:* NOT $\r\n3 STORE 1 FLAGS (a)\r\n4 CANCELUPDATE \"2\"\r\n5 THREAD REFS UTF-8 ALL\r\n6 EXPUNGE\r\n",
		"1 SELECT INBOX\r\n2 COPY 1 INBOX\r\n3 MOVE 1 INBOX\r\n4 EXPUNGE\r\n5 CLOSE\r\n6 RENAME INBOX x/y\r\n7 DELETE x/y\r\n",
	} {
		f.Add(true, s)
		f.Add(false, s)
	}
	f.Fuzz(func(t *testing.T, login bool, input string) {
		if len(input) > 100<<10 {
			return
		}
		client, server := pipe(t)
		// Only so that a failing test ends.
		_ = client.SetDeadline(time.Now().Add(10 * time.Second))
		c := w.srv.newConn(server, false)
		done := make(chan struct{})
		go func() {
			c.Serve()
			close(done)
		}()
		go func() {
			if login {
				_, _ = io.WriteString(client, "login LOGIN "+alice+" "+secret+"\r\n")
			}
			_, _ = io.WriteString(client, input)
			_ = client.CloseWrite()
		}()
		out, err := io.ReadAll(client)
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			t.Fatalf("no end after %q", out)
		}
		client.Close()
		<-done
		if !bytes.HasPrefix(out, []byte("* OK ")) {
			t.Fatalf("the greeting was %q", out)
		}
		if log := panics.String(); log != "" {
			t.Fatal(log)
		}
	})
}
