package cloudflare

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
	"mailform/specs"
)

// What is said here about a server is true only once it answers, so it is
// published after the server, in a transaction that nothing else waits for.

// mtaSTS wants the records of a policy by which senders insist on TLS, RFC 8461.
// The one that makes them look for the policy comes only when the host serves it
// under a certificate.
func (d *declaration) mtaSTS(dom *specs.Domain, h *specs.Host) {
	if dom.MTASTS == nil {
		return
	}
	host := d.leadTo(h, dom.Name, manifest.MTASTSName(dom.Name), plan.Resource{
		Address: plan.Addr("dns", dom.Name, "mta-sts-host"),
		Effect:  "senders find the host with the TLS policy of " + dom.Name,
		Origin:  dom.MTASTS.Range,
	}, false)
	effect := "senders use TLS with the host of " + dom.Name + " and nobody else"
	if dom.MTASTS.Mode != "enforce" {
		effect = "senders know the TLS policy of " + dom.Name + ", mode " + dom.MTASTS.Mode
	}
	d.text(dom.Name, []string{"mta-sts"}, "_mta-sts."+dom.Name,
		plan.String("v=STSv1; id="+policyID(dom.MTASTS, h.Hostname)),
		effect, dom.MTASTS.Range,
		append(served(h), host)...)
}

// served is what must be there before somebody is led to a name of a host's by HTTPS:
// the server, and the certificate that holds the name. Where a host has several the
// provider of certificates knows which.
func served(h *specs.Host) []plan.Address {
	return []plan.Address{plan.Addr("server", h.Name), plan.Addr("cert", h.Name)}
}

// policyID is the id of a policy: 1 to 32 letters and digits that change exactly
// when the text of the policy does (RFC 8461 3.1).
func policyID(m *specs.MTASTS, hostname string) string {
	text := manifest.PolicyText(hostname, manifest.MTASTS{Mode: m.Mode, MaxAgeSeconds: int64(m.MaxAge / time.Second)})
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:10])
}

// discoverable are the services that mail programs look for by SRV record
// (RFC 6186 3, RFC 8314 5.1), with the priority of each: TLS from the first byte
// is preferred to STARTTLS (RFC 8314 3).
var discoverable = []struct {
	service  string
	priority int64
}{{"submissions", 0}, {"submission", 10}, {"imaps", 0}, {"imap", 10}, {"pop3s", 0}, {"pop3", 10}}

// discovery wants the records by which mail programs set themselves up.
func (d *declaration) discovery(dom *specs.Domain, h *specs.Host) {
	if !dom.Discovery {
		return
	}
	offered := manifest.Services()
	if d.spec.Server.POP3 != nil {
		offered = append(offered, manifest.POP3Services()...)
	}
	for _, s := range discoverable {
		// RFC 6186 3.4: "." says that the service is not offered.
		content, effect := srvContent(0, 0, 0, "."), "mail programs know that "+dom.Name+" has no "+s.service
		at := slices.IndexFunc(offered, func(o manifest.ServicePort) bool { return o.Name == s.service })
		if at >= 0 {
			content = srvContent(s.priority, 1, int64(offered[at].Port), h.Hostname)
			effect = "mail programs find " + s.service + " of " + dom.Name
		}
		d.record(dom.Name, plan.Resource{
			Address: plan.Addr("dns", dom.Name, "srv", s.service),
			Attrs: plan.Attrs{
				"name": plan.String("_" + s.service + "._tcp." + dom.Name), "type": plan.String("SRV"),
				"content": plan.String(content),
			},
			DependsOn: []plan.Address{plan.Addr("server", h.Name), d.addressOf[h.Hostname].Address},
			Effect:    effect,
			Origin:    dom.Range,
		})
	}
	for _, w := range []struct{ slot, name string }{
		{"autoconfig", manifest.AutoconfigName(dom.Name)}, {"autodiscover", manifest.AutodiscoverName(dom.Name)},
	} {
		d.leadTo(h, dom.Name, w.name, plan.Resource{
			Address:   plan.Addr("dns", dom.Name, w.slot),
			DependsOn: served(h),
			Effect:    "mail programs find their settings for " + dom.Name,
			Origin:    dom.Range,
		}, false)
	}
}

// daneEE begins the TLSA records of mail servers (RFC 7672 3.1): usage 3 and
// selector 1, the server's own key; matching type 1, its SHA-256.
const daneEE = "3 1 1 "

// tlsa wants one record for each host that serves a domain with DANE. It follows the key, not the certificate, and so stays as long as renewals keep the key.
func (d *declaration) tlsa() {
	for _, h := range d.spec.Hosts {
		i := slices.IndexFunc(d.spec.Domains, func(dom *specs.Domain) bool { return dom.DANE && dom.Host == h.Name })
		if i < 0 {
			continue
		}
		domain := d.spec.ZoneDomain(h.Hostname)
		d.record(domain, plan.Resource{
			Address: plan.Addr("dns", domain, "tlsa", h.Name),
			Attrs: plan.Attrs{
				"name": plan.String("_25._tcp." + h.Hostname), "type": plan.String("TLSA"),
				"content": plan.Concat(plan.String(daneEE), plan.Unknown(plan.Addr("cert", h.Name), "spki")),
			},
			DependsOn: []plan.Address{plan.Addr("server", h.Name)},
			Effect:    "senders that verify DANE know the key of " + h.Hostname,
			Origin:    d.spec.Domains[i].Range,
		})
	}
}
