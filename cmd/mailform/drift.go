package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
)

func (a *app) driftCommand() *cobra.Command {
	var (
		stack    stackFlags
		ignore   []string
		asJSON   bool
		markdown bool
	)
	c := &cobra.Command{
		Use:   "drift [FOLDER]",
		Short: "say whether the world still matches the spec; cannot write",
		Long: `drift compares the world with the spec and ends with 3 when they differ, with 0
when they do not. It is made for CI: it takes no lock and cannot write. Where an
earlier apply ran on this machine it also says who made a difference: the spec,
or somebody outside mailform. A certificate whose renewal is due is no drift.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			planned, err := a.look(c, &stack, args, session.PlanOptions{Differences: true, Overlook: ignore})
			if err != nil {
				return err
			}
			for _, d := range planned.Warnings {
				if d.Code == plan.CodeUnusedFlag || d.Code == plan.CodeUnusedRule {
					a.warn(d.Summary)
				}
			}
			found := plan.FindDrift(planned.Plan)
			switch {
			case asJSON:
				err = plan.RenderDriftJSON(a.term.out, found)
			case markdown:
				err = plan.RenderDriftMarkdown(a.term.out, found)
			default:
				err = plan.RenderDriftText(a.term.out, found, a.textOptions())
				if len(found.Differences) > 0 {
					fmt.Fprintln(a.term.out, "To make it as the spec says:", commandLine("mailform apply", folderArg(args)))
				}
			}
			if err != nil {
				return err
			}
			if len(found.Differences) > 0 {
				return &codeError{code: exitDrift}
			}
			return nil
		},
	}
	stack.add(c)
	c.Flags().StringArrayVar(&ignore, "ignore", nil, "leave out differences at an `ADDRESS` or ADDRESS.FIELD (repeatable, globs work)")
	c.Flags().BoolVar(&asJSON, "json", false, "print the drift as JSON")
	c.Flags().BoolVar(&markdown, "markdown", false, "print the drift as Markdown, for issues and CI summaries")
	return c
}

func (a *app) textOptions() plan.TextOptions {
	return plan.TextOptions{Width: a.term.width, Color: a.term.color, Now: a.env.Now()}
}

// folderArg is the folder as it was given, or here.
func folderArg(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[len(args)-1]
}
