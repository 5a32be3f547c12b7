package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/agent"
	"mailform/server/daemon"
	"mailform/server/store"
	"mailform/server/store/seal"
)

// exitDamaged is what a check or a salvage ends with that found damage.
const exitDamaged = 2

func storeCommand() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "store", Short: "look after the mail store",
		Long: `Look after the mail store of this host, or of --dir.

check, stats, compact and erase ask the running server. Without one, and with --dir, check and stats read the files and
change nothing, and so does salvage; erase works on the files. rebuild needs the server stopped (systemctl stop 'mailformd*').`,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&dir, "dir", "", "directory of another store, for example of a restored one")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	k := &storeKeeper{dir: &dir, json: &asJSON}
	cmd.AddCommand(k.stats(), k.check(), k.compact(), k.rebuild(), k.salvage(), k.erase(), k.key())
	return cmd
}

// storeKeeper has what the commands share.
type storeKeeper struct {
	dir  *string
	json *bool
}

func (k *storeKeeper) path() string {
	if *k.dir != "" {
		return *k.dir
	}
	return layout().StoreDir()
}

// ask asks the running server; false when there is none to ask.
func (k *storeKeeper) ask(ctx context.Context, method, path string, into any) (bool, error) {
	if *k.dir != "" {
		return false, nil
	}
	err := ask(ctx, layout().ControlSocket(), method, path, into)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return false, nil
	}
	return true, err
}

// open opens the store's files.
func (k *storeKeeper) open(cmd *cobra.Command, o store.Options) (*store.Log, error) {
	if _, err := os.Stat(filepath.Join(k.path(), "log")); err != nil {
		return nil, fmt.Errorf("%s is no mail store: %w", k.path(), err)
	}
	if !o.Keyless {
		root, err := k.keyPlace().Key()
		if err != nil {
			return nil, err
		}
		o.Root = root
	}
	o.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelError}))
	l, err := store.Open(k.path(), o)
	if errors.Is(err, store.ErrInUse) {
		return nil, fmt.Errorf("%w: mailformd is running on it: stop it and its sockets first (systemctl stop 'mailformd*')", err)
	}
	return l, err
}

func (k *storeKeeper) stats() *cobra.Command {
	return &cobra.Command{
		Use: "stats", Short: "say what the store holds and takes on the disk", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st store.Stats
			asked, err := k.ask(cmd.Context(), http.MethodGet, "/v1/store", &st)
			if err != nil {
				return err
			}
			if !asked {
				l, err := k.open(cmd, store.Options{FS: store.ReadOnly(), Keyless: true})
				if err != nil {
					return err
				}
				st, err = l.Stats(cmd.Context())
				if err = errors.Join(err, l.Close()); err != nil {
					return err
				}
			}
			if *k.json {
				return answer(cmd, st)
			}
			return printStats(cmd.OutOrStdout(), st, asked)
		},
	}
}

func printStats(w io.Writer, st store.Stats, running bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "accounts:\t%d with %d mailboxes\n", st.Accounts, st.Mailboxes)
	fmt.Fprintf(t, "messages:\t%d of %s\n", st.Messages, octets(st.Octets))
	fmt.Fprintf(t, "queue:\t%d\n", st.Queued)
	fmt.Fprintf(t, "log:\t%s in %d segments, %s of it in use\n", octets(st.LogOctets), st.LogSegments, octets(st.Live))
	fmt.Fprintf(t, "large messages:\t%s in %d files\n", octets(st.BodyOctets), st.BodySegments)
	if st.KeptSegments > 0 {
		fmt.Fprintf(t, "kept for salvage:\t%s in %d files of large messages whose place was lost to damage\n", octets(st.KeptOctets), st.KeptSegments)
	}
	if st.Packed > 0 {
		fmt.Fprintf(t, "compressed:\t%s to %s (%d %%)\n", octets(st.Packed), octets(st.PackedTo), 100*st.PackedTo/st.Packed)
	}
	printSealing(t, st.Sealing)
	switch c := st.Compacted; {
	case c != nil:
		fmt.Fprintf(t, "compacted:\t%s UTC: %d segments of %s removed with what was expunged from them, %d bodies of %s moved\n",
			c.Time.UTC().Format(time.DateTime), c.Segments, octets(c.Freed), c.Bodies, octets(c.Copied))
	case running:
		fmt.Fprintf(t, "compacted:\tnot since the server started\n")
	}
	for _, d := range st.Damage {
		fmt.Fprintf(t, "damage:\t%s\n", d)
	}
	return t.Flush()
}

