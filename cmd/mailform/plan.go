package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"mailform/apply"
	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
	"mailform/specs"
)

func (a *app) planCommand() *cobra.Command {
	var (
		stack    stackFlags
		change   changeFlags
		out      string
		detailed bool
		asJSON   bool
		markdown bool
		stats    bool
		destroy  bool
	)
	c := &cobra.Command{
		Use:   "plan [FOLDER]",
		Short: "show how the world differs from the spec; changes nothing",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			opts, err := stack.options(args)
			if err != nil {
				return err
			}
			s, err := session.Open(a.env, opts)
			if err != nil {
				return err
			}
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			want := change.options()
			want.Destroy = destroy
			planned, err := a.makePlan(ctx, s, want, asJSON || markdown)
			if err != nil {
				return err
			}
			estimate := s.Estimate(ctx, planned.Plan, parallelism)
			estimate.Upcoming = s.Upcoming(planned)
			switch {
			case asJSON:
				var cost *plan.Stats
				if st := planned.Stats; stats {
					cost = &plan.Stats{Calls: st.Calls, Total: st.Total(), Depth: st.Depth}
				}
				err = plan.RenderJSON(a.term.out, planned.Plan, estimate, cost)
			case markdown:
				err = plan.RenderMarkdown(a.term.out, planned.Plan, estimate)
			default:
				err = a.showEstimated(planned.Plan, estimate)
			}
			if err != nil {
				return err
			}
			if stats && !asJSON {
				a.showStats(planned.Stats)
			}
			if planned.Refused != nil {
				return planned.Refused
			}
			if out != "" {
				if err := a.writePlan(out, planned.Plan); err != nil {
					return err
				}
				fmt.Fprintf(a.term.err, "Saved to %s. To apply exactly this: %s\n", out, commandLine("mailform apply "+shellQuote(out), opts.Dir))
			}
			if !destroy && planned.Plan.HasChanges() {
				a.keepShown(planned.Plan)
			}
			if out == "" && !asJSON && !markdown && !destroy && planned.Plan.HasChanges() {
				fmt.Fprintf(a.term.err, "Its hash, for apply --approve: %s\n", plan.Hash(planned.Plan))
			}
			if planned.Plan.HasBlocked() {
				return &codeError{code: exitBlocked}
			}
			if detailed && planned.Plan.HasChanges() {
				return &codeError{code: exitChanges}
			}
			return nil
		},
	}
	stack.add(c)
	change.add(c)
	c.Flags().StringVar(&out, "out", "", "save the plan to a `file` for apply")
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 2 when there are changes, 0 when there are none")
	c.Flags().BoolVar(&asJSON, "json", false, "print the plan as JSON")
	c.Flags().BoolVar(&markdown, "markdown", false, "print the plan as Markdown, for pull requests")
	c.Flags().BoolVar(&stats, "stats", false, "print how many calls the plan took, and how many waited for each other")
	c.Flags().BoolVar(&destroy, "destroy", false, "plan to delete everything instead")
	return c
}

// makePlan reads the world, with progress when a person watches.
func (a *app) makePlan(ctx context.Context, s *session.Session, opts session.PlanOptions, quiet bool) (*session.Planned, error) {
	sink, done := a.readingSink(quiet)
	planned, err := s.Plan(ctx, opts, sink)
	done()
	if err != nil {
		return nil, badFlag(interrupted(ctx, err))
	}
	if !quiet && len(planned.Warnings) > 0 {
		specs.WriteDiagnostics(a.term.err, s.Sources, planned.Warnings, a.term.diagnosticWidth(), a.term.errColor)
	}
	return planned, nil
}

// badFlag gives flags that name nothing their exit code: the spec is not at fault.
func badFlag(err error) error {
	var spec *session.SpecError
	if !errors.As(err, &spec) {
		return err
	}
	for _, d := range spec.Diagnostics {
		if d.Severity == specs.SeverityError && d.Code != plan.CodeNamesNothing && d.Code != plan.CodeNotReplaceable {
			return err
		}
	}
	return &codeError{exitError, err}
}

func (a *app) showPlan(p *plan.Plan) error { return a.showEstimated(p, plan.Estimate{}) }

func (a *app) showEstimated(p *plan.Plan, e plan.Estimate) error {
	opts := a.textOptions()
	opts.Estimate = e
	return plan.RenderText(a.term.out, p, opts)
}

func (a *app) showStats(s apply.Stats) {
	fmt.Fprintf(a.term.out, "\nCalls: %d in %d waves", s.Total(), s.Depth)
	for _, name := range sortedNames(s.Calls) {
		if n := s.Calls[name]; n > 0 {
			fmt.Fprintf(a.term.out, " · %s %d", name, n)
		}
	}
	fmt.Fprintln(a.term.out)
}

// writePlan saves a plan, whole or not at all, so that only its owner can read it.
func (a *app) writePlan(path string, p *plan.Plan) error {
	var files apply.FS = apply.OS{}
	if a.env.Files != nil {
		files = a.env.Files
	}
	save := func() error { return apply.Replace(files, path, plan.Encode(p)) }
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		save = func() error { return os.WriteFile(path, plan.Encode(p), 0o600) } // a pipe or a device
	}
	if err := save(); err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	return nil
}
