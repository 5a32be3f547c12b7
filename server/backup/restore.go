package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailform/server/bucket"
	"mailform/server/store"
)

// Restored says what a restore has brought back.
type Restored struct {
	Manifest *Manifest
	Queued   int // messages that waited for other hosts then, and will be sent (again)
	// Beside are documents that were there already, and the names below which
	// those of the backup were put: credentials.json.restored.
	Beside []string
}

// ErrNotEmpty is why a restore refuses a directory.
var ErrNotEmpty = errors.New("there is a mail store already")

// ErrNoBackup says that there is none to restore.
var ErrNoBackup = errors.New("there is no backup")

// DamageError lists what of a backup cannot be restored.
type DamageError struct {
	Time    time.Time
	Objects []string // "objects/SHA256 (octets 0 to 16777216 of store/log/…): its checksum does not match"
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the backup of %s is damaged, choose another one; nothing was restored:\n  %s", e.Time.Format(time.RFC3339), strings.Join(e.Objects, "\n  "))
}

// maxDamage bounds how much damage is listed.
const maxDamage = 50

// Newest returns the time of the newest backup not after at; the zero time is any.
func (p *Place) Newest(ctx context.Context, at time.Time) (time.Time, error) {
	times, err := p.Times(ctx)
	if err != nil {
		return time.Time{}, err
	}
	for i := len(times) - 1; i >= 0; i-- {
		if at.IsZero() || !times[i].After(at) {
			return times[i], nil
		}
	}
	if len(times) > 0 {
		return time.Time{}, fmt.Errorf("%w that is as old: the oldest is of %s", ErrNoBackup, times[0].Format(time.RFC3339))
	}
	return time.Time{}, fmt.Errorf("%w below %s", ErrNoBackup, p.keys.base)
}

