package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/providers/world"
)

// simulatedZones exist in the simulated DNS account unless --zone names others.
var simulatedZones = []string{"example.com", "example.net", "example.org", "acme.example"}

func (a *app) simulateCommand() *cobra.Command {
	var dir string
	var zones []string
	c := &cobra.Command{
		Use:   "simulate [FOLDER]",
		Short: "run the simulated cloud, DNS, CA and hosts in the foreground",
		Long: `simulate runs the simulators until ^C. Once they are ready it writes DIR/env with
export lines; in a shell that has read it, every command of mailform, and curl,
works against the simulated world as it would against the real one. With a
FOLDER, the zones of that spec exist in the simulated DNS account too.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			if dir == "" {
				return errors.New("--dir is needed: the folder for the world's files and its env")
			}
			dir, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			log, err := os.OpenFile(filepath.Join(dir, "world.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			if err != nil {
				return err
			}
			defer log.Close()
			cfg := world.Config{Dir: dir, Log: log, Zones: zones}
			if len(args) > 0 {
				dir, err := folder(args)
				if err != nil {
					return err
				}
				spec, sources, diags := session.Load(a.env, session.Options{Dir: dir})
				if diags.HasErrors() {
					return &session.SpecError{Sources: sources, Diagnostics: diags}
				}
				cfg = world.ForSpec(spec, cfg)
			}
			w, err := world.Start(ctx, cfg)
			if err != nil {
				return err
			}
			defer w.Close()
			fmt.Fprintf(a.term.out, "The simulated world is ready. Its log is %s\nIn another terminal:\n\n  . %s\n\n^C ends it.\n",
				log.Name(), filepath.Join(dir, "env"))
			<-ctx.Done()
			fmt.Fprintln(a.term.out, "Ended; the simulated world is gone.")
			return nil
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "`folder` for the world's files and its env (required)")
	c.Flags().StringArrayVar(&zones, "zone", simulatedZones, "`domain` with a zone in the simulated DNS account (repeatable)")
	return c
}
