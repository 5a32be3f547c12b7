package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mailform/server/route"
	"mailform/server/store"
)

// The actions of RFC 3464 2.3.3 that we report.
const (
	actionFailed  = "failed"
	actionDelayed = "delayed"
)

// maxReturned is how much of a message a notice returns; of a longer message
// it returns the header.
const maxReturned = 32 << 10

// notify tells the sender of an entry what became of recipients: RFC 3464. It
// is durable when it returns nil. Notices are about people's mail only: there
// is none about a notice.
func (w *worker) notify(ctx context.Context, e store.QueueEntry, about []undelivered, action string) error {
	log := w.q.cfg.Logger.With("entry", e.ID, "sender", e.From, "action", action)
	if e.From == "" {
		if action == actionFailed {
			log.Warn("queue: a notice is undeliverable and was dropped")
		}
		return nil
	}
	_, domain, err := route.Split(e.From)
	if err != nil {
		log.Warn("queue: the sender has no usable address, no notice was sent")
		return nil
	}
	local := w.st.Routes.Local(domain)
	n := notice{
		hostname: w.st.Hostname, from: w.st.Routes.Postmaster(), now: w.q.cfg.Now(),
		giveUp: e.Queued.Add(w.q.cfg.GiveUpAfter), entry: e, about: about, action: action,
	}
	if local {
		n.from = "postmaster@" + domain
	}
	if n.original, n.whole, err = w.original(ctx, e); err != nil {
		log.Error("queue: the notice goes without the message", "err", err)
	}
	text := n.build()

	d := store.Delivery{Size: int64(len(text))}
	if local {
		to, err := w.st.Routes.Resolve(e.From)
		if err != nil {
			log.Warn("queue: the sender is gone, no notice was sent", "err", err)
			return nil
		}
		w.place(&d, "", "", e.From, to)
	} else {
		entry := store.QueueEntry{Recipients: []string{e.From}, Domain: domain, Queued: n.now, NextTry: n.now}
		if w.st.Signer != nil {
			_, from, _ := route.Split(n.from)
			if entry.Prefix, err = w.st.Signer.Sign(from, bytes.NewReader(text)); err != nil {
				return err
			}
		}
		d.Queue = append(d.Queue, entry)
	}
	d.Body = bytes.NewReader(text)
	_, err = w.q.cfg.Store.Deliver(ctx, d)
	if errors.Is(err, store.ErrQuota) {
		log.Warn("queue: the sender's mailbox is full, no notice was sent")
		return nil
	}
	if err != nil {
		return err
	}
	if len(d.Queue) > 0 {
		w.q.Kick()
	}
	log.Info("queue: sender notified")
	return nil
}

// original reads the message, or its header when it is long.
func (w *worker) original(ctx context.Context, e store.QueueEntry) (text []byte, whole bool, err error) {
	r, err := w.q.cfg.Store.OpenQueued(ctx, e)
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	text, err = io.ReadAll(io.LimitReader(r, maxReturned+1))
	if err != nil {
		return nil, false, err
	}
	if len(text) <= maxReturned {
		return text, true, nil
	}
	if i := bytes.Index(text, []byte("\r\n\r\n")); i >= 0 {
		return text[:i+2], false, nil
	}
	text = text[:maxReturned]
	return text[:bytes.LastIndexByte(text, '\n')+1], false, nil
}

// notice is what a delivery status notification says.
type notice struct {
	hostname string
	from     string // address
	now      time.Time
	giveUp   time.Time
	entry    store.QueueEntry
	about    []undelivered
	action   string
	original []byte
	whole    bool // original is the message, not only its header
}

