package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailform/server/manifest"
)

// The tests with real clients run the programs that people have, from Debian,
// against the whole daemon. Those of them that are not installed are skipped by
// name; .ci/run installs all and lets nothing be skipped.

// clients is a daemon on loopback and a home directory for one client.
type clients struct {
	*host
	home string
	ca   string // PEM file of the certificate that the client is to trust
}

func newClients(t *testing.T, programs ...string) *clients {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
	c := &clients{host: newHost(t), home: t.TempDir()}
	c.manifest.POP3 = &manifest.POP3{}
	c.writeManifest()
	c.writeCertificateFor("mx1", 1, "mail.example.com", "localhost")
	c.ca = c.layout.CertChain("mx1")
	c.start()
	return c
}

func (c *clients) port(service string) string {
	c.t.Helper()
	_, port, err := net.SplitHostPort(c.addr[service])
	c.must(err)
	return port
}

// file writes a file of the client's home and returns its path.
func (c *clients) file(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.home, name)
	c.must(os.MkdirAll(filepath.Dir(path), 0o700))
	c.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (c *clients) read(path string) string {
	c.t.Helper()
	text, err := os.ReadFile(path)
	c.must(err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// run runs a client to its end and returns what it printed; its exit code has
// to be one of codes, or 0 without any.
func (c *clients) run(stdin string, argv []string, codes ...int) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdin = c.home, strings.NewReader(stdin)
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "HOME="+c.home, "LC_ALL=C.UTF-8", "TERM=xterm", "MAIL=")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatalf("%v: %v", argv, err)
	}
	if len(codes) == 0 {
		codes = []int{0}
	}
	if code := cmd.ProcessState.ExitCode(); !slices.Contains(codes, code) {
		c.t.Fatalf("%v: exit code %d\n%s\nlog:\n%s", argv, code, out, c.logs)
	}
	return string(out)
}

// user is a second client of the same account, that the first has to agree with.
func (c *clients) user(account, password string) *imapclient.Client {
	c.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.read(c.ca)))
	conf := &tls.Config{ServerName: "localhost", RootCAs: roots}
	k, err := imapclient.DialTLS(c.addr["imaps"], &imapclient.Options{TLSConfig: conf})
	c.must(err)
	c.t.Cleanup(func() { k.Close() })
	c.must(k.Login(account, password).Wait())
	return k
}

// add appends a message whose subject and text are its name.
func (c *clients) add(k *imapclient.Client, mailbox, name string, flags ...imap.Flag) {
	c.t.Helper()
	text := letter(name)
	cmd := k.Append(mailbox, int64(len(text)), &imap.AppendOptions{Flags: flags, Time: time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)})
	_, err := cmd.Write([]byte(text))
	c.must(err)
	c.must(cmd.Close())
	_, err = cmd.Wait()
	c.must(err)
}

func letter(name string) string {
	return fmt.Sprintf("From: carol@sender.example\r\nTo: bob@example.com\r\nDate: Thu, 29 Feb 2024 12:00:00 +0000\r\nSubject: %s\r\nMessage-ID: <%s@sender.example>\r\n\r\nThe text of %s.\r\n.a line with a dot\r\n", name, name, name)
}

