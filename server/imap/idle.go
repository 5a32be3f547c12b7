package imap

import (
	"errors"
	"strings"
)

// idle implements IDLE, RFC 2177. While nothing happens the connection waits in
// one read, which an event of the mailbox cuts short.
func (s *session) idle(cmd *command) error {
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	s.out.Raw("+ idling\r\n")
	if s.watch != nil {
		s.watch.Notify(s.c.wake)
		defer s.listen()
	}
	s.line = s.line[:0]
	if cap(s.line) > keepLineSpace {
		s.line = nil
	}
	for {
		s.c.news()
		s.catchUp()
		s.announce(true)
		s.tellAccount()
		s.leaveLost()
		if len(s.line) == 0 {
			s.c.expect(phaseCommand)
			s.in.Release()
		}
		var err error
		s.line, err = s.in.Line(s.line, maxEarly)
		if errors.Is(err, errWoken) {
			continue
		}
		if err != nil {
			_ = s.tooLong(err)
			s.over, cmd.silent = true, true
			return nil
		}
		if strings.EqualFold(strings.TrimSpace(string(s.line)), "DONE") {
			return nil
		}
		return bad("Expected DONE")
	}
}
