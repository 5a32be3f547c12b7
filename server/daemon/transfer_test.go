package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailform/server/transfer"
)

// An account of another IMAP server, here our own, comes over with folders, flags
// and dates, once, and can be written to files.
func TestImportFromIMAP(t *testing.T) {
	h := newHost(t)
	roots := h.writeCertificate(1)
	h.start()
	options := &imapclient.Options{TLSConfig: &tls.Config{RootCAs: roots, ServerName: "mail.example.com"}}
	login := func(who string) *imapclient.Client {
		c, err := imapclient.DialTLS(h.addr["imaps"], options)
		h.must(err)
		t.Cleanup(func() { c.Close() })
		h.must(c.Login(who+"@example.com", who+"'s secret").Wait())
		return c
	}
	c := login("alice")
	date := time.Date(2021, 3, 4, 5, 6, 7, 0, time.UTC)
	put := func(mailbox, text string, flags ...imap.Flag) {
		cmd := c.Append(mailbox, int64(len(text)), &imap.AppendOptions{Flags: flags, Time: date})
		_, err := io.WriteString(cmd, text)
		h.must(errors.Join(err, cmd.Close()))
		_, err = cmd.Wait()
		h.must(err)
	}
	h.must(c.Create("Jörg & Co/2020", nil).Wait())
	put("INBOX", "Subject: one\r\n\r\n1\r\n", imap.FlagSeen, "work")
	put("Jörg & Co/2020", "Subject: two\r\n\r\n"+strings.Repeat("long\r\n", 100_000))
	put("Sent", "Subject: three\r\n\r\n3\r\n", imap.FlagAnswered)
	h.must(c.Logout().Wait())

	server := &Transfers{Client: ControlClient(h.layout.ControlSocket())}
	im := &transfer.Importer{Server: server, Account: "bob@example.com"}
	source := transfer.IMAP{Client: login("alice"), Host: "mail.example.com", User: "alice@example.com"}
	count, err := im.Run(t.Context(), source)
	h.must(err)
	if count.Imported != 3 || count.Present != 0 {
		t.Errorf("imported %+v", count)
	}
	if count, err = im.Run(t.Context(), source); err != nil || count.Imported != 0 || count.Present != 3 {
		t.Errorf("the second time: %+v, %v", count, err)
	}
	im.Account = "nobody@example.com"
	if _, err = im.Run(t.Context(), source); err == nil || !strings.Contains(err.Error(), "no mailbox nobody@example.com") {
		t.Errorf("an account that is not there: %v", err)
	}

	frames, err := server.Export(t.Context(), "bob@example.com")
	h.must(err)
	defer frames.Close()
	dir := filepath.Join(t.TempDir(), "out")
	sink, err := transfer.NewMaildirSink(dir)
	h.must(err)
	count, err = transfer.Export(t.Context(), frames, sink, nil)
	h.must(err)
	if count.Imported != 3 {
		t.Errorf("exported %+v", count)
	}
	for pattern, want := range map[string]string{
		"cur/*:2,Sa":                         "Subject: one\n\n1\n",
		".J&APY-rg &- Co.2020/cur/*:2,":      "Subject: two\n\n",
		".Sent/cur/*:2,R":                    "Subject: three\n\n3\n",
		"dovecot-keywords":                   "0 work\n",
		".J&APY-rg &- Co.2020/maildirfolder": "",
	} {
		list, err := filepath.Glob(filepath.Join(dir, pattern))
		h.must(err)
		if len(list) != 1 {
			t.Errorf("%s: %d files", pattern, len(list))
			continue
		}
		text, err := os.ReadFile(list[0])
		h.must(err)
		info, err := os.Stat(list[0])
		h.must(err)
		if !bytes.HasPrefix(text, []byte(want)) || strings.Contains(pattern, "cur/") && !info.ModTime().Equal(date) {
			t.Errorf("%s: %.40q of %s", list[0], text, info.ModTime())
		}
	}
}

