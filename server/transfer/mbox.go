package transfer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Mbox is a file of messages that each begin with a "From " line, or a directory
// of such files, one for each mailbox (RFC 4155, and the mboxrd of
// http://qmail.org/man/man5/mbox.html).
type Mbox struct {
	Path string
	Warn func(text string) // told of what is left out; may be nil
}

// Name implements Source.
func (Mbox) Name() string { return "mbox" }

// Walk implements Source. Messages are named by their content.
func (d Mbox) Walk(ctx context.Context, want func(string) bool, visit func(*Message) error) error {
	info, err := os.Stat(d.Path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return d.file(ctx, d.Path, "INBOX", visit)
	}
	found := false
	err = filepath.WalkDir(d.Path, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			return err
		}
		rel, err := filepath.Rel(d.Path, p)
		if err != nil {
			return err
		}
		if ok, err := isMbox(p); err != nil || !ok {
			return err
		}
		found = true
		return d.file(ctx, p, mboxName(rel), visit)
	})
	if err == nil && !found {
		err = fmt.Errorf("no file below %s is an mbox: none begins with a \"From \" line", d.Path)
	}
	return err
}

// mboxName is the mailbox of a file below the directory: Thunderbird keeps
// folders below others in "Name.sbd".
func mboxName(rel string) string {
	levels := strings.Split(filepath.ToSlash(rel), "/")
	for i, l := range levels {
		for _, suffix := range []string{".sbd", ".mbox", ".mbx"} {
			l = strings.TrimSuffix(l, suffix)
		}
		levels[i] = strings.NewReplacer("%", "_", "*", "_").Replace(l)
	}
	if n := len(levels); n > 1 && levels[n-1] == "mbox" { // Apple Mail's "Name.mbox/mbox"
		levels = levels[:n-1]
	}
	if strings.EqualFold(levels[0], "inbox") {
		levels[0] = "INBOX"
	}
	return strings.Join(levels, "/")
}

func isMbox(p string) (bool, error) {
	f, err := os.Open(p)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, len(fromLine))
	_, err = io.ReadFull(f, head)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		return false, err
	}
	return bytes.Equal(head, fromLine), nil
}

var (
	fromLine  = []byte("From ")
	timeOfDay = regexp.MustCompile(`[ 0-9][0-9]:[0-9]{2}`)
)

func (d Mbox) file(ctx context.Context, path, mailbox string, visit func(*Message) error) error {
	if ok, err := isMbox(path); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("%s is no mbox: it does not begin with a \"From \" line", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := visit(&Message{Mailbox: mailbox}); err != nil {
		return err
	}
	r := bufio.NewReaderSize(f, 64<<10)
	line, err := readLine(r) // the first From line
	for n := 1; err == nil && len(line) > 0; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		m := &mboxMessage{r: r, empty: true, atStart: true}
		m.date = fromDate(line)
		if err := m.header(); err != nil {
			return fmt.Errorf("%s: message %d: %w", path, n, err)
		}
		if m.internal { // "DON'T DELETE THIS MESSAGE" of UW and Alpine
			if _, err := io.Copy(io.Discard, m); err != nil {
				return err
			}
		} else if err := visit(&Message{Mailbox: mailbox, Flags: m.flags, Date: m.date, Body: m}); err != nil {
			return err
		}
		line, err = m.next, m.err
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
	return err
}

// maxLine bounds what a line needs of memory; a longer one comes in parts.
const maxLine = 1 << 20

// readLine reads a line with its end, or the first megabyte of it.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) >= maxLine {
			if errors.Is(err, bufio.ErrBufferFull) || len(line) > 0 && errors.Is(err, io.EOF) {
				err = nil
			}
			return line, err
		}
	}
}

