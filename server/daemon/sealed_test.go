package daemon

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailform/server/manifest"
	"mailform/server/store"
	"mailform/server/store/seal"
)

// With encryption on, mail that has come in by SMTP and was searched and listed by IMAP
// is in no file of the host, not even after the end; without its key the server does not
// start, and with it all is there.
func TestEncrypted(t *testing.T) {
	h := newHost(t)
	roots := h.writeCertificate(1)
	h.manifest.Store = &manifest.Store{Encrypt: true, Compress: true}
	h.writeManifest()
	key, err := seal.KeyOf(bytes.Repeat([]byte{3}, seal.KeySize))
	h.must(err)
	h.write(h.layout.StoreKeyFile(), key.Octets())
	h.start()
	k := h.dialService("smtp")
	k.do("", "220")
	k.do("EHLO x", "250")
	for i := range 3 {
		k.message("carol@sender.example", fmt.Sprintf("Subject: canaria %d\r\n\r\nthe canaria sings", i), "bob@example.com", "alice@example.com")
	}
	read := func() {
		t.Helper()
		c, err := imapclient.DialTLS(h.addr["imaps"], &imapclient.Options{TLSConfig: &tls.Config{RootCAs: roots, ServerName: "mail.example.com"}})
		h.must(err)
		defer c.Close()
		h.must(c.Login("bob@example.com", "bob's secret").Wait())
		_, err = c.Select("INBOX", nil).Wait()
		h.must(err)
		list, err := c.Fetch(imap.SeqSetNum(1, 2, 3), &imap.FetchOptions{Envelope: true, BodySection: []*imap.FetchItemBodySection{{}}}).Collect()
		h.must(err)
		for i, m := range list {
			if m.Envelope.Subject != fmt.Sprintf("canaria %d", i) || !bytes.Contains(m.BodySection[0].Bytes, []byte("the canaria sings")) {
				t.Errorf("message %d: %+v, %q", i, m.Envelope, m.BodySection[0].Bytes)
			}
		}
		got, err := c.Search(&imap.SearchCriteria{Text: []string{"anaria"}}, nil).Wait()
		h.must(err)
		if len(list) != 3 || len(got.AllSeqNums()) != 3 {
			t.Errorf("%d messages, found %v", len(list), got.AllSeqNums())
		}
		h.must(c.Logout().Wait())
	}
	read()
	h.must(h.stop())
	files := 0
	h.must(filepath.WalkDir(h.layout.StoreDir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if bytes.Contains(bytes.ToLower(b), []byte("canaria")) || bytes.Contains(b, key.Octets()) {
			t.Errorf("%s has the mail in the clear", path)
		}
		return err
	}))
	index, err := filepath.Glob(filepath.Join(h.layout.SearchDir(), "*", "*"))
	h.must(err)
	if files < 5 || len(index) == 0 {
		t.Errorf("%d files, index %v: the test shows less than it says", files, index)
	}
	h.must(os.Rename(h.layout.StoreKeyFile(), h.layout.StoreKeyFile()+".away"))
	if _, err := start(t.Context(), Config{Layout: h.layout, Logger: slog.New(slog.DiscardHandler), Resolver: h.dns}); err == nil || !bytes.Contains([]byte(err.Error()), []byte(key.Fingerprint())) {
		t.Errorf("without the key: %v", err)
	}
	h.must(os.Rename(h.layout.StoreKeyFile()+".away", h.layout.StoreKeyFile()))
	h.start()
	read()
}

// clearFiles are the files of the host's state that have one of the words in them.
func clearFiles(h *host, words ...string) (found []string) {
	h.t.Helper()
	for _, path := range filesWith(h, h.layout.StateDir(), words...) {
		found = append(found, filepath.Base(filepath.Dir(path))+"/"+filepath.Base(path))
	}
	return found
}

// filesWith are the files below a directory that have one of the words in them. The
// server may be at work there: when a file has been replaced meanwhile, what took its
// place may not have been listed, and all are looked at again.
func filesWith(h *host, dir string, words ...string) (found []string) {
	h.t.Helper()
	for tries := 100; ; tries-- {
		found = nil
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			b = bytes.ToLower(b)
			if slices.ContainsFunc(words, func(w string) bool { return bytes.Contains(b, []byte(w)) }) {
				found = append(found, path)
			}
			return err
		})
		if errors.Is(err, fs.ErrNotExist) && tries > 0 {
			continue
		}
		h.must(err)
		return found
	}
}

