package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"mailform/server/filter"
	"mailform/server/mailauth"
	"mailform/server/route"
	"mailform/server/store"
)

// maxEntryRecipients is how many recipients go into one queue entry, RFC 5321 4.5.3.1.8.
const maxEntryRecipients = 100

// arrival is a message on its way in.
type arrival struct {
	in *intake
	sp *spool
	pace
}

func (s *session) arrive(tx *transaction) *arrival {
	cfg := &s.srv.cfg
	sp := &spool{dir: cfg.SpoolDir, memory: cfg.SpoolMemory, pool: &s.srv.buffers}
	sp.grow(tx.size)
	return &arrival{sp: sp, in: &intake{w: sp, normalise: s.kind == Submission, maxHeader: cfg.MaxHeaderBytes, maxSize: tx.settings.MaxMessageBytes},
		pace: pace{limits: cfg.Timeouts, started: time.Now()}} // the kernel's clock decides about deadlines
}

// data receives a message up to the line with a dot, RFC 5321 4.1.1.4.
func (s *session) data(arg string) {
	tx := s.tx
	switch {
	case arg != "":
		s.send(replySyntax)
		return
	case tx == nil || len(tx.rcpts) == 0:
		s.send(replyMailFirst)
		return
	case tx.chunks != nil:
		s.send(replyInChunks)
		return
	}
	s.send(plain(354, "Go ahead, and end with a line of one dot"))
	s.enlarge()
	a := s.arrive(tx)
	defer a.sp.close()
	var d dots
	var refused error // what is still to come is read, but for nothing, and not for long
	var drain time.Time
	for {
		used, ended, err := d.take(s.buf[s.from:s.to], func(b []byte) error {
			a.n += int64(len(b))
			if refused == nil {
				_, refused = a.in.Write(b)
			}
			return nil
		})
		s.from += used
		if err != nil { // a line without an end: there may be none to wait for
			s.conclude(tx, s.unwanted(err))
			return
		}
		if ended {
			break
		}
		by := a.next()
		if refused != nil && drain.IsZero() {
			drain = time.Now().Add(a.limits.Drain)
		}
		if refused != nil {
			by = drain
		}
		if err := s.fill(by); err != nil {
			s.lost(tx, refused, err)
			return
		}
	}
	s.complete(tx, a, refused)
}

// bdat receives a chunk of a message, RFC 3030 2.
func (s *session) bdat(arg string) {
	size, last, err := parseBdat(arg)
	if err != nil { // what follows is a chunk, and nobody knows how long
		s.send(replySyntax)
		s.closing = true
		return
	}
	s.enlarge()
	tx := s.tx
	var a *arrival
	var refused error
	switch {
	case tx == nil || len(tx.rcpts) == 0:
		tx = nil
	case tx.chunks == nil:
		tx.chunks = s.arrive(tx)
		a = tx.chunks
	default:
		a = tx.chunks
		a.started = time.Now()
		a.n = 0
	}
	if a != nil && a.in.size+size > a.in.maxSize {
		refused = errTooLarge
	}
	drain := time.Now().Add(s.srv.cfg.Timeouts.Drain)
	for left := size; left > 0; {
		n := int(min(left, int64(s.to-s.from)))
		if n > 0 {
			if a != nil && refused == nil {
				_, refused = a.in.Write(s.buf[s.from : s.from+n])
				a.n += int64(n)
			}
			s.from += n
			left -= int64(n)
			continue
		}
		by := drain
		if a != nil && refused == nil {
			by = a.next()
		}
		if err := s.fill(by); err != nil {
			s.lost(tx, refused, err)
			return
		}
	}
	switch {
	case tx == nil:
		s.send(replyMailFirst)
	case refused == nil && !last:
		s.send(reply(250, "2.0.0", "%d octets received", size))
	default:
		s.complete(tx, a, refused)
	}
}

// complete answers a message that has come to its end.
func (s *session) complete(tx *transaction, a *arrival, refused error) {
	if refused == nil {
		refused = a.in.close()
	}
	if refused != nil {
		s.conclude(tx, s.unwanted(refused))
		return
	}
	s.conclude(tx, s.receive(tx, a.in, a.sp))
}

