package sshconn

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// proxyCommand runs a person's ProxyCommand and talks through it, as ssh does.
func proxyCommand(ctx context.Context, command string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := &proxyConn{command: exec.Command("/bin/sh", "-c", "exec "+command)}
	p.command.Stderr = &p.said
	p.command.WaitDelay = time.Second
	var err error
	if p.in, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	if p.out, err = p.command.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("ProxyCommand: %w", err)
	}
	return p, nil
}

// proxyConn is a command's input and output as a connection. It knows no
// deadlines: whoever waits too long closes it.
type proxyConn struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     io.ReadCloser
	said    tail
	once    sync.Once
	ended   error
}

func (p *proxyConn) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	return n, p.why(err)
}

func (p *proxyConn) Write(b []byte) (int, error) {
	n, err := p.in.Write(b)
	return n, p.why(err)
}

// why says of a connection that has ended what the command said, or how it ended.
func (p *proxyConn) why(err error) error {
	if err == nil {
		return nil
	}
	p.Close()
	if text := p.said.String(); text != "" {
		return &proxyError{text, err}
	} else if p.ended != nil {
		return &proxyError{p.ended.Error(), err}
	}
	return err
}

// proxyError is a ProxyCommand that has failed.
type proxyError struct {
	said string
	err  error // of the pipe
}

func (e *proxyError) Error() string { return "ProxyCommand: " + e.said }

func (e *proxyError) Unwrap() error { return e.err }

// Close ends the command.
func (p *proxyConn) Close() error {
	p.once.Do(func() {
		p.in.Close()
		// What has ended by itself says why; the rest is told to.
		done := make(chan struct{})
		go func() {
			p.ended = p.command.Wait()
			close(done)
		}()
		patience := time.NewTimer(200 * time.Millisecond)
		defer patience.Stop()
		select {
		case <-done:
		case <-patience.C:
			p.command.Process.Kill()
			<-done
		}
	})
	return nil
}

func (p *proxyConn) LocalAddr() net.Addr              { return proxyAddr{} }
func (p *proxyConn) RemoteAddr() net.Addr             { return proxyAddr{} }
func (p *proxyConn) SetDeadline(time.Time) error      { return nil }
func (p *proxyConn) SetReadDeadline(time.Time) error  { return nil }
func (p *proxyConn) SetWriteDeadline(time.Time) error { return nil }

// proxyAddr is nowhere.
type proxyAddr struct{}

func (proxyAddr) Network() string { return "proxy" }
func (proxyAddr) String() string  { return "proxy" }

// tail keeps the end of what is written to it, without control characters.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const maxTail = 400 // bytes

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-maxTail):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(t.text), "?")))
}
