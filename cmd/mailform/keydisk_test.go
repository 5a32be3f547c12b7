package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/smtp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"mailform/providers/world"
)

// TestReplacedMachineKeepsKeys: with a data disk another machine signs with the same
// keys and serves the same certificate. Nothing is written to DNS and the CA is asked
// for nothing, also when apply is killed while there is no machine at all.
func TestReplacedMachineKeepsKeys(t *testing.T) {
	t.Parallel()
	var writes atomic.Int64 // to DNS: records, and challenges of orders
	g := &barrier{}
	w, s := newShell(t, g, func(c *world.Config) {
		c.Front = func(vendor string, api http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if vendor == "dns" && r.Method != http.MethodGet {
					writes.Add(1)
				}
				api.ServeHTTP(rw, r)
			})
		}
	})
	s.rewrite(t, `image = "debian-12"`, "image = \"debian-12\"\n    data_disk { size = \"20GiB\" }")
	s.must(t, 0, "apply", "--auto-approve")
	password, _ := s.must(t, 0, "password", "alice@example.com")
	password = strings.TrimSpace(password)
	if writes.Load() == 0 {
		t.Fatal("no writes to DNS are counted for a new stack")
	}
	before, published := shown(t, w), signingRecords(t, w)
	signed(t, w, "alice@example.com", password, "one")

	same := func(when string) {
		t.Helper()
		if n := writes.Swap(0); n > 0 {
			t.Errorf("%s: %d writes to DNS", when, n)
		}
		if now := shown(t, w); !now.Equal(before) {
			t.Errorf("%s: another certificate, %s instead of %s", when, now.SerialNumber, before.SerialNumber)
		}
		if now := signingRecords(t, w); now != published {
			t.Errorf("%s: other records:\n%s\n%s", when, now, published)
		}
		if todo := s.actions(t); len(todo) != 0 {
			t.Errorf("%s: there is something to do: %v", when, todo)
		}
		signed(t, w, "alice@example.com", password, when)
	}

	replace := []string{"--replace", "host/mx1/instance", "--allow", "host/mx1/instance"}
	untouched := func(todo map[string]string, certificate bool) {
		t.Helper()
		for address, action := range todo {
			switch strings.Split(address, "/")[0] {
			case "dns", "dkim":
				t.Errorf("%s of %s is planned", action, address)
			case "cert":
				if certificate {
					t.Errorf("%s of %s is planned", action, address)
				}
			}
		}
	}
	untouched(s.actions(t, replace...), true)
	writes.Store(0)
	s.must(t, 0, append([]string{"apply", "--auto-approve"}, replace...)...)
	same("after the machine was made anew")

	// Killed when the old machine is gone and the new one is not known of.
	g.close("RunInstances", true)
	c := s.command(append([]string{"apply", "--auto-approve"}, replace...)...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	g.wait(t)
	c.Process.Kill()
	c.Wait()
	close(g.pass)
	writes.Store(0)
	untouched(s.actions(t), false) // nobody can look at the certificate now
	s.must(t, 0, "apply", "--auto-approve")
	same("after apply was killed between two machines")

	// The disk goes: the mail on it is given up by name, the keys come back before.
	const disk = "\n    data_disk { size = \"20GiB\" }"
	s.rewrite(t, disk, "")
	giveUp := []string{"--allow", "host/mx1/*", "--allow", "mailbox/*"}
	untouched(s.actions(t, giveUp...), true)
	s.must(t, 0, append([]string{"apply", "--auto-approve"}, giveUp...)...)
	password, _ = s.must(t, 0, "password", "alice@example.com")
	password = strings.TrimSpace(password)
	same("after the disk was given up")

	// Another one comes, and is then made anew with all that is on it.
	s.rewrite(t, `image = "debian-12"`, `image = "debian-12"`+disk)
	untouched(s.actions(t), true)
	s.must(t, 0, "apply", "--auto-approve")
	same("after another disk came")
	s.must(t, 0, "apply", "--auto-approve", "--replace", "host/mx1/data-disk", "--allow", "host/mx1/*", "--allow", "dkim/*", "--allow", "mailbox/*")
	password, _ = s.must(t, 0, "password", "alice@example.com")
	if now := shown(t, w); now.Equal(before) {
		t.Error("a certificate whose disk is gone is still there")
	}
	signed(t, w, "alice@example.com", strings.TrimSpace(password), "after the disk was made anew")
	if todo := s.actions(t); len(todo) != 0 {
		t.Errorf("after the disk was made anew there is something to do: %v", todo)
	}
}

// signingRecords are the published keys of the world.
func signingRecords(t *testing.T, w *world.World) string {
	t.Helper()
	var out []string
	for _, r := range w.DNS().Records("example.com") {
		if strings.Contains(r.Name, "._domainkey.") {
			out = append(out, r.ID+" "+r.Name+" "+r.Content)
		}
	}
	if len(out) == 0 {
		t.Fatal("no signing key is published")
	}
	return strings.Join(out, "\n")
}

// signed sends a message to another mail server, where every signature must verify
// against what is published.
func signed(t *testing.T, w *world.World, user, password, subject string) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, w.CABundle()))
	conn, err := w.Dial(t.Context(), "mail.example.com:465")
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "mail.example.com"}), "mail.example.com")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	steps := func() error {
		if err := c.Auth(smtp.PlainAuth("", user, password, "mail.example.com")); err != nil {
			return err
		}
		if err := c.Mail(user); err != nil {
			return err
		}
		if err := c.Rcpt("someone@elsewhere.example"); err != nil {
			return err
		}
		body, err := c.Data()
		if err != nil {
			return err
		}
		fmt.Fprintf(body, "From: %s\r\nTo: someone@elsewhere.example\r\nSubject: %s\r\nDate: %s\r\n\r\nHello.\r\n", user, subject, time.Now().Format(time.RFC1123Z))
		if err := body.Close(); err != nil {
			return err
		}
		return c.Quit()
	}
	if err := steps(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := w.Outside().Wait(ctx, func(m world.Received) bool { return bytes.Contains(m.Data, []byte("Subject: "+subject+"\r\n")) })
	if err != nil {
		t.Fatal(err)
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, w.Resolver())
	}}
	found, err := dkim.VerifyWithOptions(bytes.NewReader(got.Data), &dkim.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) { return resolver.LookupTXT(ctx, name) },
	})
	if err != nil || len(found) != 2 {
		t.Fatalf("%q has %d signatures: %v", subject, len(found), err)
	}
	for _, v := range found {
		if v.Err != nil {
			t.Errorf("%q: the signature of %s does not verify: %v", subject, v.Domain, v.Err)
		}
	}
}
