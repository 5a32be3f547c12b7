package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2/imapserver"

	"mailform/server/limits"
)

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
				s.cfg.Logger.Warn("accept", "service", "imap", "err", err)
				if sleep(s.ctx, 100*time.Millisecond) == nil {
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
		s.wg.Add(1)
		s.mu.Unlock()
		go func() {
			defer s.wg.Done()
			c.serve()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
	}
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

// Shutdown stops accepting, ends idle sessions with BYE, lets commands that
// are being carried out end until ctx does, and then closes what is left and
// returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.bye("Server is shutting down")
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

// conn is one connection, from the accept to its end. With STARTTLS it has two
// phases, each with a guard and an imapserver of its own.
type conn struct {
	srv *Server
	st  *Settings
	raw net.Conn
	tls bool // from the first octet
	log *slog.Logger

	guard  guardRef
	ctx    context.Context
	cancel context.CancelFunc
}

func (s *Server) newConn(nc net.Conn, implicitTLS bool) *conn {
	c := &conn{srv: s, st: s.settings.Load(), raw: nc, tls: implicitTLS}
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	c.log = s.cfg.Logger.With("service", "imap", "session", s.sessions.Add(1), "remote", limits.AddrOf(nc.RemoteAddr()).String())
	return c
}

func (c *conn) serve() {
	defer c.raw.Close()
	defer c.cancel()
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("panic", "value", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	c.log.Debug("connected")
	defer c.log.Debug("disconnected")
	var nc net.Conn = c.raw
	if c.tls {
		t, err := c.handshake(nc)
		if err != nil {
			return
		}
		nc = t
	}
	start := time.Now()
	g := newGuard(c, nc, c.tls, start)
	c.phase(g)
	if !g.startTLS {
		return
	}
	t, err := c.handshake(nc)
	if err != nil {
		return
	}
	g = newGuard(c, t, true, start)
	g.skipGreeting = true
	c.phase(g)
}

func (c *conn) handshake(nc net.Conn) (*tls.Conn, error) {
	if c.st.TLS == nil {
		c.log.Warn("connection closed: there is no certificate yet")
		return nil, errors.New("no certificate")
	}
	t := tls.Server(nc, c.st.TLS)
	_ = c.raw.SetDeadline(time.Now().Add(c.srv.cfg.Timeouts.Handshake))
	if err := t.HandshakeContext(c.ctx); err != nil {
		c.log.Debug("TLS handshake", "err", err)
		return nil, err
	}
	_ = c.raw.SetDeadline(time.Time{})
	return t, nil
}

// phase runs an imapserver over the guard until the connection or its plain
// part has ended. imapserver knows TLS only by the type of its connection; as
// the guard hides that, it is told what may be done without.
func (c *conn) phase(g *guard) {
	if !c.guard.set(g) {
		g.setBye("Server is shutting down")
	}
	o := &imapserver.Options{
		NewSession: func(ic *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return newSession(c, g, ic), nil, nil
		},
		Caps:         caps(),
		Logger:       libraryLog{c.log, g},
		InsecureAuth: g.secure || c.srv.cfg.AllowPlaintext,
	}
	if !g.secure && c.st.TLS != nil {
		// Only so that STARTTLS is offered: the guard takes the command.
		o.TLSConfig = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return nil, errors.New("not reached")
		}}
	}
	// Serve hands the one connection to a goroutine of its own and returns
	// because there is no second one; the guard's Close is that goroutine's last act.
	_ = imapserver.New(o).Serve(&single{c: g})
	<-g.done
}

// single is a listener with one connection.
type single struct{ c net.Conn }

func (l *single) Accept() (net.Conn, error) {
	if l.c == nil {
		return nil, net.ErrClosed
	}
	c := l.c
	l.c = nil
	return c, nil
}

func (l *single) Close() error   { return nil }
func (l *single) Addr() net.Addr { return &net.TCPAddr{} }

// libraryLog passes imapserver's complaints on.
type libraryLog struct {
	log *slog.Logger
	g   *guard
}

func (e libraryLog) Printf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	switch {
	case strings.HasPrefix(text, "panic"):
		e.log.Error("imapserver", "text", text)
	case e.g.isOver():
		e.log.Debug("imapserver", "text", text)
	default:
		e.log.Warn("imapserver", "text", text)
	}
}