// printSealing says how far encryption has come.
func printSealing(w io.Writer, s *store.Sealing) {
	if s == nil {
		return
	}
	files := fmt.Sprintf("%s in %d files in the clear", octets(s.Clear), s.ClearFiles)
	switch {
	case s.ClearFiles == 0:
		fmt.Fprintf(w, "encrypted:\tall\n")
	case !s.On:
		fmt.Fprintf(w, "encrypted:\t%s\n", files)
	default:
		fmt.Fprintf(w, "encrypted:\t%s, to be done in about %s\n", files, max(time.Minute, time.Duration(s.Clear/daemon.SealRate)*time.Second).Round(time.Minute))
	}
	if s.Stuck > 0 {
		fmt.Fprintf(w, "\t%d files with damage in them stay as they are: mailformd store check\n", s.Stuck)
	}
	if s.Waiting > 0 {
		fmt.Fprintf(w, "\t%d files go when the backup that reads them has ended\n", s.Waiting)
	}
}

func (k *storeKeeper) check() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "read all that is stored and compare it with its checksums", Args: cobra.NoArgs,
		Long: `Read all that is stored: every record is compared with its checksum, every message with the octets it refers to, every
counter with what it counts; what is encrypted is opened with the key of its account. It changes nothing. The exit code is 2 when something is damaged.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c daemon.StoreCheck
			asked, err := k.ask(cmd.Context(), http.MethodGet, "/v1/store/check", &c)
			if err != nil {
				return err
			}
			if !asked {
				l, err := k.open(cmd, store.Options{FS: store.ReadOnly()})
				var key *seal.RootError
				if errors.As(err, &key) || errors.Is(err, seal.ErrRing) {
					fmt.Fprintf(cmd.ErrOrStderr(), "What is encrypted is compared with its checksums only: %v\n", err)
					l, err = k.open(cmd, store.Options{FS: store.ReadOnly(), Keyless: true})
				}
				if err != nil {
					return err
				}
				found := []error{}
				for _, d := range l.Damage() {
					if !d.Tail && d.File != store.KeyringFile { // remains of a crash are none; of the keyring the check tells
						found = append(found, errors.New(d.String()))
					}
				}
				c = daemon.NewStoreCheck(errors.Join(append(found, l.Check(cmd.Context()))...))
				if err := errors.Join(cmd.Context().Err(), l.Close()); err != nil {
					return err
				}
			}
			switch {
			case *k.json:
				if err := answer(cmd, c); err != nil {
					return err
				}
			case len(c.Findings) == 0:
				fmt.Fprintln(cmd.OutOrStdout(), "the store is whole")
			default:
				for _, f := range c.Findings {
					fmt.Fprintln(cmd.OutOrStdout(), f)
				}
			}
			if n := len(c.Findings); n > 0 {
				return &agent.Error{Code: exitDamaged, Msg: fmt.Sprintf("%d findings; mailformd store salvage DIR writes what can be read to files", n)}
			}
			return nil
		},
	}
}

func (k *storeKeeper) compact() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "compact", Short: "have the running server take expunged mail off the disk now", Args: cobra.NoArgs,
		Long: `Have the running server copy what is in use out of log segments that are mostly dead, and remove them. It does so each
hour by itself. With --all every segment is copied, so that nothing of what was expunged before is left; that reads and
writes all small messages once.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c store.Compaction
			path := "/v1/store/compact"
			if all {
				path += "?all"
			}
			asked, err := k.ask(cmd.Context(), http.MethodPost, path, &c)
			if err == nil && !asked {
				err = errors.New("the server is not running, or --dir names another store than its own")
			}
			if err != nil {
				return err
			}
			if *k.json {
				return answer(cmd, c)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d segments of %s removed, %d bodies of %s moved\n", c.Segments, octets(c.Freed), c.Bodies, octets(c.Copied))
			if c.Waiting > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%d segments go when the backup that reads them has ended\n", c.Waiting)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also segments that are mostly in use")
	return cmd
}

func (k *storeKeeper) rebuild() *cobra.Command {
	return &cobra.Command{
		Use: "rebuild", Short: "make the index and the checkpoints anew, and have the search index and the summaries made anew", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			owner, err := ownerOf(k.path())
			if err != nil {
				return err
			}
			l, err := k.open(cmd, store.Options{Version: version, Rebuild: true, Keyless: true})
			if err != nil {
				return err
			}
			err = l.Rebuild(cmd.Context())
			st, serr := l.Stats(cmd.Context())
			if err = errors.Join(err, serr, l.Close()); err != nil {
				return err
			}
			// The server makes them again from the messages.
			if err := errors.Join(os.RemoveAll(filepath.Join(k.path(), "search")), os.RemoveAll(filepath.Join(k.path(), "summary")), owner.give(k.path())); err != nil {
				return err
			}
			if *k.json {
				return answer(cmd, st)
			}
			return printStats(cmd.OutOrStdout(), st, false)
		},
	}
}

// fileOwner is whom the files of a store belong to.
type fileOwner struct{ uid, gid int }

func ownerOf(path string) (fileOwner, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileOwner{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileOwner{}, fmt.Errorf("%s: its owner is not known", path)
	}
	return fileOwner{int(st.Uid), int(st.Gid)}, nil
}

// give makes all below a directory the owner's; root has made some of it.
func (o fileOwner) give(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, o.uid, o.gid)
	})
}

// oneLine keeps what a store says from being taken for several findings.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
