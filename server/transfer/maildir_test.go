package transfer

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func compressWith(t *testing.T, w io.WriteCloser, buf *bytes.Buffer, text string) string {
	t.Helper()
	_, err := io.WriteString(w, text)
	must(t, err)
	must(t, w.Close())
	return buf.String()
}

// Maildirs as servers leave them behind: what their files beside the messages say
// comes along.
func TestMaildirMarks(t *testing.T) {
	t.Parallel()
	const date = "2020-01-02 03:04:05 "
	is := func(flags, n string) string { return fmt.Sprintf(`%s%s "a: %s\r\n\r\n%s\r\n"`, date, flags, n, n) }
	text := func(n string) string { return "a: " + n + "\n\n" + n + "\n" }
	var gz, zs bytes.Buffer
	packed := compressWith(t, gzip.NewWriter(&gz), &gz, text("5"))
	z, err := zstd.NewWriter(&zs)
	must(t, err)
	zpacked := compressWith(t, z, &zs, text("6"))
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		// As its uidlist has them, and then what it has not seen.
		"order of Dovecot": {map[string]string{
			"dovecot-uidlist":      "3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1\n25006 :1.b,S=9,W=12\n25017 W12 :2.a,S=9\n",
			"cur/1.b,S=9,W=12:2,S": text("2"), "cur/2.a,S=9,W=12:2,": text("3"), "new/0.c": text("4"),
		}, []string{is(`\Seen`, "2"), is("", "3"), is("", "4")}},
		"order of Dovecot 1": {map[string]string{
			"dovecot-uidlist": "1 1275660208 3\n1 2.a\n2 1.b:2,S\n", "cur/1.b:2,S": text("2"), "cur/2.a:2,": text("3"),
		}, []string{is("", "3"), is(`\Seen`, "2")}},
		"keywords of Dovecot": {map[string]string{
			"dovecot-keywords": "0 $label1\n1 work\n25 last\n26 none\nx\n", "cur/1.a:2,Sabz": text("2"), "cur/2.a:2,c": text("3"),
		}, []string{is(`$label1,\Seen,last,work`, "2"), is("", "3")}},
		"keywords of Courier": {map[string]string{
			"courierimapkeywords/:list": "$label1\nto do\nwork\n\n1.a,S=9:0 2\n2.a:2\n3.a:0\n4.a:9 x\n", "courierimapkeywords/.2.3.a": "later\n", "courierimapkeywords/.1.3.a": "before\n",
			"courierimapsubscribed": "INBOX.x\n", "cur/1.a,S=9:2,S": text("1"), "cur/2.a:2,": text("2"), "cur/3.a:2,": text("3"), "cur/4.a:2,": text("4"),
		}, []string{is(`$label1,\Seen,work`, "1"), is("work", "2"), is("later", "3"), is("", "4")}},
		"without colons": {map[string]string{"cur/1.a!2,S": text("1"), "cur/2.a;2,F": text("2"), "cur/3.a": text("3")}, []string{is(`\Seen`, "1"), is(`\Flagged`, "2"), is("", "3")}},
		"compressed":     {map[string]string{"cur/5.a:2,S": packed, "cur/6.a:2,S": zpacked}, []string{is(`\Seen`, "5"), is(`\Seen`, "6")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, sub := range []string{"cur", "new", "tmp"} {
				must(t, os.MkdirAll(filepath.Join(dir, sub), 0o700))
			}
			for f, text := range c.files {
				write(t, filepath.Join(dir, f), text, day)
			}
			got, _, warned := imported(t, func(warn func(string)) Source { return Maildir{Dir: dir, Warn: warn} })
			same(t, got, map[string][]string{"INBOX": c.want})
			if len(warned) > 0 {
				t.Errorf("said %q", warned)
			}
		})
	}
}

