package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mailform/apply"
	"mailform/cmd/mailform/internal/rehearsal"
	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
	"mailform/specs"
)

// rehearsalResult is the document of `mailform rehearse --json`. Keys that do
// not apply are left out.
type rehearsalResult struct {
	FormatVersion int              `json:"format_version"` // 1
	OK            bool             `json:"ok"`             // whether every step succeeded
	Millis        int64            `json:"elapsed_ms"`     // of all steps
	Steps         []rehearsal.Step `json:"steps"`          // in order, up to the first that failed
	Kept          string           `json:"kept,omitempty"` // the folder with everything a failed rehearsal wrote
}

func (a *app) rehearseCommand() *cobra.Command {
	var stack stackFlags
	var keep, asJSON, faults bool
	var only []string
	c := &cobra.Command{
		Use:   "rehearse [FOLDER]",
		Short: "apply the spec to a simulated world, send real mail, destroy it again",
		Long: `rehearse starts a simulated cloud, DNS, certificate authority and host on this
machine, applies the spec to them, delivers and reads mail through the real
server, checks DKIM and the certificate, and destroys everything. It needs no
account, no privilege and no network.

With --faults it goes through the bad days of that world instead: calls that are
throttled, fail, are carried out but not answered; lists that are late or cut
short; credentials that expire, quotas, things sold out, a zone that is not
delegated, connections that break, a full disk. Each has to end in the world of a
good day, with nothing made twice and nothing of others touched.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			opts, err := stack.options(args)
			if err != nil {
				return err
			}
			if faults {
				return a.rehearseFaults(ctx, opts, only, asJSON)
			}
			work, err := os.MkdirTemp("", "mailform-rehearsal-")
			if err != nil {
				return err
			}
			log, err := os.OpenFile(filepath.Join(work, "world.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			if err != nil {
				return err
			}
			defer log.Close()
			show := &stepPrinter{app: a, quiet: asJSON}
			begun := time.Now()
			r, err := rehearsal.Run(ctx, rehearsal.Config{
				Env: a.env, Dir: opts.Dir, Vars: opts.Vars, VarFiles: opts.VarFiles,
				Work: work, Log: log, Begin: show.begin, End: show.end, Plan: show.plan, Apply: show.apply, Stop: a.stopping,
			})
			switch {
			case err == nil && keep:
				a.printKept(r)
				<-ctx.Done()
			case err == nil:
				err = r.Destroy(ctx)
			}
			// After a failure or ^C the world is taken down without ceremony: there is
			// nothing of it outside this process and its folder.
			r.Close()
			result := rehearsalResult{FormatVersion: 1, OK: err == nil, Millis: time.Since(begun).Milliseconds(), Steps: show.steps}
			var spec *session.SpecError
			broken, stopped := errors.As(err, &spec), failedCode(err) == exitInterrupted
			if err != nil && !broken && !stopped {
				result.Kept = work
			}
			if asJSON {
				enc := json.NewEncoder(a.term.out)
				enc.SetIndent("", "  ")
				if jerr := enc.Encode(result); jerr != nil {
					return jerr
				}
			}
			if err != nil {
				if broken {
					a.report(spec)
					return &codeError{exitSpec, os.RemoveAll(work)}
				}
				if stopped {
					return &codeError{exitInterrupted, errors.Join(errors.New("interrupted; the simulated world is gone"), os.RemoveAll(work))}
				}
				if !asJSON {
					fmt.Fprintf(a.term.out, "\nThe rehearsal failed after %s. Everything it wrote is in %s\n", round(time.Since(begun)), work)
				}
				return &codeError{code: failedCode(err)}
			}
			if !asJSON {
				fmt.Fprintf(a.term.out, "\nThe rehearsal succeeded in %s: %d steps.\n", round(time.Since(begun)), len(show.steps))
			}
			return os.RemoveAll(work)
		},
	}
	stack.add(c)
	c.Flags().BoolVar(&keep, "keep", false, "leave it running until ^C and print how to connect")
	c.Flags().BoolVar(&asJSON, "json", false, "print the steps, or the bad days, as JSON")
	c.Flags().BoolVar(&faults, "faults", false, "go through the simulated world's bad days")
	c.Flags().StringArrayVar(&only, "only", nil, "with --faults, only those with a name like this `glob`: 'cloudflare/*', '*/lost' (repeatable)")
	c.MarkFlagsMutuallyExclusive("keep", "faults")
	return c
}

// failedCode is the exit code of a failed rehearsal: ^C stays 130.
func failedCode(err error) int {
	if code := exitCode(err); code == exitInterrupted {
		return code
	}
	return exitError
}

// printKept says how to reach a world that was left running.
func (a *app) printKept(r *rehearsal.Rehearsal) {
	env := filepath.Join(r.World.Dir(), "env")
	fmt.Fprintf(a.term.out, "\nThe simulated world keeps running; ^C destroys it. In another terminal:\n\n  . %s\n\n", env)
	for _, h := range r.Spec.Hosts {
		fmt.Fprintf(a.term.out, "  curl --url imaps://%s/INBOX --user '%s'\n", h.Hostname, firstLogin(r, h))
		fmt.Fprintf(a.term.out, "  ssh -i %s -o ProxyCommand='nc -x %s %%h %%p' %s@%s\n", r.World.OperatorKey(), r.World.Proxy(), h.SSH.User, h.Hostname)
	}
	fmt.Fprintf(a.term.out, "\n  mailboxes:\n")
	for _, box := range sortedNames(r.Passwords) {
		fmt.Fprintf(a.term.out, "    %-30s  %s\n", box, r.Passwords[box])
	}
}

func firstLogin(r *rehearsal.Rehearsal, h *specs.Host) string {
	for _, d := range r.Spec.Domains {
		if d.Host != h.Name {
			continue
		}
		for _, m := range d.Mailboxes {
			address := m.Local + "@" + d.Name
			return address + ":" + r.Passwords[address]
		}
	}
	return ""
}

// stepPrinter prints a rehearsal's steps with their durations.
type stepPrinter struct {
	app   *app
	quiet bool
	steps []rehearsal.Step
}

const stepNameWidth = 56

func (s *stepPrinter) begin(string) {}

func (s *stepPrinter) end(step rehearsal.Step) {
	s.steps = append(s.steps, step)
	if s.quiet {
		return
	}
	t := s.app.term
	mark := t.outStyle.Green("✓")
	if !step.OK {
		mark = t.outStyle.Red("✗")
	}
	fmt.Fprintf(t.out, "%s %2d  %-*s %9s\n", mark, len(s.steps), stepNameWidth, step.Name, round(step.Elapsed))
	if step.Detail != "" {
		fmt.Fprintf(t.out, "      %s\n", t.outStyle.Dim(step.Detail))
	}
	if !step.OK {
		fmt.Fprintf(t.out, "      %s\n      look at: %s\n", t.outStyle.Red(step.Error), step.Look)
	}
}

func (s *stepPrinter) plan(p *plan.Plan) {
	if s.quiet {
		return
	}
	fmt.Fprintln(s.app.term.out)
	if err := s.app.showPlan(p); err != nil {
		s.app.warn(err.Error())
	}
	fmt.Fprintln(s.app.term.out)
}

func (s *stepPrinter) apply() (apply.Sink, func()) {
	if s.quiet {
		return nil, func() {}
	}
	return s.app.applySink(false)
}

func round(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
