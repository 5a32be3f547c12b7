package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// mobileconfig is Apple's configuration profile for one address: iPhones and
// Macs that open it set up the account. The same address always has the same
// identifiers, so that a profile replaces itself. Apple, "Mail" payload:
// https://developer.apple.com/documentation/devicemanagement/mail
func (s servers) mobileconfig(address string) ([]byte, int) {
	if !s.owns(address) {
		return nil, http.StatusBadRequest
	}
	address = strings.ToLower(address)
	id := "mailform." + s.domain + "." + uuid(s.hostname, address)
	account := dict{
		{"EmailAccountDescription", address},
		{"EmailAccountType", "EmailTypeIMAP"},
		{"EmailAddress", address},
		{"IncomingMailServerAuthentication", "EmailAuthPassword"},
		{"IncomingMailServerHostName", s.hostname},
		{"IncomingMailServerPortNumber", imapsPort},
		{"IncomingMailServerUseSSL", true},
		{"IncomingMailServerUsername", address},
		{"OutgoingMailServerAuthentication", "EmailAuthPassword"},
		{"OutgoingMailServerHostName", s.hostname},
		{"OutgoingMailServerPortNumber", submissionsPort},
		{"OutgoingMailServerUseSSL", true},
		{"OutgoingMailServerUsername", address},
		{"OutgoingPasswordSameAsIncomingPassword", true},
		{"PayloadDescription", "Mail account " + address},
		{"PayloadDisplayName", address},
		{"PayloadIdentifier", id + ".account"},
		{"PayloadType", "com.apple.mail.managed"},
		{"PayloadUUID", uuid(s.hostname, address, "account")},
		{"PayloadVersion", 1},
	}
	return plist(dict{
		{"PayloadContent", []dict{account}},
		{"PayloadDescription", "Sets up the mail account " + address},
		{"PayloadDisplayName", "Mail: " + address},
		{"PayloadIdentifier", id},
		{"PayloadOrganization", s.domain},
		{"PayloadType", "Configuration"},
		{"PayloadUUID", uuid(s.hostname, address)},
		{"PayloadVersion", 1},
	}), http.StatusOK
}

// dict is a property list's dictionary in order. Values are string, int, bool,
// and []dict.
type dict []entry

type entry struct {
	key   string
	value any
}

// plist writes an XML property list. Writing to memory does not fail, and the
// tokens are ours.
func plist(d dict) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	b.WriteString(`<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n")
	b.WriteString(`<plist version="1.0">` + "\n")
	writeDict(&b, d)
	b.WriteString("</plist>\n")
	return b.Bytes()
}

func writeDict(b *bytes.Buffer, d dict) {
	element := func(name, text string) {
		b.WriteString("<" + name + ">")
		_ = xml.EscapeText(b, []byte(text))
		b.WriteString("</" + name + ">\n")
	}
	b.WriteString("<dict>\n")
	for _, e := range d {
		element("key", e.key)
		switch v := e.value.(type) {
		case string:
			element("string", v)
		case int:
			element("integer", strconv.Itoa(v))
		case bool:
			fmt.Fprintf(b, "<%t/>\n", v)
		case []dict:
			b.WriteString("<array>\n")
			for _, inner := range v {
				writeDict(b, inner)
			}
			b.WriteString("</array>\n")
		}
	}
	b.WriteString("</dict>\n")
}

// uuid is a UUID made from parts, RFC 9562 5.8.
func uuid(parts ...string) string {
	u := sha256.Sum256([]byte("mailform\x00" + strings.Join(parts, "\x00")))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16]))
}
