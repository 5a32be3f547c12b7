package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
)

// Bounds of one attempt to connect, and of the silence on a connection.
const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 20 * time.Second
	keepAliveEvery   = 15 * time.Second
)

// patience is how long connecting is tried before it is given up.
type patience struct {
	network time.Duration // while nothing answers: the machine may be booting
	auth    time.Duration // while it refuses our keys: it may not have read them yet
}

var (
	atOnce      = patience{}
	forInstance = patience{network: 60 * time.Second, auth: 10 * time.Second}
	forBoot     = patience{network: 5 * time.Minute, auth: 30 * time.Second}
)

// sessions are the connections of a run: one per host, used for everything and
// made again when it broke.
type sessions struct {
	p     *Provider
	mu    sync.Mutex
	slots map[string]*slot // by host name
}

// slot holds one host's connection. sem makes callers take turns to connect.
type slot struct {
	sem    chan struct{}
	client *client
	old    []*client // that others have taken the place of: what runs on them goes on
	trust  *trust    // what was learned about the host's key in this run
}

// client is one SSH connection.
type client struct {
	*ssh.Client
	t    target
	sudo string        // "sudo -n " for users other than root
	gone chan struct{} // closed when the connection has ended
}

func (c *client) alive() bool {
	select {
	case <-c.gone:
		return false
	default:
		return true
	}
}

func (s *sessions) slot(host string) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots == nil {
		s.slots = map[string]*slot{}
	}
	sl := s.slots[host]
	if sl == nil {
		sl = &slot{sem: make(chan struct{}, 1)}
		s.slots[host] = sl
	}
	return sl
}

func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.slots {
		sl.sem <- struct{}{}
		for _, c := range append(sl.old, sl.client) {
			if c != nil {
				c.Close()
			}
		}
		sl.client, sl.old = nil, nil
		<-sl.sem
	}
}

// get returns the host's connection and makes it when there is none.
func (s *sessions) get(ctx context.Context, t target, wait patience, progress plan.Progress) (*client, error) {
	sl := s.slot(t.host)
	select {
	case sl.sem <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-sl.sem }()
	if sl.client != nil {
		if sl.client.t == t && sl.client.alive() {
			return sl.client, nil
		}
		sl.client.Close()
		sl.client = nil
	}
	if sl.trust == nil || sl.trust.t != t {
		tr, err := s.p.trustFor(t)
		if err != nil {
			return nil, err
		}
		sl.trust = tr
	}
	c, err := s.p.connect(ctx, sl.trust, wait, progress)
	if err != nil {
		return nil, err
	}
	sl.client = c
	return c, nil
}

// connect tries until patience ends. A wrong host key ends it at once.
func (p *Provider) connect(ctx context.Context, tr *trust, wait patience, progress plan.Progress) (*client, error) {
	start := p.Now()
	tries := 0
	for pause := time.Second; ; pause = min(2*pause, 10*time.Second) {
		tries++
		conn, err := p.handshake(ctx, tr)
		if err == nil {
			c := &client{Client: conn, t: tr.t, gone: make(chan struct{})}
			if tr.t.user != "root" {
				c.sudo = "sudo -n "
			}
			go func() {
				conn.Wait()
				close(c.gone)
			}()
			go c.keepAlive()
			return c, p.checkSudo(ctx, c)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, errHostKey) {
			return nil, tr.refused()
		}
		auth := isAuthError(err)
		limit := wait.network
		if auth {
			limit = min(limit, wait.auth)
		}
		if auth && len(p.Signers()) == 0 {
			limit = 0 // no wait brings a key
		}
		waited := p.Now().Sub(start)
		if waited+pause > limit {
			if auth {
				return nil, p.refusedUs(tr.t, err)
			}
			return nil, unreachable(tr.t, err, tries, waited)
		}
		if progress != nil {
			progress(fmt.Sprintf("%s does not answer yet (%s)", tr.t.addr(), rootCause(err)), 0, 0)
		}
		if err := p.Sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// handshake makes one connection, and further ones only to be shown the kind of
// host key that is pinned.
func (p *Provider) handshake(ctx context.Context, tr *trust) (*ssh.Client, error) {
	tr.shown = nil
	var refused error
	for _, algorithms := range tr.families() {
		c, err := p.handshakeWith(ctx, tr, algorithms)
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, errHostKey):
			refused = err
			if tr.print == "" && tr.keys == nil {
				return nil, err // a person has said no; do not ask about the next key
			}
		case strings.Contains(err.Error(), "no common algorithm for host key"):
			refused = errHostKey // it has no key of the kind that is expected
		default:
			return nil, err
		}
	}
	return nil, refused
}

