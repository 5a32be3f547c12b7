package cloudflare

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"mailform/plan"
	"mailform/specs"
)

// The kinds of this provider.
const (
	kindZone     = "zone"
	kindRecord   = "record"
	kindSettings = "zone-settings"
	kindRule     = "waf-rule"
)

// recordTTL is the time to live of what we write, in seconds. The vendor's
// "automatic" is the same. A mail host moves rarely, but when it does nobody
// should wait for a day.
const recordTTL = 300

// Declare implements plan.Provider.
func (p *Provider) Declare(s *specs.Spec) ([]plan.Resource, specs.Diagnostics) {
	d := declaration{spec: s, directory: p.directory, zones: map[string]bool{}, blocks: map[string]bool{}, dane: map[string]bool{}, addressOf: map[string]plan.Resource{}}
	for _, z := range s.Zones {
		// A block that is there for its id alone costs nothing.
		d.blocks[z.Name] = z.ID == "" || z.SecurityLevel+z.SSL+z.MinTLS != "" || len(z.CAA)+len(z.Web)+len(z.Rules) > 0
	}
	for _, dom := range s.Domains {
		if h := s.Host(dom.Host); dom.DANE && h != nil {
			// Both the MX record and the TLSA record must be signed (RFC 7672 2.2.1).
			d.dane[dom.Name], d.dane[s.ZoneDomain(h.Hostname)] = true, true
		}
	}
	for _, h := range s.Hosts {
		d.host(h)
	}
	for _, dom := range s.Domains {
		d.domain(dom)
	}
	d.tlsa()
	for _, z := range s.Zones {
		d.block(z)
	}
	return d.resources, d.diags
}

type declaration struct {
	spec      *specs.Spec
	directory string // of the CA, when the environment names one
	zones     map[string]bool
	blocks    map[string]bool          // zones that have a block in the spec which says more than an id
	dane      map[string]bool          // domains whose zones must be signed
	addressOf map[string]plan.Resource // address records by name
	resources []plan.Resource
	diags     specs.Diagnostics
}

func (d *declaration) report(severity specs.Severity, code, summary, detail string, at specs.Range) {
	diag := specs.Diagnostic{Severity: severity, Code: code, Summary: summary, Detail: detail}
	if at != (specs.Range{}) {
		diag.Subject = &at
	}
	d.diags = append(d.diags, diag)
}

// restricted reports whether a zone's web names lead to a host whose port 443 only
// Cloudflare's proxies may reach.
func (d *declaration) restricted(zone string) bool {
	for _, z := range d.spec.Zones {
		for _, w := range z.Web {
			if z.Name == zone && w.Proxied && !slices.Contains(d.spec.WebSources(w.Host), netip.PrefixFrom(netip.IPv4Unspecified(), 0)) {
				return true
			}
		}
	}
	return false
}

// domainOf is the mail domain of that name, or nil.
func (d *declaration) domainOf(name string) *specs.Domain {
	for _, dom := range d.spec.Domains {
		if dom.Name == name {
			return dom
		}
	}
	return nil
}

// zone wants the zone a domain's records live in: its own or the one it is
// delegated from.
func (d *declaration) zone(domain string, origin specs.Range) plan.Value {
	a := plan.Addr("zone", domain)
	if !d.zones[domain] {
		d.zones[domain] = true
		r := plan.Resource{
			Address: a, Provider: Name, Kind: kindZone,
			Attrs:   plan.Attrs{"domain": plan.String(domain)},
			Outputs: []string{"id", "name", "plan"},
			Lookup:  true,
			Origin:  origin,
		}
		// For Observe: the zone's id, whether to read its rules and whether it is signed, whether
		// a host is open to Cloudflare's proxies alone for it, who
		// must be able to issue certificates, and whether a policy of others in its SPF record stays.
		if z := d.given(domain); z != nil {
			r.Attrs["given_id"], r.Attrs["given_name"] = plan.String(z.ID), plan.String(z.Name)
		}
		if d.blocks[domain] {
			r.Attrs["block"] = plan.Bool(true)
		}
		if d.restricted(domain) {
			r.Attrs["restricted"] = plan.Bool(true)
		}
		if d.dane[domain] {
			r.Attrs["dane"] = plan.Bool(true)
		}
		if dom := d.domainOf(domain); dom != nil && dom.SPF != nil && dom.SPF.AllUnset {
			r.Attrs["any_spf_policy"] = plan.Bool(true)
		}
		if by := d.issuer(); by != "" {
			r.Attrs["issuer"] = plan.String(by)
		}
		d.resources = append(d.resources, r)
	}
	return plan.Unknown(a, "id")
}

