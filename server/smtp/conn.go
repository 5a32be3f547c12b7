package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"mailform/server/limits"
)

const (
	// maxCommand bounds a command's line, in octets: RFC 4954 4.5 asks for 12,288
	// for AUTH, all others are shorter.
	maxCommand = 12 << 10
	// maxLine bounds a line of a message in DATA, in octets. RFC 5322 allows 998;
	// what is longer but harmless is passed on.
	maxLine = 128 << 10
	// A connection waits with a small buffer and reads messages with a large one.
	smallBuffer = 2 << 10
	largeBuffer = 64 << 10
)

var (
	errTooLong = errors.New("line is too long")
	errChatter = errors.New("too many commands without a message")
)

// conn is one connection: lines in, replies out, with deadlines. One goroutine
// serves it; Drain and Close come from others.
type conn struct {
	srv         *Server
	kind        Kind
	implicitTLS bool
	id          string
	remote      netip.Addr
	log         *slog.Logger

	raw net.Conn
	nc  net.Conn  // raw, or TLS over it
	tls *tls.Conn // nil without TLS

	small []byte
	buf   []byte // what has come and is not used yet is buf[from:to]
	from  int
	to    int
	out   []byte // replies that wait until there is nothing more to answer: RFC 2920 3.2
	left  int64  // octets of commands that may come before the next message

	mu       sync.Mutex
	draining bool
	busy     bool // a mail transaction is open
}

func (s *Server) newConn(nc net.Conn, kind Kind, implicitTLS bool) *conn {
	id, remote := newID(), limits.AddrOf(nc.RemoteAddr())
	return &conn{srv: s, kind: kind, implicitTLS: implicitTLS, id: id, remote: remote, raw: nc, nc: nc, left: s.cfg.CommandBytes,
		log: s.cfg.Logger.With("session", id, "service", kind.String(), "remote", remote.String())}
}

// Serve implements accept.Conn.
func (c *conn) Serve() {
	defer c.raw.Close()
	defer c.shrink()
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("panic", "value", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	c.log.Debug("connected")
	defer c.log.Debug("disconnected")
	c.small = make([]byte, smallBuffer)
	c.buf = c.small
	if c.implicitTLS {
		st := c.srv.settings.Load()
		if st.TLS == nil {
			c.log.Warn("connection closed: there is no certificate yet")
			return
		}
		if c.handshake(st.TLS) != nil {
			return
		}
	}
	s := &session{conn: c}
	defer s.reset()
	s.run()
	_ = c.flush() // who has left does not read it
	if c.tls != nil {
		_ = c.tls.CloseWrite()
	}
}

// handshake begins TLS. What came before it in the clear is forgotten, RFC 3207 4.2.
func (c *conn) handshake(config *tls.Config) error {
	c.from, c.to = 0, 0
	by := time.Now().Add(c.srv.cfg.Timeouts.Handshake) // the kernel's clock decides about deadlines
	err := errors.Join(c.readBy(by), c.raw.SetWriteDeadline(by))
	if err == nil {
		c.tls = tls.Server(c.raw, config)
		err = c.tls.HandshakeContext(c.srv.ctx)
	}
	if err != nil {
		c.log.Debug("TLS handshake", "err", err)
		return err
	}
	c.nc = c.tls
	return nil
}

// Drain implements accept.Conn: the connection ends now, or with its transaction.
func (c *conn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if !c.busy {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// Close implements accept.Conn.
func (c *conn) Close() error { return c.raw.Close() }

func (c *conn) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// setBusy says whether a transaction is open.
func (c *conn) setBusy(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = busy
}

// readBy sets the time limit for reading.
func (c *conn) readBy(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining && !c.busy {
		t = time.Unix(1, 0)
	}
	return c.raw.SetReadDeadline(t)
}

// fill waits for more octets, which go behind those that are there. Replies go
// out first: the client may be waiting for them.
func (c *conn) fill(by time.Time) error {
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.readBy(by); err != nil {
		return err
	}
	if c.from > 0 {
		c.to = copy(c.buf, c.buf[c.from:c.to])
		c.from = 0
	}
	if c.to == len(c.buf) {
		c.enlarge()
	}
	n, err := c.nc.Read(c.buf[c.to:])
	c.to += n
	if n > 0 {
		return nil // an error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// enlarge takes a large buffer, for a message.
func (c *conn) enlarge() {
	if len(c.buf) >= largeBuffer {
		return
	}
	b := c.srv.buffers.Get().(*[largeBuffer]byte)
	c.to = copy(b[:], c.buf[c.from:c.to])
	c.buf, c.from = b[:], 0
}

// shrink gives the large buffer back, if what is left in it fits into the small one.
func (c *conn) shrink() {
	if len(c.buf) < largeBuffer || c.to-c.from > len(c.small) {
		return
	}
	n := copy(c.small, c.buf[c.from:c.to])
	c.srv.buffers.Put((*[largeBuffer]byte)(c.buf))
	c.buf, c.from, c.to = c.small, 0, n
}

// readLine returns the next line without its end, which may be a bare LF: only
// in messages two readings of that do harm. It is valid until the next read.
func (c *conn) readLine() ([]byte, error) {
	c.shrink()
	by := time.Now().Add(c.srv.cfg.Timeouts.Command)
	for seen := 0; ; {
		if i := bytes.IndexByte(c.buf[c.from+seen:c.to], '\n'); i >= 0 {
			line := c.buf[c.from : c.from+seen+i]
			c.from += seen + i + 1
			if c.left -= int64(len(line)) + 1; c.left < 0 {
				return nil, errChatter
			}
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		if seen = c.to - c.from; seen > maxCommand {
			return nil, errTooLong
		}
		if err := c.fill(by); err != nil {
			return nil, err
		}
	}
}

// send puts a reply behind those that wait.
func (c *conn) send(e *smtp.SMTPError) {
	for text, more := e.Message, true; more; {
		var line string
		line, text, more = strings.Cut(text, "\n")
		separator := ' '
		if more {
			separator = '-'
		}
		c.out = fmt.Appendf(c.out, "%d%c", e.Code, separator)
		if e.EnhancedCode != smtp.NoEnhancedCode {
			c.out = fmt.Appendf(c.out, "%d.%d.%d ", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2])
		}
		c.out = append(c.out, line...)
		c.out = append(c.out, '\r', '\n')
	}
}

// flush sends the replies that wait.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if err := c.raw.SetWriteDeadline(time.Now().Add(c.srv.cfg.Timeouts.Write)); err != nil {
		return err
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > smallBuffer {
		c.out = nil
	}
	return err
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// pace is how long the octets of a message may take: each chunk has to come
// within a time, and the whole at a minimum rate.
type pace struct {
	limits  Timeouts
	started time.Time
	n       int64
}

// next is when the next octets have to be here.
func (p *pace) next() time.Time {
	deadline := time.Now().Add(p.limits.Chunk)
	slowest := p.started.Add(p.limits.Grace + time.Duration(float64(p.n)/float64(p.limits.MinRate)*float64(time.Second)))
	if slowest.Before(deadline) {
		return slowest
	}
	return deadline
}