// conclude ends the transaction with its reply.
func (s *session) conclude(tx *transaction, result *smtp.SMTPError) {
	s.srv.counts.note(s.kind, result.Code == 250)
	if result.Code != 250 {
		log := s.log.With("tx", tx.id, "from", tx.from, "recipients", len(tx.rcpts))
		if tx.account != "" {
			log = log.With("account", tx.account)
		}
		level := slog.LevelInfo
		if result == replyFull { // as all are for now
			level = slog.LevelDebug
		}
		log.Log(s.srv.ctx, level, "message refused", "code", result.Code, "reply", result.Message)
	}
	s.reset()
	s.left = s.srv.cfg.CommandBytes // a message earns new commands
	s.send(result)
}

// lost answers, if anybody is there, a message that has broken off; tx may be nil.
// The connection ends: what comes later would be taken for commands.
func (s *session) lost(tx *transaction, refused, err error) {
	s.closing = true
	s.log.Debug("message broken off", "err", err)
	result := replyAborted
	if refused != nil {
		result = s.unwanted(refused)
	}
	if tx != nil {
		s.conclude(tx, result)
	}
}

// unwanted is the reply to a message that is not taken as it is.
func (s *session) unwanted(err error) *smtp.SMTPError {
	switch {
	case errors.Is(err, errTooLarge):
		return replyTooLarge
	case errors.Is(err, errBareCRLF):
		s.closing = true
		return replyBareCRLF
	case errors.Is(err, errHeaderSize):
		return replyHeaderSize
	case errors.Is(err, errTooLong):
		s.closing = true
		return reply(554, "5.6.0", "A line is longer than %d octets", maxLine)
	}
	if errors.Is(err, store.ErrFull) {
		s.srv.outage.Look(err)
		return storeReply(err, s.kind)
	}
	s.log.Error("receive", "err", err)
	s.closing = true
	return replyLocal
}

// receive checks and signs a message, and delivers it. What it returns is the
// reply; 250 is one.
func (s *session) receive(tx *transaction, in *intake, sp *spool) *smtp.SMTPError {
	fields := parseHeader(in.header)
	added, e := s.check(tx, fields)
	if e != nil {
		return e
	}
	trace := s.received(tx)
	junk := false
	if tx.check != nil {
		v, e := s.filter(tx, sp, in.header, fields)
		if e != nil {
			return e
		}
		trace, junk = slices.Concat(v.Header, trace), v.Junk
	}
	// What only we may say is removed, RFC 8601 5; all that is behind stays as it came.
	header := mailauth.StripForged(in.header, tx.settings.Hostname, filter.FactsField)
	message := func() io.Reader {
		if len(header) == len(in.header) {
			return sp.reader()
		}
		return io.MultiReader(bytes.NewReader(header), sp.from(int64(len(in.header))))
	}
	if s.kind == Submission && tx.settings.Signer != nil {
		from, _ := fromAddresses(fields)
		_, domain, _ := route.Split(from[0])
		signature, err := tx.settings.Signer.Sign(domain, io.MultiReader(bytes.NewReader(added), message()))
		if err != nil {
			s.log.Error("sign", "tx", tx.id, "domain", domain, "err", err)
			return replyLocal
		}
		trace = slices.Concat(signature, trace)
	}
	trace = append(trace, added...)

	if s.kind == Submission {
		if ok, wait := s.srv.cfg.Sent.Take(tx.account, tx.settings.MessagesPerHour); !ok {
			return s.tooMany(tx.account, tx.settings.MessagesPerHour, wait)
		}
	}
	d := s.delivery(tx, trace)
	d.Body, d.Size = message(), sp.size-int64(len(in.header)-len(header))
	if junk {
		for i := range d.Targets {
			d.Targets[i].Mailbox = s.junkMailbox(d.Targets[i].Account)
		}
	}
	if _, err := s.srv.cfg.Store.Deliver(s.srv.ctx, d); err != nil {
		if !errors.Is(err, store.ErrFull) { // of which the store says more
			s.log.Error("deliver", "tx", tx.id, "err", err)
		}
		return storeReply(err, s.kind)
	}
	if sp.file != nil {
		s.srv.outage.Look(nil)
	}
	if len(d.Queue) > 0 {
		s.srv.cfg.Queued()
	}
	s.log.Info("message accepted", "tx", tx.id, "from", tx.from, "recipients", len(tx.rcpts), "size", d.Size,
		"mailboxes", len(d.Targets), "queued", len(d.Queue), "tls", s.tls != nil, "account", tx.account)
	return reply(250, "2.0.0", "OK: queued as %s", tx.id)
}

