package cloudflaresim

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// StaticZone is a zone of the rest of the simulated Internet.
type StaticZone struct {
	Origin  string   // "outside.example", "100.127.in-addr.arpa"
	Records []string // zone file lines, names relative to Origin: "mx 300 IN A 127.100.9.1"
}

type staticZone struct {
	origin string // canonical, with trailing dot
	rrs    []dns.RR
}

// SetStatic adds a static zone or replaces the one with the same origin.
func (s *Server) SetStatic(z StaticZone) error {
	origin := dns.CanonicalName(dns.Fqdn(z.Origin))
	parsed := staticZone{origin: origin}
	zp := dns.NewZoneParser(strings.NewReader(strings.Join(z.Records, "\n")+"\n"), origin, "")
	zp.SetDefaultTTL(300)
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		parsed.rrs = append(parsed.rrs, rr)
	}
	if err := zp.Err(); err != nil {
		return fmt.Errorf("static zone %s: %w", z.Origin, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed()
	for i := range s.static {
		if s.static[i].origin == origin {
			s.static[i] = parsed
			return nil
		}
	}
	s.static = append(s.static, parsed)
	return nil
}

const (
	defaultTTL = 300
	maxChain   = 8 // CNAMEs followed for one question
)

// served is a zone as the Internet sees it, records by canonical owner name.
type served struct {
	origin string
	rrs    map[string][]dns.RR
	soa    dns.RR
}

// at returns the records of a name and whether the name exists, if only because
// something exists below it (RFC 8020). A wildcard stands in for names that do not.
func (z *served) at(name string) ([]dns.RR, bool) {
	if rrs, ok := z.rrs[name]; ok {
		return rrs, true
	}
	for owner := range z.rrs {
		if strings.HasSuffix(owner, "."+name) {
			return nil, true
		}
	}
	// RFC 4592 3.3.1: only the closest encloser's wildcard counts.
	for up := parent(name); dns.IsSubDomain(z.origin, up); up = parent(up) {
		if rrs, ok := z.rrs["*."+up]; ok {
			return rrs, true
		}
		if _, ok := z.rrs[up]; ok || up == z.origin {
			return nil, false
		}
	}
	return nil, false
}

func parent(name string) string {
	i, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}

// view is everything that the simulated Internet knows at one moment.
type view []*served

// snapshot reads all zones. Those that are not active at the vendor are not
// delegated to it, so nobody finds them there.
func (s *Server) snapshot() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers != nil {
		return s.answers
	}
	v := view{}
	for i := range s.static {
		z := &served{origin: s.static[i].origin, rrs: map[string][]dns.RR{}}
		for _, rr := range s.static[i].rrs {
			z.add(rr)
		}
		v = append(v, z.complete([]string{"ns." + z.origin}, uint32(s.changes)))
	}
	for _, zs := range s.zones {
		if zs.Status != "active" || v.exact(dns.Fqdn(zs.Name)) {
			continue
		}
		z := &served{origin: dns.CanonicalName(dns.Fqdn(zs.Name)), rrs: map[string][]dns.RR{}}
		for _, r := range zs.records {
			if rr, err := r.rr(); err == nil {
				z.add(rr)
			}
		}
		v = append(v, z.complete(zs.NameServers, uint32(s.changes)))
	}
	if s.reverse {
		v = append(v, v.reverse(uint32(s.changes)))
	}
	s.answers = v
	return v
}

// reverseOrigin is the zone of the simulated Internet's addresses.
const reverseOrigin = "100.127.in-addr.arpa."

// SetReverse gives every address of the simulated Internet the names that lead to
// it, as if their owners had asked the vendors of the addresses; or none.
func (s *Server) SetReverse(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed()
	s.reverse = on
}

// reverse makes the zone of the names of addresses.
func (v view) reverse(serial uint32) *served {
	z := &served{origin: reverseOrigin, rrs: map[string][]dns.RR{}}
	for _, zone := range v {
		for _, rrs := range zone.rrs {
			for _, rr := range rrs {
				a, ok := rr.(*dns.A)
				if !ok {
					continue
				}
				name, err := dns.ReverseAddr(a.A.String())
				if err == nil && dns.IsSubDomain(reverseOrigin, name) {
					z.add(&dns.PTR{Hdr: header(name, dns.TypePTR, defaultTTL), Ptr: a.Hdr.Name})
				}
			}
		}
	}
	return z.complete([]string{"ns." + reverseOrigin}, serial)
}

func (z *served) add(rr dns.RR) {
	name := dns.CanonicalName(rr.Header().Name)
	z.rrs[name] = append(z.rrs[name], rr)
	if soa, ok := rr.(*dns.SOA); ok {
		z.soa = soa
	}
}

