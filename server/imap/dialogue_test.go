package imap

import (
	"strings"
	"testing"
)

func TestLogin(t *testing.T) {
	w := newWorld(t)
	w.talk(`
		-a< * OK [CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ ID SASL-IR ENABLE STARTTLS AUTH=PLAIN AUTH=LOGIN] *
		-a> 1 LOGIN alice@example.org wrong
		-a< 1 NO [AUTHENTICATIONFAILED] *
		-a> 2 SELECT INBOX
		-a< 2 BAD *
		-a> 3 AUTHENTICATE PLAIN
		-a< + 
		-a> AGFsaWNlQGV4YW1wbGUub3JnAHMzY3JldA==
		-a< 3 OK [CAPABILITY * IDLE NOTIFY NAMESPACE * MOVE *] *
		-a> 4 NOOP
		-a< 4 OK *
		-a> 5 NAMESPACE
		-a< * NAMESPACE (("" "/")) NIL NIL
		-a< 5 OK *
		-a> 6 LOGOUT
		-a< * BYE *
		-a< 6 OK *
		-a.

		# A password in a literal, waiting and not waiting.
		-b< * OK *
		-b> 1 LOGIN {17}
		-b< + *
		-b> alice@example.org {6+}
		-b> s3cret
		-b< 1 OK *

		-c< * OK *
		-c> 1 AUTHENTICATE PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHMzY3JldA==
		-c< 1 OK *
		-d< * OK *
		-d> 1 AUTHENTICATE PLAIN
		-d< + 
		-d> *
		-d< 1 BAD *
		-d> 2 AUTHENTICATE GSSAPI
		-d< 2 NO *
	`)
}

func TestLoginFailuresAreSlowAndFew(t *testing.T) {
	w := newWorld(t)
	w.talk(`
		-a< * OK *
		-a> 1 LOGIN alice@example.org wrong
		-a< 1 NO [AUTHENTICATIONFAILED] *
		-a> 2 LOGIN alice@example.org wrong
		-a< 2 NO [AUTHENTICATIONFAILED] *
		-a> 3 LOGIN alice@example.org wrong
		-a< 3 NO [AUTHENTICATIONFAILED] *
		-a< * BYE *
		-a.
	`)
	for i := 1; i <= 3; i++ {
		if d := <-w.slept; int(d.Seconds()) != i {
			t.Errorf("failure %d was held back %v", i, d)
		}
	}
}

func TestPlaintextLoginIsRefused(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Settings) { c.AllowPlaintext = false })
	w.talk(`
		-a< * OK [CAPABILITY * STARTTLS LOGINDISABLED] *
		-a> 1 LOGIN alice@example.org s3cret
		-a< 1 NO [PRIVACYREQUIRED] *
		-a> 2 AUTHENTICATE PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHMzY3JldA==
		-a< 2 NO [PRIVACYREQUIRED] *
	`)
}

func TestMailboxes(t *testing.T) {
	newWorld(t).talk(`
		a> 1 LIST "" *
		a< * LIST (\HasNoChildren) "/" INBOX
		a< * LIST (\HasNoChildren \Archive) "/" "Archive"
		a< * LIST (\HasNoChildren \Drafts) "/" "Drafts"
		a< * LIST (\HasNoChildren \Junk) "/" "Junk"
		a< * LIST (\HasNoChildren \Sent) "/" "Sent"
		a< * LIST (\HasNoChildren \Trash) "/" "Trash"
		a< 1 OK *
		a> 2 LIST "" ""
		a< * LIST (\Noselect) "/" ""
		a< 2 OK *
		a> 3 CREATE Work/Projects/
		a< 3 OK *
		a> 4 CREATE Work/Projects
		a< 4 NO [ALREADYEXISTS] *
		a> 5 LIST "" W%
		a< * LIST (\HasChildren) "/" "Work"
		a< 5 OK *
		a> 6 LIST Work/ %
		a< * LIST (\HasNoChildren) "/" "Work/Projects"
		a< 6 OK *
		a> 7 DELETE Work
		a< 7 NO [HASCHILDREN] *
		a> 8 RENAME Work Arbeit
		a< 8 OK *
		a> 9 LIST "" ("A%" "Arbeit/%")
		a< * LIST (\HasChildren) "/" "Arbeit"
		a< * LIST (\HasNoChildren) "/" "Arbeit/Projects"
		a< * LIST (\HasNoChildren \Archive) "/" "Archive"
		a< 9 OK *
		a> 10 DELETE inbox
		a< 10 NO [CANNOT] *
		a> 11 DELETE None
		a< 11 NO [NONEXISTENT] *
		a> 12 CREATE "All Mail" (USE (\All))
		a< 12 OK *
		a> 13 CREATE Bad (USE (\Nonsense))
		a< 13 NO [USEATTR] *
		a> 14 LIST (SPECIAL-USE) "" *l* RETURN (SPECIAL-USE)
		a< * LIST (\HasNoChildren \All) "/" "All Mail"
		a< 14 OK *
		a> 15 CREATE &Zeg-
		a< 15 OK *
		a> 16 LIST "" &Zeg-
		a< * LIST (\HasNoChildren) "/" "&Zeg-"
		a< 16 OK *
		a> 17 CREATE "a*b"
		a< 17 NO [CANNOT] *
	`)
}

