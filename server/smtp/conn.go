package smtp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// These errors end a connection without a word to the log: go-smtp takes
// whatever is net.ErrClosed for a peer that has left.
var (
	errHangUp   = fmt.Errorf("connection closed by the peer: %w", net.ErrClosed)
	errFinished = fmt.Errorf("connection finished by us: %w", net.ErrClosed)
	errChatter  = fmt.Errorf("too many commands without a message: %w", net.ErrClosed)
)

// conn sits below TLS and gives go-smtp's connection the properties it lacks:
//
//   - A read error is final. go-smtp goes on after a failed DATA and would take
//     the rest of a message for commands.
//   - The end of the stream is not io.EOF: go-smtp takes io.EOF within a BDAT
//     chunk for the chunk's end and would store half a message as a whole one.
//   - finish closes the connection after the reply that is about to be written.
//   - drain closes it as soon as no transaction is open.
//   - Commands are limited between two messages.
type conn struct {
	net.Conn
	commandBytes int64 // allowed between two messages

	mu       sync.Mutex
	err      error // the first read error; stays
	finished bool
	draining bool
	busy     bool // a mail transaction is open
	data     bool // message data is being read
	left     int64
	probing  bool
}

func newConn(nc net.Conn, commandBytes int64) *conn {
	return &conn{Conn: nc, commandBytes: commandBytes, left: commandBytes}
}

func (c *conn) Read(b []byte) (int, error) {
	c.mu.Lock()
	switch {
	case c.probing:
		c.mu.Unlock()
		return 0, errProbe{}
	case c.err != nil:
		defer c.mu.Unlock()
		return 0, c.err
	case c.finished:
		c.err = errFinished
	case !c.data && c.left <= 0:
		c.err = errChatter
	}
	if c.err != nil {
		defer c.mu.Unlock()
		return 0, c.err
	}
	c.mu.Unlock()

	n, err := c.Conn.Read(b)

	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.data {
		c.left -= int64(n)
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errHangUp
		}
		c.err = err
	}
	return n, err
}

// SetReadDeadline is called by go-smtp before each command.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining && !c.busy {
		t = time.Unix(1, 0)
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is for handshakes, which a drain ends too.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.Conn.SetWriteDeadline(t))
}

// finish lets the reply under way be the last one.
func (c *conn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished = true
}

// drain ends the connection now or when its transaction ends.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if !c.busy {
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

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

// setData says whether message data is being read; a message earns new commands.
func (c *conn) setData(data bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.data = data
	c.left = c.commandBytes
}

// errProbe is a time-out, which crypto/tls does not remember.
type errProbe struct{}

func (errProbe) Error() string   { return "nothing to read" }
func (errProbe) Timeout() bool   { return true }
func (errProbe) Temporary() bool { return true }

// tlsEnded says whether the peer has ended its side of a TLS connection with
// close_notify, which conn does not see. Nothing else may read meanwhile. If a
// command was waiting behind the message its first octet is lost: then lost is
// true and the connection has to be closed.
func (c *conn) tlsEnded(t *tls.Conn) (ended, lost bool) {
	c.mu.Lock()
	c.probing = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.probing = false
		c.mu.Unlock()
	}()
	var b [1]byte
	n, err := t.Read(b[:])
	var probe errProbe
	return err != nil && !errors.As(err, &probe), n > 0
}

// paced reads message data: each chunk has to come within a time, and the
// whole at a minimum rate. The deadline goes to the outermost connection.
type paced struct {
	r       io.Reader
	conn    net.Conn
	limits  Timeouts
	started time.Time
	n       int64
}

func (p *paced) Read(b []byte) (int, error) {
	now := time.Now() // the kernel's clock decides about deadlines
	deadline := now.Add(p.limits.Chunk)
	slowest := p.started.Add(p.limits.Grace + time.Duration(float64(p.n)/float64(p.limits.MinRate)*float64(time.Second)))
	if slowest.Before(deadline) {
		deadline = slowest
	}
	if err := p.conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	p.n += int64(n)
	return n, err
}
