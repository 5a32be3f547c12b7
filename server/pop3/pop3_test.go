package pop3

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/server/account"
	"mailform/server/store"
)

const (
	alice  = "alice@example.org"
	secret = "s3cret word"
)

// world is a server over a store in a directory of its own, with loopback
// listeners for both ports.
type world struct {
	testing.TB
	dir   string
	store *store.Log
	srv   *Server
	plain net.Addr
	tls   net.Addr
	roots *x509.CertPool
	stop  func()
}

func newWorld(t testing.TB, change ...func(*Config, *Settings)) *world {
	t.Helper()
	w := &world{TB: t, dir: t.TempDir()}
	w.start(change...)
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start(change ...func(*Config, *Settings)) {
	w.Helper()
	var err error
	if w.store, err = store.Open(w.dir, store.Options{ReserveBytes: -1}); err != nil {
		w.Fatal(err)
	}
	if err := w.store.EnsureAccount(context.Background(), alice, 0); err != nil {
		w.Fatal(err)
	}
	cert, roots := certificate(w)
	w.roots = roots
	cfg := Config{
		Store: w.store,
		Auth: func(_ context.Context, user, password string, _ netip.Addr) (string, error) {
			switch {
			case user == "broken":
				return "", errors.New("the directory is away")
			case user != alice || password != secret:
				return "", account.ErrCredentials
			}
			return user, nil
		},
		Logger:         slog.New(slog.NewTextHandler(io.Discard, nil)),
		AllowPlaintext: true,
	}
	settings := &Settings{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}
	for _, f := range change {
		f(&cfg, settings)
	}
	if w.srv, err = New(cfg, settings); err != nil {
		w.Fatal(err)
	}
	var wg sync.WaitGroup
	listen := func(implicit bool) net.Addr {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			w.Fatal(err)
		}
		wg.Go(func() {
			if err := w.srv.Serve(l, implicit); !errors.Is(err, ErrServerClosed) {
				w.Error(err)
			}
		})
		return l.Addr()
	}
	w.plain, w.tls = listen(false), listen(true)
	w.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.srv.Shutdown(ctx); err != nil {
			w.Error(err)
		}
		wg.Wait()
		if err := w.store.Close(); err != nil {
			w.Error(err)
		}
	})
}

func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func (w *world) deliver(texts ...string) {
	w.Helper()
	for _, text := range texts {
		text = strings.ReplaceAll(text, "\n", "\r\n")
		_, err := w.store.Deliver(context.Background(), store.Delivery{
			Body: strings.NewReader(text), Size: int64(len(text)), Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}},
		})
		if err != nil {
			w.Fatal(err)
		}
	}
}

// client is one conversation.
type client struct {
	*world
	net.Conn
	r *bufio.Reader
}

func (w *world) dial() *client {
	w.Helper()
	nc, err := net.Dial("tcp", w.plain.String())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	c := &client{w, nc, bufio.NewReader(nc)}
	c.expect("+OK POP3 server ready")
	return c
}

func (w *world) login() *client {
	w.Helper()
	c := w.dial()
	c.say("USER "+alice, "+OK now the password")
	c.send("PASS " + secret)
	if l := c.line(); !strings.HasPrefix(l, "+OK") {
		w.Fatalf("login: %s", l)
	}
	return c
}

func (c *client) send(line string) {
	c.Helper()
	if _, err := io.WriteString(c.Conn, line+"\r\n"); err != nil {
		c.Fatal(err)
	}
}

func (c *client) line() string {
	c.Helper()
	l, err := c.r.ReadString('\n')
	if err != nil {
		c.Fatalf("after %q: %v", l, err)
	}
	return strings.TrimSuffix(l, "\r\n")
}

func (c *client) expect(lines ...string) {
	c.Helper()
	for _, want := range lines {
		if got := c.line(); got != want {
			c.Fatalf("got %q, want %q", got, want)
		}
	}
}

// say sends a command and expects these lines.
func (c *client) say(command string, lines ...string) {
	c.Helper()
	c.send(command)
	c.expect(lines...)
}

func (c *client) expectEnd() {
	c.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.Fatalf("the connection goes on: %q, %v", rest, err)
	}
}

