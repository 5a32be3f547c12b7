package imap

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailform/server/imap/summary"
	"mailform/server/store"
)

// warm gives a world summaries of all messages, whenever they are asked for; on
// is whether they are.
func warm(t testing.TB, on *atomic.Bool) func(*Config, *Settings) {
	return func(cfg *Config, _ *Settings) {
		k := summary.NewKeeper(summary.Config{Store: cfg.Store.(*store.Log), Dir: t.TempDir(), Logger: cfg.Logger, Least: 1})
		cfg.few = 1
		cfg.Summaries = func(account string, validity uint32) *summary.Reader {
			if on != nil && !on.Load() {
				return nil
			}
			k.Check(account)
			k.Catch(context.Background())
			return k.Reader(account, validity)
		}
	}
}

// answers are what the server says to some commands.
func (l *line) answers(commands []string) []string {
	var out []string
	for _, c := range commands {
		l.send("zebra7 " + c + "\r\n")
		var b strings.Builder
		for {
			s, err := l.r.ReadString('\n')
			if err != nil {
				l.w.Fatal(err)
			}
			b.WriteString(s)
			if strings.HasPrefix(s, "zebra7 ") {
				break
			}
		}
		out = append(out, b.String())
	}
	return out
}

// asked are commands that summaries answer, wholly or in part.
var asked = []string{
	"FETCH 1:* ENVELOPE", "FETCH 1:* BODYSTRUCTURE", "FETCH 1:* THREADID", "SEARCH THREADID T0123456789abcdef", "FETCH 1:* (UID PREVIEW)", "FETCH 1:* BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)]", "FETCH 1:* FULL",
	"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (References List-Id to X-Priority CONTENT-TYPE)]<3.40> RFC822.SIZE ENVELOPE)", "FETCH 2:4 (BODY.PEEK[HEADER.FIELDS (Received From)] ENVELOPE)",
	"FETCH 1:* (BODY.PEEK[HEADER.FIELDS.NOT (From)] BODYSTRUCTURE BODY.PEEK[TEXT]<0.10>)", "FETCH 1:* BODY.PEEK[HEADER.FIELDS (Subject)]<9999.10>",
	"SORT (DATE) UTF-8 ALL", "SORT (REVERSE DATE SUBJECT) UTF-8 ALL", "SORT (SUBJECT REVERSE FROM) UTF-8 ALL", "SORT (FROM TO) UTF-8 ALL", "SORT (REVERSE CC DATE) UTF-8 ALL",
	"SORT (DISPLAYFROM) UTF-8 ALL", "SORT (DISPLAYTO REVERSE SIZE) UTF-8 ALL", "SORT (ARRIVAL SUBJECT) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "THREAD ORDEREDSUBJECT UTF-8 ALL",
	"SEARCH SENTSINCE 1-Jan-2024", "SEARCH SENTBEFORE 2-Feb-2025 NOT SENTON 1-Jan-1970",
}

// Whatever a message looks like, its summary says what the message says.
func TestSummariesEqualMessages(t *testing.T) {
	var on atomic.Bool
	w := newWorld(t, func(c *Config, s *Settings) { warm(t, &on)(c, s) })
	r := rand.New(rand.NewPCG(6, uint64(testSeed)))
	for range 300 {
		w.deliver("INBOX", odd(r))
	}
	l := w.dial("a")
	l.read()
	l.answers([]string{"LOGIN " + alice + " " + secret})
	for _, mode := range []string{"NOOP", "ENABLE UTF8=ACCEPT"} {
		l.answers([]string{mode, "SELECT INBOX"})
		commands := asked
		if mode != "NOOP" { // RFC 6855 3: there is no charset then
			commands = nil
			for _, c := range asked {
				commands = append(commands, strings.Replace(c, "UTF-8", "US-ASCII", 1))
			}
		}
		on.Store(false)
		cold := l.answers(commands)
		on.Store(true)
		warm := l.answers(commands)
		compare(t, mode, commands, cold, warm)
	}
}

// compare shows the first response of each command that differs.
func compare(t *testing.T, what string, commands, cold, warm []string) {
	t.Helper()
	for i := range commands {
		if cold[i] == warm[i] {
			continue
		}
		a, b := strings.SplitAfter(cold[i], "\r\n* "), strings.SplitAfter(warm[i], "\r\n* ")
		n := 0
		for n < min(len(a), len(b))-1 && a[n] == b[n] {
			n++
		}
		t.Errorf("%s, %s\nread:     %q\nsummary:  %q", what, commands[i], a[n], b[n])
	}
}

// testSeed is changed by hand to look further.
const testSeed = 1

