package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
)

// root is the command tree. Every command takes the stack's folder as an
// optional last argument.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "mailform",
		Short: "a team's mail system from one text file",
		Long: `mailform describes a mail system in one spec: the server, its firewall, the DNS
records, certificates and mailboxes. "plan" shows how the world differs from
the spec, "apply" makes it so.

Start with:  mailform init example.com
Or try it without an account:  mailform rehearse`,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate("mailform {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w\nSee %q for its flags", err, c.CommandPath()+" --help")
	})
	root.AddCommand(
		a.initCommand(), a.adoptCommand(), a.validateCommand(), a.fmtCommand(), a.docsCommand(),
		a.planCommand(), a.applyCommand(), a.destroyCommand(), a.unlockCommand(),
		a.driftCommand(), a.showCommand(), a.statusCommand(), a.bansCommand(), a.logsCommand(), a.sshCommand(), a.graphCommand(), a.rollbackCommand(),
		a.mailboxCommand(), a.passwordCommand(), a.hashPasswordCommand(), a.storageKeyCommand(),
		a.rehearseCommand(), a.simulateCommand(),
		a.versionCommand(),
	)
	for _, c := range root.Commands() {
		c.Args = counted(c.Args)
	}
	return root
}

// counted says what a command takes when it was given another number of arguments.
func counted(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if check(c, args) == nil {
			return nil
		}
		given := "no arguments"
		if len(args) > 0 {
			given = count(len(args), "argument") + " (" + strings.Join(args, " ") + ")"
		}
		_, operands, _ := strings.Cut(c.Use, " ")
		return fmt.Errorf("got %s; expected: %s\nSee %q", given, strings.TrimSpace(c.CommandPath()+" "+operands), c.CommandPath()+" --help")
	}
}

// stackFlags are the flags of every command that reads a spec.
type stackFlags struct {
	vars, varFiles []string
}

func (f *stackFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.vars, "var", nil, "set a variable: `name=value` (repeatable)")
	c.Flags().StringArrayVar(&f.varFiles, "var-file", nil, "read variables from a `file` (repeatable)")
}

func (f *stackFlags) options(args []string) (session.Options, error) {
	dir, err := folder(args)
	return session.Options{Dir: dir, Vars: f.vars, VarFiles: f.varFiles}, err
}

// open loads the spec of a command and what it takes to work on it. With readOnly
// nothing but reads goes out.
func (a *app) open(f *stackFlags, args []string, readOnly bool) (*session.Session, error) {
	opts, err := f.options(args)
	if err != nil {
		return nil, err
	}
	opts.ReadOnly = readOnly
	return session.Open(a.env, opts)
}

// withHost opens the stack of a command and does something with the host that is named
// in its arguments, or the spec's only one.
func (a *app) withHost(c *cobra.Command, f *stackFlags, args []string, readOnly bool, do func(context.Context, *session.Session, string) error) error {
	hosts, args := hostArgument(args)
	s, err := a.open(f, args, readOnly)
	if err != nil {
		return err
	}
	defer s.Close()
	host, err := s.OneHost(hosts)
	if err != nil {
		return err
	}
	ctx, cancel := a.interruptible(c.Context())
	defer cancel()
	return do(ctx, s, host)
}

// changeFlags are the flags of every command that makes a plan.
type changeFlags struct {
	allow, take, only, except, replace []string
}

func (f *changeFlags) options() session.PlanOptions {
	return session.PlanOptions{Allow: f.allow, Take: f.take, Only: f.only, Except: f.except, Replace: f.replace}
}

// given reports whether one of the flags was used.
func (f *changeFlags) given() bool {
	return len(f.allow)+len(f.take)+len(f.only)+len(f.except)+len(f.replace) > 0
}

func (f *changeFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.allow, "allow", nil, "lift the protection of an `address` (repeatable, globs work)")
	c.Flags().StringArrayVar(&f.only, "only", nil, "change only what is at an `address`, and what that needs (repeatable, globs work)")
	c.Flags().StringArrayVar(&f.except, "except", nil, "leave what is at an `address` as it is (repeatable, globs work)")
	c.Flags().StringArrayVar(&f.replace, "replace", nil, "make what is at an `address` anew (repeatable, globs work)")
	c.Flags().StringArrayVar(&f.take, "take", nil, "take over a foreign object at an `address` (repeatable)")
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(a.term.out, "mailform", version)
			return nil
		},
	}
}
