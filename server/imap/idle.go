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
		defer s.watch.Notify(nil)
	}
	s.line = s.line[:0]
	if cap(s.line) > keepLineSpace {
		s.line = nil
	}
	for {
		s.c.news()
		if s.view != nil {
			s.catchUp()
			s.view.announce(s, true)
			if s.view.lost {
				s.c.bye("The selected mailbox was deleted or renamed")
			}
		}
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

// notified is called when there is news between commands.
func (s *session) notified() { s.c.news() }
