package transfer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var fromLine = []byte("From ")

// separator tells a From line from one of a message that should have been quoted:
// it has a date in one of the shapes that programs write.
var separator = regexp.MustCompile(`(?i) (` +
	`(mon|tue|wed|thu|fri|sat|sun)[a-z]*,? +(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* +[0-9]{1,2},? +([0-9]{4} +)?[0-9]{1,2}:[0-9]{2}` + // asctime(3)
	`|[0-9]{1,2}[ -](jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ -][0-9]{2,4} +[0-9]{1,2}:[0-9]{2}` + // RFC 5322, IMAP
	`|[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2})`) // ISO 8601

// isFrom says whether a line looks like what stands between messages.
func isFrom(line []byte) bool {
	return bytes.HasPrefix(line, fromLine) && separator.Match(line[:min(len(line), 1000)])
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

func isBlank(line []byte) bool { return len(bytes.TrimRight(line, "\r\n")) == 0 }

// mboxReader is an mbox file that is read from its beginning.
type mboxReader struct {
	r        *bufio.Reader
	read     counter     // octets that r has taken
	at       io.ReaderAt // the same octets; nil when they are compressed
	size     int64
	loose    bool // its From lines have no date: a header behind them has to do
	complete func() bool
	cut      bool // it was not complete at its end
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// offset is where the next line begins.
func (b *mboxReader) offset() int64 { return int64(b.read) - int64(b.r.Buffered()) }

// separates says whether a line, just read, stands between messages. Without an
// empty line ahead of it, or a date in it, what follows has to look like a header.
func (b *mboxReader) separates(line []byte, afterBlank bool) bool {
	if !bytes.HasPrefix(line, fromLine) || line[len(line)-1] != '\n' {
		return false
	}
	if !b.loose && !isFrom(line) || b.loose && !afterBlank {
		return false
	}
	return !b.loose && afterBlank || b.headerFollows()
}

// headerFollows says whether the next line is a field.
func (b *mboxReader) headerFollows() bool {
	next, _ := b.r.Peek(200) // fewer at the end
	name, _, ok := bytes.Cut(next, []byte(":"))
	return ok && len(name) > 0 && !bytes.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}

// ends says whether a message may end at an offset of the file, as its
// Content-Length has it: with the file, or ahead of a From line.
func (b *mboxReader) ends(at int64) bool {
	if b.at == nil || at > b.size || at < 0 {
		return false
	}
	var buf [16]byte
	n, err := b.at.ReadAt(buf[:], max(at-1, 0))
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	rest := buf[min(1, n):n]
	lines := 0
	if n > 0 && buf[0] == '\n' {
		lines = 1
	}
	for len(rest) > 0 && (rest[0] == '\n' || rest[0] == '\r') {
		if rest[0] == '\n' {
			lines++
		}
		rest = rest[1:]
	}
	if at+int64(len(buf))-1 >= b.size && len(rest) == 0 {
		return true
	}
	return lines > 0 && bytes.HasPrefix(rest, fromLine)
}

// unquoted says whether a From line stands in a part of the file as it is: who
// wrote it quotes none, mboxcl2.
func (b *mboxReader) unquoted(from, to int64) bool {
	r := bufio.NewReaderSize(io.NewSectionReader(b.at, from, to-from), 64<<10)
	for start := true; ; {
		line, err := r.ReadSlice('\n')
		if start && bytes.HasPrefix(line, fromLine) {
			return true
		}
		start = err == nil
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return false
		}
	}
}

// mboxMessage reads one message up to the next From line.
type mboxMessage struct {
	*mboxReader
	flags    []string
	date     time.Time
	octets   int64 // with CRLF line ends, when the file says it; else 0
	labels   *gmailLabels
	internal bool // no message, but what a program keeps in the file
	deleted  bool // a mail program has, and shows it no more

	out     []byte // octets that Read has yet to give
	blank   []byte // an empty line that belongs to the message only if another follows
	empty   bool   // nothing has come behind the header
	atStart bool   // of a line, not within one that was cut in parts
	until   int64  // where the message ends by its length; 0 when that is not known
	asIs    int8   // whether its lines are not quoted: 0 is not known yet, 1 they are, 2 they are not
	ended   bool
	next    []byte // the next message's From line
	err     error
}

// exported is the field that our export ends its own fields with: what follows
// is the message as it was.
const exported = "x-mailform-export"

// header takes the fields out in which mail programs keep flags, and gives the
// others to Read.
func (m *mboxMessage) header() error {
	noted := map[string][]byte{}
	note := func(name, value string) { // what is longer, no mail program notes
		if len(noted[name]) < 64<<10 {
			noted[name] = append(append(noted[name], ' '), value...)
		}
	}
	var out bool    // the field is taken out
	var last string // and its name
	start := true
	whole := false // the header's end is here
	for size := 0; size < 4<<20; {
		line, err := readLine(m.r)
		if errors.Is(err, io.EOF) {
			m.finish(nil, io.EOF)
			break
		}
		if err != nil {
			return err
		}
		first := start
		start = line[len(line)-1] == '\n'
		switch {
		case !first || size > 0 && (line[0] == ' ' || line[0] == '\t'): // goes on
			if size += len(line); !out {
				m.out = append(m.out, line...)
			} else {
				note(last, strings.TrimSpace(string(line)))
			}
			continue
		case isBlank(line):
			m.out = append(m.out, line...)
			whole = true
		case m.separates(line, false): // of a message that was cut in its header
			m.finish(line, nil)
			whole = true
		}
		if whole {
			break
		}
		name, value, isField := strings.Cut(string(line[:min(len(line), 64<<10)]), ":")
		last = strings.ToLower(strings.TrimSpace(name))
		out = isField && isMark(last)
		if !out {
			if isField && last == "date" && m.date.IsZero() {
				m.date, _ = mail.ParseDate(strings.TrimSpace(value))
			}
			m.out = append(m.out, unquote(line)...)
			size += len(line)
			continue
		}
		if last == exported && len(m.out) > 0 {
			out = false // the message's own, from an export of an export
			m.out = append(m.out, line...)
			size += len(line)
			continue
		}
		note(last, strings.TrimSpace(value))
		size += len(line)
		if last == exported {
			break
		}
	}
	fields := map[string]string{}
	for name, value := range noted {
		fields[name] = string(value)
	}
	m.marks(fields)
	if n, err := strconv.ParseInt(strings.TrimSpace(fields["content-length"]), 10, 64); err == nil && n >= 0 && whole && !m.ended {
		if from := m.offset(); m.ends(from + n) {
			m.until = from + n
		}
	}
	return nil
}

// finish ends the message, at a From line or with err.
func (m *mboxMessage) finish(next []byte, err error) {
	m.ended, m.next, m.err = true, next, err
}

// Read implements io.Reader.
func (m *mboxMessage) Read(p []byte) (int, error) {
	for len(m.out) == 0 {
		if m.ended {
			if m.err != nil && !errors.Is(m.err, io.EOF) {
				return 0, m.err
			}
			if m.err != nil && m.complete != nil && !m.complete() {
				m.cut = true
				return 0, &LeftOut{"the file changed while it was read"}
			}
			return 0, io.EOF
		}
		known := m.until > 0 && m.offset() < m.until
		line, err := readLine(m.r)
		switch {
		case err != nil:
			m.finish(nil, err)
			// The empty line behind the last message belongs to the file.
		case known:
			if m.atStart {
				line = m.unquoteKnown(line)
			}
			m.atStart = line[len(line)-1] == '\n'
			m.out, m.empty = line, false
		case m.until > 0: // behind its length
			if bytes.HasPrefix(line, fromLine) {
				m.finish(line, nil)
			}
		case m.atStart && m.separates(line, m.blank != nil || m.empty):
			m.finish(line, nil)
		case m.atStart && isBlank(line):
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

// unquoteKnown unquotes a line of a message whose length is known, if its writer quotes.
func (m *mboxMessage) unquoteKnown(line []byte) []byte {
	if bytes.HasPrefix(line, fromLine) {
		m.asIs = 2
	}
	plain := unquote(line)
	if len(plain) == len(line) {
		return line
	}
	if m.asIs == 0 {
		m.asIs = 1
		if from := m.offset(); m.unquoted(min(from, m.until), m.until) {
			m.asIs = 2
		}
	}
	if m.asIs == 2 {
		return line
	}
	return plain
}

// unquote takes one ">" off a line that looks quoted: mboxrd.
func unquote(line []byte) []byte {
	if rest := bytes.TrimLeft(line, ">"); len(rest) < len(line) && bytes.HasPrefix(rest, fromLine) {
		return line[1:]
	}
	return line
}

// fromDate reads the date of a From line.
func fromDate(line []byte) time.Time {
	fields := strings.Fields(string(line[:min(len(line), 1000)]))
	for i := range fields {
		text := strings.Join(fields[i:], " ")
		for _, layout := range []string{
			"Mon Jan 2 15:04:05 2006", "Mon Jan 2 15:04:05 2006 -0700", "Mon Jan 2 15:04:05 -0700 2006",
			"Mon Jan 2 15:04:05 MST 2006", "Mon Jan 2 15:04 2006", "Mon Jan 2 15:04 MST 2006",
			"Mon, 2 Jan 2006 15:04:05 -0700", "Mon, 2 Jan 2006 15:04:05 MST", "2 Jan 2006 15:04:05 -0700", "2-Jan-2006 15:04:05 -0700",
			"2006-01-02 15:04:05", "2006-01-02 15:04:05 -0700", time.RFC3339,
		} {
			if t, err := time.Parse(layout, text); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}

// sortedFlags are flags without doubles.
func sortedFlags(flags []string) []string {
	slices.Sort(flags)
	return slices.Compact(flags)
}
