package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/smtp"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailform/providers/world"
)

// TestReplacedMachineKeepsMail: with a data disk another machine goes on where the
// first one was, with the mail and the passwords.
func TestReplacedMachineKeepsMail(t *testing.T) {
	t.Parallel()
	w, s := newShell(t, nil)
	s.must(t, 0, "apply", "--auto-approve")
	password, _ := s.must(t, 0, "password", "alice@example.com")
	password = strings.TrimSpace(password)
	sendMail(t, w, "alice@example.com")

	// The mail moves to a disk of its own.
	s.rewrite(t, `image = "debian-12"`, "image = \"debian-12\"\n    data_disk { size = \"20GiB\" }")
	if risk := s.risks(t); len(risk) != 0 {
		t.Errorf("a data disk more loses data: %v", risk)
	}
	s.must(t, 0, "apply", "--auto-approve")
	if n := messages(t, w, "alice@example.com", password); n != 1 {
		t.Fatalf("%d messages on the data disk", n)
	}

	replace := []string{"--replace", "host/mx1/instance", "--allow", "host/mx1/instance"}
	if risk := s.risks(t, replace...); len(risk) != 0 {
		t.Errorf("another machine loses the data of %v, although the mail is on its disk", risk)
	}
	for address, action := range s.actions(t, replace...) {
		if strings.HasPrefix(address, "dns/") && strings.Contains(address, "/a/") {
			t.Errorf("%s of %s, although the address of the machine stays", action, address)
		}
	}
	s.must(t, 0, append([]string{"apply", "--auto-approve"}, replace...)...)
	if n := messages(t, w, "alice@example.com", password); n != 1 {
		t.Errorf("%d messages after the machine was made anew", n)
	}
	sendMail(t, w, "alice@example.com")
	if n := messages(t, w, "alice@example.com", password); n != 2 {
		t.Errorf("%d messages after another one was delivered", n)
	}
	if todo := s.actions(t); len(todo) != 0 {
		t.Errorf("there is something to do after the replacement: %v", todo)
	}
}

// risks are the addresses at which a plan loses data.
func (s shell) risks(t *testing.T, flags ...string) (out []string) {
	t.Helper()
	stdout, _ := s.must(t, 0, append([]string{"plan", "--json"}, flags...)...)
	var doc struct {
		Changes []struct{ Address, Action, Risk string }
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range doc.Changes {
		if c.Risk == "loses data" {
			out = append(out, c.Address)
		}
	}
	return out
}

// sendMail brings a message as another mail server would.
func sendMail(t *testing.T, w *world.World, to string) {
	t.Helper()
	conn, err := w.DialOutside(context.Background(), "mail.example.com:25")
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "mail.example.com")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	steps := func() error {
		if err := c.Hello("mx.elsewhere.example"); err != nil {
			return err
		}
		if err := c.Mail("someone@elsewhere.example"); err != nil {
			return err
		}
		if err := c.Rcpt(to); err != nil {
			return err
		}
		body, err := c.Data()
		if err != nil {
			return err
		}
		if _, err := body.Write([]byte("From: someone@elsewhere.example\r\nTo: " + to + "\r\nSubject: hello\r\n\r\nHello.\r\n")); err != nil {
			return err
		}
		if err := body.Close(); err != nil {
			return err
		}
		return c.Quit()
	}
	if err := steps(); err != nil {
		t.Fatal(err)
	}
}

// messages counts what has come from elsewhere into an inbox.
func messages(t *testing.T, w *world.World, user, password string) uint32 {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, w.CABundle()))
	conn, err := w.Dial(context.Background(), "mail.example.com:993")
	if err != nil {
		t.Fatal(err)
	}
	c := imapclient.New(tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "mail.example.com"}), nil)
	defer c.Close()
	if err := c.Login(user, password).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	// The server may have a word to say, too: that the disk is nearly full, say.
	found, err := c.Search(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "From", Value: "elsewhere.example"}}}, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	return uint32(len(found.AllSeqNums()))
}
