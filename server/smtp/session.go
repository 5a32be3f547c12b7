package smtp

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"mailform/server/filter"
	"mailform/server/route"
)

// session is what go-smtp calls. BDAT runs Data on a goroutine of its own, so
// Reset and Logout may come while it runs: it works on the transaction it took.
type session struct {
	srv    *Server
	conn   *conn     // below TLS
	tls    *tls.Conn // nil without TLS
	kind   Kind
	id     string
	helo   string
	remote netip.Addr
	log    *slog.Logger

	mu      sync.Mutex
	account string         // logged in; "" before
	client  *filter.Client // on MX, from the first message on
	tx      *transaction
	data    bool // Data runs
	closing bool
	badRcpt int
	badAuth int
}

// transaction is one message's envelope.
type transaction struct {
	id       string
	settings *Settings
	account  string
	from     string
	size     int64 // as announced; 0 when not
	rcpts    []recipient
	check    *filter.Check // nil when nothing is checked
}

// recipient is one RCPT and where it leads.
type recipient struct {
	address string
	local   bool
	to      route.Result // when local
}

func newSession(srv *Server, c *conn, gc *smtp.Conn, kind Kind, id string, remote netip.Addr, log *slog.Logger) *session {
	s := &session{srv: srv, conn: c, kind: kind, id: id, helo: gc.Hostname(), remote: remote, log: log}
	s.tls, _ = gc.Conn().(*tls.Conn)
	return s
}

// finish closes the connection after the reply that is being made. The caller holds mu.
func (s *session) finish() {
	s.closing = true
	s.conn.finish()
}

// open says whether commands are still listened to: those that the client has
// pipelined arrive after the decision to close.
func (s *session) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return replyClosing
	}
	if s.conn.isDraining() && s.tx == nil {
		s.finish()
		return replyShutdown
	}
	return nil
}

// Mail begins a transaction.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	if err := s.open(); err != nil {
		return err
	}
	st := s.srv.settings.Load()
	s.mu.Lock()
	account, nested := s.account, s.tx != nil
	s.mu.Unlock()
	if nested { // go-smtp would keep the recipients of the first one
		return reply(503, "5.5.1", "A transaction is open already")
	}
	if s.kind == Submission && account == "" {
		return replyAuthRequired
	}
	if from != "" {
		local, domain, err := route.Split(from)
		if err != nil {
			return reply(553, "5.1.7", "That is not a sender address this server can take")
		}
		from = local + "@" + domain
		if s.kind == Submission && !st.Routes.Owns(account, from) {
			s.log.Info("sender refused", "account", account, "from", from)
			return reply(550, "5.7.1", "<%s> is not an address of yours", from)
		}
	} // a null sender is for notifications, RFC 5321 4.5.5; on submission the From field is still checked
	if s.kind == Submission {
		if wait := s.srv.cfg.Sent.Wait(account, st.MessagesPerHour); wait > 0 {
			return s.tooMany(account, st.MessagesPerHour, wait)
		}
	}
	if opts.Size > st.MaxMessageBytes {
		return reply(552, "5.3.4", "Message is too large, the limit is %d octets", st.MaxMessageBytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tx = &transaction{id: newID(), settings: st, account: account, from: from, size: opts.Size}
	if f := s.srv.cfg.Filter; f != nil && s.kind == MX {
		if s.client == nil {
			s.client = f.Client(s.remote, s.helo)
		}
		s.tx.check = s.client.Begin(s.srv.ctx, st.Policy, from)
	}
	s.conn.setBusy(true)
	return nil
}

// tooMany refuses a message of an account that has sent its share.
func (s *session) tooMany(account string, limit int, wait time.Duration) *smtp.SMTPError {
	s.log.Warn("sending limit reached", "account", account, "per_hour", limit)
	return reply(450, "4.7.1", "You have reached your limit of messages per hour (%d); try again in %s", limit, minutes(wait))
}

// minutes puts a wait into words.
func minutes(d time.Duration) string {
	n := int((d + time.Minute - 1) / time.Minute)
	if n == 1 {
		return "1 minute"
	}
	return strconv.Itoa(n) + " minutes"
}

// Rcpt adds a recipient, if the message could be delivered to it now.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.open(); err != nil {
		return err
	}
	s.mu.Lock()
	tx := s.tx
	s.mu.Unlock()
	if tx == nil {
		return reply(503, "5.5.1", "MAIL first")
	}
	if n := tx.settings.maxRecipients(s.kind); len(tx.rcpts) >= n { // go-smtp knows what was so when the connection began
		return reply(452, "4.5.3", "A message may have at most %d recipients", n)
	}
	local, domain, err := route.Split(to)
	if err != nil {
		return s.refuse(routeReply(err, ""))
	}
	r := recipient{address: local + "@" + domain}
	r.to, err = tx.settings.Routes.Resolve(r.address)
	switch {
	case err == nil:
		r.local = true
	case errors.Is(err, route.ErrNotLocal) && s.kind == Submission:
	default:
		s.log.Info("recipient refused", "to", r.address, "err", err)
		return s.refuse(routeReply(err, r.address))
	}
	if over, err := s.overQuota(tx, r.to); err != nil {
		s.log.Error("quota", "to", r.address, "err", err)
		return replyLocal
	} else if over && s.kind == Submission {
		return reply(552, "5.2.2", "The mailbox of <%s> is full", r.address)
	} else if over {
		return reply(452, "4.2.2", "The mailbox of <%s> is full", r.address)
	}
	if tx.check != nil {
		if refusal, facts := tx.check.Recipient(r.address); refusal != nil {
			s.log.Info("recipient refused", "tx", tx.id, "from", tx.from, "to", r.address, "reply", refusal.String(), "score", facts.Score(), "facts", facts.Strings())
			return reply(refusal.Code, refusal.Enhanced, "%s", refusal.Text)
		}
	}
	tx.rcpts = append(tx.rcpts, r)
	return nil
}

