package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/spf13/cobra"
	"golang.org/x/term"

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
			source, closeSource, err := openSource(ctx, args[1], passwordFile, warn(cmd))
			if err != nil {
				return err
			}
			defer closeSource()
			im.Server, im.Account = &daemon.Transfers{Client: daemon.ControlClient(layout().ControlSocket())}, args[0]
			im.Progress = counter(cmd, "imported", asJSON)
			start := time.Now()
			c, err := im.Run(ctx, source)
			if asJSON {
				err = errors.Join(answer(cmd, c), err)
			} else {
				what := "imported"
				if im.DryRun {
					what = "would be imported"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%d messages (%s) in %d mailboxes %s in %s; %d were there already, %d left out\n",
					c.Imported, octets(c.Bytes), c.Mailboxes, what, time.Since(start).Round(100*time.Millisecond), c.Present, c.Skipped)
			}
			if err != nil {
				return fmt.Errorf("%w; run the same command again: it goes on where it stopped", err)
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
			c, err := transfer.Export(ctx, frames, sink, counter(cmd, "exported", asJSON))
			if err == nil {
				err = transfer.OnDisk(dir)
			}
			if err != nil {
				return fmt.Errorf("the export is not whole: %w", err)
			}
			if asJSON {
				return answer(cmd, c)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d messages (%s) in %d mailboxes written to %s\n", c.Imported, octets(c.Bytes), c.Mailboxes, dir)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func warn(cmd *cobra.Command) func(string) {
	return func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "mailformd:", text) }
}

// counter shows how far it is: on one line of a terminal, or a line each ten seconds.
func counter(cmd *cobra.Command, what string, quiet bool) func(transfer.Counts) {
	if quiet {
		return nil
	}
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	last := time.Now()
	return func(c transfer.Counts) {
		if terminal {
			fmt.Fprintf(cmd.ErrOrStderr(), "\r\033[K%d messages, %s %s", c.Imported, octets(c.Bytes), what)
		} else if time.Since(last) > 10*time.Second {
			last = time.Now()
			fmt.Fprintf(cmd.ErrOrStderr(), "%d messages, %s %s\n", c.Imported, octets(c.Bytes), what)
		}
	}
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

// openSource opens what a person named, and returns how to let go of it.
func openSource(ctx context.Context, text, passwordFile string, warn func(string)) (transfer.Source, func(), error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch {
	case rest == "":
	case kind == "maildir":
		return transfer.Maildir{Dir: rest, Warn: warn}, func() {}, nil
	case kind == "mbox":
		return transfer.Mbox{Path: rest, Warn: warn}, func() {}, nil
	case kind == "imap" || kind == "imaps":
		u, err := url.Parse(text)
		if err != nil || u.User == nil || u.User.Username() == "" || u.Hostname() == "" {
			return nil, nil, fmt.Errorf("%s://USER@HOST is expected, with %%40 for an @ in USER", kind)
		}
		if _, has := u.User.Password(); has {
			return nil, nil, errors.New("a password in the command line is there for everybody to see: leave it out, it is asked for, or give --password-file")
		}
		c, err := dialIMAP(ctx, u)
		if err != nil {
			return nil, nil, err
		}
		password, err := readPassword(passwordFile, u.User.Username(), u.Host)
		if err == nil {
			err = c.Login(u.User.Username(), password).Wait()
		}
		if err != nil {
			_ = c.Close()
			return nil, nil, fmt.Errorf("log in to %s as %s: %w", u.Host, u.User.Username(), err)
		}
		return transfer.IMAP{Client: c, Host: u.Hostname(), User: u.User.Username(), Warn: warn}, func() { _ = c.Close() }, nil
	}
	return nil, nil, fmt.Errorf("%q is not maildir:DIR, mbox:FILE or imaps://USER@HOST", text)
}

func dialIMAP(ctx context.Context, u *url.URL) (*imapclient.Client, error) {
	dial, err := daemon.Dialer(os.Getenv)
	if err != nil {
		return nil, err
	}
	roots, err := daemon.Roots(os.Getenv("MAILFORM_CA_BUNDLE"))
	if err != nil {
		return nil, fmt.Errorf("MAILFORM_CA_BUNDLE: %w", err)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"imap": "143", "imaps": "993"}[u.Scheme]
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	nc, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{ServerName: u.Hostname(), RootCAs: roots, MinVersion: tls.VersionTLS12}
	if u.Scheme == "imap" {
		return imapclient.NewStartTLS(nc, &imapclient.Options{TLSConfig: conf})
	}
	secure := tls.Client(nc, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return imapclient.New(secure, nil), nil
}

// readPassword reads the first line of a file, or asks on the terminal.
func readPassword(file, user, host string) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, 4096))
		line, _, _ := strings.Cut(string(text), "\n")
		return strings.TrimSuffix(line, "\r"), err
	}
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", errors.New("there is no terminal to ask for the password: give --password-file")
	}
	fmt.Fprintf(os.Stderr, "Password of %s at %s: ", user, host)
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(os.Stderr)
	return string(b), err
}
