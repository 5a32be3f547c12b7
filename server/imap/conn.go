package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"mailform/server/imap/wire"
	"mailform/server/limits"
)

// conn is one connection, from the accept to its end. One goroutine serves it;
// others may only wake it, with news of its mailbox or a farewell, and they do
// that by cutting short the read it waits in. So an idle connection costs one
// goroutine and a small buffer.
type conn struct {
	srv    *Server
	st     *Settings
	raw    net.Conn // as accepted
	nc     net.Conn // raw, or TLS over it
	secure bool
	remote netip.Addr
	log    *slog.Logger
	start  time.Time
	ctx    context.Context
	cancel context.CancelFunc

	in       wire.Reader
	out      wire.Writer
	deflated *deflated // nil unless the client asked for it
	login    bool      // the client has logged in: the time to do so is no limit any more

	mu          sync.Mutex
	phase       phase
	waiting     bool   // in a read that may be cut short
	woken       bool   // there is news
	handshaking bool   // of TLS
	farewell    string // BYE's text
	failed      bool   // hang up without a word
}

// phase is what the client is to send next. It says how long that may take, and
// what may cut it short.
type phase uint8

const (
	phaseCommand phase = iota // the next command, or DONE: news and a farewell may
	phaseLine                 // the rest of a command: a farewell may
	phaseLiteral              // a message: nothing may
)

var (
	errWoken = errors.New("woken")
	errLeave = errors.New("the connection is to end")
)

func (s *Server) newConn(nc net.Conn, implicitTLS bool) *conn {
	c := &conn{srv: s, st: s.settings.Load(), raw: nc, nc: nc, secure: implicitTLS, remote: limits.AddrOf(nc.RemoteAddr())}
	c.ctx, c.cancel = context.WithCancel(s.conns.Context())
	c.log = s.cfg.Logger.With("service", "imap", "session", s.sessions.Add(1), "remote", c.remote.String())
	c.in, c.out = *wire.NewReader(connReader{c}, &s.buffers), *wire.NewWriter(connWriter{c}, &s.buffers)
	return c
}

// Serve implements accept.Conn.
func (c *conn) Serve() {
	defer c.raw.Close()
	defer c.cancel()
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("panic", "value", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	c.log.Debug("connected")
	defer c.log.Debug("disconnected")
	c.start = time.Now()
	if c.secure {
		if err := c.handshake(); err != nil {
			return
		}
	}
	s := newSession(c)
	defer s.close()
	s.run()
	c.end()
	if c.deflated != nil {
		_ = c.raw.Close()
		c.deflated.close()
	}
}

// handshake begins TLS.
func (c *conn) handshake() error {
	if c.st.TLS == nil {
		c.log.Warn("connection closed: there is no certificate yet")
		return errors.New("no certificate")
	}
	c.mu.Lock()
	if c.farewell != "" {
		c.mu.Unlock()
		return errLeave
	}
	c.handshaking = true
	_ = c.raw.SetDeadline(time.Now().Add(c.srv.cfg.Timeouts.Handshake))
	c.mu.Unlock()
	t := tls.Server(c.raw, c.st.TLS)
	err := t.HandshakeContext(c.ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handshaking = false
	if err != nil {
		c.log.Debug("TLS handshake", "err", err)
		return err
	}
	_ = c.raw.SetDeadline(time.Time{})
	c.nc, c.secure = t, true
	return nil
}

// Drain is bye for a server that ends.
func (c *conn) Drain() {
	c.bye("Server is shutting down")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handshaking {
		_ = c.raw.SetDeadline(time.Unix(1, 0))
	}
}

// Close implements accept.Conn.
func (c *conn) Close() error { return c.raw.Close() }

// wake cuts short the wait for the client's next command.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.woken {
		c.woken = true
		if c.waiting && c.phase == phaseCommand {
			c.interrupt()
		}
	}
}

// interrupt ends the read that the connection waits in. The lock is held.
func (c *conn) interrupt() { _ = c.readBy(time.Unix(1, 0)) }

// readBy sets the time limit for reading. The lock is held.
func (c *conn) readBy(t time.Time) error {
	if c.deflated != nil {
		return c.deflated.in.SetReadDeadline(t)
	}
	return c.raw.SetReadDeadline(t)
}

