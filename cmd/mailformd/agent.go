package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/account"
	"mailform/server/agent"
	"mailform/server/manifest"
)

// layout is where this mailformd finds everything: "/" or, on a simulated
// host, the folder in MAILFORM_ROOT.
func layout() manifest.Layout {
	if root := os.Getenv("MAILFORM_ROOT"); root != "" {
		return manifest.Layout{Root: root}
	}
	return manifest.Layout{Root: "/"}
}

func newAgent(version string) (*agent.Agent, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := layout()
	return agent.New(agent.Config{
		Layout: l, Version: version, Executable: exe,
		Systemd:      agent.Systemctl{},
		Tools:        agent.Programs{},
		Daemon:       agent.Control{Socket: l.ControlSocket()},
		Prober:       agent.Ports{Dial: (&net.Dialer{}).DialContext},
		NewPassword:  account.GeneratePassword,
		HashPassword: account.HashPassword,
		SCRAMKeys:    account.SCRAMKeys,
		Rand:         rand.Reader,
		Now:          time.Now,
		Sleep: func(ctx context.Context, d time.Duration) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(d):
				return nil
			}
		},
	}), nil
}

// agentCommands are the commands that mailform runs on the host over SSH. They
// read one JSON request from standard input and answer on standard output.
func agentCommands(version string) []*cobra.Command {
	command := func(use, short string, run func(context.Context, *agent.Agent, *cobra.Command, []string) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, args []string) error {
				a, err := newAgent(version)
				if err != nil {
					return err
				}
				return run(cmd.Context(), a, cmd, args)
			},
		}
	}
	password := command("password ADDRESS", "make a new first password for a mailbox", func(ctx context.Context, a *agent.Agent, cmd *cobra.Command, args []string) error {
		text, err := a.Password(ctx, args[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
		return err
	})
	password.Args = cobra.ExactArgs(1)
	var dry bool
	convergeCommand := command("converge [MANIFEST]", "bring this host to a manifest", func(ctx context.Context, a *agent.Agent, cmd *cobra.Command, args []string) error {
		if dry {
			return dryRun(ctx, a, cmd, args)
		}
		if len(args) > 0 {
			return errors.New("a manifest in a file is for --dry-run; mailform apply brings the host to one")
		}
		return converge(ctx, a, cmd, args)
	})
	convergeCommand.Args = cobra.MaximumNArgs(1)
	convergeCommand.Flags().BoolVar(&dry, "dry-run", false, "only print what would change to the installed manifest, or the one in a file; exit 2 when something would")
	observe := func(find func(*agent.Agent, context.Context) (*manifest.Facts, error)) func(context.Context, *agent.Agent, *cobra.Command, []string) error {
		return func(ctx context.Context, a *agent.Agent, cmd *cobra.Command, _ []string) error {
			facts, err := find(a, ctx)
			if err != nil {
				return err
			}
			return answer(cmd, facts)
		}
	}
	return []*cobra.Command{
		command("observe", "print what is on this host", observe((*agent.Agent).Observe)),
		command("look", "look at the way to other servers now, and print what is on this host", observe((*agent.Agent).LookAndObserve)),
		command("install", "make this mailformd the host's", request((*agent.Agent).Install)),
		command("mount", "make a data disk the place of the mail and the keys", request((*agent.Agent).Mount)),
		command("keys", "make and delete signing keys", request((*agent.Agent).Keys)),
		command("host-key", "make an SSH host key of this host's own, or end the one it takes the place of", request((*agent.Agent).HostKey)),
		command("csr", "make a TLS key and its signing request", requestText((*agent.Agent).CSR)),
		command("install-cert", "install a certificate chain", request((*agent.Agent).InstallCert)),
		command("remove-cert", "take a certificate off this host", request((*agent.Agent).RemoveCert)),
		command("acme-account", "print the account key of an ACME directory", requestText((*agent.Agent).AccountKey)),
		command("acme-order", "print or write down the order for a certificate", request((*agent.Agent).Order)),
		convergeCommand,
		command("confirm", "keep a change that waits to be confirmed", request((*agent.Agent).Confirm)),
		command("take-back", "take back a change that waits to be confirmed", request((*agent.Agent).TakeBack)),
		command("revert", "take back a change that was not confirmed in time; run by a timer and at boot", revert),
		command("rollback", "make another version of mailformd serve", request((*agent.Agent).Rollback)),
		command("remove", "take mailform off this host", request((*agent.Agent).Remove)),
		leases(command),
		password,
		command("new-password", "make a new password for a mailbox, under a lease", requestText((*agent.Agent).LeasedPassword)),
		command("lift-ban", "end a client's ban, for a run of mailform", liftBan),
		command("export-storage-key", "print the storage key, for a run of mailform", request((*agent.Agent).ExportStorageKey)),
		command("note-storage-key", "note that somebody has a copy of the storage key", request((*agent.Agent).NoteStorageKey)),
		command("import-storage-key", "put a storage key in its place that was exported", request((*agent.Agent).ImportStorageKey)),
		bansCommand(version),
		command("erase-mailbox", "erase the mail of a removed mailbox now", request((*agent.Agent).EraseMailbox)),
		command("restore-mailbox", "put a removed mailbox back with its mail", request((*agent.Agent).RestoreMailbox)),
	}
}

// leases are the commands by which a run of mailform makes sure that it is the
// only one at work on this host.
func leases(command func(string, string, func(context.Context, *agent.Agent, *cobra.Command, []string) error) *cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: "lease", Short: "take, renew or end the lease on this host"}
	c.AddCommand(
		command("acquire", "take the lease and print what is on this host", request((*agent.Agent).AcquireLease)),
		command("renew", "make the lease last longer", request((*agent.Agent).RenewLease)),
		command("release", "end the lease", request((*agent.Agent).ReleaseLease)),
	)
	return c
}

