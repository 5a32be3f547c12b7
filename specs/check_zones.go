package specs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// webPort is where hosts serve the web, be it policies or people.
const webPort = 443

// webName is a name that a host serves on port 443, and what asks for it.
type webName struct {
	name    string
	host    string
	proxied bool
	policy  bool // of MTA-STS or for mail programs, made by itself
	at      hcl.Range
	n       *node
}

// webNames are all names on port 443, those made by themselves first.
func (b *built) webNames() []webName {
	var out []webName
	for _, d := range b.domains {
		if d.Name == "" {
			continue
		}
		if m := first(d.n, "mta_sts"); m != nil {
			out = append(out, webName{name: "mta-sts." + d.Name, host: d.Host, policy: true, at: m.header, n: d.n})
		}
		if d.Discovery {
			for _, label := range [...]string{"autoconfig.", "autodiscover."} {
				out = append(out, webName{name: label + d.Name, host: d.Host, policy: true, at: d.n.at("discovery"), n: d.n})
			}
		}
	}
	for _, z := range b.zones {
		for i, w := range z.n.blocks["web"] {
			if z.Name != "" && z.Web[i].Name != "" {
				out = append(out, webName{name: fullName(z.Web[i].Name, z.Name), host: z.Web[i].Host, proxied: z.Web[i].Proxied, at: w.labels[0].at, n: w})
			}
		}
	}
	return out
}

// onWeb are the names that a host serves on port 443.
func (b *built) onWeb(host string) []webName { return b.web[host] }

// direct are those that everyone must reach without Cloudflare.
func (b *built) direct(host string) []webName {
	var out []webName
	for _, w := range b.web[host] {
		if !w.proxied {
			out = append(out, w)
		}
	}
	return out
}

// fullName is a web name with its zone.
func fullName(name, zone string) string {
	if name == "@" {
		return zone
	}
	return name + "." + zone
}

// settleWeb finds the host of every web name, when those of the domains are known.
func (l *loader) settleWeb(b *built) {
	hosts, known := b.hostNames()
	for _, z := range b.zones {
		for i, w := range z.n.blocks["web"] {
			if known && !w.values["host"].bad && z.Web[i].Name != "" {
				z.Web[i].Host = l.settleHost(w, z.Web[i].Host, fullName(z.Web[i].Name, z.Name), hosts)
			}
		}
	}
	b.web = map[string][]webName{}
	for _, w := range b.webNames() {
		b.web[w.host] = append(b.web[w.host], w)
	}
}

// checkZones finds what is wrong with zone blocks.
func (l *loader) checkZones(b *built) {
	seen, byID := map[string]*builtZone{}, map[string]*builtZone{}
	for _, z := range b.zones {
		if z.Name == "" {
			continue
		}
		if f := byID[z.ID]; f != nil && z.ID != "" && f.Name != z.Name {
			l.errorAt(codeDuplicateZone, z.n.at("id"), z.n.header, fmt.Sprintf("zone %s has the id of zone %s", z.Name, f.Name), fmt.Sprintf("The other is defined at %s. No two zones have the same id.", f.Range))
		}
		byID[z.ID] = z
		if f := seen[z.Name]; f != nil {
			l.errorAt(codeDuplicateZone, z.n.labels[0].at, hcl.Range{}, fmt.Sprintf("zone %q is defined twice", z.Name), fmt.Sprintf("It is first defined at %s. Put both into one block.", f.Range))
			continue
		}
		seen[z.Name] = z
		l.checkZoneUse(b, z)
		l.checkZoneSecurity(z)
		l.checkZoneLabels(z, "web")
		l.checkZoneLabels(z, "rule")
	}
	l.checkWebNames(b)
}

// checkZoneLabels finds two web names or rules of one name.
func (l *loader) checkZoneLabels(z *builtZone, kind string) {
	seen := map[string]*node{}
	for _, n := range z.n.blocks[kind] {
		name := n.label()
		if f := seen[name]; f != nil && name != "" {
			l.errorAt(codeDuplicateZone, n.labels[0].at, z.n.header, fmt.Sprintf("%s %q is defined twice", kind, name), fmt.Sprintf("It is first defined at %s.", rangeOf(f.header)))
		}
		seen[name] = n
		if kind == "web" && within(name, z.Name) {
			l.errorAt(codeBadHostname, n.labels[0].at, z.n.header, fmt.Sprintf("%s would be published as %s", name, fullName(name, z.Name)),
				fmt.Sprintf("Write the name without the zone: %q.", strings.TrimSuffix(strings.TrimSuffix(name, z.Name), ".")+atIfApex(name, z.Name)))
		}
	}
}

func atIfApex(name, zone string) string {
	if name == zone {
		return "@"
	}
	return ""
}

