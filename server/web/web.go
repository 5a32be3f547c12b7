// Package web answers HTTPS on port 443: the MTA-STS policies that other
// servers fetch (RFC 8461), and what mail programs ask in order to set
// themselves up: Thunderbird's autoconfig, Outlook's autodiscover and Apple's
// configuration profiles.
//
// The Host header decides which domain is meant. Nothing is read from disk and
// nothing says whether an address exists. Every document is made from the
// manifest and written by encoding/xml.
//
// It imports server/manifest and nothing else of mailform.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailform/server/manifest"
)

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = http.ErrServerClosed

// Bounds on what a client may send.
const (
	maxHeader = 16 << 10 // octets of a request's header
	maxBody   = 16 << 10 // octets of an autodiscover request
)

// Timeouts bound how long a client may take. Zero fields take the defaults.
type Timeouts struct {
	Header time.Duration // for the TLS handshake, and for a request's header; default 10 s
	Read   time.Duration // for a whole request; default 20 s
	Write  time.Duration // for the answer to be taken; default 20 s
	Idle   time.Duration // between two requests; default 1 min
}

// Config is what a Server needs. Logger and GetCertificate must be set.
type Config struct {
	Logger         *slog.Logger
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Timeouts       Timeouts
}

// Server serves any number of listeners.
type Server struct {
	log   *slog.Logger
	http  *http.Server
	sites atomic.Pointer[map[string]site]

	mu    sync.Mutex
	fresh map[net.Conn]struct{} // connections without a request yet
}

// New returns a server for the names of m.
func New(cfg Config, m *manifest.Manifest) (*Server, error) {
	if cfg.Logger == nil || cfg.GetCertificate == nil {
		return nil, errors.New("web.Config needs Logger and GetCertificate")
	}
	t := cfg.Timeouts
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&t.Header, 10 * time.Second}, {&t.Read, 20 * time.Second}, {&t.Write, 20 * time.Second}, {&t.Idle, time.Minute}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	s := &Server{log: cfg.Logger, fresh: map[net.Conn]struct{}{}}
	s.http = &http.Server{
		Handler:           s,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cfg.GetCertificate},
		ReadHeaderTimeout: t.Header, ReadTimeout: t.Read, WriteTimeout: t.Write, IdleTimeout: t.Idle,
		MaxHeaderBytes: maxHeader,
		// A few small documents need no HTTP/2, which is a large part to attack: the
		// program is linked without it (nethttpomithttp2 in the Makefile).
		Protocols: new(http.Protocols),
		ErrorLog:  log.New(errorLog{cfg.Logger}, "", 0),
		ConnState: s.connState,
	}
	s.http.Protocols.SetHTTP1(true)
	s.Set(m)
	return s, nil
}

// errorLog passes net/http's complaints on: broken handshakes, and panics.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Write(b []byte) (int, error) {
	text := strings.TrimSpace(string(b))
	if strings.Contains(text, "panic") {
		e.log.Error("http", "text", text)
	} else {
		e.log.Debug("http", "text", text)
	}
	return len(b), nil
}

// Set exchanges the names and documents for requests to come.
func (s *Server) Set(m *manifest.Manifest) {
	sites := sitesOf(m)
	s.sites.Store(&sites)
}

// Serve accepts connections until the listener fails or Shutdown is called.
// Limits on connections are the listener's, see limits.Listener.
func (s *Server) Serve(l net.Listener) error { return s.http.ServeTLS(l, "", "") }

// connState keeps track of connections that have not sent a request yet:
// http.Server.Shutdown would wait 5 s for each of them.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.fresh[c] = struct{}{}
	} else {
		delete(s.fresh, c)
	}
}

// Shutdown stops accepting, lets requests end until ctx does, and closes what
// is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	for c := range s.fresh {
		_ = c.SetDeadline(time.Unix(1, 0)) // net/http closes it
	}
	s.mu.Unlock()
	err := s.http.Shutdown(ctx)
	return errors.Join(err, s.http.Close())
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	defer func() {
		s.log.Debug("request", "remote", r.RemoteAddr, "host", r.Host, "method", r.Method, "path", r.URL.Path, "status", status)
	}()
	fail := func(code int) {
		status = code
		http.Error(w, http.StatusText(code), code)
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	site, ok := (*s.sites.Load())[hostOf(r.Host)]
	if !ok {
		fail(http.StatusMisdirectedRequest)
		return
	}
	page, ok := site[r.URL.Path]
	if !ok { // Outlook's /Autodiscover/Autodiscover.xml
		page = site[strings.ToLower(r.URL.Path)]
		ok = page.post != nil
	}
	if !ok {
		fail(http.StatusNotFound)
		return
	}
	allowed := []string{http.MethodGet, http.MethodHead}
	if page.post != nil {
		allowed = []string{http.MethodPost}
	}
	if !slices.Contains(allowed, r.Method) {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		fail(http.StatusMethodNotAllowed)
		return
	}
	var body []byte
	if page.post != nil {
		body, status = page.post(http.MaxBytesReader(w, r.Body, maxBody))
	} else {
		body, status = page.get(r.URL.Query().Get(addressParameter))
	}
	if status != http.StatusOK {
		fail(status)
		return
	}
	w.Header().Set("Content-Type", page.contentType)
	if page.filename != "" {
		w.Header().Set("Content-Disposition", `attachment; filename="`+page.filename+`"`)
	}
	_, _ = w.Write(body)
}

// hostOf is the name of a Host header, in lower case without port and final dot.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
