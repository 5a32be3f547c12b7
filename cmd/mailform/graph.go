package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
)

func (a *app) graphCommand() *cobra.Command {
	var (
		stack   stackFlags
		change  changeFlags
		format  string
		destroy bool
	)
	c := &cobra.Command{
		Use:   "graph [FOLDER]",
		Short: "print the steps of a plan and what waits for what",
		Long: `graph plans and prints the steps that apply would take as a graph. An arrow
points from what comes first to what waits for it. To look at it:

  mailform graph | dot -Tsvg > plan.svg
  mailform graph --format mermaid     (Git hosting sites draw it)`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			write := map[string]func(io.Writer, *plan.Plan) error{
				"dot": plan.WriteDot, "mermaid": plan.WriteMermaid, "json": plan.WriteGraphJSON,
			}[format]
			if write == nil {
				return fmt.Errorf("--format %s is none of dot, mermaid and json", format)
			}
			want := change.options()
			want.Destroy = destroy
			planned, err := a.look(c, &stack, args, want)
			if err != nil {
				return err
			}
			return write(a.term.out, planned.Plan)
		},
	}
	stack.add(c)
	change.add(c)
	c.Flags().StringVar(&format, "format", "dot", "dot, mermaid or json")
	c.Flags().BoolVar(&destroy, "destroy", false, "of a plan to delete everything")
	return c
}

// look plans for a command that only reads: what it holds cannot write.
func (a *app) look(c *cobra.Command, stack *stackFlags, args []string, want session.PlanOptions) (*session.Planned, error) {
	s, err := a.open(stack, args, true)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	ctx, cancel := a.interruptible(c.Context())
	defer cancel()
	return a.makePlan(ctx, s, want, true)
}
