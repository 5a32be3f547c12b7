package queue

import (
	"bufio"
	"bytes"
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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailform/server/manifest"
	"mailform/server/route"
	"mailform/server/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore is a queue in memory. Every change of the queue is told to changed.
type fakeStore struct {
	mu        sync.Mutex
	entries   map[string]store.QueueEntry
	bodies    map[string]string // by entry id, prefix included
	mailboxes map[string][]string
	n         int
	fail      func(method string) error // may be nil
	readError error                     // after the first octets of a body
	changed   chan string
}

func newStore() *fakeStore {
	return &fakeStore{entries: map[string]store.QueueEntry{}, bodies: map[string]string{}, mailboxes: map[string][]string{}, changed: make(chan string, 1000)}
}

func (f *fakeStore) err(method string) error {
	if f.fail != nil {
		return f.fail(method)
	}
	return nil
}

func (f *fakeStore) Queue(context.Context) ([]store.QueueEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.err("Queue"); err != nil {
		return nil, err
	}
	var list []store.QueueEntry
	for _, e := range f.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b store.QueueEntry) int { return a.NextTry.Compare(b.NextTry) })
	return list, nil
}

func (f *fakeStore) UpdateQueue(_ context.Context, e store.QueueEntry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.err("UpdateQueue"); err != nil {
		f.changed <- "failed " + e.ID
		return err
	}
	if _, ok := f.entries[e.ID]; !ok {
		return store.ErrNoMessage
	}
	f.entries[e.ID] = e
	f.changed <- "updated " + e.ID
	return nil
}

func (f *fakeStore) RemoveQueue(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.err("RemoveQueue"); err != nil {
		f.changed <- "failed " + id
		return err
	}
	delete(f.entries, id)
	f.changed <- "removed " + id
	return nil
}

func (f *fakeStore) OpenQueued(_ context.Context, e store.QueueEntry) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := io.Reader(strings.NewReader(f.bodies[e.ID]))
	if f.readError != nil {
		r = io.MultiReader(strings.NewReader("Subject: damaged\r\n"), errReader{f.readError})
	}
	return io.NopCloser(r), nil
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func (f *fakeStore) Deliver(_ context.Context, d store.Delivery) ([]store.Message, error) {
	body, err := io.ReadAll(d.Body)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.err("Deliver"); err != nil {
		return nil, err
	}
	for _, t := range d.Targets {
		f.mailboxes[t.Account] = append(f.mailboxes[t.Account], string(t.Prefix)+string(body))
	}
	for _, e := range d.Queue {
		f.add(e, string(body))
	}
	return make([]store.Message, len(d.Targets)), nil
}

func (f *fakeStore) add(e store.QueueEntry, body string) string {
	f.n++
	e.ID = fmt.Sprintf("q%d", f.n)
	f.bodies[e.ID] = string(e.Prefix) + body
	e.Size = int64(len(f.bodies[e.ID]))
	f.entries[e.ID] = e
	return e.ID
}

func (f *fakeStore) inbox(account string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.mailboxes[account])
}

func (f *fakeStore) entry(id string) (store.QueueEntry, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.entries[id]
	return e, ok
}

// fakeDNS answers from maps; a name that is in neither does not exist.
type fakeDNS struct {
	mx    map[string][]MX
	addr  map[string][]netip.Addr
	fails map[string]error
}

func (d *fakeDNS) LookupMX(_ context.Context, name string) ([]MX, error) {
	if err := d.fails[name]; err != nil {
		return nil, err
	}
	list, ok := d.mx[name]
	if _, host := d.addr[name]; !ok && !host {
		return nil, ErrNoDomain
	}
	return list, nil
}

func (d *fakeDNS) LookupAddr(_ context.Context, name string) ([]netip.Addr, error) {
	if err := d.fails[name]; err != nil {
		return nil, err
	}
	list, ok := d.addr[name]
	if !ok {
		return nil, ErrNoDomain
	}
	return list, nil
}

// remote is somebody else's server. Its fields are the replies; a reply of
// "DROP" closes the connection.
type remote struct {
	greeting   string
	extensions []string
	tls        *tls.Config // STARTTLS when set
	tlsFails   bool
	implicit   bool
	mail       func(from string) string
	rcpt       func(to string) string
	data       func(message string) string
	auth       string // the only AUTH PLAIN argument that is right

	replies  sync.Mutex
	mu       sync.Mutex
	commands []string
	messages []string
	conns    int
}

func (r *remote) log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.commands)
}

func (r *remote) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// call makes a reply; the functions are called one at a time.
func (r *remote) call(f func(string) string, arg string) string {
	if f == nil {
		return "250 2.0.0 ok"
	}
	r.replies.Lock()
	defer r.replies.Unlock()
	return f(arg)
}

