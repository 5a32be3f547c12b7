package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
	"mailform/providers/host/sshconn"
)

// codeHostKey is the code of a connection that was refused because of the host key.
const codeHostKey = "MF5404"

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
	slots map[string]*slot  // by host name
	also  map[string]string // by host name: a fingerprint that counts beside the target's
}

// slot holds one host's connection. sem makes callers take turns to connect.
type slot struct {
	sem    chan struct{}
	client *client
	old    []*client      // that others have taken the place of: what runs on them goes on
	trust  *sshconn.Trust // what was learned about the host's key in this run
	of     sshconn.Target // what it is about
}

// client is one SSH connection.
type client struct {
	*sshconn.Conn
	t    target
	sudo string // "sudo -n " for users other than root
}

func (c *client) alive() bool {
	select {
	case <-c.Gone():
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
	c, err := s.make(ctx, sl, t, wait, progress)
	if err != nil {
		return nil, err
	}
	sl.client = c
	return c, nil
}

// make makes a new connection to a host. What was learned about its key in this
// run stays learned.
func (s *sessions) make(ctx context.Context, sl *slot, t target, wait patience, progress plan.Progress) (*client, error) {
	of := s.trusted(t)
	settings, err := s.p.SSH.Settings(of)
	if err != nil {
		return nil, configError(t, err)
	}
	if sl.trust == nil || !reflect.DeepEqual(sl.of, of) {
		if sl.trust, err = s.p.SSH.Trust(settings); err != nil {
			return nil, s.p.connectError(t, err, 1, 0)
		}
		sl.of = of
	}
	return s.p.connect(ctx, t, settings, sl.trust, wait, progress)
}

// connect tries until patience ends. A wrong host key ends it at once.
func (p *Provider) connect(ctx context.Context, t target, settings sshconn.Settings, trust *sshconn.Trust, wait patience, progress plan.Progress) (*client, error) {
	start := p.Now()
	tries := 0
	for pause := time.Second; ; pause = min(2*pause, 10*time.Second) {
		tries++
		conn, err := p.SSH.Connect(ctx, settings, trust)
		if err == nil {
			c := &client{Conn: conn, t: t}
			if t.user != "root" {
				c.sudo = "sudo -n "
			}
			return c, p.checkSudo(ctx, c)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var failed *sshconn.Error
		if !errors.As(err, &failed) {
			return nil, err
		}
		limit := wait.network
		switch {
		case failed.Kind == sshconn.KeysRefused || failed.Kind == sshconn.TooManyKeys:
			limit = min(limit, wait.auth)
		case !failed.Kind.Waits():
			limit = 0
		}
		waited := p.Now().Sub(start)
		if waited+pause > limit {
			return nil, p.connectError(t, err, tries, waited)
		}
		if progress != nil {
			progress(fmt.Sprintf("%s does not answer yet (%s)", failed.At.Addr(), failed.Got), 0, 0)
		}
		if err := p.Sleep(ctx, pause); err != nil {
			return nil, err
		}
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
	e := &plan.Error{Class: plan.ErrCredentials, Code: "MF5405", Step: "act as root on " + c.t.String(), Sent: "sudo -n true", Got: out.said()}
	e.Got, e.Fix = sudoTrouble(c.t.user, out)
	return e
}

// sudoTrouble says why sudo does not make a user root, and what to do.
func sudoTrouble(user string, out outcome) (got, fix string) {
	got = out.said()
	fix = fmt.Sprintf("Let %s use sudo without a password (a line %q in /etc/sudoers.d/mailform), or log in as root.", user, user+" ALL=(ALL) NOPASSWD: ALL")
	text := strings.ToLower(out.stderr)
	switch {
	case out.status == 127, strings.Contains(text, "not found"):
		return "sudo is not there: " + got, "Install sudo and let " + user + " use it without a password, or log in as root: ssh { user = \"root\" }."
	case strings.Contains(text, "must have a tty"):
		return "sudo wants a terminal (requiretty): " + got, fmt.Sprintf("Take requiretty out of /etc/sudoers, or add a line %q to /etc/sudoers.d/mailform, or log in as root.", "Defaults:"+user+" !requiretty")
	case strings.Contains(text, "not in the sudoers"), strings.Contains(text, "may not run sudo"), strings.Contains(text, "not allowed"):
		return user + " may not use sudo: " + got, fix
	case strings.Contains(text, "password is required"), strings.Contains(text, "terminal is required"):
		return "sudo asks for a password: " + got, fix
	}
	return got, fix
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
	s, err := c.Open(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return out, ctx.Err()
	case err != nil:
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

func rootCause(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}

func configError(t target, err error) error {
	return &plan.Error{Class: plan.ErrCredentials, Code: "MF5429", Step: "find the way to " + t.String(), Err: err,
		Fix: "Correct it in ~/.ssh/config, or name another file in " + sshconn.ConfigVariable + "; \"none\" uses no configuration."}
}

// connectError says in a plan.Error why there is no connection.
func (p *Provider) connectError(t target, err error, tries int, waited time.Duration) error {
	var failed *sshconn.Error
	if !errors.As(err, &failed) {
		return err
	}
	return p.explain(t, failed, tries, waited)
}

func (p *Provider) explain(t target, failed *sshconn.Error, tries int, waited time.Duration) (e *plan.Error) {
	at := t.String()
	if failed.At.Label != t.label() {
		at = failed.At.String() + " on the way to " + at
	}
	if p.SSH.Config != nil && len(p.SSH.Config.Notes) > 0 {
		defer func() { e.Fix += " Of the SSH configuration, " + strings.Join(p.SSH.Config.Notes, "; ") + "." }()
	}
	e = &plan.Error{Class: plan.ErrCredentials, Code: "MF5407", Step: "log in to " + at, Sent: failed.Sent, Got: failed.Got, Fix: failed.Fix, Err: failed}
	switch {
	case failed.Kind == sshconn.HostKey:
		e.Class, e.Code, e.Step = plan.ErrBlocked, codeHostKey, "connect to "+at
		if t.created && failed.At.Label == t.label() {
			e.Fix = "Someone may be in between, or the machine was set up anew outside mailform. If you did that, compare the key on its console and pin it, ssh { host_key = \"SHA256:…\" }, or replace the instance; do not connect before you know."
		}
	case failed.Kind == sshconn.BadPin:
		e.Class, e.Code, e.Step = plan.ErrSpec, "MF5402", "read the host key of "+at
	case failed.Kind == sshconn.BadKnownHosts:
		e.Class, e.Code, e.Step = plan.ErrFatal, "MF5403", "read known_hosts"
	case failed.Kind.Auth():
	default:
		e.Class, e.Code, e.Step, e.Sent = plan.ErrTransient, "MF5406", "connect to "+at, "SSH to tcp "+failed.At.Addr()
		e.Got = fmt.Sprintf("no connection in %s over %s: %s", counted(tries, "try", "tries"), waited.Round(time.Second), failed.Got)
		e.Fix += " Nothing was changed on it; run the same command again."
		if tries > 1 || !failed.Kind.Waits() {
			// The wait was here; the same once more for each retry would be half an hour.
			e.Class = plan.ErrFatal
		}
		if t.created {
			e.Fix = failed.Fix + " Is the instance running, and is your address within ssh { from }? A machine that has just been made may need a minute. What was made before stays; run the same command again to continue."
		}
	}
	return e
}
