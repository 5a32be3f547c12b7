package daemon

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// maildir is a folder of maildirs that a client keeps in step with a mailbox.
type maildir struct {
	t    testing.TB
	root string
}

// path is the file of the message with this subject.
func (d maildir) path(folder, name string) string {
	d.t.Helper()
	var found []string
	for _, p := range d.files(folder) {
		text, err := os.ReadFile(p)
		if err != nil {
			d.t.Fatal(err)
		}
		if strings.Contains(string(text), "Subject: "+name+"\n") || strings.Contains(string(text), "Subject: "+name+"\r\n") {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		d.t.Fatalf("%s in %s: %q", name, folder, found)
	}
	return found[0]
}

func (d maildir) files(folder string) []string {
	d.t.Helper()
	var list []string
	for _, sub := range []string{"new", "cur"} {
		err := filepath.WalkDir(filepath.Join(d.root, folder, sub), func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				list = append(list, path)
			}
			return err
		})
		if err != nil {
			d.t.Fatal(err)
		}
	}
	return list
}

// flag adds a flag letter to the message with this subject, as a mail reader does.
func (d maildir) flag(folder, name, letter string) {
	d.t.Helper()
	old := d.path(folder, name)
	base, flags, _ := strings.Cut(filepath.Base(old), ":2,")
	letters := strings.Split(flags+letter, "")
	slices.Sort(letters)
	if err := os.Rename(old, filepath.Join(d.root, folder, "cur", base+":2,"+strings.Join(letters, ""))); err != nil {
		d.t.Fatal(err)
	}
}

// holds says what is in a maildir, in the words of clients.holds.
func (d maildir) holds(folder string) []string {
	d.t.Helper()
	list := []string{}
	for _, p := range d.files(folder) {
		text, err := os.ReadFile(p)
		if err != nil {
			d.t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "Subject: ")
		subject, _, _ := strings.Cut(rest, "\n")
		words := []string{strings.TrimSpace(subject)}
		_, flags, _ := strings.Cut(filepath.Base(p), ":2,")
		for _, f := range []struct{ letter, word string }{{"R", "Answered"}, {"T", "Deleted"}, {"D", "Draft"}, {"F", "Flagged"}, {"S", "Seen"}} {
			if strings.Contains(flags, f.letter) {
				words = append(words, f.word)
			}
		}
		list = append(list, strings.Join(words, " "))
	}
	slices.Sort(list)
	return list
}

// mails fills an account before its first synchronisation.
func (c *clients) mails(k *imapclient.Client) {
	c.must(k.Create("Projects", nil).Wait())
	c.must(k.Create("Projects/2024 Büro", nil).Wait())
	for i := range 12 {
		c.add(k, "INBOX", fmt.Sprintf("mail%02d", i))
	}
	c.add(k, "INBOX", "read", imap.FlagSeen, imap.FlagAnswered)
	c.add(k, "Projects", "plan", imap.FlagFlagged)
	c.add(k, "Projects/2024 Büro", "desk")
}

