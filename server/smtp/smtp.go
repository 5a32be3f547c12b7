// Package smtp receives mail: from other servers on port 25, and from our own
// users on 587 (STARTTLS) and 465 (TLS from the first octet). A message has its
// 250 only after the store has made it durable, for all its recipients at once:
// mailboxes here and queue entries for elsewhere.
//
// The protocol is its own, in go-smtp's types for replies: conn has the lines and
// their deadlines, session the dialogue, dots and intake the message. SMTPUTF8 is
// not offered: addresses and header fields would have to be downgraded or bounced
// at servers without it, and domains are written in punycode everywhere.
//
// It imports server/accept, server/account, server/filter, server/limits,
// server/mailauth, server/manifest, server/route and server/store.
package smtp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailform/server/accept"
	"mailform/server/account"
	"mailform/server/filter"
	"mailform/server/limits"
	"mailform/server/manifest"
	"mailform/server/route"
	"mailform/server/store"
)

// Kind says whom a listener serves.
type Kind uint8

// The kinds of listener.
const (
	MX         Kind = iota // other servers: mail for our addresses, no authentication
	Submission             // our users: authentication over TLS, mail for anywhere
)

func (k Kind) String() string {
	if k == Submission {
		return "submission"
	}
	return "smtp"
}

// Store is what of store.Store this package uses.
type Store interface {
	Deliver(ctx context.Context, d store.Delivery) ([]store.Message, error)
	QuotaRoots(ctx context.Context, account string) ([]store.QuotaRoot, error)
	Mailboxes(ctx context.Context, account string) ([]store.MailboxInfo, error)
	CreateMailbox(ctx context.Context, account, name, specialUse string) (store.MailboxInfo, error)
}

// maxRecipients is how many recipients a message to this kind of listener may have.
func (st *Settings) maxRecipients(kind Kind) int {
	switch {
	case st.MaxRecipients > 0:
		return st.MaxRecipients
	case kind == Submission:
		return 500
	}
	return 100 // RFC 5321 4.5.3.1.8
}

// Signer makes the DKIM-Signature lines for a message; mailauth.Keys is one.
type Signer interface {
	Sign(domain string, message io.Reader) ([]byte, error)
}

// Settings are what a reload exchanges. A transaction ends with the settings it began with.
type Settings struct {
	Hostname        string // FQDN for the greeting and the Received lines
	MaxMessageBytes int64  // 0: 50 MiB
	Routes          *route.Table
	Signer          Signer           // may be nil
	MaxRecipients   int              // of a message; 0: 100 on MX, 500 on Submission
	MessagesPerHour int              // that one account may submit; 0: 1,000
	Policy          *manifest.Filter // what is asked of Config.Filter; nil refuses nothing
	// TLS has the certificate. While it is nil STARTTLS is not offered and
	// connections to ports with implicit TLS are closed.
	TLS *tls.Config
	// SCRAM lets people log in by SCRAM-SHA-256; nil does not. Its exchanges take
	// their time to say no.
	SCRAM account.SCRAMLogins

	mxTLS *tls.Config
}

// Timeouts bound how long a client may take. Zero fields take the defaults.
type Timeouts struct {
	Command   time.Duration // for the next command; default 5 min, RFC 5321 4.5.3.2.7
	Write     time.Duration // for a reply to be taken; default 1 min
	Handshake time.Duration // for implicit TLS; default 30 s
	Chunk     time.Duration // for the next octets of a message; default 3 min, RFC 5321 4.5.3.2.5
	Grace     time.Duration // for a message of no octets; default 3 min
	MinRate   int           // octets per second beyond Grace; default 512
	Drain     time.Duration // for the rest of a refused message; default 30 s
}