// mboxMessage reads one message up to the next From line.
type mboxMessage struct {
	r        *bufio.Reader
	flags    []string
	date     time.Time
	internal bool

	out     []byte // octets that Read has yet to give
	blank   []byte // an empty line that belongs to the message only if another follows
	empty   bool   // nothing has come behind the header
	atStart bool   // of a line, not within one that was cut in parts
	ended   bool
	next    []byte // the next message's From line
	err     error
}

// header takes the fields out in which mail programs keep flags, and gives the
// others to Read.
func (m *mboxMessage) header() error {
	var status string
	for size := 0; size < 4<<20; {
		line, err := readLine(m.r)
		if errors.Is(err, io.EOF) {
			m.ended, m.err = true, io.EOF
			break
		}
		if err != nil {
			return err
		}
		size += len(line)
		name, value, isField := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "status", "x-status":
			if isField {
				status += value
				continue
			}
		case "x-keywords":
			if isField {
				m.flags = append(m.flags, strings.Fields(value)...)
				continue
			}
		case "x-imap", "x-imapbase":
			m.internal = m.internal || isField && strings.EqualFold(name, "x-imap")
			continue
		case "x-uid", "content-length":
			if isField {
				continue
			}
		case "date":
			if m.date.IsZero() {
				m.date, _ = mail.ParseDate(value)
			}
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			m.out = append(m.out, line...)
			break
		}
		m.out = append(m.out, unquote(line)...)
	}
	for _, c := range status {
		switch c {
		case 'R':
			m.flags = append(m.flags, `\Seen`)
		case 'A':
			m.flags = append(m.flags, `\Answered`)
		case 'F':
			m.flags = append(m.flags, `\Flagged`)
		case 'T':
			m.flags = append(m.flags, `\Draft`)
		case 'D':
			m.flags = append(m.flags, `\Deleted`)
		}
	}
	slices.Sort(m.flags)
	m.flags = slices.Compact(m.flags)
	return nil
}

// Read implements io.Reader.
func (m *mboxMessage) Read(p []byte) (int, error) {
	for len(m.out) == 0 {
		if m.ended {
			if m.err != nil && !errors.Is(m.err, io.EOF) {
				return 0, m.err
			}
			return 0, io.EOF
		}
		line, err := readLine(m.r)
		switch {
		case err != nil:
			m.ended, m.err = true, err
			if !errors.Is(err, io.EOF) {
				return 0, err
			}
			// The empty line behind the last message belongs to the file.
		case m.atStart && (m.blank != nil || m.empty) && isFrom(line):
			m.ended, m.next = true, line
		case m.atStart && len(bytes.TrimRight(line, "\r\n")) == 0:
			m.out, m.blank = m.blank, line
		default:
			whole := line[len(line)-1] == '\n'
			if m.atStart {
				line = unquote(line)
			}
			m.out = append(m.blank, line...)
			m.blank, m.empty, m.atStart = nil, false, whole
		}
	}
	n := copy(p, m.out)
	m.out = m.out[n:]
	return n, nil
}

// isFrom tells a From line from one of a message that should have been quoted:
// it has a time of day in it.
func isFrom(line []byte) bool { return bytes.HasPrefix(line, fromLine) && timeOfDay.Match(line) }

// unquote takes one ">" off a line that looks quoted: mboxrd.
func unquote(line []byte) []byte {
	if rest := bytes.TrimLeft(line, ">"); len(rest) < len(line) && bytes.HasPrefix(rest, fromLine) {
		return line[1:]
	}
	return line
}

// fromDate reads the date of a From line, asctime(3) with or without a zone.
func fromDate(line []byte) time.Time {
	fields := strings.Fields(string(line))
	if len(fields) < 6 {
		return time.Time{}
	}
	text := strings.Join(fields[2:], " ")
	for _, layout := range []string{"Mon Jan _2 15:04:05 2006", "Mon Jan _2 15:04:05 2006 -0700", "Mon Jan _2 15:04:05 -0700 2006", "Mon Jan _2 15:04:05 MST 2006"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	return time.Time{}
}
