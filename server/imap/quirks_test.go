package imap

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// Text is found whatever character set a message says it is in, and whatever
// the client names for its query.
func TestSearchCharsets(t *testing.T) {
	w := newWorld(t)
	l := w.dial("a")
	l.login()
	l.send("0 SELECT INBOX\r\n")
	l.skip("0 OK *")
	for i, c := range []struct {
		charset string
		enc     encoding.Encoding
		text    string
	}{
		{"gbk", simplifiedchinese.GBK, "你好世界"}, {"gb2312", simplifiedchinese.GBK, "中文邮件"}, {"gb18030", simplifiedchinese.GB18030, "䶮和㐀"},
		{"big5", traditionalchinese.Big5, "繁體中文"}, {"iso-2022-jp", japanese.ISO2022JP, "日本語の手紙"},
	} {
		coded, err := c.enc.NewEncoder().String(c.text)
		if err != nil {
			t.Fatal(err)
		}
		w.deliver("INBOX", fmt.Sprintf("Subject: x\nContent-Type: text/plain; charset=%s\n\n%s\n", c.charset, coded))
		l.send("1 NOOP\r\n")
		l.skip("1 OK *")
		l.send(fmt.Sprintf("2 SEARCH CHARSET UTF-8 BODY {%d+}\r\n%s\r\n", len(c.text), c.text))
		l.expect(fmt.Sprintf("* SEARCH %d", i+1))
		l.expect("2 OK *")
		name := c.charset
		if name == "gb2312" {
			name = "gbk"
		}
		l.send(fmt.Sprintf("3 SEARCH CHARSET %s BODY {%d+}\r\n%s\r\n", name, len(coded), coded))
		l.expect(fmt.Sprintf("* SEARCH %d", i+1))
		l.expect("3 OK *")
	}
}

// RFC 4978: both directions are compressed, and IDLE works all the same.
func TestCompress(t *testing.T) {
	w := newWorld(t)
	for range 50 {
		w.deliver("INBOX", "Subject: one\n\nx")
	}
	l := w.dial("a")
	l.login()
	l.send("1 COMPRESS GZIP\r\n")
	l.expect("1 NO *")
	l.send("2 COMPRESS DEFLATE\r\n")
	l.expect("2 OK *")
	counted := &countedReader{r: l.r}
	out, err := flate.NewWriter(l.nc, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	c := &line{w: w, name: "compressed", nc: l.nc}
	c.r = newLine(w, "", l.nc).r
	c.r.Reset(flate.NewReader(counted))
	send := func(text string) {
		t.Helper()
		if _, err := io.WriteString(out, text); err != nil {
			t.Fatal(err)
		}
		if err := out.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	send("3 SELECT INBOX\r\n")
	c.skip("3 OK *")
	before := counted.n
	send("4 FETCH 1:* (FLAGS ENVELOPE)\r\n")
	c.skip("4 OK *")
	if n := counted.n - before; n > 2000 {
		t.Errorf("50 equal answers take %d octets", n)
	}
	send("5 IDLE\r\n")
	c.expect("+ idling")
	w.deliver("INBOX", "Subject: new\n\nx")
	c.expect("* 51 EXISTS")
	c.expect("* * RECENT")
	send("DONE\r\n")
	c.expect("5 OK *")
	send("6 COMPRESS DEFLATE\r\n")
	c.expect("6 NO [COMPRESSIONACTIVE] *")
	send("7 CAPABILITY\r\n")
	if got := c.read(); strings.Contains(got, "COMPRESS") {
		t.Errorf("it is offered again: %s", got)
	}
	c.expect("7 OK *")
	send("8 LOGOUT\r\n")
	c.expect("* BYE *")
	c.expect("8 OK *")
}

type countedReader struct {
	r io.Reader
	n int
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// What is not deflate ends the connection.
func TestCompressGarbage(t *testing.T) {
	l := newWorld(t).dial("a")
	l.login()
	l.send("1 COMPRESS DEFLATE\r\n")
	l.expect("1 OK *")
	l.send(strings.Repeat("\xff", 100))
	if b, _ := io.ReadAll(l.nc); bytes.Contains(b, []byte("OK")) {
		t.Errorf("answered %q", b)
	}
}

// RFC 9585: who waits long hears how far it is.
func TestProgress(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Settings) { c.Timeouts.Progress = 1 })
	for range 130 {
		w.deliver("INBOX", "Subject: x\n\nx")
	}
	l := w.dial("a")
	l.login()
	l.send("0 SELECT INBOX\r\n")
	l.skip("0 OK *")
	l.send("1 SEARCH DELETED\r\n")
	l.expect(`* OK [INPROGRESS ("1" 63 130)] *`)
	l.expect(`* OK [INPROGRESS ("1" 127 130)] *`)
	l.expect("* SEARCH")
	l.expect("1 OK *")
	l.send("2 SORT (SUBJECT) UTF-8 1:64\r\n")
	l.expect(`* OK [INPROGRESS ("2" 63 130)] *`)
	l.expect(`* OK [INPROGRESS ("2" 127 130)] *`)
	l.expect(`* OK [INPROGRESS ("2" 63 64)] *`)
	l.skip("2 OK *")
}