// Restore makes the mail store of the backup made at t in dir/store, and the
// documents beside it in dir, which is a state directory such as
// /var/lib/mailform. There must be no store yet. The new one is put in its place
// only when every object has the right checksum and the store finds itself whole.
func (p *Place) Restore(ctx context.Context, t time.Time, dir string, owner Owner) (_ *Restored, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	final := filepath.Join(dir, "store")
	if entries, err := os.ReadDir(final); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s: %w: stop mailformd and move it away, or restore to another directory", final, ErrNotEmpty)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	m, err := p.Manifest(ctx, t)
	if err != nil {
		return nil, err
	}
	temp := filepath.Join(dir, ".restore")
	if err := os.RemoveAll(temp); err != nil { // of a restore that was killed
		return nil, err
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if err := p.fetch(ctx, m, temp); err != nil {
		return nil, err
	}
	out := &Restored{Manifest: m}
	built := filepath.Join(temp, "store")
	if out.Queued, err = proven(ctx, built); err != nil {
		return nil, err
	}
	if err := owner.take(temp); err != nil {
		return nil, err
	}
	if err := os.Remove(final); err != nil && !errors.Is(err, fs.ErrNotExist) { // the empty folder
		return nil, err
	}
	if err := os.Rename(built, final); err != nil {
		return nil, err
	}
	for _, name := range []string{credentialsName, retainedName} {
		from, to := filepath.Join(temp, name), filepath.Join(dir, name)
		if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := os.Lstat(to); err == nil {
			to += ".restored"
			out.Beside = append(out.Beside, to)
		}
		if err := os.Rename(from, to); err != nil {
			return nil, err
		}
	}
	return out, syncDir(dir)
}

// Keyring returns the keyring of the backup made at t, which opens with its host's
// storage key; nil when its mail is not encrypted. Nothing is written.
func (p *Place) Keyring(ctx context.Context, t time.Time) ([]byte, error) {
	m, err := p.Manifest(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, o := range m.Pages {
		files, err := p.page(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("the backup of %s: %w", t.Format(time.RFC3339), err)
		}
		for _, f := range files {
			if f.Name != keyringFile {
				continue
			}
			var b []byte
			for _, o := range f.Parts {
				part, err := p.object(ctx, o)
				if err != nil {
					return nil, fmt.Errorf("the keyring of the backup of %s: %w", t.Format(time.RFC3339), err)
				}
				if b = append(b, part...); len(b) > maxKeyring {
					return nil, fmt.Errorf("the keyring of the backup of %s: %w: it is too long", t.Format(time.RFC3339), errDamaged)
				}
			}
			return b, nil
		}
	}
	return nil, nil
}

// keyringFile is the store's keyring in a backup.
const keyringFile = storeDir + "keyring"

// maxKeyring is how many octets of one are read.
const maxKeyring = 64 << 20

// object reads one object into memory.
func (p *Place) object(ctx context.Context, o object) ([]byte, error) {
	if o.Size > maxKeyring {
		return nil, fmt.Errorf("%w: it has %d octets", errDamaged, o.Size)
	}
	var b sliceAt
	err := p.fetchPart(ctx, o, &b, 0)
	return b, err
}

// sliceAt is an io.WriterAt in memory.
type sliceAt []byte

func (s *sliceAt) WriteAt(p []byte, off int64) (int, error) {
	if n := off + int64(len(p)); n > int64(len(*s)) {
		*s = append(*s, make([]byte, n-int64(len(*s)))...)
	}
	return copy((*s)[off:], p), nil
}

// fetch writes the files of a backup below dir and reports all damage at once.
func (p *Place) fetch(ctx context.Context, m *Manifest, dir string) error {
	damage := &DamageError{Time: m.Time}
	note := func(err error) error {
		if !errors.Is(err, errDamaged) && !errors.Is(err, bucket.ErrNotFound) {
			return err
		}
		if damage.Objects = append(damage.Objects, err.Error()); len(damage.Objects) >= maxDamage {
			return damage
		}
		return nil
	}
	count, octets := 0, int64(0)
	for _, o := range m.Pages {
		files, err := p.page(ctx, o)
		if err != nil {
			if err := note(err); err != nil {
				return err
			}
			continue
		}
		for _, f := range files {
			count++
			octets += f.Size
			if err := p.fetchFile(ctx, f, filepath.Join(dir, filepath.FromSlash(f.Name)), note); err != nil {
				return err
			}
		}
	}
	if len(damage.Objects) == 0 && (count != m.Files || octets != m.Bytes) {
		return fmt.Errorf("the backup of %s: %w: its lists have %d files of %d octets, it says %d of %d", m.Time.Format(time.RFC3339), errDamaged, count, octets, m.Files, m.Bytes)
	}
	if len(damage.Objects) > 0 {
		return damage
	}
	return nil
}

func (p *Place) fetchFile(ctx context.Context, f file, path string, note func(error) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	mode := fs.FileMode(0o600)
	if !strings.HasPrefix(f.Name, storeDir) {
		mode = 0o640
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	off := int64(0)
	for _, o := range f.Parts {
		if err := p.fetchPart(ctx, o, out, off); err != nil {
			if err := note(fmt.Errorf("%s (octets %d to %d of %s): %w", p.keys.object(o.Sum), off, off+o.Size, f.Name, err)); err != nil {
				return err
			}
		}
		off += o.Size
	}
	return out.Sync()
}

// fetchPart writes one object where it belongs in its file. What breaks off on
// the way is asked for again.
func (p *Place) fetchPart(ctx context.Context, o object, out io.WriterAt, off int64) error {
	return p.try(ctx, func(ctx context.Context) error {
		body, _, err := p.client.Get(ctx, p.keys.object(o.Sum))
		if err != nil {
			return err
		}
		defer body.Close()
		h := sha256.New()
		w := io.NewOffsetWriter(out, off)
		n, err := io.Copy(io.MultiWriter(h, &localWriter{w}), io.LimitReader(body, o.Size+1))
		switch {
		case err != nil:
			return err
		case n != o.Size:
			return &localError{fmt.Errorf("%w: it has not %d octets", errDamaged, o.Size)}
		case sum(h.Sum(nil)) != o.Sum:
			return &localError{fmt.Errorf("%w: its checksum does not match", errDamaged)}
		}
		return nil
	})
}

type localWriter struct{ w io.Writer }

func (l *localWriter) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	if err != nil {
		err = &localError{err}
	}
	return n, err
}

// proven opens a restored store, so that it passes over the numbers that its
// original gave out since, and lets it compare everything in it.
func proven(ctx context.Context, dir string) (queued int, err error) {
	l, err := store.Open(dir, store.Options{Copied: true, Keyless: true, ReserveBytes: -1})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for _, d := range l.Damage() {
		err = errors.Join(err, fmt.Errorf("the restored store: %w: %s", errDamaged, d))
	}
	if cerr := l.Check(ctx); cerr != nil {
		err = errors.Join(err, fmt.Errorf("the restored store: %w", cerr))
	}
	if err != nil {
		return 0, err
	}
	entries, err := l.Queue(ctx)
	return len(entries), err
}

// Owner is who the restored files are for: the mail store belongs to the user,
// the documents beside it stay with who restores them and are readable for the
// group. The zero Owner changes nothing.
type Owner struct{ UID, GID int }

func (o Owner) take(root string) error {
	if o == (Owner{}) {
		return nil
	}
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		uid := o.UID
		if filepath.Dir(path) == root && !e.IsDir() {
			uid = -1
		}
		return os.Lchown(path, uid, o.GID)
	})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
