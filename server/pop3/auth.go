package pop3

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailform/server/account"
)

// mechanisms are those that the client is shown.
func (s *session) mechanisms() []string { return account.Mechanisms(s.showsSCRAM(), s.secure) }

func (c *conn) showsSCRAM() bool { return c.st.SCRAM != nil && c.st.SCRAM.Shown(c.remote) }

// beginSCRAM begins a login by SCRAM.
func (c *conn) beginSCRAM(plus bool) account.Exchange {
	var binding account.Binding
	if t, ok := c.nc.(*tls.Conn); ok && (plus || c.showsSCRAM()) {
		binding = account.BindingOf(t, c.st.TLS)
	}
	return c.st.SCRAM.Begin(c.ctx, c.remote, plus, binding)
}

// auth is RFC 5034's AUTH; without arguments it lists the mechanisms, as some
// old programs still ask.
func (s *session) auth(args []string) {
	if len(args) == 0 {
		s.ok("")
		for _, name := range s.mechanisms() {
			fmt.Fprintf(s.w, "%s\r\n", name)
		}
		fmt.Fprint(s.w, ".\r\n")
		return
	}
	var initial *string
	if len(args) == 2 {
		initial = &args[1]
	}
	var user, password string
	var ok bool
	mechanism := strings.ToUpper(args[0])
	if !slices.Contains(account.Mechanisms(s.st.SCRAM != nil, true), mechanism) {
		s.err("", strings.Join(s.mechanisms(), ", ")+" are offered")
		return
	}
	switch mechanism {
	case account.SCRAM, account.SCRAMPlus:
		s.scram(mechanism, initial)
	case "PLAIN":
		var text string
		if text, ok = s.challenge("", initial); ok {
			parts := strings.Split(text, "\x00") // RFC 4616: authzid, authcid, password
			if ok = len(parts) == 3 && (parts[0] == "" || parts[0] == parts[1]); ok {
				user, password = parts[1], parts[2]
			} else {
				s.err("", "the response is not one of PLAIN for oneself")
			}
		}
	case "LOGIN":
		if user, ok = s.challenge("Username:", initial); ok {
			password, ok = s.challenge("Password:", nil)
		}
	}
	if ok {
		s.login(mechanism, user, password)
	}
}

// challenge sends a challenge, unless the answer came with the command, and
// returns the answer. When there is none it has answered the command.
func (s *session) challenge(text string, initial *string) (string, bool) {
	if initial == nil {
		fmt.Fprintf(s.w, "+ %s\r\n", base64.StdEncoding.EncodeToString([]byte(text)))
		line, err := s.line(maxSASL, s.deadline())
		if err != nil {
			if errors.Is(err, errTooLong) {
				s.err("", "the response is too long")
			}
			s.over = true
			return "", false
		}
		if line == "*" {
			s.err("", "authentication is given up")
			return "", false
		}
		initial = &line
	} else if *initial == "=" {
		return "", true
	}
	b, err := base64.StdEncoding.DecodeString(*initial)
	if err != nil {
		s.err("", "the response is not base64")
		return "", false
	}
	return string(b), true
}

// scram is a login whose messages are an exchange's.
func (s *session) scram(mechanism string, initial *string) {
	x := s.beginSCRAM(mechanism == account.SCRAMPlus)
	challenge := []byte{}
	for {
		response, ok := s.challenge(string(challenge), initial)
		if !ok {
			return
		}
		initial = nil
		var done bool
		var err error
		challenge, done, err = x.Next(append([]byte{}, response...))
		if errors.Is(err, account.ErrExchange) {
			s.log.Info("login broken off", "mechanism", mechanism, "user", x.Login(), "err", err)
			s.err("", "the response is not one of the mechanism")
			return
		}
		if done || err != nil {
			s.admit(mechanism, x.Login(), x.Account(), err)
			return
		}
	}
}

func (s *session) login(mechanism, user, password string) {
	name, err := s.srv.cfg.Auth(s.ctx, user, password, s.remote)
	s.admit(mechanism, user, name, err)
}

// admit opens the maildrop of an account, or says why that is not to be.
func (s *session) admit(mechanism, user, name string, err error) {
	if err != nil {
		if !errors.Is(err, account.ErrCredentials) {
			s.log.Warn("login", "user", user, "err", err)
			s.err("SYS/TEMP", "a login is not possible now, try again later")
			return
		}
		s.badAuth++
		s.log.Info("login failed", "user", user, "mechanism", mechanism, "count", s.badAuth)
		s.err("AUTH", "the name or the password is wrong")
		s.over = s.badAuth >= s.srv.cfg.MaxBadAuth
		return
	}
	most := s.srv.cfg.MaxSessions
	if s.st.Exclusive {
		most = 1
	}
	if !s.srv.enter(name, most) {
		s.err("IN-USE", "another session has this mailbox, try again later")
		return
	}
	s.account = name
	drop, err := openMaildrop(s.ctx, s.srv.cfg.Store, name)
	if err != nil {
		s.log.Error("open the mailbox", "account", name, "err", err)
		s.srv.leave(name)
		s.account = ""
		s.err("SYS/TEMP", "the mailbox cannot be opened now, try again later")
		return
	}
	s.drop = drop
	s.log = s.log.With("account", name)
	s.log.Info("login", "mechanism", mechanism, "tls", s.secure, "messages", drop.msgs.Len())
	n, bytes := drop.stat()
	s.ok(fmt.Sprintf("%d messages (%d octets)", n, bytes))
}
