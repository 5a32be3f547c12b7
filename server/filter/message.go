package filter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"time"

	"mailform/server/mailauth"
	"mailform/server/manifest"
)

// FactsField is the header field in which a message carries its facts. One that
// comes from outside is to be removed.
const FactsField = "X-Mailform-Facts"

// Check is one message on its way in.
type Check struct {
	c      *Client
	policy *manifest.Filter
	from   string
	spf    chan struct{} // closed when sender is known
	sender mailauth.SPF
}

// Begin is called with a message's sender. It starts the look-ups that do not
// need the message; ctx ends them.
func (c *Client) Begin(ctx context.Context, policy *manifest.Filter, from string) *Check {
	m := &Check{c: c, policy: policy, from: from, spf: make(chan struct{})}
	c.lookup.Do(func() { go c.look(ctx, slices.Clone(policyOf(policy).DNSBL)) })
	go func() {
		defer close(m.spf)
		ctx, cancel := context.WithTimeout(ctx, c.f.cfg.Budget)
		defer cancel()
		m.sender = mailauth.CheckSPF(ctx, c.f.cfg.Resolver, mailauth.Sender{Addr: c.addr, Helo: c.helo, From: from})
	}()
	return m
}

// clientFacts waits for what is found out about client and sender.
func (m *Check) clientFacts() Facts {
	<-m.c.done
	<-m.spf
	facts := slices.Clone(m.c.facts)
	switch m.sender.Result {
	case mailauth.Fail:
		facts = append(facts, Fact{"spf-fail", scoreSPFFail})
	case mailauth.SoftFail:
		facts = append(facts, Fact{"spf-softfail", scoreSPFSoft})
	case mailauth.Pass:
		facts = append(facts, Fact{"spf-pass", scoreSPFPass})
	}
	return facts
}

// Recipient decides about one recipient before the message comes. Nil takes it.
// Postmaster and abuse can always be written to: who is refused must be able to
// ask why, RFC 5321 4.5.1.
func (m *Check) Recipient(to string) (*Refusal, Facts) {
	p := policyOf(m.policy)
	if m.c.local || len(p.DNSBL) == 0 && !p.Greylist {
		return nil, nil
	}
	local, _, _ := strings.Cut(strings.ToLower(to), "@")
	if local == "postmaster" || local == "abuse" {
		return nil, nil
	}
	facts := m.clientFacts()
	for _, zone := range m.c.listed {
		if slices.Contains(p.DNSBL, zone) { // a reload may have taken it out
			m.c.f.counts.refused.Add(1)
			return &Refusal{550, "5.7.1", fmt.Sprintf("%s is listed by %s; write to postmaster if you think it should not be", m.c.addr, zone)}, facts
		}
	}
	if !p.Greylist || facts.Score() < suspicious {
		return nil, nil
	}
	if wait := m.c.f.grey.check(m.c.addr, m.from, to, m.c.f.cfg.Now()); wait > 0 {
		m.c.f.counts.deferred.Add(1)
		return &Refusal{451, "4.7.1", fmt.Sprintf("Greylisted: try again in %d min", (wait+time.Minute-1)/time.Minute)}, append(facts, Fact{"greylisted", 0})
	}
	return nil, nil
}

// Message is what a verdict is about.
type Message struct {
	Hostname string   // ours, for Authentication-Results
	Authors  []string // addresses in the From field; nil when it has no single meaning
	FromSeen int      // how many From fields there are
	Body     Body     // the whole message, header and body, with CRLF line ends
}

// Body is a message that can be read more than once.
type Body interface {
	io.Reader
	io.ReaderAt
}

// Verdict is what is to become of a message.
type Verdict struct {
	Refuse *Refusal // nil takes it
	Junk   bool     // into the mailbox for junk
	Facts  Facts
	Header []byte // to put ahead of the message: whole lines
}

