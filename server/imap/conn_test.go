package imap

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mailform/server/account"
	"mailform/server/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Garbage is answered with BAD or BYE; it never hangs.
func TestGarbage(t *testing.T) {
	newWorld(t).talk(`
		-a< * OK *
		-a>> "\r\n"
		-a< * BAD *
		-a>> "\x16\x03\x01\x02\x00\x01\x00\n"
		-a< * BAD *
		-a> justatag
		-a< justatag BAD *
		-a> ( LOGIN a b
		-a< * BAD *
		-a> 1 LOGIN "unterminated
		-a< 1 BAD *
		-a> 2 NOOP
		-a< 2 OK *
		-b< * OK *
		-b> GET / HTTP/1.1
		-b< GET BAD *
		-b< * BYE *
		c> 1 NONSENSE
		c< 1 BAD *
		c> 2 FETCH
		c< 2 BAD *
		c> 3 UID
		c< 3 BAD *
		c> 4 SELECT {x}
		c< 4 BAD *
		c> 5 SELECT a{3}
		c< 5 BAD *
		c> 6 NOOP
		c< 6 OK *
	`)
}

func TestTooMuchGarbage(t *testing.T) {
	l := newWorld(t).dial("a")
	l.expect("* OK *")
	for range 10 {
		l.send("\r\n")
		l.expect("* BAD *")
	}
	l.send("\r\n")
	l.expect("* BYE *")
	l.eof()
}

// A command line or its literals cannot grow without bound, and what comes
// behind is never taken for commands.
func TestOversize(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, send string
		want       []string
	}{
		{"line", "1 LOGIN " + strings.Repeat("x", 60<<10) + "\r\n2 NOOP\r\n", []string{"* BYE *"}},
		{"line without end", strings.Repeat("x", 60<<10), []string{"* BYE *"}},
		{"literal that waits", "1 LOGIN {5000}\r\n", []string{"1 NO [TOOBIG] *"}},
		{"literal that does not", "1 LOGIN {5000+}\r\n2 NOOP\r\n", []string{"1 BAD [TOOBIG] *", "* BYE *"}},
		{"literal of a nonsense size", "1 LOGIN {99999999999999999999}\r\n", []string{"1 BAD *"}},
		{"literal of a nonsense size that does not wait", "1 LOGIN {99999999999999999999+}\r\n2 NOOP\r\n", []string{"* BYE *"}},
		{"literals of a mailbox name", "1 APPEND {5000}\r\n", []string{"1 NO [TOOBIG] *"}},
		{"many literals", "1 LIST \"\" (" + strings.Repeat("{4000+}\r\n"+strings.Repeat("x", 4000)+" ", 20) + ")\r\n", []string{"* BYE *"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := w.dial("a")
			l.expect("* OK *")
			l.send(c.send)
			for _, want := range c.want {
				l.expect(want)
			}
		})
	}
}

// The octets of a refused literal are not run as commands.
func TestRefusedLiteralIsPassedOver(t *testing.T) {
	newWorld(t).talk(`
		a> 1 NONSENSE {14+}
		a>> "2 DELETE Sent\r {3+}\r\nabc rest\r\n3 NOOP\r\n"
		a< 1 BAD *
		a< 3 OK *
		a> 4 STORE {15+}
		a>> "5 DELETE Sent\r\n\r\n6 NOOP\r\n"
		a< 4 BAD *
		a< 6 OK *
		a> 7 STATUS Sent (MESSAGES)
		a< * STATUS *
		a< 7 OK *
	`)
}

func TestID(t *testing.T) {
	newWorld(t).talk(`
		-a< * OK *
		-a> 1 ID ("name" "client")
		-a< * ID ("name" "mailform")
		-a< 1 OK *
		-a> 2 ID NIL
		-a< * ID *
		-a< 2 OK *
		-a> 3 LOGIN alice@example.org s3cret
		-a< 3 OK *
		-a> 4 ID NIL
		-a< * ID *
		-a< 4 OK *
	`)
}

