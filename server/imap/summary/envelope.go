package summary

import (
	"mime"
	"slices"
	"strings"

	"mailform/server/imap/mimetree"
	"mailform/server/imap/wire"
)

// writeText writes a text of a header. Encoded words stay as they are: clients
// decode them. Text that is not ASCII becomes one for clients that have not
// enabled UTF-8.
func writeText(w *wire.Writer, s string) {
	if !w.UTF8 && !isASCII(s) {
		s = mime.BEncoding.Encode("utf-8", s)
	}
	w.NString(s)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// WriteEnvelope writes a header as ENVELOPE shows it, RFC 9051 7.5.2.
func WriteEnvelope(w *wire.Writer, h mimetree.Header) {
	from := h.Get("From")
	orFrom := func(name string) string {
		if v := h.Get(name); v != "" {
			return v
		}
		return from
	}
	// Of these fields an empty one is not the same as none.
	text := func(name string) {
		if v, ok := h.Lookup(name); ok && v == "" {
			w.Raw(`""`)
		} else {
			writeText(w, v)
		}
	}
	w.Byte('(')
	text("Date")
	w.Byte(' ')
	text("Subject")
	w.Byte(' ')
	writeAddresses(w, from)
	w.Byte(' ')
	writeAddresses(w, orFrom("Sender"))
	w.Byte(' ')
	writeAddresses(w, orFrom("Reply-To"))
	for _, name := range []string{"To", "Cc", "Bcc"} {
		w.Byte(' ')
		values := h.Values(name)
		if len(values) == 1 {
			writeAddresses(w, values[0])
		} else {
			writeAddresses(w, strings.Join(values, ", "))
		}
	}
	w.Byte(' ')
	text("In-Reply-To")
	w.Byte(' ')
	text("Message-Id")
	w.Byte(')')
}

func writeAddresses(w *wire.Writer, v string) {
	if v == "" {
		w.Raw("NIL")
		return
	}
	list := mimetree.ParseAddresses(v)
	if len(list) == 0 {
		w.Raw("NIL")
		return
	}
	w.Byte('(')
	for _, a := range list {
		w.Byte('(')
		writeText(w, a.Name)
		w.Byte(' ')
		w.NString(a.Route)
		w.Byte(' ')
		w.NString(a.Mailbox)
		w.Byte(' ')
		w.NString(a.Host)
		w.Byte(')')
	}
	w.Byte(')')
}

// WriteStructure writes a part as BODYSTRUCTURE shows it, RFC 9051 7.5.2, or
// without extension data as BODY does.
func WriteStructure(w *wire.Writer, p *mimetree.Part, extended bool) {
	w.Byte('(')
	defer w.Byte(')')
	if p.Multipart() {
		for _, c := range p.Children { // without spaces: some clients trip over them
			WriteStructure(w, c, extended)
		}
		w.Byte(' ')
		w.String(p.Subtype)
		if extended {
			w.Byte(' ')
			writeParams(w, p.Params)
			writeDisposition(w, p)
		}
		return
	}
	params := p.Params
	if p.Type == "text" && len(params) == 0 {
		params = map[string]string{"charset": "us-ascii"} // RFC 2045 5.2
	}
	w.String(p.Type)
	w.Byte(' ')
	w.String(p.Subtype)
	w.Byte(' ')
	writeParams(w, params)
	w.Byte(' ')
	w.NString(p.Fields.Get("Content-Id"))
	w.Byte(' ')
	writeText(w, p.Fields.Get("Content-Description"))
	w.Byte(' ')
	w.String(p.Encoding())
	w.Byte(' ')
	w.Num(uint64(p.Body.Len()))
	switch {
	case p.Type == "text":
		w.Byte(' ')
		w.Num(uint64(p.Lines))
	case p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global"):
		inner := p.Message
		if inner == nil {
			// Encoded, or nested too deep: its type wants a structure all the same.
			inner = &mimetree.Part{Type: "text", Subtype: "plain"}
		}
		w.Byte(' ')
		WriteEnvelope(w, inner.Fields)
		w.Byte(' ')
		WriteStructure(w, inner, extended)
		w.Byte(' ')
		w.Num(uint64(p.Lines))
	}
	if extended {
		w.Byte(' ')
		w.NString(p.Fields.Get("Content-Md5"))
		writeDisposition(w, p)
	}
}

func writeParams(w *wire.Writer, params map[string]string) {
	if len(params) == 0 {
		w.Raw("NIL")
		return
	}
	names := make([]string, 0, len(params))
	for n := range params {
		names = append(names, n)
	}
	slices.Sort(names)
	w.Byte('(')
	for i, n := range names {
		if i > 0 {
			w.Byte(' ')
		}
		w.String(n)
		w.Byte(' ')
		v := params[n]
		if !w.UTF8 && !isASCII(v) {
			v = mime.BEncoding.Encode("utf-8", v)
		}
		w.String(v)
	}
	w.Byte(')')
}

// writeDisposition writes disposition, language and location.
func writeDisposition(w *wire.Writer, p *mimetree.Part) {
	w.Byte(' ')
	value, params := mimetree.ParseValue(p.Fields.Get("Content-Disposition"))
	if value == "" {
		w.Raw("NIL ")
	} else {
		w.Byte('(')
		writeText(w, value)
		w.Byte(' ')
		writeParams(w, params)
		w.Raw(") ")
	}
	languages := strings.FieldsFunc(mimetree.WithoutComments(p.Fields.Get("Content-Language")), func(r rune) bool { return r == ',' || r == ' ' })
	switch len(languages) {
	case 0:
		w.Raw("NIL")
	case 1:
		w.String(languages[0])
	default:
		for i, l := range languages {
			w.Raw([]string{"(", " "}[min(i, 1)])
			w.String(l)
		}
		w.Byte(')')
	}
	w.Byte(' ')
	w.NString(p.Fields.Get("Content-Location"))
}