func (l *loader) checkZoneUse(b *built, z *builtZone) {
	if len(b.domains) == 0 || slices.ContainsFunc(b.domains, func(d *builtDomain) bool { return d.Name == "" || within(d.Name, z.Name) }) {
		return
	}
	var names []string
	for _, d := range b.domains {
		names = append(names, d.Name)
	}
	detail := "Its settings are managed all the same. If it is not meant for the web alone, look for a typing error."
	if near := spell(z.Name, names); near != "" {
		detail = fmt.Sprintf("Did you mean %q?", near)
	}
	l.warnAt(codeIdleZone, z.n.labels[0].at, hcl.Range{}, fmt.Sprintf("no mail domain of the spec is in zone %s", z.Name), detail)
}

// freeRules is how many custom rules Cloudflare's free plan has.
// https://developers.cloudflare.com/waf/custom-rules/
const freeRules = 5

func (l *loader) checkZoneSecurity(z *builtZone) {
	proxied := slices.ContainsFunc(z.Web, func(w Web) bool { return w.Proxied })
	if proxied && z.SSL != "" && z.SSL != "strict" {
		why := map[string]string{
			"off":      "Visitors would not even be offered TLS.",
			"flexible": "Between Cloudflare and the host everything would travel readable, and to port 80, where no host of mailform answers.",
			"full":     "Whoever sits between Cloudflare and the host can pose as the host.",
		}[z.SSL]
		l.warnAt(codeWeakOrigin, z.n.at("ssl"), z.n.header, fmt.Sprintf("ssl = %q does not protect the way to the host", z.SSL),
			why+" mailform's hosts have a certificate that Cloudflare can check: ssl = \"strict\".")
	}
	if z.MinTLS == "1.0" || z.MinTLS == "1.1" {
		l.warnAt(codeOldTLS, z.n.at("min_tls"), z.n.header, fmt.Sprintf("TLS %s must not be used any more", z.MinTLS), "RFC 8996 forbids 1.0 and 1.1, and no browser of the last years needs them. Write \"1.2\".")
	}
	if len(z.Rules) > freeRules {
		n := z.n.blocks["rule"][freeRules]
		l.warnAt(codeManyZoneRules, n.header, z.n.header, fmt.Sprintf("zone %s has %d rules", z.Name, len(z.Rules)), fmt.Sprintf("Cloudflare's free plan has %d for each zone; rules are joined with \"or\". Paid plans have more.", freeRules))
	}
}

// checkWebNames holds web names against those that mail needs. The name of an MX
// is an address record of its own (RFC 5321 5.1, RFC 2181 10.3), and Cloudflare's
// proxies carry no mail.
func (l *loader) checkWebNames(b *built) {
	byHostname := map[string]*builtHost{}
	for _, h := range b.hosts {
		if h.Hostname != "" {
			byHostname[h.Hostname] = h
		}
	}
	made := map[string]webName{}
	warned := map[string]bool{}
	for _, w := range b.webNames() {
		h := byHostname[w.name]
		switch {
		case h == nil:
		case w.policy && h.Name != w.host:
			l.errorAt(codeMailNameTaken, h.n.at("hostname"), h.n.header, fmt.Sprintf("%s is needed on host %q", w.name, w.host), fmt.Sprintf("%s asks for it at %s. Give this host another name.", w.n.header, rangeOf(w.at)))
		case w.proxied:
			l.errorAt(codeMailNameTaken, w.at, w.n.header, fmt.Sprintf("%s is the name of a mail host", w.name),
				fmt.Sprintf("MX records lead to it, and Cloudflare's proxies carry no mail. Give the web a name of its own, or write proxied = false. The host is at %s.", h.Range))
		case h.Name != w.host:
			l.errorAt(codeMailNameTaken, w.at, w.n.header, fmt.Sprintf("%s is the name of host %q", w.name, h.Name), fmt.Sprintf("It cannot lead to %q, too. Give the web a name of its own.", w.host))
		}
		if w.policy {
			made[w.name] = w
			continue
		}
		if m, taken := made[w.name]; taken && (w.proxied || m.host != w.host) {
			l.errorAt(codeMailNameTaken, w.at, w.n.header, fmt.Sprintf("%s is published by itself", w.name), fmt.Sprintf("What is written at %s needs the name, and senders and mail programs reach it without Cloudflare. Leave this block out.", rangeOf(m.at)))
			continue
		}
		if direct := b.direct(w.host); w.proxied && h == nil && len(direct) > 0 && !warned[w.host] && w.host != "" {
			warned[w.host] = true
			l.warnAt(codeOpenOrigin, w.at, w.n.header, fmt.Sprintf("visitors can reach %s without Cloudflare", w.name),
				fmt.Sprintf("Port 443 of host %q must be open to everyone for %s, so the zone's rules can be gone around. Behind it, do not rely on them alone.", w.host, direct[0].name))
		}
	}
}