func TestSubscriptions(t *testing.T) {
	newWorld(t).talk(`
		a> 1 UNSUBSCRIBE Junk
		a< 1 OK *
		a> 2 CREATE foo/bar
		a< 2 OK *
		a> 3 SUBSCRIBE foo/bar
		a< 3 OK *
		a> 4 SUBSCRIBE gone/away
		a< 4 OK *
		a> 5 LSUB "" *
		a< * LSUB () "/" INBOX
		a< * LSUB (\Archive) "/" "Archive"
		a< * LSUB (\Drafts) "/" "Drafts"
		a< * LSUB (\Sent) "/" "Sent"
		a< * LSUB (\Trash) "/" "Trash"
		a< * LSUB () "/" "foo/bar"
		a< * LSUB () "/" "gone/away"
		a< 5 OK *
		a> 6 LSUB "" f%
		a< * LSUB (\Noselect) "/" "foo"
		a< 6 OK *
		a> 7 LIST (SUBSCRIBED) "" "*o*"
		a< * LIST (\HasNoChildren \Subscribed) "/" "foo/bar"
		a< * LIST (\NonExistent \Subscribed) "/" "gone/away"
		a< 7 OK *
		a> 8 LIST (SUBSCRIBED RECURSIVEMATCH) "" "f%"
		a< * LIST (\HasChildren) "/" "foo" (CHILDINFO ("SUBSCRIBED"))
		a< 8 OK *
		a> 9 LIST "" "foo*" RETURN (SUBSCRIBED CHILDREN)
		a< * LIST (\HasChildren) "/" "foo"
		a< * LIST (\HasNoChildren \Subscribed) "/" "foo/bar"
		a< 9 OK *
	`)
}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", "A: b\n\none", `\Seen`)
	w.deliver("INBOX", "A: b\n\nthree", `\Deleted`)
	w.talk(`
		a> 1 STATUS inbox (MESSAGES UIDNEXT UNSEEN DELETED SIZE RECENT APPENDLIMIT DELETED-STORAGE)
		a< * STATUS INBOX (MESSAGES 2 UIDNEXT 3 UNSEEN 1 DELETED 1 SIZE 24 RECENT 2 APPENDLIMIT 52428800 DELETED-STORAGE 13)
		a< 1 OK *
		a> 2 STATUS None (MESSAGES)
		a< 2 NO [NONEXISTENT] *
		a> 3 LIST "" (INBOX Sent) RETURN (STATUS (MESSAGES UNSEEN))
		a< * LIST (\HasNoChildren) "/" INBOX
		a< * STATUS INBOX (MESSAGES 2 UNSEEN 1)
		a< * LIST (\HasNoChildren \Sent) "/" "Sent"
		a< * STATUS "Sent" (MESSAGES 0 UNSEEN 0)
		a< 3 OK *
	`)
}

func TestSelect(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", "A: b\n\none", `\Seen`)
	w.deliver("INBOX", "A: b\n\ntwo", "$Work")
	w.talk(`
		a> 1 SELECT INBOX
		a< * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work)
		a< * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work \*)] *
		a< * 2 EXISTS
		a< * 2 RECENT
		a< * OK [UNSEEN 2] *
		a< * OK [UIDVALIDITY *] *
		a< * OK [UIDNEXT 3] *
		a< * OK [HIGHESTMODSEQ *] *
		a< * OK [MAILBOXID (*)] *
		a< 1 OK [READ-WRITE] *
		a> 2 SELECT None
		a< * OK [CLOSED] *
		a< 2 NO [NONEXISTENT] *
		a> 3 FETCH 1 FLAGS
		a< 3 BAD *
		a> 4 ENABLE IMAP4rev2
		a< * ENABLED IMAP4rev2
		a< 4 OK *
		a> 5 EXAMINE INBOX
		a<~ 5 OK [READ-ONLY] *
		a> 6 UNSELECT
		a< 6 OK *
	`)
}

