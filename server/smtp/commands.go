package smtp

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"
)

// maxErrors is how many lines that are no command a client may send.
const maxErrors = 5

var (
	replyOK        = reply(250, "2.0.0", "OK")
	replySyntax    = reply(501, "5.5.4", "That argument is not understood")
	replyUnknown   = reply(500, "5.5.2", "That is not a command of this server")
	replyHello     = reply(503, "5.5.1", "HELO or EHLO first")
	replyMailFirst = reply(503, "5.5.1", "MAIL and RCPT first")
	replyInChunks  = reply(503, "5.5.1", "A message is on the way in chunks: BDAT or RSET")
	replyBase64    = reply(501, "5.5.2", "That is not base64")
	replyTooLarge  = reply(552, "5.3.4", "Message is too large")
	replyIdle      = reply(421, "4.4.2", "Nothing came for too long")
	replyTooLong   = reply(500, "5.5.2", "Line is too long")
	replyTooMany   = reply(421, "4.7.0", "Too many lines that are no command")
)

// run serves the session to its end.
func (s *session) run() {
	s.send(plain(220, s.srv.settings.Load().Hostname+" ESMTP Service Ready"))
	for !s.closing {
		if s.isDraining() && s.tx == nil {
			s.send(replyShutdown)
			return
		}
		line, err := s.readLine()
		switch {
		case err == nil:
			s.command(string(line))
		case errors.Is(err, errTooLong):
			s.send(replyTooLong)
			return
		case isTimeout(err) && s.isDraining():
			s.send(replyShutdown)
			return
		case isTimeout(err):
			s.send(replyIdle)
			return
		default:
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.log.Debug("read", "err", err)
			}
			return
		}
	}
}

// plain is a reply without an enhanced code: RFC 2034 4 excepts the greeting and 354.
func plain(code int, text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.NoEnhancedCode, Message: text}
}

// command answers one.
func (s *session) command(line string) {
	verb, arg, _ := strings.Cut(line, " ")
	arg = strings.TrimSpace(arg)
	switch strings.ToUpper(verb) {
	case "HELO", "EHLO":
		s.hello(arg, strings.EqualFold(verb, "EHLO"))
	case "MAIL":
		s.send(s.mail(arg))
	case "RCPT":
		s.send(s.rcpt(arg))
	case "DATA":
		s.data(arg)
	case "BDAT":
		s.bdat(arg)
	case "RSET":
		s.reset()
		s.send(replyOK)
	case "NOOP":
		s.send(replyOK)
	case "VRFY":
		s.send(reply(252, "2.5.0", "Try RCPT: this server does not tell"))
	case "QUIT":
		s.send(reply(221, "2.0.0", "Bye"))
		s.closing = true
	case "AUTH":
		s.authenticate(arg)
	case "STARTTLS":
		s.startTLS(arg)
	case "EXPN", "HELP", "TURN", "ETRN", "SEND", "SOML", "SAML":
		s.send(reply(502, "5.5.1", "Not offered"))
	case "GET", "POST", "PUT", "CONNECT", "OPTIONS":
		// A web browser that was made to talk to a mail server: what follows may be
		// commands in a form.
		s.send(reply(421, "4.7.0", "This is not a web server"))
		s.closing = true
	default:
		if s.errors++; s.errors > maxErrors {
			s.send(replyTooMany)
			s.closing = true
			return
		}
		s.send(replyUnknown)
	}
}

func (s *session) hello(arg string, extended bool) {
	name, _, _ := strings.Cut(arg, " ")
	if name == "" {
		s.send(replySyntax)
		return
	}
	s.reset()
	s.helo = name
	st := s.srv.settings.Load()
	text := st.Hostname + " Hello " + printable(name)
	if extended {
		text += "\nPIPELINING\n8BITMIME\nENHANCEDSTATUSCODES\nCHUNKING"
		if s.tls == nil && s.tlsConfig(st) != nil {
			text += "\nSTARTTLS"
		}
		if list := s.AuthMechanisms(); s.tls != nil && len(list) > 0 {
			text += "\nAUTH " + strings.Join(list, " ")
		}
		text += "\nSIZE " + strconv.FormatInt(st.MaxMessageBytes, 10) + "\nLIMITS RCPTMAX=" + strconv.Itoa(st.maxRecipients(s.kind))
	}
	s.send(plain(250, text))
}

