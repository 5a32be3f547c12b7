package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"mailform/specs"
)

// starterFile is what init writes.
const starterFile = "mail.hcl"

func (a *app) initCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "init DOMAIN [FOLDER]",
		Short: "write a commented starter spec for a mail domain",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 2 {
				dir = args[1]
			}
			text, err := specs.Starter(args[0], specs.StarterOptions{})
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if old, err := filepath.Glob(filepath.Join(dir, "*.hcl")); err == nil && len(old) > 0 {
				return fmt.Errorf("there is a spec here already (%s); nothing was written", old[0])
			}
			name := filepath.Join(dir, starterFile)
			f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s exists already; nothing was written", name)
			}
			if err != nil {
				return err
			}
			_, err = f.Write(text)
			if cerr := f.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(a.term.out, "Wrote %s. Next:\n\n", name)
			for _, next := range [][2]string{
				{"$EDITOR " + shellQuote(name), "name the mailboxes, choose the server"},
				{commandLine("mailform rehearse", dir), "try it here, without an account"},
				{commandLine("mailform plan", dir), "see what it takes"},
				{commandLine("mailform apply", dir), "do it"},
			} {
				fmt.Fprintf(a.term.out, "  %-28s  # %s\n", next[0], next[1])
			}
			return nil
		},
	}
	return c
}
