package transfer

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// imported imports a source into a new account and describes what is there, and what
// was said.
func imported(t *testing.T, source func(warn func(string)) Source) (map[string][]string, Counts, []string) {
	t.Helper()
	var warned []string
	s := open(t)
	im := &Importer{Server: &direct{Store: s}, Account: alice}
	from := source(func(text string) { warned = append(warned, text) })
	c, err := im.Run(t.Context(), from)
	must(t, err)
	got := content(t, s)
	again, err := im.Run(t.Context(), from)
	if err != nil || again.Imported != 0 || again.Present != c.Imported {
		t.Errorf("the second time: %+v, %v, after %+v", again, err, c)
	}
	return got, c, warned[:len(warned)/2]
}

const sep = "From a@x Sat Jan  4 03:04:05 2020\n"

// Each way to write an mbox gives the messages that were put into it.
func TestMboxVariants(t *testing.T) {
	t.Parallel()
	const date = "2020-01-04 03:04:05 "
	one, two := date+` "a: 1\r\n\r\n1\r\n"`, date+` "a: 2\r\n\r\n2\r\n"`
	withLength := func(body string) string {
		return fmt.Sprintf("%sContent-Length: %d\na: 1\n\n%s\n", sep, len(body), body)
	}
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty file": {"", nil},
		"mboxo":      {sep + "a: 1\n\n>From me\n\n" + sep + "a: 2\n\n2\n\n", []string{date + ` "a: 1\r\n\r\nFrom me\r\n"`, two}},
		"mboxrd":     {sep + "a: 1\n\n>From me\n>>From you\n\n" + sep + "a: 2\n\n2\n\n", []string{date + ` "a: 1\r\n\r\nFrom me\r\n>From you\r\n"`, two}},
		"mboxcl":     {withLength("x\n\n>"+sep+"a: b\n") + sep + "a: 2\n\n2\n\n", []string{date + ` "a: 1\r\n\r\nx\r\n\r\nFrom a@x Sat Jan  4 03:04:05 2020\r\na: b\r\n"`, two}},
		"mboxcl2": {withLength("x\n\n"+sep+"a: b\n>From as it is\n") + sep + "a: 2\n\n2\n\n",
			[]string{date + ` "a: 1\r\n\r\nx\r\n\r\nFrom a@x Sat Jan  4 03:04:05 2020\r\na: b\r\n>From as it is\r\n"`, two}},
		"mboxcl2 at the end":         {withLength("x\n\n" + sep + "a: b\n"), []string{date + ` "a: 1\r\n\r\nx\r\n\r\nFrom a@x Sat Jan  4 03:04:05 2020\r\na: b\r\n"`}},
		"a length that is too short": {strings.Replace(withLength("1\n"), "Length: 2", "Length: 1", 1) + sep + "a: 2\n\n2\n\n", []string{one, two}},
		"a length that is too long":  {strings.Replace(withLength("1\n"), "Length: 2", "Length: 30", 1) + sep + "a: 2\n\n2\n\n", []string{one, two}},
		"a length beyond the file":   {strings.Replace(withLength("1\n"), "Length: 2", "Length: 9223372036854775807", 1) + sep + "a: 2\n\n2\n\n", []string{one, two}},
		"a length below zero":        {strings.Replace(withLength("1\n"), "Length: 2", "Length: -2", 1) + sep + "a: 2\n\n2\n\n", []string{one, two}},
		"CRLF":                       {strings.ReplaceAll(sep+"a: 1\n\n1\n\n"+sep+"a: 2\n\n2\n\n", "\n", "\r\n"), []string{one, two}},
		"no empty line between":      {sep + "a: 1\n\n1\n" + sep + "a: 2\n\n2\n", []string{one, two}},
		"cut in a body":              {sep + "a: 1\n\n1\n\n" + sep + "a: 2\n\n2 and no", []string{one, date + ` "a: 2\r\n\r\n2 and no"`}},
		"cut in a header":            {sep + "a: 1\n\n1\n\n" + sep + "a: 2", []string{one, date + ` "a: 2"`}},
		"cut in a header, then more": {sep + "a: 1\n" + sep + "a: 2\n\n2\n\n", []string{date + ` "a: 1\r\n"`, two}},
		"a last line of NULs":        {sep + "a: 1\n\n1\n\n\x00\x00\x00", []string{date + ` "a: 1\r\n\r\n1\r\n\r\n\x00\x00\x00"`}},
		"text that looks like one":   {sep + "a: 1\n\n1\n\nFrom here at 10:30 on\n\nFrom Monday 2020 to Jan 3 04:05\n\n" + sep + "a: 2\n\n2\n\n", []string{date + ` "a: 1\r\n\r\n1\r\n\r\nFrom here at 10:30 on\r\n\r\nFrom Monday 2020 to Jan 3 04:05\r\n"`, two}},
		"lines that go on": {sep + "X-Keywords: work\n\t$label1\na: 1\n b\nStatus: R\n  O\n\n1\n\n" + sep + "a: 2\n\n2\n\n",
			[]string{date + `$label1,\Seen,work "a: 1\r\n b\r\n\r\n1\r\n"`, two}},
		"no dates in From lines": {"From nobody\nDate: Sat, 4 Jan 2020 03:04:05 +0000\n\n1\n\nFrom here on\ntext\n\nFrom nobody\nDate: Sat, 4 Jan 2020 03:04:05 +0000\n\n2\n",
			[]string{date + ` "Date: Sat, 4 Jan 2020 03:04:05 +0000\r\n\r\n1\r\n\r\nFrom here on\r\ntext\r\n"`, date + ` "Date: Sat, 4 Jan 2020 03:04:05 +0000\r\n\r\n2\r\n"`}},
		"Pine's own message": {"From MAILER-DAEMON Fri Jan  3 03:04:05 2020\nFrom: Mail System Internal Data <MAILER-DAEMON@x>\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1578020645 0000000002 $label1\nStatus: RO\n\nThis text is part of the internal format of your mail folder\n\n" + sep + "X-IMAPbase: 1578020645 2\nX-UID: 1\na: 1\n\n1\n\n" + sep + "X-UID: 2\na: 2\n\n2\n\n",
			[]string{one, two}},
		"Thunderbird": {
			"From - Sat Jan 04 03:04:05 2020\nX-Mozilla-Status: 0001\nX-Mozilla-Status2: 00000000\nX-Mozilla-Keys: $label1 work                                       \na: 1\n\n1\n\n" +
				"From - Sat Jan 04 03:04:05 2020\nX-Mozilla-Status: 1007\nX-Mozilla-Status2: 00800000\nX-Mozilla-Keys:                                                    \na: 2\n\n2\n\n" +
				"From - Sat Jan 04 03:04:05 2020\nX-Mozilla-Status: 0009\na: gone\n\n3\n\n" +
				"From - Sat Jan 04 03:04:05 2020\nX-Mozilla-Status: 0000\nX-Mozilla-Status2: 06200000\na: 4\n\n4\n\n",
			[]string{date + `$label1,\Seen,work "a: 1\r\n\r\n1\r\n"`, date + `$Forwarded,$MDNSent,\Answered,\Flagged,\Seen "a: 2\r\n\r\n2\r\n"`, date + `$label3,\Deleted "a: 4\r\n\r\n4\r\n"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "m")
			write(t, path, c.text, time.Time{})
			got, counts, warned := imported(t, func(warn func(string)) Source { return Mbox{Path: path, Warn: warn} })
			same(t, got, map[string][]string{"INBOX": c.want})
			if deleted := name == "Thunderbird"; deleted != (counts.Deleted == 1) || deleted != (len(warned) == 1) {
				t.Errorf("%+v, and said %q", counts, warned)
			}
		})
	}
}

// From lines with dates as programs have written them.
func TestFromLines(t *testing.T) {
	t.Parallel()
	want := time.Date(2020, 1, 4, 3, 4, 5, 0, time.UTC)
	for _, line := range []string{
		"From a@x Sat Jan  4 03:04:05 2020", "From - Sat Jan 04 03:04:05 2020", "From 1661828917674532318@xxx Sat Jan 04 03:04:05 +0000 2020",
		"From a b <c@x> Sat Jan  4 04:04:05 2020 +0100", "From a@x Sat Jan 4 03:04:05 UTC 2020", "From ???@??? Sat Jan 04 03:04:05 2020",
		"From a@x Sat, 4 Jan 2020 03:04:05 +0000", "From a@x 4 Jan 2020 03:04:05 +0000", "From a@x 2020-01-04 03:04:05", "From a@x 2020-01-04T03:04:05Z",
		"From a@x  Sat Jan  4 03:04:05 2020\r",
	} {
		if !isFrom([]byte(line + "\n")) {
			t.Errorf("%q is none", line)
		}
		if got := fromDate([]byte(line + "\n")); !got.Equal(want) {
			t.Errorf("%q is of %s", line, got)
		}
	}
	for _, line := range []string{"From here on at 10:30", "From: a Sat Jan  4 03:04:05 2020", "from a Sat Jan  4 03:04:05 2020", "From Sat to Sun", "From 2020-01-04 on"} {
		if isFrom([]byte(line + "\n")) {
			t.Errorf("%q is one", line)
		}
	}
}

// A line of megabytes is one line: what stands in its middle is not taken for a From
// line, and nothing of it is quoted.
func TestMboxLongLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLine) + "From a@x Sat Jan  4 03:04:05 2020" + strings.Repeat("y", 2*maxLine)
	path := filepath.Join(t.TempDir(), "m")
	write(t, path, sep+"a: 1\n\n"+long+"\n\n"+sep+"a: "+long+"\n\n2\n", time.Time{})
	var got []string
	must(t, Mbox{Path: path}.Walk(t.Context(), nil, func(m *Message) error {
		if m.Body == nil {
			return nil
		}
		text, err := io.ReadAll(m.Body)
		got = append(got, string(text))
		return err
	}))
	if len(got) != 2 || got[0] != "a: 1\n\n"+long+"\n" || got[1] != "a: "+long+"\n\n2\n" {
		t.Errorf("%d messages", len(got))
	}
}

// A file that is written to while it is read ends in a message that is not whole:
// that one is left for the next time.
func TestMboxGrows(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m")
	write(t, path, sep+"a: 1\n\n1\n\n"+sep+"a: 2\n\nhalf of", time.Time{})
	s := open(t)
	var warned []string
	grow := func(text string) {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		_, err = f.WriteString(text)
		must(t, err)
		must(t, f.Close())
	}
	im := &Importer{Server: &direct{Store: s}, Account: alice}
	c, err := im.Run(t.Context(), whileRead{Mbox{Path: path, Warn: func(text string) { warned = append(warned, text) }}, func() { grow(" it") }})
	must(t, err)
	if c.Imported != 1 || c.Failed != 1 || len(warned) != 1 || !strings.Contains(warned[0], "changed while it was read") {
		t.Errorf("%+v, %q", c, warned)
	}
	grow(" and the rest\n\n")
	c, err = im.Run(t.Context(), Mbox{Path: path})
	must(t, err)
	if c.Imported != 1 || c.Present != 1 {
		t.Errorf("%+v", c)
	}
	const date = "2020-01-04 03:04:05 "
	same(t, content(t, s), map[string][]string{"INBOX": {date + ` "a: 1\r\n\r\n1\r\n"`, date + ` "a: 2\r\n\r\nhalf of it and the rest\r\n"`}})
}

// whileRead does something when the first message has been read.
type whileRead struct {
	Source
	then func()
}

func (w whileRead) Walk(ctx context.Context, want func(string) bool, visit func(*Message) error) error {
	return w.Source.Walk(ctx, want, func(m *Message) error {
		err := visit(m)
		if m.Body != nil && w.then != nil {
			w.then()
			w.then = nil
		}
		return err
	})
}

// Gmail's export: each message goes to one place, and what its labels say besides is kept.
func TestGmailExport(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "Takeout", "Mail")
	var text strings.Builder
	for i, labels := range []string{
		"Inbox,Important,Opened,Category Promotions", "Inbox,Unread,Starred,Work/Projects", "Archived,Opened,Work/Projects,\"Receipts, 2020\"",
		"Sent,Opened", "Draft", "Spam,Category Promotions,Unread", "Trash,Inbox,Opened", "Archived,Unread",
		"=?UTF-8?Q?Posteingang,Ungelesen,Entw=C3=BCrfe_alt?=", "Archived,\n =?UTF-8?B?5Y+R56Wo?=",
	} {
		fmt.Fprintf(&text, "From %d@xxx Sat Jan 04 03:04:05 +0000 2020\nX-GM-THRID: %d\nX-Gmail-Labels: %s\na: %d\n\n%d\n\n", i, i, labels, i, i)
	}
	write(t, filepath.Join(dir, "All mail Including Spam and Trash.mbox"), text.String(), time.Time{})
	write(t, filepath.Join(dir, "User Settings", "Filters.json"), "{}", time.Time{})
	got, _, warned := imported(t, func(warn func(string)) Source { return Mbox{Path: dir, Warn: warn} })
	is := func(i int, flags string) string {
		return fmt.Sprintf(`2020-01-04 03:04:05 %s "X-GM-THRID: %d\r\na: %d\r\n\r\n%d\r\n"`, flags, i, i, i)
	}
	same(t, got, map[string][]string{
		"INBOX":         {is(0, `$Important,\Seen`), is(1, `Work/Projects,\Flagged`), is(8, `Entw&APw-rfe_alt`)},
		"Work":          {},
		"Work/Projects": {is(2, `Receipts,_2020,\Seen`)},
		"Sent":          {is(3, `\Seen`)},
		"Drafts":        {is(4, `\Draft,\Seen`)},
		"Junk":          {is(5, ``)},
		"Trash":         {is(6, `\Seen`)},
		"Archive":       {is(7, ``)},
		"发票":            {is(9, `\Seen`)},
	})
	if len(warned) != 1 {
		t.Errorf("said %q", warned)
	}

	// A label that changed makes no second copy.
	s := open(t)
	im := &Importer{Server: &direct{Store: s}, Account: alice, Map: map[string]string{"Sent": ""}}
	c, err := im.Run(t.Context(), Mbox{Path: dir})
	must(t, err)
	if c.Imported != 9 || c.Skipped != 1 {
		t.Errorf("one folder left out: %+v", c)
	}
	write(t, filepath.Join(dir, "All mail Including Spam and Trash.mbox"), strings.Replace(text.String(), "Labels: Inbox,", "Labels: Archived,", 1), time.Time{})
	c, err = im.Run(t.Context(), Mbox{Path: dir})
	must(t, err)
	if c.Imported != 0 || c.Present != 9 {
		t.Errorf("with other labels: %+v", c)
	}
}

// The directories in which mail programs keep or export mbox files.
func TestMboxDirectories(t *testing.T) {
	t.Parallel()
	message := sep + "a: 1\n\n1\n\n"
	in := []string{`2020-01-04 03:04:05  "a: 1\r\n\r\n1\r\n"`}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := io.WriteString(z, message)
	must(t, err)
	must(t, z.Close())
	for name, c := range map[string]struct {
		files map[string]string
		want  map[string][]string
	}{
		"Thunderbird": {map[string]string{
			"Inbox": message, "Inbox.msf": "// <!-- <mdb:mork:z v=\"1.4\"/> -->", "Inbox.sbd/Work": message, "Inbox.sbd/Work.msf": "x", "Sent": message, "Trash": "", "Trash.msf": "x",
			"New": "", "New.msf": "x", "msgFilterRules.dat": "version=\"9\"", "popstate.dat": "# POP3 State File", "filterlog.html": "",
			"Lists.sbd/Go": message, "Unsent Messages": "", ".parentlock": "",
		}, map[string][]string{"INBOX": in, "INBOX/Work": in, "Sent": in, "Lists": {}, "Lists/Go": in, "New": {}}},
		"Apple Mail": {map[string]string{
			"Work.mbox/mbox": message, "Work.mbox/table_of_contents": "\x00\x01", "Work.mbox/Old.mbox/mbox": message, "Empty.mbox/mbox": "", ".DS_Store": "x",
		}, map[string][]string{"INBOX": {}, "Work": in, "Work/Old": in, "Empty": {}}},
		"Dovecot": {map[string]string{
			"inbox": message, ".imap/INBOX/dovecot.index": "x", ".imap/copy": message, "lists/go": message, ".subscriptions": "lists/go\n",
		}, map[string][]string{"INBOX": in, "lists": {}, "lists/go": in}},
		"compressed": {map[string]string{"2019.mbox.gz": packed.String(), "other.gz": "\x1f\x8bno"}, map[string][]string{"INBOX": {}, "2019": in}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for f, text := range c.files {
				write(t, filepath.Join(dir, f), text, time.Time{})
			}
			got, _, warned := imported(t, func(warn func(string)) Source { return Mbox{Path: dir, Warn: warn} })
			same(t, got, c.want)
			if len(warned) > 0 {
				t.Errorf("said %q", warned)
			}
		})
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Old letters.mbox", "mbox"), message, time.Time{})
	must(t, os.Symlink(filepath.Join(dir, "Old letters.mbox"), filepath.Join(dir, "link")))
	got, _, _ := imported(t, func(warn func(string)) Source { return Mbox{Path: filepath.Join(dir, "Old letters.mbox")} })
	same(t, got, map[string][]string{"INBOX": {}, "Old letters": in})
	got, _, _ = imported(t, func(warn func(string)) Source { return Mbox{Path: filepath.Join(dir, "link")} })
	same(t, got, map[string][]string{"INBOX": {}, "Old letters": in})
}
