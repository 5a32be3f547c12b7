package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mailform/providers/host"
)

func (a *app) sshCommand() *cobra.Command {
	var stack stackFlags
	var show bool
	c := &cobra.Command{
		Use:   "ssh [HOST] [FOLDER] [-- COMMAND…]",
		Short: "log in to a host whose key is verified as apply does it",
		Long: `ssh opens a session on a host, or runs a command there. Address, user, keys, jump
hosts and proxies are those of apply, and so is the check of the host's key: it needs
no known_hosts entry and no ssh program. It ends with the status of what ran there.

--print prints the command line that lets OpenSSH's own ssh do the same, for scp,
rsync and forwarded ports; a SOCKS proxy in ALL_PROXY is not in it.`,
		Example: `  mailform ssh
  mailform ssh mx1 -- df -h /var/lib/mailform`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			var command []string
			if at := c.ArgsLenAtDash(); at >= 0 {
				args, command = args[:at], args[at:]
			}
			if len(args) > 2 {
				return fmt.Errorf("got %s; expected: mailform %s", count(len(args), "argument"), c.Use)
			}
			hosts, args := hostArgument(args)
			s, err := a.open(&stack, args, false)
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			name := strings.Join(hosts, "")
			if show {
				r, err := s.Route(ctx, name)
				if err != nil {
					return interrupted(ctx, err)
				}
				_, err = fmt.Fprintln(a.term.out, sshLine(r))
				return err
			}
			sh := host.Shell{Command: strings.Join(command, " "), Stdin: os.Stdin, Stdout: a.term.out, Stderr: a.term.err}
			if len(command) == 0 && a.term.interactive && a.term.live {
				back, err := a.takeTerminal(&sh)
				if err != nil {
					return err
				}
				defer back()
			}
			status, err := s.Shell(ctx, name, sh)
			if err != nil && ctx.Err() != nil {
				return &codeError{exitInterrupted, errors.New("interrupted")}
			}
			if err != nil {
				return err
			}
			if status != 0 {
				return &codeError{code: status}
			}
			return nil
		},
	}
	stack.add(c)
	c.Flags().BoolVar(&show, "print", false, "print a command line for OpenSSH's ssh instead")
	return c
}

// takeTerminal hands the terminal to the other side, and returns what gives it back.
func (a *app) takeTerminal(sh *host.Shell) (back func(), err error) {
	in, out := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	width, height, err := term.GetSize(out)
	if err != nil {
		return nil, fmt.Errorf("the terminal's size: %w", err)
	}
	resized := make(chan [2]int, 1)
	changes, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(changes, syscall.SIGWINCH)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changes:
				if w, h, err := term.GetSize(out); err == nil {
					select {
					case resized <- [2]int{w, h}:
					case <-done:
						return
					}
				}
			}
		}
	}()
	kind := a.env.Getenv("TERM")
	if kind == "" {
		kind = "vt100"
	}
	locale := cmp.Or(a.env.Getenv("LC_ALL"), a.env.Getenv("LC_CTYPE"), a.env.Getenv("LANG"))
	utf8 := strings.Contains(strings.ReplaceAll(strings.ToLower(locale), "-", ""), "utf8")
	sh.Terminal = &host.Terminal{Type: kind, Width: width, Height: height, UTF8: utf8, Resized: resized}
	// Only once the session begins: until then a passphrase may be asked for and ^C ends it.
	raw := &rawOnce{fd: in}
	sh.Stdin = raw
	return func() {
		signal.Stop(changes)
		close(done)
		raw.restore()
	}, nil
}

// rawOnce is the keyboard. From its first reading on, every key goes to the other
// side as it is.
type rawOnce struct {
	fd int

	mu    sync.Mutex
	ended bool
	state *term.State
}

func (r *rawOnce) Read(b []byte) (int, error) {
	if err := r.begin(); err != nil {
		return 0, err
	}
	return os.Stdin.Read(b)
}

func (r *rawOnce) begin() (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended:
		return io.EOF
	case r.state == nil:
		r.state, err = term.MakeRaw(r.fd)
	}
	return err
}

func (r *rawOnce) restore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended = true; r.state != nil {
		_ = term.Restore(r.fd, r.state)
	}
}

// sshLine is the command line of OpenSSH that accepts exactly the key that was
// verified: KnownHostsCommand gives it, and no file is read.
func sshLine(r host.Route) string {
	words := []string{"ssh", "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=none", "-o", "GlobalKnownHostsFile=none",
		"-o", "KnownHostsCommand=/bin/echo " + r.KnownHosts, "-l", r.User, "-p", strconv.Itoa(r.Port)}
	if len(r.Jumps) > 0 {
		words = append(words, "-J", strings.Join(r.Jumps, ","))
	}
	if r.ProxyCommand != "" { // ssh_config(5): it expands tokens, of which none is left
		words = append(words, "-o", "ProxyCommand="+strings.ReplaceAll(r.ProxyCommand, "%", "%%"))
	}
	for _, file := range r.Identities {
		words = append(words, "-i", file)
	}
	words = append(words, r.Address)
	for i, w := range words {
		words[i] = shellQuote(w)
	}
	return strings.Join(words, " ")
}
