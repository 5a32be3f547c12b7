package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/server/manifest"
)

func (a *app) rollbackCommand() *cobra.Command {
	var (
		stack   stackFlags
		to      string
		approve bool
		list    bool
	)
	c := &cobra.Command{
		Use:   "rollback [HOST] [FOLDER]",
		Short: "let a host serve with an earlier mailformd",
		Long: `rollback shows the versions of mailformd that a host keeps, the last three, and lets
it serve with another one: the one that served before, or the one named by --to,
by its version or the beginning of its digest. Settings and mail stay as they are.

The host asks the version on every port before it keeps it, and goes back when one
does not answer; it also goes back when the ports cannot be reached from here or
nobody can log in any more. The next apply brings this mailform's own version
back: use the mailform that belongs to the version, or leave the host out
(--except 'server/HOST').

An apply whose new version does not serve goes back by itself.`,
		Example: `  mailform rollback --list
  mailform rollback mx1 --to 1.4.2`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withHost(c, &stack, args, list, func(ctx context.Context, s *session.Session, host string) error {
				if !list {
					if err := s.Lock(ctx, "mailform rollback"); err != nil {
						return err
					}
				}
				sink, done := a.readingSink(false)
				versions, err := s.Versions(ctx, host, sink)
				done()
				if err != nil {
					return interrupted(ctx, err)
				}
				target, choice := chooseVersion(versions, to)
				a.showVersions(host, versions, target)
				if list {
					return nil
				}
				if choice != nil {
					return choice
				}
				if !approve {
					question := fmt.Sprintf("\nLet %s serve with %s? Mail programs connect anew. Only \"yes\" goes ahead: ", host, versionName(target))
					if err := a.confirm(ctx, gate{question: question, answer: "yes"}); err != nil {
						return err
					}
				}
				err = s.Rollback(ctx, host, target.SHA256, func(message string, _, _ int64) { fmt.Fprintln(a.term.err, message) })
				if err != nil {
					return interrupted(ctx, err)
				}
				fmt.Fprintf(a.term.out, "%s serves with %s.\n", host, versionName(target))
				return nil
			})
		},
	}
	stack.add(c)
	c.Flags().StringVar(&to, "to", "", "the `version` to go to, or the beginning of its digest")
	c.Flags().BoolVar(&approve, "auto-approve", false, "do not ask")
	c.Flags().BoolVar(&list, "list", false, "only show the versions")
	return c
}

// chooseVersion finds the version that is named or, without a name, the one that
// served last before the active one.
func chooseVersion(versions []manifest.Version, to string) (target manifest.Version, err error) {
	var found []manifest.Version
	for _, v := range versions {
		switch {
		case to != "" && (v.Version == to || len(to) >= 4 && strings.HasPrefix(v.SHA256, to)):
			found = append(found, v)
		case to == "" && !v.Active && !v.Served.IsZero() && (len(found) == 0 || v.Served.After(found[0].Served)):
			found = []manifest.Version{v}
		}
	}
	switch {
	case len(found) == 0 && to == "":
		return target, errors.New("no other version has served on this host")
	case len(found) == 0:
		return target, fmt.Errorf("this host keeps no version %q", to)
	case len(found) > 1:
		return target, fmt.Errorf("%q is the name of %s here; give the beginning of a digest", to, count(len(found), "version"))
	case found[0].Active:
		return target, fmt.Errorf("%s serves already", versionName(found[0]))
	}
	return found[0], nil
}

func versionName(v manifest.Version) string {
	if v.Version == "" {
		return "mailformd " + v.SHA256[:12]
	}
	return "mailformd " + v.Version + " (" + v.SHA256[:12] + ")"
}

func (a *app) showVersions(host string, versions []manifest.Version, target manifest.Version) {
	date := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.UTC().Format("2006-01-02 15:04")
	}
	t := tabwriter.NewWriter(a.term.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(a.term.out, "Versions of mailformd on %s\n", host)
	fmt.Fprintln(t, "  VERSION\tDIGEST\tINSTALLED (UTC)\tFOUND WELL (UTC)\t")
	for _, v := range versions {
		mark := ""
		switch v.SHA256 {
		case target.SHA256:
			mark = "← goes back to this one"
		default:
			if v.Active {
				mark = "serves"
			}
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", v.Version, v.SHA256[:12], date(v.Installed), date(v.Served), mark)
	}
	t.Flush()
}
