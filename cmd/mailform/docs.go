package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"mailform/specs"
)

func (a *app) docsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "docs [BLOCK]",
		Short: "print the spec's reference, or one block of it",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			block := ""
			if len(args) == 1 {
				block = args[0]
			}
			text, ok := specs.Reference(block)
			if !ok {
				return fmt.Errorf("there is no block %q; the blocks are: %s", block, strings.Join(specs.Topics(), ", "))
			}
			_, err := fmt.Fprint(a.term.out, text)
			return err
		},
	}
}
