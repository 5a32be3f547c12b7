package transfer

import (
	"encoding/csv"
	"mime"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailform/server/imap/wire"
)

// isMark says whether a field, in lower case, is no part of a message, but
// where the program that keeps the file notes what it knows of it.
func isMark(name string) bool {
	switch name {
	case "status", "x-status", "x-keywords", "x-uid", "x-imap", "x-imapbase", "content-length",
		"x-mozilla-status", "x-mozilla-status2", "x-mozilla-keys", "x-gmail-labels", exported:
		return true
	}
	return false
}

// marks takes over what those fields say.
func (m *mboxMessage) marks(fields map[string]string) {
	_, m.internal = fields["x-imap"] // "DON'T DELETE THIS MESSAGE" of UW and Alpine
	m.flags = append(m.flags, strings.Fields(fields["x-keywords"])...)
	for _, c := range fields["status"] + fields["x-status"] {
		switch c {
		case 'R':
			m.flags = append(m.flags, `\Seen`)
		case 'A':
			m.flags = append(m.flags, `\Answered`)
		case 'F':
			m.flags = append(m.flags, `\Flagged`)
		case 'T':
			m.flags = append(m.flags, `\Draft`)
		case 'D':
			m.flags = append(m.flags, `\Deleted`)
		}
	}
	m.mozilla(fields)
	if text, ok := fields["x-gmail-labels"]; ok {
		m.labels = parseGmailLabels(text)
		m.flags = append(m.flags, m.labels.flags...)
	}
	for _, part := range strings.Fields(fields[exported]) {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "octets":
			m.octets, _ = strconv.ParseInt(value, 10, 64)
		case "date":
			if t, err := time.Parse(time.RFC3339Nano, value); err == nil {
				m.date = t
			}
		}
	}
	m.flags = sortedFlags(m.flags)
}

// mozilla takes over Thunderbird's flags: nsMsgMessageFlags.idl has the bits.
func (m *mboxMessage) mozilla(fields map[string]string) {
	hex := func(name string) uint64 {
		n, err := strconv.ParseUint(strings.TrimSpace(fields[name]), 16, 32)
		if err != nil {
			return 0
		}
		return n
	}
	status, status2 := hex("x-mozilla-status"), hex("x-mozilla-status2")
	m.deleted = status&0x8 != 0 // "expunged", and still in the file
	for _, f := range []struct {
		bits, bit uint64
		flag      string
	}{
		{status, 0x1, `\Seen`}, {status, 0x2, `\Answered`}, {status, 0x4, `\Flagged`}, {status, 0x1000, "$Forwarded"},
		{status2, 0x200000, `\Deleted`}, {status2, 0x800000, "$MDNSent"},
	} {
		if f.bits&f.bit != 0 {
			m.flags = append(m.flags, f.flag)
		}
	}
	if label := status2 >> 25 & 7; label >= 1 && label <= 5 { // before there were tags
		m.flags = append(m.flags, "$label"+strconv.FormatUint(label, 10))
	}
	m.flags = append(m.flags, strings.Fields(fields["x-mozilla-keys"])...)
}

// gmailLabels is what the labels of a message in an export of Gmail mean here.
type gmailLabels struct {
	folder string // "" is the file's own
	flags  []string
}

// gmailSystem are the labels that Gmail gives itself, in lower case, as its
// exports spell them in English, German and Chinese. What it says of read
// messages needs none: those are not "unread".
var gmailSystem = map[string]string{
	"inbox": "INBOX", "posteingang": "INBOX", "收件箱": "INBOX", "收件匣": "INBOX",
	"sent": "Sent", "gesendet": "Sent", "已发邮件": "Sent", "已发送": "Sent", "寄件備份": "Sent",
	"draft": "Drafts", "drafts": "Drafts", "entwürfe": "Drafts", "草稿": "Drafts",
	"spam": "Junk", "垃圾邮件": "Junk", "垃圾郵件": "Junk",
	"trash": "Trash", "papierkorb": "Trash", "已删除邮件": "Trash", "垃圾箱": "Trash", "垃圾桶": "Trash",
	"unread": "unread", "ungelesen": "unread", "未读": "unread", "未讀": "unread",
	"starred": `\Flagged`, "markiert": `\Flagged`, "已加星标": `\Flagged`, "已加星號": `\Flagged`,
	"important": "$Important", "wichtig": "$Important", "重要": "$Important", "重要邮件": "$Important",
	"opened": "-", "geöffnet": "-", "已打开": "-", "已開啟": "-",
	"archived": "-", "archiviert": "-", "已归档": "-", "已封存": "-",
}

// parseGmailLabels decides where a message goes. It is in the export once, with
// all of its labels, and has one place here: Trash, Junk or Drafts if it is there,
// else the INBOX, else the folder of its first label of its owner's, else Sent, else
// Archive. The owner's other labels become keywords. Tabs of the inbox ("Category
// Promotions") are no labels that anybody gave.
func parseGmailLabels(text string) *gmailLabels {
	if decoded, err := new(mime.WordDecoder).DecodeHeader(strings.TrimSpace(text)); err == nil {
		text = decoded
	}
	r := csv.NewReader(strings.NewReader(text)) // a label with a comma stands in quotes
	r.LazyQuotes, r.TrimLeadingSpace = true, true
	list, err := r.Read()
	if err != nil {
		list = strings.Split(text, ",")
	}
	l := &gmailLabels{}
	var own []string
	places := map[string]bool{}
	unread := false
	for _, label := range list {
		label = strings.TrimSpace(label)
		lower := strings.ToLower(label)
		switch to := gmailSystem[lower]; {
		case label == "" || to == "-" || strings.HasPrefix(lower, "category ") || strings.HasPrefix(lower, "kategorie: "):
		case to == "unread":
			unread = true
		case strings.HasPrefix(to, `\`) || strings.HasPrefix(to, "$"):
			l.flags = append(l.flags, to)
		case to != "":
			places[to] = true
		default:
			own = append(own, label)
		}
	}
	if !unread {
		l.flags = append(l.flags, `\Seen`)
	}
	if places["Drafts"] {
		l.flags = append(l.flags, `\Draft`)
	}
	for _, place := range []string{"Trash", "Junk", "Drafts", "INBOX"} {
		if l.folder == "" && places[place] {
			l.folder = place
		}
	}
	if l.folder == "" && len(own) > 0 {
		l.folder, own = own[0], own[1:]
	}
	if l.folder == "" && places["Sent"] {
		l.folder = "Sent"
	}
	if l.folder == "" {
		l.folder = "Archive"
	}
	for _, label := range own {
		l.flags = append(l.flags, keywordOf(label))
	}
	l.flags = slices.DeleteFunc(l.flags, func(f string) bool { return f == "" })
	return l
}

// keywordOf spells a label as a keyword, as Thunderbird does with its tags: an
// atom in modified UTF-7.
func keywordOf(label string) string {
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(`(){%*"\]`, c) {
			return '_'
		}
		return c
	}, wire.EncodeName(label))
}
