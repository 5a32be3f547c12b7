package daemon

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailform/server/manifest"
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
