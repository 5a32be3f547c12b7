package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailform/server/store"
)

const alice = "alice@example.org"

// direct is a Server without a socket in between.
type direct struct {
	store.Store
	fail func(n int) error // before the n-th batch; may be nil
	n    int
}

func (d *direct) Begin(context.Context, string) error { return nil }

// now is a commit that nothing speaks against.
func now(f func() error) error { return f() }

func (d *direct) Imported(ctx context.Context, account string) (ids []string, err error) {
	err = Imported(ctx, d.Store, account, func(id string) error {
		ids = append(ids, id)
		return nil
	})
	return ids, err
}

func (d *direct) Import(ctx context.Context, account string, frames io.Reader, length int64) error {
	d.n++
	if d.fail != nil {
		if err := d.fail(d.n); err != nil {
			return err
		}
	}
	counted := &io.LimitedReader{R: frames, N: length + 1}
	if err := Receive(ctx, d.Store, account, counted, now); err != nil {
		return err
	}
	if counted.N != 1 {
		return fmt.Errorf("the length was wrong by %d", counted.N-1)
	}
	return nil
}

func open(t testing.TB) *store.Log {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{ReserveBytes: -1})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	must(t, s.EnsureAccount(context.Background(), alice, 0))
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content describes every message of an account, by mailbox.
func content(t testing.TB, s store.Store) map[string][]string { return contentOf(t, s, alice) }

func contentOf(t testing.TB, s store.Store, account string) map[string][]string {
	t.Helper()
	ctx := context.Background()
	boxes, err := s.Mailboxes(ctx, account)
	must(t, err)
	out := map[string][]string{}
	for _, b := range boxes {
		snap, watch, err := s.Open(ctx, account, b.Name)
		must(t, err)
		watch.Close()
		if snap.Messages.Len() > 0 || b.SpecialUse == "" {
			out[b.Name] = []string{}
		}
		for _, m := range snap.Messages.All() {
			r, err := s.Read(ctx, account, *m)
			must(t, err)
			text, err := io.ReadAll(r)
			must(t, err)
			must(t, r.Close())
			out[b.Name] = append(out[b.Name], fmt.Sprintf("%s %s %q", m.InternalDate.UTC().Format(time.DateTime), strings.Join(m.Flags, ","), text))
		}
	}
	return out
}

func same(t rapid.TB, got, want map[string][]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("there is a mailbox %s with %q", name, got[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !slices.Equal(got[name], want[name]) {
			t.Errorf("%s:\n got %q\nwant %q", name, got[name], want[name])
		}
	}
}

func write(t testing.TB, path, text string, date time.Time) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte(text), 0o600))
	if !date.IsZero() {
		must(t, os.Chtimes(path, date, date))
	}
}

var day = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

// A Maildir as Dovecot keeps it, with folders, keywords and names in UTF-7.
func dovecotMaildir(t testing.TB) string {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cur", "2.x.host,S=7:2,FS"), "a: 2\n\n2\n", day.Add(time.Hour))
	write(t, filepath.Join(dir, "cur", "1.x.host:2,Sab"), "a: 1\r\n\r\n1\r\n", day)
	write(t, filepath.Join(dir, "new", "3.x.host"), "a: 3\n\nno line end", day.Add(2*time.Hour))
	write(t, filepath.Join(dir, "tmp", "4.x.host"), "half", day)
	write(t, filepath.Join(dir, "dovecot-keywords"), "0 $label1\n1 work\n", day)
	write(t, filepath.Join(dir, ".Sent Items", "cur", "1.s:2,S"), "a: s\n\n", day)
	write(t, filepath.Join(dir, ".Entw&APw-rfe.2020&AC4-x", "cur", "1.e:2,D"), "a: e\n\ne\n", day)
	must(t, os.MkdirAll(filepath.Join(dir, ".Empty", "cur"), 0o700))
	write(t, filepath.Join(dir, ".Zip", "cur", "1.z:2,"), "\x1f\x8b\x08garbage", day)
	return dir
}

var dovecotContent = map[string][]string{
	"INBOX": {
		`2020-01-02 03:04:05 $label1,\Seen,work "a: 1\r\n\r\n1\r\n"`,
		`2020-01-02 04:04:05 \Flagged,\Seen "a: 2\r\n\r\n2\r\n"`,
		`2020-01-02 05:04:05  "a: 3\r\n\r\nno line end"`,
	},
	"Sent":            {`2020-01-02 03:04:05 \Seen "a: s\r\n\r\n"`},
	"Entwürfe":        {},
	"Entwürfe/2020.x": {`2020-01-02 03:04:05 \Draft "a: e\r\n\r\ne\r\n"`},
	"Empty":           {},
	"Zip":             {},
}

