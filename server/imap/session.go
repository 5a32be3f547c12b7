package imap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/wire"
	"mailform/server/store"
)

// session is what one client has done on its connection. Only the connection's
// goroutine uses it.
type session struct {
	c     *conn
	srv   *Server
	store Store
	ctx   context.Context
	log   *slog.Logger
	in    *wire.Reader
	out   *wire.Writer

	line     []byte // the command being read or carried out
	partial  bool   // only the beginning of its first line is here
	bad      int    // lines that were no commands
	failures int    // wrong logins
	over     bool   // the session is to end without BYE
	account  string // "" before the login
	opened   time.Time
	enabled  enabled
	noticing *notification // of NOTIFY; nil without
	queries  uint64        // that were made

	selection
}

// selection is the selected mailbox.
type selection struct {
	mailbox  string // "" when none is selected
	readOnly bool
	watch    store.Watch
	view     *view
	saved    imap.UIDSet // SEARCHRES, RFC 5182

	keywords  []string // that the client was told of in FLAGS
	lastFlags *string  // the list of flags looked at last
	recent    imap.UIDSet
	recentKey recentKey

	contexts contexts
}

// enabled is what the client has switched on, RFC 5161.
type enabled struct {
	condstore, qresync, utf8, rev2 bool
}

// How long commands and their small literals may be, in octets.
const (
	maxEarly      = 48 << 10  // before the login: an ID may be long
	maxCommand    = 256 << 10 // after it: clients send long sets of UIDs
	maxLiteral    = 64 << 10  // of a literal that is no message
	maxEarlyLit   = 4 << 10
	maxDrain      = 1 << 20 // of a refused literal that is passed over
	maxWord       = 100
	keepLineSpace = 512
)

func newSession(c *conn) *session {
	return &session{c: c, srv: c.srv, store: c.srv.cfg.Store, ctx: c.ctx, log: c.log, in: &c.in, out: &c.out}
}

// close ends the session.
func (s *session) close() {
	s.unselect()
	s.forgetNotify()
	if s.account != "" {
		s.srv.leave(s.account)
		s.log.Info("logged out", "duration", time.Since(s.opened).Round(time.Millisecond))
	}
}

// command is one command of the client.
type command struct {
	tag  string
	name string // upper case; "UID FETCH" and the like as two words
	uid  bool
	at   int // where the arguments begin
	p    *wire.Parser
	// literal is announced at the end of what was read so far: the handler asks
	// for its octets. Only of commands that take messages.
	literal *wire.Literal
	code    string // response code of the OK
	text    string // of the OK; "" is "NAME completed"
	silent  bool   // no tagged response: the handler has sent one, or none is due
	// keepNumbers says that sequence numbers must stay: no EXPUNGE, RFC 9051 7.5.1.
	keepNumbers bool
}

// run serves commands until the connection is to end.
func (s *session) run() {
	s.greet()
	for !s.over && !s.c.leaving() && s.out.Err() == nil {
		cmd, err := s.next()
		switch {
		case errors.Is(err, errWoken):
			s.notified()
		case err != nil:
			if !errors.Is(err, io.EOF) && !errors.Is(err, errLeave) {
				s.log.Debug("read", "err", err)
			}
			return
		case cmd != nil:
			s.execute(cmd)
		}
	}
}

// next reads a command. It returns nil when what came was none and is answered.
func (s *session) next() (*command, error) {
	if !s.partial {
		s.c.expect(phaseCommand)
		s.in.Release()
		if s.line = s.line[:0]; cap(s.line) > keepLineSpace && s.in.Buffered() == 0 {
			s.line = nil
		}
	}
	line, err := s.in.Line(s.line, s.limit())
	s.line, s.partial = line, errors.Is(err, errWoken)
	if err != nil {
		return nil, s.tooLong(err)
	}
	s.c.expect(phaseLine)
	cmd, ok := parseCommand(line)
	if !ok {
		return nil, s.badLine(cmd.tag, "Command line makes no sense")
	}
	h, known := s.srv.commands[cmd.name]
	start := 0
	for {
		l, ok, bad := wire.TrailingLiteral(s.line[start:])
		if bad {
			s.c.bye("A literal makes no sense")
			return nil, errLeave
		}
		if !ok {
			break
		}
		if h.message && s.account != "" {
			cmd.literal = &l
			break
		}
		if !known && !l.NonSync {
			return nil, s.badLine(cmd.tag, "Unknown command")
		}
		if done, err := s.collect(cmd, l); done || err != nil {
			return nil, err
		}
		if start, err = s.continueLine(); err != nil {
			return nil, err
		}
	}
	if !known {
		if s.account == "" && bytes.Contains(s.line, []byte(" HTTP/")) {
			s.bad = s.srv.cfg.MaxBadCommands // a browser was sent here
		}
		return nil, s.badLine(cmd.tag, "Unknown command")
	}
	cmd.p = s.parser(cmd)
	return cmd, nil
}

