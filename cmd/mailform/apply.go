package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"mailform/apply"
	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
	"mailform/specs"
)

// applyFlags are shared by apply and destroy.
type applyFlags struct {
	autoApprove bool
	asJSON      bool
	parallelism int
}

func (f *applyFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.autoApprove, "auto-approve", false, "do not ask before applying")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print events as JSON, one object a line")
	c.Flags().IntVar(&f.parallelism, "parallelism", parallelism, "`number` of operations at the same time, 1 to 64")
}

// check refuses flags that mean nothing.
func (f *applyFlags) check() error {
	if f.parallelism < 1 || f.parallelism > maxParallelism {
		return fmt.Errorf("--parallelism %d is not between 1 and %d", f.parallelism, maxParallelism)
	}
	return nil
}

// How many operations apply runs at a time. The vendors' rate limits are kept by
// token buckets whatever is asked; more than this is never faster.
const (
	parallelism    = 8
	maxParallelism = 64
)

func (a *app) applyCommand() *cobra.Command {
	var (
		stack   stackFlags
		change  changeFlags
		flags   applyFlags
		approve string
	)
	c := &cobra.Command{
		Use:   "apply [PLANFILE] [FOLDER]",
		Short: "make the world match the spec",
		Long: `apply plans, shows the plan, asks, and carries it out. It may be killed anywhere:
the same command continues. The first ^C finishes what is in flight, the second
stops at once. With a file that "plan --out" saved, it applies exactly that plan
or refuses.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			planFile := ""
			if len(args) > 0 && isFile(args[0]) {
				planFile, args = args[0], args[1:]
			}
			if planFile == "" && len(args) > 0 && missing(args[0]) {
				return fmt.Errorf("there is no saved plan and no folder %s", args[0])
			}
			opts, err := stack.options(args)
			if err != nil {
				return err
			}
			want, g := change.options(), gate{hash: approve}
			if planFile != "" {
				if change.given() {
					return errors.New("a saved plan holds what it was asked; leave out --only, --except, --replace, --allow and --take")
				}
				if g.saved, err = readPlan(planFile); err != nil {
					return err
				}
				want = session.PlanOptions{Destroy: g.saved.Destroy, Approved: g.saved}
			}
			return a.applyStack(c.Context(), opts, want, flags, g)
		},
	}
	stack.add(c)
	change.add(c)
	flags.add(c)
	c.Flags().StringVar(&approve, "approve", "", "apply without asking if the plan has this `hash`, or refuse")
	return c
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// gate is what decides whether a plan may be carried out, beside the person.
type gate struct {
	saved *plan.Plan // the plan must do the same as this one
	hash  string     // must have this hash
	// question replaces the usual one; answer is what must be typed.
	question, answer string
}

// check refuses a plan that is not the one that was approved.
func (g gate) check(planned *session.Planned) error {
	p := planned.Plan
	named := p
	if g.saved != nil {
		named = g.saved // the one that was looked at; p leaves out what was blocked in it
	}
	if g.hash != "" && plan.Hash(named) != g.hash {
		return &plan.Error{Class: plan.ErrStale, Code: "MF4010", Step: "compare the plan with the approved one",
			Got: "its hash is " + plan.Hash(named) + ", not " + g.hash + ": the world or the spec moved, or other flags were given",
			Fix: "look at the plan as it is now, and approve its hash"}
	}
	if g.saved == nil {
		return nil
	}
	if moved := plan.Compare(g.saved, p, planned.Input.Made); len(moved) > 0 {
		return &plan.Error{Class: plan.ErrStale, Code: "MF4011", Step: "compare the world with the saved plan",
			Got: movedWords(moved), Fix: "plan again, look at it, and apply the new plan"}
	}
	return nil
}

// maxMoved bounds how much of what moved is told.
const maxMoved = 20

// movedWords says what moved since a plan was saved, a line for each.
func movedWords(moved []string) string {
	shown := moved[:min(len(moved), maxMoved)]
	text := strings.Join(shown, "\n         ") // below what the error's first line begins with
	if more := len(moved) - len(shown); more > 0 {
		text += fmt.Sprintf("\n         … and %d more", more)
	}
	return text
}

func readPlan(path string) (*plan.Plan, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the saved plan: %w", err)
	}
	saved, err := plan.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("read the saved plan %s: %w", path, err)
	}
	return saved, nil
}

// approved reports whether the gate stands for the person's yes.
func (g gate) approved() bool { return g.hash != "" || g.saved != nil }

// applyStack is the whole of apply and destroy: lock, fold, plan, show, ask, run.
func (a *app) applyStack(ctx context.Context, opts session.Options, want session.PlanOptions, flags applyFlags, g gate) error {
	if err := flags.check(); err != nil {
		return err
	}
	s, err := session.Open(a.env, opts)
	if err != nil {
		return err
	}
	soft, cancel := a.interruptible(ctx)
	defer cancel()
	// Who reads the output may leave; the apply goes on to a good end.
	signal.Ignore(syscall.SIGPIPE)
	verb := "apply"
	if want.Destroy {
		verb = "destroy"
	}
	if err := s.Lock(soft, "mailform "+verb); err != nil {
		return err
	}
	defer s.Close()
	sink, closeSink := a.applySink(flags.asJSON)
	defer closeSink()
	folded, err := s.Fold(soft, sink)
	a.showPasswords(folded.Secrets, flags.asJSON, opts.Dir)
	if err != nil {
		return interrupted(soft, err)
	}
	begun := true // the plan is kept by the run that began it
	if g.hash != "" && g.saved == nil {
		if g.saved = s.Interrupted(g.hash); g.saved == nil {
			g.saved, begun = a.shown(g.hash), false
		}
		if g.saved != nil {
			want = session.PlanOptions{Destroy: g.saved.Destroy, Approved: g.saved}
		}
	}
	planned, err := a.makePlan(soft, s, want, flags.asJSON)
	if err != nil {
		return err
	}
	if !flags.asJSON {
		estimate := s.Estimate(soft, planned.Plan, flags.parallelism)
		estimate.Upcoming = s.Upcoming(planned)
		if err := a.showEstimated(planned.Plan, estimate); err != nil {
			return err
		}
	}
	if err := g.check(planned); err != nil {
		return err
	}
	if planned.Refused != nil {
		return planned.Refused
	}
	if !planned.Plan.HasChanges() {
		if flags.asJSON {
			// A reader of events waits for the end, also of a run with nothing to do.
			sink(apply.Event{Kind: apply.EventEnd, Time: a.env.Now()})
		}
		return blockedOr(planned.Plan, nil)
	}
	if !flags.autoApprove && !g.approved() {
		if err := a.confirm(soft, g); err != nil {
			return err
		}
	}
	var flow mailFlow
	run := session.RunOptions{Sink: flow.watch(sink), Stop: a.stopping, Parallelism: flags.parallelism, Approved: g.hash}
	keep := planned.Plan
	if g.saved != nil {
		run.Approved, keep = plan.Hash(g.saved), g.saved
	}
	if g.hash != "" && !begun {
		if err := s.Keep(keep); err != nil {
			a.warn(err.Error())
		}
	}
	out, err := s.Apply(ctx, planned.Plan, run)
	closeSink()
	a.showPasswords(out.Secrets, flags.asJSON, opts.Dir)
	if err != nil {
		err = incomplete(err)
		if a.term.live && !flags.asJSON && out.Count(apply.StatusFailed) > 0 {
			// The live view has shown the failures in full, just above.
			fmt.Fprintf(a.term.err, "\nNot finished: %d of %d steps are done. The same command continues with what is left.\n",
				out.Count(apply.StatusDone), len(out.Ops))
			return &codeError{code: exitCode(err)}
		}
		return err
	}
	if !flags.asJSON {
		a.summarise(s.Spec, planned.Plan, opts.DeleteMail)
		if text := flow.text(); text != "" {
			fmt.Fprintln(a.term.out, text)
		}
	}
	if !want.Destroy {
		a.showAdvice(s.AdviseAfter(soft, planned.Plan, out.Outputs), flags.asJSON)
	}
	return blockedOr(planned.Plan, nil)
}

// incomplete gives an apply that ended early its exit code: what the failure
// says for credentials, rate limits and ^C, "run again" for everything else.
func incomplete(err error) error {
	switch plan.ClassOf(err) {
	case plan.ErrFatal, plan.ErrTransient, plan.ErrAmbiguous, plan.ErrBlocked:
		if !errors.Is(err, context.Canceled) {
			return &codeError{exitIncomplete, err}
		}
	}
	return err
}

// blockedOr makes the exit code say that a part of the plan was held back.
func blockedOr(p *plan.Plan, err error) error {
	if err == nil && p.HasBlocked() {
		return &codeError{code: exitBlocked}
	}
	return err
}

func (a *app) confirm(ctx context.Context, g gate) error {
	question, want := g.question, g.answer
	if question == "" {
		question, want = "\nApply this plan? Only \"yes\" goes ahead: ", "yes"
	}
	type reply struct {
		text string
		err  error
	}
	ch := make(chan reply, 1)
	go func() {
		text, err := a.term.ask(question)
		ch <- reply{text, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.term.err)
		return &codeError{exitInterrupted, errors.New("interrupted; nothing was changed")}
	case r := <-ch:
		if r.err != nil {
			other := ", or --approve HASH with the hash of a plan you have seen"
			if g.question != "" { // it is not about a plan
				other = ""
			}
			return fmt.Errorf("%w; without a terminal to ask on, pass --auto-approve%s", r.err, other)
		}
		if r.text != want {
			return &codeError{exitError, errors.New("not confirmed; nothing was changed")}
		}
		return nil
	}
}

// showPasswords prints first passwords, once and only to a terminal: a log that
// others can read is no place for them.
func (a *app) showPasswords(secrets map[plan.Address]string, asJSON bool, dir string) {
	if len(secrets) == 0 {
		return
	}
	addresses := sortedNames(secrets)
	if asJSON || !a.term.live {
		fmt.Fprintf(a.term.err, "%s got a first password, which is only shown on a terminal.\nTo make and print a new one: %s\n",
			count(len(addresses), "mailbox"), passwordCommandFor(addresses[0], dir))
		return
	}
	fmt.Fprintf(a.term.out, "\nFirst passwords, shown this once:\n\n")
	width := 0
	for _, addr := range addresses {
		width = max(width, len(mailboxName(addr)))
	}
	for _, addr := range addresses {
		fmt.Fprintf(a.term.out, "  %-*s  %s\n", width, mailboxName(addr), secrets[addr])
	}
	fmt.Fprintf(a.term.out, "\nPass them on safely. A new one: %s\n", passwordCommandFor(addresses[0], dir))
}

// passwordCommandFor is the command line that makes a mailbox a new password.
func passwordCommandFor(mailbox plan.Address, dir string) string {
	return commandLine("mailform password "+mailboxName(mailbox), dir)
}

// summarise ends a complete apply.
func (a *app) summarise(spec *specs.Spec, p *plan.Plan, mailDeleted bool) {
	sum := p.Summary()
	n := count(sum.Changes(), "change")
	if sum.LeftOut > 0 {
		fmt.Fprintf(a.term.out, "\nApplied: %s; left out: %d.\n", n, sum.LeftOut)
		return
	}
	if !p.Destroy {
		fmt.Fprintf(a.term.out, "\nApplied: %s. The world matches the spec.\n", n)
		return
	}
	fmt.Fprintf(a.term.out, "\nDestroyed: %s. Nothing of %s is left at the vendors.\n", n, p.Stack)
	for _, h := range spec.Hosts {
		if h.Address.IsValid() && !mailDeleted {
			fmt.Fprintf(a.term.out, "The mail that was on %s is still there, in /var/lib/mailform.\n", h.Hostname)
		}
	}
}

func (a *app) destroyCommand() *cobra.Command {
	var (
		stack      stackFlags
		flags      applyFlags
		deleteMail bool
	)
	c := &cobra.Command{
		Use:   "destroy [FOLDER]",
		Short: "delete everything that carries this stack's mark",
		Long: `destroy deletes what carries this stack's mark: DNS records, certificates, and the
machines with the mail on them. A machine that was there before mailform is left
as it was found, with its mail in /var/lib/mailform, which belongs to root then and
which the same stack takes up again; --delete-mail deletes that, too.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			opts, err := stack.options(args)
			if err != nil {
				return err
			}
			opts.DeleteMail = deleteMail
			spec, sources, diags := session.Load(a.env, opts)
			if diags.HasErrors() {
				return &session.SpecError{Sources: sources, Diagnostics: diags}
			}
			name, mail := spec.Stack.Name, ", and the mail on it, for good"
			if !deleteMail && !slices.ContainsFunc(spec.Hosts, func(h *specs.Host) bool { return h.Instance != nil }) {
				mail = "; the mail stays on its machine"
			}
			return a.applyStack(c.Context(), opts, session.PlanOptions{Destroy: true}, flags, gate{
				question: fmt.Sprintf("\nThis deletes all of the above%s.\nType the stack's name (%s) to go ahead: ", mail, name),
				answer:   name,
			})
		},
	}
	stack.add(c)
	flags.add(c)
	c.Flags().BoolVar(&deleteMail, "delete-mail", false, "delete the mail, too, on machines that were there before mailform")
	return c
}
