package smtp

import (
	"errors"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"mailform/server/account"
)

// AuthMechanisms lists what EHLO offers once TLS is on. Auth takes
// SCRAM-SHA-256-PLUS, too, but it is not shown: mutt and neomutt take it where they
// see it, have nothing to bind to, and know no way on when it fails.
func (s *session) AuthMechanisms() []string {
	if s.kind != Submission {
		return nil
	}
	scram := s.srv.settings.Load().SCRAM
	return account.Mechanisms(scram != nil && scram.Shown(s.remote), false)
}

// Auth begins an authentication.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	if s.kind != Submission {
		return nil, smtp.ErrAuthUnsupported
	}
	switch mechanism {
	case sasl.Plain:
		return strict{sasl.NewPlainServer(func(identity, user, password string) error {
			if identity != "" && identity != user {
				return reply(535, "5.7.8", "Acting for another user is not offered")
			}
			return s.login(mechanism, user, password)
		})}, nil
	case sasl.Login:
		return strict{&loginServer{check: func(user, password string) error { return s.login(mechanism, user, password) }}}, nil
	case account.SCRAM, account.SCRAMPlus:
		if st := s.srv.settings.Load(); st.SCRAM != nil {
			var binding account.Binding
			if mechanism == account.SCRAMPlus && s.tls != nil {
				binding = account.BindingOf(s.tls, st.TLS)
			}
			return strict{&scramServer{s, mechanism, st.SCRAM.Begin(s.srv.ctx, s.remote, mechanism == account.SCRAMPlus, binding)}}, nil
		}
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// login checks a password, and ends the connection of who guesses.
func (s *session) login(mechanism, user, password string) error {
	name, err := s.srv.cfg.Auth(s.srv.ctx, user, password, s.remote)
	return s.admit(mechanism, user, name, err)
}

// admit lets an account send, or says why that is not to be.
func (s *session) admit(mechanism, user, name string, err error) error {
	if err == nil {
		s.account = name
		s.log.Info("login", "account", name, "mechanism", mechanism)
		return nil
	}
	if !errors.Is(err, account.ErrCredentials) {
		s.log.Warn("login", "user", user, "err", err)
		return reply(454, "4.7.0", "Authentication is not possible now, try again later")
	}
	s.badAuth++
	s.log.Info("login failed", "user", user, "mechanism", mechanism, "count", s.badAuth)
	if s.badAuth >= s.srv.cfg.MaxBadAuth {
		s.closing = true
		return reply(421, "4.7.0", "Too many failed logins")
	}
	return smtp.ErrAuthFailed
}

// scramServer is a login by SCRAM.
type scramServer struct {
	s         *session
	mechanism string
	x         account.Exchange
}

func (l *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = l.x.Next(response)
	switch {
	case errors.Is(err, account.ErrExchange):
		l.s.log.Info("login broken off", "mechanism", l.mechanism, "user", l.x.Login(), "err", err)
		return nil, false, err // strict has the reply
	case done || err != nil:
		return nil, true, l.s.admit(l.mechanism, l.x.Login(), l.x.Account(), err)
	}
	return challenge, false, nil
}

// strict turns the library's own errors into a reply: they would be shown as they are.
type strict struct{ sasl.Server }

func (s strict) Next(response []byte) ([]byte, bool, error) {
	challenge, done, err := s.Server.Next(response)
	var e *smtp.SMTPError
	if err != nil && !errors.As(err, &e) {
		err = reply(501, "5.5.2", "Malformed authentication exchange")
	}
	return challenge, done, err
}

// loginServer is the server side of LOGIN, which some mail programs still
// prefer: draft-murchison-sasl-login.
type loginServer struct {
	check func(user, password string) error
	step  int
	user  string
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil && l.step == 0 { // no initial response
		return []byte("Username:"), false, nil
	}
	l.step++
	switch l.step {
	case 1:
		l.user = string(response)
		return []byte("Password:"), false, nil
	case 2:
		return nil, true, l.check(l.user, string(response))
	}
	return nil, false, sasl.ErrUnexpectedClientResponse
}