// build writes the multipart/report, RFC 6522.
func (n *notice) build() []byte {
	boundary := "=_" + n.entry.ID
	for bytes.Contains(n.original, []byte(boundary)) {
		boundary += "_"
	}
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }

	line("From: Mail Delivery System <%s>", n.from)
	line("To: <%s>", n.entry.From)
	if n.action == actionFailed {
		line("Subject: Undelivered mail returned to sender")
	} else {
		line("Subject: Delayed mail (still being retried)")
	}
	line("Date: %s", n.now.Format(time.RFC1123Z))
	line("Message-ID: <%s.%d.%d.%s@%s>", n.entry.ID, n.entry.Queued.Unix(), n.entry.Attempts+1, n.action, n.hostname)
	if id := messageID(n.original); id != "" {
		line("In-Reply-To: %s", id)
		line("References: %s", id)
	}
	line("Auto-Submitted: auto-replied")
	line("MIME-Version: 1.0")
	line("Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=%q", boundary)
	line("")

	line("--%s", boundary)
	line("Content-Type: text/plain; charset=utf-8")
	line("Content-Transfer-Encoding: 8bit")
	line("")
	line("This is the mail server %s.", n.hostname)
	line("")
	if n.action == actionFailed {
		line("Your message could not be delivered to:")
	} else {
		line("Your message has not been delivered yet to:")
	}
	for _, u := range n.about {
		line("")
		line("    %s", u.address)
		line("        %s", oneLine(u.why.Error()))
	}
	line("")
	switch {
	case n.action == actionDelayed:
		line("There is nothing for you to do: delivery will be tried until\r\n%s.", n.giveUp.Format(time.RFC1123Z))
	case !n.about[0].why.permanent:
		line("Delivery was tried for %d hours and is given up now.", int(n.now.Sub(n.entry.Queued).Hours()))
	}
	if len(n.original) > 0 {
		line("")
		line("Your message is below.")
	}
	line("")

	line("--%s", boundary)
	line("Content-Type: message/delivery-status")
	line("")
	line("Reporting-MTA: dns; %s", n.hostname)
	line("Arrival-Date: %s", n.entry.Queued.Format(time.RFC1123Z))
	for _, u := range n.about {
		line("")
		line("Final-Recipient: rfc822; %s", u.address)
		line("Action: %s", n.action)
		line("Status: %s", n.status(u.why))
		if u.why.remote != "" {
			line("Remote-MTA: dns; %s", u.why.remote)
		}
		if u.why.reply != "" {
			line("Diagnostic-Code: smtp; %s", oneLine(u.why.reply))
		}
		line("Last-Attempt-Date: %s", n.now.Format(time.RFC1123Z))
		if n.action == actionDelayed {
			line("Will-Retry-Until: %s", n.giveUp.Format(time.RFC1123Z))
		}
	}
	line("")

	if len(n.original) > 0 {
		line("--%s", boundary)
		if n.whole && n.action == actionFailed {
			line("Content-Type: message/rfc822")
		} else {
			line("Content-Type: text/rfc822-headers")
		}
		line("Content-Transfer-Encoding: 8bit")
		line("")
		b.Write(n.returned())
		line("")
	}
	line("--%s--", boundary)
	return b.Bytes()
}

// returned is the part of the message that the notice carries: a delay notice
// has the header only, the message itself is still on its way.
func (n *notice) returned() []byte {
	if n.action == actionDelayed {
		if i := bytes.Index(n.original, []byte("\r\n\r\n")); i >= 0 {
			return n.original[:i+2]
		}
	}
	return n.original
}

// status is 5.4.7 for what was given up because of its age, RFC 3463 3.5; the
// class agrees with the action.
func (n *notice) status(f *failure) string {
	if n.action == actionFailed && !f.permanent {
		return "5.4.7"
	}
	return f.enhanced
}

// messageID finds the Message-ID of a message, if it is a plain one.
func messageID(text []byte) string {
	header, _, _ := bytes.Cut(text, []byte("\r\n\r\n"))
	for line := range strings.SplitSeq(string(header), "\r\n") {
		if len(line) > 11 && strings.EqualFold(line[:11], "message-id:") {
			id := strings.TrimSpace(line[11:])
			if strings.HasPrefix(id, "<") && strings.HasSuffix(id, ">") && len(id) < 300 && id == oneLine(id) {
				return id
			}
		}
	}
	return ""
}