// overQuota finds a full mailbox here, where it can be refused by itself; at the
// end of the message it would take the others with it.
func (s *session) overQuota(tx *transaction, to route.Result) (bool, error) {
	if tx.settings.Quota == nil {
		return false, nil
	}
	for _, d := range to.Deliveries {
		quota := tx.settings.Quota(d.Account)
		if quota <= 0 {
			continue
		}
		used, _, err := s.srv.cfg.Store.Usage(s.srv.ctx, d.Account)
		if err != nil {
			return false, err
		}
		if used+max(tx.size, 1) > quota {
			return true, nil
		}
	}
	return false, nil
}

// refuse counts a bad recipient: a client that tries one name after another is
// slowed down, then sent away.
func (s *session) refuse(r *smtp.SMTPError) error {
	s.mu.Lock()
	s.badRcpt++
	n := s.badRcpt
	if n >= s.srv.cfg.MaxBadRcpt {
		s.finish()
	}
	s.mu.Unlock()
	if n > 2 {
		_ = s.srv.cfg.Sleep(s.srv.ctx, min(time.Duration(n-2)*time.Second, 5*time.Second))
	}
	if n >= s.srv.cfg.MaxBadRcpt {
		return reply(421, "4.7.0", "Too many bad recipients")
	}
	return r
}

// Reset ends the transaction.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tx = nil
	s.conn.setBusy(false)
	if s.data {
		// RSET between two chunks. go-smtp could give this Data's end to the
		// next message, so there is no next one on this connection.
		s.finish()
	}
}

// Logout is called when the connection ends, also while Data runs.
func (s *session) Logout() error { return nil }

// Data receives the message and delivers it.
func (s *session) Data(r io.Reader) error {
	s.mu.Lock()
	tx := s.tx
	if tx == nil || s.closing {
		s.mu.Unlock()
		return replyClosing
	}
	s.data = true
	s.mu.Unlock()
	s.conn.setData(true)
	result := s.receive(tx, r)
	s.srv.counts.note(s.kind, result.Code == 250)
	s.conn.setData(false)
	s.mu.Lock()
	s.data = false
	s.mu.Unlock()
	log := s.log.With("tx", tx.id, "from", tx.from, "recipients", len(tx.rcpts))
	if tx.account != "" {
		log = log.With("account", tx.account)
	}
	if result.Code != 250 {
		log.Info("message refused", "code", result.Code, "reply", result.Message)
	}
	return result
}

// protocol is the word for the Received line, RFC 3848.
func (s *session) protocol(tx *transaction) string {
	p := "ESMTP"
	if s.tls != nil {
		p += "S"
	}
	if tx.account != "" {
		p += "A"
	}
	return p
}

// heloName is what the client called itself, made safe for a header field.
func (s *session) heloName() string {
	name := s.helo
	if len(name) > 255 {
		name = name[:255]
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>;\\\"", r) {
			return '_'
		}
		return r
	}, name)
}
