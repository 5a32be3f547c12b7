package imap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxCommand     = 40 << 10 // octets of a command's lines; imapserver loses its way at 50 KiB
	maxLiteral     = 4 << 10  // octets of a literal in any command but APPEND; imapserver's own limit
	maxLiterals    = 64 << 10 // octets of all literals of such a command
	maxAsync       = 4 << 10  // octets of a literal that does not wait, RFC 7888 5
	coalesce       = 32 << 10 // octets gathered before they are written
	keepWriteSpace = 4 << 10  // octets of buffer an idle connection keeps
)

// guard is the net.Conn that imapserver has. One goroutine reads; any may write.
//
// It hands out a command line by line and literal by literal, each only when
// imapserver asks for more, and so knows what became of the last one: a literal
// was accepted when a continuation was written since, and refused otherwise. A
// literal that does not wait is shown to imapserver as one that does; when it
// is refused its octets are passed over here.
type guard struct {
	c      *conn
	nc     net.Conn
	br     *bufio.Reader
	secure bool
	start  time.Time
	done   chan struct{} // closed when imapserver has let go

	// The reader's own.
	out      []byte  // a line to hand out
	line     []byte  // space for lines
	octets   int64   // of a literal to hand out
	await    literal // announced in the last line, not yet accepted
	awaiting bool
	inside   bool // within a command: after a literal
	cmd      command
	used     int   // octets of the command's lines
	literals int64 // octets of the command's literals
	bad      int   // lines that were no commands
	ended    bool  // nothing more is read
	startTLS bool  // ended for TLS
	// skipGreeting leaves out the greeting: the client had it before STARTTLS.
	skipGreeting bool

	authenticated atomic.Bool
	current       atomic.Pointer[command] // for the session

	mu        sync.Mutex
	buf       []byte // gathered output
	reading   bool   // the reader waits for the client: output is not held back
	held      int    // but for this
	waiting   bool   // between commands or in IDLE: may be interrupted
	accepted  bool   // a continuation was written since the last line
	swallow   bool   // the next continuation is for a literal that does not wait
	lineStart bool
	farewell  string // BYE's text
	failed    error  // of writing
	over      bool   // the client has gone or is sent away
	mute      bool   // in the middle of a command: imapserver's view of that is of no use
	closed    bool
}

func newGuard(c *conn, nc net.Conn, secure bool, start time.Time) *guard {
	return &guard{c: c, nc: nc, br: bufio.NewReaderSize(nc, 4<<10), secure: secure, start: start, done: make(chan struct{}), lineStart: true}
}

// guardRef is the connection's present guard, for Shutdown.
type guardRef struct {
	mu  sync.Mutex
	g   *guard
	bye bool
}

// set returns false when the connection was told to end before.
func (r *guardRef) set(g *guard) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.g = g
	return !r.bye
}

// bye ends the connection at the end of the command being carried out.
func (c *conn) bye(text string) {
	c.guard.mu.Lock()
	c.guard.bye = true
	g := c.guard.g
	c.guard.mu.Unlock()
	if g != nil {
		g.setBye(text)
		return
	}
	_ = c.raw.SetDeadline(time.Now()) // within the first handshake
}

// setBye makes the guard end the session with BYE at the next command, at once
// when it waits for one.
func (g *guard) setBye(text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.farewell == "" {
		g.farewell = text
	}
	if g.waiting {
		_ = g.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

func (g *guard) leaving() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.farewell != ""
}

// Read implements net.Conn for imapserver.
func (g *guard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if len(g.out) > 0 {
			n := copy(p, g.out)
			g.out = g.out[n:]
			return n, nil
		}
		if g.ended {
			return 0, io.EOF
		}
		if g.awaiting {
			g.awaiting = false
			if g.takeAccepted() {
				g.octets = g.await.size
				g.inside = true
				continue
			}
			// Refused: the command is over.
			if g.await.async {
				if err := g.passOver(g.await.size); err != nil {
					return 0, g.end(err)
				}
			}
			g.inside = false
		}
		if g.octets > 0 {
			return g.readLiteral(p)
		}
		if err := g.flushBeforeRead(); err != nil {
			g.ended = true
			return 0, err
		}
		if err := g.nextLine(); err != nil {
			return 0, g.end(err)
		}
	}
}

