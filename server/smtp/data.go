package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
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

// receive takes the message off the wire, checks and signs it, and delivers it.
// What it returns is the reply; 250 is one.
func (s *session) receive(tx *transaction, r io.Reader) *smtp.SMTPError {
	if len(tx.rcpts) == 0 {
		return reply(554, "5.5.1", "No valid recipients")
	}
	sp := &spool{dir: s.srv.cfg.SpoolDir, memory: s.srv.cfg.SpoolMemory}
	defer sp.close()
	in := &intake{w: sp, normalise: s.kind == Submission, maxHeader: s.srv.cfg.MaxHeaderBytes}
	if e := s.read(in, r); e != nil {
		return e
	}
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
		s.log.Error("deliver", "tx", tx.id, "err", err)
		return storeReply(err, s.kind)
	}
	if len(d.Queue) > 0 {
		s.srv.cfg.Queued()
	}
	s.log.Info("message accepted", "tx", tx.id, "from", tx.from, "recipients", len(tx.rcpts), "size", d.Size,
		"mailboxes", len(d.Targets), "queued", len(d.Queue), "tls", s.tls != nil, "account", tx.account)
	return reply(250, "2.0.0", "OK: queued as %s", tx.id)
}

// read copies the message to in and decides what a failure means for the connection.
func (s *session) read(in *intake, r io.Reader) *smtp.SMTPError {
	limits := s.srv.cfg.Timeouts
	outer := s.outer()
	_, err := io.CopyBuffer(struct{ io.Writer }{in}, &paced{r: r, conn: outer, limits: limits, started: time.Now()}, make([]byte, 16<<10))
	if _, chunked := r.(*io.PipeReader); chunked && err == nil && s.tls != nil {
		ended, lost := s.conn.tlsEnded(s.tls)
		if ended {
			err = errHangUp
		} else if lost {
			s.giveUp()
		}
	}
	if err == nil {
		err = in.close()
	}
	if err == nil {
		return nil
	}
	// Whatever is left of the message must come soon: go-smtp reads on to its end.
	_ = outer.SetReadDeadline(time.Now().Add(limits.Drain))
	var e *smtp.SMTPError
	switch {
	case errors.As(err, &e): // too large
		return reply(552, "5.3.4", "Message is too large")
	case errors.Is(err, errBareCRLF):
		s.giveUp()
		return replyBareCRLF
	case errors.Is(err, errHeaderSize):
		return replyHeaderSize
	case errors.Is(err, smtp.ErrTooLongLine):
		s.giveUp()
		return reply(554, "5.6.0", "A line is longer than %d octets", maxLine)
	case errors.Is(err, smtp.ErrDataReset), errors.Is(err, net.ErrClosed), isTimeout(err), errors.Is(err, io.ErrUnexpectedEOF):
		s.giveUp()
		return replyAborted
	}
	s.log.Error("receive", "err", err)
	s.giveUp()
	return replyLocal
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// outer is the connection go-smtp reads from.
func (s *session) outer() net.Conn {
	if s.tls != nil {
		return s.tls
	}
	return s.conn
}

func (s *session) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish()
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
