package cloudflare

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
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
	served := d.leadTo(h, dom.Name, manifest.MTASTSName(dom.Name), plan.Resource{
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
		plan.Addr("server", h.Name), plan.Addr("cert", h.Name), served)
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
	for _, s := range discoverable {
		// RFC 6186 3.4: "." says that the service is not offered.
		content, effect := srvContent(0, 0, 0, "."), "mail programs know that "+dom.Name+" has no "+s.service
		at := slices.IndexFunc(manifest.Services(), func(o manifest.ServicePort) bool { return o.Name == s.service })
		if at >= 0 {
			content = srvContent(s.priority, 1, int64(manifest.Services()[at].Port), h.Hostname)
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
			Address: plan.Addr("dns", dom.Name, w.slot),
			Effect:  "mail programs find their settings for " + dom.Name,
			Origin:  dom.Range,
		}, false)
	}
}

// tlsa wants one record for each host that serves a domain with DANE (RFC 7672 3.1):
// usage 3, selector 1, matching type 1, the SHA-256 of the certificate's key. It
// follows the key, not the certificate, and so stays as long as renewals keep the key.
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
				"content": plan.Concat(plan.String("3 1 1 "), plan.Unknown(plan.Addr("cert", h.Name), "spki")),
			},
			DependsOn: []plan.Address{plan.Addr("server", h.Name)},
			Effect:    "senders that verify DANE know the key of " + h.Hostname,
			Origin:    d.spec.Domains[i].Range,
		})
	}
}

// block wants what a zone block says.
func (d *declaration) block(z *specs.Zone) {
	d.zone(z.Name, z.Range)
	d.caa(z)
	for i := range z.Web {
		d.web(z, &z.Web[i])
	}
	d.security(z)
}

// web wants a name that leads to a host's web service.
func (d *declaration) web(z *specs.Zone, w *specs.Web) {
	h := d.spec.Host(w.Host)
	if h == nil {
		return // reported where the spec is read
	}
	name := z.Name
	if w.Name != "@" {
		name = canonicalName(w.Name) + "." + z.Name
	}
	effect := name + " leads to the web service of " + h.Name
	if w.Proxied {
		effect += " through Cloudflare"
	}
	d.leadTo(h, z.Name, name, plan.Resource{
		Address: plan.Addr("dns", z.Name, "web", w.Name), Effect: effect, Origin: w.Range,
	}, w.Proxied)
}

// knownIssuers are the names that CAs have in CAA records, by the host of their
// ACME directory.
var knownIssuers = map[string]string{
	"acme-v02.api.letsencrypt.org":         "letsencrypt.org",
	"acme-staging-v02.api.letsencrypt.org": "letsencrypt.org",
	"acme.zerossl.com":                     "sectigo.com",
	"dv.acme-v02.api.pki.goog":             "pki.goog",
	"acme.ssl.com":                         "ssl.com",
}

// issuerOf gives the CAA name of the CA behind an ACME directory, "" when it is
// not known.
func issuerOf(directory string) string {
	if directory == "" {
		return "letsencrypt.org"
	}
	rest := directory
	if _, after, ok := strings.Cut(directory, "://"); ok {
		rest = after
	}
	host, _, _ := strings.Cut(rest, "/")
	return knownIssuers[strings.ToLower(host)]
}

// caa wants the records that say who may issue certificates for a zone (RFC 8659).
// The CA of our own certificates is always among them.
func (d *declaration) caa(z *specs.Zone) {
	if len(z.CAA) == 0 {
		return
	}
	directory := d.spec.ACME.Directory
	if directory == "" {
		directory = d.directory
	}
	values := slices.Clone(z.CAA)
	if own := issuerOf(directory); own != "" {
		values = append(values, own)
	} else {
		d.report(specs.SeverityWarning, "MF5231", "the name of the CA at "+directory+" in CAA records is not known",
			"The zone "+z.Name+" lets only those issue certificates that its caa names. The name of the CA from which mailform gets certificates must be among them, or it will refuse; its documentation says what it is.", z.Range)
	}
	seen := map[string]bool{}
	for _, v := range values {
		content := caaContent(0, "issue", v)
		by := issuer(content)
		if by == "" || seen[by] {
			continue
		}
		seen[by] = true
		d.record(z.Name, plan.Resource{
			Address: plan.Addr("dns", z.Name, "caa", by),
			Attrs:   plan.Attrs{"name": plan.String(z.Name), "type": plan.String("CAA"), "content": plan.String(content)},
			Effect:  fmt.Sprintf("%s may issue certificates for %s", by, z.Name),
			Origin:  z.Range,
		})
	}
}