// request runs a command that answers with a JSON document.
func request[Q, A any](do func(*agent.Agent, context.Context, Q) (A, error)) func(context.Context, *agent.Agent, *cobra.Command, []string) error {
	return func(ctx context.Context, a *agent.Agent, cmd *cobra.Command, _ []string) error {
		var q Q
		if _, err := readRequest(cmd.InOrStdin(), &q); err != nil {
			return err
		}
		out, err := do(a, ctx, q)
		if err != nil {
			return err
		}
		return answer(cmd, out)
	}
}

// requestText runs a command that answers with text, such as PEM.
func requestText[Q any](do func(*agent.Agent, context.Context, Q) ([]byte, error)) func(context.Context, *agent.Agent, *cobra.Command, []string) error {
	return func(ctx context.Context, a *agent.Agent, cmd *cobra.Command, _ []string) error {
		var q Q
		if _, err := readRequest(cmd.InOrStdin(), &q); err != nil {
			return err
		}
		out, err := do(a, ctx, q)
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(out)
		return err
	}
}

func converge(ctx context.Context, a *agent.Agent, cmd *cobra.Command, _ []string) error {
	var q manifest.ConvergeRequest
	rest, err := readRequest(cmd.InOrStdin(), &q)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	var lost error
	emit := func(e manifest.AgentEvent) {
		if err := enc.Encode(e); err != nil && lost == nil {
			lost = err
		}
	}
	res, err := a.Converge(ctx, q, emit)
	if err != nil {
		return err
	}
	emit(manifest.AgentEvent{Result: &res})
	if lost != nil || len(res.Passwords) == 0 {
		return lost
	}
	answers := bufio.NewScanner(io.LimitReader(rest, 1024))
	for answers.Scan() {
		if strings.TrimSpace(answers.Text()) == manifest.AckPasswords {
			return a.PasswordsReceived(ctx, res.Passwords)
		}
	}
	return errors.New("nobody has confirmed the first passwords: the next apply makes new ones")
}

// revert says in the journal what it did.
func revert(ctx context.Context, a *agent.Agent, cmd *cobra.Command, _ []string) error {
	did, err := a.Revert(ctx)
	if did && err == nil {
		_, err = fmt.Fprintln(cmd.ErrOrStderr(), "mailformd: a change that was not confirmed was taken back")
	}
	return err
}

// readRequest reads the request document and returns what follows it.
func readRequest(r io.Reader, into any) (rest io.Reader, err error) {
	dec := json.NewDecoder(io.LimitReader(r, manifest.MaxDocument))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return nil, &agent.Error{Code: manifest.ExitRequest, Msg: "the request on standard input cannot be read", Err: err}
	}
	return io.MultiReader(dec.Buffered(), r), nil
}

func answer(cmd *cobra.Command, v any) error {
	b, err := manifest.Encode(v)
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}