func (p *Provider) handshakeWith(ctx context.Context, tr *trust, algorithms []string) (*ssh.Client, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.Dial(dialCtx, "tcp", tr.t.addr())
	if err != nil {
		return nil, err
	}
	// ssh.ClientConfig.Timeout does not bound the handshake: a server that
	// accepts and says nothing would hold us for ever.
	shakeCtx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(shakeCtx, func() { conn.Close() })
	var keyErr error
	c, chans, reqs, err := ssh.NewClientConn(conn, tr.t.addr(), &ssh.ClientConfig{
		User: tr.t.user,
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return p.Signers(), nil })},
		HostKeyCallback: func(name string, remote net.Addr, key ssh.PublicKey) error {
			keyErr = tr.check(name, remote, key)
			return keyErr
		},
		HostKeyAlgorithms: algorithms,
		ClientVersion:     "SSH-2.0-mailform",
	})
	if err != nil {
		stop()
		conn.Close()
		if keyErr != nil {
			return nil, keyErr
		}
		if shakeCtx.Err() != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("no SSH handshake within %s", handshakeTimeout)
		}
		return nil, err
	}
	if !stop() {
		c.Close()
		return nil, fmt.Errorf("no SSH handshake within %s", handshakeTimeout)
	}
	return ssh.NewClient(c, chans, reqs), nil
}

// keepAlive ends a connection whose other side is silent.
func (c *client) keepAlive() {
	tick := time.NewTicker(keepAliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.gone:
			return
		case <-tick.C:
		}
		answered := make(chan error, 1)
		go func() {
			_, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		}()
		late := time.NewTimer(keepAliveEvery)
		select {
		case err := <-answered:
			late.Stop()
			if err == nil {
				continue
			}
		case <-c.gone:
			late.Stop()
			return
		case <-late.C:
		}
		c.Close()
		return
	}
}

// checkSudo makes sure that a user other than root can act as root.
func (p *Provider) checkSudo(ctx context.Context, c *client) error {
	if c.sudo == "" {
		return nil
	}
	out, err := c.exec(ctx, "true", nil, nil)
	if err == nil && out.status == 0 {
		return nil
	}
	defer c.Close()
	if err != nil {
		return err
	}
	return &plan.Error{
		Class: plan.ErrCredentials, Code: "MF5405", Step: "act as root on " + c.t.String(), Sent: "sudo -n true", Got: out.said(),
		Fix: fmt.Sprintf("Let %s use sudo without a password (a line %q in /etc/sudoers.d/mailform), or log in as root.", c.t.user, c.t.user+" ALL=(ALL) NOPASSWD: ALL"),
	}
}

// outcome is how a remote command ended.
type outcome struct {
	stdout []byte
	stderr string
	status int
}

// said is what a failed command wrote, for people.
func (o outcome) said() string {
	text := strings.TrimSpace(o.stderr)
	if text == "" {
		text = "it said nothing"
	}
	return fmt.Sprintf("exit status %d: %s", o.status, text)
}

// Bounds of what a remote command may write.
const (
	maxStdout = 64 << 20
	maxStderr = 16 << 10
)

// errNotSent says that a connection was found broken before anything was asked.
var errNotSent = errors.New("the connection broke before the command was sent")

