package queue

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"mailform/server/store"
)

// Bounds of what a server may say.
const (
	maxReplyLine  = 2048
	maxReplyLines = 128
)

// smtpReply is a server's answer, RFC 5321 4.2.
type smtpReply struct {
	code     int
	enhanced string // "5.1.1" or ""
	text     string // lines joined by a space, without the codes
	lines    []string
}

func (r smtpReply) String() string {
	s := strconv.Itoa(r.code)
	if r.enhanced != "" {
		s += " " + r.enhanced
	}
	if r.text != "" {
		s += " " + r.text
	}
	return s
}

// readReply reads one reply of at most maxReplyLines lines.
func readReply(r *bufio.Reader) (smtpReply, error) {
	var out smtpReply
	for n := 0; ; n++ {
		if n == maxReplyLines {
			return out, errors.New("reply has too many lines")
		}
		line, err := readLine(r)
		if err != nil {
			return out, err
		}
		if len(line) < 3 {
			return out, fmt.Errorf("malformed reply %q", line)
		}
		code, err := strconv.ParseUint(line[:3], 10, 16)
		if err != nil || code < 200 || code > 599 || n > 0 && int(code) != out.code {
			return out, fmt.Errorf("malformed reply %q", oneLine(line))
		}
		out.code = int(code)
		last := len(line) == 3 || line[3] == ' '
		if !last && line[3] != '-' {
			return out, fmt.Errorf("malformed reply %q", oneLine(line))
		}
		text := ""
		if len(line) > 4 {
			text = line[4:]
		}
		if status, rest, _ := strings.Cut(text, " "); isStatus(status, out.code) {
			out.enhanced, text = status, rest
		}
		text = oneLine(text)
		out.lines = append(out.lines, text)
		if last {
			out.text = oneLine(strings.Join(out.lines, " "))
			return out, nil
		}
	}
}

