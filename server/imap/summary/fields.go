package summary

import (
	"bytes"
	"encoding/binary"
	"strings"

	"mailform/server/imap/mimetree"
)

// kept are the header fields that are kept: those that mail programs name in
// BODY[HEADER.FIELDS (...)]. A place in the list is the field's number in the
// files: new ones go to the end, with a new Version. One that a message does not
// have costs nothing.
var kept = [...]string{
	"from", "to", "cc", "bcc", "subject", "date", "reply-to", "sender", "message-id", "in-reply-to", "references", "content-type",
	"mime-version", "content-transfer-encoding", "content-disposition", "content-description", "content-language", "content-class", "content-id", "content-location",
	"x-priority", "priority", "importance", "x-msmail-priority", "precedence", "sensitivity", "auto-submitted",
	"list-id", "list-post", "list-help", "list-owner", "list-archive", "list-subscribe", "list-unsubscribe", "list-unsubscribe-post", "mailing-list",
	"disposition-notification-to", "return-receipt-to", "return-path", "delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "mail-followup-to", "mail-reply-to",
	"newsgroups", "followup-to", "organization", "user-agent", "x-mailer", "x-newsreader", "lines", "status", "x-status", "x-label", "keywords", "comments",
	"resent-from", "resent-to", "resent-cc", "resent-date", "resent-sender", "resent-message-id",
	"x-spam-status", "x-spam-flag", "x-spam-score", "x-spam-level", "x-spam", "x-bogosity", "thread-topic", "thread-index",
	"x-mozilla-status", "x-mozilla-status2", "x-mozilla-keys", "x-identity-key", "x-account-key", "x-mozilla-draft-info",
	"x-uniform-type-identifier", "x-universally-unique-identifier", "x-apple-mail-remote-attachments", "x-calendar-attachment", "x-evolution-source",
	"x-k9mail-identity", "autocrypt", "autocrypt-draft-state", "chat-version", "is-chat", "x-forward", "x-google-original-from", "x-ms-has-attach", "x-ms-tnef-correlator",
	"x-microsoft-original-message-id", "archived-at", "supersedes", "expires", "face", "x-face", "x-image-url", "original-recipient", "errors-to",
}

var numbers = func() map[string]byte {
	m := make(map[string]byte, len(kept))
	for i, name := range kept {
		m[name] = byte(i)
	}
	return m
}()

// FieldSet says which of the kept fields are asked for.
type FieldSet [(len(kept) + 63) / 64]uint64

func (s *FieldSet) has(n byte) bool { return s[n/64]>>(n%64)&1 != 0 }

// FieldsOf returns the set of some names; ok is false when one of them is not kept.
func FieldsOf(names []string) (s FieldSet, ok bool) {
	for _, name := range names {
		n, known := numbers[strings.ToLower(name)]
		if !known {
			return s, false
		}
		s[n/64] |= 1 << (n % 64)
	}
	return s, true
}

// appendFields appends the kept fields of a header: of each its number, its
// length and its octets. nil: they cannot be kept.
func appendFields(b []byte, h mimetree.Header) []byte {
	b = append(b, isKept)
	for _, f := range h {
		n, known := numbers[strings.ToLower(f.Name)]
		if !known {
			continue
		}
		if bytes.IndexByte(f.Raw, 0) >= 0 {
			return nil
		}
		b = append(b, n)
		size, open := len(f.Raw), !bytes.HasSuffix(f.Raw, []byte("\n"))
		if open {
			size += 2
		}
		b = binary.AppendUvarint(b, uint64(size))
		b = append(b, f.Raw...)
		if open {
			b = append(b, "\r\n"...)
		}
	}
	return b
}

// pick appends those fields of a value that are asked for, as they stand in the
// message, and the empty line. ok is false when the value makes no sense.
func pick(dst, v []byte, want *FieldSet) (_ []byte, ok bool) {
	for len(v) > 0 {
		if len(v) == 1 {
			return dst, false
		}
		n, size, k := v[0], uint64(v[1]), 1
		if size >= 0x80 { // most are shorter
			size, k = binary.Uvarint(v[1:])
		}
		if k <= 0 || int(n) >= len(kept) || size > uint64(len(v)-1-k) {
			return dst, false
		}
		v = v[1+k:]
		if want.has(n) {
			dst = append(dst, v[:size]...)
		}
		v = v[size:]
	}
	return append(dst, "\r\n"...), true
}