// cutConn is a connection that breaks after so many octets have come.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.Join(io.ErrUnexpectedEOF, c.Conn.Close())
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// An import whose connection to the other server breaks, again and again and each time
// a little later, takes every message once.
func TestImportFromIMAPThatBreaks(t *testing.T) {
	h := newHost(t)
	roots := h.writeCertificate(1)
	h.start()
	const messages = 450 // more than are asked for at once
	ctx := t.Context()
	for i := range messages {
		_, _, err := h.store.Append(ctx, "alice@example.com", []string{"INBOX", "Archive"}[i%2], strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\n%s", i, strings.Repeat("x", i*10))), -1, []string{"work"}, time.Unix(int64(1e9+i), 0))
		h.must(err)
	}
	server := &Transfers{Client: ControlClient(h.layout.ControlSocket())}
	im := &transfer.Importer{Server: server, Account: "bob@example.com"}
	broken := 0
	for limit := 60_000; ; limit += 60_000 {
		nc, err := tls.Dial("tcp", h.addr["imaps"], &tls.Config{RootCAs: roots, ServerName: "mail.example.com"})
		h.must(err)
		c := imapclient.New(&cutConn{nc, limit}, nil)
		h.must(c.Login("alice@example.com", "alice's secret").Wait())
		_, err = im.Run(ctx, transfer.IMAP{Client: c, Host: "mail.example.com", User: "alice@example.com"})
		c.Close()
		if err == nil {
			break
		}
		broken++
	}
	if broken < 3 {
		t.Errorf("it broke %d times: the test shows less than it says", broken)
	}
	for _, box := range []string{"INBOX", "Archive"} {
		describe := func(account string) (list []string) {
			snap, watch, err := h.store.Open(ctx, account, box)
			h.must(err)
			watch.Close()
			for i, m := range snap.Messages.All() {
				list = append(list, fmt.Sprint(i, m.Size, m.InternalDate.Unix(), slices.DeleteFunc(slices.Clone(m.Flags), func(f string) bool { return f == `\Recent` })))
			}
			return list
		}
		from, to := describe("alice@example.com"), describe("bob@example.com")
		slices.Sort(from)
		slices.Sort(to)
		if len(to) != messages/2 || !slices.Equal(from, to) {
			t.Errorf("%s: %d messages came of %d", box, len(to), len(from))
		}
	}
}

// The batch of an import whose process died may arrive when the next import has asked
// already what is there: it must not be stored then.
func TestImportThatBeganBefore(t *testing.T) {
	h := newHost(t)
	h.start()
	const bob = "bob@example.com"
	dir := t.TempDir()
	for i := range 3 {
		h.must(os.MkdirAll(filepath.Join(dir, "cur"), 0o700))
		h.must(os.WriteFile(filepath.Join(dir, "cur", fmt.Sprintf("%d.x:2,", i)), []byte("a: b\n\n"), 0o600))
	}
	late := &lateServer{Transfers: Transfers{Client: ControlClient(h.layout.ControlSocket())}}
	second := &transfer.Importer{Server: &Transfers{Client: ControlClient(h.layout.ControlSocket())}, Account: bob}
	late.before = func() {
		count, err := second.Run(t.Context(), transfer.Maildir{Dir: dir})
		h.must(err)
		if count.Imported != 3 {
			t.Errorf("the second import: %+v", count)
		}
	}
	_, err := (&transfer.Importer{Server: late, Account: bob}).Run(t.Context(), transfer.Maildir{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "another import into this mailbox has begun") {
		t.Errorf("the first import: %v", err)
	}
	snap, watch, err := h.store.Open(t.Context(), bob, "INBOX")
	h.must(err)
	watch.Close()
	if n := snap.Messages.Len(); n != 3 {
		t.Errorf("%d messages are there", n)
	}
	var away *AwayError
	unknown := &Transfers{Client: ControlClient(h.layout.ControlSocket()), run: "x"}
	if err := unknown.Import(t.Context(), "alice@example.com", strings.NewReader("\x00\x00\x00\x00"), 4); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
	var frames bytes.Buffer
	h.must(transfer.Send(t.Context(), h.store, bob, &frames))
	if err := unknown.Import(t.Context(), "alice@example.com", &frames, int64(frames.Len())); !errors.As(err, &away) {
		t.Errorf("an import that the server does not know: %v", err)
	}
}

// lateServer has batches wait.
type lateServer struct {
	Transfers
	before func()
}

func (s *lateServer) Import(ctx context.Context, account string, frames io.Reader, length int64) error {
	s.before()
	return s.Transfers.Import(ctx, account, frames, length)
}