func (s *session) mail(arg string) *smtp.SMTPError {
	if s.helo == "" {
		return replyHello
	}
	arg, ok := cutFold(arg, "FROM:")
	from, rest, err := parsePath(arg)
	if !ok || err != nil {
		return reply(501, "5.1.7", "It is MAIL FROM:<address>")
	}
	params, err := parseParameters(rest)
	if err != nil {
		return replySyntax
	}
	var size int64
	for _, p := range params {
		switch p.name {
		case "SIZE":
			n, err := strconv.ParseUint(p.value, 10, 62)
			if err != nil {
				return replySyntax
			}
			size = int64(n)
		case "BODY":
			// Octets are passed on as they are, and so both mean the same.
			if !strings.EqualFold(p.value, "7BIT") && !strings.EqualFold(p.value, "8BITMIME") {
				return reply(504, "5.5.4", "That BODY is not offered")
			}
		case "AUTH":
			// RFC 4954 5: who else is said to have sent it counts for nothing here.
		default:
			return reply(504, "5.5.4", "The parameter %s is not offered", printable(p.name))
		}
	}
	return s.begin(from, size)
}

func (s *session) rcpt(arg string) *smtp.SMTPError {
	if s.tx == nil {
		return reply(503, "5.5.1", "MAIL first")
	}
	if s.tx.chunks != nil {
		return replyInChunks
	}
	arg, ok := cutFold(arg, "TO:")
	to, rest, err := parsePath(arg)
	if !ok || err != nil || to == "" {
		return reply(501, "5.1.3", "It is RCPT TO:<address>")
	}
	params, err := parseParameters(rest)
	if err != nil {
		return replySyntax
	}
	if len(params) > 0 {
		return reply(504, "5.5.4", "The parameter %s is not offered", printable(params[0].name))
	}
	return s.recipient(to)
}

// authenticate plays the exchange of a mechanism, RFC 4954 4.
func (s *session) authenticate(arg string) {
	mechanism, initial, has := strings.Cut(arg, " ")
	switch {
	case s.helo == "":
		s.send(replyHello)
		return
	case s.account != "":
		s.send(reply(503, "5.5.1", "You are logged in already"))
		return
	case s.tx != nil:
		s.send(reply(503, "5.5.1", "Not within a transaction"))
		return
	case mechanism == "":
		s.send(replySyntax)
		return
	case s.tls == nil:
		s.send(reply(523, "5.7.10", "TLS is required"))
		return
	}
	var response []byte
	if has {
		var err error
		if response, err = decodeResponse(initial); err != nil {
			s.send(replyBase64)
			return
		}
	}
	server, err := s.Auth(strings.ToUpper(mechanism))
	for err == nil {
		var challenge []byte
		var done bool
		if challenge, done, err = server.Next(response); err != nil {
			break
		}
		if done {
			s.send(reply(235, "2.7.0", "Authentication succeeded"))
			return
		}
		s.send(plain(334, base64.StdEncoding.EncodeToString(challenge)))
		line, lost := s.readLine()
		if lost != nil {
			s.closing = true
			return
		}
		if string(line) == "*" {
			s.send(reply(501, "5.7.0", "Authentication cancelled"))
			return
		}
		if response, err = decodeResponse(string(line)); err != nil {
			s.send(replyBase64)
			return
		}
	}
	var e *smtp.SMTPError
	if !errors.As(err, &e) {
		s.log.Error("authenticate", "err", err)
		e = reply(454, "4.7.0", "Authentication is not possible now, try again later")
	}
	s.send(e)
}

// decodeResponse reads a response; "=" is an empty one, RFC 4954 4.
func decodeResponse(text string) ([]byte, error) {
	if text == "=" {
		return []byte{}, nil
	}
	return base64.StdEncoding.DecodeString(text)
}

func (s *session) startTLS(arg string) {
	config := s.tlsConfig(s.srv.settings.Load())
	switch {
	case arg != "":
		s.send(replySyntax)
		return
	case s.tls != nil:
		s.send(reply(503, "5.5.1", "TLS is on already"))
		return
	case config == nil:
		s.send(reply(502, "5.5.1", "TLS not supported"))
		return
	}
	s.send(reply(220, "2.0.0", "Ready to start TLS"))
	if s.flush() != nil || s.handshake(config) != nil {
		s.closing = true
		return
	}
	// What was said in the clear counts no more, RFC 3207 4.2.
	s.reset()
	s.helo, s.client = "", nil
}
