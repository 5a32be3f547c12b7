package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// currentFormat is the newest format that this package reads. A store is noted as
// the oldest one whose readers understand all that may be in it: what is written
// always has baseFormat, and what only some stores have raises it when it is
// turned on, so that a version before can serve the others.
const (
	currentFormat = 5
	baseFormat    = 2 // annotations, references that move
	codedFormat   = 3 // coded records
	sealedFormat  = 4 // sealed records and a keyring
	boundFormat   = 5 // sealed records that say of which message they are
)

// storeFormat is the file "format" in a store's folder: JSON, a blank and its
// checksum. A store without one has format 1, and so has one whose file is
// damaged: the headers of its segments decide then.
type storeFormat struct {
	Format    int    `json:"format"`
	Reader    int    `json:"reader"`           // the oldest format whose readers can read it
	Sealed    bool   `json:"sealed,omitempty"` // there is a keyring, and without it what is stored cannot be read
	WrittenBy string `json:"written_by,omitempty"`
}

// maxFormatFile bounds the file, in bytes.
const maxFormatFile = 4096

// FormatError says that a newer mailformd has written the store.
type FormatError struct {
	Format, Known int
	WrittenBy     string // "" when that is not known
}

func (e *FormatError) Error() string {
	by := e.WrittenBy
	if by == "" {
		by = "a newer version"
	}
	return fmt.Sprintf("the mail store has format %d, written by mailformd %s; this mailformd reads formats up to %d. "+
		"Nothing was changed in it. Serve with %s again (mailform rollback --to VERSION, or mailform apply with the mailform that belongs to it), "+
		"or bring back a backup from before it (mailformd restore)", e.Format, by, e.Known, by)
}

// checkFormat refuses a store that this package cannot read, and notes the format
// of one that it will write to. The store is locked.
func (l *Log) checkFormat() error { return l.raiseFormat(baseFormat) }

// raiseFormat notes, durably, that the store may hold what readers of an older
// format would not understand.
func (l *Log) raiseFormat(format int) error {
	l.formats.Lock()
	defer l.formats.Unlock()
	path, asked := filepath.Join(l.dir, "format"), format
	have, err := l.readFormat(path)
	switch {
	case errors.Is(err, errHeader):
		l.opt.Logger.Warn("store: the note of its format is damaged and made anew", "file", path)
		format = currentFormat // what else may be in it nobody knows
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && have.Reader > currentFormat:
		return &FormatError{Format: have.Format, Known: currentFormat, WrittenBy: have.WrittenBy}
	case err == nil && have.Format >= format && (have.Sealed || format < sealedFormat):
		l.format.Store(int64(have.Format))
		return nil
	}
	b, err := json.Marshal(storeFormat{Format: format, Reader: format, Sealed: have.Sealed || asked >= sealedFormat, WrittenBy: l.opt.Version})
	if err != nil {
		return err
	}
	b = fmt.Appendf(b, " %08x", checksum(b))
	if err := l.replaceFile(path, b, false); err != nil {
		return err
	}
	l.format.Store(int64(format))
	return nil
}

// SetCompress has bodies that come from now on compressed where that saves octets,
// or not. Those that are there stay as they are until they are compacted. A store
// with compressed bodies in it cannot be read by a mailformd from before.
func (l *Log) SetCompress(on bool) error {
	if on {
		if err := l.pack.ready(); err != nil {
			return err
		}
		if err := l.raiseFormat(codedFormat); err != nil {
			return full("note the format", err)
		}
	}
	l.compress.Store(on)
	return nil
}

func (l *Log) readFormat(path string) (storeFormat, error) {
	var have storeFormat
	f, err := l.fs.Open(path)
	if err != nil {
		return have, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return have, err
	}
	b := make([]byte, min(size, maxFormatFile))
	if _, err := f.ReadAt(b, 0); err != nil {
		return have, err
	}
	text, sum, _ := bytes.Cut(b, []byte("} "))
	text = append(text, '}')
	if string(sum) != fmt.Sprintf("%08x", checksum(text)) || json.Unmarshal(text, &have) != nil {
		return have, errHeader
	}
	return have, nil
}
