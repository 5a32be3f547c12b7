package imap

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/server/account"
	"mailform/server/store"
)

const (
	alice  = "alice@example.org"
	secret = "s3cret"
)

// world is a server over a store in a directory of its own, with loopback
// listeners for both ports.
type world struct {
	testing.TB
	store *store.Log
	srv   *Server
	plain net.Addr
	tls   net.Addr
	roots *x509.CertPool
	slept chan time.Duration
	log   *logBuffer
	// troubled says that the test makes errors that belong into the log.
	troubled bool
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newWorld starts a server; change may alter its configuration before.
func newWorld(t testing.TB, change ...func(*Config, *Settings)) *world {
	t.Helper()
	return newWorldOver(t, store.Options{ReserveBytes: -1}, change...)
}

// newWorldOver is newWorld with a store of that kind.
func newWorldOver(t testing.TB, o store.Options, change ...func(*Config, *Settings)) *world {
	t.Helper()
	st, err := store.Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{alice, "bob@example.org"} {
		if err := st.EnsureAccount(context.Background(), a, 0); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{TB: t, store: st, slept: make(chan time.Duration, 100), log: &logBuffer{}}
	cert, roots := certificate(t)
	w.roots = roots
	cfg := Config{
		Store: st,
		Auth: func(_ context.Context, user, password string, _ netip.Addr) (string, error) {
			if password != secret {
				return "", account.ErrCredentials
			}
			return user, nil
		},
		Logger:         slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		AllowPlaintext: true,
		Sleep: func(_ context.Context, d time.Duration) error {
			w.slept <- d
			return nil
		},
	}
	settings := &Settings{Hostname: "mail.example.org", TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}
	for _, f := range change {
		f(&cfg, settings)
	}
	if w.srv, err = New(cfg, settings); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	listen := func(implicit bool) net.Addr {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := w.srv.Serve(l, implicit); !errors.Is(err, ErrServerClosed) {
				t.Error(err)
			}
		})
		return l.Addr()
	}
	w.plain, w.tls = listen(false), listen(true)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		wg.Wait()
		if err := st.Check(context.Background()); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
		if log := w.log.String(); strings.Contains(log, secret) || strings.Contains(log, "panic") || !w.troubled && strings.Contains(log, "level=ERROR") {
			t.Errorf("log:\n%s", log)
		}
	})
	return w
}

func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example.org"},
		DNSNames: []string{"mail.example.org", "localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// deliver puts a message into alice's mailbox. Line feeds become CRLF.
func (w *world) deliver(mailbox, text string, flags ...string) {
	w.Helper()
	text = strings.ReplaceAll(text, "\n", "\r\n")
	_, err := w.store.Deliver(context.Background(), store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)),
		Targets: []store.Target{{Account: alice, Mailbox: mailbox, Flags: flags, InternalDate: time.Date(2026, 11, 22, 8, 30, 0, 0, time.FixedZone("", 8*3600))}}})
	if err != nil {
		w.Fatal(err)
	}
}

// line is a connection that speaks a dialogue.
type line struct {
	w    *world
	name string
	nc   net.Conn
	r    *bufio.Reader
	at   int // line of the script
}

func (w *world) dial(name string) *line {
	w.Helper()
	nc, err := net.Dial("tcp", w.plain.String())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { nc.Close() })
	return newLine(w, name, nc)
}

func newLine(w *world, name string, nc net.Conn) *line {
	// Only so that a failing test ends.
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &line{w: w, name: name, nc: nc, r: bufio.NewReader(nc)}
}

func (l *line) send(text string) {
	l.w.Helper()
	if _, err := io.WriteString(l.nc, text); err != nil {
		l.w.Fatalf("%s: %v", l.name, err)
	}
}

func (l *line) read() string {
	l.w.Helper()
	s, err := l.r.ReadString('\n')
	if err != nil {
		l.w.Fatalf("line %d, %s: %v after %q", l.at, l.name, err, s)
	}
	return strings.TrimRight(s, "\r\n")
}

