package imap

import (
	"strings"
	"testing"
)

func TestSearch(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", multipart, `\Seen`)
	w.deliver("INBOX", "From: b@example.org\nSubject: Second\nDate: 1 Jan 2020 00:00:00 +0000\nContent-Type: text/plain; charset=gbk\n\n\xc4\xe3\xba\xc3 \xca\xc0\xbd\xe7", "$Work")
	w.deliver("INBOX", "Subject: third\n\n"+strings.Repeat("filler ", 20_000)+"NEEDLE", `\Flagged`)
	w.deliver("INBOX", "Subject: fourth\nContent-Transfer-Encoding: base64\n\naGlkZGVu")
	l := w.dial("a")
	l.login()
	l.send("0 SELECT INBOX\r\n")
	for l.read()[0] == '*' {
	}
	for _, c := range []struct{ query, want string }{
		{"ALL", " 1 2 3 4"},
		{"SEEN", " 1"}, {"UNSEEN FLAGGED", " 3"}, {"KEYWORD $work", " 2"}, {"UNKEYWORD $Work", " 1 3 4"}, {"NEW", " 2 3 4"}, {"OLD", ""}, {"RECENT", " 1 2 3 4"},
		{"FROM john", " 1"}, {"FROM Doe", " 1"}, {"SUBJECT 你好", " 1"}, {"SUBJECT SECOND", " 2"}, {"CC jürgen", " 1"}, {"TO bob", " 1"}, {"BCC x", ""},
		{`HEADER Message-ID ""`, " 1"}, {"HEADER message-id 1@EXAMPLE", " 1"},
		{"BODY café", " 1"}, {`BODY "CAFÉ"`, " 1"}, {"BODY inner", " 1"}, {"BODY Subject", ""}, {"TEXT fourth", " 4"}, {`BODY "世界"`, " 2"}, {"BODY needle", " 3"}, {"BODY hidden", " 4"},
		{"LARGER 100000", " 3"}, {"SMALLER 200", " 2 4"},
		{"SENTSINCE 1-Jan-2026", " 1"}, {"SENTBEFORE 2-Jan-2020", " 2"}, {"SENTON 1-Jan-2020", " 2"}, {"SINCE 22-Nov-2026", " 1 2 3 4"}, {"BEFORE 22-Nov-2026", ""}, {"ON 22-Nov-2026", " 1 2 3 4"},
		{"2:*", " 2 3 4"}, {"UID 3,1", " 1 3"}, {"NOT 2:3", " 1 4"}, {"OR SEEN FLAGGED", " 1 3"}, {"NOT (OR SEEN FLAGGED)", " 2 4"}, {"(SEEN FROM john)", " 1"},
		{"CHARSET UTF-8 SUBJECT 好", " 1"},
	} {
		l.send("1 SEARCH " + c.query + "\r\n")
		if got := l.read(); got != "* SEARCH"+c.want {
			t.Errorf("SEARCH %s: %s, want%s", c.query, got, c.want)
		}
		l.expect("1 OK *")
	}
	l.send("2 SEARCH 9\r\n")
	l.expect("* SEARCH")
	l.expect("2 OK *")
	l.send("3 UID SEARCH RETURN (MIN MAX COUNT SAVE) UNSEEN\r\n")
	l.expect(`* ESEARCH (TAG "3") UID MIN 2 MAX 4 COUNT 3`)
	l.expect("3 OK *")
	l.send("4 FETCH $ (UID)\r\n")
	for _, n := range []string{"2", "3", "4"} {
		l.expect("* " + n + " FETCH (UID " + n + ")")
	}
	l.expect("4 OK *")
	l.send("5 SEARCH RETURN (SAVE MIN) ALL\r\n")
	l.expect(`* ESEARCH (TAG "5") MIN 1`)
	l.expect("5 OK *")
	l.send("6 SEARCH RETURN () $\r\n")
	l.expect(`* ESEARCH (TAG "6") ALL 1`)
	l.expect("6 OK *")
	l.send("7 SEARCH CHARSET X-NONE SUBJECT x\r\n")
	l.expect("7 NO [BADCHARSET (*)] *")
	l.send("8 SEARCH RETURN (ALL) SUBJECT nothing\r\n")
	l.expect(`* ESEARCH (TAG "8")`)
	l.expect("8 OK *")
}

