package cloudflare

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"mailform/plan"
	"mailform/specs"
)

// Survey is what stands in the zone of a domain, read without knowing what is
// wanted there.
type Survey struct {
	Zone    string
	Records []SurveyRecord
}

// SurveyRecord is one record. Stack and Slot are those of its mark, "" without
// one; a long slot may be cut.
type SurveyRecord struct {
	Name, Type, Content string
	Priority            int
	Stack, Slot         string
}

// Survey lists the records of the zone that a domain lies in.
func (p *Provider) Survey(ctx context.Context, domain string) (Survey, error) {
	all, _, err := p.api.listZones(ctx)
	if err != nil {
		return Survey{}, err
	}
	z, ok := zoneFor(all, domain)
	if !ok {
		return Survey{}, &plan.Error{Class: plan.ErrSpec, Code: "MF5250", Step: "find the zone of " + domain,
			Got: "the API token sees no zone that holds it", Fix: "check the name, or give the token the permission Zone:Read for that zone"}
	}
	records, _, err := p.api.listRecords(ctx, z, "")
	if err != nil {
		return Survey{}, err
	}
	s := Survey{Zone: z.name}
	for _, r := range records {
		found := SurveyRecord{Name: r.name, Type: r.kind, Content: r.content, Priority: int(r.priority)}
		if m, ok := parseMark(r.comment); ok {
			found.Stack, found.Slot = m.stack, m.slot
		}
		s.Records = append(s.Records, found)
	}
	return s, nil
}

// ReadSPF says which spf block makes a record. ok is false when none does exactly.
func ReadSPF(text string) (_ *specs.SPF, ok bool) {
	rec, err := parseSPF(text)
	if err != nil {
		return nil, false
	}
	s := &specs.SPF{All: map[string]string{"-all": "fail", "~all": "softfail", "?all": "neutral"}[rec.all]}
	for _, term := range rec.terms {
		kind, value, _ := strings.Cut(term, ":")
		switch kind {
		case "include":
			s.Include = append(s.Include, value)
		case "ip4", "ip6":
			p, err := netip.ParsePrefix(value)
			if err != nil {
				ip, err := netip.ParseAddr(value)
				if err != nil {
					return nil, false
				}
				p = netip.PrefixFrom(ip, ip.BitLen())
			}
			s.IP = append(s.IP, p)
		}
	}
	same, err := parseSPF(spfText(s))
	s.AllUnset = s.All == "fail"
	return s, err == nil && s.All != "" && rec.same(same)
}

// ReadDMARC says which dmarc block makes a record. ok is false when none does exactly.
func ReadDMARC(text string) (_ *specs.DMARC, ok bool) {
	tags := readTags(text)
	d := &specs.DMARC{Policy: tags["p"], SubdomainPolicy: tags["sp"], Reports: mailAddresses(tags["rua"])}
	return d, canonicalTags(text) == dmarcText(d) && slices.Contains([]string{"none", "quarantine", "reject"}, d.Policy)
}

// ReadTLSRPT says which tls_rpt block makes a record. ok is false when none does exactly.
func ReadTLSRPT(text string) (_ *specs.TLSRPT, ok bool) {
	r := &specs.TLSRPT{Reports: mailAddresses(readTags(text)["rua"])}
	return r, len(r.Reports) > 0 && canonicalTags(text) == "v=TLSRPTv1; rua="+mailtoURIs(r.Reports)
}

func readTags(text string) map[string]string {
	tags := map[string]string{}
	for _, tag := range strings.Split(text, ";") {
		name, value, _ := strings.Cut(tag, "=")
		tags[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return tags
}

// mailAddresses is the opposite of mailtoURIs; nil for other kinds of URI.
func mailAddresses(uris string) []string {
	var out []string
	for _, u := range strings.Split(uris, ",") {
		address, ok := strings.CutPrefix(strings.TrimSpace(u), "mailto:")
		address, err := url.PathUnescape(address)
		if !ok || err != nil {
			return nil
		}
		out = append(out, address)
	}
	return out
}
