"""imaplib, poplib and smtplib against the daemon: every line is an expectation."""

import imaplib
import poplib
import smtplib
import ssl
import sys
from email.message import EmailMessage

ca, imaps, imap, pop3s, pop3, submissions = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
USER, PASSWORD = "bob@example.com", "bob's secret"


def expect(got, want):
    if got != want:
        sys.exit(f"got {got!r}, expected {want!r}")


def ok(answer):
    if answer[0] != "OK":
        sys.exit(f"refused: {answer!r}")
    return answer[1]


def by_smtp():
    m = EmailMessage()
    m["From"], m["To"], m["Subject"] = "alice@example.com", USER, "héllo 你好"
    m.set_content("a first line\n.a dot\n" + "x" * 900 + "\n")
    m.add_attachment(b"\x00\x01" * 5000, maintype="application", subtype="octet-stream", filename="data.bin")
    with smtplib.SMTP_SSL("localhost", int(submissions), context=context) as s:
        s.login("alice@example.com", "alice's secret")
        for _ in range(3):
            expect(s.send_message(m), {})


def by_imap(c):
    try:
        c.login(USER, "wrong")
        sys.exit("a wrong password was accepted")
    except imaplib.IMAP4.error:
        pass
    ok(c.login(USER, PASSWORD))
    expect(ok(c.select()), [b"3"])
    expect(ok(c.search(None, "UNSEEN")), [b"1 2 3"])
    c.literal = "你好".encode()
    expect(ok(c.uid("SEARCH", "CHARSET", "UTF-8", "SUBJECT")), [b"1 2 3"])
    whole = ok(c.fetch("1", "(RFC822)"))
    text = whole[0][1]
    expect(int(ok(c.fetch("1", "(RFC822.SIZE)"))[0].split()[-1].rstrip(b")")), len(text))
    expect(b"\r\n.a dot\r\n" in text, True)
    expect(ok(c.fetch("1", "(BODY.PEEK[]<5.20>)"))[0][1], text[5:25])
    expect(imaplib.ParseFlags(ok(c.fetch("1", "(FLAGS)"))[0]), (b"\\Seen", b"\\Recent"))
    ok(c.store("2", "+FLAGS", "(\\Deleted $Label1)"))
    ok(c.copy("3", "Archive"))
    expect(ok(c.status("Archive", "(MESSAGES UNSEEN)"))[0].endswith(b"(MESSAGES 1 UNSEEN 1)"), True)
    expect(ok(c.expunge()), [b"2"])
    ok(c.append("INBOX", "(\\Seen)", imaplib.Time2Internaldate(1700000000), text))
    ok(c.noop())
    expect(ok(c.search(None, "ALL")), [b"1 2 3"])
    ok(c.create('"Ordner &APw- x"'))
    expect(any(b"Ordner" in line for line in ok(c.list('""', '"*"'))), True)
    ok(c.rename('"Ordner &APw- x"', '"Ordner/neu"'))
    ok(c.subscribe('"Ordner/neu"'))
    expect([b"neu" in line for line in ok(c.lsub('""', '"Ordner/*"'))], [True])
    ok(c.delete('"Ordner/neu"'))
    expect(len(ok(c.sort("(REVERSE DATE)", "UTF-8", "ALL"))[0].split()), 3)
    expect(len(ok(c.thread("REFERENCES", "UTF-8", "ALL"))), 1)
    ok(c.getquotaroot("INBOX"))
    ok(c.close())
    c.logout()


def by_imap_again(c):
    c.authenticate("PLAIN", lambda _: f"\0{USER}\0{PASSWORD}".encode())
    ok(c.enable("CONDSTORE"))
    # imaplib's own APPEND after UTF8=ACCEPT puts the syntax into the message.
    ok(c.append("Archive", None, None, "Subject: grüße\r\n\r\nhällo\r\n".encode()))
    ok(c.enable("UTF8=ACCEPT"))
    ok(c.create('"Büro 你好"'))
    expect(any("Büro 你好".encode() in line for line in ok(c.list())), True)
    expect(ok(c.select("Archive")), [b"2"])
    expect(ok(c.search(None, "SUBJECT", '"grüße"')), [b"2"])
    ok(c.copy("2", '"Büro 你好"'))
    expect(ok(c.select('"Büro 你好"')), [b"1"])
    ok(c.unselect())
    c.logout()


def by_pop3(c, last):
    c.user(USER)
    expect(c.pass_(PASSWORD)[:3], b"+OK")
    count, size = c.stat()
    expect(count, 3)
    expect(sum(int(line.split()[1]) for line in c.list()[1]), size)
    ids = [line.split()[1] for line in c.uidl()[1]]
    expect(len(set(ids)), 3)
    lines = c.retr(1)[1]
    expect(b".a dot" in lines, True)
    expect(len(b"\r\n".join(lines)) + 2, int(c.list(1).split()[2]))
    expect(c.top(1, 0)[1][-1], b"")
    expect(b"UIDL" in [k.encode() for k in c.capa()], True)
    if last:
        c.dele(1)
        c.rset()
        c.dele(2)
    c.quit()
    return ids


by_smtp()
by_imap(imaplib.IMAP4_SSL("localhost", int(imaps), ssl_context=context))
c = imaplib.IMAP4("localhost", int(imap))
c.starttls(context)
by_imap_again(c)
first = by_pop3(poplib.POP3_SSL("localhost", int(pop3s), context=context), False)
p = poplib.POP3("localhost", int(pop3))
p.stls(context)
expect(by_pop3(p, True), first)
c = imaplib.IMAP4_SSL("localhost", int(imaps), ssl_context=context)
ok(c.login(USER, PASSWORD))
expect(ok(c.select("INBOX", readonly=True)), [b"2"])
c.logout()
print("all is well")
