package transfer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailform/server/imap/wire"
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

// MaildirSink writes Maildir++ with Dovecot's dovecot-keywords files.
type MaildirSink struct {
	dir      string
	keywords map[string][]string // by mailbox; the letter of each is its index from 'a'
}

// NewMaildirSink writes into dir, which must be new or empty.
func NewMaildirSink(dir string) (*MaildirSink, error) {
	return &MaildirSink{dir: dir, keywords: map[string][]string{}}, fresh(dir)
}

func (s *MaildirSink) path(mailbox string) string {
	if mailbox == "INBOX" {
		return s.dir
	}
	levels := strings.Split(mailbox, "/")
	for i, l := range levels {
		levels[i] = strings.ReplaceAll(wire.EncodeName(l), ".", escapedDot)
	}
	return filepath.Join(s.dir, "."+strings.Join(levels, "."))
}

// Mailbox implements Sink.
func (s *MaildirSink) Mailbox(name string) error {
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(s.path(name), sub), 0o700); err != nil {
			return err
		}
	}
	if name == "INBOX" {
		return nil
	}
	return os.WriteFile(filepath.Join(s.path(name), "maildirfolder"), nil, 0o600)
}

// Message implements Sink. Line ends become LF.
func (s *MaildirSink) Message(mailbox string, uid uint32, flags []string, date time.Time, _ int64, body io.Reader) error {
	name := fmt.Sprintf("%d.U%d.mailform:2,%s", date.Unix(), uid, s.letters(mailbox, flags))
	path := filepath.Join(s.path(mailbox), "cur", name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = eachLine(body, func(line []byte) error {
		_, err := w.Write(line)
		return err
	})
	if err = errors.Join(err, w.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Chtimes(path, date, date)
}

func (s *MaildirSink) letters(mailbox string, flags []string) string {
	var l []byte
	for _, f := range flags {
		switch f {
		case `\Seen`:
			l = append(l, 'S')
		case `\Answered`:
			l = append(l, 'R')
		case `\Flagged`:
			l = append(l, 'F')
		case `\Draft`:
			l = append(l, 'D')
		case `\Deleted`:
			l = append(l, 'T')
		case "$Forwarded":
			l = append(l, 'P')
		default:
			known := s.keywords[mailbox]
			i := slices.Index(known, f)
			if i < 0 && len(known) < 26 { // there are no more letters
				i = len(known)
				s.keywords[mailbox] = append(known, f)
			}
			if i >= 0 {
				l = append(l, 'a'+byte(i))
			}
		}
	}
	slices.Sort(l)
	return string(l)
}

// Close implements Sink.
func (s *MaildirSink) Close() error {
	for mailbox, words := range s.keywords {
		var b strings.Builder
		for i, w := range words {
			b.WriteString(strconv.Itoa(i) + " " + w + "\n")
		}
		if err := os.WriteFile(filepath.Join(s.path(mailbox), "dovecot-keywords"), []byte(b.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// MboxSink writes one mboxrd file for each mailbox, with Status and X-Status
// fields for flags and X-Keywords for the others.
type MboxSink struct {
	dir  string
	name string
	file *os.File
	w    *bufio.Writer
}

// NewMboxSink writes into dir, which must be new or empty.
func NewMboxSink(dir string) (*MboxSink, error) { return &MboxSink{dir: dir}, fresh(dir) }

// Mailbox implements Sink.
func (s *MboxSink) Mailbox(name string) error {
	if err := s.Close(); err != nil {
		return err
	}
	// Folders stand in directories with a suffix, as Thunderbird has them, for a
	// mailbox may have both messages and mailboxes below it.
	levels := strings.Split(name, "/")
	dir := s.dir
	for _, l := range levels[:len(levels)-1] {
		dir = filepath.Join(dir, safeName(l)+".sbd")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, safeName(levels[len(levels)-1])+".mbox"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("mailbox %s: its file is there already: two names look the same to the file system", name)
	}
	s.name, s.file, s.w = name, f, bufio.NewWriterSize(f, 64<<10)
	return err
}

// safeName keeps a level from being a hidden file or the directory itself.
func safeName(l string) string {
	if strings.HasPrefix(l, ".") {
		return "_" + l
	}
	return l
}

// Message implements Sink.
func (s *MboxSink) Message(mailbox string, _ uint32, flags []string, date time.Time, _ int64, body io.Reader) error {
	if s.file == nil || s.name != mailbox {
		return errors.New("the mailbox was not announced")
	}
	fmt.Fprintf(s.w, "From MAILER-DAEMON %s\n", date.UTC().Format("Mon Jan _2 15:04:05 2006"))
	fmt.Fprint(s.w, statusFields(flags))
	blank := true
	err := eachLine(body, func(line []byte) error {
		if bytes.HasPrefix(bytes.TrimLeft(line, ">"), fromLine) {
			if err := s.w.WriteByte('>'); err != nil {
				return err
			}
		}
		blank = line[len(line)-1] == '\n'
		_, err := s.w.Write(line)
		return err
	})
	if err != nil {
		return err
	}
	if !blank {
		fmt.Fprint(s.w, "\n")
	}
	_, err = fmt.Fprint(s.w, "\n")
	return err
}

func statusFields(flags []string) string {
	status, x, words := "O", "", []string{}
	for _, f := range flags {
		switch f {
		case `\Seen`:
			status = "RO"
		case `\Answered`:
			x += "A"
		case `\Flagged`:
			x += "F"
		case `\Draft`:
			x += "T"
		case `\Deleted`:
			x += "D"
		default:
			words = append(words, f)
		}
	}
	text := "Status: " + status + "\n"
	if x != "" {
		text += "X-Status: " + x + "\n"
	}
	if len(words) > 0 {
		text += "X-Keywords: " + strings.Join(words, " ") + "\n"
	}
	return text
}

// Close implements Sink.
func (s *MboxSink) Close() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.w.Flush(), s.file.Sync(), s.file.Close())
	s.file = nil
	return err
}

// eachLine gives lines with LF ends; one that is longer than a megabyte comes in parts.
func eachLine(r io.Reader, f func(line []byte) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(br)
		if len(line) > 0 {
			if bytes.HasSuffix(line, []byte("\r\n")) {
				line = append(line[:len(line)-2], '\n')
			}
			if err := f(line); err != nil {
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
