package transfer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// MboxSink writes one mboxrd file for each mailbox, with Status and X-Status
// fields for flags and X-Keywords for the others. A last field of ours says where
// the message's own begin, when it came and how long it is, so that an import
// brings back the same.
type MboxSink struct {
	dir   string
	names folderNames
	name  string
	file  *os.File
	w     *bufio.Writer
}

// NewMboxSink writes into dir, which must be new or empty.
func NewMboxSink(dir string) (*MboxSink, error) {
	return &MboxSink{dir: dir, names: folderNames{}}, fresh(dir)
}

// Mailbox implements Sink.
func (s *MboxSink) Mailbox(name string) error {
	if err := s.done(); err != nil {
		return err
	}
	// Folders stand in directories with a suffix, as Thunderbird has them, for a
	// mailbox may have both messages and mailboxes below it.
	levels := strings.Split(name, "/")
	rel := strings.Join(levels, ".sbd/") + ".mbox"
	meant := mboxName(filepath.Base(s.dir), rel)
	for _, l := range levels {
		if strings.HasPrefix(l, ".") { // the directory itself, or hidden
			meant = ""
		}
	}
	rel = s.names.place(name, rel, meant, "folder-%d.mbox")
	path := filepath.Join(s.dir, filepath.FromSlash(rel))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	open := func() (*os.File, error) { return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) }
	f, err := open()
	if errors.Is(err, os.ErrExist) { // two names look the same to the file system
		path = filepath.Join(s.dir, s.names.place(name, "", "", "folder-%d.mbox"))
		f, err = open()
	}
	if err != nil {
		return err
	}
	s.name, s.file, s.w = name, f, bufio.NewWriterSize(f, 64<<10)
	return nil
}

// Message implements Sink.
func (s *MboxSink) Message(mailbox string, _ uint32, flags []string, date time.Time, size int64, body io.Reader) error {
	if s.file == nil || s.name != mailbox {
		return errors.New("the mailbox was not announced")
	}
	fmt.Fprintf(s.w, "From MAILER-DAEMON %s\n", date.UTC().Format("Mon Jan _2 15:04:05 2006"))
	fmt.Fprint(s.w, statusFields(flags))
	fmt.Fprintf(s.w, "X-Mailform-Export: octets=%d date=%s\n", size, date.Format(time.RFC3339Nano))
	blank := true
	err := eachLine(body, func(line []byte, begins bool) error {
		if begins && bytes.HasPrefix(bytes.TrimLeft(line, ">"), fromLine) {
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

// done ends the file of a mailbox.
func (s *MboxSink) done() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.w.Flush(), s.file.Close())
	s.file = nil
	return err
}

// Close implements Sink.
func (s *MboxSink) Close() error {
	return errors.Join(s.done(), s.names.write(s.dir))
}