func TestStartTLS(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Settings) { c.AllowPlaintext = false })
	l := w.dial("a")
	l.expect("* OK [CAPABILITY * STARTTLS LOGINDISABLED] *")
	l.send("1 STARTTLS x\r\n")
	l.expect("1 BAD *")
	l.send("2 STARTTLS\r\n")
	l.expect("2 OK *")
	tc := tls.Client(l.nc, &tls.Config{RootCAs: w.roots, ServerName: "mail.example.org"})
	l = newLine(w, "tls", tc)
	l.send("3 CAPABILITY\r\n")
	l.expect("* CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ ID SASL-IR ENABLE AUTH=PLAIN AUTH=LOGIN")
	l.expect("3 OK *")
	l.send("4 STARTTLS\r\n")
	l.expect("4 BAD *")
	l.send("5 LOGIN alice@example.org s3cret\r\n")
	l.expect("5 OK *")
	l.send("6 STARTTLS\r\n")
	l.expect("6 BAD *")
	l.send("7 LOGOUT\r\n")
	l.expect("* BYE *")
	l.expect("7 OK *")
	l.eof()

	// Commands sent ahead of TLS must not run behind it.
	l = w.dial("b")
	l.expect("* OK *")
	l.send("1 STARTTLS\r\n2 NOOP\r\n")
	l.expect("* BYE *")
	l.eof()
}

