package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailform/server/account"
	"mailform/server/imap/wire"
)

func (c *conn) canStartTLS() bool { return !c.secure && c.st.TLS != nil }
func (c *conn) mayLogIn() bool    { return c.secure || c.srv.cfg.AllowPlaintext }

// showsSCRAM says whether the client is shown the mechanism, and with TLS its
// form with a channel binding.
func (c *conn) showsSCRAM() bool { return c.st.SCRAM != nil && c.st.SCRAM.Shown(c.remote) }

// beginSCRAM begins a login by SCRAM.
func (c *conn) beginSCRAM(ctx context.Context, plus bool) account.Exchange {
	var binding account.Binding
	if t, ok := c.nc.(*tls.Conn); ok && (plus || c.showsSCRAM()) {
		binding = account.BindingOf(t, c.st.TLS)
	}
	return c.st.SCRAM.Begin(ctx, c.remote, plus, binding)
}

// startTLS implements RFC 9051 6.2.1.
func (s *session) startTLS(cmd *command) error {
	switch {
	case s.c.secure:
		return bad("TLS is in use already")
	case cmd.p.End() != nil:
		return bad("STARTTLS takes no arguments")
	case s.c.st.TLS == nil:
		return no("", "STARTTLS is not available")
	case s.in.Buffered() > 0:
		// What was sent ahead of TLS must not count after it.
		s.c.bye("Nothing may follow STARTTLS before TLS")
		cmd.silent = true
		return nil
	}
	cmd.silent, cmd.text = true, "Begin TLS negotiation now"
	s.finish(cmd, nil)
	if s.c.flush() != nil || s.c.handshake() != nil {
		s.over = true
	}
	return nil
}

// loginCommand implements LOGIN, RFC 9051 6.2.3.
func (s *session) loginCommand(cmd *command) error {
	p := cmd.p
	p.SP()
	user := p.AString()
	p.SP()
	password := p.AString()
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	return s.login(cmd, "LOGIN", user, password)
}

// login checks a password.
func (s *session) login(cmd *command, mechanism, user, password string) error {
	if !s.c.mayLogIn() {
		return no(imap.ResponseCodePrivacyRequired, "Logins need TLS")
	}
	name, err := s.srv.cfg.Auth(s.ctx, user, password, s.c.remote)
	return s.admit(cmd, mechanism, user, name, err)
}

// admit begins the session of an account, or says why that is not to be.
func (s *session) admit(cmd *command, mechanism, user, name string, err error) error {
	switch {
	case errors.Is(err, account.ErrCredentials):
		return s.turnAway(mechanism, user, err)
	case err != nil:
		s.log.Error("login", "user", user, "err", err)
		return no(imap.ResponseCodeUnavailable, "Logins cannot be checked now")
	case !s.srv.enter(name):
		s.log.Warn("login refused: too many sessions", "account", name)
		return no(imap.ResponseCodeLimit, "Too many sessions of this account")
	}
	s.account, s.opened = name, time.Now()
	s.log = s.log.With("account", name)
	s.c.login = true
	s.log.Info("logged in", "user", user, "mechanism", mechanism, "tls", s.c.secure)
	cmd.code, cmd.text = s.capabilities(), "Logged in"
	return nil
}

// turnAway answers a wrong login, when its time has come.
func (s *session) turnAway(mechanism, user string, err error) error {
	cfg := &s.srv.cfg
	s.failures++
	s.log.Info("login refused", "user", user, "mechanism", mechanism, "failures", s.failures, "err", err)
	delay := time.Duration(s.failures) * time.Second
	if cfg.OnAuthFailure != nil {
		delay = cfg.OnAuthFailure(s.c.remote, user)
	}
	if s.failures >= cfg.MaxBadAuth {
		s.c.bye("Too many failed logins")
	}
	_ = cfg.Sleep(s.ctx, delay) // cut short only when the server ends
	return no(imap.ResponseCodeAuthenticationFailed, "Authentication failed")
}

// authenticate implements AUTHENTICATE, RFC 9051 6.2.2, with an initial
// response, RFC 4959.
func (s *session) authenticate(cmd *command) error {
	p := cmd.p
	p.SP()
	mechanism := p.Word()
	var initial []byte
	has := p.More()
	if has {
		initial = p.Base64()
	}
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	if !s.c.mayLogIn() {
		return no(imap.ResponseCodePrivacyRequired, "Logins need TLS")
	}
	next := func(challenge string) ([]byte, error) {
		if has {
			has = false
			return initial, nil
		}
		return s.challenge([]byte(challenge))
	}
	switch mechanism {
	case account.SCRAM, account.SCRAMPlus:
		if s.c.st.SCRAM != nil {
			return s.scram(cmd, mechanism, next)
		}
	case "PLAIN": // RFC 4616
		b, err := next("")
		if err != nil {
			return err
		}
		f := strings.Split(string(b), "\x00")
		if len(f) != 3 || f[1] == "" {
			return bad("That is no PLAIN message")
		}
		if f[0] != "" && !strings.EqualFold(f[0], f[1]) {
			return no(imap.ResponseCodeAuthorizationFailed, "Nobody may act for somebody else")
		}
		return s.login(cmd, mechanism, f[1], f[2])
	case "LOGIN": // draft-murchison-sasl-login
		user, err := next("Username:")
		if err != nil {
			return err
		}
		password, err := s.challenge([]byte("Password:"))
		if err != nil {
			return err
		}
		return s.login(cmd, mechanism, string(user), string(password))
	}
	return no("", "That mechanism is not known")
}

// scram is a login whose messages are an exchange's. Who has no keys for it is
// told what clients take for a wrong password and try other mechanisms after.
func (s *session) scram(cmd *command, mechanism string, next func(challenge string) ([]byte, error)) error {
	x := s.c.beginSCRAM(s.ctx, mechanism == account.SCRAMPlus)
	challenge := []byte{}
	for {
		response, err := next(string(challenge))
		if err != nil {
			return err
		}
		var done bool
		challenge, done, err = x.Next(append([]byte{}, response...))
		if errors.Is(err, account.ErrExchange) {
			s.log.Info("login broken off", "mechanism", mechanism, "user", x.Login(), "err", err)
			return bad("That is no message of this mechanism")
		}
		if done || err != nil {
			return s.admit(cmd, mechanism, x.Login(), x.Account(), err)
		}
	}
}

// challenge sends a challenge and reads the answer.
func (s *session) challenge(text []byte) ([]byte, error) {
	s.out.Raw("+ ")
	s.out.Base64(text)
	s.out.CRLF()
	line, err := s.in.Line(nil, maxEarly)
	if err != nil {
		_ = s.tooLong(err)
		s.over = true
		return nil, bad("The exchange broke off")
	}
	answer := string(trimEOL(line))
	if answer == "*" {
		return nil, bad("Authentication was given up")
	}
	b, err := wire.DecodeBase64(answer)
	if err != nil {
		return nil, bad("That is not base64")
	}
	return b, nil
}
