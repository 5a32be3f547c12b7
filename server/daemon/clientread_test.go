package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// neomutt sends by SMTP, reads, files and deletes by IMAP, and copies to the server
// what it has in a local mailbox.
func TestClientNeomutt(t *testing.T) {
	c := newClients(t, "neomutt", "script")
	k := c.user("bob@example.com", "bob's secret")
	c.user("alice@example.com", "alice's secret") // with her first login the server knows what SCRAM needs
	rc := func(name, password string) string {
		return c.file(name+".rc", fmt.Sprintf(`set from = "%[1]s@example.com"
set realname = "%[1]s"
set imap_user = "%[1]s@example.com"
set imap_pass = "%[2]s"
set smtp_url = "smtp://%[1]s@example.com@localhost:%[3]s/"
set smtp_pass = "%[2]s"
set ssl_force_tls = yes
set ssl_verify_host = yes
set certificate_file = "%[4]s"
set folder = "imaps://localhost:%[5]s/"
set spool_file = "+INBOX"
set record = "+Sent"
set postponed = "+Drafts"
set mbox = "+Archive"
set confirm_append = no
set confirm_create = no
set delete = yes
set move = no
set quit = yes
set mark_old = no
set wait_key = no
set header_cache = "%[6]s/cache"
set message_cachedir = "%[6]s/cache"
`, name, password, c.port("submission"), c.ca, c.port("imaps"), c.home))
	}
	send := func(subject string) {
		c.run("Hello from neomutt.\n", []string{"neomutt", "-n", "-F", rc("alice", "alice's secret"), "-s", subject, "-a", c.file("data.bin", strings.Repeat("\x00\x01\xff", 3000)), "--", "bob@example.com"})
	}
	send("first grüße")
	send("second")
	send("third")
	c.expect("INBOX", c.holds(k, "INBOX"), []string{"first grüße", "second", "third"})
	if !strings.Contains(c.logs.String(), `"account":"alice@example.com","mechanism":"SCRAM-SHA-256"`) {
		t.Errorf("neomutt does not take SCRAM to send; log:\n%s", c.logs)
	}

	// Neomutt reads mail at a terminal only.
	interactive := func(user string, mailbox string, keys ...string) {
		t.Helper()
		cmd := fmt.Sprintf(`stty cols 100 rows 30; exec timeout 60 neomutt -n -F %s -f %s -e 'push "%s"'`, user, mailbox, strings.Join(keys, ""))
		c.run("", []string{"script", "-qec", cmd, "/dev/null"})
	}
	out, local := filepath.Join(c.home, "piped"), filepath.Join(c.home, "local")
	bob := rc("bob", "bob's secret")
	interactive(bob, "+INBOX",
		"<pipe-message>cat >"+out+"<enter>",
		"<copy-message>"+local+"<enter>",
		"<tag-pattern>~s second<enter><tag-prefix><save-message>=Archive<enter>",
		"<limit>~s third<enter><delete-message><limit>all<enter>",
		"<limit>~s first<enter><first-entry><flag-message><limit>all<enter>",
		"<sync-mailbox><exit>")
	if got := c.read(out); !strings.Contains(got, "Hello from neomutt.\n") {
		t.Errorf("read %q", got)
	}
	c.expect("INBOX", c.holds(k, "INBOX"), []string{"first grüße Flagged"})
	c.expect("Archive", c.holds(k, "Archive"), []string{"second"})
	interactive(bob, local, "<copy-message>=Drafts<enter><exit>")
	c.expect("Drafts", c.holds(k, "Drafts"), []string{"first grüße"})
}

// msmtp sends by SCRAM-SHA-256, and who has a wrong password is told so.
func TestClientMsmtp(t *testing.T) {
	c := newClients(t, "msmtp")
	k := c.user("bob@example.com", "bob's secret")
	send := func(service, starttls, password string, codes ...int) string {
		t.Helper()
		rc := c.file("msmtprc", fmt.Sprintf("account default\nhost localhost\nport %s\nfrom bob@example.com\nuser bob@example.com\npassword \"%s\"\nauth scram-sha-256\ntls on\ntls_starttls %s\ntls_trust_file %s\n",
			c.port(service), password, starttls, c.ca))
		return c.run("Subject: by "+service+"\n\nHello\n", []string{"msmtp", "-C", rc, "bob@example.com"}, codes...)
	}
	send("submission", "on", "bob's secret")
	send("submissions", "off", "bob's secret")
	if out := send("submissions", "off", "guess", 77); !strings.Contains(out, "535 5.7.8") { // EX_NOPERM
		t.Errorf("a wrong password: %s", out)
	}
	c.expect("INBOX", c.holds(k, "INBOX"), []string{"by submission", "by submissions"})
}

// fetchmail takes mail away by POP3 and by IMAP, and knows what it has seen when it leaves it there.
func TestClientFetchmail(t *testing.T) {
	for _, tc := range []struct{ service, protocol, tls string }{
		{"pop3s", "pop3", "ssl"}, {"pop3", "pop3", "sslproto TLS1.2+"}, {"imaps", "imap", "ssl"}, {"imap", "imap", "sslproto TLS1.2+"},
	} {
		t.Run(tc.service, func(t *testing.T) {
			c := newClients(t, "fetchmail")
			k := c.user("bob@example.com", "bob's secret")
			for i := range 5 {
				c.add(k, "INBOX", fmt.Sprintf("mail%d", i))
			}
			fetch := func(more string, codes ...int) {
				t.Helper()
				rc := c.file("fetchmailrc", fmt.Sprintf(`set no bouncemail
poll localhost service %s protocol %s %s
  user "bob@example.com" password "bob's secret" is root here
  %s sslcertck sslcertfile "%s"
  mda "cat >>%s/got"
`, c.port(tc.service), tc.protocol, map[bool]string{true: "uidl"}[tc.protocol == "pop3"], tc.tls+" "+more, c.ca, c.home))
				c.run("", []string{"fetchmail", "-f", rc, "--pidfile", filepath.Join(c.home, "pid"), "-i", filepath.Join(c.home, "ids"), "--nosyslog", "-d0", "-v"}, codes...)
			}
			got := func() []string {
				text, err := os.ReadFile(filepath.Join(c.home, "got"))
				c.must(err)
				var subjects []string
				for line := range strings.Lines(string(text)) {
					if s, ok := strings.CutPrefix(line, "Subject: "); ok {
						subjects = append(subjects, strings.TrimSpace(s))
					}
				}
				slices.Sort(subjects)
				return subjects
			}
			fetch("keep")
			all := []string{"mail0", "mail1", "mail2", "mail3", "mail4"}
			c.expect("first", got(), all)
			fetch("keep", 1) // "no mail"
			c.expect("second", got(), all)
			if n := len(c.inbox("bob@example.com")); n != 5 {
				t.Errorf("%d messages are left, expected 5", n)
			}
			if text := c.read(filepath.Join(c.home, "got")); strings.Count(text, "\n.a line with a dot\n") != 5 {
				t.Errorf("got\n%s", text)
			}
			c.add(k, "INBOX", "mail5")
			fetch("nokeep fetchall")
			want := append(slices.Concat(all, all), "mail5")
			slices.Sort(want)
			c.expect("third", got(), want)
			if n := len(c.inbox("bob@example.com")); n != 0 {
				t.Errorf("%d messages are left, expected none", n)
			}
		})
	}
}
