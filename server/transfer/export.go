package transfer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Sink is where an export goes. Mailbox is called before its messages.
type Sink interface {
	Mailbox(name string) error
	Message(mailbox string, uid uint32, flags []string, date time.Time, size int64, body io.Reader) error
	Close() error
}

// Export writes the frames of Send to a sink and says what it wrote. Frames that
// end too early are an error: the export is not whole.
func Export(ctx context.Context, frames io.Reader, sink Sink, progress func(Counts)) (c Counts, err error) {
	defer func() { err = errors.Join(err, sink.Close()) }()
	r := bufio.NewReaderSize(frames, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		h, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		if h.ID == "" {
			c.Mailboxes++
			if err := sink.Mailbox(h.Mailbox); err != nil {
				return c, err
			}
			continue
		}
		body := &io.LimitedReader{R: r, N: h.Size}
		if err := sink.Message(h.Mailbox, h.UID, h.Flags, h.Date, h.Size, body); err != nil {
			return c, fmt.Errorf("%s, UID %d: %w", h.Mailbox, h.UID, err)
		}
		if body.N > 0 {
			return c, fmt.Errorf("%s, UID %d: %w", h.Mailbox, h.UID, io.ErrUnexpectedEOF)
		}
		c.Imported++
		c.Bytes += h.Size
		if c.Folders == nil {
			c.Folders = map[string]Folder{}
		}
		c.Folders[h.Mailbox] = c.Folders[h.Mailbox].plus(Folder{1, h.Size})
		if progress != nil && c.Imported%batchMessages == 0 {
			progress(c)
		}
	}
}

// fresh makes a directory, which must be empty if it exists.
func fresh(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty: an export goes to a new directory", dir)
	}
	return err
}

// eachLine gives lines with LF ends; one that is longer than a megabyte comes in
// parts, of which the first begins it.
func eachLine(r io.Reader, f func(line []byte, begins bool) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	whole := true
	for {
		line, err := readLine(br)
		if len(line) > 0 {
			begins := whole
			whole = line[len(line)-1] == '\n'
			// A CR that belongs to the line stays behind it: with its own, an import knows it.
			if bytes.HasSuffix(line, []byte("\r\n")) && !bytes.HasSuffix(line, []byte("\r\r\n")) {
				line = append(line[:len(line)-2], '\n')
			}
			if err := f(line, begins); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