// Message decides about a message that has arrived. An error is the message's:
// it could not be read.
func (m *Check) Message(ctx context.Context, msg Message) (Verdict, error) {
	p := policyOf(m.policy)
	ctx, cancel := context.WithTimeout(ctx, m.c.f.cfg.Budget)
	defer cancel()
	type found struct {
		name string
		err  error
	}
	attachment := make(chan found, 1)
	if len(p.Attachments) > 0 {
		go func() {
			name, err := findAttachment(msg.Body, p.Attachments)
			attachment <- found{name, err}
		}()
	} else {
		attachment <- found{}
	}
	authors := msg.Authors
	if msg.FromSeen != 1 {
		authors = nil
	}
	results, err := mailauth.Verify(ctx, m.c.f.cfg.Resolver, authors, section(msg.Body), func() mailauth.SPF {
		<-m.spf
		return m.sender
	})
	bad := <-attachment
	tooComplex := errors.Is(bad.err, errComplex)
	if tooComplex {
		bad.err = nil
	}
	if err != nil || bad.err != nil {
		return Verdict{}, fmt.Errorf("filter: %w", cmp.Or(err, bad.err))
	}
	v := Verdict{Facts: m.clientFacts()}
	for _, d := range results.DKIM {
		v.Facts = append(v.Facts, Fact{Name: "dkim-" + string(d.Result) + ":" + d.Domain})
	}
	m.obey(&v, results.DMARC, msg)
	if bad.name != "" {
		v.Facts = append(v.Facts, Fact{"attachment:" + extension(bad.name), 10})
		if v.Refuse == nil {
			v.Refuse = &Refusal{550, "5.7.1", fmt.Sprintf("Attachments of type .%s are not taken here (%s)", extension(bad.name), printable(bad.name))}
		}
	}
	if tooComplex {
		v.Facts = append(v.Facts, Fact{"too-complex", 10})
		if v.Refuse == nil {
			v.Refuse = &Refusal{550, "5.7.1", "The message has too many parts to be searched for attachments that are not taken here"}
		}
	}
	v.Header = results.Header(msg.Hostname, m.c.rev)
	if m.policy != nil {
		v.Header = append(v.Header, factsLine(v.Facts)...)
	}
	if v.Refuse != nil {
		m.c.f.counts.refused.Add(1)
	} else if v.Junk {
		m.c.f.counts.junk.Add(1)
	}
	return v, nil
}

// section reads a body from its beginning, whatever else reads it.
func section(b Body) io.Reader { return io.NewSectionReader(b, 0, 1<<62) }

// obey does what the author's domain wants done with mail that is not its own.
func (m *Check) obey(v *Verdict, d mailauth.DMARC, msg Message) {
	name := "dmarc-" + string(d.Result)
	if d.Result == mailauth.Fail {
		name += ":" + d.Policy
	}
	fact := Fact{Name: name}
	disposition := d.Disposition(sample(d.Domain, m.from, m.c.addr.String()))
	if !policyOf(m.policy).DMARC {
		disposition = "none"
	} else if d.Result == mailauth.PermError {
		// Whose mail it is cannot be said, and two programs may show two
		// different authors: RFC 7489 6.6.1.
		disposition = "quarantine"
		if msg.FromSeen > 1 {
			disposition = "reject"
		}
	}
	switch disposition {
	case "reject":
		fact.Score = 10
		v.Refuse = &Refusal{550, "5.7.1", fmt.Sprintf("Refused by the DMARC policy of %s: neither SPF nor DKIM shows that it sent this message", printable(d.Domain))}
		if d.Result == mailauth.PermError {
			v.Refuse.Text = "The message has more than one From field"
		}
	case "quarantine":
		fact.Score = 5
		v.Junk = true
	}
	v.Facts = append(v.Facts, fact)
}

// sample picks the part of the mail that a policy is for. The same mail gets the
// same answer when it is tried again.
func sample(parts ...string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(strings.Join(parts, "\x00")))
	return int(h.Sum32() % 100)
}

// factsLine is the header field with the facts, folded.
func factsLine(facts Facts) []byte {
	b := fmt.Appendf(nil, "%s: score=%g", FactsField, facts.Score())
	for _, word := range facts.Strings() {
		b = fmt.Appendf(b, ";\r\n\t%s", printable(word))
	}
	return append(b, "\r\n"...)
}

// printable makes text from outside fit for a reply or a header line.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 120)]
}
