package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
)

// Format is the version of the files in a store's directory.
const Format = currentFormat

// Image is the store's files as of one commit: a directory with these octets in
// these files is a store that holds what was durable then, and nothing else.
// Until it is closed none of the files is removed; work goes on beside it.
type Image struct {
	Files []ImageFile // by name

	log        *Log
	held       []uint64
	checkpoint File // nil when there is none yet
}

// ImageFile is one file of an Image.
type ImageFile struct {
	Name string // within the store's directory, with slashes
	Size int64  // octets that count; the file may have more
	// Marker tells files of the same name apart that are not of the same store,
	// or not of the same history of it; "" when that cannot be told.
	Marker string
	// Sealed says that the file of this name, marker and size never changes.
	Sealed bool

	id   uint64
	kind segmentKind // 0: the checkpoint, or the keyring
	text []byte      // of the keyring
}

// imageTries bounds how often an image is begun anew because two checkpoints
// were finished meanwhile.
const imageTries = 5

// Image takes one. The caller closes it.
func (l *Log) Image(ctx context.Context) (*Image, error) {
	for range imageTries {
		im, err := l.image(ctx)
		if err != nil || im != nil {
			return im, err
		}
	}
	return nil, errors.New("take an image of the store: checkpoints follow each other too fast")
}

// image returns nil when what it began with has been overtaken.
func (l *Log) image(ctx context.Context) (_ *Image, err error) {
	im := &Image{log: l}
	var cp, after finished
	var last uint64
	var end int64
	// The commit loop runs this between two commits, so that the index is still.
	err = l.do(ctx, func(*txn) error {
		cp = l.checkpoints.newest()
		last, end = l.last, l.end
		im.held = l.seg.hold(func(id uint64, k segmentKind) bool {
			return l.ix.refs.of(id) != 0 || k == kindLog && id >= cp.place.segment
		})
		after = l.checkpoints.newest()
		return nil
	})
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("take an image of the store: %w", err), im.Close())
		}
	}()
	if err != nil {
		return nil, err
	}
	if cp.number != 0 {
		im.checkpoint, err = l.fs.Open(filepath.Join(l.checkpoints.dir, checkpointName(cp.number)))
	}
	// Segments of the log behind a checkpoint go once there are two newer ones.
	if overtaken := after.number > cp.number+1; overtaken || errors.Is(err, fs.ErrNotExist) {
		return nil, im.Close()
	}
	if err != nil {
		return nil, err
	}
	if im.checkpoint != nil {
		size, err := im.checkpoint.Size()
		if err != nil {
			return nil, err
		}
		im.Files = append(im.Files, ImageFile{Name: "checkpoint/" + checkpointName(cp.number), Size: size})
	}
	if err := im.measure(last, end); err != nil {
		return im, err
	}
	l.vault.mu.Lock()
	defer l.vault.mu.Unlock()
	if text := l.vault.text; text != nil { // with all the keys of the segments above
		sum := sha256.Sum256(text)
		im.Files = append(im.Files, ImageFile{Name: keyringName, Size: int64(len(text)), Marker: hex.EncodeToString(sum[:8]), text: text})
	}
	return im, nil
}

// measure lists the segments with what of them counts.
func (im *Image) measure(last uint64, end int64) error {
	l := im.log
	ends := map[uint64]int64{last: end}
	for _, id := range l.seg.ids(kindLog) { // also of those that are not in the image
		info, _, err := l.inspect(id)
		switch {
		case err == nil && info.Prev != 0 && info.Prev != last:
			ends[info.Prev] = info.PrevEnd
		case err != nil && !errors.Is(err, errHeader) && !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	for _, id := range im.held {
		f := ImageFile{id: id, kind: l.seg.kindOf(id), Sealed: id != last}
		f.Name = "log/" + segmentName(id, f.kind)
		file, err := l.fs.Open(l.seg.path(id, f.kind))
		if err != nil {
			return err
		}
		f.Size, err = file.Size()
		if err == nil {
			var info segmentInfo
			if info, err = readSegmentInfo(file, id); err == nil {
				f.Marker = fmt.Sprintf("%016x", info.Marker)
			} else if errors.Is(err, errHeader) {
				err = nil // damaged: it is copied as it is
			}
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		if n, ok := ends[id]; ok && f.kind == kindLog {
			f.Size = min(f.Size, n)
		}
		im.Files = append(im.Files, f)
	}
	return nil
}

// ImageReader reads a file of an image.
type ImageReader interface {
	io.ReaderAt
	io.Closer
}

// Open opens one of the files; the caller closes it before the image.
func (im *Image) Open(f ImageFile) (ImageReader, error) {
	if f.text != nil {
		return keptOpen{bytes.NewReader(f.text)}, nil
	}
	if f.kind == 0 {
		if im.checkpoint == nil {
			return nil, fs.ErrClosed
		}
		return keptOpen{im.checkpoint}, nil
	}
	return im.log.fs.Open(im.log.seg.path(f.id, f.kind))
}

// keptOpen is the checkpoint's file, which the image closes.
type keptOpen struct{ io.ReaderAt }

func (keptOpen) Close() error { return nil }

// Close lets the store remove what it no longer needs.
func (im *Image) Close() error {
	im.log.seg.letGo(im.held)
	im.held = nil
	if !im.log.closed() {
		im.log.seg.retry()
	}
	if im.checkpoint == nil {
		return nil
	}
	f := im.checkpoint
	im.checkpoint = nil
	return f.Close()
}

// hold keeps the files of the segments that want names from being removed, and
// returns them in order.
func (s *segments) hold(want func(id uint64, k segmentKind) bool) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []uint64
	for id, k := range s.kind {
		if !s.doomed[id] && want(id, k) {
			s.held[id]++
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (s *segments) letGo(ids []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if s.held[id]--; s.held[id] == 0 {
			delete(s.held, id)
		}
	}
}

// finished is a checkpoint that is whole on the disk; the zero one is none.
type finished struct {
	number uint64
	place  place
}

// newest returns the newest one. It does not wait for one that is being written.
func (c *checkpoints) newest() finished {
	if f := c.done.Load(); f != nil {
		return *f
	}
	return finished{}
}