// expect reads one line and compares it with a pattern, where "*" stands for
// anything but is literal as the first octet.
func (l *line) expect(pattern string) {
	l.w.Helper()
	got := l.read()
	if !matchLine(pattern, got) {
		l.w.Fatalf("line %d, %s: got  %s\nwant %s", l.at, l.name, got, pattern)
	}
}

// skip reads untagged lines, and then expects one.
func (l *line) skip(pattern string) {
	l.w.Helper()
	for {
		got := l.read()
		if strings.HasPrefix(got, "* ") {
			continue
		}
		if !matchLine(pattern, got) {
			l.w.Fatalf("line %d, %s: got  %s\nwant %s", l.at, l.name, got, pattern)
		}
		return
	}
}

func matchLine(pattern, got string) bool {
	if strings.HasPrefix(pattern, "* ") {
		if !strings.HasPrefix(got, "* ") {
			return false
		}
		pattern, got = pattern[2:], got[2:]
	}
	escape := strings.NewReplacer("[", "\\[", "]", "\\]", "\\", "\\\\", "?", "\\?", "/", "\x01")
	ok, err := path.Match(escape.Replace(pattern), strings.ReplaceAll(got, "/", "\x01"))
	return ok && err == nil
}

// eof expects the end of the connection.
func (l *line) eof() {
	l.w.Helper()
	if b, err := io.ReadAll(l.r); err != nil || len(b) > 0 {
		l.w.Fatalf("%s: %q, %v before the end", l.name, b, err)
	}
}

// talk carries out a dialogue. A line "a> text" sends text and CRLF on
// connection a, "a< pattern" expects a line there, "a<~" a line after any
// number of untagged ones, "a<<" what is quoted to the octet, "a>>" sends what
// is quoted, "a." expects the end, and "#" begins a comment. A connection is
// made when it is first named, logged in unless its name has a "-" ahead.
func (w *world) talk(script string) {
	w.Helper()
	lines := map[string]*line{}
	for i, text := range strings.Split(script, "\n") {
		w.say(lines, i+1, strings.TrimLeft(text, "\t "))
	}
}

// say carries out one line of a dialogue.
func (w *world) say(lines map[string]*line, at int, text string) {
	w.Helper()
	if text == "" || text[0] == '#' {
		return
	}
	k := strings.IndexAny(text, "<>.")
	if k < 0 {
		w.Fatalf("line %d of the script: %q", at, text)
	}
	name, op, rest := text[:k], text[k], text[k+1:]
	l := lines[name]
	if l == nil {
		l = w.dial(name)
		lines[name] = l
		if !strings.HasPrefix(name, "-") {
			l.login()
		}
	}
	l.at = at
	if op == '<' && strings.HasPrefix(rest, "~") {
		l.skip(strings.TrimPrefix(rest, "~ "))
		return
	}
	quoted := strings.HasPrefix(rest, string(op))
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, string(op)), " ")
	var exact string
	if quoted {
		if _, err := fmt.Sscanf(rest, "%q", &exact); err != nil {
			w.Fatalf("line %d of the script: %v", at, err)
		}
	}
	switch {
	case op == '>' && quoted:
		l.send(exact)
	case op == '>':
		l.send(rest + "\r\n")
	case op == '<' && quoted:
		b := make([]byte, len(exact))
		n, err := io.ReadFull(l.r, b)
		if err != nil || string(b) != exact {
			w.Fatalf("line %d, %s: got  %q, %v\nwant %q", at, name, b[:n], err, exact)
		}
	case op == '<':
		l.expect(rest)
	default:
		l.eof()
	}
}

func (l *line) login() {
	l.w.Helper()
	l.expect("* OK [CAPABILITY *] *")
	l.send("login LOGIN " + alice + " " + secret + "\r\n")
	l.expect("login OK [CAPABILITY *] Logged in")
}

func noLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// fixedStore answers without the help of other goroutines, which a test with a
// clock of its own does not control.
type fixedStore struct{ store.Store }

func (fixedStore) Stage(_ context.Context, _ string, _ store.Box, r io.Reader, _ int64) (store.Staged, error) {
	_, err := io.Copy(io.Discard, r)
	return nil, err
}

// pipe is both ends of a connection with a half that can be closed.
func pipe(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	return nc.(*net.TCPConn), server
}
