package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
)

func (a *app) statusCommand() *cobra.Command {
	var (
		stack   stackFlags
		asJSON  bool
		noDrift bool
	)
	c := &cobra.Command{
		Use:   "status [FOLDER]",
		Short: "ask every host how it is; changes nothing",
		Long: `status connects to every host of the spec and prints what it says about itself:
version, service, disks, memory, certificates, signing keys, queue, backups, how it
looks to other servers, and whether the world still matches the spec. It ends with
1 when a host cannot be reached or does not serve mail, with 0 otherwise: drift and
advice do not change that ("mailform drift" is for CI).`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.open(&stack, args, true)
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			sink, done := a.readingSink(asJSON)
			hosts, err := s.Status(ctx, sink)
			done()
			if err != nil {
				return interrupted(ctx, err)
			}
			views := make([]hostView, len(hosts))
			well := true
			var advice []plan.Advice
			for i, h := range hosts {
				views[i] = viewHost(h)
				well = well && views[i].Serving
				advice = append(advice, h.Advice...)
			}
			var drift *driftView
			if !noDrift && well {
				drift = a.driftNow(ctx, s)
				advice = append(advice, s.Advise()...)
			}
			advice = plan.SortAdvice(advice)
			if asJSON {
				err = writeStatusJSON(a.term.out, statusDocument{1, s.Spec.Stack.Name, views, drift, advice})
			} else {
				for i, v := range views {
					if i > 0 {
						fmt.Fprintln(a.term.out)
					}
					a.showHost(v)
				}
				a.showDrift(drift, folderArg(args))
				a.showAdvice(advice, false)
			}
			if err != nil {
				return err
			}
			var failed []error
			for _, h := range hosts {
				failed = append(failed, h.Err)
			}
			if err := errors.Join(failed...); err != nil {
				return err
			}
			if !well {
				return &codeError{code: exitError}
			}
			return nil
		},
	}
	stack.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	c.Flags().BoolVar(&noDrift, "no-drift", false, "do not compare the world with the spec, which reads all of it")
	return c
}

// driftNow compares the world with the spec over the connections that are there.
func (a *app) driftNow(ctx context.Context, s *session.Session) *driftView {
	planned, err := s.Plan(ctx, session.PlanOptions{Differences: true}, nil)
	if err != nil {
		return &driftView{Error: err.Error()}
	}
	n := len(plan.FindDrift(planned.Plan).Differences)
	return &driftView{Differences: &n}
}

// showDrift says whether the world matches the spec.
func (a *app) showDrift(d *driftView, dir string) {
	sheet := a.term.outStyle
	switch {
	case d == nil:
		return
	case d.Differences == nil:
		fmt.Fprintf(a.term.out, "\n%s  %s\n", sheet.Dim("drift"), sheet.Yellow("cannot be told: "+d.Error))
	case *d.Differences == 0:
		fmt.Fprintf(a.term.out, "\n%s  none: the world matches the spec\n", sheet.Dim("drift"))
	default:
		fmt.Fprintf(a.term.out, "\n%s  %s; to see: %s\n", sheet.Dim("drift"), sheet.Yellow(count(*d.Differences, "difference")), commandLine("mailform drift", dir))
	}
}
