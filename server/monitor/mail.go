package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"mailform/server/route"
	"mailform/server/store"
)

// Store is what of store.Store this package uses.
type Store interface {
	Deliver(ctx context.Context, d store.Delivery) ([]store.Message, error)
}

// Signer makes the DKIM-Signature lines for a message; mailauth.Keys is one.
type Signer interface {
	Sign(domain string, message io.Reader) ([]byte, error)
}

// tell writes to everybody that is to be written to. It fails when none of them
// could be. Where nobody is, the log has been told.
func (m *Monitor) tell(ctx context.Context, s *Settings, n news, now time.Time) error {
	m.cfg.Logger.Warn("monitor", "condition", n.Key, "state", [...]string{"begins", "goes on", "is over"}[n.kind], "title", n.Title, "found", n.Found)
	if s.Monitor == nil || len(s.Monitor.Alerts) == 0 {
		return nil
	}
	var errs []error
	for _, to := range s.Monitor.Alerts {
		if err := m.send(ctx, s, to, n, now); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", to, err))
		}
	}
	if len(errs) == len(s.Monitor.Alerts) {
		return errors.Join(errs...)
	}
	for _, err := range errs {
		m.cfg.Logger.Error("monitor: an alert could not be sent", "err", err)
	}
	return nil
}

// send makes one mail durable. It comes from the postmaster of the first domain
// served here, in the envelope and in its From field: that domain's SPF record
// names this host and its key signs, so DMARC passes; a bounce comes to a person.
func (m *Monitor) send(ctx context.Context, s *Settings, to string, n news, now time.Time) error {
	from := s.Routes.Postmaster()
	text := n.message(s.Hostname, from, to, now)
	d := store.Delivery{Body: bytes.NewReader(text), Size: int64(len(text))}
	queue := func(address, prefix string) error {
		_, domain, err := route.Split(address)
		if err != nil {
			return err
		}
		entry := store.QueueEntry{From: from, Recipients: []string{address}, Domain: domain, Prefix: []byte(prefix), Queued: now, NextTry: now}
		if s.Signer != nil {
			_, ours, _ := route.Split(from)
			signature, err := s.Signer.Sign(ours, bytes.NewReader(text))
			if err != nil {
				return err
			}
			entry.Prefix = append(signature, prefix...)
		}
		d.Queue = append(d.Queue, entry)
		return nil
	}
	result, err := s.Routes.Resolve(to)
	switch {
	case errors.Is(err, route.ErrNotLocal):
		if err := queue(to, ""); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	for _, x := range result.Deliveries {
		d.Targets = append(d.Targets, store.Target{Account: x.Account, Mailbox: x.Mailbox, InternalDate: now,
			Prefix: fmt.Appendf(nil, "Return-Path: <%s>\r\nDelivered-To: %s\r\n", from, x.Address)})
	}
	for _, f := range result.Forwards {
		if err := queue(f, "Delivered-To: "+to+"\r\n"); err != nil {
			return err
		}
	}
	if _, err := m.cfg.Store.Deliver(ctx, d); err != nil {
		return err
	}
	if len(d.Queue) > 0 {
		m.cfg.Queued()
	}
	return nil
}

// message is the mail about a condition.
func (n news) message(hostname, from, to string, now time.Time) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	kind := [...]string{"begins", "reminder", "over"}[n.kind]
	line("From: mailform on %s <%s>", hostname, from)
	line("To: <%s>", to)
	line("Subject: [%s] %s%s", hostname, [...]string{"", "still: ", "over: "}[n.kind], n.Title)
	line("Date: %s", now.Format(time.RFC1123Z))
	line("Message-ID: <monitor.%s.%d.%s@%s>", strings.ReplaceAll(n.Key, "/", "."), now.Unix(), kind, hostname)
	line("Auto-Submitted: auto-generated") // RFC 3834 5
	line("MIME-Version: 1.0")
	line("Content-Type: text/plain; charset=utf-8")
	line("Content-Transfer-Encoding: 8bit")
	line("")
	paragraph := func(text string) {
		for l := range strings.SplitSeq(text, "\n") {
			line("%s", wrapped(l))
		}
		line("")
	}
	paragraph(fmt.Sprintf("This is the mail server %s.", hostname))
	since := n.since.UTC().Format(time.RFC1123)
	if n.kind == ends {
		paragraph(fmt.Sprintf("It is over: %s. This was so since %s and was not seen for the last %s.", n.Title, since, long(settleTime)))
		return b.Bytes()
	}
	paragraph("What was found: " + n.Found)
	paragraph("What it means: " + n.Means)
	paragraph("What to do: " + n.Do)
	if n.kind == goesOn {
		paragraph(fmt.Sprintf("This is so since %s. The next reminder comes tomorrow.", since))
	} else {
		paragraph("There will be one more mail when it is over, and a reminder each day until then.")
	}
	return b.Bytes()
}

// width is where lines of a mail are broken.
const width = 76

// wrapped breaks a line between words, and makes it fit for a mail whatever is
// in it: what other programs say has no place in its structure.
func wrapped(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	const longest = 900 // octets of a line, RFC 5321 4.5.3.1.6
	indent := ""
	if strings.HasPrefix(text, "  ") {
		indent = "  "
	}
	var b strings.Builder
	n := 0
	for _, word := range strings.Fields(text) {
		if len(word) > longest {
			word = strings.ToValidUTF8(word[:longest], "") + "…"
		}
		switch {
		case n == 0:
			b.WriteString(indent)
			n = len(indent)
		case n+1+len(word) > width:
			b.WriteString("\r\n" + indent)
			n = len(indent)
		default:
			b.WriteString(" ")
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	return b.String()
}
