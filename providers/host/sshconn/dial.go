package sshconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Bounds of one attempt to connect, and of the silence on a connection.
const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 20 * time.Second
	keepAliveEvery   = 7 * time.Second // a dead peer is noticed after 14 to 28 s
)

// Env is what connections take from their surroundings.
type Env struct {
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	Config *Config             // nil says nothing
	Getenv func(string) string // of the person; nil has nothing
	Home   string              // "" when there is none
	User   string              // the person's own login name
	Key    string              // a key file that is offered before all others; "" for none
	Keys   *Keys

	KnownHosts       []string // files when the configuration names none
	GlobalKnownHosts []string // files that are read as well
	// Confirm asks the person whether an unknown machine's key is right. It is asked
	// only when nothing names a key. nil is "no".
	Confirm func(machine, fingerprint string) bool
}

func (e *Env) getenv(name string) string {
	if e.Getenv == nil {
		return ""
	}
	return e.Getenv(name)
}

// Public are the public keys that would be offered to a machine, in
// authorized_keys format.
func (e *Env) Public(s Settings) []string { return e.Keys.Public(s) }

// Conn is one connection. It ends when the other side is silent.
type Conn struct {
	*ssh.Client
	Settings Settings
	HostKey  ssh.PublicKey // what the machine has shown, a certificate perhaps

	meter *meter
	hops  []*ssh.Client
	gone  chan struct{}
}

// Gone is closed when the connection has ended.
func (c *Conn) Gone() <-chan struct{} { return c.gone }

// Open opens a session, and gives up when ctx ends or the connection has. The
// library's NewSession takes no context, and waits forever for an answer when the
// connection ends just before it begins to listen for one.
func (c *Conn) Open(ctx context.Context) (*ssh.Session, error) {
	type opened struct {
		s   *ssh.Session
		err error
	}
	done := make(chan opened, 1)
	go func() {
		s, err := c.Client.NewSession()
		done <- opened{s, err}
	}()
	select {
	case o := <-done:
		return o.s, o.err
	case <-c.gone:
		return nil, net.ErrClosed
	case <-ctx.Done():
		go func() {
			if o := <-done; o.s != nil {
				o.s.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// Moved counts what has gone over the connection in both directions, in bytes.
func (c *Conn) Moved() int64 { return c.meter.moved.Load() }

// Connect makes one connection, and further ones only to be shown the kind of
// host key that is expected. The error is an *Error unless ctx ended.
func (e *Env) Connect(ctx context.Context, s Settings, t *Trust) (*Conn, error) {
	var hops []*ssh.Client
	closeHops := func() {
		for i := len(hops) - 1; i >= 0; i-- {
			hops[i].Close()
		}
	}
	dial := e.Dial
	if s.ProxyCommand != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return proxyCommand(ctx, s.ProxyCommand) }
	}
	for i, hop := range s.Jumps {
		if i == 0 && hop.ProxyCommand != "" {
			dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return proxyCommand(ctx, hop.ProxyCommand) }
		}
		trust, err := e.Trust(hop)
		if err == nil {
			var c *ssh.Client
			if c, _, err = e.open(ctx, dial, hop, trust); err == nil {
				hops = append(hops, c)
				dial = through(c)
				continue
			}
		}
		closeHops()
		return nil, err
	}
	client, m, err := e.open(ctx, dial, s, t)
	if err != nil {
		closeHops()
		return nil, err
	}
	c := &Conn{Client: client, Settings: s, HostKey: t.Key, meter: m, hops: hops, gone: make(chan struct{})}
	go func() {
		client.Wait()
		closeHops()
		close(c.gone)
	}()
	go c.keepAlive()
	return c, nil
}

// through dials from a jump host.
func through(c *ssh.Client) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := c.DialContext(ctx, network, addr)
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			if refused.Reason == ssh.Prohibited {
				return nil, fmt.Errorf("the jump host does not forward (AllowTcpForwarding): %s", refused.Message)
			}
			return nil, fmt.Errorf("from the jump host: %s", strings.ToLower(refused.Message))
		}
		return conn, err
	}
}

// open makes one SSH connection over what dial gives.
func (e *Env) open(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), s Settings, t *Trust) (*ssh.Client, *meter, error) {
	t.shown, t.reason, t.fix = nil, "", ""
	var refused error
	for _, algorithms := range t.families() {
		expected := t.expects()
		c, m, err := e.handshake(ctx, dial, s, t, algorithms)
		switch {
		case err == nil:
			return c, m, nil
		case errors.Is(err, errHostKey):
			refused = err
			if !expected {
				return nil, nil, t.refused() // a person has said no; do not ask about the next key
			}
		case strings.Contains(err.Error(), "no common algorithm for host key"):
			refused = errHostKey // it has no key of the kind that is expected
		default:
			return nil, nil, err
		}
	}
	if refused == nil {
		return nil, nil, ctx.Err()
	}
	return nil, nil, t.refused()
}

