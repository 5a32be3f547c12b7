package smtp

import (
	"errors"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"mailform/server/account"
)

// AuthMechanisms lists what EHLO offers once TLS is on.
func (s *session) AuthMechanisms() []string {
	if s.kind != Submission {
		return nil
	}
	return []string{sasl.Plain, sasl.Login}
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
			return s.login(user, password)
		})}, nil
	case sasl.Login:
		return strict{&loginServer{check: s.login}}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// login checks a password, and ends the connection of who guesses.
func (s *session) login(user, password string) error {
	name, err := s.srv.cfg.Auth(s.srv.ctx, user, password, s.remote)
	if err == nil {
		s.account = name
		s.log.Info("login", "account", name)
		return nil
	}
	if !errors.Is(err, account.ErrCredentials) {
		s.log.Warn("login", "user", user, "err", err)
		return reply(454, "4.7.0", "Authentication is not possible now, try again later")
	}
	s.badAuth++
	s.log.Info("login failed", "user", user, "count", s.badAuth)
	if s.badAuth >= s.srv.cfg.MaxBadAuth {
		s.closing = true
		return reply(421, "4.7.0", "Too many failed logins")
	}
	return smtp.ErrAuthFailed
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
