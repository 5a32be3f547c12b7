package lock

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mailform/plan"
	"mailform/specs"
)

// cluster is a PostgreSQL server of the test's own.
type cluster struct {
	t     *testing.T
	url   string // over TCP with TLS
	roots *x509.CertPool
	pid   int
}

// startPostgres makes a database cluster in a temporary folder and starts it, with
// a certificate for "localhost" and passwords asked over TCP.
func startPostgres(t *testing.T) *cluster {
	t.Helper()
	programs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(programs) == 0 {
		t.Skip("postgresql is not installed")
	}
	bin := filepath.Dir(programs[len(programs)-1])
	dir, err := os.MkdirTemp("", "mailform-pg-") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &cluster{t: t}
	cert, key, roots := certificate(t)
	c.roots = roots
	data := filepath.Join(dir, "data")
	// The server refuses to run as root.
	var as *syscall.Credential
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip("there is no user postgres to run the server as")
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = dir
		cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if as != nil {
			if err := os.Chown(path, int(as.Uid), int(as.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	pw := write("pw", "open sesame\n")
	if out, err := command("initdb", "-D", data, "-U", "mailform", "-A", "scram-sha-256", "--pwfile", pw, "--no-sync", "--no-instructions").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	server := command("postgres", "-D", data, "-p", strconv.Itoa(port), "-k", dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "ssl=on",
		"-c", "ssl_cert_file="+write("cert.pem", cert), "-c", "ssl_key_file="+write("key.pem", key))
	var log strings.Builder
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	c.pid = server.Process.Pid
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGQUIT) // at once
		server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	u := url.URL{Scheme: "postgres", User: url.UserPassword("mailform", "open sesame"), Host: "localhost:" + strconv.Itoa(port), Path: "/postgres"}
	c.url = u.String()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		l := c.lock("probe")
		_, err := l.Held(t.Context())
		l.Close()
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server does not answer: %v", err)
		}
	}
}

// certificate is a self-signed one for localhost.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	return cert, key, roots
}

// lock is one contender's view of the database.
func (c *cluster) lock(stack string) *postgresLock {
	c.t.Helper()
	return c.lockAt(stack, c.url, c.roots, nil)
}