// complete gives a zone its SOA and NS records when it has none.
func (z *served) complete(servers []string, serial uint32) *served {
	if z.soa == nil {
		z.add(&dns.SOA{
			Hdr: header(z.origin, dns.TypeSOA, 1800),
			Ns:  dns.Fqdn(servers[0]), Mbox: "dns." + z.origin,
			Serial: 2026000000 + serial, Refresh: 10000, Retry: 2400, Expire: 604800, Minttl: 1800,
		})
	}
	for _, rr := range z.rrs[z.origin] {
		if rr.Header().Rrtype == dns.TypeNS {
			return z
		}
	}
	for _, ns := range servers {
		z.add(&dns.NS{Hdr: header(z.origin, dns.TypeNS, 86400), Ns: dns.Fqdn(ns)})
	}
	return z
}

func header(name string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// rr is a record in DNS form. A proxied record has the address of the vendor's
// proxies, which is what makes proxying fatal for mail.
func (r *Record) rr() (dns.RR, error) {
	name, ttl := dns.Fqdn(r.Name), r.TTL
	if ttl == 1 {
		ttl = defaultTTL
	}
	kind, content := r.Type, r.Content
	switch {
	case r.Proxied && r.Type == "AAAA":
		content = "2606:4700::6810:84e5"
	case r.Proxied:
		kind, content = "A", "104.16.132.229"
	case kind == "TXT":
		h := header(name, dns.TypeTXT, uint32(ttl))
		parts, quoted := splitQuoted(content)
		if !quoted {
			for len(content) > 255 {
				parts, content = append(parts, content[:255]), content[255:]
			}
			parts = append(parts, content)
		}
		for i, p := range parts {
			q := quoteString(p) // the library wants its presentation form
			parts[i] = q[1 : len(q)-1]
		}
		return &dns.TXT{Hdr: h, Txt: parts}, nil
	case kind == "MX" || kind == "URI":
		priority := 0
		if r.Priority != nil {
			priority = *r.Priority
		}
		content = fmt.Sprintf("%d %s", priority, dns.Fqdn(content))
	case kind == "CNAME" || kind == "NS" || kind == "PTR" || kind == "SRV":
		content = dns.Fqdn(content)
	}
	rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", name, ttl, kind, content))
	if err == nil && rr == nil {
		err = fmt.Errorf("record %s %s is empty", name, kind)
	}
	return rr, err
}

func (v view) exact(origin string) bool {
	for _, z := range v {
		if z.origin == origin {
			return true
		}
	}
	return false
}

// zone returns the zone that holds a name, or nil.
func (v view) zone(name string) *served {
	var best *served
	for _, z := range v {
		if dns.IsSubDomain(z.origin, name) && (best == nil || len(z.origin) > len(best.origin)) {
			best = z
		}
	}
	return best
}

// resolve answers one question: the answer section, the authority section and
// the response code. Owner names keep the question's spelling.
func (v view) resolve(name string, kind uint16) (answer, authority []dns.RR, rcode int) {
	for range maxChain {
		key := dns.CanonicalName(name)
		z := v.zone(key)
		if z == nil {
			for _, other := range v { // "example." exists when "acme.example." does
				if dns.IsSubDomain(key, other.origin) {
					return answer, nil, dns.RcodeSuccess
				}
			}
			return answer, nil, dns.RcodeNameError
		}
		rrs, exists := z.at(key)
		if !exists {
			return answer, []dns.RR{z.soa}, dns.RcodeNameError
		}
		var cname *dns.CNAME
		found := 0
		for _, rr := range rrs {
			if c, ok := rr.(*dns.CNAME); ok {
				cname = c
			}
			if rr.Header().Rrtype == kind {
				answer = append(answer, renamed(rr, name))
				found++
			}
		}
		if found > 0 {
			return answer, nil, dns.RcodeSuccess
		}
		if cname == nil {
			return answer, []dns.RR{z.soa}, dns.RcodeSuccess
		}
		if key == z.origin {
			return append(answer, v.flatten(cname, name, kind)...), []dns.RR{z.soa}, dns.RcodeSuccess
		}
		answer = append(answer, renamed(cname, name))
		name = cname.Target
	}
	return answer, nil, dns.RcodeServerFailure
}

// flatten answers for a CNAME at a zone's own name the way the vendor does: with
// the addresses of its target.
func (v view) flatten(c *dns.CNAME, name string, kind uint16) []dns.RR {
	if kind != dns.TypeA && kind != dns.TypeAAAA || dns.CanonicalName(c.Target) == dns.CanonicalName(name) {
		return nil
	}
	var out []dns.RR
	found, _, _ := v.without(dns.CanonicalName(name)).resolve(c.Target, kind)
	for _, rr := range found {
		if rr.Header().Rrtype == kind {
			out = append(out, renamed(rr, name))
		}
	}
	return out
}

// without leaves out a zone, so that two flattened names cannot chase each other.
func (v view) without(origin string) view {
	var out view
	for _, z := range v {
		if z.origin != origin {
			out = append(out, z)
		}
	}
	return out
}

func renamed(rr dns.RR, name string) dns.RR {
	c := dns.Copy(rr)
	c.Header().Name = name
	return c
}