// errEnd says that the guard has ended the session itself.
var errEnd = errors.New("session ended")

// end makes an error of reading the end of the session.
func (g *guard) end(err error) error {
	g.ended = true
	var ne net.Error
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	g.mute = g.cmd.name != "" && g.cmd.name != "IDLE"
	switch {
	case g.farewell != "" || errors.Is(err, errEnd) || errors.Is(err, io.EOF):
	case errors.As(err, &ne) && ne.Timeout():
		g.farewell = "You were idle for too long"
	default:
		g.c.log.Debug("read", "err", err)
	}
	return io.EOF
}

// isOver says that what fails now fails because the connection has ended.
func (g *guard) isOver() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.over || g.failed != nil
}

// stop ends the session with BYE.
func (g *guard) stop(text string) error {
	g.setBye(text)
	return errEnd
}

func (g *guard) readLiteral(p []byte) (int, error) {
	if err := g.flushBeforeRead(); err != nil {
		g.ended = true
		return 0, err
	}
	g.arm(g.c.srv.cfg.Timeouts.Chunk, false)
	n, err := g.br.Read(p[:min(int64(len(p)), g.octets)])
	g.disarm()
	g.octets -= int64(n)
	if n == 0 && err != nil {
		// Not io.EOF: a message that was cut off must not look complete.
		_ = g.end(err)
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// arm sets the time for the next octets to come. waiting says that a farewell
// may interrupt.
func (g *guard) arm(d time.Duration, waiting bool) {
	deadline := time.Now().Add(d)
	if !g.authenticated.Load() {
		if login := g.start.Add(g.c.srv.cfg.Timeouts.Login); login.Before(deadline) {
			deadline = login
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reading, g.waiting = true, waiting
	if waiting && g.farewell != "" {
		deadline = time.Unix(1, 0)
	}
	_ = g.nc.SetReadDeadline(deadline)
}

// disarm ends what arm began: output is gathered again.
func (g *guard) disarm() {
	g.mu.Lock()
	g.reading, g.waiting = false, false
	g.mu.Unlock()
}

// passOver reads the rest of a command that was refused: n octets of a literal
// and the line after it, which may announce another.
func (g *guard) passOver(n int64) error {
	defer g.disarm()
	for {
		g.arm(g.c.srv.cfg.Timeouts.Chunk, false)
		if _, err := io.CopyN(io.Discard, g.br, n); err != nil {
			return err
		}
		line, err := g.readLine()
		if err != nil {
			return err
		}
		l, ok, _ := trailingLiteral(line)
		if !ok || !l.async {
			return nil
		}
		if l.size > maxAsync {
			return g.stop("Literal is too large")
		}
		n = l.size
	}
}

// readLine reads up to and including the next line feed.
func (g *guard) readLine() ([]byte, error) {
	g.line = g.line[:0]
	for {
		b, err := g.br.ReadSlice('\n')
		g.line = append(g.line, b...)
		g.used += len(b)
		if g.used > maxCommand {
			return nil, g.stop("Command is too long")
		}
		if err == nil {
			return g.line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// nextLine gets the next line to hand out. It may carry out what the line says
// itself and leave nothing.
func (g *guard) nextLine() error {
	continued := !g.inside && g.takeAccepted() && (g.cmd.name == "IDLE" || g.cmd.name == "AUTHENTICATE")
	boundary := !g.inside && !continued
	switch {
	case boundary:
		if g.leaving() {
			return errEnd
		}
		g.cmd = command{}
		g.used, g.literals = 0, 0
		g.arm(g.c.srv.cfg.Timeouts.Idle, true)
	case continued && g.cmd.name == "IDLE":
		g.used = 0
		g.arm(g.c.srv.cfg.Timeouts.Idle, true)
	default:
		g.arm(g.c.srv.cfg.Timeouts.Line, false)
	}
	if cap(g.line) > keepWriteSpace && boundary {
		g.line = nil
	}
	line, err := g.readLine()
	g.disarm()
	if err != nil {
		return err
	}
	if continued {
		if g.cmd.name == "IDLE" && strings.EqualFold(strings.TrimSpace(string(line)), "DONE") {
			line = []byte("DONE\r\n")
		}
		g.out = line
		return nil
	}
	if boundary {
		cmd, ok := parseCommand(line)
		if !ok {
			return g.badLine(cmd.tag, "Command line makes no sense")
		}
		g.cmd = cmd
		g.current.Store(&cmd)
		if handled, err := g.own(cmd); handled {
			return err
		}
	}
	g.inside = false
	l, ok, bad := trailingLiteral(line)
	if bad || openQuote(line) {
		if boundary {
			return g.badLine(g.cmd.tag, "A literal or quoted string makes no sense")
		}
		return g.stop("A literal or quoted string makes no sense")
	}
	if ok {
		if handled, err := g.admit(l, boundary); handled {
			return err
		}
		if l.async {
			line = append(line[:l.start], fmt.Sprintf("{%d}\r\n", l.size)...)
		}
		g.await, g.awaiting = l, true
		g.mu.Lock()
		g.accepted, g.swallow = false, l.async
		g.mu.Unlock()
	}
	g.out = line
	return nil
}

// admit says no to a literal that is too large. A client that waits is told
// so; one that does not has sent it already and is sent away.
func (g *guard) admit(l literal, boundary bool) (handled bool, err error) {
	limit := int64(maxLiteral)
	if g.cmd.name == "APPEND" && (!boundary || strings.TrimSpace(g.cmd.args[:strings.LastIndexByte(g.cmd.args, '{')]) != "") {
		limit = g.c.st.MaxMessageBytes // behind the mailbox comes the message
	} else if g.literals += l.size; g.literals > maxLiterals {
		return true, g.stop("Too many literals")
	}
	switch {
	case l.async && l.size > maxAsync:
		g.reply(fmt.Sprintf("%s BAD [TOOBIG] A literal of more than %d octets must wait\r\n", g.cmd.tag, maxAsync))
		return true, g.stop("Literal is too large")
	case l.size > limit && boundary && !l.async:
		g.reply(fmt.Sprintf("%s NO [TOOBIG] A literal is limited to %d octets here\r\n", g.cmd.tag, limit))
		return true, nil
	case l.size > limit:
		return true, g.stop("Literal is too large")
	}
	return false, nil
}

// own carries out the commands that imapserver does not know or cannot do.
func (g *guard) own(cmd command) (handled bool, err error) {
	switch cmd.name {
	case "STARTTLS":
		switch {
		case g.secure, g.authenticated.Load(), strings.TrimSpace(cmd.args) != "":
			g.reply(cmd.tag + " BAD STARTTLS cannot be used here\r\n")
			return true, nil
		case g.c.st.TLS == nil:
			g.reply(cmd.tag + " NO STARTTLS is not available\r\n")
			return true, nil
		case g.br.Buffered() > 0:
			// RFC 9051 6.2.1: what was sent ahead of TLS must not count after it.
			return true, g.stop("Nothing may follow STARTTLS before TLS")
		}
		g.startTLS = true
		g.reply(cmd.tag + " OK Begin TLS negotiation now\r\n")
		return true, errEnd
	case "ID":
		// RFC 2971. Clients send it before login; imapserver would hang up.
		if _, ok, _ := trailingLiteral([]byte(cmd.args)); ok {
			return false, nil
		}
		g.c.log.Debug("client", "id", cmd.args)
		g.reply("* ID (\"name\" \"mailform\")\r\n" + cmd.tag + " OK ID completed\r\n")
		return true, nil
	}
	return false, nil
}

// badLine answers a line that is no command.
func (g *guard) badLine(tag, text string) error {
	if g.bad++; g.bad > g.c.srv.cfg.MaxBadCommands {
		return g.stop("Too many lines that are no commands")
	}
	if tag == "" {
		tag = "*"
	}
	g.reply(tag + " BAD " + text + "\r\n")
	return nil
}

func (g *guard) reply(text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.buf = append(g.buf, text...)
}

// takeAccepted says whether a continuation was written since it was last asked.
func (g *guard) takeAccepted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.accepted
	g.accepted, g.swallow = false, false
	return a
}

// Write implements net.Conn for imapserver, which writes line by line.
func (g *guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(p)
	if g.failed != nil {
		return 0, g.failed
	}
	if g.mute {
		return n, nil
	}
	if g.skipGreeting {
		i := slices.Index(p, '\n')
		if i < 0 {
			return n, nil
		}
		g.skipGreeting = false
		p = p[i+1:]
	}
	if g.lineStart && len(p) > 0 && p[0] == '+' {
		g.accepted = true
		if g.swallow {
			g.swallow = false
			return n, nil
		}
	}
	if g.lineStart && string(p) == "+ =\r\n" {
		p = []byte("+ \r\n") // an empty challenge; "=" is for an empty response, RFC 9051 6.2.2
	}
	if len(p) > 0 {
		g.lineStart = p[len(p)-1] == '\n'
	}
	for len(p) > 0 {
		k := min(len(p), coalesce-len(g.buf))
		g.buf = append(g.buf, p[:k]...)
		p = p[k:]
		if len(g.buf) == coalesce {
			if err := g.flush(); err != nil {
				return 0, err
			}
		}
	}
	if g.reading && g.held == 0 {
		if err := g.flush(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// flush writes what was gathered. The lock is held.
func (g *guard) flush() error {
	if g.failed != nil {
		return g.failed
	}
	if len(g.buf) == 0 {
		return nil
	}
	_ = g.nc.SetWriteDeadline(time.Now().Add(g.c.srv.cfg.Timeouts.Write))
	_, err := g.nc.Write(g.buf)
	g.failed = err
	if g.buf = g.buf[:0]; cap(g.buf) > keepWriteSpace {
		g.buf = nil
	}
	return err
}

// flushBeforeRead flushes unless the client's next line is here already:
// answers to pipelined commands go out together.
func (g *guard) flushBeforeRead() error {
	buffered, _ := g.br.Peek(g.br.Buffered())
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.octets == 0 && bytes.IndexByte(buffered, '\n') >= 0 {
		return g.failed
	}
	return g.flush()
}

// hold gathers output although the reader waits, until the function returned is called.
func (g *guard) hold() (release func()) {
	g.mu.Lock()
	g.held++
	g.mu.Unlock()
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.held--; g.held == 0 {
			_ = g.flush()
		}
	}
}

// abort ends the connection where it is: a response could not be completed.
func (g *guard) abort() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed = net.ErrClosed
	g.buf = nil
	_ = g.nc.SetReadDeadline(time.Unix(1, 0))
}

// Close implements net.Conn for imapserver: its last act.
func (g *guard) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	linger := false
	if g.farewell != "" && g.failed == nil && !g.startTLS {
		g.buf = append(g.buf, "* BYE "+g.farewell+"\r\n"...)
		linger = true
	}
	_ = g.flush()
	linger = linger && g.failed == nil
	g.mu.Unlock()
	if linger {
		g.linger()
	}
	if !g.startTLS {
		_ = g.nc.Close()
	}
	close(g.done)
	return nil
}

// linger lets the client read the BYE: closing while its octets come in would
// reset the connection.
func (g *guard) linger() {
	if cw, ok := g.nc.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
	}
	_ = g.nc.SetReadDeadline(time.Now().Add(g.c.srv.cfg.Timeouts.Linger))
	_, _ = io.CopyN(io.Discard, g.br, 1<<20)
}

func (g *guard) LocalAddr() net.Addr  { return g.nc.LocalAddr() }
func (g *guard) RemoteAddr() net.Addr { return g.nc.RemoteAddr() }

// The guard sets its own deadlines: imapserver's are fixed and count from the
// start of a literal.

func (g *guard) SetDeadline(time.Time) error      { return nil }
func (g *guard) SetReadDeadline(time.Time) error  { return nil }
func (g *guard) SetWriteDeadline(time.Time) error { return nil }