func TestNoCertificate(t *testing.T) {
	w := newWorld(t, func(_ *Config, s *Settings) { s.TLS = nil })
	w.talk(`
		-a< * OK [CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ ID SASL-IR ENABLE AUTH=PLAIN AUTH=LOGIN] *
		-a> 1 STARTTLS
		-a< 1 NO *
	`)
	nc, err := net.Dial("tcp", w.tls.String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	newLine(w, "tls", nc).eof()
}

// A reload gives new connections the new certificate and leaves others alone.
func TestSet(t *testing.T) {
	w := newWorld(t, func(_ *Config, s *Settings) { s.TLS = nil })
	before := w.dial("a")
	before.expect("* OK [CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ ID SASL-IR ENABLE AUTH=PLAIN AUTH=LOGIN] *")
	cert, _ := certificate(t)
	w.srv.Set(&Settings{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	w.dial("b").expect("* OK [CAPABILITY * STARTTLS *] *")
	before.send("1 NOOP\r\n")
	before.expect("1 OK *")
}

// Many responses go out with few writes, one for each bufferful.
func TestWritesAreGathered(t *testing.T) {
	w := newWorld(t)
	for range 300 {
		w.deliver("INBOX", "A: b\n\nx")
	}
	client, server := net.Pipe()
	counting := &countingConn{Conn: server}
	c := w.srv.newConn(counting, false)
	done := make(chan struct{})
	go func() {
		c.Serve()
		close(done)
	}()
	l := newLine(w, "a", client)
	l.login()
	l.send("1 SELECT INBOX\r\n")
	for !strings.HasPrefix(l.read(), "1 OK") {
	}
	before := counting.writes
	l.send("2 FETCH 1:* (UID FLAGS)\r\n")
	for !strings.HasPrefix(l.read(), "2 OK") {
	}
	if n := counting.writes - before; n > 3 {
		t.Errorf("%d writes for 301 lines", n)
	}
	client.Close()
	<-done
}

type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

func TestTooManySessions(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Settings) { c.MaxSessions = 2 })
	w.talk(`
		a> 1 NOOP
		a< 1 OK *
		b> 1 NOOP
		b< 1 OK *
		-c< * OK *
		-c> 1 LOGIN alice@example.org s3cret
		-c< 1 NO [LIMIT] *
		-c> 2 LOGIN bob@example.org s3cret
		-c< 2 OK *
		a> 2 LOGOUT
		a< * BYE *
		a< 2 OK *
		a.
		d> 1 NOOP
		d< 1 OK *
	`)
}

func TestLoginTrouble(t *testing.T) {
	var told []string
	w := newWorld(t, func(c *Config, _ *Settings) {
		c.Auth = func(_ context.Context, user, _ string, remote netip.Addr) (string, error) {
			if !remote.IsLoopback() {
				t.Errorf("remote is %v", remote)
			}
			if user == "trouble" {
				return "", errors.New("the directory is gone")
			}
			return "", account.ErrCredentials
		}
		c.OnAuthFailure = func(remote netip.Addr, user string) time.Duration {
			told = append(told, user)
			return 7 * time.Second
		}
	})
	w.troubled = true
	w.talk(`
		-a< * OK *
		-a> 1 LOGIN nobody x
		-a< 1 NO [AUTHENTICATIONFAILED] *
	`)
	if d := <-w.slept; d != 7*time.Second || len(told) != 1 || told[0] != "nobody" {
		t.Errorf("held back %v, told about %v", d, told)
	}
	w.talk(`
		-a< * OK *
		-a> 1 LOGIN trouble x
		-a< 1 NO [UNAVAILABLE] *
	`)
}

// A shutdown says BYE to all, idle or not, and lets a command end.
func TestShutdown(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.dial("a"), w.dial("b"), w.dial("c")
	a.login()
	b.login()
	b.send("1 IDLE\r\n")
	b.expect("+ *")
	c.login()
	c.send("1 APPEND Drafts {6}\r\n")
	c.expect("+ *")
	done := make(chan error, 1)
	go func() { done <- w.srv.Shutdown(context.Background()) }()
	a.expect("* BYE Server is shutting down")
	a.eof()
	b.expect("* BYE *")
	b.eof()
	c.send("A: b\r\n\r\n")
	c.expect("1 OK [APPENDUID * 1] *")
	c.expect("* BYE *")
	c.eof()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A client that does not read or write cannot hold up a shutdown.
func TestShutdownIsBounded(t *testing.T) {
	w := newWorld(t)
	l := w.dial("a")
	l.login()
	l.send("1 APPEND Drafts {6}\r\n")
	l.expect("+ *")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.srv.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	l.eof()
	if _, err := net.Dial("tcp", w.plain.String()); err == nil {
		t.Error("the port is still open")
	}
}

// Time limits, on a clock that the test has to itself.
func TestTimeouts(t *testing.T) {
	for name, c := range map[string]struct {
		talk func(*bufio.Reader, io.Writer)
		want time.Duration
	}{
		"no login": {func(*bufio.Reader, io.Writer) {}, 2 * time.Minute},
		"drops of a command": {func(_ *bufio.Reader, w io.Writer) {
			for range 10 {
				time.Sleep(20 * time.Second)
				if _, err := io.WriteString(w, "x"); err != nil {
					return
				}
			}
		}, 2 * time.Minute},
		"idle after login": {func(r *bufio.Reader, w io.Writer) {
			fmt.Fprintf(w, "1 LOGIN %s %s\r\n", alice, secret)
			_, _ = r.ReadString('\n')
		}, 30 * time.Minute},
		"half a literal": {func(r *bufio.Reader, w io.Writer) {
			fmt.Fprintf(w, "1 LOGIN %s %s\r\n", alice, secret)
			_, _ = r.ReadString('\n')
			fmt.Fprintf(w, "2 APPEND Drafts {10}\r\n")
			_, _ = r.ReadString('\n')
			fmt.Fprintf(w, "half")
		}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := store.Open(t.TempDir(), store.Options{ReserveBytes: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			if err := st.EnsureAccount(context.Background(), alice, 0); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				srv, err := New(Config{Store: fixedStore{st}, Logger: noLog(), AllowPlaintext: true,
					Auth: func(context.Context, string, string, netip.Addr) (string, error) { return alice, nil }}, &Settings{})
				if err != nil {
					t.Fatal(err)
				}
				client, server := net.Pipe()
				conn := srv.newConn(server, false)
				go conn.Serve()
				start := time.Now()
				r := bufio.NewReader(client)
				if _, err := r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				talked := make(chan struct{})
				go func() {
					c.talk(r, client)
					close(talked)
				}()
				synctest.Wait()
				rest, _ := io.ReadAll(r)
				want := c.want
				if strings.Contains(string(rest), "BYE") {
					want += 2 * time.Second // for the client to read it
				}
				if took := time.Since(start); took != want {
					t.Errorf("it took %v, want %v", took, want)
				}
				if name != "half a literal" && !strings.HasSuffix(string(rest), "* BYE You were idle for too long\r\n") {
					t.Errorf("the last words were %q", rest)
				}
				client.Close()
				<-talked
				if err := srv.Shutdown(context.Background()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	w := newWorld(t)
	w.deliver("INBOX", "Subject: hello\n\nfrom the server")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(curl, append([]string{"-sS", "-k", "--max-time", "20", "-u", alice + ":" + secret}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("curl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	url := "imaps://" + w.tls.String()
	if out := run(url + "/INBOX;UID=1"); out != "Subject: hello\r\n\r\nfrom the server" {
		t.Errorf("fetch: %q", out)
	}
	if out := run(url + "/"); !strings.Contains(out, `(\HasNoChildren \Sent) "/" "Sent"`) {
		t.Errorf("list: %q", out)
	}
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, []byte("Subject: appended\r\n\r\nx\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("-T", file, url+"/Drafts")
	if out := run(url+"/Drafts", "-X", "SEARCH SUBJECT appended"); !strings.Contains(out, "* SEARCH 1") {
		t.Errorf("search: %q", out)
	}
	if out := run("--ssl-reqd", "imap://"+w.plain.String()+"/INBOX;UID=1/;SECTION=TEXT"); out != "from the server" {
		t.Errorf("with STARTTLS: %q", out)
	}
}
