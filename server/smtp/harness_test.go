package smtp

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
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailform/server/account"
	"mailform/server/manifest"
	"mailform/server/route"
	"mailform/server/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore remembers what was delivered. before, when set, runs first and may refuse.
type fakeStore struct {
	before func() error
	used   map[string]int64
	quota  map[string]int64
	domain store.Quota

	mu         sync.Mutex
	deliveries []delivered
	boxes      map[string][]store.MailboxInfo // beside INBOX
}

type delivered struct {
	store.Delivery
	body string
}

func (f *fakeStore) Deliver(_ context.Context, d store.Delivery) ([]store.Message, error) {
	if f.before != nil {
		if err := f.before(); err != nil {
			return nil, err
		}
	}
	body, err := io.ReadAll(d.Body)
	if err != nil {
		return nil, err
	}
	if d.Size != int64(len(body)) {
		return nil, fmt.Errorf("announced %d octets, got %d", d.Size, len(body))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deliveries = append(f.deliveries, delivered{d, string(body)})
	return make([]store.Message, len(d.Targets)), nil
}

func (f *fakeStore) QuotaRoots(_ context.Context, account string) ([]store.QuotaRoot, error) {
	return []store.QuotaRoot{{Used: store.Quota{Bytes: f.used[account], Messages: 1}, Limit: store.Quota{Bytes: f.quota[account]}}, {Domain: "example.com", Limit: f.domain}}, nil
}

func (f *fakeStore) Mailboxes(_ context.Context, account string) ([]store.MailboxInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]store.MailboxInfo{{Name: "INBOX"}}, f.boxes[account]...), nil
}

func (f *fakeStore) CreateMailbox(_ context.Context, account, name, use string) (store.MailboxInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info := store.MailboxInfo{Name: name, SpecialUse: use}
	if f.boxes == nil {
		f.boxes = map[string][]store.MailboxInfo{}
	}
	f.boxes[account] = append(f.boxes[account], info)
	return info, nil
}

func (f *fakeStore) all() []delivered {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]delivered(nil), f.deliveries...)
}

// one returns the only delivery.
func (f *fakeStore) one(t testing.TB) delivered {
	t.Helper()
	d := f.all()
	if len(d) != 1 {
		t.Fatalf("%d deliveries, want 1", len(d))
	}
	return d[0]
}

func testManifest() *manifest.Manifest {
	return &manifest.Manifest{Hostname: "mail.example.com", Domains: []manifest.Domain{{
		Name:      "example.com",
		Mailboxes: []manifest.Mailbox{{Local: "alice", Aliases: []string{"sales"}}, {Local: "bob"}},
		Aliases:   []manifest.Alias{{Local: "all", To: []string{"alice@example.com", "bob@example.com", "partner@elsewhere.example"}}},
	}}}
}

func testRoutes(t testing.TB, m *manifest.Manifest) *route.Table {
	t.Helper()
	r, err := route.New(m, []manifest.Retained{{Address: "left@example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rig is a server with its listeners on loopback.
type rig struct {
	*Server
	store    *fakeStore
	settings Settings
	mx       string // addresses
	sub      string // 587
	subs     string // 465
	queued   chan struct{}
	slept    chan time.Duration
}

type option func(*Config, *Settings)

func start(t testing.TB, options ...option) *rig {
	t.Helper()
	r := &rig{store: &fakeStore{}, queued: make(chan struct{}, 100), slept: make(chan time.Duration, 100)}
	cfg := Config{
		Store: r.store,
		Auth: func(_ context.Context, user, password string, _ netip.Addr) (string, error) {
			switch {
			case user == "broken@example.com":
				return "", errors.New("disk: secret detail")
			case password == "pw" && (strings.EqualFold(user, "alice@example.com") || strings.EqualFold(user, "bob@example.com")):
				return strings.ToLower(user), nil
			}
			return "", account.ErrCredentials
		},
		Logger:   slog.New(slog.DiscardHandler),
		Queued:   func() { r.queued <- struct{}{} },
		SpoolDir: t.TempDir(),
		Now:      func() time.Time { return time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC) },
		Sleep:    func(_ context.Context, d time.Duration) error { r.slept <- d; return nil },
	}
	r.settings = Settings{Hostname: "mail.example.com", Routes: testRoutes(t, testManifest()), TLS: testTLS(t)}
	for _, o := range options {
		o(&cfg, &r.settings)
	}
	var err error
	if r.Server, err = New(cfg, &r.settings); err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	listen := func(kind Kind, implicit bool) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served.Add(1)
		go func() {
			defer served.Done()
			if err := r.Serve(l, kind, implicit); !errors.Is(err, ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
		}()
		return l.Addr().String()
	}
	r.mx, r.sub, r.subs = listen(MX, false), listen(Submission, false), listen(Submission, true)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		served.Wait()
	})
	return r
}

var testCert = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example.com"},
		DNSNames: []string{"mail.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	cert, err := testCert()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
}

// talk is a client's side of a dialogue.
type talk struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func dialTo(t testing.TB, address string) *talk {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return newTalk(t, c)
}

func newTalk(t testing.TB, c net.Conn) *talk {
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // a hanging test fails
	return &talk{t: t, conn: c, r: bufio.NewReader(c)}
}

// startTLS exchanges the connection for a TLS one.
func (k *talk) startTLS() {
	k.t.Helper()
	c := tls.Client(k.conn, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		k.t.Fatal(err)
	}
	k.conn, k.r = c, bufio.NewReader(c)
}

func (k *talk) write(s string) {
	k.t.Helper()
	if _, err := io.WriteString(k.conn, s); err != nil {
		k.t.Fatalf("write: %v", err)
	}
}

// do plays a script: "C: " lines are sent, "S: " lines are expected; "*" at the
// end of one stands for anything, "S: EOF" for the end of the connection, and
// "TLS" begins TLS.
func (k *talk) do(script string) {
	k.t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "TLS":
			k.startTLS()
		case line == "C:":
			k.write("\r\n")
		case strings.HasPrefix(line, "C: "):
			k.write(line[3:] + "\r\n")
		case strings.HasPrefix(line, "S: "):
			want := line[3:]
			got, err := k.r.ReadString('\n')
			if want == "EOF" {
				if err == nil {
					k.t.Fatalf("got %q, want the connection closed", got)
				}
				continue
			}
			if err != nil {
				k.t.Fatalf("%v, want %q", err, want)
			}
			got = strings.TrimRight(got, "\r\n")
			if prefix, open := strings.CutSuffix(want, "*"); got != want && !(open && strings.HasPrefix(got, prefix)) {
				k.t.Fatalf("got  %q\nwant %q", got, want)
			}
		case line != "":
			k.t.Fatalf("bad script line %q", line)
		}
	}
}

// login brings a submission client to the point where it may send.
func login(t testing.TB, r *rig) *talk {
	t.Helper()
	k := dialTo(t, r.subs)
	k.startTLS()
	k.do(`
		S: 220 *
		C: EHLO laptop
		S: 250-*
		S: 250-PIPELINING
		S: 250-8BITMIME
		S: 250-ENHANCEDSTATUSCODES
		S: 250-CHUNKING
		S: 250-AUTH PLAIN LOGIN
		S: 250-SIZE 52428800
		S: 250 LIMITS RCPTMAX=500
		C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUuY29tAHB3
		S: 235 2.7.0 *`)
	return k
}

func contextWithTimeout(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), 10*time.Second)
}

// pipe returns the two ends of a loopback connection.
func pipe(t testing.TB) (client *net.TCPConn, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), s
}
