package transfer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailform/server/imap/wire"
)

// MaildirSink writes Maildir++ with Dovecot's dovecot-keywords files. Keywords for
// which there are no letters are kept as Courier does.
type MaildirSink struct {
	dir      string
	names    folderNames
	paths    map[string]string   // by mailbox, below dir
	keywords map[string][]string // by mailbox; the letter of each is its index from 'a'
	courier  map[string]*courierList
}

// NewMaildirSink writes into dir, which must be new or empty.
func NewMaildirSink(dir string) (*MaildirSink, error) {
	return &MaildirSink{dir: dir, names: folderNames{}, paths: map[string]string{}, keywords: map[string][]string{}, courier: map[string]*courierList{}}, fresh(dir)
}

func (s *MaildirSink) path(mailbox string) string {
	rel, ok := s.paths[mailbox]
	if !ok {
		rel = "."
		if mailbox != "INBOX" {
			levels := strings.Split(mailbox, "/")
			for i, l := range levels {
				levels[i] = strings.ReplaceAll(wire.EncodeName(l), ".", escapedDot)
			}
			rel = "." + strings.Join(levels, ".")
			rel = s.names.place(mailbox, rel, mailboxName(rel), ".folder-%d")
		}
		s.paths[mailbox] = rel
	}
	return filepath.Join(s.dir, rel)
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
	base := fmt.Sprintf("%d.U%d.mailform", date.Unix(), uid)
	path := filepath.Join(s.path(mailbox), "cur", base+":2,"+s.letters(mailbox, base, flags))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = eachLine(body, func(line []byte, _ bool) error {
		_, err := w.Write(line)
		return err
	})
	if err = errors.Join(err, w.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Chtimes(path, date, date)
}

func (s *MaildirSink) letters(mailbox, base string, flags []string) string {
	var l []byte
	var rest []string
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
			} else {
				rest = append(rest, f)
			}
		}
	}
	if len(rest) > 0 {
		if s.courier[mailbox] == nil {
			s.courier[mailbox] = &courierList{}
		}
		s.courier[mailbox].add(base, rest)
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
	for mailbox, list := range s.courier {
		if err := list.write(s.path(mailbox)); err != nil {
			return err
		}
	}
	return s.names.write(s.dir)
}
