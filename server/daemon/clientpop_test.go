package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mpop and getmail leave mail on the server: they fetch each message once, also when
// the server was started anew in between, and later take away what they have.
func TestClientLeaveOnServer(t *testing.T) {
	for _, program := range []string{"mpop", "getmail"} {
		t.Run(program, func(t *testing.T) {
			c := newClients(t, program)
			for _, sub := range []string{"cur", "new", "tmp"} {
				c.must(os.MkdirAll(filepath.Join(c.home, "got", sub), 0o700))
			}
			fetch := func(keep bool) {
				t.Helper()
				if program == "mpop" {
					rc := c.file("mpoprc", fmt.Sprintf("account default\nhost localhost\nport %s\nuser bob@example.com\npassword \"bob's secret\"\nauth scram-sha-256\ntls on\ntls_starttls off\ntls_trust_file %s\nuidls_file %s/uidls\nkeep %s\ndelivery maildir %s/got\n",
						c.port("pop3s"), c.ca, c.home, map[bool]string{true: "on", false: "off"}[keep], c.home))
					c.run("", []string{"mpop", "-C", rc})
					return
				}
				// It keeps what it has seen by port, and the port is another one after a restart.
				old, err := filepath.Glob(filepath.Join(c.home, "oldmail-*"))
				c.must(err)
				for _, path := range old {
					parts := strings.Split(filepath.Base(path), "-")
					parts[2] = c.port("pop3s")
					c.must(os.Rename(path, filepath.Join(c.home, strings.Join(parts, "-"))))
				}
				c.file("getmailrc", fmt.Sprintf("[retriever]\ntype = SimplePOP3SSLRetriever\nserver = localhost\nport = %s\nusername = bob@example.com\npassword = bob's secret\nca_certs = %s\n[destination]\ntype = MDA_external\npath = /bin/sh\narguments = (\"-c\", \"cat >$(mktemp %s/got/new/XXXXXX)\")\nallow_root_commands = true\n[options]\nread_all = false\ndelete = %t\ndelivered_to = false\nreceived = false\n",
					c.port("pop3s"), c.ca, c.home, !keep))
				c.run("", []string{"getmail", "--getmaildir", c.home})
			}
			got := func() (subjects []string) {
				files, err := filepath.Glob(filepath.Join(c.home, "got", "new", "*"))
				c.must(err)
				for _, f := range files {
					text := c.read(f)
					if !strings.Contains(text, "\n.a line with a dot\n") {
						t.Errorf("got\n%s", text)
					}
					for line := range strings.Lines(text) {
						if s, ok := strings.CutPrefix(line, "Subject: "); ok {
							subjects = append(subjects, strings.TrimSpace(s))
						}
					}
				}
				slices.Sort(subjects)
				return subjects
			}
			k := c.user("bob@example.com", "bob's secret")
			for i := range 3 {
				c.add(k, "INBOX", fmt.Sprintf("mail%d", i))
			}
			fetch(true)
			c.expect("first", got(), []string{"mail0", "mail1", "mail2"})
			fetch(true)
			c.expect("again", got(), []string{"mail0", "mail1", "mail2"})
			c.must(c.stop())
			c.start()
			k = c.user("bob@example.com", "bob's secret")
			c.add(k, "INBOX", "mail3")
			fetch(true)
			all := []string{"mail0", "mail1", "mail2", "mail3"}
			c.expect("after a restart", got(), all)
			if n := len(c.inbox("bob@example.com")); n != 4 {
				t.Errorf("%d messages are left, expected 4", n)
			}
			fetch(false)
			c.expect("taken away", got(), all)
			if n := len(c.inbox("bob@example.com")); n != 0 {
				t.Errorf("%d messages are left, expected none", n)
			}
		})
	}
}
