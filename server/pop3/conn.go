package pop3

import (
	"bufio"
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
	"sync"
	"time"
)

const (
	// maxCommand bounds a command line: RFC 2449 section 4 asks for 255 octets,
	// RFC 6856 section 2.1 for 512 with UTF8; an AUTH with its initial response is longer.
	maxCommand = 2048
	// maxSASL bounds the line that answers a challenge.
	maxSASL = 12288
)

// conn is one connection: lines in, answers out, with deadlines.
type conn struct {
	srv         *Server
	st          *Settings
	raw         net.Conn
	remote      netip.Addr
	implicitTLS bool
	log         *slog.Logger
	ctx         context.Context
	cancel      context.CancelFunc

	nc     net.Conn // raw, or TLS over it
	r      *bufio.Reader
	w      *bufio.Writer
	secure bool
	start  time.Time

	mu       sync.Mutex
	draining bool
	waiting  bool // between two commands
}

var (
	errDraining = errors.New("server is shutting down")
	errTooLong  = errors.New("line is too long")
)

// Serve implements accept.Conn.
func (c *conn) Serve() {
	defer c.cancel()
	defer c.raw.Close()
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("panic", "value", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	c.log.Debug("connected")
	defer c.log.Debug("disconnected")
	c.start = time.Now() // the kernel's clock decides about deadlines
	c.use(c.raw)
	if c.implicitTLS && !c.handshake() {
		return
	}
	s := &session{conn: c}
	defer s.close()
	s.run()
}

// use reads from and writes to nc from now on. What was read ahead is gone: a
// command that came in the clear behind STLS must not count as one that came under TLS.
func (c *conn) use(nc net.Conn) {
	c.nc = nc
	c.r = bufio.NewReaderSize(nc, 2048)
	c.w = bufio.NewWriterSize(paced{nc, c.srv.cfg.Timeouts.Write}, 4096)
}

// handshake turns TLS on.
func (c *conn) handshake() bool {
	if c.st.TLS == nil {
		c.log.Warn("connection closed: there is no certificate yet")
		return false
	}
	t := tls.Server(c.raw, c.st.TLS)
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.cfg.Timeouts.Handshake)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		c.log.Debug("TLS handshake", "err", err)
		return false
	}
	c.use(t)
	c.secure = true
	return true
}

// Close implements accept.Conn.
func (c *conn) Close() error { return c.raw.Close() }

// Drain ends the connection now or when its command has been answered.
func (c *conn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.waiting {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// await says until when the next line has to be here.
func (c *conn) await(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return errDraining
	}
	c.waiting = true
	return c.raw.SetReadDeadline(deadline)
}

func (c *conn) awaited() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
}

// line reads a line of at most limit octets without its line end. Answers are
// sent before it waits, and gathered while more commands are here (PIPELINING).
// A line that is too long is read to its end, so that nothing of it is taken for
// a command, within the same deadline and 64 KiB.
func (c *conn) line(limit int, deadline time.Time) (string, error) {
	if c.r.Buffered() == 0 {
		if err := c.w.Flush(); err != nil {
			return "", err
		}
	}
	if err := c.await(deadline); err != nil {
		return "", err
	}
	defer c.awaited()
	var line []byte
	for n := 0; ; {
		part, err := c.r.ReadSlice('\n')
		n += len(part)
		if len(line)+len(part) <= limit+2 {
			line = append(line, part...)
		}
		switch {
		case err == nil && n > limit+2:
			return "", errTooLong
		case err == nil:
			line = line[:len(line)-1]
			if k := len(line); k > 0 && line[k-1] == '\r' {
				line = line[:k-1]
			}
			return string(line), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", c.why(err)
		case n > 64<<10:
			return "", io.ErrUnexpectedEOF
		}
	}
}

// why tells a shutdown from a client that is too slow.
func (c *conn) why(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining && errors.Is(err, os.ErrDeadlineExceeded) {
		return errDraining
	}
	return err
}

// paced gives a client a time to take each chunk of an answer.
type paced struct {
	net.Conn
	chunk time.Duration
}

func (p paced) Write(b []byte) (int, error) {
	const most = 32 << 10
	done := 0
	for done < len(b) {
		if err := p.SetWriteDeadline(time.Now().Add(p.chunk)); err != nil {
			return done, err
		}
		n, err := p.Conn.Write(b[done:min(len(b), done+most)])
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}
