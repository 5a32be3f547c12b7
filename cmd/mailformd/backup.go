package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mailform/server/agent"
	"mailform/server/backup"
	"mailform/server/bucket"
	"mailform/server/daemon"
	"mailform/server/manifest"
	"mailform/server/store"
	"mailform/server/store/keyfile"
	"mailform/server/store/seal"
)

func backupCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "backup", Short: "copies of the mail in a bucket"}
	var asJSON bool
	now := &cobra.Command{
		Use: "now", Short: "make a backup, by the running server, and wait for it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var b manifest.Backed
			if err := ask(cmd.Context(), layout().ControlSocket(), http.MethodPost, "/v1/backup", &b); err != nil {
				return err
			}
			if asJSON {
				return answer(cmd, b)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %d files, %d octets\n", b.Time.Format(time.RFC3339), b.Files, b.Bytes)
			return err
		},
	}
	now.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	var from source
	list := &cobra.Command{
		Use: "list", Short: "list the backups there are, newest last", Args: cobra.NoArgs, Long: sourceHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := from.place()
			if err != nil {
				return err
			}
			return listBackups(cmd.Context(), cmd.OutOrStdout(), p)
		},
	}
	from.flags(list.Flags())
	cmd.AddCommand(now, list)
	return cmd
}

func listBackups(ctx context.Context, w io.Writer, p *backup.Place) error {
	times, err := p.Times(ctx)
	if err != nil {
		return err
	}
	if len(times) == 0 {
		_, err := fmt.Fprintln(w, "there are no backups")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tFILES\tOCTETS\tMAILFORMD")
	for _, at := range times {
		m, err := p.Manifest(ctx, at)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			fmt.Fprintf(t, "%s\tcannot be read: %v\n", at.Format(time.RFC3339), err)
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\n", at.Format(time.RFC3339), m.Files, m.Bytes, m.Version)
	}
	return t.Flush()
}

func restoreCommand() *cobra.Command {
	var from source
	var at, to, keyFile string
	var noKey bool
	cmd := &cobra.Command{
		Use: "restore", Short: "bring the mail back from a backup", Args: cobra.NoArgs,
		Long: `Bring the mail back from the newest backup, or the newest one not after --at.

There must be no mail store yet in the directory: stop mailformd with its sockets (systemctl stop 'mailformd*') and move
/var/lib/mailform/store away, or give another directory with --to. The store is
put in its place only when every object has its checksum and the store has found
itself whole. Passwords made on the host come with it; where there are others
already, they stay, and the old ones are put beside them. Keys of TLS and DKIM are
in no backup: mailform apply makes new ones.

UIDs that were given out after the backup are passed over, so that mail programs
do not confuse messages. What waited for other hosts at the time of the backup is
sent when mailformd starts, although it may have been sent since.

Encrypted mail needs the storage key of the host that made the backup, which is in
none: it is the one on this host, or that of --storage-key, as mailform storage-key
export wrote it. Whether it opens the backup is found out before anything is changed.

` + sourceHelp,
		Example: `  mailformd restore --at 2026-11-22T10:00:00Z --to /root/restored
  mailformd restore --storage-key /root/mx1.storage-key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := from.place()
			if err != nil {
				return err
			}
			var limit time.Time
			if at != "" {
				if limit, err = time.Parse(time.RFC3339, at); err != nil {
					return fmt.Errorf("--at %q is not a time like 2026-11-22T10:00:00Z", at)
				}
			}
			return restore(cmd.Context(), cmd.OutOrStdout(), p, limit, to, keySource{keyFile, noKey})
		},
	}
	from.flags(cmd.Flags())
	cmd.Flags().StringVar(&at, "at", "", "the newest backup not after this time, as 2026-11-22T10:00:00Z")
	cmd.Flags().StringVar(&to, "to", "", "restore below this directory; default the server's own")
	cmd.Flags().StringVar(&keyFile, "storage-key", "", "file with the storage key of encrypted mail; - reads standard input")
	cmd.Flags().BoolVar(&noKey, "without-storage-key", false, "restore encrypted mail without its key, which is brought later: mailformd store key import")
	return cmd
}

// restore brings back the newest backup not after at, below to or in the server's place.
func restore(ctx context.Context, w io.Writer, p *backup.Place, at time.Time, to string, from keySource) error {
	var owner backup.Owner
	own := to == ""
	if to == "" {
		to = layout().StateDir()
		if _, err := (agent.Control{Socket: layout().ControlSocket()}).Status(ctx); err == nil {
			return errors.New("mailformd is running: stop it and its sockets first (systemctl stop 'mailformd*')")
		}
		var err error
		if owner, err = serviceUser(); err != nil {
			return err
		}
	}
	t, err := p.Newest(ctx, at)
	if err != nil {
		return err
	}
	key, err := from.key(ctx, p, t)
	if err != nil {
		return err
	}
	out, err := p.Restore(ctx, t, to, owner)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: the backup of %s, %d files, %d octets\n", filepath.Join(to, "store"), t.Format(time.RFC3339), out.Manifest.Files, out.Manifest.Bytes)
	if out.Queued > 0 {
		fmt.Fprintf(w, "%d messages waited for other hosts; they are sent when mailformd starts, again if they were sent since\n", out.Queued)
	}
	for _, path := range out.Beside {
		fmt.Fprintf(w, "%s: not put in place, there is one already\n", path)
	}
	if own && key != nil {
		place := (&storeKeeper{dir: new(string)}).keyPlace()
		aside, err := place.Import(*key)
		if err != nil {
			return fmt.Errorf("the mail is restored, its storage key is not in its place: %w", err)
		}
		if aside != "" {
			fmt.Fprintf(w, "the storage key that was here is kept in %s\n", aside)
		}
	}
	return sayKey(w, filepath.Join(to, "store"))
}

// keySource says where the storage key of a backup is.
type keySource struct {
	file string // "" is this host
	none bool   // it comes later
}

// key finds out whether the key opens the backup made at t, and returns one that came
// from a file; nil when the backup needs none, or the one on this host.
func (k keySource) key(ctx context.Context, p *backup.Place, t time.Time) (*seal.Key, error) {
	ring, err := p.Keyring(ctx, t)
	if err != nil || ring == nil || k.none {
		return nil, err
	}
	var have *seal.Key
	if k.file != "" {
		key, err := readStorageKey(k.file)
		if err != nil {
			return nil, err
		}
		have = &key
	} else if have, err = keyfile.Of(layout()).Key(); err != nil {
		return nil, err
	}
	_, _, err = seal.Decode(have, rand.Reader, ring)
	var wrong *seal.RootError
	if errors.As(err, &wrong) {
		here := "there is none on this host"
		if wrong.Have != "" {
			here = "this one is " + wrong.Have
		}
		return nil, fmt.Errorf("the mail of this backup is encrypted with the storage key %s, and %s. Nothing was changed; give it with --storage-key FILE, "+
			"as mailform storage-key export wrote it, or restore with --without-storage-key and bring it later", wrong.Want, here)
	}
	if err != nil {
		return nil, fmt.Errorf("the backup of %s: %w. Nothing was changed; choose another one", t.Format(time.RFC3339), err)
	}
	if k.file == "" {
		return nil, nil
	}
	return have, nil
}

// readStorageKey reads a key that was exported; - is standard input.
func readStorageKey(path string) (seal.Key, error) {
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return seal.Key{}, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, 1024))
	if err != nil {
		return seal.Key{}, err
	}
	return seal.ParseText(string(text))
}

// sayKey says which storage key a restored store needs, when that is not here.
func sayKey(w io.Writer, dir string) error {
	need, err := store.KeyNeeded(dir)
	if err != nil || need == "" {
		return err
	}
	place := keyfile.Of(layout())
	place.Store = dir
	key, err := place.Key()
	if err == nil && key != nil && key.Fingerprint() == need {
		_, err := fmt.Fprintf(w, "its mail is encrypted with the storage key %s, which is on this host\n", need)
		return err
	}
	_, err = fmt.Fprintf(w, "its mail is encrypted with the storage key %s, which is not on this host: nobody can read it, and mailformd does not start,\n"+
		"until it is brought back with mailformd store key import FILE, from what mailform storage-key export wrote\n", need)
	return err
}

// serviceUser is whom the mail belongs to on a host; the zero Owner where there
// is no such user, or this is not root.
func serviceUser() (backup.Owner, error) {
	if os.Geteuid() != 0 {
		return backup.Owner{}, nil
	}
	u, err := user.Lookup(agent.User)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		return backup.Owner{}, nil
	}
	if err != nil {
		return backup.Owner{}, err
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	return backup.Owner{UID: uid, GID: gid}, errors.Join(uerr, gerr)
}

const sourceHelp = `The bucket and its key are those of this host's settings. On another machine give
--endpoint, --bucket, --prefix and --host, and the key in AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY (or the names that Alibaba Cloud's tools use).`

// source says where backups are.
type source struct{ endpoint, bucket, region, prefix, host string }

func (s *source) flags(f *pflag.FlagSet) {
	f.StringVar(&s.endpoint, "endpoint", "", "URL of the service; default that of this host's settings")
	f.StringVar(&s.bucket, "bucket", "", "name of the bucket, with --endpoint")
	f.StringVar(&s.region, "region", "", "the service's region, with --endpoint")
	f.StringVar(&s.prefix, "prefix", "", "what the objects' names begin with, with --endpoint")
	f.StringVar(&s.host, "host", "", "the host's name in the spec; default this host's")
}

func (s *source) place() (*backup.Place, error) {
	var b manifest.Backup
	var token string
	host := s.host
	text, err := os.ReadFile(layout().ManifestFile())
	switch {
	case err == nil:
		m, err := manifest.ReadManifest(text)
		if err != nil {
			return nil, err
		}
		if host == "" {
			host = m.Host
		}
		if s.endpoint == "" && m.Backup == nil {
			return nil, backup.ErrOff
		}
		if m.Backup != nil {
			b = *m.Backup
		}
	case s.endpoint == "":
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: this is no host of mailform, give --endpoint, --bucket and --host", err)
		}
		return nil, err
	}
	if s.endpoint != "" {
		c, err := bucket.EnvCredentials(os.Getenv)
		if err != nil {
			return nil, err
		}
		token = c.SessionToken
		b = manifest.Backup{Endpoint: s.endpoint, Bucket: s.bucket, Region: s.region, Prefix: s.prefix, AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}
	}
	dial, err := daemon.Dialer(os.Getenv)
	if err != nil {
		return nil, err
	}
	roots, err := daemon.Roots(os.Getenv("MAILFORM_CA_BUNDLE"))
	if err != nil {
		return nil, fmt.Errorf("MAILFORM_CA_BUNDLE: %w", err)
	}
	return backup.NewPlace(backup.Config{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), HTTP: daemon.HTTPClient(dial, roots), SessionToken: token, Rate: -1,
		Role: bucket.Role(bucket.RoleConfig{URL: os.Getenv("MAILFORM_METADATA")})}, b, host)
}
