package cloudflare

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/cloudflare/cloudflare-go/v6/dns"
)

// record is a DNS record with name and content in canonical form.
type record struct {
	id, name, kind string
	content        string // in a patch "" leaves it as it is
	ttl, priority  int64  // ttl 1 is the vendor's "automatic"
	proxied        bool
	comment        string
}

// seconds is how long a record may be cached. "Automatic" means 300 for records
// that are not proxied; of proxied ones nothing else is known.
func (r record) seconds() int64 {
	if r.ttl == 1 && !r.proxied {
		return recordTTL
	}
	return r.ttl
}

// matches reports whether two records say the same under the same mark. Where
// the other has no content any will do.
func (r record) matches(o record) bool {
	return r.name == o.name && r.kind == o.kind && (o.content == "" || r.content == o.content) && r.seconds() == o.seconds() &&
		r.comment == o.comment && r.proxied == o.proxied && (r.kind != "MX" || r.priority == o.priority)
}

func fromAPI(r dns.RecordResponse) record {
	kind := string(r.Type)
	rec := record{
		id: r.ID, name: canonicalName(r.Name), kind: kind,
		ttl: int64(r.TTL), priority: int64(r.Priority), proxied: r.Proxied, comment: r.Comment,
	}
	rec.content = canonicalContent(kind, r.Content)
	if structured(kind) {
		if text, ok := contentOfData(kind, r.JSON.RawJSON()); ok {
			rec.content = text
		}
	}
	return rec
}

// structured reports whether a record of the kind is written as data, of which
// its content is only a rendering.
func structured(kind string) bool { return kind == "SRV" || kind == "CAA" || kind == "TLSA" }

// contentOfData gives the content of a structured record in the form in which
// zone files have it. raw is the record as the API answers it; a number there may
// be a string (CAA flags sometimes are).
func contentOfData(kind, raw string) (string, bool) {
	var r struct {
		Data struct {
			Priority, Weight, Port json.Number
			Target                 *string
			Flags                  json.Number
			Tag, Value             *string
			Usage, Selector        json.Number
			MatchingType           json.Number `json:"matching_type"`
			Certificate            *string
		} `json:"data"`
	}
	if json.Unmarshal([]byte(raw), &r) != nil {
		return "", false
	}
	d := r.Data
	switch {
	case kind == "SRV" && d.Target != nil:
		return srvContent(num(d.Priority), num(d.Weight), num(d.Port), *d.Target), true
	case kind == "CAA" && d.Tag != nil && d.Value != nil:
		return caaContent(num(d.Flags), *d.Tag, *d.Value), true
	case kind == "TLSA" && d.Certificate != nil:
		return fmt.Sprintf("%d %d %d %s", num(d.Usage), num(d.Selector), num(d.MatchingType), strings.ToLower(*d.Certificate)), true
	}
	return "", false
}

func num(n json.Number) int64 {
	v, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// srvContent is an SRV record's content (RFC 2782). The target "." means that
// the service is not offered.
func srvContent(priority, weight, port int64, target string) string {
	if target != "." {
		target = canonicalName(target)
	}
	return fmt.Sprintf("%d %d %d %s", priority, weight, port, target)
}

// caaContent is a CAA record's content (RFC 8659 4.1). Tags have no case, and
// neither have the names of issuers.
func caaContent(flags int64, tag, value string) string {
	tag = strings.ToLower(tag)
	if tag == "issue" || tag == "issuewild" {
		issuer, parameters, more := strings.Cut(value, ";")
		value = strings.ToLower(strings.TrimSpace(issuer))
		if parameters = strings.TrimSpace(parameters); more && (parameters != "" || value == "") {
			value += ";" + parameters
		}
	}
	return fmt.Sprintf("%d %s %q", flags, tag, value)
}

// readCAA is the inverse of caaContent.
func readCAA(content string) (flags int64, tag, value string, ok bool) {
	words := strings.SplitN(content, " ", 3)
	if len(words) != 3 {
		return 0, "", "", false
	}
	flags, err := strconv.ParseInt(words[0], 10, 16)
	if err != nil {
		return 0, "", "", false
	}
	value, err = strconv.Unquote(words[2])
	return flags, words[1], value, err == nil
}

// issuer is who an "issue" record lets issue certificates; "" when the record
// says something else or lets nobody.
func issuer(content string) string {
	_, tag, value, ok := readCAA(content)
	if !ok || tag != "issue" {
		return ""
	}
	name, _, _ := strings.Cut(value, ";")
	return strings.TrimSpace(name)
}

// canonicalContent gives a record's content its comparable form.
func canonicalContent(kind, content string) string {
	switch kind {
	case "TXT":
		return showTXT(parseTXT(content))
	case "A", "AAAA":
		if ip, err := netip.ParseAddr(content); err == nil {
			return ip.String()
		}
	case "CNAME", "MX", "NS", "PTR":
		if content == "." { // RFC 7505: no mail here
			return content
		}
		return canonicalName(content)
	}
	return content
}

// wireContent is the inverse of canonicalContent for what we write.
func wireContent(kind, content string) string {
	if kind == "TXT" {
		return quoteTXT(unshowTXT(content))
	}
	return content
}