func TestIdleAndUpdates(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.deliver("INBOX", "A: b\n\nx")
	}
	w.talk(`
		a> 0 SELECT INBOX
		a<~ 0 OK *
		b> 0 SELECT INBOX
		b<~ 0 OK *
		a> 1 IDLE
		a< + *
		b> 1 STORE 2 +FLAGS (\Deleted)
		b< * 2 FETCH (FLAGS (\Deleted))
		b< 1 OK *
		a< * 2 FETCH (UID 2 FLAGS (\Deleted \Recent))
		b> 2 EXPUNGE
		b< * 2 EXPUNGE
		b< 2 OK *
		a< * 2 EXPUNGE
		b> 3 APPEND INBOX {3+}
		b> abc
		b< * 3 EXISTS
		b< * * RECENT
		b< 3 OK *
		a< * 3 EXISTS
		a< * * RECENT
		a>> "done\r\n2 FETCH 3 UID\r\n"
		a< 1 OK *
		a< * 3 FETCH (UID 4)
		a< 2 OK *

		# Sequence numbers stay while a command uses them.
		b> 4 UID STORE 1 +FLAGS.SILENT (\Deleted)
		b< 4 OK *
		b> 5 EXPUNGE
		b< * 1 EXPUNGE
		b< 5 OK *
		a> 3 FETCH 2 UID
		a< * 2 FETCH (UID 3)
		a< 3 OK *
		a> 4 FETCH 1 (UID FLAGS)
		a< 4 OK *
		a> 5 STORE 1 +FLAGS (\Seen)
		a< * 1 FETCH (FLAGS (\Deleted \Seen \Recent))
		a< 5 OK [EXPUNGEISSUED] *
		a> 6 NOOP
		a< * 1 EXPUNGE
		a< 6 OK *

		# A silent store tells what somebody else did to the same message.
		b> 6 STORE 1 +FLAGS.SILENT (\Flagged)
		b< 6 OK *
		a> 7 FETCH 1 FLAGS
		a< * 1 FETCH (FLAGS (\Flagged \Recent))
		a< 7 OK *
		a> 8 STORE 1 +FLAGS.SILENT (\Seen)
		a< 8 OK *
		b> 7 NOOP
		b< * 1 FETCH (UID 3 FLAGS (\Flagged \Seen))
		b< 7 OK *

		# What is selected keeps being that under another name, also when
		# something else has its own.
		b> 20 CREATE x/y
		b< 20 OK *
		b> 21 APPEND x/y {1+}
		b> a
		b< 21 OK *
		a> 20 SELECT x/y
		a<~ 20 OK *
		b> 22 RENAME x z
		b< 22 OK *
		b> 23 CREATE x/y
		b< 23 OK *
		b> 24 APPEND x/y {1+}
		b> b
		b< 24 OK *
		a> 21 UID STORE 1 +FLAGS.SILENT (\Deleted)
		a< 21 OK *
		a> 22 FETCH 1 BODY.PEEK[]
		a<< "* 1 FETCH (BODY[] {1}\r\na)\r\n"
		a< 22 OK *
		a> 23 CLOSE
		a< 23 OK *
		b> 25 STATUS z/y (MESSAGES)
		b< * STATUS "z/y" (MESSAGES 0)
		b< 25 OK *
		b> 26 STATUS x/y (MESSAGES DELETED)
		b< * STATUS "x/y" (MESSAGES 1 DELETED 0)
		b< 26 OK *
		b> 27 DELETE x/y
		b< 27 OK *
		b> 28 DELETE x
		b< 28 OK *

		# Who renames or deletes what it has selected stays.
		a> 24 SELECT z/y
		a<~ 24 OK *
		a> 25 RENAME z/y w
		a< 25 OK *
		a> 26 APPEND w {1+}
		a> c
		a< * 1 EXISTS
		a< * 1 RECENT
		a< 26 OK *
		a> 27 DELETE w
		a< * OK [CLOSED] *
		a< 27 OK *
		a> 28 NOOP
		a< 28 OK *
		a> 29 FETCH 1 FLAGS
		a< 29 BAD *

		# A new mailbox with the name of one that is gone is another one.
		b> 29 CREATE w
		b< 29 OK *
		c> 1 SELECT w
		c<~ 1 OK *
		b>> "30 DELETE w\r\n31 CREATE w\r\n32 APPEND w (\\Deleted) {1+}\r\nd\r\n"
		b< 30 OK *
		b< 31 OK *
		b< 32 OK *
		c> 2 CLOSE
		c< 2 NO [NONEXISTENT] *
		c< * BYE *
		c.
		b> 33 STATUS w (MESSAGES)
		b< * STATUS "w" (MESSAGES 1)
		b< 33 OK *

		# What is selected goes away.
		b> 8 CREATE x
		b< 8 OK *
		a> 9 SELECT x
		a<~ 9 OK *
		a> 10 IDLE
		a< + *
		b> 9 DELETE x
		b< 9 OK *
		a< * BYE *
		a.
	`)
}

// Commands sent in one go are answered in order, also around IDLE.
func TestPipelining(t *testing.T) {
	newWorld(t).talk(`
		a>> "1 NOOP\r\n2 IDLE\r\nDONE\r\n3 CREATE {3+}\r\nabc\r\n4 STATUS abc (MESSAGES)\r\n5 LOGOUT\r\n6 NOOP\r\n"
		a< 1 OK *
		a< + *
		a< 2 OK *
		a< 3 OK *
		a< * STATUS "abc" (MESSAGES 0)
		a< 4 OK *
		a< * BYE *
		a< 5 OK *
	`)
}