// given is the block of the zone that a domain lies in, as far as the spec shows, if it
// gives the zone's id.
func (d *declaration) given(domain string) *specs.Zone {
	var best *specs.Zone
	for _, z := range d.spec.Zones {
		if under(domain, z.Name) && (best == nil || len(z.Name) > len(best.Name)) {
			best = z
		}
	}
	if best == nil || best.ID == "" {
		return nil
	}
	return best
}

// ca is the ACME directory that certificates come from, "" for Let's Encrypt.
func (d *declaration) ca() string { return cmp.Or(d.spec.ACME.Directory, d.directory) }

func (d *declaration) record(domain string, r plan.Resource) {
	r.Provider, r.Kind = Name, kindRecord
	r.Attrs["zone_id"] = d.zone(domain, r.Origin)
	r.Attrs["ttl"] = plan.Int(recordTTL)
	if r.Attrs["proxied"].True() {
		r.Attrs["ttl"] = plan.Int(1) // the vendor decides
	}
	// Changing the name or type of a record in place fails when two records swap
	// them, and leaves the old name's caches behind either way.
	r.ReplaceOn = []string{"name", "type", "zone_id"}
	d.resources = append(d.resources, r)
}

// text wants a TXT record of a mail domain.
func (d *declaration) text(domain string, slot []string, name string, content plan.Value, effect string, origin specs.Range, after ...plan.Address) {
	d.record(domain, plan.Resource{
		Address:   plan.Addr(append([]string{"dns", domain}, slot...)...),
		Attrs:     plan.Attrs{"name": plan.String(name), "type": plan.String("TXT"), "content": content},
		DependsOn: after,
		Effect:    effect,
		Origin:    origin,
	})
}

// leadTo wants an address record that leads to a host, and gives its address. When
// another block wants the same record under the same name that one is given.
//
// Everything that leads to the host is an address record and no CNAME to its host
// name: a CNAME hides whatever else stands at its name, now or later, and the
// address reaches all of them by reference, in one transaction.
func (d *declaration) leadTo(h *specs.Host, domain, name string, r plan.Resource, proxied bool) plan.Address {
	kind, content := "A", plan.Unknown(plan.Addr("host", h.Name, "address-link"), "ip")
	if h.Instance == nil {
		content = plan.String(h.Address.String())
		if h.Address.Is6() {
			kind = "AAAA"
		}
	}
	r.Attrs = plan.Attrs{
		"name": plan.String(name), "type": plan.String(kind),
		"content": content, "proxied": plan.Bool(proxied),
	}
	if other, taken := d.addressOf[name]; taken {
		if !other.Attrs["content"].Equal(content) || !other.Attrs["proxied"].Equal(r.Attrs["proxied"]) {
			d.report(specs.SeverityError, "MF5230", name+" cannot lead to two places",
				string(other.Address)+" and "+string(r.Address)+" want different addresses for it, or one of them Cloudflare's proxies, which carry no mail. Give one of them another name.", r.Origin)
		}
		return other.Address
	}
	d.addressOf[name] = r
	d.record(domain, r)
	return r.Address
}