// check refuses messages that loop or are not from who sends them, and returns
// the header fields that are missing: RFC 6409 8.
func (s *session) check(tx *transaction, fields []field) (added []byte, e *smtp.SMTPError) {
	if len(get(fields, "received")) > s.srv.cfg.MaxHops {
		return nil, replyLoop
	}
	// A message that comes back to an address it was forwarded from would be
	// forwarded for ever. For a mailbox it does no harm.
	delivered := map[string]bool{}
	for _, v := range get(fields, "delivered-to") {
		delivered[strings.ToLower(v)] = true
	}
	for _, r := range tx.rcpts {
		if r.local && len(r.to.Forwards) > 0 && delivered[strings.ToLower(r.address)] {
			return nil, replyLoop
		}
	}
	if s.kind != Submission {
		return nil, nil
	}
	from, ok := fromAddresses(fields)
	if !ok {
		return nil, replyNoFrom
	}
	for _, address := range from {
		if !tx.settings.Routes.Owns(tx.account, address) {
			return nil, reply(550, "5.7.1", "The From field has <%s>, which is not an address of yours", printable(address))
		}
	}
	if len(get(fields, "date")) == 0 {
		added = fmt.Appendf(added, "Date: %s\r\n", s.srv.cfg.Now().Format(time.RFC1123Z))
	}
	if len(get(fields, "message-id")) == 0 {
		added = fmt.Appendf(added, "Message-ID: <%s@%s>\r\n", tx.id, tx.settings.Hostname)
	}
	return added, nil
}

// printable makes text from a message fit for a reply line.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, text)
}

// received is our trace line, RFC 5321 4.4. For our own users it does not tell
// where they are.
func (s *session) received(tx *transaction) []byte {
	var b []byte
	b = append(b, "Received:"...)
	if s.kind == MX {
		literal := s.remote.String()
		if s.remote.Is6() {
			literal = "IPv6:" + literal
		}
		b = fmt.Appendf(b, " from %s ([%s])\r\n\t", s.heloName(), literal)
	} else {
		b = append(b, ' ')
	}
	b = fmt.Appendf(b, "by %s with %s id %s", tx.settings.Hostname, s.protocol(tx), tx.id)
	if len(tx.rcpts) == 1 { // of several each would learn of the others
		b = fmt.Appendf(b, "\r\n\tfor <%s>", tx.rcpts[0].address)
	}
	return fmt.Appendf(b, ";\r\n\t%s\r\n", s.srv.cfg.Now().Format(time.RFC1123Z))
}

// delivery makes one delivery of the whole transaction, each account once.
// trace goes ahead of every copy.
func (s *session) delivery(tx *transaction, trace []byte) store.Delivery {
	now := s.srv.cfg.Now()
	var d store.Delivery
	seen := map[string]bool{}
	type group struct{ domain, via string }
	remote := map[group][]string{}
	var order []group
	forward := func(address, via string) {
		_, domain, _ := route.Split(address)
		if seen["> "+address] {
			return
		}
		seen["> "+address] = true
		g := group{domain, via}
		if remote[g] == nil {
			order = append(order, g)
		}
		remote[g] = append(remote[g], address)
	}
	for _, r := range tx.rcpts {
		if !r.local {
			forward(r.address, "")
			continue
		}
		for _, to := range r.to.Deliveries {
			if seen[to.Account] {
				continue
			}
			seen[to.Account] = true
			prefix := fmt.Appendf(nil, "Return-Path: <%s>\r\nDelivered-To: %s\r\n", tx.from, to.Address)
			d.Targets = append(d.Targets, store.Target{
				Account: to.Account, Mailbox: to.Mailbox, Prefix: append(prefix, trace...), InternalDate: now,
			})
		}
		for _, f := range r.to.Forwards {
			forward(f, r.address)
		}
	}
	for _, g := range order {
		prefix := trace
		if g.via != "" {
			prefix = slices.Concat(fmt.Appendf(nil, "Delivered-To: %s\r\n", g.via), trace)
		}
		for chunk := range slices.Chunk(remote[g], maxEntryRecipients) {
			d.Queue = append(d.Queue, store.QueueEntry{
				From: tx.from, Recipients: slices.Clone(chunk), Domain: g.domain, Account: tx.account,
				Prefix: prefix, Queued: now, NextTry: now,
			})
		}
	}
	return d
}
