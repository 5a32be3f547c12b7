package smtp

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"mailform/server/limits"
)

// maxLine bounds a line of commands or of a message in DATA, in octets. RFC
// 5322 allows 998 in a message; what is longer but harmless is passed on.
const maxLine = 128 << 10

// handle serves one connection. It has a go-smtp server of its own, so that
// each connection begins with the present settings and a reload disturbs none.
func (s *Server) handle(c *conn, kind Kind, implicitTLS bool) {
	defer c.Close()
	st := s.settings.Load()
	id := newID()
	remote := limits.AddrOf(c.RemoteAddr())
	log := s.cfg.Logger.With("session", id, "service", kind.String(), "remote", remote.String())
	defer func() {
		if r := recover(); r != nil {
			log.Error("panic", "value", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()

	var outer net.Conn = c
	if implicitTLS {
		if st.TLS == nil {
			log.Warn("connection closed: there is no certificate yet")
			return
		}
		t := tls.Server(c, st.TLS)
		_ = c.SetDeadline(time.Now().Add(s.cfg.Timeouts.Handshake))
		if err := t.HandshakeContext(s.ctx); err != nil {
			log.Debug("TLS handshake", "err", err)
			return
		}
		_ = c.SetDeadline(time.Time{})
		outer = t
	}

	log.Debug("connected")
	gs := smtp.NewServer(smtp.BackendFunc(func(gc *smtp.Conn) (smtp.Session, error) {
		return newSession(s, c, gc, kind, id, remote, log), nil
	}))
	gs.Domain = st.Hostname
	gs.MaxMessageBytes = st.MaxMessageBytes
	gs.MaxRecipients = st.maxRecipients(kind)
	gs.MaxLineLength = maxLine
	gs.ReadTimeout = s.cfg.Timeouts.Command
	gs.WriteTimeout = s.cfg.Timeouts.Write
	gs.ErrorLog = errorLog{log}
	if !implicitTLS && kind == MX {
		gs.TLSConfig = st.mxTLS
	} else if !implicitTLS {
		gs.TLSConfig = st.TLS
	}
	// Serve hands the one connection to its own goroutine and returns because
	// there is no second one; Shutdown waits for that goroutine.
	_ = gs.Serve(&single{c: outer})
	_ = gs.Shutdown(context.Background())
	log.Debug("disconnected")
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

// errorLog passes go-smtp's complaints on: panics and broken connections.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Printf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.HasPrefix(text, "panic") {
		e.log.Error("go-smtp", "text", text)
		return
	}
	e.log.Debug("go-smtp", "text", text)
}

func (e errorLog) Println(v ...any) { e.Printf("%s", fmt.Sprintln(v...)) }
