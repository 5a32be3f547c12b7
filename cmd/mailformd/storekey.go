package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mailform/server/backup"
	"mailform/server/store"
	"mailform/server/store/keyfile"
	"mailform/server/store/seal"
)

// key is the family of commands about the storage key.
func (k *storeKeeper) key() *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "look after the key of a store whose mail is encrypted",
		Long: `Look after the storage key: it opens the keyring of the store, and with that the mail. A backup has the keyring and not
the key, so that whoever keeps backups cannot read the mail, and whoever loses the key cannot either: export it once.`,
	}
	cmd.AddCommand(k.keyShow(), k.keyExport(), k.keyImport(), k.keyRotate(), k.keyMend())
	return cmd
}

// storeKeyShown is what is said of a storage key; never the key.
type storeKeyShown struct {
	Here   string `json:"here"`   // fingerprint of the key on this host; "" is none
	Needed string `json:"needed"` // of the one that the store needs; "" when it needs none
	Saved  bool   `json:"saved"`  // the one here was exported
}

// keyPlace is where the key of the store is that the command is about.
func (k *storeKeeper) keyPlace() keyfile.Place {
	p := keyfile.Of(layout())
	p.Store = k.path()
	if u, err := serviceUser(); err == nil && u != (backup.Owner{}) {
		p.GID = u.GID
	}
	return p
}

func (k *storeKeeper) shown() (s storeKeyShown, err error) {
	place := k.keyPlace()
	key, err := place.Key()
	if err != nil {
		return s, err
	}
	if s.Needed, err = place.Need(); err != nil || key == nil {
		return s, err
	}
	s.Here = key.Fingerprint()
	s.Saved, err = place.IsSaved(*key)
	return s, err
}

func (k *storeKeeper) keyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "say which key is here and which the store needs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := k.shown()
			if err != nil {
				return err
			}
			if *k.json {
				return answer(cmd, s)
			}
			orNone := func(s string) string {
				if s == "" {
					return "none"
				}
				return s
			}
			saved := "exported"
			if !s.Saved {
				saved = "never exported: it is nowhere but on this host"
			}
			if s.Here == "" {
				saved = ""
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "here:    %s  %s\nneeded:  %s\n", orNone(s.Here), saved, orNone(s.Needed))
			return err
		},
	}
}

func (k *storeKeeper) keyExport() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "export", Short: "write the key down: to the terminal, or to a new file with --out", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place := k.keyPlace()
			key, err := place.Key()
			if err != nil {
				return err
			}
			if key == nil {
				return errors.New("there is no storage key on this host")
			}
			switch {
			case out != "":
				err = writeSecret(out, key.Text()+"\n")
			case term.IsTerminal(int(os.Stdout.Fd())):
				_, err = fmt.Fprintln(cmd.OutOrStdout(), key.Text())
			default:
				err = errors.New("this is no terminal; name a file with --out, which only its owner can read")
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "This is the storage key %s. Keep it where the backups are not.\n", key.Fingerprint())
			return place.NoteSaved(key.Fingerprint())
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "new file for the key, with mode 0600")
	return cmd
}

// writeSecret makes a file that only its owner can read, and that must not exist.
func writeSecret(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func (k *storeKeeper) keyImport() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "put a key that was exported in its place; - reads it from standard input", Args: cobra.ExactArgs(1),
		Long: `Put a key that was exported in its place, after a restore on another machine. One that the store does not need is
refused. Start the server afterwards, or apply.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			text, err := io.ReadAll(io.LimitReader(in, 1024))
			if err != nil {
				return err
			}
			key, err := seal.ParseText(string(text))
			if err != nil {
				return err
			}
			aside, err := k.keyPlace().Import(key)
			if err != nil {
				return err
			}
			if aside != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "The key that was there is kept in %s.\n", aside)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The storage key %s is in its place.\n", key.Fingerprint())
			return err
		},
	}
}

func (k *storeKeeper) keyMend() *cobra.Command {
	return &cobra.Command{
		Use: "mend FILE", Short: "bring keys back into a damaged keyring; the server must be stopped", Args: cobra.ExactArgs(1),
		Long: `Take the keys that a damaged keyring has lost from FILE, another copy of it: the file store/keyring of a backup that was
restored elsewhere (mailformd restore --to DIR), or a keyring.damaged-… beside the keyring, mended by hand. Only keys
come back that stored messages were encrypted with; keys that were destroyed with their mailbox stay so.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			owner, err := ownerOf(k.path())
			if err != nil {
				return err
			}
			l, err := k.open(cmd, store.Options{Version: version})
			if err != nil {
				return err
			}
			names, err := l.Mend(cmd.Context(), text)
			if err = errors.Join(err, l.Close(), owner.give(k.path())); err != nil {
				return err
			}
			for _, name := range names {
				if name == seal.Server {
					name = "what waits to be sent"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "The key of %s is back.\n", name)
			}
			if len(names) == 0 {
				return errors.New("no key in it is one that the store lacks")
			}
			return nil
		},
	}
}

func (k *storeKeeper) keyRotate() *cobra.Command {
	return &cobra.Command{
		Use: "rotate", Short: "have the keyring wrapped by a new key; the server must be stopped", Args: cobra.NoArgs,
		Long: `Have the keyring wrapped by a new storage key. No message is touched. The one before is of use for older backups only.
Export the new one afterwards.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			owner, err := ownerOf(k.path())
			if err != nil {
				return err
			}
			l, err := k.open(cmd, store.Options{Version: version})
			if err != nil {
				return err
			}
			key, err := k.keyPlace().Rotate(l, rand.Reader)
			if err = errors.Join(err, l.Close(), owner.give(k.path())); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The store needs the storage key %s now. Export it: mailformd store key export\n", key.Fingerprint())
			return err
		},
	}
}