// Links lead to mail, too: the Maildir itself, and messages that deduplication linked.
func TestMaildirLinks(t *testing.T) {
	t.Parallel()
	real, dir := t.TempDir(), t.TempDir()
	write(t, filepath.Join(real, "cur", "1.a:2,"), "a: 1\n\n", day)
	write(t, filepath.Join(real, "elsewhere"), "a: 2\n\n", day)
	must(t, os.Symlink(filepath.Join(real, "elsewhere"), filepath.Join(real, "cur", "2.a:2,")))
	must(t, os.Symlink(filepath.Join(real, "nowhere"), filepath.Join(real, "cur", "3.a:2,")))
	write(t, filepath.Join(dir, "other", "cur", "1.a:2,"), "a: 1\n\n", day)
	must(t, os.Symlink(filepath.Join(dir, "other"), filepath.Join(real, ".Linked")))
	must(t, os.Symlink(real, filepath.Join(dir, "Maildir")))
	got, c, warned := imported(t, func(warn func(string)) Source { return Maildir{Dir: filepath.Join(dir, "Maildir"), Warn: warn} })
	const date = "2020-01-02 03:04:05 "
	same(t, got, map[string][]string{"INBOX": {date + ` "a: 1\r\n\r\n"`, date + ` "a: 2\r\n\r\n"`}})
	if c.Imported != 2 || len(warned) != 1 || !strings.Contains(warned[0], ".Linked is left out") {
		t.Errorf("%+v, said %q", c, warned)
	}
}

// A mail program that is at work meanwhile moves messages and changes flags: each
// message comes, with the flags that it has when it is read.
func TestMaildirChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 5 {
		write(t, filepath.Join(dir, "new", fmt.Sprintf("%d.a", i)), fmt.Sprintf("a: %d\n\n", i), day)
	}
	must(t, os.MkdirAll(filepath.Join(dir, "cur"), 0o700))
	change := func() {
		must(t, os.Rename(filepath.Join(dir, "new", "2.a"), filepath.Join(dir, "cur", "2.a:2,S")))
		must(t, os.Rename(filepath.Join(dir, "new", "3.a"), filepath.Join(dir, "cur", "3.a,S=9:2,F")))
		must(t, os.Remove(filepath.Join(dir, "new", "4.a")))
	}
	s := open(t)
	c, err := (&Importer{Server: &direct{Store: s}, Account: alice}).Run(t.Context(), whileRead{Maildir{Dir: dir}, change})
	must(t, err)
	const date = "2020-01-02 03:04:05 "
	same(t, content(t, s), map[string][]string{"INBOX": {date + ` "a: 0\r\n\r\n"`, date + ` "a: 1\r\n\r\n"`, date + `\Seen "a: 2\r\n\r\n"`, date + `\Flagged "a: 3\r\n\r\n"`}})
	if c.Imported != 4 || c.Failed != 0 {
		t.Errorf("%+v", c)
	}
}

// A message that cannot be read does not keep the others: it is named and counted.
func TestMaildirUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cur", "1.a:2,"), "\x1f\x8b\x08garbage", day)
	write(t, filepath.Join(dir, "cur", "2.a:2,"), "a: 2\n\n", day)
	write(t, filepath.Join(dir, "cur", "3.a:2,"), "\xfd7zXZ\x00garbage", day)
	var warned []string
	s := open(t)
	c, err := (&Importer{Server: &direct{Store: s}, Account: alice}).Run(t.Context(), Maildir{Dir: dir, Warn: func(text string) { warned = append(warned, text) }})
	must(t, err)
	if c.Imported != 1 || c.Failed != 2 || len(warned) != 2 || !strings.Contains(warned[1], "unpack it first") {
		t.Errorf("%+v, said %q", c, warned)
	}
}

// Names that the store would refuse are changed into ones that it takes.
func TestMaildirNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{".100%", ".a*b", ".bell\x07", ".latin\xe9", ".a..b", ".INBOX.Sub", "." + strings.Repeat("a.", 60)} {
		write(t, filepath.Join(dir, name, "cur", "1.a:2,"), "a: 1\n\n", day)
	}
	got, _, _ := imported(t, func(warn func(string)) Source { return Maildir{Dir: dir, Warn: warn} })
	in := []string{`2020-01-02 03:04:05  "a: 1\r\n\r\n"`}
	deep := strings.Repeat("a/", 49) + "a" + strings.Repeat("_a", 10)
	for _, name := range []string{"100_", "a_b", "bell_", "latin_", "a/b", "INBOX/Sub", deep} {
		if len(got[name]) != 1 || got[name][0] != in[0] {
			t.Errorf("%s: %q", name, got[name])
		}
	}
}