// exec runs one command as root. stdin is what it reads; lines, when given,
// receives its output line by line and may answer on the writer it is given.
func (c *client) exec(ctx context.Context, command string, stdin io.Reader, lines func([]byte, io.Writer) error) (outcome, error) {
	var out outcome
	s, err := c.NewSession()
	if err != nil {
		return out, fmt.Errorf("%w: %w", errNotSent, err)
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	in, err := s.StdinPipe()
	if err != nil {
		return out, err
	}
	stdout, err := s.StdoutPipe()
	if err != nil {
		return out, err
	}
	stderr := &bounded{max: maxStderr}
	s.Stderr = stderr
	if err := s.Start(c.sudo + command); err != nil {
		return out, fmt.Errorf("%w: %w", errNotSent, err)
	}
	go func() {
		// A command that ends without reading all has read what it wanted: its
		// exit status tells, and ends this copy.
		if stdin != nil {
			io.Copy(in, stdin)
		}
		if lines == nil { // otherwise lines may have something to say
			in.Close()
		}
	}()
	var readErr error
	if lines == nil {
		out.stdout, readErr = io.ReadAll(io.LimitReader(stdout, maxStdout))
	} else {
		readErr = eachLine(stdout, func(line []byte) error { return lines(line, in) })
		in.Close()
	}
	// What is left over is thrown away, so that the command can end.
	io.Copy(io.Discard, stdout)
	err = s.Wait()
	out.stderr = stderr.String()
	var exit *ssh.ExitError
	switch {
	case ctx.Err() != nil:
		return out, ctx.Err()
	case errors.As(err, &exit):
		out.status = exit.ExitStatus()
	case err != nil:
		return out, fmt.Errorf("the connection broke: %w", err)
	}
	return out, readErr
}

// bounded keeps the beginning of what is written to it, without control
// characters that a terminal would act on.
type bounded struct {
	mu  sync.Mutex
	b   strings.Builder
	max int
}

func (w *bounded) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range p {
		if w.b.Len() < w.max && (c >= ' ' && c != 0x7f || c == '\n' || c == '\t') {
			w.b.WriteByte(c)
		}
	}
	return len(p), nil
}

func (w *bounded) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ToValidUTF8(w.b.String(), "?")
}

// maxLine bounds one line of output: the result of a converge with thousands of
// first passwords.
const maxLine = 16 << 20

func eachLine(r io.Reader, do func([]byte) error) error {
	sc := newLineScanner(r)
	for sc.Scan() {
		if err := do(sc.Bytes()); err != nil {
			return err
		}
	}
	return sc.Err()
}

func isAuthError(err error) bool {
	return strings.Contains(err.Error(), "unable to authenticate")
}

func rootCause(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}

func unreachable(t target, err error, tries int, waited time.Duration) error {
	e := &plan.Error{
		Class: plan.ErrTransient, Code: "MF5406", Step: "connect to " + t.String(),
		Sent: "SSH to tcp " + t.addr(),
		Got:  fmt.Sprintf("no connection in %d tries over %s: %s", tries, waited.Round(time.Second), rootCause(err)),
		Err:  err,
		Fix:  "Is the machine up, and may your address reach its SSH port? Nothing was changed on it; run the same command again.",
	}
	if tries > 1 {
		// The wait was here; the same once more for each retry would be half an hour.
		e.Class = plan.ErrFatal
	}
	if t.created {
		e.Fix = "Is the instance running, and is your address within ssh { from }? A machine that has just been made may need a minute. What was made before stays; run the same command again to continue."
	}
	return e
}

func (p *Provider) refusedUs(t target, err error) error {
	var offered []string
	for _, s := range p.Signers() {
		offered = append(offered, ssh.FingerprintSHA256(s.PublicKey()))
	}
	e := &plan.Error{
		Class: plan.ErrCredentials, Code: "MF5407", Step: "log in to " + t.String(),
		Sent: "public keys " + strings.Join(offered, ", "), Got: "none of them is accepted", Err: err,
		Fix: "Load a key that the machine knows into your SSH agent, or name its file in MAILFORM_SSH_KEY.",
	}
	if len(offered) == 0 {
		e.Sent, e.Got = "", "there is no SSH key to offer"
		e.Fix = "Start an SSH agent and load your key (ssh-add), or name a key file in MAILFORM_SSH_KEY."
	}
	return e
}
