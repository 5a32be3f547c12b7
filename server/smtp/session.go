package smtp

import (
	"crypto/tls"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"mailform/server/filter"
	"mailform/server/route"
)

// session is one client's dialogue, from the greeting on.
type session struct {
	*conn
	helo    string
	account string         // logged in; "" before
	client  *filter.Client // on MX, from the first message on
	tx      *transaction   // nil when none is open
	closing bool           // the reply under way is the last
	badRcpt int
	badAuth int
	errors  int
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
	chunks   *arrival      // what has come with BDAT; nil before the first one
}

// recipient is one RCPT and where it leads.
type recipient struct {
	address string
	local   bool
	to      route.Result // when local
}

// tlsConfig is what STARTTLS takes; nil when it is not offered.
func (s *session) tlsConfig(st *Settings) *tls.Config {
	if s.kind == MX {
		return st.mxTLS
	}
	return st.TLS
}

// begin begins a transaction.
func (s *session) begin(from string, size int64) *smtp.SMTPError {
	if s.tx != nil {
		return reply(503, "5.5.1", "A transaction is open already")
	}
	st := s.srv.settings.Load()
	if s.kind == Submission && s.account == "" {
		return replyAuthRequired
	}
	if from != "" {
		local, domain, err := route.Split(from)
		if err != nil {
			return reply(553, "5.1.7", "That is not a sender address this server can take")
		}
		from = local + "@" + domain
		if s.kind == Submission && !st.Routes.Owns(s.account, from) {
			s.log.Info("sender refused", "account", s.account, "from", from)
			return reply(550, "5.7.1", "<%s> is not an address of yours", from)
		}
	} // a null sender is for notifications, RFC 5321 4.5.5; on submission the From field is still checked
	if s.kind == Submission {
		if wait := s.srv.cfg.Sent.Wait(s.account, st.MessagesPerHour); wait > 0 {
			return s.tooMany(s.account, st.MessagesPerHour, wait)
		}
	}
	if size > st.MaxMessageBytes {
		return reply(552, "5.3.4", "Message is too large, the limit is %d octets", st.MaxMessageBytes)
	}
	s.tx = &transaction{id: newID(), settings: st, account: s.account, from: from, size: size}
	if f := s.srv.cfg.Filter; f != nil && s.kind == MX {
		if s.client == nil {
			s.client = f.Client(s.remote, s.helo)
		}
		s.tx.check = s.client.Begin(s.srv.ctx, st.Policy, from)
	}
	s.setBusy(true)
	return reply(250, "2.1.0", "Sender OK")
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

// recipient adds one, if the message could be delivered to it now.
func (s *session) recipient(to string) *smtp.SMTPError {
	tx := s.tx
	if n := tx.settings.maxRecipients(s.kind); len(tx.rcpts) >= n {
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
	return reply(250, "2.1.5", "Recipient OK")
}

// overQuota finds a full mailbox or domain here, where it can be refused by itself; at the
// end of the message it would take the others with it.
func (s *session) overQuota(tx *transaction, to route.Result) (bool, error) {
	for _, d := range to.Deliveries {
		roots, err := s.srv.cfg.Store.QuotaRoots(s.srv.ctx, d.Account)
		if err != nil {
			return false, err
		}
		for _, r := range roots {
			if r.Limit.Bytes > 0 && r.Used.Bytes+max(tx.size, 1) > r.Limit.Bytes || r.Limit.Messages > 0 && r.Used.Messages >= r.Limit.Messages {
				return true, nil
			}
		}
	}
	return false, nil
}

// refuse counts a bad recipient: a client that tries one name after another is
// slowed down, then sent away.
func (s *session) refuse(r *smtp.SMTPError) *smtp.SMTPError {
	s.badRcpt++
	if n := s.badRcpt; n > 2 {
		_ = s.srv.cfg.Sleep(s.srv.ctx, min(time.Duration(n-2)*time.Second, 5*time.Second))
	}
	if s.badRcpt >= s.srv.cfg.MaxBadRcpt {
		s.closing = true
		return reply(421, "4.7.0", "Too many bad recipients")
	}
	return r
}

// reset ends the transaction.
func (s *session) reset() {
	if s.tx != nil && s.tx.chunks != nil {
		s.tx.chunks.sp.close()
	}
	s.tx = nil
	s.setBusy(false)
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