// parser returns a parser of the arguments as far as they are here.
func (s *session) parser(cmd *command) *wire.Parser {
	text := s.line
	if cmd.literal == nil {
		text = trimEOL(text)
	}
	p := wire.NewParser(text[min(cmd.at, len(text)):])
	p.UTF8 = s.enabled.utf8
	return p
}

func trimEOL(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}

func (s *session) limit() int {
	if s.account == "" {
		return maxEarly
	}
	return maxCommand
}

// tooLong ends a session whose line is too long: where the next command begins
// cannot be known.
func (s *session) tooLong(err error) error {
	if errors.Is(err, wire.ErrTooLong) {
		s.c.bye("Command is too long")
		return errLeave
	}
	return err
}

// continueLine reads the line behind a literal; start is where it begins.
func (s *session) continueLine() (start int, err error) {
	start = len(s.line)
	s.line, err = s.in.Line(s.line, s.limit())
	return start, s.tooLong(err)
}

// collect reads the octets of a small literal into the command. done says that
// the literal was refused and the command answered.
func (s *session) collect(cmd *command, l wire.Literal) (done bool, err error) {
	limit := int64(maxLiteral)
	if s.account == "" {
		limit = maxEarlyLit
	}
	if l.Size > limit {
		return true, s.refuse(cmd, l, limit)
	}
	if len(s.line)+int(l.Size) > s.limit() {
		s.c.bye("Command is too long")
		return true, errLeave
	}
	if !l.NonSync {
		s.out.Raw("+ OK\r\n")
	}
	at := len(s.line)
	s.line = append(s.line, make([]byte, l.Size)...)
	_, err = io.ReadFull(s.in, s.line[at:])
	return false, err
}

// refuse says no to a literal that is too large. A client that waits is told
// so; of one that does not the octets are passed over, or it is sent away:
// they are never taken for commands.
func (s *session) refuse(cmd *command, l wire.Literal, limit int64) error {
	if !l.NonSync {
		s.tagged(cmd.tag, no(imap.ResponseCodeTooBig, "The literal is too large"))
		return nil
	}
	if s.account == "" || l.Size > max(maxDrain, 4*limit) {
		s.tagged(cmd.tag, &imap.Error{Type: imap.StatusResponseTypeBad, Code: imap.ResponseCodeTooBig, Text: "The literal is too large"})
		s.c.bye("Literal is too large")
		return errLeave
	}
	if err := s.drain(l); err != nil {
		return err
	}
	s.tagged(cmd.tag, no(imap.ResponseCodeTooBig, "The literal is too large"))
	return nil
}

// drain passes over a literal that does not wait, and the rest of its command.
func (s *session) drain(l wire.Literal) error {
	s.c.expect(phaseLiteral)
	defer s.c.expect(phaseLine)
	for size := l.Size; ; {
		if _, err := io.CopyN(io.Discard, s.in, size); err != nil {
			return err
		}
		line, err := s.in.Line(nil, maxCommand)
		if err != nil {
			return s.tooLong(err)
		}
		next, ok, _ := wire.TrailingLiteral(line)
		if !ok || !next.NonSync {
			return nil
		}
		if size = next.Size; size > maxDrain {
			s.c.bye("Literal is too large")
			return errLeave
		}
	}
}

// parseCommand reads tag and name. ok is false when the line has no such; the
// tag may be known all the same.
func parseCommand(line []byte) (*command, bool) {
	cmd := &command{}
	text := trimEOL(line)
	atom := func() string {
		start := cmd.at
		if start > 0 {
			start++ // the space
		}
		end := start
		for end < len(text) && wire.IsAtomChar(text[end]) {
			end++
		}
		if end == start || end-start > maxWord || end < len(text) && text[end] != ' ' {
			return ""
		}
		cmd.at = end
		return string(text[start:end])
	}
	if cmd.tag = atom(); cmd.tag == "" || strings.Contains(cmd.tag, "+") {
		cmd.tag = ""
		return cmd, false
	}
	cmd.name = strings.ToUpper(atom())
	if cmd.name == "UID" {
		cmd.uid = true
		cmd.name += " " + strings.ToUpper(atom())
	}
	return cmd, cmd.name != "" && cmd.name != "UID "
}

// badLine answers a line that is no command.
func (s *session) badLine(tag, text string) error {
	if tag == "" {
		tag = "*"
	}
	if s.bad++; s.bad > s.srv.cfg.MaxBadCommands {
		if tag != "*" {
			s.tagged(tag, bad(text))
		}
		s.c.bye("Too many lines that are no commands")
		return errLeave
	}
	s.tagged(tag, bad(text))
	return nil
}