// twoWay is the life of a synchronised account: sync brings both sides
// together, and does nothing when there is nothing to do; remove takes a message
// away as a reader of the client's maildirs is to.
func (c *clients) twoWay(k *imapclient.Client, d maildir, remove func(folder, name string), sync func()) {
	c.t.Helper()
	const deep, deepEncoded = "Projects/2024 Büro", "Projects/2024 B&APw-ro"
	same := func(when string) {
		c.t.Helper()
		for _, f := range [][2]string{{"INBOX", "INBOX"}, {"Projects", "Projects"}, {deep, deepEncoded}} {
			c.expect(when+": the maildir of "+f[0], d.holds(f[1]), c.holds(k, f[0]))
		}
	}
	// state is what has to stay the same when there is nothing to do.
	state := func() []string {
		c.t.Helper()
		var list []string
		for _, f := range [][2]string{{"INBOX", "INBOX"}, {"Projects", "Projects"}, {deep, deepEncoded}} {
			snapshot, watch, err := c.store.Open(c.t.Context(), "bob@example.com", f[0])
			c.must(err)
			watch.Close()
			for _, m := range snapshot.Messages.All() {
				list = append(list, fmt.Sprintf("%s: UID %d, modification %d", f[0], m.UID, m.ModSeq))
			}
			list = append(list, d.files(f[1])...)
		}
		return list
	}
	idle := func(when string) {
		c.t.Helper()
		before := state()
		sync()
		c.expect(when+": there was nothing to do, but", state(), before)
	}
	sync()
	same("first")
	if n := len(d.files("INBOX")); n != 13 {
		c.t.Fatalf("%d files in INBOX, expected 13", n)
	}
	idle("first")

	// Both sides change, the same mailbox among them.
	d.flag("INBOX", "mail00", "S")
	remove("INBOX", "mail01")
	d.flag(deepEncoded, "desk", "F")
	c.must(os.WriteFile(filepath.Join(d.root, "Projects", "new", "1700000000.M1P1.laptop"), []byte(strings.ReplaceAll(letter("from the laptop"), "\r\n", "\n")), 0o600))
	c.change(k, "INBOX", "mail02", imap.FlagFlagged)
	c.change(k, "INBOX", "mail03", imap.FlagDeleted)
	c.change(k, "Projects", "plan", imap.FlagSeen)
	c.add(k, "INBOX", "later", imap.FlagSeen)
	sync()
	same("after changes")
	want := []string{"later Seen", "mail00 Seen", "mail02 Flagged"}
	for i := 4; i < 12; i++ {
		want = append(want, fmt.Sprintf("mail%02d", i))
	}
	c.expect("INBOX", c.holds(k, "INBOX"), append(want, "read Answered Seen"))
	c.expect("Projects", c.holds(k, "Projects"), []string{"from the laptop", "plan Flagged Seen"})
	c.expect(deep, c.holds(k, deep), []string{"desk Flagged"})
	idle("after changes")
}

// mbsync brings a tree of maildirs and the account together: messages, flags and
// deletions of both sides, and finds nothing to do when there is nothing.
func TestClientMbsync(t *testing.T) {
	for service, kind := range map[string]string{"imaps": "IMAPS", "imap": "STARTTLS"} {
		t.Run(service, func(t *testing.T) {
			c := newClients(t, "mbsync")
			d := maildir{t, filepath.Join(c.home, "Mail")}
			c.must(os.MkdirAll(d.root, 0o700))
			rc := c.file("mbsyncrc", fmt.Sprintf(`IMAPAccount bob
Host localhost
Port %s
User bob@example.com
Pass "bob's secret"
SSLType %s
SystemCertificates no
CertificateFile %s

IMAPStore far
Account bob

MaildirStore near
Path %s/
Inbox %[4]s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
CopyArrivalDate yes
SyncState *
`, c.port(service), kind, c.ca, d.root))
			k := c.user("bob@example.com", "bob's secret")
			c.mails(k)
			remove := func(folder, name string) { d.flag(folder, name, "ST") }
			c.twoWay(k, d, remove, func() { c.run("", []string{"mbsync", "-c", rc, "-a"}) })
			if !strings.Contains(c.logs.String(), `"mechanism":"SCRAM-SHA-256"`) {
				t.Errorf("mbsync does not take SCRAM (of libsasl2-modules); log:\n%s", c.logs)
			}
		})
	}
}

// offlineimap compresses the connection and keeps its own book of flags.
func TestClientOfflineIMAP(t *testing.T) {
	c := newClients(t, "offlineimap")
	d := maildir{t, filepath.Join(c.home, "Mail")}
	rc := c.file("offlineimaprc", fmt.Sprintf(`[general]
accounts = bob
metadata = %s/state
[Account bob]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = %[2]s
sep = /
[Repository far]
type = IMAP
remotehost = localhost
remoteport = %[3]s
remoteuser = bob@example.com
remotepass = bob's secret
ssl = yes
sslcacertfile = %[4]s
usecompression = yes
expunge = yes
`, c.home, d.root, c.port("imaps"), c.ca))
	k := c.user("bob@example.com", "bob's secret")
	c.mails(k)
	remove := func(folder, name string) { c.must(os.Remove(d.path(folder, name))) }
	c.twoWay(k, d, remove, func() { c.run("", []string{"offlineimap", "-c", rc, "-o", "-1", "-u", "basic"}) })
}
