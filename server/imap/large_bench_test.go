package imap

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailform/server/imap/summary"
	"mailform/server/store"
)

// BenchmarkLarge carries out commands on a mailbox of 100,000 messages, or as
// many as MAILFORM_BENCH_MESSAGES says, in one session over loopback.
func BenchmarkLarge(b *testing.B) {
	n := 100_000
	if v, err := strconv.Atoi(os.Getenv("MAILFORM_BENCH_MESSAGES")); err == nil {
		n = v
	}
	var keeper *summary.Keeper
	w := newWorld(b, func(c *Config, _ *Settings) {
		keeper = summary.NewKeeper(summary.Config{Store: c.Store.(*store.Log), Dir: b.TempDir(), Logger: c.Logger})
		c.Summaries = keeper.Reader
	})
	fill(b, w, n)
	keeper.Check(alice)
	began := time.Now()
	keeper.Catch(context.Background())
	b.Logf("summarised in %v", time.Since(began))
	nc, err := net.Dial("tcp", w.plain.String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { nc.Close() })
	buf := make([]byte, 64<<10)
	var tail []byte
	do := func(command string) {
		fmt.Fprintf(nc, "t %s\r\n", command)
		tail = tail[:0]
		for {
			k, err := nc.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			tail = append(tail, buf[:k]...)
			if len(tail) > 4096 {
				tail = append(tail[:0], tail[len(tail)-2048:]...)
			}
			if s := string(tail); strings.HasSuffix(s, "\r\n") {
				last := s[strings.LastIndex(s[:len(s)-2], "\n")+1:]
				if strings.HasPrefix(last, "t OK") || strings.HasPrefix(last, "* OK [CAPABILITY IMAP4rev1") {
					return
				}
				if strings.HasPrefix(last, "t NO") || strings.HasPrefix(last, "t BAD") {
					b.Fatal(last)
				}
			}
		}
	}
	do("LOGIN " + alice + " " + secret)
	do("SELECT INBOX")
	for _, command := range []string{
		"SELECT INBOX", "FETCH 1:* FLAGS", "UID FETCH 1:* (FLAGS)", "SEARCH UNSEEN", "SEARCH SINCE 1-Jan-2026 NOT DELETED", "STORE 1:* +FLAGS.SILENT ($A)", "STORE 1:* -FLAGS ($A)",
		"FETCH 1:* ENVELOPE", "FETCH 1:* BODY.PEEK[HEADER.FIELDS (FROM SUBJECT DATE)]", "SEARCH FROM user7", "SEARCH SUBJECT 77777", "SORT (DATE) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL",
		"SORT (SUBJECT) UTF-8 ALL", "SORT (REVERSE FROM DATE) UTF-8 ALL", "SORT (DISPLAYTO) UTF-8 ALL", "SORT (ARRIVAL) UTF-8 ALL", "SORT (SIZE) UTF-8 ALL", "THREAD ORDEREDSUBJECT UTF-8 ALL",
		"FETCH 1:* BODYSTRUCTURE", "FETCH 1:* PREVIEW", "SEARCH SENTSINCE 5-Nov-2026", "FETCH 50000:50050 (UID FLAGS ENVELOPE)", "FETCH 50000 ENVELOPE",
		"STATUS Sent (MESSAGES UNSEEN)", "NOOP",
	} {
		b.Run(command, func(b *testing.B) {
			b.ReportAllocs()
			begun := processorTime(b)
			for b.Loop() {
				do(command)
			}
			b.ReportMetric(float64(processorTime(b)-begun)/1e6/float64(b.N), "cpu-ms/op")
		})
	}
}

// processorTime is what the process has had until now.
func processorTime(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// fill delivers n messages of about 2 KiB to alice's INBOX.
func fill(b *testing.B, w *world, n int) {
	body := strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 30)
	const batch = 500
	for i := 0; i < n; i += batch {
		msgs := make([]store.StagedMessage, 0, batch)
		for k := i; k < min(i+batch, n); k++ {
			text := fmt.Sprintf("Return-Path: <user%d@example.net>\r\nReceived: from a by b; Sun, 22 Nov 2026 08:30:00 +0800\r\nFrom: \"User %d\" <user%d@example.net>\r\n"+
				"To: alice@example.org\r\nSubject: Message number %d\r\nDate: Sun, %d Nov 2026 %02d:%02d:00 +0800\r\nMessage-ID: <%d@example.net>\r\nReferences: <%d@example.net>\r\n"+
				"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s", k%100, k%100, k%100, k, 1+k%28, k%24, k%60, k, k-k%10, body)
			staged, err := w.store.Stage(context.Background(), alice, store.Named("INBOX"), strings.NewReader(text), int64(len(text)))
			if err != nil {
				b.Fatal(err)
			}
			m := store.StagedMessage{Body: staged}
			if k%3 == 0 {
				m.Flags = []string{`\Seen`}
			}
			msgs = append(msgs, m)
		}
		if _, _, err := w.store.AppendStaged(context.Background(), alice, store.Named("INBOX"), msgs, nil); err != nil {
			b.Fatal(err)
		}
	}
}
