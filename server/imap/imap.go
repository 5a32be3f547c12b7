// Package imap gives mailboxes to mail programs: IMAP4rev1 and IMAP4rev2 on 143
// (STARTTLS) and 993 (TLS from the first octet), RFC 9051 and RFC 3501.
//
// A conn is one connection: its reads, writes and time limits. A session is what
// a client has done on it: login, mailbox, what it has enabled. Commands come in
// whole but for the messages that APPEND brings; there is one file for each
// family of them. What one client has been told of its mailbox is a view, which
// the store's events bring up to date; a searchContext is a search's result that is
// kept true by what the view takes in. Below are wire (lines, literals, strings),
// mimetree (the parts of a message), threads, and summary (what is kept of messages).
//
// go-imap's types are the vocabulary; its server is not used. It imports
// server/accept, server/account, server/limits, server/search and server/store.
package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mailform/server/accept"
	"mailform/server/account"
	"mailform/server/imap/summary"
	"mailform/server/imap/wire"
	"mailform/server/search"
)

// Settings are what a reload exchanges. A connection keeps the settings it began with.
type Settings struct {
	Hostname        string // FQDN, for the log and ID
	MaxMessageBytes int64  // largest APPEND, at most 4 GiB; 0: 50 MiB
	// TLS has the certificate. While it is nil STARTTLS is not offered and
	// connections to ports with implicit TLS are closed.
	TLS *tls.Config
	// SCRAM lets people log in by SCRAM-SHA-256; nil does not. Its exchanges take
	// their time to say no.
	SCRAM account.SCRAMLogins
}

// Timeouts bound how long a client may take. Zero fields take the defaults.
type Timeouts struct {
	Handshake time.Duration // of TLS; default 30 s
	Login     time.Duration // from the first octet to a login; default 2 min
	Idle      time.Duration // between commands; default 30 min, RFC 9051 5.4
	Line      time.Duration // for the rest of a command; default 1 min
	Chunk     time.Duration // for the next octets of a literal; default 1 min
	Write     time.Duration // for 32 KiB of responses to be taken; default 1 min
	Progress  time.Duration // between notes of how far a long search is; default 10 s
	Linger    time.Duration // for a client to read our BYE; default 2 s
}

// Config is what a Server needs. Store, Auth and Logger must be set.
type Config struct {
	Store Store
	// Auth returns the account of a login. account.ErrCredentials is answered
	// with AUTHENTICATIONFAILED, other errors with UNAVAILABLE.
	Auth func(ctx context.Context, user, password string, remote netip.Addr) (account string, err error)
	// OnAuthFailure is told about each wrong login and says how long its answer
	// is held back; nil holds back one second for each failure on the connection.
	OnAuthFailure func(remote netip.Addr, user string) time.Duration
	// Find looks for a folded text in some fields of an account's messages, see
	// search.Indexer; nil reads the messages.
	Find func(account string, fields search.Field, text string) (*search.Hits, error)
	// Summaries gives what is kept of the messages of a mailbox, see
	// summary.Keeper; nil reads the messages.
	Summaries func(account string, validity uint32) *summary.Reader
	Logger    *slog.Logger
	Timeouts  Timeouts

	MaxBadAuth     int // failed logins before the connection is closed; default 3
	MaxBadCommands int // lines that are no commands before it is closed; default 10
	MaxSessions    int // open sessions of one account; default 100
	// AllowPlaintext lets clients log in without TLS. For tests only.
	AllowPlaintext bool

	Sleep func(ctx context.Context, d time.Duration) error // default waits

	// few messages are read about as fast as their summaries. Tests change it and maxHits.
	few     int
	maxHits int
}

// Server serves any number of listeners.
type Server struct {
	cfg       Config
	settings  atomic.Pointer[Settings]
	conns     *accept.Group
	sessions  atomic.Uint64 // numbers sessions for the log
	buffers   wire.Buffers
	commands  map[string]handler
	contents  sync.Pool // of *[]byte, smallMessage long
	known     knownContents
	recents   recents
	deflaters sync.Pool // of *flate.Writer

	mu       sync.Mutex
	accounts map[string]int // open sessions
}

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = accept.ErrClosed

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// New returns a server with the settings st.
func New(cfg Config, st *Settings) (*Server, error) {
	if cfg.Store == nil || cfg.Auth == nil || cfg.Logger == nil {
		return nil, errors.New("imap.Config needs Store, Auth and Logger")
	}
	def(&cfg.Timeouts.Handshake, 30*time.Second)
	def(&cfg.Timeouts.Login, 2*time.Minute)
	def(&cfg.Timeouts.Idle, 30*time.Minute)
	def(&cfg.Timeouts.Line, time.Minute)
	def(&cfg.Timeouts.Chunk, time.Minute)
	def(&cfg.Timeouts.Write, time.Minute)
	def(&cfg.Timeouts.Progress, 10*time.Second)
	def(&cfg.Timeouts.Linger, 2*time.Second)
	def(&cfg.MaxBadAuth, 3)
	def(&cfg.MaxBadCommands, 10)
	def(&cfg.MaxSessions, 100)
	def(&cfg.few, 4)
	def(&cfg.maxHits, maxHits)
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	s := &Server{cfg: cfg, conns: accept.New("imap", cfg.Logger), accounts: map[string]int{}, commands: handlers(), recents: recents{since: time.Now().Truncate(time.Second)}}
	s.Set(st)
	return s, nil
}

// Set exchanges the settings for new connections.
func (s *Server) Set(st *Settings) {
	copied := *st
	def(&copied.MaxMessageBytes, 50<<20)
	s.settings.Store(&copied)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter counts a session of an account, unless it has too many.
func (s *Server) enter(account string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[account] >= s.cfg.MaxSessions {
		return false
	}
	s.accounts[account]++
	return true
}

func (s *Server) leave(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[account]--; s.accounts[account] <= 0 {
		delete(s.accounts, account)
	}
}