// handshake is one attempt, and another one when the server lost its patience
// while the person was asked something.
func (e *Env) handshake(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), s Settings, t *Trust, algorithms []string) (*ssh.Client, *meter, error) {
	for again := false; ; again = true {
		c, m, asked, err := e.attempt(ctx, dial, s, t, algorithms)
		var known *Error
		if err == nil || again || !asked || ctx.Err() != nil || errors.As(err, &known) && !known.Kind.Waits() || errors.Is(err, errHostKey) {
			return c, m, err
		}
	}
}

func (e *Env) attempt(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), s Settings, t *Trust, algorithms []string) (_ *ssh.Client, m *meter, asked bool, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := dial(dialCtx, "tcp", s.Addr())
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, false, ctx.Err()
		}
		if dialCtx.Err() != nil {
			err = dialCtx.Err()
		}
		return nil, nil, false, dialError(s, err)
	}
	m = &meter{Conn: raw}
	// ssh.ClientConfig.Timeout does not bound the handshake: a server that
	// accepts and says nothing would hold us for ever. A person may take his time.
	late := &alarm{ring: func() { raw.Close() }}
	late.set(handshakeTimeout)
	defer late.stop()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	person := func(ask func()) {
		asked = true
		late.stop()
		ask()
		late.set(handshakeTimeout)
	}
	var keyErr error
	offered := e.Keys.offer(s, person)
	c, chans, reqs, err := ssh.NewClientConn(m, s.Addr(), &ssh.ClientConfig{
		User: s.User,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(offered.signers...)},
		HostKeyCallback: func(name string, remote net.Addr, key ssh.PublicKey) error {
			if t.expects() {
				keyErr = t.check(name, remote, key)
			} else {
				person(func() { keyErr = t.check(name, remote, key) })
			}
			return keyErr
		},
		HostKeyAlgorithms: algorithms,
		ClientVersion:     "SSH-2.0-mailform",
	})
	if err == nil && ctx.Err() == nil && !late.rang() {
		return ssh.NewClient(c, chans, reqs), m, asked, nil
	}
	raw.Close()
	switch {
	case ctx.Err() != nil:
		return nil, nil, asked, ctx.Err()
	case keyErr != nil:
		return nil, nil, asked, keyErr
	case err == nil: // the alarm rang in the last moment
		err = context.DeadlineExceeded
	case strings.Contains(err.Error(), "no common algorithm for host key"):
		return nil, nil, asked, err
	}
	failed := handshakeError(s, err, m, offered.fingerprints(), late.rang())
	if failed.Kind.Auth() && len(offered.locked) > 0 {
		files := strings.Join(offered.locked, ", ")
		failed.Got += "; not offered, because encrypted and there is nobody at a terminal to ask: " + files
		failed.Fix = "Load the key into an SSH agent (ssh-add " + offered.locked[0] + "), or run mailform at a terminal. " + failed.Fix
	}
	if errors.Is(err, errLocked) {
		failed.Kind, failed.Got, failed.Fix = KeysRefused, rootCause(err), "Give the key's passphrase, or load the key into an SSH agent (ssh-add)."
	}
	return nil, nil, asked, failed
}

// alarm rings once when a time has passed.
type alarm struct {
	ring  func()
	mu    sync.Mutex
	timer *time.Timer
	done  bool
}

func (a *alarm) set(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timer = time.AfterFunc(d, func() {
		a.mu.Lock()
		a.done = true
		a.mu.Unlock()
		a.ring()
	})
}

func (a *alarm) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
	}
}

func (a *alarm) rang() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done
}

// meter counts what goes over a connection and keeps the beginning of what came.
type meter struct {
	net.Conn
	moved atomic.Int64

	mu    sync.Mutex
	first []byte
}

// maxFirst is how much of the beginning is kept, in bytes.
const maxFirst = 80

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	if m.moved.Add(int64(n)); n > 0 {
		m.mu.Lock()
		m.first = append(m.first, b[:min(n, maxFirst-len(m.first))]...)
		m.mu.Unlock()
	}
	return n, err
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	m.moved.Add(int64(n))
	return n, err
}

func (m *meter) begin() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	line, _, _ := strings.Cut(string(m.first), "\n")
	return strings.TrimSpace(line)
}

// keepAlive ends a connection whose other side is silent: nothing has moved for
// two periods while an answer was owed. On a slow link the question waits behind
// what is being sent, so that its answer alone says nothing.
func (c *Conn) keepAlive() {
	tick := time.NewTicker(keepAliveEvery)
	defer tick.Stop()
	answered := make(chan error, 1)
	owed, silent, last := false, 0, c.Moved()
	for {
		select {
		case <-c.gone:
			return
		case err := <-answered:
			owed, silent = false, 0
			if err == nil {
				continue
			}
			c.Close()
			return
		case <-tick.C:
		}
		if moved := c.Moved(); moved != last || !owed {
			silent, last = 0, moved
		} else if silent++; silent == 2 {
			c.Close()
			return
		}
		if !owed {
			owed = true
			go func() {
				_, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
				answered <- err
			}()
			last = c.Moved()
		}
	}
}

// Close ends the connection and those of the jump hosts.
func (c *Conn) Close() error {
	err := c.Client.Close()
	for i := len(c.hops) - 1; i >= 0; i-- {
		c.hops[i].Close()
	}
	return err
}
