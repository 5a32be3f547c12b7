package host

import (
	"context"
	"errors"
	"io"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
)

// Shell is a person's own session on a host.
type Shell struct {
	Command        string // "" is the login shell
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	Terminal *Terminal // nil: none is wanted there
}

// Terminal is what the other side has to know of the one here.
type Terminal struct {
	Type          string // TERM
	Width, Height int
	UTF8          bool          // a key that erases takes a whole character away
	Resized       <-chan [2]int // width and height, when they change
}

// statusSignalled is the exit status of what ended without one, as ssh has it.
const statusSignalled = 255

// Shell connects as for everything else, its host key verified in the same way, and
// gives the person a session. It returns the exit status of what ran there. agent
// and known are as for Inspect.
func (p *Provider) Shell(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool), sh Shell) (status int, err error) {
	host := agent.Address.Segments()[1]
	t, ok := p.readTarget(targetInput(host, agent.Attrs.Resolve(known)))
	if !ok {
		return 0, noAddress(host)
	}
	p.remember(t)
	c, err := p.sessions.get(ctx, t, atOnce, nil)
	if err != nil {
		return 0, err
	}
	s, err := c.Open(ctx)
	if err != nil {
		return 0, shellError(t, err)
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	s.Stdout, s.Stderr = sh.Stdout, sh.Stderr
	// What is typed is copied by us: a read from the keyboard cannot be ended, and
	// the session must not wait for it.
	stdin, err := s.StdinPipe()
	if err != nil {
		return 0, err
	}
	if term := sh.Terminal; term != nil {
		modes := ssh.TerminalModes{}
		if term.UTF8 {
			modes[ssh.IUTF8] = 1
		}
		if err := s.RequestPty(term.Type, term.Height, term.Width, modes); err != nil {
			return 0, shellError(t, err)
		}
		done := make(chan struct{})
		defer close(done)
		go func() {
			for {
				select {
				case <-done:
					return
				case size := <-term.Resized:
					_ = s.WindowChange(size[1], size[0])
				}
			}
		}()
	}
	if sh.Command == "" {
		err = s.Shell()
	} else {
		err = s.Start(sh.Command)
	}
	if err != nil {
		return 0, shellError(t, err)
	}
	go func() {
		_, _ = io.Copy(stdin, sh.Stdin)
		_ = stdin.Close()
	}()
	err = s.Wait()
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case errors.As(err, &exit):
		if exit.Signal() != "" {
			return statusSignalled, nil
		}
		return exit.ExitStatus(), nil
	case errors.As(err, &missing):
		return statusSignalled, nil
	case err != nil:
		return 0, shellError(t, err)
	}
	return 0, nil
}

func shellError(t target, err error) error {
	return &plan.Error{Code: "MF5428", Step: "open a session on " + t.String(), Err: err,
		Fix: "The host may allow no shell or no terminal for this user; a single command may still work: mailform ssh " + t.host + " -- COMMAND"}
}
