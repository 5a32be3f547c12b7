package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mailform/server/agent"
	"mailform/server/daemon"
	"mailform/server/transfer"
)

func importCommand() *cobra.Command {
	im := &transfer.Importer{Map: map[string]string{}}
	var mapping []string
	var passwordFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "import ADDRESS SOURCE", Short: "bring mail from elsewhere into a mailbox", Args: cobra.ExactArgs(2),
		Long: `Bring mail with its folders, flags and dates into the mailbox of ADDRESS, by the running server.

SOURCE is one of
  maildir:DIR                 a Maildir, also with Courier's and Dovecot's folders and keywords
  mbox:FILE                   an mbox file of any variant; its messages go to INBOX
  mbox:DIR                    a directory of them: Thunderbird's, Apple Mail's exports, Gmail's export (Takeout)
  imaps://USER@HOST[:PORT]    another server; imap:// begins with STARTTLS

Nothing is changed at the source. An import that was cut short, or is run again later, takes what is missing and nothing
twice. Folders such as "Sent Items" go to the special mailboxes; --map NAME=OURS says otherwise for one, --map NAME= leaves it out.

Of Gmail's export, which has each message once with its labels, a message goes to Trash, Junk or Drafts if it is there, else
to INBOX, else to the folder of its first label, else to Sent or Archive; its other labels become keywords. Messages that
Thunderbird has deleted, and not yet taken out of its files, are left out. Files may be compressed with gzip, bzip2 or zstd.`,
		Example: `  mailformd import alice@example.com maildir:/home/alice/Maildir
  mailformd import alice@example.com imaps://alice%40old.example@imap.old.example --map 'INBOX/Lists='`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, m := range mapping {
				from, to, ok := strings.Cut(m, "=")
				if !ok || from == "" {
					return fmt.Errorf("--map %q is not NAME=OURS", m)
				}
				im.Map[from] = to
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			open := remembering(passwordFile)
			source, closeSource, err := open(ctx, args[1], warn(cmd))
			if err != nil {
				return err
			}
			im.Server, im.Account = &daemon.Transfers{Client: daemon.ControlClient(layout().ControlSocket())}, args[0]
			p := &mover{cmd: cmd, im: im, verb: "imported", quiet: asJSON, start: time.Now()}
			im.Progress = p.show
			c, err := p.run(ctx, source, closeSource, func() (transfer.Source, func(), error) {
				return open(ctx, args[1], func(string) {}) // it has been said
			})
			p.end()
			if asJSON {
				err = errors.Join(answer(cmd, c), err)
			} else if err == nil || c.Imported+c.Present > 0 {
				err = errors.Join(err, printImported(cmd.OutOrStdout(), c, im.DryRun, time.Since(p.start)))
			}
			switch {
			case err != nil && ctx.Err() != nil:
				return fmt.Errorf("the import was interrupted; run the same command again: it goes on where it stopped")
			case err != nil && c.Imported == 0:
				return err
			case err != nil:
				return fmt.Errorf("%w\nrun the same command again: it goes on where it stopped", err)
			case c.Failed > 0:
				return &agent.Error{Code: exitDamaged, Msg: fmt.Sprintf("not all came, for the reasons above (%d did not); run the same command again when the source can give them", c.Failed)}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&mapping, "map", nil, "NAME=OURS: where a folder's messages go; NAME= leaves it out; repeatable")
	f.StringVar(&passwordFile, "password-file", "", "file with the other server's password; without it, it is asked for")
	f.BoolVar(&im.DryRun, "dry-run", false, "count what there is to import, and change nothing")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func exportCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "export ADDRESS SINK", Short: "write a mailbox's mail to files", Args: cobra.ExactArgs(2),
		Long: `Write all mail of ADDRESS, with folders, flags and dates, to a new directory: maildir:DIR (Maildir++, as Dovecot reads
it) or mbox:DIR (one mboxrd file for each folder). Imported again, both bring back the same messages, flags, dates and folders.`,
		Example: `  mailformd export alice@example.com maildir:/root/alice`,
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, dir, _ := strings.Cut(args[1], ":")
			var sink transfer.Sink
			var err error
			switch {
			case dir == "":
				return fmt.Errorf("%q is not maildir:DIR or mbox:DIR", args[1])
			case kind == "maildir":
				sink, err = transfer.NewMaildirSink(dir)
			case kind == "mbox":
				sink, err = transfer.NewMboxSink(dir)
			default:
				return fmt.Errorf("%q is not maildir:DIR or mbox:DIR", args[1])
			}
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			frames, err := (&daemon.Transfers{Client: daemon.ControlClient(layout().ControlSocket())}).Export(ctx, args[0])
			if err != nil {
				return err
			}
			defer frames.Close()
			p := &mover{cmd: cmd, verb: "exported", quiet: asJSON, start: time.Now()}
			c, err := transfer.Export(ctx, frames, sink, p.show)
			p.end()
			if err == nil {
				err = transfer.OnDisk(dir)
			}
			if err != nil {
				return fmt.Errorf("the export is not whole: %w; remove %s and run it again", err, dir)
			}
			if asJSON {
				return answer(cmd, c)
			}
			return printExported(cmd.OutOrStdout(), c, dir, time.Since(p.start))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func warn(cmd *cobra.Command) func(string) {
	clear := ""
	if term.IsTerminal(int(os.Stderr.Fd())) {
		clear = "\r\033[K" // of what shows how far it is
	}
	return func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), clear+"mailformd:", text) }
}

func octets(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", (n+1023)/1024)
}
