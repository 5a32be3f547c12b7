package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// currentFormat is what this package writes; oldestReader is the oldest format
// whose readers can read that, too. A change of the format that the version before
// would not understand raises both.
const (
	currentFormat = 2 // 2: annotations, references that move
	oldestReader  = 2
)

// storeFormat is the file "format" in a store's folder: JSON, a blank and its
// checksum. A store without one has format 1, and so has one whose file is
// damaged: the headers of its segments decide then.
type storeFormat struct {
	Format    int    `json:"format"`
	Reader    int    `json:"reader"` // the oldest format whose readers can read it
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
func (l *Log) checkFormat() error {
	path := filepath.Join(l.dir, "format")
	have, err := l.readFormat(path)
	switch {
	case errors.Is(err, errHeader):
		l.opt.Logger.Warn("store: the note of its format is damaged and made anew", "file", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && have.Reader > currentFormat:
		return &FormatError{Format: have.Format, Known: currentFormat, WrittenBy: have.WrittenBy}
	case err == nil && have.Format >= currentFormat:
		return nil
	}
	b, err := json.Marshal(storeFormat{Format: currentFormat, Reader: oldestReader, WrittenBy: l.opt.Version})
	if err != nil {
		return err
	}
	b = fmt.Appendf(b, " %08x", checksum(b))
	temp := path + ".new"
	if err := l.fs.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := l.fs.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return l.fs.Rename(temp, path) // the caller syncs the folder
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
