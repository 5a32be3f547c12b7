package imap

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"mailform/server/account"
	"mailform/server/limits"
	"mailform/server/store"
)

// session is what imapserver calls for one client, one command at a time; only
// Idle runs in a goroutine of its own.
type session struct {
	c     *conn
	g     *guard
	ic    *imapserver.Conn
	store store.Store
	ctx   context.Context
	log   *slog.Logger

	failures int // wrong logins
	account  string
	opened   time.Time

	mu       sync.Mutex // Idle and a command after it may meet
	mailbox  string     // selected; "" when none
	readOnly bool
	watch    store.Watch
	view     *view
	saved    imap.UIDSet // SEARCHRES, RFC 5182
	content  *content    // the message read last
}

var (
	_ imapserver.SessionIMAP4rev2   = (*session)(nil)
	_ imapserver.SessionAppendLimit = (*session)(nil)
)

func newSession(c *conn, g *guard, ic *imapserver.Conn) *session {
	return &session{c: c, g: g, ic: ic, store: c.srv.cfg.Store, ctx: c.ctx, log: c.log}
}

// Close ends the session. imapserver does not wait for Idle when a connection
// breaks: an Idle that is still running finds nothing selected.
func (s *session) Close() error {
	err := s.Unselect()
	if s.account != "" {
		s.c.srv.leave(s.account)
		s.log.Info("logged out", "duration", time.Since(s.opened).Round(time.Millisecond))
	}
	return err
}

// Login implements imapserver.Session, for LOGIN and AUTHENTICATE PLAIN.
func (s *session) Login(user, password string) error {
	remote := limits.AddrOf(s.g.RemoteAddr())
	cfg := &s.c.srv.cfg
	name, err := cfg.Auth(s.ctx, user, password, remote)
	if errors.Is(err, account.ErrCredentials) {
		s.failures++
		s.log.Info("login refused", "user", user, "failures", s.failures)
		delay := time.Duration(s.failures) * time.Second
		if cfg.OnAuthFailure != nil {
			delay = cfg.OnAuthFailure(remote, user)
		}
		if s.failures >= cfg.MaxBadAuth {
			s.g.setBye("Too many failed logins")
		}
		_ = cfg.Sleep(s.ctx, delay) // cut short only when the server ends
		return imapserver.ErrAuthFailed
	}
	if err != nil {
		s.log.Error("login", "user", user, "err", err)
		return no(imap.ResponseCodeUnavailable, "Logins cannot be checked now")
	}
	if !s.c.srv.enter(name) {
		s.log.Warn("login refused: too many sessions", "account", name)
		return no(imap.ResponseCodeLimit, "Too many sessions of this account")
	}
	s.account, s.opened = name, time.Now()
	s.log = s.log.With("account", name)
	s.g.authenticated.Store(true)
	s.log.Info("logged in", "user", user, "tls", s.g.secure)
	return nil
}

func no(code imap.ResponseCode, text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: text}
}

func bad(text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeBad, Code: imap.ResponseCodeClientBug, Text: text}
}

// codeExpunged is RFC 5530's EXPUNGEISSUED, which go-imap has no name for.
const codeExpunged imap.ResponseCode = "EXPUNGEISSUED"

// answer makes a store's error the client's. missing is the code for a mailbox
// that does not exist: TRYCREATE where making it would help.
func (s *session) answer(err error, missing imap.ResponseCode) error {
	var ie *imap.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ie):
		return ie
	case s.g.isOver():
		s.log.Debug("command broke off", "command", s.command(), "err", err)
		return no(imap.ResponseCodeUnavailable, "The connection broke off")
	case errors.Is(err, store.ErrNoMailbox):
		return no(missing, "Mailbox does not exist")
	case errors.Is(err, store.ErrMailboxExists):
		return no(imap.ResponseCodeAlreadyExists, "Mailbox exists already")
	case errors.Is(err, store.ErrHasChildren):
		return no(imap.ResponseCodeHasChildren, "There are mailboxes below it")
	case errors.Is(err, store.ErrName):
		return no(imap.ResponseCodeCannot, "This cannot be done with that name")
	case errors.Is(err, store.ErrQuota):
		return no(imap.ResponseCodeOverQuota, "Quota exceeded")
	case errors.Is(err, store.ErrFull):
		s.log.Error("store is full", "err", err)
		return no(imap.ResponseCodeUnavailable, "Storage is full")
	case errors.Is(err, store.ErrNoMessage):
		return no(codeExpunged, "Some messages have been expunged")
	case errors.Is(err, store.ErrDamaged):
		s.log.Error("damaged message", "err", err)
		return no(imap.ResponseCodeCorruption, "Some messages are damaged")
	case errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled):
		return no(imap.ResponseCodeUnavailable, "Server is shutting down")
	}
	s.log.Error("command failed", "command", s.command(), "err", err)
	return no(imap.ResponseCodeServerBug, "Internal server error")
}

// command is the name of the command being carried out.
func (s *session) command() string {
	if c := s.g.current.Load(); c != nil {
		return c.name
	}
	return ""
}

// AppendLimit implements imapserver.SessionAppendLimit. The guard refuses
// larger messages before imapserver sees them.
func (s *session) AppendLimit() uint32 {
	return uint32(min(s.c.st.MaxMessageBytes, 1<<32-1))
}

// Namespace implements imapserver.SessionNamespace: one, the user's own.
func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: delimiter}}}, nil
}

// catchUp brings the store's events into the view. The lock is held.
func (s *session) catchUp() {
	if s.view == nil {
		return
	}
	s.view.take(s.watch.Take())
	if s.view.lost {
		// RFC 9051 6.3.5 leaves it to the server; there is nothing to number any more.
		s.g.setBye("The selected mailbox was deleted or renamed")
	}
}

// Poll implements imapserver.Session: it runs before a command is answered.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return nil
	}
	s.catchUp()
	return s.view.announce(w, allowExpunge)
}

// Idle implements imapserver.Session.
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	s.mu.Lock()
	watch := s.watch
	s.mu.Unlock()
	var ready <-chan struct{}
	if watch != nil {
		ready = watch.Ready()
	}
	for {
		if err := s.idlePoll(w); err != nil {
			return err
		}
		select {
		case <-ready:
		case <-stop:
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
}

func (s *session) idlePoll(w *imapserver.UpdateWriter) error {
	release := s.g.hold()
	defer release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return nil
	}
	s.catchUp()
	return s.view.announce(w, true)
}