// host wants the address record of a mail host. It is never proxied: the vendor's
// proxies speak no SMTP and no IMAP.
func (d *declaration) host(h *specs.Host) {
	domain := d.spec.ZoneDomain(h.Hostname)
	d.leadTo(h, domain, h.Hostname, plan.Resource{
		Address:    plan.Addr("dns", domain, "a", h.Name),
		Interrupts: "clients that still have the old address in their cache cannot reach " + h.Hostname + " for up to 5 minutes",
		Effect:     h.Hostname + " has an address",
		Origin:     h.Range,
	}, false)
}

func (d *declaration) domain(dom *specs.Domain) {
	if h := d.spec.Host(dom.Host); h != nil {
		mx := plan.Resource{
			Address: plan.Addr("dns", dom.Name, "mx"),
			Attrs: plan.Attrs{
				"name": plan.String(dom.Name), "type": plan.String("MX"),
				"content": plan.String(h.Hostname), "priority": plan.Int(int64(dom.MX.Priority)),
			},
			// Mail comes only once the server answers and its name has an address.
			DependsOn: []plan.Address{plan.Addr("server", h.Name), d.addressOf[h.Hostname].Address},
			Effect:    "mail for " + dom.Name + " reaches " + h.Name,
			Origin:    dom.MX.Range,
		}
		if len(dom.Mailboxes) > 0 {
			mx.Protected = noMoreMail(dom.Name)
		}
		d.record(dom.Name, mx)
		d.mtaSTS(dom, h)
		d.discovery(dom, h)
	}
	if dom.SPF != nil {
		d.text(dom.Name, []string{"spf"}, dom.Name, plan.String(spfText(dom.SPF)),
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
			d.text(dom.Name, []string{"dkim", selector}, selector+"._domainkey."+dom.Name,
				plan.Unknown(plan.Addr("dkim", dom.Name, selector), "txt"),
				"receivers can verify signatures of "+dom.Name, dom.DKIM.Range)
		}
	}
	if dom.DMARC != nil {
		d.text(dom.Name, []string{"dmarc"}, "_dmarc."+dom.Name, plan.String(dmarcText(dom.DMARC)),
			"receivers know what to do with forged mail from "+dom.Name, dom.DMARC.Range)
		d.consent(dom)
	}
	if dom.TLSRPT != nil {
		d.text(dom.Name, []string{"tls-rpt"}, "_smtp._tls."+dom.Name,
			plan.String("v=TLSRPTv1; rua="+mailtoURIs(dom.TLSRPT.Reports)),
			"senders report about TLS with "+dom.Name, dom.TLSRPT.Range)
	}
}

// consent wants the records by which other domains of the spec agree to receive a
// domain's DMARC reports (RFC 7489 7.1). Others have to do that themselves, which is
// said where the spec is read.
func (d *declaration) consent(dom *specs.Domain) {
	seen := map[string]bool{}
	for _, address := range dom.DMARC.Reports {
		at := address[strings.LastIndexByte(address, '@')+1:]
		holder := d.spec.Holder(at)
		if seen[at] || holder == "" || !specs.NeedsConsent(dom.Name, at) {
			continue
		}
		seen[at] = true
		d.text(holder, []string{"dmarc-report", at, dom.Name}, specs.ConsentName(dom.Name, at), plan.String("v=DMARC1"),
			at+" agrees to receive the DMARC reports about "+dom.Name, dom.DMARC.Range)
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
		tags = append(tags, "rua="+mailtoURIs(d.Reports))
	}
	return strings.Join(tags, "; ")
}

// mailtoURIs lists addresses for reports. Comma and exclamation mark separate
// there and a semicolon ends the tag (RFC 7489 6.2, RFC 8460 3).
func mailtoURIs(addresses []string) string {
	uris := make([]string, len(addresses))
	for i, a := range addresses {
		uris[i] = "mailto:" + strings.NewReplacer(",", "%2C", "!", "%21", ";", "%3B").Replace(a)
	}
	return strings.Join(uris, ",")
}