// RFC 9051 6.3.3: EXAMINE must not change anything.
func TestExamineIsReadOnly(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", "A: b\n\none", `\Deleted`)
	w.talk(`
		a> 1 EXAMINE INBOX
		a<~ 1 OK [READ-ONLY] *
		a> 2 STORE 1 +FLAGS (\Seen)
		a< 2 NO [NOPERM] *
		a> 3 EXPUNGE
		a< 3 NO [NOPERM] *
		a> 4 MOVE 1 Trash
		a< 4 NO [NOPERM] *
		a> 5 FETCH 1 (BODY[TEXT])
		a<< "* 1 FETCH (BODY[TEXT] {3}\r\none)\r\n"
		a< 5 OK *
		a> 6 CLOSE
		a< 6 OK *
		a> 7 STATUS INBOX (MESSAGES UNSEEN)
		a< * STATUS INBOX (MESSAGES 1 UNSEEN 1)
		a< 7 OK *
	`)
}

const multipart = `Return-Path: <x@example.net>
From: "Doe, John" <john@example.net>
To: team: Alice <alice@example.org>, bob@example.org;
Cc: =?utf-8?q?J=C3=BCrgen?= <j@example.net>
Subject: =?gb2312?B?xOO6ww==?=
Date: Sun, 22 Nov 2026 08:30:00 +0800
Message-ID: <1@example.net>
In-Reply-To: <0@example.net>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

caf=C3=A9
--b
Content-Type: message/rfc822
Content-Disposition: attachment; filename="a.eml"

Subject: inner
From: inner@example.net

inner text
--b
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

AAEC
--b--
`

func TestFetch(t *testing.T) {
	w := newWorld(t)
	w.deliver("INBOX", multipart)
	w.talk(`
		a> 0 SELECT INBOX
		a<~ 0 OK *
		a> 1 FETCH 1 (UID FLAGS INTERNALDATE RFC822.SIZE)
		a< * 1 FETCH (UID 1 FLAGS (\Recent) INTERNALDATE "22-Nov-2026 08:30:00 +0800" RFC822.SIZE *)
		a< 1 OK *
		a> 2 FETCH 1 ENVELOPE
		a< * 1 FETCH (ENVELOPE ("Sun, 22 Nov 2026 08:30:00 +0800" "=?gb2312?B?xOO6ww==?=" (("Doe, John" NIL "john" "example.net")) (("Doe, John" NIL "john" "example.net")) (("Doe, John" NIL "john" "example.net")) ((NIL NIL "team" NIL)("Alice" NIL "alice" "example.org")(NIL NIL "bob" "example.org")(NIL NIL NIL NIL)) (("=?utf-8?q?J=C3=BCrgen?=" NIL "j" "example.net")) NIL "<0@example.net>" "<1@example.net>"))
		a< 2 OK *
		a> 3 FETCH 1 BODYSTRUCTURE
		a< * 1 FETCH (BODYSTRUCTURE (("text" "plain" ("charset" "utf-8") NIL NIL "quoted-printable" 9 1 NIL NIL NIL NIL)("message" "rfc822" NIL NIL NIL "7bit" 53 (NIL "inner" ((NIL NIL "inner" "example.net")) ((NIL NIL "inner" "example.net")) ((NIL NIL "inner" "example.net")) NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 1 NIL NIL NIL NIL) 4 NIL ("attachment" ("filename" "a.eml")) NIL NIL)("application" "octet-stream" NIL NIL NIL "base64" 4 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL))
		a< 3 OK *
		a> 4 FETCH 1 BODY.PEEK[HEADER.FIELDS (subject DATE X-None)]
		a<< "* 1 FETCH (BODY[HEADER.FIELDS (subject DATE X-None)] {73}\r\nSubject: =?gb2312?B?xOO6ww==?=\r\nDate: Sun, 22 Nov 2026 08:30:00 +0800\r\n\r\n)\r\n"
		a< 4 OK *
		a> 5 FETCH 1 (BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[2.HEADER] BODY.PEEK[2.TEXT] BODY.PEEK[2.1] BODY.PEEK[9])
		a<< "* 1 FETCH (BODY[1] {9}\r\ncaf=C3=A9 BODY[1.MIME] {88}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n BODY[2.HEADER] {43}\r\nSubject: inner\r\nFrom: inner@example.net\r\n\r\n BODY[2.TEXT] {10}\r\ninner text BODY[2.1] {10}\r\ninner text BODY[9] {0}\r\n)\r\n"
		a< 5 OK *
		a> 6 FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[3] BINARY.PEEK[3]<1.1>)
		a<< "* 1 FETCH (BINARY[1] ~{5}\r\ncafé BINARY.SIZE[3] 3 BINARY[3]<1> ~{1}\r\n\x01)\r\n"
		a< 6 OK *
		a> 7 FETCH 1 BODY.PEEK[]<0.11>
		a<< "* 1 FETCH (BODY[]<0> {11}\r\nReturn-Path)\r\n"
		a< 7 OK *
		a> 8 FETCH 1 BODY.PEEK[TEXT]<4.7>
		a<< "* 1 FETCH (BODY[TEXT]<4> {7}\r\n\nConten)\r\n"
		a< 8 OK *
		a> 9 FETCH 1 BODY.PEEK[]<99999.10>
		a<< "* 1 FETCH (BODY[]<99999> {0}\r\n)\r\n"
		a< 9 OK *
		# Reading sets \Seen and says so.
		a> 10 FETCH 1 BODY[2.1]
		a<< "* 1 FETCH (BODY[2.1] {10}\r\ninner text FLAGS (\\Seen \\Recent))\r\n"
		a< 10 OK *
		a> 11 UID FETCH 1:* (FLAGS)
		a< * 1 FETCH (UID 1 FLAGS (\Seen \Recent))
		a< 11 OK *
		a> 12 FETCH 2 FLAGS
		a< 12 BAD *
		a> 13 UID FETCH 7:9 FLAGS
		a< 13 OK *
		a> 14 FETCH 1 (RFC822.HEADER RFC822.TEXT)
		a< * 1 FETCH (RFC822.HEADER {*}
	`)
}