// execute carries out a command and answers it.
func (s *session) execute(cmd *command) {
	h := s.srv.commands[cmd.name]
	s.catchUp()
	err := s.allowed(h.states)
	if err == nil && s.view != nil && s.view.lost && h.states&stateLoggedIn == 0 {
		err = store.ErrNoMailbox // another may have its name by now
	}
	if err == nil {
		err = h.run(s, cmd)
		if perr := cmd.p.Err(); perr != nil && err == nil {
			err = bad(perr.Error())
		}
	}
	if cmd.literal != nil {
		// It was not asked for, so a client that waits will not send it.
		if cmd.literal.NonSync {
			if derr := s.drain(*cmd.literal); derr != nil {
				return
			}
		}
	}
	if s.out.Err() != nil || cmd.silent {
		return
	}
	if !s.c.leaving() {
		s.catchUp()
		s.announce(!cmd.keepNumbers)
		s.tellAccount()
	}
	s.finish(cmd, err)
	s.leaveLost()
}

// finish writes the tagged response.
func (s *session) finish(cmd *command, err error) {
	if err != nil {
		s.tagged(cmd.tag, s.answer(cmd, err))
		return
	}
	w := s.out
	w.Raw(cmd.tag)
	w.Raw(" OK ")
	if cmd.code != "" {
		w.Raw("[")
		w.Raw(cmd.code)
		w.Raw("] ")
	}
	if cmd.text != "" {
		w.Raw(cmd.text)
	} else {
		w.Raw(cmd.name)
		w.Raw(" completed")
	}
	w.CRLF()
}

// tagged writes a response that is not OK.
func (s *session) tagged(tag string, e *imap.Error) {
	w := s.out
	w.Raw(tag)
	w.Raw(" ")
	w.Raw(string(e.Type))
	w.Raw(" ")
	if e.Code != "" {
		w.Raw("[")
		w.Raw(string(e.Code))
		w.Raw("] ")
	}
	w.Raw(e.Text)
	w.CRLF()
}

// untagged writes an untagged OK with a response code.
func (s *session) untaggedOK(code, text string) {
	w := s.out
	w.Raw("* OK [")
	w.Raw(code)
	w.Raw("] ")
	w.Raw(text)
	w.CRLF()
}

func no(code imap.ResponseCode, text string) *imap.Error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: text}
}

func bad(text string) *imap.Error {
	return &imap.Error{Type: imap.StatusResponseTypeBad, Text: text}
}

// Response codes that go-imap has no name for.
const (
	codeExpunged imap.ResponseCode = "EXPUNGEISSUED" // RFC 5530
	codeTry      imap.ResponseCode = "TRYCREATE"
)

// answer makes an error the client's.
func (s *session) answer(cmd *command, err error) *imap.Error {
	var ie *imap.Error
	switch {
	case errors.As(err, &ie):
		return ie
	case errors.Is(err, store.ErrNoMailbox):
		return no(imap.ResponseCodeNonExistent, "Mailbox does not exist")
	case errors.Is(err, store.ErrMailboxExists):
		return no(imap.ResponseCodeAlreadyExists, "Mailbox exists already")
	case errors.Is(err, store.ErrHasChildren):
		return no(imap.ResponseCodeHasChildren, "There are mailboxes below it")
	case errors.Is(err, store.ErrName):
		return no(imap.ResponseCodeCannot, "This cannot be done with that name")
	case errors.Is(err, store.ErrQuota):
		return no(imap.ResponseCodeOverQuota, "Quota exceeded")
	case errors.Is(err, store.ErrFlags):
		return errManyFlags
	case errors.Is(err, store.ErrTooMany):
		return no(imap.ResponseCodeLimit, "There are too many of these already")
	case errors.Is(err, store.ErrKeywords):
		return errKeywords
	case errors.Is(err, store.ErrFull):
		s.log.Debug("store is full", "err", err) // it says so itself
		return no(imap.ResponseCodeUnavailable, "Storage is full")
	case errors.Is(err, store.ErrNoMessage):
		return no(codeExpunged, "Some messages have been expunged")
	case errors.Is(err, store.ErrDamaged):
		s.log.Error("damaged message", "err", err)
		return no(imap.ResponseCodeCorruption, "Some messages are damaged")
	case errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled):
		return no(imap.ResponseCodeUnavailable, "Server is shutting down")
	}
	s.log.Error("command failed", "command", cmd.name, "err", err)
	return no(imap.ResponseCodeServerBug, "Internal server error")
}

// tryCreate is a store's error where making the mailbox would help: it does not when
// the one that has gone is the selected one.
func (s *session) tryCreate(err error) error {
	var gone *store.GoneError
	if errors.As(err, &gone) && s.view != nil && gone.Box.UIDValidity == s.box().UIDValidity {
		return err
	}
	if errors.Is(err, store.ErrNoMailbox) {
		return no(codeTry, "Mailbox does not exist")
	}
	return err
}

// catchUp brings the store's events into the view.
func (s *session) catchUp() {
	if s.view == nil {
		return
	}
	s.view.take(s.watch.Take())
	if s.view.renamed != "" {
		s.mailbox, s.view.renamed = s.view.renamed, ""
	}
}