// bye ends the connection with BYE at the end of the command being carried out.
func (c *conn) bye(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.farewell == "" {
		c.farewell = text
	}
	if c.waiting {
		c.interrupt()
	}
}

// leaving says that the connection is to end.
func (c *conn) leaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.farewell != "" || c.failed
}

// restart gives the client the time for a login again.
func (c *conn) restart() { c.login, c.start = false, time.Now() }

// abort ends the connection where it is: a response could not be completed.
func (c *conn) abort(err error) {
	c.mu.Lock()
	c.failed = true
	c.mu.Unlock()
	c.out.Fail(err)
}

// news says whether there is any since it was last asked.
func (c *conn) news() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	woken := c.woken
	c.woken = false
	return woken
}

// connReader is where the wire reader reads: below it output is flushed, since
// there is nothing more to answer to, and the time limit set.
type connReader struct{ c *conn }

func (r connReader) Read(p []byte) (int, error) {
	c := r.c
	if err := c.flush(); err != nil {
		return 0, err
	}
	if err := c.arm(); err != nil {
		return 0, err
	}
	var n int
	var err error
	if c.deflated != nil {
		n, err = c.deflated.in.Read(p)
	} else {
		n, err = c.nc.Read(p)
	}
	return n, c.disarm(n, err)
}

// arm sets the time for the next octets to come.
func (c *conn) arm() error {
	t := &c.srv.cfg.Timeouts
	c.mu.Lock()
	defer c.mu.Unlock()
	d := t.Idle
	switch c.phase {
	case phaseLine:
		d = t.Line
	case phaseLiteral:
		d = t.Chunk
	}
	deadline := time.Now().Add(d)
	if !c.login {
		deadline = c.start.Add(t.Login)
	}
	switch {
	case c.phase != phaseLiteral && c.farewell != "":
		return errLeave
	case c.phase == phaseCommand && c.woken:
		return errWoken
	}
	c.waiting = c.phase != phaseLiteral
	return c.readBy(deadline)
}

// expect says what the client is to send next.
func (c *conn) expect(p phase) {
	c.mu.Lock()
	c.phase = p
	c.mu.Unlock()
}

// disarm ends what arm began and says what an error of reading means.
func (c *conn) disarm(n int, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := c.waiting
	c.waiting = false
	if n > 0 {
		if c.phase == phaseCommand {
			c.phase = phaseLine
		}
		return nil // an error comes again with the next read
	}
	if err == nil {
		return nil
	}
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		return err
	}
	switch {
	case waiting && c.farewell != "":
		return errLeave
	case waiting && c.phase == phaseCommand && c.woken:
		return errWoken
	}
	if c.farewell == "" && c.phase != phaseLiteral {
		c.farewell = "You were idle for too long"
	}
	return err
}

// connWriter is where the wire writer writes.
type connWriter struct{ c *conn }

func (w connWriter) Write(p []byte) (int, error) {
	c := w.c
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.Timeouts.Write))
	if c.deflated != nil {
		return c.deflated.write(p)
	}
	return c.nc.Write(p)
}

// flush sends all that was gathered.
func (c *conn) flush() error {
	if err := c.out.Flush(); err != nil {
		return err
	}
	if c.deflated != nil {
		return c.deflated.flush()
	}
	return nil
}

// end says goodbye, if there is anything to say, and hangs up.
func (c *conn) end() {
	c.mu.Lock()
	text, failed := c.farewell, c.failed
	c.mu.Unlock()
	if failed {
		return
	}
	if text != "" {
		c.out.Raw("* BYE ")
		c.out.Raw(text)
		c.out.CRLF()
	}
	if c.flush() != nil || text == "" {
		return
	}
	// Closing while the client's octets come in would reset the connection
	// before it has read the BYE.
	if cw, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
	}
	if c.deflated != nil {
		_ = c.deflated.in.SetReadDeadline(time.Now().Add(c.srv.cfg.Timeouts.Linger))
		_, _ = io.CopyN(io.Discard, c.deflated.in, 1<<20)
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(c.srv.cfg.Timeouts.Linger))
	_, _ = io.CopyN(io.Discard, c.nc, 1<<20)
}