// Broken mail never breaks a FETCH.
func TestFetchGarbage(t *testing.T) {
	w := newWorld(t)
	for _, m := range []string{
		"\x00\x01\xff\xfe", "Subject", ": no name\n\nx", "Content-Type: multipart/mixed; boundary=b\n\nno parts",
		"Content-Type: multipart/mixed\n\n--b\n\nx", "From: <<<>>>,;:(((\nTo: \"\nDate: yesterday\nSubject: =?utf-8?b?\xff?=\n\n",
		"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n!!!!", "Content-Type: text/plain; charset=\"\nContent-Disposition: ;;;=\n\nx",
		"Subject: \xc4\xe3\xba\xc3\nFrom: \xc4\xe3 <a\x00b@c\nMessage-ID: no angles\n\n\xc4\xe3",
	} {
		w.deliver("INBOX", m)
	}
	l := w.dial("a")
	l.login()
	l.send("1 SELECT INBOX\r\n2 FETCH 1:* (ENVELOPE BODYSTRUCTURE BODY RFC822.SIZE BODY.PEEK[1.MIME] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BINARY.PEEK[1])\r\n3 SEARCH TEXT x SENTBEFORE 1-Jan-2030\r\n4 SEARCH TEXT 你\r\n5 NOOP\r\n")
	fetched := 0
	for {
		got := l.read()
		if strings.Contains(got, " FETCH (") {
			fetched++
		}
		if strings.HasPrefix(got, "* BYE") || strings.HasPrefix(got, "2 NO") || strings.HasPrefix(got, "2 BAD") {
			t.Fatal(got)
		}
		if strings.HasPrefix(got, "5 OK") {
			break
		}
	}
	if fetched < 9 {
		t.Errorf("%d messages fetched", fetched)
	}
}

