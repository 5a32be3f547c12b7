package cloudflare

import (
	"fmt"
	"strings"

	"mailform/plan"
)

// slot is a place in a zone that means something for mail: which records can
// stand in it, and when one of them is as wanted.
type slot struct {
	address plan.Address
	stack   string
	role    string // what stands after the domain in the address: "a", "mx", "spf", "dkim", "srv", …
	apex    bool   // its name is the zone's
	wanted  plan.Attrs

	name, kind string
	content    string // "" while it is not known
}

func newSlot(r plan.Resource, z zone, stack string) slot {
	s := slot{
		address: r.Address, stack: stack, wanted: r.Attrs,
		name: r.Attrs["name"].Str(), kind: r.Attrs["type"].Str(), content: r.Attrs["content"].Str(),
	}
	s.role = role(r.Address)
	s.apex = s.name == z.name
	return s
}

// role is what stands after the domain in a record's address.
func role(a plan.Address) string {
	if seg := a.Segments(); len(seg) > 2 && seg[0] == "dns" {
		return seg[2]
	}
	return ""
}

// recognises reports whether a record stands in the slot. A CNAME stands in every
// slot of its name, because resolvers then never see anything else there; at the
// zone's own name the vendor flattens it, so it hides nothing, but takes the place
// of an address.
func (s slot) recognises(r record) bool {
	if r.name != s.name {
		return false
	}
	if r.kind == "CNAME" && (!s.apex || addressRole(s.role)) {
		return true
	}
	switch {
	case addressRole(s.role):
		return r.kind == "A" || r.kind == "AAAA"
	case s.role == "spf":
		return r.kind == "TXT" && isSPF(r.content)
	case tagVersion[s.role] != "":
		return r.kind == "TXT" && hasVersion(r.content, tagVersion[s.role])
	case s.role == "caa": // each issuer has a record of its own
		return r.kind == "CAA" && issuer(r.content) == issuer(s.content)
	case s.role == "tlsa": // of the other usages any that matches suffices (RFC 7671 5), so they harm nobody
		return r.kind == "TLSA" && strings.HasPrefix(r.content, daneEE)
	}
	return r.kind == s.kind
}

// addressRole reports whether an address record stands in slots of the role.
func addressRole(role string) bool {
	switch role {
	case "a", "mta-sts-host", "autoconfig", "autodiscover", "web":
		return true
	}
	return false
}

// satisfiedBy reports whether a record says what is wanted, as far as that is known.
func (s slot) satisfiedBy(r record) bool {
	if r.name != s.name || r.kind != s.kind || r.proxied != s.wanted["proxied"].True() {
		return false
	}
	if p, ok := s.wanted["priority"]; ok && p.Num() != r.priority {
		return false
	}
	content := r.content
	if tagVersion[s.role] != "" {
		content = canonicalTags(content)
	}
	return s.content == "" || content == s.content
}

// choose picks the record that stands in the slot: one that is as wanted and does
// not belong to another stack, or else the first.
func (s *slot) choose(rs []record) (first int, satisfied bool) {
	for i, r := range rs {
		if m, marked := parseMark(r.comment); s != nil && s.satisfiedBy(r) && (!marked || m.stack == s.stack) {
			return i, true
		}
	}
	return 0, false
}

// harmedBy says in words what an unmarked record does to a slot in which a
// record of ours stands.
func (s *slot) harmedBy(r record) (string, bool) {
	if s == nil {
		return "", false
	}
	switch {
	case r.kind == "CNAME":
		return fmt.Sprintf("the CNAME at %s hides our %s record", r.name, s.kind), true
	case s.role == "spf":
		return fmt.Sprintf("a second SPF record at %s makes every check fail (RFC 7208 4.5): %s", r.name, r.content), true
	case s.role == "dmarc":
		return fmt.Sprintf("a second DMARC record at %s makes receivers ignore both (RFC 7489 6.6.3)", r.name), true
	case s.role == "mta-sts":
		return fmt.Sprintf("a second MTA-STS record at %s makes senders ignore both (RFC 8461 3.1)", r.name), true
	case s.role == "tls-rpt":
		return fmt.Sprintf("a second TLSRPT record at %s makes senders ignore both (RFC 8460 3)", r.name), true
	case s.role == "srv":
		return fmt.Sprintf("%s also leads to %s, where mail programs would go as well", r.name, r.content), true
	case s.role == "a":
		return fmt.Sprintf("%s also has the address %s, where mail would go as well", r.name, r.content), true
	case addressRole(s.role):
		return fmt.Sprintf("%s also has the address %s, where others would go as well", r.name, r.content), true
	}
	return "", false
}