// The sessions of RFC 1939 section 10, with what the later RFCs added.
func TestSession(t *testing.T) {
	w := newWorld(t)
	w.deliver("Subject: one\n\nHello\n.dots\n..\nend\n", "Subject: two\n\n1\n2\n3\n", "Subject: three\n\nno line end")
	c := w.dial()
	c.say("CAPA", "+OK ", "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER", "EXPIRE NEVER", "USER", "SASL PLAIN LOGIN", "STLS", ".")
	c.say("STAT", "-ERR log in first")
	c.say("UTF8", "+OK UTF-8 it is")
	c.say("user "+alice, "+OK now the password")
	c.say("PASS "+secret, "+OK 3 messages (93 octets)")
	c.say("USER x", "-ERR that is for before the login")
	c.say("CAPA", "+OK ", "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER", "EXPIRE NEVER", ".")
	c.say("STAT", "+OK 3 93")
	c.say("LIST", "+OK ", "1 39", "2 25", "3 29", ".")
	c.say("LIST 2", "+OK 2 25")
	c.say("RETR 1", "+OK 39 octets", "Subject: one", "", "Hello", "..dots", "...", "end", ".")
	c.say("RETR 3", "+OK 29 octets", "Subject: three", "", "no line end", ".")
	c.say("TOP 2 0", "+OK 25 octets", "Subject: two", "", ".")
	c.say("TOP 2 2", "+OK 25 octets", "Subject: two", "", "1", "2", ".")
	c.say("TOP 2 99", "+OK 25 octets", "Subject: two", "", "1", "2", "3", ".")
	c.say("TOP 2 -1", "-ERR the number of lines is not one")
	for _, wrong := range []string{"RETR 4", "RETR 0", "RETR +1", "LIST -1", "DELE x", "UIDL 4"} {
		c.say(wrong, "-ERR there is no such message")
	}
	c.say("RETR", "-ERR RETR takes another number of arguments")
	c.say("NOOP", "+OK ")
	c.say("DELE 2", "+OK ")
	c.say("DELE 2", "-ERR there is no such message")
	c.say("RETR 2", "-ERR there is no such message")
	c.say("STAT", "+OK 2 68")
	c.say("LIST", "+OK ", "1 39", "3 29", ".")
	c.say("RSET", "+OK 3 messages (93 octets)")
	c.say("DELE 3", "+OK ")
	c.say("QUIT", "+OK bye")
	c.expectEnd()

	snap, watch, err := w.store.Open(context.Background(), alice, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	watch.Close()
	if snap.Messages.Len() != 2 || strings.Join(snap.Messages.At(0).Flags, " ") != `\Seen` || len(snap.Messages.At(1).Flags) != 0 {
		t.Errorf("after QUIT: %d messages, %v", snap.Messages.Len(), snap.Messages)
	}
}

// A connection that breaks deletes nothing, RFC 1939 section 3.
func TestNothingWithoutQuit(t *testing.T) {
	w := newWorld(t)
	w.deliver("a: b\n\n1\n")
	c := w.login()
	c.say("DELE 1", "+OK ")
	c.Close()
	c = w.login()
	c.say("STAT", "+OK 1 11")
}

// "Leave on server" depends on ids that stay, through restarts and deletions.
func TestUniqueIDsStay(t *testing.T) {
	w := newWorld(t)
	w.deliver("a: 1\n\n1\n", "a: 2\n\n2\n", "a: 3\n\n3\n")
	ids := func() (list []string) {
		c := w.login()
		c.say("UIDL", "+OK ")
		for l := c.line(); l != "."; l = c.line() {
			_, id, _ := strings.Cut(l, " ")
			list = append(list, id)
		}
		c.say("UIDL 1", "+OK 1 "+list[0])
		c.say("QUIT", "+OK bye")
		return list
	}
	before := ids()
	c := w.login()
	c.say("DELE 2", "+OK ")
	c.say("QUIT", "+OK bye")
	w.stop()
	w.start()
	w.deliver("a: 4\n\n4\n")
	after := ids()
	if len(after) != 3 || after[0] != before[0] || after[1] != before[2] || after[2] == before[1] {
		t.Errorf("ids were %v and are %v", before, after)
	}
}

// What others do to the mailbox meanwhile changes neither numbers nor sizes.
func TestMailboxAtLogin(t *testing.T) {
	w := newWorld(t)
	w.deliver("a: 1\n\n1\n", "a: 2\n\n2\n")
	c := w.login()
	w.deliver("a: 3\n\n3\n")
	ctx := context.Background()
	if _, err := w.store.UpdateFlags(ctx, alice, store.Named("INBOX"), []store.UID{1}, store.FlagsAdd, []string{`\Deleted`}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Expunge(ctx, alice, store.Named("INBOX"), nil); err != nil {
		t.Fatal(err)
	}
	c.say("STAT", "+OK 2 22")
	c.say("RETR 2", "+OK 11 octets", "a: 2", "", "2", ".")
	c.say("DELE 1", "+OK ") // gone already: as well
	c.say("QUIT", "+OK bye")
	c = w.login()
	c.say("STAT", "+OK 2 22")
}

// An INBOX that took the place of the session's is another: its messages have the same
// numbers, and none of them goes.
func TestAnotherInbox(t *testing.T) {
	w := newWorld(t)
	w.deliver("a: 1\n\n1\n", "a: 2\n\n2\n")
	c := w.login()
	c.say("DELE 1", "+OK ")
	ctx := context.Background()
	if err := w.store.EmptyAccount(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if err := w.store.EnsureAccount(ctx, alice, 0); err != nil {
		t.Fatal(err)
	}
	w.deliver("a: 3\n\n3\n")
	c.say("QUIT", "-ERR [SYS/TEMP] the mailbox was emptied meanwhile, log in again")
	w.login().say("STAT", "+OK 1 11")
}

func TestExclusive(t *testing.T) {
	w := newWorld(t, func(_ *Config, s *Settings) { s.Exclusive = true })
	c := w.login()
	other := w.dial()
	other.say("USER "+alice, "+OK now the password")
	other.say("PASS "+secret, "-ERR [IN-USE] another session has this mailbox, try again later")
	c.say("QUIT", "+OK bye")
	c.expectEnd()
	w.login()

	w = newWorld(t) // shared
	w.login()
	w.login()
}

func TestAuth(t *testing.T) {
	w := newWorld(t)
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + alice + "\x00" + secret))
	name, word := base64.StdEncoding.EncodeToString([]byte(alice)), base64.StdEncoding.EncodeToString([]byte(secret))
	c := w.dial()
	c.say("AUTH", "+OK ", "PLAIN", "LOGIN", ".")
	c.say("AUTH PLAIN "+plain, "+OK 0 messages (0 octets)")
	c = w.dial()
	c.say("AUTH PLAIN", "+ ")
	c.say(plain, "+OK 0 messages (0 octets)")
	c = w.dial()
	c.say("AUTH LOGIN", "+ VXNlcm5hbWU6")
	c.say(name, "+ UGFzc3dvcmQ6")
	c.say(word, "+OK 0 messages (0 octets)")
	c = w.dial()
	c.say("AUTH PLAIN", "+ ")
	c.say("*", "-ERR authentication is given up")
	c.say("AUTH PLAIN !", "-ERR the response is not base64")
	c.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("bob\x00"+alice+"\x00"+secret)), "-ERR the response is not one of PLAIN for oneself")
	c.say("AUTH CRAM-MD5", "-ERR PLAIN, LOGIN are offered")
	c.say("USER broken", "+OK now the password")
	c.say("PASS x", "-ERR [SYS/TEMP] a login is not possible now, try again later")
	c.say("PASS x", "-ERR USER comes first")
	for range 3 {
		c.say("USER nobody", "+OK now the password")
		c.say("PASS guess", "-ERR [AUTH] the name or the password is wrong")
	}
	c.expectEnd() // MaxBadAuth
}