// holds says what is in a mailbox: subjects with their flags, in order of subject.
func (c *clients) holds(k *imapclient.Client, mailbox string) []string {
	c.t.Helper()
	box, err := k.Select(mailbox, &imap.SelectOptions{ReadOnly: true}).Wait()
	c.must(err)
	list := []string{}
	if box.NumMessages == 0 {
		return list
	}
	messages, err := k.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{Envelope: true, Flags: true}).Collect()
	c.must(err)
	for _, m := range messages {
		var flags []string
		for _, f := range m.Flags {
			if f != imap.Flag(`\Recent`) {
				flags = append(flags, strings.TrimPrefix(string(f), `\`))
			}
		}
		slices.Sort(flags)
		list = append(list, strings.TrimSpace(m.Envelope.Subject+" "+strings.Join(flags, " ")))
	}
	slices.Sort(list)
	return list
}

// change stores flags for the message with this subject.
func (c *clients) change(k *imapclient.Client, mailbox, name string, flags ...imap.Flag) {
	c.t.Helper()
	_, err := k.Select(mailbox, nil).Wait()
	c.must(err)
	found, err := k.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: name}}}, nil).Wait()
	c.must(err)
	uids := found.AllUIDs()
	if len(uids) != 1 {
		c.t.Fatalf("%s in %s: found %v", name, mailbox, uids)
	}
	c.must(k.Store(imap.UIDSetNum(uids...), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: flags}, nil).Close())
	if slices.Contains(flags, imap.FlagDeleted) {
		c.must(k.UIDExpunge(imap.UIDSetNum(uids...)).Close())
	}
	c.must(k.Unselect().Wait())
}

func (c *clients) expect(what string, got, want []string) {
	c.t.Helper()
	if !slices.Equal(got, want) {
		c.t.Errorf("%s: has %q, expected %q", what, got, want)
	}
}

// curl speaks all three protocols, over implicit TLS and after STARTTLS.
func TestClientCurl(t *testing.T) {
	c := newClients(t, "curl")
	const user = "bob@example.com:bob's secret"
	curl := func(args ...string) string {
		t.Helper()
		return c.run("", append([]string{"curl", "-sS", "--max-time", "60", "--cacert", c.ca, "--ssl-reqd"}, args...))
	}
	mail := c.file("letter", letter("by curl"))
	for _, service := range []string{"submissions", "submission"} {
		scheme := map[string]string{"submissions": "smtps", "submission": "smtp"}[service]
		curl(scheme+"://localhost:"+c.port(service), "--user", "alice@example.com:alice's secret",
			"--mail-from", "alice@example.com", "--mail-rcpt", "bob@example.com", "-T", c.file("out", strings.Replace(letter("by curl"), "carol@sender.example", "alice@example.com", 1)))
	}
	for i, service := range []string{"imaps", "imap"} {
		at := service + "://localhost:" + c.port(service)
		if got := curl(at+"/INBOX?ALL", "--user", user); got != "* SEARCH 1 2\r\n" {
			t.Errorf("%s: search says %q", service, got)
		}
		if got := curl(at+"/INBOX;MAILINDEX=2", "--user", user); !strings.Contains(got, "\r\nSubject: by curl\r\n") || !strings.HasSuffix(got, "\r\n\r\nThe text of by curl.\r\n.a line with a dot\r\n") {
			t.Errorf("%s: read %q", service, got)
		}
		if got := curl(at+"/INBOX;UID=1;SECTION=TEXT", "--user", user); got != "The text of by curl.\r\n.a line with a dot\r\n" {
			t.Errorf("%s: section %q", service, got)
		}
		curl(at+"/Drafts", "--user", user, "-T", mail)
		if got := curl(at+"/", "--user", user, "-X", `STATUS Drafts (MESSAGES)`); got != fmt.Sprintf("* STATUS \"Drafts\" (MESSAGES %d)\r\n", i+1) {
			t.Errorf("%s: status %q", service, got)
		}
		if got := curl(at+"/", "--user", user); !strings.Contains(got, "INBOX\r\n") || !strings.Contains(got, `"Drafts"`+"\r\n") {
			t.Errorf("%s: list %q", service, got)
		}
	}
	for _, service := range []string{"pop3s", "pop3"} {
		at := service + "://localhost:" + c.port(service) + "/"
		if got := curl(at, "--user", user); !strings.HasPrefix(got, "1 ") || strings.Count(got, "\n") != 2 {
			t.Errorf("%s: list %q", service, got)
		}
		if got := curl(at+"2", "--user", user); !strings.HasSuffix(got, "\r\n\r\nThe text of by curl.\r\n.a line with a dot\r\n") {
			t.Errorf("%s: read %q", service, got)
		}
	}
	curl("pop3s://localhost:"+c.port("pop3s")+"/1", "--user", user, "-X", "DELE", "-l")
	if n := len(c.inbox("bob@example.com")); n != 1 {
		t.Errorf("%d messages after DELE, expected 1", n)
	}
	c.run("", []string{"curl", "-sS", "--cacert", c.ca, "imaps://localhost:" + c.port("imaps"), "--user", "bob@example.com:wrong"}, 67)
}

// Python's own libraries, each assertion in the script.
func TestClientPython(t *testing.T) {
	c := newClients(t, "python3")
	script, err := filepath.Abs("testdata/libraries.py")
	c.must(err)
	out := c.run("", []string{"python3", script, c.ca, c.port("imaps"), c.port("imap"), c.port("pop3s"), c.port("pop3"), c.port("submissions")})
	if !strings.HasSuffix(out, "all is well\n") {
		t.Errorf("got\n%s", out)
	}
}
