package cloudflaresim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

const (
	maxComment  = 100 // characters on the free plan
	maxTXTBytes = 2048
)

// invalid is a validation error: the code that matters hides one level down.
func invalid(code int, text string) *failure {
	return fail(http.StatusBadRequest, 1004, "DNS Validation Error", message{Code: code, Message: text})
}

func proxiable(kind string) bool { return kind == "A" || kind == "AAAA" || kind == "CNAME" }

// admit validates a record, gives its content the stored form and checks it
// against the other records of the zone.
func (z *zoneState) admit(r *Record) *failure {
	if len(r.Name) > 253 {
		return invalid(9000, "DNS name is too long.")
	}
	if _, ok := dns.IsDomainName(r.Name); !ok {
		return invalid(9000, "DNS name is invalid.")
	}
	if r.Proxied {
		if !proxiable(r.Type) {
			return invalid(9004, fmt.Sprintf("This record type cannot be proxied: %s.", r.Type))
		}
		r.TTL = 1
	}
	if r.TTL != 1 && (r.TTL < 60 || r.TTL > 86400) {
		return invalid(9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.")
	}
	if strings.ContainsAny(r.Comment, "\r\n") {
		return invalid(9313, "DNS record comment must not contain a line break.")
	}
	if len([]rune(r.Comment)) > maxComment {
		return invalid(9313, fmt.Sprintf("DNS record comment is longer than %d characters.", maxComment))
	}
	if f := r.normalise(); f != nil {
		return f
	}
	return z.conflict(r)
}

// normalise checks the content of a record and stores it as the vendor does.
func (r *Record) normalise() *failure {
	switch r.Type {
	case "A":
		ip, err := netip.ParseAddr(r.Content)
		if err != nil || !ip.Is4() {
			return invalid(9005, "Content for A record must be a valid IPv4 address.")
		}
	case "AAAA":
		ip, err := netip.ParseAddr(r.Content)
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return invalid(9006, "Content for AAAA record must be a valid IPv6 address.")
		}
		r.Content = ip.String()
	case "CNAME", "MX", "NS", "PTR":
		target := ascii(r.Content)
		if _, ok := dns.IsDomainName(target); !ok || target == "" && (r.Type != "MX" || r.Content != ".") {
			return invalid(map[string]int{"CNAME": 9007, "MX": 9009, "NS": 9008, "PTR": 9010}[r.Type],
				fmt.Sprintf("Content for %s record is invalid.", r.Type))
		}
		if target != "" {
			r.Content = target
		}
		if r.Type == "MX" {
			if r.Priority == nil || *r.Priority < 0 || *r.Priority > 65535 {
				return invalid(9101, "priority is a required data field for MX records, from 0 to 65535.")
			}
		}
	case "TXT":
		return r.normaliseTXT()
	case "SRV", "CAA", "TLSA", "SSHFP", "URI", "CERT", "DS", "DNSKEY", "LOC", "NAPTR", "SMIMEA", "SVCB", "HTTPS", "OPENPGPKEY":
		if r.Type != "OPENPGPKEY" && len(r.Data) == 0 {
			return invalid(9101, fmt.Sprintf("data is a required field for %s records.", r.Type))
		}
		if content, ok := contentFromData(r.Type, r.Data); ok {
			r.Content = content
		}
	default:
		return invalid(9012, fmt.Sprintf("Invalid record type %q.", r.Type))
	}
	return nil
}

// normaliseTXT keeps unquoted content as it is. Quoted strings longer than 255
// bytes are split.
func (r *Record) normaliseTXT() *failure {
	if r.Content == "" {
		return invalid(9011, "Content for TXT record must not be empty.")
	}
	parts, quoted := splitQuoted(r.Content)
	if !quoted {
		if len(r.Content) > maxTXTBytes {
			return invalid(9011, fmt.Sprintf("Content for TXT record must not exceed %d characters.", maxTXTBytes))
		}
		return nil
	}
	total := 0
	var out []string
	for _, p := range parts {
		total += len(p)
		for len(p) > 255 {
			out = append(out, quoteString(p[:255]))
			p = p[255:]
		}
		out = append(out, quoteString(p))
	}
	if total > maxTXTBytes {
		return invalid(9011, fmt.Sprintf("Content for TXT record must not exceed %d characters.", maxTXTBytes))
	}
	r.Content = strings.Join(out, " ")
	return nil
}

// splitQuoted reads a sequence of quoted strings into their bytes. quoted is
// false when the text is not one.
func splitQuoted(text string) (parts []string, quoted bool) {
	if !strings.HasPrefix(strings.TrimSpace(text), `"`) {
		return nil, false
	}
	// The zone file parser knows every escape of RFC 1035.
	rr, err := dns.NewRR(". 0 IN TXT " + strings.NewReplacer("\n", `\010`, "\r", `\013`).Replace(text))
	if err != nil {
		return nil, false
	}
	txt, ok := rr.(*dns.TXT)
	if !ok {
		return nil, false
	}
	for _, p := range txt.Txt {
		parts = append(parts, string(unescape(p)))
	}
	return parts, true
}

// unescape turns the library's presentation form of one string into bytes.
func unescape(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		if i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) {
			out = append(out, (s[i+1]-'0')*100+(s[i+2]-'0')*10+s[i+3]-'0')
			i += 3
			continue
		}
		i++
		out = append(out, s[i])
	}
	return out
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// quoteString writes bytes as one quoted string.
func quoteString(raw string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// conflict checks a record against its neighbours.
func (z *zoneState) conflict(r *Record) *failure {
	address := func(kind string) bool { return kind == "A" || kind == "AAAA" }
	for _, o := range z.records {
		if o.ID == r.ID || !strings.EqualFold(o.Name, r.Name) {
			continue
		}
		switch {
		case r.Type == "CNAME" && (address(o.Type) || o.Type == "CNAME"):
			return fail(http.StatusBadRequest, 81053, "An A, AAAA, or CNAME record with that host already exists.")
		case address(r.Type) && o.Type == "CNAME":
			return fail(http.StatusBadRequest, 81054, "A CNAME record with that host already exists.")
		case r.Name != z.Name && (r.Type == "NS") != (o.Type == "NS"):
			return fail(http.StatusBadRequest, 81056, "NS records with that host already exist.")
		case r.Type == o.Type && r.Content == o.Content:
			if r.TTL == o.TTL && r.Proxied == o.Proxied && samePriority(r, o) {
				return fail(http.StatusBadRequest, 81058, "An identical record already exists.")
			}
			return fail(http.StatusBadRequest, 81057, "The record already exists.")
		}
	}
	return nil
}

func samePriority(a, b *Record) bool {
	if a.Priority == nil || b.Priority == nil {
		return a.Priority == b.Priority
	}
	return *a.Priority == *b.Priority
}

// contentFromData derives the read-only content of structured records.
func contentFromData(kind string, data json.RawMessage) (string, bool) {
	order := map[string][]string{
		"SRV":   {"priority", "weight", "port", "target"},
		"CAA":   {"flags", "tag", "value"},
		"TLSA":  {"usage", "selector", "matching_type", "certificate"},
		"SSHFP": {"algorithm", "type", "fingerprint"},
	}[kind]
	var values map[string]any
	if order == nil || json.Unmarshal(data, &values) != nil {
		return "", false
	}
	words := make([]string, len(order))
	for i, name := range order {
		v, ok := values[name]
		if !ok {
			return "", false
		}
		words[i] = fmt.Sprint(v)
		if kind == "CAA" && name == "value" {
			words[i] = quoteString(words[i])
		}
	}
	return strings.Join(words, " "), true
}
