package transfer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"mailform/server/store"
)

// What other servers keep beside the messages of a Maildir may hold anything.
func FuzzMaildirMarks(f *testing.F) {
	f.Add("0 Work\n25 $Later\n26 no\n-1 no\n", "Work\nLater\n\n1.a:0 1 7\n2.b:x\nnone\n", "3 V1 N9 G00\n2 W12 :1.a,S=9\n", "1.a,S=9:2,Saz")
	f.Add("", ":\n\n:0\n", "1 1 3\n1 2.a\n", ":2,")
	f.Fuzz(func(t *testing.T, dovecot, courier, uids, name string) {
		dir := t.TempDir()
		must(t, os.Mkdir(filepath.Join(dir, courierDir), 0o700))
		for path, text := range map[string]string{"dovecot-keywords": dovecot, "dovecot-uidlist": uids, filepath.Join(courierDir, ":list"): courier} {
			must(t, os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600))
		}
		marks, err := readMarks(dir)
		must(t, err)
		for c, k := range marks.letters {
			if c < 'a' || c > 'z' || !strings.Contains(dovecot, k) {
				t.Errorf("%q is the keyword %q", c, k)
			}
		}
		for _, k := range marks.flags(file{name: name}) {
			if !strings.HasPrefix(k, `\`) && k != "$Forwarded" && !strings.Contains(dovecot, k) && !strings.Contains(courier, k) {
				t.Errorf("%q has the flag %q", name, k)
			}
		}
		if _, err := dovecotUIDs(dir); err != nil {
			t.Error(err)
		}
	})
}

// Whatever labels a message has, it goes to a folder with flags that the store takes.
func FuzzGmailLabels(f *testing.F) {
	for _, s := range []string{"Inbox,Unread", `"a,b",Work/ü,Sent`, "=?UTF-8?Q?Entw=C3=BCrfe?=", "\"", ",,", "Category Promotions", strings.Repeat("/", 60)} {
		f.Add(s)
	}
	s := open(f)
	f.Fuzz(func(t *testing.T, text string) {
		l := parseGmailLabels(text)
		name := possible(l.folder)
		if _, err := s.Import(t.Context(), alice, []store.Incoming{{Mailbox: name, Flags: l.flags, Body: strings.NewReader("a: b\r\n"), Size: -1}}); err != nil {
			t.Fatalf("%q: to %q with %q: %v", text, name, l.flags, err)
		}
		if !strings.EqualFold(name, "INBOX") {
			if err := s.DeleteMailbox(t.Context(), alice, name); !errors.Is(err, store.ErrHasChildren) {
				must(t, err)
			}
		}
	})
}

// A header that is nothing but notes of mail programs takes no more memory than the
// file is large, some times over.
func TestManyMarks(t *testing.T) {
	for _, line := range []string{"Status: R\n", "X-Keywords: a\n b\n", " \n"} {
		text := "From a@b Mon Jan  1 00:00:00 2024\nContent-Length: 1\n" + strings.Repeat(line, 500_000/len(line))
		path := filepath.Join(t.TempDir(), "m")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		must(t, Mbox{Path: path}.Walk(t.Context(), nil, func(m *Message) error {
			if m.Body == nil {
				return nil
			}
			_, err := io.Copy(io.Discard, m.Body)
			return err
		}))
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 40*uint64(len(text)) {
			t.Errorf("%q: %d octets were allocated for %d", line, took, len(text))
		}
	}
}
