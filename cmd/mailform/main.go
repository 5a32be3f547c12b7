// Command mailform plans and applies a team's mail system from one spec.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/specs"
)

// version is set by the linker.
var version = "dev"

func main() {
	// On a simulated host this very program stands in for systemctl.
	if hostsim.IsShim(os.Args) {
		os.Exit(hostsim.ShimMain())
	}
	os.Exit(run(os.Args[1:]))
}

// run executes one command line and returns its exit code.
func run(args []string) int {
	app, err := newApp()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mailform:", err)
		return exitError
	}
	return app.run(args)
}

func (a *app) run(args []string) int {
	ctx, stop := a.signals()
	defer stop()
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = a.term.out.lost()
	}
	a.report(err)
	return exitCode(err)
}

// app is what all commands share.
type app struct {
	term *terminal
	env  session.Env
	// stopping is closed by the first ^C: finish what is in flight, begin nothing new.
	stopping chan struct{}
	// graceful says that the running command heeds stopping; others just end.
	graceful atomic.Bool
}

func newApp() (*app, error) {
	dial, err := session.Dialer(os.Getenv)
	if err != nil {
		return nil, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // only "~/" in a spec needs it, and says so
	}
	a := &app{term: openTerminal(os.Getenv), stopping: make(chan struct{})}
	a.env = session.Env{
		Version: version,
		Getenv:  os.Getenv,
		Environ: os.Environ(),
		Home:    home,
		Now:     time.Now,
		Dial:    dial,
		Confirm: a.confirmHostKey,
		Warn:    a.warn,
	}
	if a.term.interactive {
		a.env.Passphrase = a.askPassphrase
	}
	return a, nil
}

// patience is how long the second ^C waits for calls in flight to give up.
const patience = 3 * time.Second

// echo is how soon after the first signal another one is no second request:
// timeout(1) signals its child and then the child's group, closing terminals do alike.
const echo = 200 * time.Millisecond

// signals returns a context that the second ^C (or SIGTERM, or the end of the
// terminal) cancels; the first only closes stopping.
func (a *app) signals() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // nohup's wish
		signal.Notify(ch, syscall.SIGHUP)
	}
	done := make(chan struct{})
	go func() {
		var first time.Time
		for {
			select {
			case <-done:
				return
			case <-ch:
				switch {
				case !a.graceful.Load():
					a.term.restore()
					os.Exit(exitInterrupted)
				case first.IsZero():
					first = time.Now()
					close(a.stopping)
				case time.Since(first) > echo:
					// What is in flight is aborted; the next run finds out what became
					// of it. A call that does not notice must not keep the person waiting.
					cancel()
					time.AfterFunc(patience, func() {
						a.term.restore()
						os.Exit(exitInterrupted)
					})
				}
			}
		}
	}()
	return ctx, func() { signal.Stop(ch); close(done); cancel() }
}

// interruptible returns a context for work that the first ^C may simply end:
// reading, planning, waiting for an answer.
func (a *app) interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	a.graceful.Store(true)
	go func() {
		select {
		case <-a.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// interrupted says so of work that ended because a person wanted it; ctx is
// from interruptible, and nothing that ran under it changes anything.
func interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return &codeError{exitInterrupted, errors.New("interrupted; nothing was changed")}
}

func (a *app) warn(text string) {
	fmt.Fprintln(a.term.err, a.term.style.Yellow("Warning:"), text)
}

func (a *app) confirmHostKey(question string) bool {
	if !a.term.interactive {
		return false
	}
	answer, err := a.term.ask(question + "\nType \"yes\" to trust it: ")
	return err == nil && answer == "yes"
}

// askPassphrase asks for the passphrase of an SSH key file.
func (a *app) askPassphrase(file string, wrong bool) ([]byte, error) {
	if wrong {
		fmt.Fprintln(a.term.err, "That was not it.")
	}
	return a.term.askSecret("Passphrase of " + file + ": ")
}

// report prints what went wrong, with what to do about it.
func (a *app) report(err error) {
	if err == nil || err.Error() == "" {
		return
	}
	var spec *session.SpecError
	if errors.As(err, &spec) {
		specs.WriteDiagnostics(a.term.err, spec.Sources, spec.Diagnostics, a.term.diagnosticWidth(), a.term.errColor)
		return
	}
	for _, e := range flatten(err) {
		a.reportOne(e)
	}
}

func (a *app) reportOne(err error) {
	head := a.term.style.Red("Error:")
	var e *plan.Error
	if !errors.As(err, &e) {
		fmt.Fprintln(a.term.err, head, err)
		return
	}
	if e.Code != "" {
		head = a.term.style.Red("Error " + e.Code + ":")
	}
	fmt.Fprintln(a.term.err, head, e.Step)
	got := e.Got
	if got == "" && e.Err != nil {
		got = e.Err.Error()
	}
	for _, row := range [][2]string{{"sent", e.Sent}, {"got", got}, {"to do", e.Fix}} {
		if row[1] != "" {
			fmt.Fprintf(a.term.err, "  %-5s  %s\n", row[0], a.term.fold(row[1], 9))
		}
	}
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}

// folder returns the stack's folder: the optional last argument, or here.
func folder(args []string) (string, error) {
	dir := "."
	if len(args) > 0 {
		dir = args[len(args)-1]
	}
	if missing(dir) {
		return "", fmt.Errorf("there is no folder %s; name the one that holds the spec's *.hcl files", dir)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("the spec's folder: %w", err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is a file; name the folder that holds the spec's *.hcl files", dir)
	}
	return filepath.Clean(dir), nil
}