// odd makes a message, mostly a broken one.
func odd(r *rand.Rand) string {
	pick := func(l ...string) string { return l[r.IntN(len(l))] }
	words := []string{"Re: ", "[list] ", "Fwd: ", "topic", "Zürich", "=?utf-8?B?5L2g5aW9?=", "=?gbk?Q?=C4=E3?=", "=?utf-8?Q?broken", "\"q\\\"", "<", ">", "a@b.c", "(c)", ",", ";", ":", "\xc4\xe3", "\x00", "\t", "\n ", "\\", "{3}", "%", strings.Repeat("long ", 300)}
	text := func() string {
		var b strings.Builder
		for range r.IntN(5) {
			b.WriteString(words[r.IntN(len(words))])
			b.WriteString(pick("", " "))
		}
		return b.String()
	}
	address := func() string {
		return pick(text()+" <u"+fmt.Sprint(r.IntN(20))+"@example.org>", "plain@example.net", "group: a@b, \"C D\" <c@d>;", text(), "", "\"=?utf-8?Q?=C3=A4?=\" <x@y>", "<@route:a@b>", "u@h (name)")
	}
	id := func() string { return fmt.Sprintf("<%d@x>", r.IntN(60)) }
	var b strings.Builder
	for range r.IntN(14) {
		switch r.IntN(12) {
		case 0:
			b.WriteString("Subject: " + text())
		case 1:
			b.WriteString("From: " + address())
		case 2:
			b.WriteString(pick("To: ", "TO:", "to : ", "Cc: ", "Bcc: ", "Reply-To: ", "Sender: ") + address() + pick("", ", "+address()))
		case 3:
			b.WriteString("Date: " + pick(time.Unix(r.Int64N(2e9), 0).In(time.FixedZone("", 900*(r.IntN(100)-50))).Format(time.RFC1123Z), text(), "1 Jan 70 00:00 GMT", "Mon, 29 Feb 2023 25:00:00 +0000", "2024-02-03T04:05:06Z"))
		case 4:
			b.WriteString("Message-ID: " + pick(id(), text()))
		case 5:
			b.WriteString("References: " + id() + " " + pick(id(), text(), strings.Repeat(id()+" ", 300)))
		case 6:
			b.WriteString("In-Reply-To: " + pick(id(), text()))
		case 7:
			b.WriteString("List-Id: " + text() + "\nX-Priority: " + text() + "\nReceived: from a")
		case 8:
			b.WriteString(text())
		case 9:
			b.WriteString("Content-Type: " + pick("text/html; charset=gbk", "multipart/mixed; boundary=b", "multipart/alternative; boundary=\"b\"", "message/rfc822", "text/plain; charset=x; name*0*=a%", text()))
		case 10:
			b.WriteString("Content-Transfer-Encoding: " + pick("base64", "quoted-printable", "8bit", text()))
		case 11:
			b.WriteString("Content-Disposition: attachment; filename=\"" + text() + "\"\nContent-Description: " + text())
		}
		b.WriteString(pick("\n", "\n", "\n", "\n", "\n "))
	}
	b.WriteString(pick("\n", "\n", ""))
	for range r.IntN(6) {
		b.WriteString(pick("--b\n", "--b--\n", "--b\nContent-Type: text/plain; charset=utf-8\n\n", "--b\nContent-Type: message/rfc822\n\nSubject: "+text()+"\n\n", "> quoted\n", "<p>html&nbsp;</p>\n", "5L2g5aW9\n") + text() + "\n")
	}
	return b.String()
}

// TestScriptsWarm carries out the dialogues with summaries of everything.
func TestScriptsWarm(t *testing.T) {
	runScripts(t, func(c *Config, s *Settings) { warm(t, nil)(c, s) })
}

// deafStore cannot read messages when it is deaf.
type deafStore struct {
	Store
	deaf *atomic.Bool
}

func (s deafStore) Read(ctx context.Context, account string, m store.Message) (io.ReadCloser, error) {
	if s.deaf.Load() {
		return nil, store.ErrDamaged
	}
	return s.Store.Read(ctx, account, m)
}

// What summaries answer they answer without the messages.
func TestSummariesNeedNoMessages(t *testing.T) {
	t.Parallel()
	var deaf atomic.Bool
	w := newWorld(t, warm(t, nil), func(c *Config, _ *Settings) { c.Store = deafStore{c.Store, &deaf} })
	for i := range 20 {
		w.deliver("INBOX", fmt.Sprintf("From: User %d <user%d@example.net>\nTo: alice@example.org\nSubject: Re: topic %d\nDate: Sun, %d Nov 2026 08:00:00 +0800\n"+
			"Message-ID: <%d@x>\nReferences: <%d@x>\n\nHello.\n", i%7, i%7, i%5, 1+i%28, i, i-1))
	}
	l := w.dial("a")
	l.read()
	l.answers([]string{"LOGIN " + alice + " " + secret, "SELECT INBOX"})
	var commands []string
	for _, c := range asked {
		if !strings.Contains(c, "FULL") && !strings.Contains(c, "Received") && !strings.Contains(c, "TEXT") {
			commands = append(commands, c)
		}
	}
	read := l.answers(commands)
	deaf.Store(true)
	w.troubled = true
	compare(t, "deaf", commands, read, l.answers(commands))
	if got := l.answers([]string{"FETCH 1 FULL"}); !strings.HasPrefix(got[0], "zebra7 NO ") {
		t.Errorf("a message that cannot be read: %q", got)
	}
}

// Messages come and go, a file is damaged, another version has written one: the
// answers stay the same.
func TestSummariesThroughChanges(t *testing.T) {
	var on atomic.Bool
	w := newWorld(t, warm(t, &on))
	r := rand.New(rand.NewPCG(7, 7))
	l := w.dial("a")
	l.read()
	l.answers([]string{"LOGIN " + alice + " " + secret, "SELECT INBOX"})
	ctx := context.Background()
	for round := range 8 {
		for range 40 {
			w.deliver("INBOX", odd(r))
		}
		snap, watch, err := w.store.Open(ctx, alice, "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		watch.Close()
		var gone []store.UID
		for _, m := range snap.Messages.All() {
			if r.IntN(4) == 0 {
				gone = append(gone, m.UID)
			}
		}
		if _, _, _, err := w.store.Move(ctx, alice, store.Named("INBOX"), gone, store.Named("Trash")); err != nil {
			t.Fatal(err)
		}
		l.answers([]string{"NOOP"})
		on.Store(false)
		cold := l.answers(asked)
		on.Store(true)
		compare(t, fmt.Sprint("round ", round), asked, cold, l.answers(asked))
	}
}