func TestTLS(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Settings) { c.AllowPlaintext = false })
	conf := &tls.Config{RootCAs: w.roots, ServerName: "localhost"}
	c := w.dial()
	c.say("USER "+alice, "-ERR [SYS/PERM] start TLS first (STLS)")
	c.say("STLS", "+OK begin TLS")
	tc := tls.Client(c.Conn, conf)
	c.Conn, c.r = tc, bufio.NewReader(tc)
	c.say("STLS", "-ERR TLS is on already")
	c.say("USER "+alice, "+OK now the password")
	c.say("PASS "+secret, "+OK 0 messages (0 octets)")

	tc, err := tls.Dial("tcp", w.tls.String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	c = &client{w, tc, bufio.NewReader(tc)}
	c.expect("+OK POP3 server ready")
	c.say("USER "+alice, "+OK now the password")
	c.say("PASS "+secret, "+OK 0 messages (0 octets)")
	c.say("QUIT", "+OK bye")

	// What comes in the clear behind STLS must not count as said under TLS.
	c = w.dial()
	c.send("STLS\r\nUSER " + alice)
	c.expect("-ERR nothing may follow STLS before its answer")
	c.expectEnd()
}

func TestPipelining(t *testing.T) {
	w := newWorld(t)
	w.deliver("a: 1\n\n1\n")
	c := w.login()
	c.send("STAT\r\nRETR 1\r\nDELE 1\r\nQUIT")
	c.expect("+OK 1 11", "+OK 11 octets", "a: 1", "", "1", ".", "+OK ", "+OK bye")
	c.expectEnd()
}