func (r *remote) serve(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	r.mu.Lock()
	r.conns++
	r.mu.Unlock()
	secure := false
	if r.implicit {
		c, secure = tls.Server(c, r.tls), true
	}
	in := bufio.NewReader(c)
	say := func(s string) bool {
		if s == "DROP" {
			return false
		}
		_, err := io.WriteString(c, s+"\r\n")
		return err == nil
	}
	greeting := r.greeting
	if greeting == "" {
		greeting = "220 mx ESMTP"
	}
	if !say(greeting) {
		return
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		r.mu.Lock()
		r.commands = append(r.commands, line)
		r.mu.Unlock()
		verb, arg, _ := strings.Cut(line, " ")
		reply := "250 ok"
		switch verb {
		case "EHLO":
			lines := append([]string{"mx"}, r.extensions...)
			if r.tls != nil && !secure {
				lines = append(lines, "STARTTLS")
			}
			for i, l := range lines {
				sep := "-"
				if i == len(lines)-1 {
					sep = " "
				}
				lines[i] = "250" + sep + l
			}
			reply = strings.Join(lines, "\r\n")
		case "STARTTLS":
			if !say("220 go") {
				return
			}
			if r.tlsFails {
				_, _ = io.WriteString(c, "this is not TLS\r\n")
				return
			}
			c, secure = tls.Server(c, r.tls), true
			in = bufio.NewReader(c)
			continue
		case "AUTH":
			reply = "535 5.7.8 no"
			if arg == "PLAIN "+r.auth {
				reply = "235 yes"
			}
		case "MAIL":
			reply = r.call(r.mail, arg)
		case "RCPT":
			reply = r.call(r.rcpt, arg)
		case "DATA":
			if !say("354 go") {
				return
			}
			var b bytes.Buffer
			for {
				l, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				b.WriteString(strings.TrimPrefix(l, "."))
			}
			reply = r.call(r.data, b.String())
			if strings.HasPrefix(reply, "250") {
				r.mu.Lock()
				r.messages = append(r.messages, b.String())
				r.mu.Unlock()
			}
		case "QUIT":
			say("221 bye")
			return
		}
		if !say(reply) {
			return
		}
	}
}

// rig is a queue among fake neighbours.
type rig struct {
	t     *testing.T
	q     *Queue
	store *fakeStore
	dns   *fakeDNS
	cfg   Config
	st    Settings

	mu    sync.Mutex
	now   time.Time
	hosts map[string]string // "192.0.2.1:25" -> where it really listens
	dials int
	stop  func()
}

var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, store: newStore(), now: epoch, hosts: map[string]string{},
		dns: &fakeDNS{mx: map[string][]MX{}, addr: map[string][]netip.Addr{}, fails: map[string]error{}}}
	routes, err := route.New(&manifest.Manifest{Hostname: "mail.example.com", Domains: []manifest.Domain{{Name: "example.com",
		Mailboxes: []manifest.Mailbox{{Local: "alice"}, {Local: "bob"}},
		Aliases:   []manifest.Alias{{Local: "out", To: []string{"x@elsewhere.example", "bob@example.com"}}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.st = Settings{Hostname: "mail.example.com", Routes: routes}
	r.cfg = Config{Store: r.store, Resolver: r.dns, Dial: r.dial, Logger: slog.New(slog.DiscardHandler), Now: r.clock,
		// Time passes only by advance, which kicks the queue.
		After: func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} }}
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	r.now = r.now.Add(d)
	r.mu.Unlock()
	r.q.Kick()
}

func (r *rig) dial(ctx context.Context, network, address string) (net.Conn, error) {
	r.mu.Lock()
	r.dials++
	real, ok := r.hosts[address]
	r.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	}
	var d net.Dialer
	return d.DialContext(ctx, network, real)
}

// add gives an address a server.
func (r *rig) add(address string, m *remote) {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				m.serve(c)
			}()
		}
	}()
	r.t.Cleanup(func() { r.shutdown(); l.Close(); wg.Wait() })
	r.mu.Lock()
	r.hosts[address] = l.Addr().String()
	r.mu.Unlock()
}

// domain gives a domain one MX at an address.
func (r *rig) domain(name, address string) {
	r.dns.mx[name] = []MX{{Host: "mx." + name + ".", Preference: 10}}
	r.dns.addr["mx."+name] = []netip.Addr{netip.MustParseAddr(address)}
}

func (r *rig) start() {
	r.t.Helper()
	st := r.st
	q, err := New(r.cfg, &st)
	if err != nil {
		r.t.Fatal(err)
	}
	r.q = q
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = q.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	r.t.Cleanup(r.stop)
}

func (r *rig) shutdown() {
	if r.stop != nil {
		r.stop()
	}
}

const text = "From: alice@example.com\r\nMessage-ID: <1@example.com>\r\nSubject: hi\r\n\r\n.dot\r\ntext\r\n"

// submit queues a message and returns its id.
func (r *rig) submit(from string, to ...string) string {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	_, domain, _ := strings.Cut(to[0], "@")
	now := r.clock()
	return r.store.add(store.QueueEntry{From: from, Recipients: to, Domain: domain, Account: from,
		Prefix: []byte("Received: by us\r\n"), Queued: now, NextTry: now}, text)
}

// wait returns once the queue has made these changes, in any order.
func (r *rig) wait(changes ...string) {
	r.t.Helper()
	left := slices.Clone(changes)
	timeout := time.After(20 * time.Second)
	for len(left) > 0 {
		select {
		case got := <-r.store.changed:
			i := slices.Index(left, got)
			if i < 0 {
				r.t.Fatalf("the queue has %s, want one of %q", got, left)
			}
			left = slices.Delete(left, i, i+1)
		case <-timeout:
			r.t.Fatalf("waiting for %q", left)
		}
	}
}

func testTLS(t *testing.T, name string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

func bufioReader(s string) *bufio.Reader { return bufio.NewReader(strings.NewReader(s)) }