func readLine(r *bufio.Reader) (string, error) {
	var b []byte
	for {
		part, err := r.ReadSlice('\n')
		b = append(b, part...)
		if len(b) > maxReplyLine {
			return "", errors.New("reply line is too long")
		}
		if err == nil {
			return strings.TrimRight(string(b), "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
	}
}

// isStatus says whether s is an enhanced status code for a reply of that code, RFC 2034 4.
func isStatus(s string, code int) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || parts[0] != strconv.Itoa(code/100) {
		return false
	}
	for _, p := range parts[1:] {
		if len(p) == 0 || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}

// client is a connection to a server that has greeted us.
type client struct {
	server   string // its name, for failures
	conn     net.Conn
	r        *bufio.Reader
	w        *bufio.Writer
	ext      map[string]string // EHLO keyword -> parameters
	tls      bool
	timeouts Timeouts
	stop     func() bool
	used     bool // a message was sent before
	body     bool // a message's text is being sent: it may have arrived though no reply does
}

// security is what a connection must be.
type security struct {
	tls      *tls.Config // for STARTTLS or the implicit kind
	implicit bool        // TLS from the first octet
	required bool        // no TLS, no mail
	never    bool        // even if it is offered: the handshake has failed just now
}

// errConnect says that there is no connection to a server at all.
var errConnect = errors.New("cannot connect")

// errTLS says that a server offers STARTTLS and cannot do it.
var errTLS = errors.New("TLS handshake failed")

// dial connects to h, reads its greeting and introduces us. The connection is
// closed when ctx ends.
func dial(ctx context.Context, cfg *Config, h host, self string, sec security) (*client, error) {
	dialCtx, cancel := context.WithTimeout(ctx, cfg.Timeouts.Dial)
	defer cancel()
	conn, err := cfg.Dial(dialCtx, "tcp", h.addr)
	if err != nil {
		return nil, fmt.Errorf("%w to %s: %w", errConnect, h.addr, err)
	}
	c := &client{server: h.name, conn: conn, timeouts: cfg.Timeouts}
	c.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if sec.implicit {
		if err := c.handshake(ctx, sec.tls); err != nil {
			c.close()
			return nil, err
		}
	} else {
		c.use(conn)
	}
	if err := c.hello(ctx, self, sec); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *client) use(conn net.Conn) {
	c.conn = conn
	c.r = bufio.NewReaderSize(conn, 4096)
	c.w = bufio.NewWriterSize(conn, 16<<10)
}

func (c *client) handshake(ctx context.Context, config *tls.Config) error {
	t := tls.Client(c.conn, config)
	_ = c.conn.SetDeadline(time.Now().Add(c.timeouts.Command))
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: %w", errTLS, err)
	}
	_ = c.conn.SetDeadline(time.Time{})
	c.use(t)
	c.tls = true
	return nil
}

func (c *client) hello(ctx context.Context, self string, sec security) error {
	if err := c.expect("greeting", c.timeouts.Greeting, 2); err != nil {
		return err
	}
	if err := c.ehlo(self); err != nil {
		return err
	}
	if c.tls {
		return nil
	}
	if _, offered := c.ext["STARTTLS"]; !offered || sec.never {
		if sec.required {
			return &failure{enhanced: "4.7.10", remote: c.server, text: "does not offer TLS, which is required"}
		}
		return nil
	}
	r, err := c.command("STARTTLS")
	if err != nil {
		return err
	}
	if r.code != 220 {
		if sec.required {
			return &failure{enhanced: "4.7.10", remote: c.server, reply: r.String(), text: "STARTTLS: " + r.String()}
		}
		return nil
	}
	if c.r.Buffered() > 0 { // said in the clear, to be read as if it were not: CVE-2011-0411
		return fmt.Errorf("%w: the server went on talking", errTLS)
	}
	if err := c.handshake(ctx, sec.tls); err != nil {
		return err
	}
	return c.ehlo(self)
}

// ehlo introduces us, by HELO to a server that does not know EHLO.
func (c *client) ehlo(self string) error {
	c.ext = map[string]string{}
	r, err := c.command("EHLO " + self)
	if err != nil {
		return err
	}
	if r.code/100 == 5 {
		if r, err = c.command("HELO " + self); err != nil {
			return err
		}
		if r.code/100 != 2 {
			return refusal(c.server, "HELO", r)
		}
		return nil
	}
	if r.code/100 != 2 {
		return refusal(c.server, "EHLO", r)
	}
	for _, line := range r.lines[1:] {
		keyword, params, _ := strings.Cut(line, " ")
		c.ext[strings.ToUpper(keyword)] = params
	}
	return nil
}

// auth logs in to a relay; only over TLS, which its security requires.
func (c *client) auth(user, password string) error {
	mechanisms := " " + strings.ToUpper(c.ext["AUTH"]) + " "
	b64 := base64.StdEncoding.EncodeToString
	var steps []string
	switch {
	case strings.Contains(mechanisms, " PLAIN "):
		steps = []string{"AUTH PLAIN " + b64([]byte("\x00"+user+"\x00"+password))}
	case strings.Contains(mechanisms, " LOGIN "):
		steps = []string{"AUTH LOGIN", b64([]byte(user)), b64([]byte(password))}
	default:
		return &failure{enhanced: "4.7.0", remote: c.server, text: "offers neither AUTH PLAIN nor AUTH LOGIN"}
	}
	for i, step := range steps {
		r, err := c.command(step)
		if err != nil {
			return err
		}
		if i < len(steps)-1 && r.code == 334 {
			continue
		}
		if r.code != 235 {
			// Our own configuration is wrong: no reason to return people's mail.
			return &failure{enhanced: "4.7.8", remote: c.server, reply: r.String(), text: "login refused: " + r.String()}
		}
		return nil
	}
	return nil
}

// command sends a line and reads the reply.
func (c *client) command(line string) (smtpReply, error) {
	if err := c.send(line); err != nil {
		return smtpReply{}, err
	}
	return c.read(c.timeouts.Command)
}

// send writes lines, together when there are several.
func (c *client) send(lines ...string) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.timeouts.Command))
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n") {
			return errors.New("command has a line break")
		}
		if _, err := c.w.WriteString(line + "\r\n"); err != nil {
			return err
		}
	}
	return c.w.Flush()
}

func (c *client) read(timeout time.Duration) (smtpReply, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(timeout))
	return readReply(c.r)
}

func (c *client) expect(what string, timeout time.Duration, class int) error {
	r, err := c.read(timeout)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if r.code/100 != class {
		return refusal(c.server, what, r)
	}
	return nil
}

func (c *client) close() {
	c.stop()
	_ = c.conn.Close()
}

// quit takes leave; nothing depends on the answer.
func (c *client) quit() {
	if c.send("QUIT") == nil {
		_, _ = c.read(5 * time.Second)
	}
	c.close()
}

// message is what transaction sends.
type message struct {
	entry store.QueueEntry
	open  func() (io.ReadCloser, error)
}

