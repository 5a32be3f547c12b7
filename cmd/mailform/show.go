package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
)

func (a *app) showCommand() *cobra.Command {
	var (
		stack  stackFlags
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "show [ADDRESS] [FOLDER]",
		Short: "print what is there and how it stands to the spec",
		Long: `show reads the world and lists everything that the spec wants or that carries
this stack's mark. With an address, as the plan writes it, it prints all that is
known about that: what was found, where the spec says otherwise, and what was
applied last. With a glob it lists what matches. Secrets are never printed.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			address := ""
			if len(args) == 2 || len(args) == 1 && !isFolder(args[0]) {
				address, args = args[0], args[1:]
			}
			planned, err := a.look(c, &stack, args, session.PlanOptions{})
			if err != nil {
				return err
			}
			views := plan.Views(planned.Input, planned.Plan)
			if address != "" {
				views = slices.DeleteFunc(views, func(v plan.View) bool { return !plan.Match(address, v.Change.Address) })
				if len(views) == 0 {
					return fmt.Errorf("%s is neither in the spec nor there; mailform show lists what is", address)
				}
			}
			switch {
			case asJSON:
				return plan.RenderViewsJSON(a.term.out, planned.Plan.Stack, views)
			case len(views) == 1 && string(views[0].Change.Address) == address:
				return plan.RenderView(a.term.out, views[0], a.textOptions())
			}
			return plan.RenderViews(a.term.out, views, a.textOptions())
		},
	}
	stack.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return c
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
