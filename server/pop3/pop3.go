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
// It imports server/account, server/limits and server/store.
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
	"syscall"
	"time"

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
	ctx      context.Context // of sessions; ended when Shutdown runs out of time
	cancel   context.CancelFunc
	sessions atomic.Uint64 // numbers sessions for the log

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	accounts  map[string]int // open sessions
	wg        sync.WaitGroup
}

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = errors.New("pop3 server is shut down")

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
	s := &Server{cfg: cfg, listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{}, accounts: map[string]int{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
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
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = l.Close()
		return ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	for {
		nc, err := l.Accept()
		if err != nil {
			if isTransient(err) {
				s.cfg.Logger.Warn("accept", "service", "pop3", "err", err)
				if wait(s.ctx, 100*time.Millisecond) == nil {
					continue
				}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.listeners, l)
			if s.closed {
				return ErrServerClosed
			}
			return err
		}
		c := s.newConn(nc, implicitTLS)
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = nc.Close()
			return ErrServerClosed
		}
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() {
			c.serve()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

func (s *Server) newConn(nc net.Conn, implicitTLS bool) *conn {
	c := &conn{srv: s, st: s.settings.Load(), raw: nc, implicitTLS: implicitTLS, remote: limits.AddrOf(nc.RemoteAddr())}
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	c.log = s.cfg.Logger.With("service", "pop3", "session", s.sessions.Add(1), "remote", c.remote.String())
	return c
}

// isTransient says that accepting may work again, as when files run out.
func isTransient(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shutdown stops accepting, ends sessions between two commands, lets commands
// that are being carried out end until ctx does, and then closes what is left
// and returns ctx's error. A session that is ended so deletes nothing, as when
// its connection had broken (RFC 1939 section 3).
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		s.cancel()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.raw.Close()
		}
		s.mu.Unlock()
		<-done
	}
	s.cancel()
	return err
}

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