// Config is what a Server needs. Store, Auth and Logger must be set.
type Config struct {
	Store Store
	// Auth returns the account of a login. account.ErrCredentials is answered
	// with 535, other errors with 454. It may take its time to answer a wrong one.
	Auth   func(ctx context.Context, user, password string, remote netip.Addr) (account string, err error)
	Logger *slog.Logger
	// Filter checks what comes in on MX; nil checks nothing.
	Filter *filter.Filter
	// Sent counts what accounts submit, so that a reload does not begin anew;
	// default is a count of the server's own.
	Sent *limits.Hourly
	// Queued is called after a message for elsewhere was made durable; may be nil.
	Queued func()
	// SpoolDir is where messages of more than SpoolMemory octets wait while
	// they arrive; default os.TempDir. The files have no name.
	SpoolDir    string
	SpoolMemory int // default 128 KiB
	Timeouts    Timeouts

	MaxBadRcpt     int   // refused recipients before the connection is closed; default 10
	MaxBadAuth     int   // failed logins before the connection is closed; default 3
	MaxHops        int   // Received lines of a message that is not looping; default 100, RFC 5321 6.3
	MaxHeaderBytes int   // default 256 KiB
	CommandBytes   int64 // commands between two messages; default 256 KiB

	Now   func() time.Time                                 // default time.Now
	Sleep func(ctx context.Context, d time.Duration) error // default waits; slows down guessing clients
}

// Server serves any number of listeners.
type Server struct {
	cfg      Config
	settings atomic.Pointer[Settings]
	conns    *accept.Group
	ctx      context.Context // of deliveries: that of conns
	counts   counts
	buffers  sync.Pool    // of *[largeBuffer]byte
	outage   store.Outage // of the disk for messages on their way in
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
		return nil, errors.New("smtp.Config needs Store, Auth and Logger")
	}
	def(&cfg.SpoolMemory, 128<<10)
	def(&cfg.MaxBadRcpt, 10)
	def(&cfg.MaxBadAuth, 3)
	def(&cfg.MaxHops, 100)
	def(&cfg.MaxHeaderBytes, 256<<10)
	def(&cfg.CommandBytes, 256<<10)
	def(&cfg.Timeouts.Command, 5*time.Minute)
	def(&cfg.Timeouts.Write, time.Minute)
	def(&cfg.Timeouts.Handshake, 30*time.Second)
	def(&cfg.Timeouts.Chunk, 3*time.Minute)
	def(&cfg.Timeouts.Grace, 3*time.Minute)
	def(&cfg.Timeouts.MinRate, 512)
	def(&cfg.Timeouts.Drain, 30*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Sent == nil {
		cfg.Sent = limits.NewHourly(cfg.Now)
	}
	if cfg.Queued == nil {
		cfg.Queued = func() {}
	}
	s := &Server{cfg: cfg, conns: accept.New("smtp", cfg.Logger), buffers: sync.Pool{New: func() any { return new([largeBuffer]byte) }}}
	s.ctx = s.conns.Context()
	s.outage.Logger, s.outage.Now, s.outage.What = cfg.Logger, cfg.Now, "smtp"
	s.Set(st)
	return s, nil
}

// Set exchanges the settings for new transactions and new connections.
func (s *Server) Set(st *Settings) {
	copied := *st
	def(&copied.MaxMessageBytes, 50<<20)
	def(&copied.MessagesPerHour, 1000)
	if copied.mxTLS = copied.TLS.Clone(); copied.mxTLS != nil {
		// Tickets would let a passer-by link a server's connections, and servers
		// that come once have no use for them.
		copied.mxTLS.SessionTicketsDisabled = true
	}
	s.settings.Store(&copied)
}

// Serve accepts connections until the listener fails or Shutdown is called.
func (s *Server) Serve(l net.Listener, kind Kind, implicitTLS bool) error {
	return s.conns.Serve(l, func(nc net.Conn) accept.Conn {
		return s.newConn(nc, kind, implicitTLS)
	})
}

// Shutdown stops accepting, ends idle connections, and lets open transactions
// end until ctx does. Then it closes what is left and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error { return s.conns.Shutdown(ctx) }

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

// newID returns an identifier for a session, a transaction or a Message-ID: 80 random bits.
func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand says
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}