func TestStore(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.deliver("INBOX", "A: b\n\nx")
	}
	w.talk(`
		a> 0 SELECT INBOX
		a<~ 0 OK *
		a> 1 STORE 1:2 +FLAGS (\seen $Label)
		a< * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Label)
		a< * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $Label \*)] *
		a< * 1 FETCH (FLAGS ($Label \Seen \Recent))
		a< * 2 FETCH (FLAGS ($Label \Seen \Recent))
		a< 1 OK *
		a> 2 STORE 1 -FLAGS.SILENT ($label)
		a< 2 OK *
		a> 3 UID STORE 3 FLAGS \Flagged
		a< * 3 FETCH (UID 3 FLAGS (\Flagged \Recent))
		a< 3 OK *
		a> 4 FETCH 1:* FLAGS
		a< * 1 FETCH (FLAGS (\Seen \Recent))
		a< * 2 FETCH (FLAGS ($Label \Seen \Recent))
		a< * 3 FETCH (FLAGS (\Flagged \Recent))
		a< 4 OK *
		a> 5 STORE 1 +FLAGS (\Nonsense)
		a< 5 BAD *
		a> 6 STORE 4 +FLAGS (\Seen)
		a< 6 BAD *
	`)
}

func TestCopyMoveExpunge(t *testing.T) {
	w := newWorld(t)
	for _, text := range []string{"one", "two", "three", "four"} {
		w.deliver("INBOX", "A: b\n\n"+text)
	}
	w.talk(`
		a> 0 SELECT INBOX
		a<~ 0 OK *
		a> 1 COPY 1,3 Archive
		a< 1 OK [COPYUID * 1,3 1:2] *
		a> 2 COPY 1 None
		a< 2 NO [TRYCREATE] *
		a> 3 UID COPY 99 Archive
		a< 3 OK COPY completed
		a> 4 MOVE 2:3 Archive
		a< * OK [COPYUID * 2:3 3:4] *
		a< * 2 EXPUNGE
		a< * 2 EXPUNGE
		a< 4 OK *
		a> 5 UID MOVE 99 Archive
		a< 5 OK *
		a> 6 STORE 1:* +FLAGS.SILENT (\Deleted)
		a< 6 OK *
		a> 7 UID EXPUNGE 4
		a< * 2 EXPUNGE
		a< 7 OK *
		a> 8 COPY 1 INBOX
		a< * 2 EXISTS
		a< * 2 RECENT
		a< 8 OK [COPYUID * 1 5] *
		a> 9 STORE 2 -FLAGS.SILENT (\Deleted)
		a< 9 OK *
		a> 10 CLOSE
		a< 10 OK *
		a> 11 STATUS INBOX (MESSAGES UIDNEXT)
		a< * STATUS INBOX (MESSAGES 1 UIDNEXT 6)
		a< 11 OK *
	`)
}

func TestAppend(t *testing.T) {
	newWorld(t, func(_ *Config, s *Settings) { s.MaxMessageBytes = 10_000 }).talk(`
		a> 1 APPEND Drafts (\Draft $X) "01-Feb-2026 03:04:05 +0100" {9}
		a< + *
		a>> "A: b\r\n\r\nx\r\n"
		a< 1 OK [APPENDUID * 1] *
		a> 2 APPEND None {3}
		a< 2 NO [TRYCREATE] *
		a> 3 APPEND Drafts {0}
		a< 3 NO *
		a> 4 SELECT Drafts
		a<~ 4 OK *
		a> 5 APPEND Drafts {3+}
		a> abc
		a< * 2 EXISTS
		a< * 2 RECENT
		a< 5 OK [APPENDUID * 2] *
		a> 6 FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])
		a<< "* 1 FETCH (FLAGS ($X \\Draft \\Recent) INTERNALDATE \" 1-Feb-2026 03:04:05 +0100\" BODY[] {9}\r\nA: b\r\n\r\nx)\r\n"
		a< * 2 FETCH *
		a< abc)
		a< 6 OK *
		# Too large: a client that waits is told so ...
		a> 7 APPEND Drafts {10001}
		a< 7 NO [TOOBIG] *
		a> 8 NOOP
		a< 8 OK *
		# ... and of one that does not the octets are passed over.
		a> 9 APPEND Drafts {10018+}
		a>> "10 DELETE Drafts\r\n` + strings.Repeat("x", 10_000) + `\r\n11 NOOP\r\n"
		a< 9 NO [TOOBIG] *
		a< 11 OK *
		# Much too large: it is sent away, before they are taken for commands.
		a> 12 APPEND Drafts {2000000+}
		a> 13 DELETE Drafts
		a< 12 BAD [TOOBIG] *
		a< * BYE *
		b> 1 STATUS Drafts (MESSAGES)
		b< * STATUS "Drafts" (MESSAGES 2)
		b< 1 OK *
	`)
}