// errBody says that the message could not be read here.
var errBody = errors.New("read the message")

// transaction sends one message and returns what became of each recipient: nil
// is delivered. An error means that the connection is of no more use; the
// recipients without a verdict then have none.
func (c *client) transaction(m message) (verdicts map[string]*failure, err error) {
	verdicts = map[string]*failure{}
	all := func(f *failure) map[string]*failure {
		for _, r := range m.entry.Recipients {
			verdicts[r] = f
		}
		return verdicts
	}
	if limit, err := strconv.ParseInt(c.ext["SIZE"], 10, 64); err == nil && limit > 0 && m.entry.Size > limit {
		return all(&failure{permanent: true, enhanced: "5.3.4", remote: c.server,
			text: fmt.Sprintf("message has %d octets, the server takes %d", m.entry.Size, limit)}), nil
	}
	mail := "MAIL FROM:<" + m.entry.From + ">"
	if _, ok := c.ext["SIZE"]; ok && m.entry.Size > 0 {
		mail += " SIZE=" + strconv.FormatInt(m.entry.Size, 10)
	}
	if _, ok := c.ext["8BITMIME"]; ok {
		mail += " BODY=8BITMIME"
	}
	commands := []string{mail}
	for _, r := range m.entry.Recipients {
		commands = append(commands, "RCPT TO:<"+r+">")
	}
	_, pipelining := c.ext["PIPELINING"]
	if pipelining { // RFC 2920; a few KiB, which sockets hold
		if err := c.send(commands...); err != nil {
			return verdicts, err
		}
	}
	accepted := 0
	for i, command := range commands {
		if !pipelining {
			if err := c.send(command); err != nil {
				return verdicts, err
			}
		}
		r, err := c.read(c.timeouts.Command)
		if err != nil {
			return verdicts, fmt.Errorf("%s: %w", command[:4], err)
		}
		if i == 0 {
			if r.code == 421 {
				return verdicts, refusal(c.server, "MAIL", r)
			}
			if r.code/100 != 2 {
				all(refusal(c.server, "MAIL", r))
				if !pipelining {
					return verdicts, c.reset()
				}
			}
			continue
		}
		to := m.entry.Recipients[i-1]
		switch {
		case verdicts[to] != nil: // MAIL has failed
		case r.code/100 == 2:
			accepted++
		case r.code == 552: // some say it for 452, too many recipients: RFC 5321 4.5.3.1.10
			verdicts[to] = &failure{enhanced: "4.5.3", remote: c.server, reply: r.String(), text: "RCPT: " + r.String()}
		default:
			verdicts[to] = refusal(c.server, "RCPT", r)
		}
	}
	if accepted == 0 {
		return verdicts, c.reset()
	}
	f, err := c.data(m)
	if err != nil {
		return verdicts, err
	}
	for _, to := range m.entry.Recipients {
		if verdicts[to] == nil {
			verdicts[to] = f
		}
	}
	return verdicts, nil
}

// reset makes the connection ready for the next message.
func (c *client) reset() error {
	r, err := c.command("RSET")
	if err != nil {
		return err
	}
	if r.code/100 != 2 {
		return refusal(c.server, "RSET", r)
	}
	return nil
}

// data sends the message itself.
func (c *client) data(m message) (f *failure, err error) {
	body, err := m.open()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	defer body.Close()
	r, err := c.command("DATA")
	if err != nil {
		return nil, fmt.Errorf("DATA: %w", err)
	}
	if r.code != 354 {
		return refusal(c.server, "DATA", r), c.reset()
	}
	// A message that cannot be read to its end must not be ended either: the
	// connection is dropped instead, and the server forgets it.
	c.body = true
	defer func() { c.body = err != nil }()
	dot := textproto.NewWriter(c.w).DotWriter()
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			_ = c.conn.SetWriteDeadline(time.Now().Add(c.timeouts.Block))
			if _, err := dot.Write(buf[:n]); err != nil {
				return nil, fmt.Errorf("send the message: %w", err)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.timeouts.Block))
	if err := dot.Close(); err != nil {
		return nil, fmt.Errorf("send the message: %w", err)
	}
	r, err = c.read(c.timeouts.Final)
	if err != nil {
		return nil, fmt.Errorf("waiting for the reply to the message: %w", err)
	}
	if r.code/100 != 2 {
		return refusal(c.server, "message", r), nil
	}
	return nil, nil
}
