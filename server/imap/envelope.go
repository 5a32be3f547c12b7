package imap

import (
	"net/mail"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/mimetree"
)

// envelope is a header as ENVELOPE shows it, RFC 9051 7.5.2. Encoded words stay
// as they are: clients decode them, and imapserver passes ASCII through.
func envelope(h mimetree.Header) *imap.Envelope {
	return &imap.Envelope{
		Date:      parseDate(h.Get("Date")),
		Subject:   h.Get("Subject"),
		From:      addresses(h, "From"),
		Sender:    addresses(h, "Sender"),
		ReplyTo:   addresses(h, "Reply-To"),
		To:        addresses(h, "To"),
		Cc:        addresses(h, "Cc"),
		Bcc:       addresses(h, "Bcc"),
		InReplyTo: messageIDs(h.Get("In-Reply-To")),
		MessageID: strings.Join(messageIDs(h.Get("Message-Id")), " "),
	}
}

func addresses(h mimetree.Header, name string) []imap.Address {
	var l []imap.Address
	for _, v := range h.Values(name) {
		for _, a := range mimetree.ParseAddresses(v) {
			l = append(l, imap.Address{Name: a.Name, Mailbox: quoted8(a.Mailbox), Host: quoted8(a.Host)})
		}
	}
	return l
}

// quoted8 leaves out what imapserver would have to send as a literal within an
// address, which clients do not expect there.
func quoted8(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// messageIDs splits a list of message identifiers and takes their angles off.
func messageIDs(v string) []string {
	var l []string
	for _, f := range strings.Fields(v) {
		for _, id := range strings.Split(f, "><") {
			if id = strings.Trim(id, "<>"); id != "" {
				l = append(l, id)
			}
		}
	}
	return l
}

// dateLayouts are what stands in Date fields besides RFC 5322.
var dateLayouts = []string{
	time.RFC3339, time.ANSIC, time.UnixDate, time.RFC850,
	"Mon, 2 Jan 2006 15:04:05", "2 Jan 2006 15:04:05 -0700", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05",
	"Mon, 2 Jan 2006 15.04.05 -0700", "Mon Jan 2 15:04:05 2006 -0700",
}

// parseDate reads a Date field; the zero time when it cannot.
func parseDate(v string) time.Time {
	if t, err := mail.ParseDate(v); err == nil {
		return t
	}
	if i := strings.IndexByte(v, '('); i > 0 {
		v = strings.TrimSpace(v[:i])
		if t, err := mail.ParseDate(v); err == nil {
			return t
		}
	}
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, v); err == nil {
			return t
		}
	}
	return time.Time{}
}

// bodyStructure is a part as BODYSTRUCTURE shows it, RFC 9051 7.5.2.
func bodyStructure(p *mimetree.Part) imap.BodyStructure {
	if p.Multipart() {
		b := &imap.BodyStructureMultiPart{Subtype: p.Subtype, Extended: &imap.BodyStructureMultiPartExt{
			Params: p.Params, Disposition: disposition(p), Language: languages(p), Location: p.Fields.Get("Content-Location")}}
		for _, c := range p.Children {
			b.Children = append(b.Children, bodyStructure(c))
		}
		return b
	}
	b := &imap.BodyStructureSinglePart{
		Type: p.Type, Subtype: p.Subtype, Params: p.Params,
		ID: p.Fields.Get("Content-Id"), Description: p.Fields.Get("Content-Description"),
		Encoding: p.Encoding(), Size: uint32(min(p.Body.Len(), 1<<32-1)),
		Extended: &imap.BodyStructureSinglePartExt{
			Disposition: disposition(p), Language: languages(p), Location: p.Fields.Get("Content-Location")},
	}
	if p.Type == "text" {
		b.Text = &imap.BodyStructureText{NumLines: p.Lines}
		if len(b.Params) == 0 {
			b.Params = map[string]string{"charset": "us-ascii"} // RFC 2045 5.2
		}
	}
	if p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global") {
		inner := p.Message
		if inner == nil {
			// Encoded, or nested too deep: its type wants a structure all the same.
			inner = &mimetree.Part{Type: "text", Subtype: "plain"}
		}
		b.MessageRFC822 = &imap.BodyStructureMessageRFC822{
			Envelope: envelope(inner.Fields), BodyStructure: bodyStructure(inner), NumLines: p.Lines}
	}
	return b
}

func disposition(p *mimetree.Part) *imap.BodyStructureDisposition {
	value, params := mimetree.ParseValue(p.Fields.Get("Content-Disposition"))
	if value == "" {
		return nil
	}
	return &imap.BodyStructureDisposition{Value: value, Params: params}
}

func languages(p *mimetree.Part) []string {
	return strings.FieldsFunc(p.Fields.Get("Content-Language"), func(r rune) bool { return r == ',' || r == ' ' })
}
