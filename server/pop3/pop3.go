// Package pop3 lets mail programs fetch an account's INBOX: POP3 on 110 (STLS)
// and 995 (TLS from the first octet), RFC 1939, with UIDL, TOP, CAPA (RFC 2449),
// STLS (RFC 2595), SASL (RFC 5034), response codes (RFC 2449, RFC 3206),
// PIPELINING and UTF8 (RFC 6856).
//
// A session works on the INBOX as it was at the login: message numbers and sizes
// stay what they were, whatever IMAP clients and deliveries do meanwhile. Nothing
// is changed before QUIT. The unique ids of UIDL are made of UIDVALIDITY and UID,
// so that "leave on server" holds across restarts and restores.
//
// It imports server/accept, server/account, server/limits and server/store.
package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mailform/server/accept"
	"mailform/server/account"
	"mailform/server/limits"
	"mailform/server/store"
)

// Settings are what a reload exchanges. A connection keeps the settings it began with.
type Settings struct {
	// Exclusive lets one session at a time have an account's maildrop, as RFC 1939
	// section 3 wants it; another is answered with [IN-USE]. The store does not need
	// it, and with it a phone that lost its network keeps its owner's other programs
	// out until the connection is found dead.
	Exclusive bool
	// TLS has the certificate. While it is nil STLS is not offered and connections
	// to the port with implicit TLS are closed.
	TLS *tls.Config
	// SCRAM lets people log in by SCRAM-SHA-256; nil does not. Its exchanges take
	// their time to say no.
	SCRAM account.SCRAMLogins
}

// Timeouts bound how long a client may take. Zero fields take the defaults.
type Timeouts struct {
	Handshake time.Duration // of TLS; default 30 s
	Login     time.Duration // from the first octet to a login; default 2 min
	Idle      time.Duration // between commands; default and least 10 min, RFC 1939 section 3
	Write     time.Duration // for 32 KiB of an answer to be taken; default 1 min
}

// Config is what a Server needs. Store, Auth and Logger must be set.
type Config struct {
	Store store.Store
	// Auth returns the account of a login. account.ErrCredentials is answered with
	// [AUTH], other errors with [SYS/TEMP]. It takes its time to say no.
	Auth     func(ctx context.Context, user, password string, remote netip.Addr) (account string, err error)
	Logger   *slog.Logger
	Timeouts Timeouts

	MaxBadAuth     int // failed logins before the connection is closed; default 3
	MaxBadCommands int // commands that are none before it is closed; default 10
	MaxSessions    int // open sessions of one account; default 20
	// AllowPlaintext lets clients log in without TLS. For tests only.
	AllowPlaintext bool
}

// Server serves any number of listeners.
type Server struct {
	cfg      Config
	settings atomic.Pointer[Settings]
	conns    *accept.Group
	sessions atomic.Uint64 // numbers sessions for the log

	mu       sync.Mutex
	accounts map[string]int // open sessions
}

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = accept.ErrClosed

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// New returns a server with the settings st.
func New(cfg Config, st *Settings) (*Server, error) {
	if cfg.Store == nil || cfg.Auth == nil || cfg.Logger == nil {
		return nil, errors.New("pop3.Config needs Store, Auth and Logger")
	}
	def(&cfg.Timeouts.Handshake, 30*time.Second)
	def(&cfg.Timeouts.Login, 2*time.Minute)
	def(&cfg.Timeouts.Idle, 10*time.Minute)
	def(&cfg.Timeouts.Write, time.Minute)
	def(&cfg.MaxBadAuth, 3)
	def(&cfg.MaxBadCommands, 10)
	def(&cfg.MaxSessions, 20)
	s := &Server{cfg: cfg, conns: accept.New("pop3", cfg.Logger), accounts: map[string]int{}}
	s.Set(st)
	return s, nil
}

// Set exchanges the settings for new connections.
func (s *Server) Set(st *Settings) {
	copied := *st
	s.settings.Store(&copied)
}

// Serve accepts connections until the listener fails or Shutdown is called.
// Limits on connections are the listener's, see limits.Listener.
func (s *Server) Serve(l net.Listener, implicitTLS bool) error {
	return s.conns.Serve(l, func(nc net.Conn) accept.Conn { return s.newConn(nc, implicitTLS) })
}

func (s *Server) newConn(nc net.Conn, implicitTLS bool) *conn {
	c := &conn{srv: s, st: s.settings.Load(), raw: nc, implicitTLS: implicitTLS, remote: limits.AddrOf(nc.RemoteAddr())}
	c.ctx, c.cancel = context.WithCancel(s.conns.Context())
	c.log = s.cfg.Logger.With("service", "pop3", "session", s.sessions.Add(1), "remote", c.remote.String())
	return c
}

// Shutdown stops accepting, ends sessions between two commands, lets commands
// that are being carried out end until ctx does, and then closes what is left
// and returns ctx's error. A session that is ended so deletes nothing, as when
// its connection had broken (RFC 1939 section 3).
func (s *Server) Shutdown(ctx context.Context) error { return s.conns.Shutdown(ctx) }

// enter counts a session of an account, unless the account has as many as it
// may; leave takes it off the count.
func (s *Server) enter(account string, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[account] >= most {
		return false
	}
	s.accounts[account]++
	return true
}

func (s *Server) leave(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[account]--; s.accounts[account] <= 0 {
		delete(s.accounts, account)
	}
}
