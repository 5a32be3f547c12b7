package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"mailform/specs"
)

func (a *app) docsCommand() *cobra.Command {
	var markdown, jsonSchema bool
	c := &cobra.Command{
		Use:   "docs [BLOCK]",
		Short: "print the spec's reference, or one block of it",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if (markdown || jsonSchema) && len(args) > 0 {
				return errors.New("--markdown and --json-schema print everything; leave the block's name out")
			}
			if markdown {
				_, err := fmt.Fprint(a.term.out, specs.ReferenceMarkdown())
				return err
			}
			if jsonSchema {
				_, err := a.term.out.Write(specs.EditorSchema())
				return err
			}
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
	c.Flags().BoolVar(&markdown, "markdown", false, "print the whole reference as a Markdown page")
	c.Flags().BoolVar(&jsonSchema, "json-schema", false, "print a JSON Schema of the spec, for editors")
	c.MarkFlagsMutuallyExclusive("markdown", "json-schema")
	return c
}