// Encryption that is turned on while mail is there, which was searched and listed, is on
// the disk within the server's own time: messages, large ones too, search index and
// summaries. How far it has come is told.
func TestEncryptedLater(t *testing.T) {
	h := newHost(t)
	roots := h.writeCertificate(1)
	h.writeManifest()
	h.start()
	const n = 260 // enough for summaries
	for i := range n {
		body := "the canaria sings"
		if i%100 == 10 {
			body = strings.Repeat("the canaria sings on and on\r\n", 12_000)
		}
		_, err := h.store.Deliver(t.Context(), store.Delivery{
			Body: strings.NewReader(fmt.Sprintf("Subject: canaria %d\r\n\r\n%s", i, body)), Size: -1,
			Targets: []store.Target{{Account: "bob@example.com", Mailbox: "INBOX", Prefix: []byte("X-P: canaria\r\n")}},
		})
		h.must(err)
	}
	search := func() {
		t.Helper()
		c, err := imapclient.DialTLS(h.addr["imaps"], &imapclient.Options{TLSConfig: &tls.Config{RootCAs: roots, ServerName: "mail.example.com"}})
		h.must(err)
		defer c.Close()
		h.must(c.Login("bob@example.com", "bob's secret").Wait())
		_, err = c.Select("INBOX", nil).Wait()
		h.must(err)
		got, err := c.Search(&imap.SearchCriteria{Text: []string{"anaria"}}, nil).Wait()
		h.must(err)
		list, err := c.Fetch(imap.SeqSetNum(1, 11, n), &imap.FetchOptions{Envelope: true, BodySection: []*imap.FetchItemBodySection{{}}}).Collect()
		h.must(err)
		if len(got.AllSeqNums()) != n || len(list) != 3 || !bytes.Contains(list[1].BodySection[0].Bytes, []byte("sings on")) || list[2].Envelope.Subject != fmt.Sprintf("canaria %d", n-1) {
			t.Errorf("found %d, %d fetched", len(got.AllSeqNums()), len(list))
		}
		h.must(c.Logout().Wait())
	}
	search()
	h.must(h.stop()) // which writes the indexes
	h.start()
	h.until("the summaries are written", func() bool {
		runs, err := filepath.Glob(filepath.Join(h.layout.SummaryDir(), "*", "*", "*.run"))
		return err == nil && len(runs) > 0
	})
	clear := strings.Join(clearFiles(h, "canaria"), " ")
	for _, kind := range []string{"log/", ".body", ".run", "bob@example.com/"} {
		if !strings.Contains(clear, kind) {
			t.Fatalf("in the clear: %s: the test shows less than it says", clear)
		}
	}
	key, err := seal.KeyOf(bytes.Repeat([]byte{3}, seal.KeySize))
	h.must(err)
	h.write(h.layout.StoreKeyFile(), key.Octets())
	h.manifest.Store = &manifest.Store{Encrypt: true}
	h.writeManifest()
	h.hangup <- os.Interrupt
	h.until("nothing is in the clear", func() bool { return len(clearFiles(h, "canaria")) == 0 })
	search()
	var st store.Stats
	h.until("it is told", func() bool {
		var err error
		st, err = h.store.(*store.Log).Stats(t.Context())
		h.must(err)
		return st.Sealing != nil && st.Sealing.On && st.Sealing.ClearFiles == 0 && !st.Sealing.Since.IsZero()
	})
	var told manifest.Status
	h.until("the server tells, too", func() bool {
		var err error
		told, err = h.control.Status(t.Context())
		h.must(err)
		return told.Encryption != nil && told.Encryption.Looked && told.Encryption.ClearFiles == 0
	})
	h.must(h.stop())
	if found := clearFiles(h, "canaria"); len(found) > 0 {
		t.Errorf("in the clear after the end: %v", found)
	}
	h.start()
	search()
}
