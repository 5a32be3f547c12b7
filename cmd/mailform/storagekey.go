package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mailform/cmd/mailform/internal/session"
)

// maxStorageKey is how much of a file with a storage key is read, in octets.
const maxStorageKey = 1024

func (a *app) storageKeyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "storage-key", Short: "take a copy of the key of encrypted mail, or bring it back",
		Long: `With server { storage { encrypt = true } } the stored mail is encrypted. Its key is made
on the host and is in no backup: whoever keeps the backups cannot read the mail, and
whoever loses the key cannot either. Take a copy of it once, and after it was changed,
and keep that where the backups are not.`,
	}
	c.AddCommand(a.exportStorageKeyCommand(), a.importStorageKeyCommand())
	return c
}

func (a *app) exportStorageKeyCommand() *cobra.Command {
	var stack stackFlags
	var out string
	c := &cobra.Command{
		Use: "export [HOST] [FOLDER] --out FILE", Short: "write a host's storage key to a new file that only you can read",
		Long: `export asks a host for its storage key and writes it to a new file with mode 0600, or
with --out - to standard output, when that is no terminal. The host then knows that there
is a copy, and plan and status no longer advise to take one. The key is shown nowhere and
is in no log or ledger.`,
		Example: `  mailform storage-key export --out /media/usb/mx1.storage-key
  mailform storage-key export mx1 --out - | pass insert -m mail/mx1`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return errors.New("name the file for the key: --out FILE")
			}
			if out == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
				return errors.New("a storage key is not shown on a terminal: name a file, or pass it on to a program")
			}
			return a.withHost(c, &stack, args, false, func(ctx context.Context, s *session.Session, host string) error {
				return a.exportStorageKey(ctx, s, host, out)
			})
		},
	}
	stack.add(c)
	c.Flags().StringVar(&out, "out", "", "the `file` for the key, which must not exist; - is standard output")
	return c
}

func (a *app) exportStorageKey(ctx context.Context, s *session.Session, host, out string) (err error) {
	// The place for it first: a key that was sent is not to be lost on the way.
	var f *os.File
	if out != "-" {
		if f, err = os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		defer func() {
			if f != nil {
				err = errors.Join(err, f.Close(), os.Remove(out))
			}
		}()
	}
	key, err := s.StorageKey(ctx, host)
	if err != nil {
		return interrupted(ctx, err)
	}
	if f == nil {
		if _, err := fmt.Fprintln(a.term.out, key.Key); err != nil {
			return err
		}
	} else {
		_, err := fmt.Fprintln(f, key.Key)
		if err := errors.Join(err, f.Sync(), syncFolder(filepath.Dir(out))); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		f = nil // it stays
	}
	if err := s.NoteStorageKey(ctx, host, key.Fingerprint); err != nil {
		return interrupted(ctx, fmt.Errorf("you have the key %s, but %s does not know of it: %w", key.Fingerprint, host, err))
	}
	fmt.Fprintf(a.term.err, "This is the storage key %s of %s. Keep it where the backups are not.\n", key.Fingerprint, host)
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (a *app) importStorageKeyCommand() *cobra.Command {
	var stack stackFlags
	c := &cobra.Command{
		Use: "import FILE [HOST] [FOLDER]", Short: "put a storage key that was exported in its place on a host; - reads standard input",
		Long: `import puts a key that was exported in its place on a host whose store needs it: after a
restore on a new machine, or when the key's file was lost there. Another key than the one
that the store needs is refused. When the server did not start without it, apply starts it.`,
		Args: cobra.RangeArgs(1, 3),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := a.readStorageKey(args[0])
			if err != nil {
				return err
			}
			return a.withHost(c, &stack, args[1:], false, func(ctx context.Context, s *session.Session, host string) error {
				if err := s.Lock(ctx, "mailform storage-key import"); err != nil {
					return err
				}
				got, err := s.ImportStorageKey(ctx, host, text)
				if err != nil {
					return interrupted(ctx, err)
				}
				fmt.Fprintf(a.term.out, "The storage key %s is in its place on %s.\n", got.Fingerprint, host)
				if got.Aside != "" {
					fmt.Fprintf(a.term.out, "The key that was there is kept in %s.\n", got.Aside)
				}
				return nil
			})
		},
	}
	stack.add(c)
	return c
}

func (a *app) readStorageKey(path string) (string, error) {
	in := a.term.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxStorageKey+1))
	if err == nil && len(b) > maxStorageKey {
		err = fmt.Errorf("%s is no storage key: it is too long", path)
	}
	return string(b), err
}