func TestBadCommands(t *testing.T) {
	w := newWorld(t)
	c := w.login()
	c.say("RETR "+strings.Repeat("1", 5000)+"\r\nSTAT", "-ERR the line is longer than 2048 octets", "+OK 0 0")
	for range 8 {
		c.say("XYZ", "-ERR there is no such command")
	}
	c.say("", "-ERR there is no such command")
	c.expectEnd()
}

// A shutdown ends sessions that wait with a word, and deletes nothing.
func TestShutdown(t *testing.T) {
	w := newWorld(t)
	w.deliver("a: 1\n\n1\n")
	c := w.login()
	c.say("DELE 1", "+OK ")
	w.stop()
	c.expect("-ERR [SYS/TEMP] the server is being restarted, connect again")
	c.expectEnd()
	w.start()
	c = w.login()
	c.say("STAT", "+OK 1 11")
}

// Programs that people have.
func TestClients(t *testing.T) {
	for _, prog := range []string{"python3", "curl"} {
		t.Run(prog, func(t *testing.T) {
			if _, err := exec.LookPath(prog); err != nil {
				t.Skipf("%s is not installed", prog)
			}
			w := newWorld(t)
			w.deliver("Subject: one\n\nHello\n.dots\n", "Subject: two\n\n2\n")
			host, port, _ := net.SplitHostPort(w.plain.String())
			var cmd *exec.Cmd
			want := "Hello"
			switch prog {
			case "python3":
				cmd = exec.Command(prog, "-c", fmt.Sprintf(`
import poplib
p = poplib.POP3(%q, %s, timeout=20)
p.utf8()
p.user(%q); p.pass_(%q)
assert p.stat()[0] == 2, p.stat()
assert len(p.uidl()[1]) == 2
assert b".dots" in p.retr(1)[1], p.retr(1)
assert p.top(1, 0)[1] == [b"Subject: one", b""], p.top(1, 0)
p.dele(2)
p.quit()
p = poplib.POP3(%q, %s, timeout=20)
p.user(%q); p.pass_(%q)
assert p.stat()[0] == 1
print(p.capa(), b"Hello".decode())
p.quit()
`, host, port, alice, secret, host, port, alice, secret))
			case "curl":
				cmd = exec.Command(prog, "-sS", "--max-time", "20", "-u", alice+":"+secret, "pop3://"+w.plain.String()+"/1")
			}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

// The top of a message is its header and as many lines, however it is written in parts.
func FuzzDots(f *testing.F) {
	f.Add("Subject: x\r\n\r\n.a\r\nb\r\n", 1, 3)
	f.Add("no header end", -1, 1)
	f.Add("\r\n.\r\n\r\n", 0, 2)
	f.Add("a\r\n\r\nb\r", 5, 1)
	f.Fuzz(func(t *testing.T, text string, lines, chunk int) {
		chunk, lines = max(chunk, 1), max(lines, -1)
		run := func(chunk int) (string, error) {
			var b strings.Builder
			d := dots{w: &b, lines: lines}
			var err error
			for i := 0; i < len(text) && err == nil; i += chunk {
				_, err = d.Write([]byte(text[i:min(len(text), i+chunk)]))
			}
			if err != nil && !errors.Is(err, errEnough) {
				return "", err
			}
			err = d.end()
			return b.String(), err
		}
		whole, err := run(max(1, len(text)))
		if err != nil {
			t.Fatal(err)
		}
		parts, err := run(chunk)
		if err != nil || parts != whole {
			t.Fatalf("%q in parts of %d: %q, %v", whole, chunk, parts, err)
		}
		// A client finds the end, and only there.
		if at := strings.Index("\n"+whole, "\n.\r\n"); at != len(whole)-3 {
			t.Fatalf("%q ends at %d", whole, at)
		}
	})
}

// Whatever a client says, the server goes on serving others and panics never.
func FuzzSession(f *testing.F) {
	w := newWorld(f, func(c *Config, _ *Settings) { c.Timeouts.Login = time.Second })
	w.deliver("a: 1\n\n1\n")
	f.Add([]byte("CAPA\r\nUSER a\r\nPASS b\r\n"))
	f.Add([]byte("AUTH PLAIN\r\nAGEAYg==\r\nTOP 1\r\n"))
	f.Add([]byte("STLS\r\n\x16\x03\x01"))
	f.Fuzz(func(t *testing.T, said []byte) {
		nc, err := net.Dial("tcp", w.plain.String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = nc.Write(said)
		_ = nc.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(nc)
		if !strings.HasPrefix(string(answer), "+OK") {
			t.Fatalf("%q was answered with %q", said, answer)
		}
	})
}
