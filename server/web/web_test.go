package web

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailform/server/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testManifest() *manifest.Manifest {
	return &manifest.Manifest{Hostname: "Mail.example.com", Web: true, Domains: []manifest.Domain{
		{Name: "example.com", Discovery: true, MTASTS: &manifest.MTASTS{Mode: "enforce", MaxAgeSeconds: 604800}},
		{Name: "other.example", MTASTS: &manifest.MTASTS{Mode: "testing", MaxAgeSeconds: 86400}},
		{Name: "plain.example"},
	}}
}

// rig is a server on loopback and a client that finds it under every name.
type rig struct {
	*Server
	address string
	client  *http.Client
}

func start(t *testing.T, timeouts Timeouts) *rig {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"*.example.com", "*.other.example", "*.plain.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	s, err := New(Config{Logger: slog.New(slog.DiscardHandler), Timeouts: timeouts,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }}, testManifest())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	transport := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
		},
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return &rig{Server: s, address: l.Addr().String(), client: &http.Client{Transport: transport, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirected") }}}
}

func (r *rig) do(t *testing.T, method, url, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	if res.ProtoMajor != 1 { // the client would rather have HTTP/2
		t.Errorf("%s %s: answered by %s", method, url, res.Proto)
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

// RFC 8461 3.2 and 3.3: the policy under its name, as text/plain, without a redirect.
func TestPolicyIsServed(t *testing.T) {
	r := start(t, Timeouts{})
	res, text := r.do(t, "GET", "https://mta-sts.example.com/.well-known/mta-sts.txt", "")
	if want := "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmax_age: 604800\r\n"; res.StatusCode != 200 || text != want || res.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("%s, %s, %q", res.Status, res.Header.Get("Content-Type"), text)
	}
	res, text = r.do(t, "HEAD", "https://mta-sts.example.com/.well-known/mta-sts.txt", "")
	if res.StatusCode != 200 || text != "" || res.ContentLength <= 0 {
		t.Errorf("HEAD: %s, %d octets of %d", res.Status, len(text), res.ContentLength)
	}
	m := testManifest()
	m.Domains[0].MTASTS.Mode = "none"
	r.Set(m)
	if _, text := r.do(t, "GET", "https://mta-sts.example.com/.well-known/mta-sts.txt", ""); !strings.Contains(text, "mode: none\r\n") {
		t.Errorf("after a reload: %q", text)
	}
}

func TestWhatIsNotServed(t *testing.T) {
	r := start(t, Timeouts{})
	for _, tc := range []struct {
		method, url string
		want        int
	}{
		{"GET", "https://www.example.com/.well-known/mta-sts.txt", 421},
		{"GET", "https://mail.example.com/", 421},
		{"GET", "https://mta-sts.plain.example/.well-known/mta-sts.txt", 421},
		{"GET", "https://autoconfig.other.example/mail/config-v1.1.xml", 421},
		{"GET", "https://mta-sts.example.com/", 404},
		{"GET", "https://mta-sts.example.com/.well-known/", 404},
		{"GET", "https://mta-sts.example.com/.Well-Known/MTA-STS.txt", 404},
		{"GET", "https://mta-sts.example.com/mail/config-v1.1.xml", 404},
		{"GET", "https://mta-sts.example.com/.well-known/../../../../etc/passwd", 404},
		{"GET", "https://mta-sts.example.com/.well-known/%2e%2e/%2e%2e/etc/passwd", 404},
		{"GET", "https://mta-sts.example.com/x/../.well-known/mta-sts.txt", 404},
		{"POST", "https://mta-sts.example.com/.well-known/mta-sts.txt", 405},
		{"DELETE", "https://autoconfig.example.com/mail/config-v1.1.xml", 405},
		{"GET", "https://autodiscover.example.com/autodiscover/autodiscover.xml", 405},
		{"GET", "https://autoconfig.example.com/apple.mobileconfig", 400},
	} {
		if res, _ := r.do(t, tc.method, tc.url, ""); res.StatusCode != tc.want {
			t.Errorf("%s %s: %s, want %d", tc.method, tc.url, res.Status, tc.want)
		} else if tc.want == 405 && res.Header.Get("Allow") == "" {
			t.Errorf("%s: no Allow", tc.url)
		}
	}
	m := testManifest()
	m.Web = false
	r.Set(m)
	if res, _ := r.do(t, "GET", "https://mta-sts.example.com/.well-known/mta-sts.txt", ""); res.StatusCode != 421 {
		t.Errorf("with web switched off: %s", res.Status)
	}
}

// raw sends octets over TLS and returns what comes back until the end; nothing
// when the server has cut the connection before.
func (r *rig) raw(t *testing.T, send string) string {
	t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "mta-sts.example.com"})
	_, _ = io.WriteString(tc, send)
	answer, err := io.ReadAll(tc)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%.60q: neither an answer nor an end", send)
	}
	return string(answer)
}

// The name is the Host header's, whatever its case, port and final dot.
func TestHostHeader(t *testing.T) {
	r := start(t, Timeouts{})
	for host, want := range map[string]string{
		"mta-sts.example.com": "200", "MTA-STS.Example.COM.:443": "200", "mta-sts.example.com:8443": "200",
		"": "421", "[::1]:443": "421", "mta-sts.example.com:x:y": "421", "127.0.0.1": "421",
	} {
		got := r.raw(t, "GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("Host %q: %.40q, want %s", host, got, want)
		}
	}
}

// Clients that send nothing, or stop in the middle, are cut off.
func TestSlowRequests(t *testing.T) {
	r := start(t, Timeouts{Header: 50 * time.Millisecond, Read: 50 * time.Millisecond})
	silent, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_ = silent.SetDeadline(time.Now().Add(20 * time.Second))
	for _, request := range []string{
		"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.exa",
		"POST /autodiscover/autodiscover.xml HTTP/1.1\r\nHost: autodiscover.example.com\r\nContent-Length: 1000\r\n\r\n<Auto",
	} {
		if got := r.raw(t, request); strings.Contains(got, "STSv1") || strings.Contains(got, "<Account>") {
			t.Errorf("half a request got %q", got)
		}
	}
	var timeout net.Error
	if _, err := io.ReadAll(silent); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("a silent client was not cut off")
	}
}

func TestLongHeader(t *testing.T) {
	r := start(t, Timeouts{})
	long := "GET / HTTP/1.1\r\nHost: mta-sts.example.com\r\n" + strings.Repeat("X-Long: "+strings.Repeat("x", 1000)+"\r\n", 40)
	if got := r.raw(t, long); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("a long header got %.60q", got)
	}
}

// Many at once, while documents are exchanged.
func TestConcurrentRequests(t *testing.T) {
	r := start(t, Timeouts{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				res, err := r.client.Get("https://autoconfig.example.com/mail/config-v1.1.xml")
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != 200 {
					t.Error(res.Status)
				}
				if i == 0 {
					r.Set(testManifest())
				}
			}
		})
	}
	wg.Wait()
}

// A connection that has sent nothing does not hold up a shutdown.
func TestShutdownWithSilentClient(t *testing.T) {
	r := start(t, Timeouts{Header: time.Minute})
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for known := false; !known; {
		r.mu.Lock()
		known = len(r.fresh) == 1
		r.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // net/http by itself would take 5 s
	defer cancel()
	if err := r.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