func TestMaildir(t *testing.T) {
	s := open(t)
	var warned []string
	source := Maildir{Dir: dovecotMaildir(t), Warn: func(text string) { warned = append(warned, text) }}
	im := &Importer{Server: &direct{Store: s}, Account: alice, DryRun: true}
	c, err := im.Run(t.Context(), source)
	must(t, err)
	if c.Imported != 5 || c.Mailboxes != 5 {
		t.Errorf("a dry run counts %+v", c)
	}
	same(t, content(t, s), map[string][]string{"INBOX": {}})

	im.DryRun = false
	c, err = im.Run(t.Context(), source)
	must(t, err)
	if c.Imported != 5 || c.Present != 0 || len(warned) != 2 {
		t.Errorf("imported %+v, warned of %q", c, warned)
	}
	same(t, content(t, s), dovecotContent)

	// Again, with another message, another flag and the Maildir somewhere else.
	moved := filepath.Join(t.TempDir(), "moved")
	must(t, os.Rename(source.Dir, moved))
	must(t, os.Rename(filepath.Join(moved, "new", "3.x.host"), filepath.Join(moved, "cur", "3.x.host,S=1:2,S")))
	write(t, filepath.Join(moved, "new", "5.x.host"), "a: 5\n\n", day.Add(3*time.Hour))
	c, err = im.Run(t.Context(), Maildir{Dir: moved})
	must(t, err)
	if c.Imported != 1 || c.Present != 5 {
		t.Errorf("the second time: %+v", c)
	}

	if _, err := im.Run(t.Context(), Maildir{Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "is no Maildir") {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestMap(t *testing.T) {
	s := open(t)
	im := &Importer{Server: &direct{Store: s}, Account: alice, Map: map[string]string{"INBOX": "Old/Inbox", "Sent Items": ""}}
	c, err := im.Run(t.Context(), Maildir{Dir: dovecotMaildir(t)})
	must(t, err)
	want := maps.Clone(dovecotContent)
	want["Old/Inbox"], want["Old"], want["INBOX"] = want["INBOX"], []string{}, []string{}
	delete(want, "Sent")
	same(t, content(t, s), want)
	if c.Skipped != 1 {
		t.Errorf("%+v", c)
	}
}

const mboxText = `From alice@x Thu Jan  2 03:04:05 2020
Subject: one
Status: RO
X-Status: AF
X-Keywords: work $label1
Content-Length: 999

Hello
>From the start
>>From quoted
From here on it is text

From bob Fri Jan  3 03:04:05 2020 +0100
Subject: two


From MAILER-DAEMON Fri Jan  3 03:04:05 2020
Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA
X-IMAP: 1 2

internal

From x@y Sat Jan  4 03:04:05 2020
Subject: two


From x@y Sat Jan  4 03:04:05 2020
Subject: two

`

func TestMbox(t *testing.T) {
	s := open(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Inbox"), mboxText, time.Time{})
	write(t, filepath.Join(dir, "Inbox.msf"), "index", time.Time{})
	write(t, filepath.Join(dir, "Inbox.sbd", "Work.mbox"), "From a Sat Jan  4 03:04:05 2020\na: w\n\nw\n", time.Time{})
	im := &Importer{Server: &direct{Store: s}, Account: alice}
	c, err := im.Run(t.Context(), Mbox{Path: dir})
	must(t, err)
	if c.Imported != 5 {
		t.Errorf("imported %+v", c)
	}
	same(t, content(t, s), map[string][]string{
		"INBOX": {
			`2020-01-02 03:04:05 $label1,\Answered,\Flagged,\Seen,work "Subject: one\r\n\r\nHello\r\nFrom the start\r\n>From quoted\r\nFrom here on it is text\r\n"`,
			`2020-01-03 02:04:05  "Subject: two\r\n\r\n"`,
			`2020-01-04 03:04:05  "Subject: two\r\n\r\n"`,
			`2020-01-04 03:04:05  "Subject: two\r\n\r\n"`,
		},
		"INBOX/Work": {`2020-01-04 03:04:05  "a: w\r\n\r\nw\r\n"`},
	})
	c, err = im.Run(t.Context(), Mbox{Path: dir})
	must(t, err)
	if c.Imported != 0 || c.Present != 5 {
		t.Errorf("the second time: %+v", c)
	}
	if _, err := im.Run(t.Context(), Mbox{Path: filepath.Join(dir, "Inbox.msf")}); err == nil || !strings.Contains(err.Error(), "is no mbox") {
		t.Errorf("a file that is none: %v", err)
	}
}

// An import that is cut short anywhere continues without a loss or a double.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	const messages = 3000
	for i := range messages {
		write(t, filepath.Join(dir, "cur", fmt.Sprintf("%05d.x:2,S", i)), fmt.Sprintf("n: %d\n\n%s", i, strings.Repeat("line\n", i%50)), day)
	}
	want := func() map[string][]string {
		s := open(t)
		_, err := (&Importer{Server: &direct{Store: s}, Account: alice}).Run(t.Context(), Maildir{Dir: dir})
		must(t, err)
		return content(t, s)
	}()
	s := open(t)
	broken := errors.New("the server went away")
	runs := 0
	for {
		runs++
		d := &direct{Store: s, fail: func(n int) error {
			if n == 3 {
				return broken
			}
			return nil
		}}
		_, err := (&Importer{Server: d, Account: alice}).Run(t.Context(), Maildir{Dir: dir})
		if err == nil {
			break
		}
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
	}
	if runs < 3 {
		t.Errorf("%d runs", runs)
	}
	same(t, content(t, s), want)
}

func TestExport(t *testing.T) {
	s := open(t)
	_, err := (&Importer{Server: &direct{Store: s}, Account: alice}).Run(t.Context(), Maildir{Dir: dovecotMaildir(t)})
	must(t, err)
	text := "a: q\r\n\r\nFrom here\r\n>From there\r\n\r\n" + strings.Repeat("x", 3<<20) + "\r\nend\r\n"
	_, err = s.Import(t.Context(), alice, []store.Incoming{{Mailbox: "INBOX", Body: strings.NewReader(text), Size: -1, InternalDate: day, Flags: []string{"$Forwarded"}}})
	must(t, err)
	var frames bytes.Buffer
	must(t, Send(t.Context(), s, alice, &frames))

	for _, kind := range []string{"maildir", "mbox"} {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			var sink Sink
			var err error
			var source Source = Maildir{Dir: dir}
			if kind == "mbox" {
				source = Mbox{Path: dir}
				sink, err = NewMboxSink(dir)
			} else {
				sink, err = NewMaildirSink(dir)
			}
			must(t, err)
			c, err := Export(t.Context(), bytes.NewReader(frames.Bytes()), sink, nil)
			must(t, err)
			if c.Imported != 6 {
				t.Errorf("exported %+v", c)
			}
			// What was exported, imported elsewhere, is what there was.
			back := open(t)
			_, err = (&Importer{Server: &direct{Store: back}, Account: alice}).Run(t.Context(), source)
			must(t, err)
			got, want := content(t, back), content(t, s)
			for _, c := range []map[string][]string{got, want} {
				for name := range c {
					if len(c[name]) == 0 {
						delete(c, name) // an mbox without a message is an empty file
					}
					for i, text := range c[name] {
						if kind == "mbox" { // every message ends with a line end there
							c[name][i] = strings.ReplaceAll(text, `no line end"`, `no line end\r\n"`)
						}
					}
					slices.Sort(c[name])
				}
			}
			same(t, got, want)
			if _, err := NewMaildirSink(dir); err == nil {
				t.Error("an export goes into a directory that is not empty")
			}
		})
	}
	for _, cut := range []int{1, frames.Len() / 2, frames.Len() - 1} {
		sink, err := NewMboxSink(filepath.Join(t.TempDir(), "cut"))
		must(t, err)
		if _, err := Export(t.Context(), bytes.NewReader(frames.Bytes()[:cut]), sink, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("an export cut at %d is taken for a whole one: %v", cut, err)
		}
	}
}

func FuzzReceive(f *testing.F) {
	s := open(f)
	_, err := s.Import(f.Context(), alice, []store.Incoming{{Mailbox: "INBOX", Body: strings.NewReader("a: b\r\n"), Size: -1}})
	must(f, err)
	var frames bytes.Buffer
	must(f, Send(f.Context(), s, alice, &frames))
	f.Add(frames.Bytes())
	f.Add(end)
	f.Fuzz(func(t *testing.T, b []byte) {
		before, _, err := s.Usage(t.Context(), alice)
		must(t, err)
		if Receive(t.Context(), s, alice, bytes.NewReader(b), now) != nil {
			if after, _, _ := s.Usage(t.Context(), alice); after != before {
				t.Fatal("a part of a batch that was refused is there")
			}
		}
	})
}

// An mbox of any octets is walked to its end, and gives what it holds.
func FuzzMbox(f *testing.F) {
	f.Add([]byte(mboxText))
	f.Add([]byte("From \n"))
	f.Add([]byte("From a 1:23\n\nFrom b 1:23\n\n\n\nFrom c 1:23"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "m")
		must(t, os.WriteFile(path, text, 0o600))
		total := 0
		err := Mbox{Path: path}.Walk(t.Context(), nil, func(m *Message) error {
			if m.Body == nil {
				return nil
			}
			n, err := io.Copy(io.Discard, m.Body)
			total += int(n)
			return err
		})
		if total > len(text) {
			t.Fatalf("%d octets came out of %d: %v", total, len(text), err)
		}
	})
}
