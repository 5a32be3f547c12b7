package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/specs"
)

func (a *app) validateCommand() *cobra.Command {
	var stack stackFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "validate [FOLDER]",
		Short: "check the spec, offline, and report everything at once",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			opts, err := stack.options(args)
			if err != nil {
				return err
			}
			spec, sources, diags := session.Load(a.env, opts)
			if asJSON {
				if _, err := a.term.out.Write(specs.DiagnosticsJSON(sources, diags)); err != nil {
					return err
				}
			} else if len(diags) > 0 {
				specs.WriteDiagnostics(a.term.err, sources, diags, a.term.diagnosticWidth(), a.term.errColor)
			}
			if diags.HasErrors() {
				return &codeError{code: exitSpec}
			}
			if !asJSON {
				boxes := 0
				for _, d := range spec.Domains {
					boxes += len(d.Mailboxes)
				}
				fmt.Fprintf(a.term.out, "The spec is valid: stack %s, %s, %s, %s.\n", spec.Stack.Name,
					count(len(spec.Hosts), "host"), count(len(spec.Domains), "domain"), count(boxes, "mailbox"))
			}
			return nil
		},
	}
	stack.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	return c
}

// count writes "1 host", "2 hosts", "3 mailboxes".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if noun[len(noun)-1] == 'x' {
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
