package specs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// checkDomains finds what is wrong with domains, apart from who gets which mail.
func (l *loader) checkDomains(b *built) {
	if len(b.domains) == 0 && len(b.hosts) == 0 && len(b.spec.Stack.Name) > 0 {
		n := first(b.root, "stack")
		l.warnAt(codeEmptySpec, n.header, hcl.Range{}, "the spec describes no host and no domain", "Applying it removes everything that this stack has made.")
		return
	}
	hosts, known := b.hostNames()
	seen, ours := map[string]*builtDomain{}, b.byName()
	serving := map[string]bool{}
	for _, d := range b.domains {
		if f := seen[d.Name]; f != nil && d.Name != "" {
			l.errorAt(codeDuplicateDomain, d.n.labels[0].at, hcl.Range{}, fmt.Sprintf("domain %q is defined twice", d.Name), fmt.Sprintf("It is first defined at %s. Put both into one block.", f.Range))
		} else {
			seen[d.Name] = d
		}
		if known && !d.n.values["host"].bad {
			l.checkServedBy(d, hosts)
		}
		serving[d.Host] = true
		l.checkSPF(ours, d)
		l.checkDKIM(d)
		l.checkReports(b, d)
	}
	for _, h := range b.hosts {
		if h.Name != "" && !serving[h.Name] {
			l.warnAt(codeIdleHost, h.n.header, hcl.Range{}, fmt.Sprintf("host %q serves no domain", h.Name), fmt.Sprintf("No domain has host = %q. It would be set up and receive nothing.", h.Name))
		}
	}
}

// checkServedBy settles which host serves a domain.
func (l *loader) checkServedBy(d *builtDomain, hosts []string) {
	d.Host = l.settleHost(d.n, d.Host, d.Name, hosts)
}

// settleHost is the host that a block names, or the only one there is.
func (l *loader) settleHost(n *node, host, what string, hosts []string) string {
	if n.given("host") && host != "" {
		if slices.Contains(hosts, host) {
			return host
		}
		detail := "The spec defines no host."
		if len(hosts) > 0 {
			detail = thereAre(hosts)
		}
		if near := spell(host, hosts); near != "" {
			detail = fmt.Sprintf("Did you mean %q?", near)
		}
		l.errorAt(codeUnknownHost, n.at("host"), n.header, fmt.Sprintf("no host %q", host), detail)
		return host
	}
	switch len(hosts) {
	case 1:
		return hosts[0]
	case 0:
		l.errorAt(codeUnknownHost, n.header, hcl.Range{}, fmt.Sprintf("nothing serves %s", what), "Define a host: host \"mx1\" { … }")
	default:
		l.errorAt(codeUnknownHost, n.header, hcl.Range{}, fmt.Sprintf("which host serves %s?", what), fmt.Sprintf("There are several, so the %s block must say: host = %q", n.schema.Name, hosts[0]))
	}
	return host
}

// hostNames are the names of the hosts; ok is false when one was refused, after
// which "no such host" would only confuse.
func (b *built) hostNames() (names []string, ok bool) {
	ok = true
	for _, h := range b.hosts {
		if h.Name == "" {
			ok = false
			continue
		}
		names = append(names, h.Name)
	}
	return names, ok
}

// SPF limits. RFC 7208 4.6.4: ten lookups; 3.4: a record should fit a DNS answer
// over UDP with its name, for which 450 bytes are the usual estimate; the DNS
// provider stores at most 2048 characters.
const (
	spfLookups = 10
	spfFits    = 450
	txtMost    = 2048
)

