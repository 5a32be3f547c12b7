package cloudflare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// record is a DNS record with name and content in canonical form.
type record struct {
	id, name, kind string
	content        string // in a patch "" leaves it as it is
	ttl, priority  int64  // ttl 1 is the vendor's "automatic"
	proxied        bool
	comment        string
	modified       time.Time // by the vendor's clock; zero in what is to be written
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

// apiRecord is a record as the API answers it.
type apiRecord struct {
	ID       string  `json:"id"`
	Name     string  `json:"name"`
	Type     string  `json:"type"`
	Content  string  `json:"content"`
	TTL      float64 `json:"ttl"`
	Priority float64 `json:"priority"`
	Proxied  bool    `json:"proxied"`

	ModifiedOn time.Time `json:"modified_on"`
	Comment    string    `json:"comment"` // null when there is none
	Data       apiData   `json:"data"`
}

// apiData is what structured records consist of. A number there may be a string
// (CAA flags sometimes are).
type apiData struct {
	Priority, Weight, Port json.Number
	Target                 string
	Flags                  json.Number
	Tag, Value             string
	Usage, Selector        json.Number
	MatchingType           json.Number `json:"matching_type"`
	Certificate            string
}

func fromAPI(r apiRecord) record {
	return record{
		id: r.ID, name: canonicalName(r.Name), kind: r.Type,
		content: cmp.Or(r.Data.content(r.Type), canonicalContent(r.Type, r.Content)),
		ttl:     int64(r.TTL), priority: int64(r.Priority), proxied: r.Proxied, comment: r.Comment, modified: r.ModifiedOn,
	}
}

// content gives the content of a structured record in the form in which zone files
// have it, "" for other records: the API's own rendering differs from kind to kind.
func (d apiData) content(kind string) string {
	switch {
	case kind == "SRV" && d.Target != "":
		return srvContent(num(d.Priority), num(d.Weight), num(d.Port), d.Target)
	case kind == "CAA" && d.Tag != "":
		return caaContent(num(d.Flags), d.Tag, d.Value)
	case kind == "TLSA" && d.Certificate != "":
		return fmt.Sprintf("%d %d %d %s", num(d.Usage), num(d.Selector), num(d.MatchingType), strings.ToLower(d.Certificate))
	}
	return ""
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
