package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/adopt"
	"mailform/cmd/mailform/internal/session"
	"mailform/specs"
)

func (a *app) adoptCommand() *cobra.Command {
	var (
		out  string
		opts adopt.Options
	)
	c := &cobra.Command{
		Use:   "adopt DOMAIN…",
		Short: "write the spec of what is there already",
		Long: `adopt reads the domains' DNS zones, the cloud account and the hosts, writes the
spec that describes them, and shows what apply would still change. Of a system
whose spec was lost that is nothing. Of mail that was set up in another way the
records that are as the spec wants them are only marked, and mailformd comes new.
It changes nothing; the environment gives the same credentials as for plan.`,
		Example: "  mailform adopt acme.example --region cn-hongkong --out mail",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var domains []string
			for _, d := range args {
				name, err := specs.NormalizeDomain(d)
				if err != nil {
					return fmt.Errorf("%q is not a mail domain: %w", d, err)
				}
				domains = append(domains, name)
			}
			if old, err := filepath.Glob(filepath.Join(out, "*.hcl")); err == nil && len(old) > 0 {
				return fmt.Errorf("there is a spec in %s already (%s); nothing was written. Name another folder with --out", out, filepath.Base(old[0]))
			}
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			if opts.Region == "" {
				opts.Region = a.env.Getenv("ALIBABA_CLOUD_REGION_ID")
			}
			spec, notes, err := session.Adopt(ctx, a.env, domains, opts)
			if err != nil {
				return interrupted(ctx, err)
			}
			name := filepath.Join(out, starterFile)
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if err != nil {
				return err
			}
			_, err = f.Write(specs.Write(spec))
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
			fmt.Fprintf(a.term.out, "Wrote %s.\n", name)
			if len(notes) > 0 {
				fmt.Fprintf(a.term.out, "\nTo know:\n")
				for _, n := range notes {
					fmt.Fprintf(a.term.out, "  - %s\n", n)
				}
			}
			fmt.Fprintln(a.term.out)

			s, err := session.Open(a.env, session.Options{Dir: out})
			if err != nil {
				return err
			}
			defer s.Close()
			planned, err := a.makePlan(ctx, s, session.PlanOptions{}, false)
			if err != nil {
				return err
			}
			return a.showPlan(planned.Plan)
		},
	}
	c.Flags().StringVar(&out, "out", ".", "write the spec into this `folder`")
	c.Flags().StringVar(&opts.Stack, "stack", "", "take what carries this stack's mark, or give the stack this `name`")
	c.Flags().StringVar(&opts.Region, "region", "", "read the cloud account in this `region`")
	c.Flags().StringVar(&opts.SSHUser, "ssh-user", "root", "log in to the hosts as this `user`")
	c.Flags().IntVar(&opts.SSHPort, "ssh-port", 22, "log in to the hosts on this `port`")
	return c
}
