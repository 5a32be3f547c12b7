package backup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"mailform/server/bucket"
	"mailform/server/manifest"
	"mailform/server/store"
)

// Store is what of store.Log a backup uses.
type Store interface {
	Image(ctx context.Context) (*store.Image, error)
}

// Source is what is backed up.
type Source struct {
	Store  Store
	Layout manifest.Layout // of the documents beside the store
	Stack  string
	Host   string
	// Version is that of this mailformd.
	Version string
}

// Backup makes one backup of all that is durable when it begins.
func (p *Place) Backup(ctx context.Context, src Source) (_ *Manifest, err error) {
	r := &run{Place: p, have: map[sum]int64{}, before: map[string]file{}}
	if err := p.list(ctx, p.keys.objects(), func(o bucket.Object) {
		if s, ok := p.keys.sumOf(o.Key); ok {
			r.have[s] = o.Size
		}
	}); err != nil {
		return nil, err
	}
	last, err := r.remember(ctx)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Format: Format, Time: p.cfg.Now().UTC().Truncate(time.Second), Stack: src.Stack, Host: src.Host, Version: src.Version, Store: store.Format}
	if !m.Time.After(last) {
		m.Time = last.Add(time.Second) // the order of names is the order of backups
	}
	image, err := src.Store.Image(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	var files []file
	for _, f := range image.Files {
		copied, err := r.imageFile(ctx, image, f)
		if err != nil {
			return nil, fmt.Errorf("copy %s: %w", f.Name, err)
		}
		files = append(files, copied)
	}
	for name, path := range map[string]string{credentialsName: src.Layout.CredentialsFile(), retainedName: src.Layout.RetainedFile()} {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		copied, err := r.file(ctx, bytes.NewReader(text), file{Name: name, Size: int64(len(text))}, false)
		if err != nil {
			return nil, fmt.Errorf("copy %s: %w", name, err)
		}
		files = append(files, copied)
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.Name, b.Name) })
	for _, f := range files {
		m.Files++
		m.Bytes += f.Size
	}
	if m.Pages, err = r.pages(ctx, files); err != nil {
		return nil, err
	}
	text, err := encode(m)
	if err != nil {
		return nil, err
	}
	if err := p.putNew(ctx, p.keys.manifest(m.Time), text); err != nil {
		return nil, err
	}
	p.cfg.Logger.Info("backup: made", "time", m.Time, "files", m.Files, "bytes", m.Bytes, "sent_objects", r.sent, "sent_bytes", r.sentBytes)
	return m, nil
}

// run is one backup being made.
type run struct {
	*Place
	have   map[sum]int64   // objects in the bucket, with their sizes
	before map[string]file // of the newest backup, by name

	sent      int
	sentBytes int64
}

// remember reads what the newest backup has. One that cannot be made sense of
// only means that everything is read again.
func (r *run) remember(ctx context.Context) (last time.Time, err error) {
	times, err := r.Times(ctx)
	if err != nil || len(times) == 0 {
		return time.Time{}, err
	}
	last = times[len(times)-1]
	m, err := r.Manifest(ctx, last)
	if err == nil {
		for _, o := range m.Pages {
			var files []file
			if files, err = r.page(ctx, o); err != nil {
				break
			}
			for _, f := range files {
				r.before[f.Name] = f
			}
		}
	}
	if err != nil && ctx.Err() == nil && (errors.Is(err, errDamaged) || errors.Is(err, bucket.ErrNotFound)) {
		r.cfg.Logger.Warn("backup: the last one cannot be read", "time", last, "err", err)
		err = nil
	}
	return last, err
}

func (r *run) imageFile(ctx context.Context, image *store.Image, f store.ImageFile) (_ file, err error) {
	in, err := image.Open(f)
	if err != nil {
		return file{}, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return r.file(ctx, in, file{Name: storeDir + f.Name, Marker: f.Marker, Size: f.Size}, f.Sealed)
}

// file makes sure that the octets of a file are in the bucket. What the last
// backup has of it is built upon: sealed says that it need not be compared.
func (r *run) file(ctx context.Context, in io.ReaderAt, f file, sealed bool) (file, error) {
	old := r.before[f.Name]
	if old.Marker != f.Marker {
		old = file{}
	}
	trusted := sealed && f.Marker != "" && old.Size == f.Size
	pos, small := int64(0), 0
	for _, o := range old.Parts {
		if pos+o.Size > f.Size {
			break
		}
		if !trusted {
			s, err := r.hash(ctx, in, pos, o.Size)
			if err != nil {
				return file{}, err
			}
			if s != o.Sum {
				break
			}
		}
		f.Parts = append(f.Parts, o)
		pos += o.Size
		if small++; o.Size >= partBytes {
			small = 0
		}
	}
	if !trusted && small >= smallParts {
		for _, o := range f.Parts[len(f.Parts)-small:] {
			pos -= o.Size
		}
		f.Parts = f.Parts[:len(f.Parts)-small]
	}
	for pos < f.Size {
		o := object{Size: min(partBytes, f.Size-pos)}
		var err error
		if o.Sum, err = r.hash(ctx, in, pos, o.Size); err != nil {
			return file{}, err
		}
		f.Parts = append(f.Parts, o)
		pos += o.Size
	}
	pos = 0
	for _, o := range f.Parts {
		if err := r.send(ctx, o, &localReader{io.NewSectionReader(in, pos, o.Size)}); err != nil {
			return file{}, err
		}
		pos += o.Size
	}
	return f, nil
}

// hash is the SHA-256 of a stretch of a file.
func (r *run) hash(ctx context.Context, in io.ReaderAt, off, size int64) (s sum, err error) {
	if err := r.rate.WaitN(ctx, int(size)); err != nil {
		return s, err
	}
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(in, off, size))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return sum(h.Sum(nil)), err
}

// send puts an object into the bucket that is not there yet.
func (r *run) send(ctx context.Context, o object, body io.ReadSeeker) error {
	if size, ok := r.have[o.Sum]; ok && size == o.Size {
		return nil
	}
	if err := r.put(ctx, r.keys.object(o.Sum), body, o.Size); err != nil {
		return err
	}
	r.have[o.Sum] = o.Size
	r.sent++
	r.sentBytes += o.Size
	return nil
}

// pages puts the lists of files into the bucket. Files are grouped by their
// numbers, so that most pages are those of the last backup.
func (r *run) pages(ctx context.Context, files []file) ([]object, error) {
	var out []object
	flush := func(page []file) error {
		text, err := encode(page)
		if err != nil {
			return err
		}
		o := object{Sum: sha256.Sum256(text), Size: int64(len(text))}
		out = append(out, o)
		return r.send(ctx, o, bytes.NewReader(text))
	}
	start := 0
	for i := range files {
		if pageOf(files[i].Name) != pageOf(files[start].Name) {
			if err := flush(files[start:i]); err != nil {
				return nil, err
			}
			start = i
		}
	}
	if start < len(files) {
		if err := flush(files[start:]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pageOf names the page of a segment, by its number without the last two digits:
// no page has more than 256 files.
func pageOf(name string) string {
	if segment := len("store/log/0123456789abcd"); len(name) > segment && name[:len("store/log/")] == "store/log/" {
		return name[:segment]
	}
	return ""
}

// localReader tells failures to read a file from those to send it.
type localReader struct{ *io.SectionReader }

func (l *localReader) Read(p []byte) (int, error) {
	n, err := l.SectionReader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &localError{err}
	}
	return n, err
}