func (l *loader) checkSPF(ours map[string]*builtDomain, d *builtDomain) {
	if d.SPF == nil {
		return
	}
	n, _ := d.n.one("spf")
	if lookups := spfCost(ours, d, map[*builtDomain]bool{}); lookups > spfLookups {
		l.warnAt(codeSPFLookups, n.at("include"), n.header, fmt.Sprintf("the SPF record needs at least %d DNS lookups", lookups),
			"Receivers stop at ten and treat the record as broken (RFC 7208 4.6.4): mx is one, each include is one and adds those inside it. Use ip for services that publish fixed addresses.")
	}
	size := len("v=spf1 mx ") + len("?all")
	for _, i := range d.SPF.Include {
		size += len("include: ") + len(i)
	}
	for _, p := range d.SPF.IP {
		size += len("ip4: ") + len(p.String())
	}
	switch {
	case size > txtMost:
		l.errorAt(codeRecordTooLong, n.header, d.n.header, "the SPF record is too long", fmt.Sprintf("It would have %d bytes; %d can be stored. Use networks in place of single addresses.", size, txtMost))
	case size > spfFits:
		l.warnAt(codeLongSPF, n.header, d.n.header, fmt.Sprintf("the SPF record has %d bytes", size), "Above about 450 it may not fit a DNS answer over UDP, and some receivers will not see it (RFC 7208 3.4).")
	}
}

func (l *loader) checkDKIM(d *builtDomain) {
	if d.DKIM == nil {
		return
	}
	n, _ := d.n.one("dkim")
	if !n.values["algorithms"].bad && len(d.DKIM.Algorithms) == 0 && allGood(n.values["algorithms"]) {
		l.errorAt(codeAlgorithmConflict, n.at("algorithms"), n.header, "DKIM needs an algorithm", `Leave the attribute out for rsa2048 and ed25519. To sign nothing at all: manage = false`)
	}
	rsa, ed := 0, 0
	for _, a := range d.DKIM.Algorithms {
		if strings.HasPrefix(a, "rsa") {
			rsa++
		} else {
			ed++
		}
	}
	switch {
	case rsa > 1:
		l.errorAt(codeAlgorithmConflict, n.at("algorithms"), n.header, "one RSA key is enough", "rsa2048 is what every receiver can verify; rsa4096 makes a record that some DNS software cannot carry. Choose one.")
	case rsa == 0 && ed > 0:
		l.warnAt(codeEd25519Only, n.at("algorithms"), n.header, "Ed25519 alone is not enough", "Several large receivers do not verify Ed25519 (RFC 8463) yet and will see unsigned mail. Add \"rsa2048\".")
	}
	if d.DKIM.Selector == "" || d.Name == "" {
		return
	}
	if name := d.DKIM.Selector + "-ed25519._domainkey." + d.Name; len(name) > maxName {
		l.errorAt(codeRecordTooLong, n.header, d.n.header, "the name of the DKIM record is too long", fmt.Sprintf("%s has %d characters; DNS names have at most %d.", name, len(name), maxName))
	}
}

func allGood(v value) bool {
	for _, it := range v.items {
		if it.bad {
			return false
		}
	}
	return true
}

// checkReports warns about report addresses whose domain must first agree
// (RFC 7489 7.1): without the record there, receivers send nothing. A domain or zone
// of the spec gets that record.
func (l *loader) checkReports(b *built, d *builtDomain) {
	if d.DMARC == nil || d.Name == "" {
		return
	}
	n, _ := d.n.one("dmarc")
	for _, it := range n.values["reports"].items {
		r, ok := it.v.(string)
		if !ok {
			continue
		}
		_, at := splitAddress(full(r, d.Name))
		if !NeedsConsent(d.Name, at) || b.holds(at) {
			continue
		}
		l.warnAt(codeReportsElsewhere, it.at, n.header, fmt.Sprintf("%s must agree to receive these reports", at),
			fmt.Sprintf("Receivers send reports to another domain only if it publishes a TXT record \"v=DMARC1\" at %s (RFC 7489 7.1). It is not in this spec, so that its owner must do that; services for such reports have it for everybody: dig TXT %[1]s", ConsentName(d.Name, at)))
	}
}

// holds reports whether a name lies in a domain or a zone of the spec.
func (b *built) holds(name string) bool {
	return slices.ContainsFunc(b.domains, func(d *builtDomain) bool { return d.Name != "" && within(name, d.Name) }) ||
		slices.ContainsFunc(b.zones, func(z *builtZone) bool { return z.Name != "" && within(name, z.Name) })
}