func (c *cluster) lockAt(stack, at string, roots *x509.CertPool, dial func(context.Context, string, string) (net.Conn, error)) *postgresLock {
	c.t.Helper()
	l, err := New(Config{
		Stack: stack, Spec: &specs.Lock{Kind: KindPostgres}, Roots: roots, Dial: dial, Now: time.Now,
		Getenv: func(n string) string {
			if n == URLVariable {
				return at
			}
			return ""
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return l.(*postgresLock)
}

func holder(who, place string) plan.Holder {
	return plan.Holder{Who: who, Host: "laptop", PID: 7, Command: "mailform apply", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Place: place}
}

func TestPostgres(t *testing.T) {
	c := startPostgres(t)
	t.Run("one holder", func(t *testing.T) { c.oneHolder(t) })
	t.Run("a lost connection is a lost lock", func(t *testing.T) { c.lostConnection(t) })
	t.Run("a dead process of the same place", func(t *testing.T) { c.samePlace(t) })
	t.Run("break", func(t *testing.T) { c.breaking(t) })
	t.Run("refusals", func(t *testing.T) { c.refusals(t) })
	t.Run("race", func(t *testing.T) { c.race(t) })
}

func (c *cluster) oneHolder(t *testing.T) {
	a, b := c.lock("acme"), c.lock("acme")
	defer a.Close()
	defer b.Close()
	if held, err := a.Held(t.Context()); err != nil || held != nil {
		t.Fatalf("before anybody has it: %+v, %v", held, err)
	}
	lease, err := a.Acquire(t.Context(), holder("alice", "here"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Acquire(t.Context(), holder("bob", "there")); plan.ClassOf(err) != plan.ErrLocked || !strings.Contains(err.Error(), "alice on laptop") {
		t.Errorf("second holder: %v", err)
	}
	other := c.lock("other")
	defer other.Close()
	if _, err := other.Acquire(t.Context(), holder("bob", "there")); err != nil {
		t.Errorf("another stack's lock: %v", err)
	}
	for range 20 {
		if _, err := a.Renew(t.Context(), lease); err != nil {
			t.Fatalf("renew: %v", err)
		}
	}
	if held, err := b.Held(t.Context()); err != nil || held == nil || held.ID != lease.ID || held.Epoch != lease.Epoch || held.Holder.Who != "alice" {
		t.Errorf("held: %+v, %v", held, err)
	}
	if err := a.Release(t.Context(), lease); err != nil {
		t.Error(err)
	}
	next, err := b.Acquire(t.Context(), holder("bob", "there"))
	if err != nil || next.Epoch != lease.Epoch+1 {
		t.Fatalf("after it was given back: %+v, %v", next, err)
	}
	if _, err := a.Renew(t.Context(), lease); !errors.Is(err, plan.ErrLeaseLost) {
		t.Errorf("renew what was given back: %v", err)
	}
}

func (c *cluster) lostConnection(t *testing.T) {
	var conn net.Conn
	a := c.lockAt("wire", c.url, c.roots, func(ctx context.Context, network, addr string) (net.Conn, error) {
		var err error
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return conn, err
	})
	defer a.Close()
	lease, err := a.Acquire(t.Context(), holder("alice", "here"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	<-lease.Gone
	if _, err := a.Renew(t.Context(), lease); !errors.Is(err, plan.ErrLeaseLost) {
		t.Errorf("renew over a broken connection: %v", err)
	}
	b := c.lock("wire")
	defer b.Close()
	for {
		next, err := b.Acquire(t.Context(), holder("bob", "there"))
		if plan.ClassOf(err) == plan.ErrLocked {
			continue // the server has not noticed yet
		}
		if err != nil || next.Epoch != lease.Epoch+1 {
			t.Fatalf("take over: %+v, %v", next, err)
		}
		return
	}
}

func (c *cluster) samePlace(t *testing.T) {
	a, b := c.lock("place"), c.lock("place")
	defer b.Close()
	first, err := a.Acquire(t.Context(), holder("alice", "here"))
	if err != nil {
		t.Fatal(err)
	}
	// The process dies while the next one already asks.
	asked := make(chan struct{})
	b.Sleep = func(ctx context.Context, _ time.Duration) error {
		select {
		case <-asked:
		default:
			close(asked)
			a.Close()
		}
		return ctx.Err()
	}
	next, err := b.Acquire(t.Context(), holder("alice", "here"))
	if err != nil || next.Epoch != first.Epoch+1 {
		t.Fatalf("%+v, %v", next, err)
	}
	<-asked
}

func (c *cluster) breaking(t *testing.T) {
	a, b := c.lock("break"), c.lock("break")
	defer a.Close()
	defer b.Close()
	lease, err := a.Acquire(t.Context(), holder("alice", "here"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Break(t.Context(), plan.Lease{ID: "another"}); err != nil {
		t.Error(err)
	}
	if _, err := a.Renew(t.Context(), lease); err != nil {
		t.Errorf("breaking somebody else's lock broke this one: %v", err)
	}
	if err := b.Break(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	<-lease.Gone
	next, err := b.Acquire(t.Context(), holder("bob", "there"))
	if err != nil || next.Epoch <= lease.Epoch {
		t.Errorf("after the break: %+v, %v", next, err)
	}
}

func (c *cluster) refusals(t *testing.T) {
	wrong := strings.Replace(c.url, "sesame", "barley", 1)
	if _, err := c.lockAt("x", wrong, c.roots, nil).Acquire(t.Context(), holder("a", "")); plan.ClassOf(err) != plan.ErrCredentials || strings.Contains(fmt.Sprintf("%+v", err), "barley") {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := c.lockAt("x", c.url, x509.NewCertPool(), nil).Acquire(t.Context(), holder("a", "")); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of an unknown authority: %v", err)
	}
	byAddress := strings.Replace(c.url, "localhost", "127.0.0.1", 1)
	if _, err := c.lockAt("x", byAddress, c.roots, nil).Acquire(t.Context(), holder("a", "")); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate for another name: %v", err)
	}
	if _, err := c.lockAt("x", c.url+"?sslmode=disable", c.roots, nil).Held(t.Context()); err != nil {
		t.Errorf("whoever asks for no TLS gets none: %v", err)
	}
	for _, bad := range []string{"", "mysql://x", "postgres://u:geheim@h:port/db", "host=localhost password=geheim"} {
		_, err := New(Config{Stack: "x", Spec: &specs.Lock{Kind: KindPostgres, URL: bad}, Getenv: func(string) string { return "" }, Now: time.Now})
		if plan.ClassOf(err) != plan.ErrSpec || strings.Contains(fmt.Sprintf("%+v", err), "geheim") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// race: contenders that die at random never hold it at the same time, and every
// holder has a higher epoch than the one before.
func (c *cluster) race(t *testing.T) {
	var (
		wg      sync.WaitGroup
		holders atomic.Int32
		mu      sync.Mutex
		last    int64
	)
	for i := range 6 {
		wg.Go(func() {
			for range 5 {
				for {
					l := c.lock("race")
					lease, err := l.Acquire(t.Context(), holder(strconv.Itoa(i), ""))
					if plan.ClassOf(err) == plan.ErrLocked {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if n := holders.Add(1); n != 1 {
						t.Errorf("%d holders", n)
					}
					mu.Lock()
					if lease.Epoch <= last {
						t.Errorf("epoch %d after %d", lease.Epoch, last)
					}
					last = lease.Epoch
					mu.Unlock()
					holders.Add(-1)
					if lease.Epoch%2 == 0 {
						l.Close() // dies
					} else if err := l.Release(t.Context(), lease); err != nil {
						t.Error(err)
					}
					break
				}
			}
		})
	}
	wg.Wait()
	if last < 30 {
		t.Errorf("%d epochs for 30 acquisitions", last)
	}
}
