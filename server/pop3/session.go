package pop3

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"mailform/server/store"
)

// session is what one client does: RFC 1939's AUTHORIZATION state until drop is
// set, then TRANSACTION; QUIT is UPDATE.
type session struct {
	*conn
	user    string // of USER
	account string
	drop    *maildrop
	badAuth int
	bad     int // commands that are none
	over    bool
}

// verb is one command.
type verb struct {
	run func(s *session, args []string)
	// min and max bound the arguments.
	min, max    int
	before, in  bool // allowed before and after the login
	wantsSecure bool // refused without TLS
}

// verbs are the commands. PASS is apart: its argument may have spaces.
func verbs(name string) (verb, bool) {
	switch name {
	case "CAPA":
		return verb{run: (*session).capa, before: true, in: true}, true
	case "QUIT":
		return verb{run: (*session).quit, before: true, in: true}, true
	case "NOOP":
		return verb{run: func(s *session, _ []string) { s.ok("") }, in: true}, true
	case "STLS":
		return verb{run: (*session).stls, before: true}, true
	case "UTF8":
		// RFC 6856 section 2: from here on the client takes UTF-8. The store keeps
		// messages as they came, and they are sent so.
		return verb{run: func(s *session, _ []string) { s.ok("UTF-8 it is") }, before: true}, true
	case "USER":
		return verb{run: (*session).setUser, min: 1, max: 1, before: true, wantsSecure: true}, true
	case "PASS":
		return verb{run: (*session).pass, min: 1, max: 1, before: true, wantsSecure: true}, true
	case "AUTH":
		return verb{run: (*session).auth, min: 0, max: 2, before: true, wantsSecure: true}, true
	case "STAT":
		return verb{run: (*session).stat, in: true}, true
	case "LIST":
		return verb{run: (*session).list, max: 1, in: true}, true
	case "UIDL":
		return verb{run: (*session).uidl, max: 1, in: true}, true
	case "RETR":
		return verb{run: (*session).retr, min: 1, max: 1, in: true}, true
	case "TOP":
		return verb{run: (*session).top, min: 2, max: 2, in: true}, true
	case "DELE":
		return verb{run: (*session).dele, min: 1, max: 1, in: true}, true
	case "RSET":
		return verb{run: (*session).rset, in: true}, true
	}
	return verb{}, false
}

func (s *session) run() {
	s.ok("POP3 server ready")
	for !s.over {
		line, err := s.line(maxCommand, s.deadline())
		switch {
		case err == nil:
			s.command(line)
		case errors.Is(err, errTooLong):
			s.complain("the line is longer than %d octets", maxCommand)
		case errors.Is(err, errDraining):
			s.err("SYS/TEMP", "the server is being restarted, connect again")
			s.over = true
		default:
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.log.Info("client is idle for too long")
			}
			return // RFC 1939 section 3: without QUIT nothing is deleted
		}
	}
	_ = s.w.Flush() // the connection is closed next, whether this worked or not
}

// deadline is when the next command has to be here.
func (s *session) deadline() time.Time {
	if s.drop == nil {
		return s.start.Add(s.srv.cfg.Timeouts.Login)
	}
	return time.Now().Add(s.srv.cfg.Timeouts.Idle)
}

// close gives back what the session holds.
func (s *session) close() {
	if s.account != "" {
		s.srv.leave(s.account)
	}
}

func (s *session) command(line string) {
	name, rest, _ := strings.Cut(line, " ")
	name = strings.ToUpper(name)
	v, known := verbs(name)
	args := strings.Fields(rest)
	if name == "PASS" && rest != "" {
		args = []string{rest} // RFC 1939 section 7: spaces belong to the password
	}
	switch {
	case !known:
		s.complain("there is no such command")
	case s.drop == nil && !v.before:
		s.complain("log in first")
	case s.drop != nil && !v.in:
		s.complain("that is for before the login")
	case len(args) < v.min || len(args) > v.max:
		s.complain("%s takes another number of arguments", name)
	case v.wantsSecure && !s.mayLogin():
		s.err("SYS/PERM", "start TLS first (STLS)")
	default:
		v.run(s, args)
	}
}

// complain answers what is no command, and ends who goes on so.
func (s *session) complain(format string, args ...any) {
	s.err("", fmt.Sprintf(format, args...))
	if s.bad++; s.bad >= s.srv.cfg.MaxBadCommands {
		s.over = true
	}
}

func (s *session) ok(text string) { fmt.Fprintf(s.w, "+OK %s\r\n", text) }

// err answers with a response code of RFC 2449 section 8 or RFC 3206, if any.
func (s *session) err(code, text string) {
	if code != "" {
		text = "[" + code + "] " + text
	}
	fmt.Fprintf(s.w, "-ERR %s\r\n", text)
}

func (s *session) mayLogin() bool { return s.secure || s.srv.cfg.AllowPlaintext }

