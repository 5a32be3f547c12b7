package cloudflare

import (
	"strings"

	"mailform/plan"
	"mailform/specs"
)

// The kinds of this provider.
const (
	kindZone   = "zone"
	kindRecord = "record"
)

// recordTTL is the time to live of what we write, in seconds. The vendor's
// "automatic" is the same. A mail host moves rarely, but when it does nobody
// should wait for a day.
const recordTTL = 300

// Declare implements plan.Provider.
func (p *Provider) Declare(s *specs.Spec) ([]plan.Resource, specs.Diagnostics) {
	d := declaration{zones: map[string]bool{}}
	for _, h := range s.Hosts {
		d.host(s, h)
	}
	for _, dom := range s.Domains {
		d.domain(s, dom)
	}
	return d.resources, nil
}

type declaration struct {
	zones     map[string]bool
	resources []plan.Resource
}

// zone wants the zone a domain's records live in: its own or the one it is
// delegated from.
func (d *declaration) zone(domain string, origin specs.Range) plan.Value {
	a := plan.Addr("zone", domain)
	if !d.zones[domain] {
		d.zones[domain] = true
		d.resources = append(d.resources, plan.Resource{
			Address: a, Provider: Name, Kind: kindZone,
			Attrs:   plan.Attrs{"domain": plan.String(domain)},
			Outputs: []string{"id", "name"},
			Lookup:  true,
			Origin:  origin,
		})
	}
	return plan.Unknown(a, "id")
}

func (d *declaration) record(domain string, r plan.Resource) {
	r.Provider, r.Kind = Name, kindRecord
	r.Attrs["zone_id"] = d.zone(domain, r.Origin)
	r.Attrs["ttl"] = plan.Int(recordTTL)
	// Changing the name or type of a record in place fails when two records swap
	// them, and leaves the old name's caches behind either way.
	r.ReplaceOn = []string{"name", "type", "zone_id"}
	d.resources = append(d.resources, r)
}

// host wants the address record of a mail host. It is never proxied: the vendor's
// proxies speak no SMTP and no IMAP.
func (d *declaration) host(s *specs.Spec, h *specs.Host) {
	kind, content := "A", plan.Unknown(plan.Addr("host", h.Name, "address-link"), "ip")
	if h.Instance == nil {
		content = plan.String(h.Address.String())
		if h.Address.Is6() {
			kind = "AAAA"
		}
	}
	domain := s.ZoneDomain(h.Hostname)
	d.record(domain, plan.Resource{
		Address: plan.Addr("dns", domain, "a", h.Name),
		Attrs: plan.Attrs{
			"name": plan.String(h.Hostname), "type": plan.String(kind),
			"content": content, "proxied": plan.Bool(false),
		},
		Interrupts: "clients that still have the old address in their cache cannot reach " + h.Hostname + " for up to 5 minutes",
		Effect:     h.Hostname + " has an address",
		Origin:     h.Range,
	})
}

func (d *declaration) domain(s *specs.Spec, dom *specs.Domain) {
	txt := func(slot []string, name string, content plan.Value, effect string, origin specs.Range) {
		d.record(dom.Name, plan.Resource{
			Address: plan.Addr(append([]string{"dns", dom.Name}, slot...)...),
			Attrs:   plan.Attrs{"name": plan.String(name), "type": plan.String("TXT"), "content": content},
			Effect:  effect,
			Origin:  origin,
		})
	}
	if h := s.Host(dom.Host); h != nil {
		mx := plan.Resource{
			Address: plan.Addr("dns", dom.Name, "mx"),
			Attrs: plan.Attrs{
				"name": plan.String(dom.Name), "type": plan.String("MX"),
				"content": plan.String(h.Hostname), "priority": plan.Int(int64(dom.MX.Priority)),
			},
			// Mail comes only once the server answers and its name has an address.
			DependsOn: []plan.Address{plan.Addr("server", h.Name), plan.Addr("dns", s.ZoneDomain(h.Hostname), "a", h.Name)},
			Effect:    "mail for " + dom.Name + " reaches " + h.Name,
			Origin:    dom.MX.Range,
		}
		if len(dom.Mailboxes) > 0 {
			mx.Protected = noMoreMail(dom.Name)
		}
		d.record(dom.Name, mx)
	}
	if dom.SPF != nil {
		txt([]string{"spf"}, dom.Name, plan.String(spfText(dom.SPF)),
			"receivers know which servers send for "+dom.Name, dom.SPF.Range)
	}
	if dom.DKIM != nil {
		seen := map[string]bool{}
		for _, alg := range dom.DKIM.Algorithms {
			selector := Selector(dom.DKIM.Selector, alg)
			if seen[selector] {
				continue
			}
			seen[selector] = true
			txt([]string{"dkim", selector}, selector+"._domainkey."+dom.Name,
				plan.Unknown(plan.Addr("dkim", dom.Name, selector), "txt"),
				"receivers can verify signatures of "+dom.Name, dom.DKIM.Range)
		}
	}
	if dom.DMARC != nil {
		txt([]string{"dmarc"}, "_dmarc."+dom.Name, plan.String(dmarcText(dom.DMARC)),
			"receivers know what to do with forged mail from "+dom.Name, dom.DMARC.Range)
	}
}

func noMoreMail(domain string) string {
	return "mail for the mailboxes of " + domain + " would no longer arrive"
}

// Selector names the DKIM key of an algorithm: prefix "mf1" gives "mf1-rsa" and
// "mf1-ed25519".
func Selector(prefix, algorithm string) string {
	if strings.HasPrefix(algorithm, "rsa") {
		return prefix + "-rsa"
	}
	return prefix + "-" + algorithm
}

// dmarcText is the policy record a spec asks for, RFC 7489 6.3.
func dmarcText(d *specs.DMARC) string {
	tags := []string{"v=DMARC1", "p=" + d.Policy}
	if d.SubdomainPolicy != "" && d.SubdomainPolicy != d.Policy {
		tags = append(tags, "sp="+d.SubdomainPolicy)
	}
	if len(d.Reports) > 0 {
		uris := make([]string, len(d.Reports))
		for i, r := range d.Reports {
			// RFC 7489 6.2: comma and exclamation mark separate, semicolon ends the tag.
			uris[i] = "mailto:" + strings.NewReplacer(",", "%2C", "!", "%21", ";", "%3B").Replace(r)
		}
		tags = append(tags, "rua="+strings.Join(uris, ","))
	}
	return strings.Join(tags, "; ")
}

// canonicalTags gives a tag list (DMARC) its canonical spacing, so that a record
// a person wrote with other spaces is not seen as different.
func canonicalTags(text string) string {
	var tags []string
	for _, tag := range strings.Split(text, ";") {
		name, value, _ := strings.Cut(tag, "=")
		if name = strings.TrimSpace(name); name != "" {
			tags = append(tags, name+"="+strings.TrimSpace(value))
		}
	}
	return strings.Join(tags, "; ")
}

func isDMARC(text string) bool {
	return strings.HasPrefix(canonicalTags(text), "v=DMARC1")
}
