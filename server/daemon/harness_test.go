package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailform/server/account"
	"mailform/server/agent"
	"mailform/server/manifest"
	"mailform/server/queue"
	"mailform/server/store"
)

func TestMain(m *testing.M) {
	if os.Getenv("MAILFORM_TEST_CHILD") != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// host is a machine's files and, once started, its daemon.
type host struct {
	t        testing.TB
	layout   manifest.Layout
	manifest *manifest.Manifest
	dkim     map[string]string // DNS name -> TXT
	addr     map[string]string // service -> address
	control  agent.Control
	logs     *syncBuffer
	notified chan string
	dns      *fakeDNS
	dial     Dial
	local    []netip.Prefix
	remote   string // where clients of port 25 seem to come from; "" is where they do
	hangup   chan os.Signal
	store    store.Store
	disk     store.FS // under the store; nil is the machine's

	stop func() error
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type fakeDNS struct {
	mx   map[string][]queue.MX
	addr map[string][]netip.Addr
	txt  map[string][]string
	ptr  map[netip.Addr][]string
}

func (d *fakeDNS) LookupTXT(_ context.Context, name string) ([]string, error) {
	if list, ok := d.txt[name]; ok {
		return list, nil
	}
	return nil, queue.ErrNoDomain
}

func (d *fakeDNS) LookupA(ctx context.Context, name string) ([]netip.Addr, error) {
	return d.LookupAddr(ctx, name)
}

func (d *fakeDNS) LookupPTR(_ context.Context, a netip.Addr) ([]string, error) {
	if list, ok := d.ptr[a]; ok {
		return list, nil
	}
	return nil, queue.ErrNoDomain
}

func (d *fakeDNS) LookupMX(_ context.Context, name string) ([]queue.MX, error) {
	if list, ok := d.mx[name]; ok {
		return list, nil
	}
	return nil, queue.ErrNoDomain
}

func (d *fakeDNS) LookupAddr(_ context.Context, name string) ([]netip.Addr, error) {
	if list, ok := d.addr[name]; ok {
		return list, nil
	}
	return nil, queue.ErrNoDomain
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t: t, layout: manifest.Layout{Root: t.TempDir()}, dkim: map[string]string{}, addr: map[string]string{},
		logs: &syncBuffer{}, notified: make(chan string, 100), hangup: make(chan os.Signal),
		dns: &fakeDNS{mx: map[string][]queue.MX{}, addr: map[string][]netip.Addr{}, txt: map[string][]string{}, ptr: map[netip.Addr][]string{}}}
	h.control = agent.Control{Socket: h.layout.ControlSocket()}
	h.manifest = &manifest.Manifest{Format: 1, Stack: "test", Host: "mx1", Hostname: "mail.example.com", MaxMessageBytes: 1 << 20,
		Domains: []manifest.Domain{{Name: "example.com",
			DKIM:      []manifest.DKIMKey{{Selector: "m-rsa", Algorithm: "rsa2048"}, {Selector: "m-ed", Algorithm: "ed25519"}},
			Mailboxes: []manifest.Mailbox{{Local: "alice", PasswordHash: hash(t, "alice's secret")}, {Local: "bob"}},
		}}}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	h.must(err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	h.must(err)
	rsaPublic, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	h.must(err)
	h.dkim["m-rsa._domainkey.example.com"] = "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(rsaPublic)
	h.dkim["m-ed._domainkey.example.com"] = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(edKey.Public().(ed25519.PublicKey))
	h.writeKey(h.layout.DKIMKey("example.com", "m-rsa"), rsaKey)
	h.writeKey(h.layout.DKIMKey("example.com", "m-ed"), edKey)
	h.write(h.layout.CredentialsFile(), manifest.Credentials{Format: 1, Hashes: map[string]string{"bob@example.com": hash(t, "bob's secret")}})
	h.writeManifest()
	return h
}

var hashes sync.Map // password -> PHC, so that tests hash each once

func hash(t testing.TB, password string) string {
	if v, ok := hashes.Load(password); ok {
		return v.(string)
	}
	v, err := account.HashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	hashes.Store(password, v)
	return v
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) write(path string, v any) {
	h.t.Helper()
	text, ok := v.([]byte)
	if !ok {
		var err error
		text, err = manifest.Encode(v)
		h.must(err)
	}
	h.must(os.MkdirAll(filepath.Dir(path), 0o700))
	h.must(os.WriteFile(path, text, 0o600))
}

func (h *host) writeManifest() { h.t.Helper(); h.write(h.layout.ManifestFile(), h.manifest) }

func (h *host) writeKey(path string, key crypto.Signer) {
	h.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	h.must(err)
	h.write(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// writeCertificate installs a new self-signed certificate and returns who trusts it.
func (h *host) writeCertificate(serial int64) *x509.CertPool {
	h.t.Helper()
	return h.writeCertificateFor("mx1", serial, "mail.example.com")
}

// writeCertificateFor installs the certificate called name.
func (h *host) writeCertificateFor(name string, serial int64, dnsNames ...string) *x509.CertPool {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: dnsNames[0]}, DNSNames: dnsNames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Duration(serial) * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	h.must(err)
	h.writeKey(h.layout.CertKey(name), key)
	h.write(h.layout.CertChain(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	cert, err := x509.ParseCertificate(der)
	h.must(err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// start runs the daemon until the test ends or stop is called.
func (h *host) start() {
	h.t.Helper()
	var addresses []string
	for _, s := range manifest.ServicesOf(h.manifest) {
		addresses = append(addresses, s.Name+"=127.0.0.1:0")
	}
	listeners, err := Listen(addresses)
	h.must(err)
	for name, l := range listeners {
		h.addr[name] = l[0].Addr().String()
	}
	if h.remote != "" {
		listeners["smtp"][0] = away{listeners["smtp"][0], h.remote}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	cfg := Config{
		Layout: h.layout, Version: "test", Logger: slog.New(slog.NewJSONHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Listeners: listeners, Hangup: h.hangup, Resolver: h.dns, Dial: h.dial, Local: h.local,
		Notify: func(state string) error { h.notified <- state; return nil },
		Sleep:  func(context.Context, time.Duration) error { return nil },
		OpenStore: func(dir string, o store.Options) (store.Store, error) {
			o.FS = h.disk
			s, err := store.Open(dir, o)
			h.store = s
			return s, err
		},
	}
	go func() { done <- Run(ctx, cfg) }()
	h.stop = sync.OnceValue(func() error { cancel(); return <-done })
	h.t.Cleanup(func() {
		if err := h.stop(); err != nil {
			h.t.Errorf("Run: %v", err)
		}
	})
	h.awaitNotice("READY=1")
}

func (h *host) awaitNotice(prefix string) {
	h.t.Helper()
	for {
		select {
		case n := <-h.notified:
			if strings.HasPrefix(n, prefix) {
				return
			}
		case <-time.After(20 * time.Second):
			h.t.Fatalf("no %s; log:\n%s", prefix, h.logs)
		}
	}
}

// away is a listener whose clients seem to come from addr.
type away struct {
	net.Listener
	addr string
}

func (l away) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return awayConn{c, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(l.addr), 4711))}, nil
}

type awayConn struct {
	net.Conn
	remote net.Addr
}

func (c awayConn) RemoteAddr() net.Addr { return c.remote }

// inbox returns the messages in an account's INBOX.
func (h *host) inbox(account string) []string {
	h.t.Helper()
	return h.mailbox(account, "INBOX")
}

func (h *host) mailbox(account, name string) []string {
	h.t.Helper()
	ctx := context.Background()
	snapshot, watch, err := h.store.Open(ctx, account, name)
	h.must(err)
	watch.Close()
	var list []string
	for _, m := range snapshot.Messages.All() {
		r, err := h.store.Read(ctx, account, *m)
		h.must(err)
		text, err := io.ReadAll(r)
		h.must(err)
		h.must(r.Close())
		list = append(list, string(text))
	}
	return list
}

// talk is a client's side of a dialogue; see server/smtp's tests.
type talk struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func (h *host) dialService(name string) *talk {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr[name])
	h.must(err)
	return newTalk(h.t, c)
}

func newTalk(t testing.TB, c net.Conn) *talk {
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &talk{t: t, conn: c, r: bufio.NewReader(c)}
}

// startTLS begins TLS and verifies the certificate with roots, if any.
func (k *talk) startTLS(roots *x509.CertPool) *x509.Certificate {
	k.t.Helper()
	c := tls.Client(k.conn, &tls.Config{ServerName: "mail.example.com", RootCAs: roots, InsecureSkipVerify: roots == nil})
	if err := c.Handshake(); err != nil {
		k.t.Fatal(err)
	}
	k.conn, k.r = c, bufio.NewReader(c)
	return c.ConnectionState().PeerCertificates[0]
}

// reply reads one whole reply.
func (k *talk) reply() string {
	k.t.Helper()
	var all strings.Builder
	for {
		line, err := k.r.ReadString('\n')
		if err != nil {
			k.t.Fatalf("after %q: %v", all.String(), err)
		}
		all.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return all.String()
		}
	}
}

// do sends a command and expects a reply that begins with want.
func (k *talk) do(command, want string) string {
	k.t.Helper()
	if command != "" {
		if _, err := io.WriteString(k.conn, command+"\r\n"); err != nil {
			k.t.Fatal(err)
		}
	}
	got := k.reply()
	if !strings.HasPrefix(got, want) {
		k.t.Fatalf("%s: got %q, want %s", command, got, want)
	}
	return got
}

// message sends one message.
func (k *talk) message(from, text string, to ...string) {
	k.t.Helper()
	k.do("MAIL FROM:<"+from+">", "250")
	for _, r := range to {
		k.do("RCPT TO:<"+r+">", "250")
	}
	k.do("DATA", "354")
	k.do(text+"\r\n.", "250 2.0.0 OK: queued as ")
}

func plain(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}

// child is this test program run again by TestSystemdListeners and TestSocketActivation.
func child() {
	listeners, err := SystemdListeners(os.Getenv)
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	for _, name := range serviceNames() {
		for _, l := range listeners[name] {
			fmt.Println(name, l.Addr())
			c, err := l.Accept()
			if err != nil {
				fmt.Println("error:", err)
				return
			}
			_, _ = io.WriteString(c, name+"\n")
			c.Close()
		}
	}
	if len(listeners) == 0 {
		fmt.Println("nothing")
	}
}

var errTest = errors.New("test")
