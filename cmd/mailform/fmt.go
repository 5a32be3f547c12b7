package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/specs"
)

func (a *app) fmtCommand() *cobra.Command {
	var check, diff bool
	c := &cobra.Command{
		Use:   "fmt [FOLDER]",
		Short: "put the spec's files into their standard form",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := folder(args)
			if err != nil {
				return err
			}
			files, err := filepath.Glob(filepath.Join(dir, "*.hcl"))
			if err != nil {
				return err
			}
			if len(files) == 0 {
				return fmt.Errorf("%s holds no *.hcl files", dir)
			}
			changed := 0
			for _, name := range files {
				was, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				now, diags := specs.Format(name, was)
				if diags.HasErrors() {
					sources := specs.NewSources()
					sources.Add(name, was)
					return &session.SpecError{Sources: sources, Diagnostics: diags}
				}
				if bytes.Equal(was, now) {
					continue
				}
				changed++
				if diff {
					fmt.Fprint(a.term.out, specs.FormatDiff(name, was, now))
				} else {
					fmt.Fprintln(a.term.out, name)
				}
				if !check && !diff {
					if err := replaceFile(name, now); err != nil {
						return err
					}
				}
			}
			if check && changed > 0 {
				return &codeError{exitDrift, errors.New("the files above are not in standard form; run: mailform fmt " + dir)}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&check, "check", false, "write nothing; exit 3 when a file is not formatted")
	c.Flags().BoolVar(&diff, "diff", false, "write nothing; print what would change as a unified diff")
	return c
}

// replaceFile writes beside the file and renames, so that a full disk cannot
// take a spec away; the mode stays.
func replaceFile(name string, data []byte) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".mailform-fmt-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