func (s *session) capa(_ []string) {
	s.ok("")
	caps := []string{"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER", "EXPIRE NEVER"}
	if s.drop == nil {
		if s.mayLogin() {
			caps = append(caps, "USER", "SASL "+strings.Join(s.mechanisms(), " "))
		}
		if !s.secure && s.st.TLS != nil {
			caps = append(caps, "STLS")
		}
	}
	for _, c := range caps {
		fmt.Fprintf(s.w, "%s\r\n", c)
	}
	fmt.Fprint(s.w, ".\r\n")
}

func (s *session) stls(_ []string) {
	switch {
	case s.secure:
		s.err("", "TLS is on already")
	case s.st.TLS == nil:
		s.err("SYS/TEMP", "there is no certificate yet")
	case s.r.Buffered() > 0:
		// Commands behind STLS came in the clear; anybody may have put them there.
		s.err("", "nothing may follow STLS before its answer")
		s.over = true
	default:
		s.ok("begin TLS")
		if s.w.Flush() != nil || !s.handshake() {
			s.over = true
		}
		s.user = ""
	}
}

func (s *session) setUser(args []string) {
	s.user = args[0]
	s.ok("now the password") // the same for those who are unknown here
}

func (s *session) pass(args []string) {
	if s.user == "" {
		s.err("", "USER comes first")
		return
	}
	user := s.user
	s.user = ""
	s.login("PASS", user, args[0])
}

func (s *session) stat(_ []string) {
	n, bytes := s.drop.stat()
	s.ok(fmt.Sprintf("%d %d", n, bytes))
}

// number reads a message number. When it names none it has answered the command.
func (s *session) number(arg string) (int, bool) {
	n, err := strconv.ParseUint(arg, 10, 31) // no sign
	if err != nil || !s.drop.has(int(n)) {
		s.err("", "there is no such message")
		return 0, false
	}
	return int(n), true
}

func (s *session) list(args []string) {
	s.listing(args, func(n int) string { return strconv.FormatInt(s.drop.msgs.At(n-1).Size, 10) })
}

func (s *session) uidl(args []string) { s.listing(args, s.drop.unique) }

// listing answers LIST and UIDL, for one message or all.
func (s *session) listing(args []string, of func(n int) string) {
	if len(args) == 1 {
		if n, ok := s.number(args[0]); ok {
			s.ok(fmt.Sprintf("%d %s", n, of(n)))
		}
		return
	}
	s.ok("")
	for n := 1; n <= s.drop.msgs.Len(); n++ {
		if s.drop.has(n) {
			fmt.Fprintf(s.w, "%d %s\r\n", n, of(n))
		}
	}
	fmt.Fprint(s.w, ".\r\n")
}

func (s *session) retr(args []string) {
	if n, ok := s.number(args[0]); ok && s.send(n, -1) {
		s.drop.read(n)
	}
}

func (s *session) top(args []string) {
	lines, err := strconv.ParseUint(args[1], 10, 62)
	if err != nil {
		s.complain("the number of lines is not one")
		return
	}
	if n, ok := s.number(args[0]); ok {
		s.send(n, int(lines))
	}
}

// send answers with a message, or its header and as many lines. A failure in
// the middle ends the connection: the client must not take half a message for a whole one.
func (s *session) send(n, lines int) bool {
	m := s.drop.msgs.At(n - 1)
	r, err := s.srv.cfg.Store.Read(s.ctx, s.account, *m)
	if err != nil {
		s.log.Warn("read a message", "uid", m.UID, "err", err)
		s.err("SYS/TEMP", "the message cannot be read; another session may have removed it")
		return false
	}
	defer r.Close()
	s.ok(fmt.Sprintf("%d octets", m.Size))
	d := dots{w: s.w, lines: lines}
	if _, err = io.Copy(&d, r); err == nil || errors.Is(err, errEnough) {
		err = d.end()
	}
	if err != nil {
		s.log.Warn("send a message", "uid", m.UID, "err", err)
		_ = s.raw.Close()
		s.over = true
		return false
	}
	return true
}

func (s *session) dele(args []string) {
	if n, ok := s.number(args[0]); ok {
		s.drop.remove(n)
		s.ok("")
	}
}

func (s *session) rset(_ []string) {
	s.drop.reset()
	n, bytes := s.drop.stat()
	s.ok(fmt.Sprintf("%d messages (%d octets)", n, bytes))
}

func (s *session) quit(_ []string) {
	s.over = true
	if s.drop == nil {
		s.ok("bye")
		return
	}
	removed, err := s.drop.update(s.ctx, s.srv.cfg.Store, s.account)
	switch {
	case errors.Is(err, store.ErrNoMailbox):
		s.log.Info("logout: the mailbox of the session is no more", "err", err)
		s.err("SYS/TEMP", "the mailbox was emptied meanwhile, log in again")
		return
	case err != nil:
		if !errors.Is(err, store.ErrFull) { // of which the store says more
			s.log.Error("remove messages", "err", err)
		}
		s.err("SYS/TEMP", "not all messages could be removed") // RFC 1939 section 6
		return
	}
	s.log.Info("logout", "removed", removed)
	s.ok("bye")
}
