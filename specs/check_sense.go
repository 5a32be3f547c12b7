package specs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// checkSense finds what can be applied but would not do what people want of
// mail. All but the SPF circle are rules whose severity the spec may change.
func (l *loader) checkSense(b *built) {
	l.checkSPFCircles(b)
	l.checkRelayLoop(b)
	for _, h := range b.hosts {
		l.checkReachable(h)
		l.checkFiling(b, h)
	}
	for _, d := range b.domains {
		l.checkSenders(d)
		l.checkRelayed(b, d)
		l.checkPolicy(d)
		l.checkQuotas(b, d)
	}
}

// checkSPFCircles finds domains whose SPF records include each other: receivers
// give up on them (RFC 7208 4.6.4).
func (l *loader) checkSPFCircles(b *built) {
	ours := b.byName()
	state := map[string]uint8{}
	var walk func(name string, path []string)
	walk = func(name string, path []string) {
		d := ours[name]
		if d == nil || d.SPF == nil || state[name] == visitDone {
			return
		}
		if state[name] == visitOpen {
			path = path[slices.Index(path, name):]
			n, _ := d.n.one("spf")
			l.errorAt(codeSPFCircle, n.at("include"), n.header, fmt.Sprintf("the SPF record of %s includes itself", name),
				strings.Join(append(path, name), " → ")+". Receivers treat a circle as a broken record (RFC 7208 4.6.4) and may refuse all mail; take one of the steps out.")
			return
		}
		state[name] = visitOpen
		path = append(path, name)
		for _, i := range d.SPF.Include {
			walk(i, path)
		}
		state[name] = visitDone
	}
	for _, d := range b.domains {
		walk(d.Name, nil)
	}
}

// byName finds the domains of the spec; the first of two with one name counts.
func (b *built) byName() map[string]*builtDomain {
	m := map[string]*builtDomain{}
	for _, d := range b.domains {
		if d.Name != "" && m[d.Name] == nil {
			m[d.Name] = d
		}
	}
	return m
}

// spfCost is how many DNS lookups a domain's record takes at least: mx is one,
// and each include is one and, where it is ours, those inside it.
func spfCost(ours map[string]*builtDomain, d *builtDomain, open map[*builtDomain]bool) int {
	if d == nil || d.SPF == nil || open[d] {
		return 0
	}
	open[d] = true
	defer delete(open, d)
	n := 1
	for _, i := range d.SPF.Include {
		if n += 1 + spfCost(ours, ours[i], open); n > 2*spfLookups {
			break // far too many; how many exactly does not matter
		}
	}
	return n
}

// carrierNAT is shared by a provider's customers, RFC 6598.
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

func private(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || carrierNAT.Contains(a)
}

// checkReachable: the address is published in DNS, for everyone to connect to.
func (l *loader) checkReachable(h *builtHost) {
	if h.Address.IsValid() && private(h.Address) {
		l.warnAt(codePrivateAddress, h.n.at("address"), h.n.header, fmt.Sprintf("%s cannot be reached from the internet", h.Address),
			"It is an address of a private network. MX and A records would lead there, and nobody could deliver mail. Write the public address; SSH also goes there.")
	}
}

// webPorts are those that mainland China's carriers close without an ICP filing.
var webPorts = [...]int{80, 443, 8080, 8443}

func (l *loader) checkFiling(b *built, h *builtHost) {
	region := b.spec.AliCloud.Region
	if h.Instance == nil || !strings.HasPrefix(region, "cn-") || region == defaultRegion {
		return
	}
	const why = "In mainland China, web ports answer only for domains with an ICP filing; without one they are closed after a while. Mail ports are not concerned. A region outside, like cn-hongkong, needs none."
	for _, w := range b.onWeb(h.Name) {
		l.warnAt(codeNeedsFiling, w.at, w.n.header, fmt.Sprintf("%s needs an ICP filing in %s", w.name, region), "It is served on port 443. "+why)
	}
	for i, a := range h.n.blocks["allow"] {
		allow := h.Allow[i]
		for _, p := range webPorts {
			if allow.Protocol == "tcp" && allow.FromPort <= p && p <= allow.ToPort {
				l.warnAt(codeNeedsFiling, a.at("port"), a.header, fmt.Sprintf("port %d needs an ICP filing in %s", p, region), why)
				break
			}
		}
	}
}

// The widest networks that one sender can be thought to have.
const (
	widestSPF4 = 16
	widestSPF6 = 32
)

func (l *loader) checkSenders(d *builtDomain) {
	if d.SPF == nil {
		return
	}
	n, _ := d.n.one("spf")
	for _, it := range n.values["ip"].items {
		p, ok := it.v.(netip.Prefix)
		if !ok {
			continue
		}
		widest := widestSPF6
		if p.Addr().Is4() {
			widest = widestSPF4
		}
		switch {
		case p.Bits() < widest:
			l.warnAt(codeWideSPF, it.at, n.header, fmt.Sprintf("everyone in %s may send as %s", p, d.Name), "So wide a network holds strangers, whose forgeries would pass SPF and with it DMARC. Name the senders' own networks.")
		case private(p.Addr()):
			l.warnAt(codeWideSPF, it.at, n.header, fmt.Sprintf("receivers never see mail from %s", p), "It is an address of a private network. Receivers see the public address that mail leaves from.")
		}
	}
}

// checkRelayed: mail leaves from the relay's addresses, so SPF must name them.
func (l *loader) checkRelayed(b *built, d *builtDomain) {
	r := b.spec.Server.Relay
	if r == nil || r.Host == "" || d.Name == "" || d.SPF == nil || d.SPF.All == "neutral" || len(d.SPF.Include) > 0 {
		return
	}
	if ip, err := netip.ParseAddr(r.Host); err != nil && len(d.SPF.IP) > 0 ||
		err == nil && slices.ContainsFunc(d.SPF.IP, func(p netip.Prefix) bool { return p.Contains(ip.Unmap()) }) {
		return
	}
	n, written := d.n.one("spf")
	at := d.n.header
	if written {
		at = n.header
	}
	detail := "Its mail leaves through the relay, but the SPF record names only the host. Add what the relay tells you to: spf { include = [\"spf.relay.example\"] }."
	if d.DKIM == nil {
		detail += " Without DKIM nothing is left that DMARC could accept."
	}
	l.warnAt(codeRelayOutsideSPF, at, hcl.Range{}, fmt.Sprintf("%s may not send for %s", r.Host, d.Name), detail)
}

// checkRelayLoop: a host that relays to itself, or to another that relays back,
// never gets rid of a message.
func (l *loader) checkRelayLoop(b *built) {
	r := b.spec.Server.Relay
	if r == nil || r.Host == "" {
		return
	}
	ip, _ := netip.ParseAddr(r.Host)
	for _, h := range b.hosts {
		if h.Hostname == r.Host || h.Address.IsValid() && h.Address == ip.Unmap() || ip.IsLoopback() || r.Host == "localhost" {
			server, _ := b.root.one("server")
			n := first(server, "relay")
			l.errorAt(codeRelayLoop, n.at("host"), n.header, fmt.Sprintf("%s would relay to itself", r.Host),
				"All hosts of the spec send through the relay, so it cannot be one of them. Without a relay block they deliver by themselves.")
			return
		}
	}
}

// strictness orders DMARC's policies.
var strictness = map[string]int{"none": 0, "quarantine": 1, "reject": 2}

func (l *loader) checkPolicy(d *builtDomain) {
	if d.DMARC == nil {
		return
	}
	n, written := d.n.one("dmarc")
	at := d.n.header
	if written {
		at = n.header
	}
	if d.DMARC.Policy != "none" && d.DMARC.Policy != "" && d.SPF == nil && d.DKIM == nil {
		l.warnAt(codeNoAlignment, at, d.n.header, fmt.Sprintf("nothing lets mail from %s pass DMARC", d.Name),
			fmt.Sprintf("DMARC says %s to mail that passes neither SPF nor DKIM for the domain (RFC 7489 3.1), and the spec manages neither. Let it manage one of them, or set policy = \"none\" while records of your own do the work.", d.DMARC.Policy))
	}
	if sub := d.DMARC.SubdomainPolicy; sub != "" && strictness[sub] < strictness[d.DMARC.Policy] {
		l.warnAt(codeWeakSubdomains, n.at("subdomain_policy"), n.header, fmt.Sprintf("subdomains of %s can be forged", d.Name),
			fmt.Sprintf("The domain says %s, its subdomains %s: forgers take a subdomain, even one that does not exist. Leave subdomain_policy out unless one of them sends mail that cannot pass yet.", d.DMARC.Policy, sub))
	}
	if len(d.DMARC.Reports) > dmarcReports {
		l.warnAt(codeManyReports, n.at("reports"), n.header, fmt.Sprintf("reports go to %d addresses", len(d.DMARC.Reports)), "Receivers must serve two and may leave out the others (RFC 7489 6.2). Use an alias that leads to all of them.")
	}
	if size := len("v=DMARC1; p=quarantine; sp=quarantine; rua=") + len(",mailto:")*len(d.DMARC.Reports) + len(strings.Join(d.DMARC.Reports, "")); size > txtMost {
		l.errorAt(codeRecordTooLong, n.at("reports"), n.header, "the DMARC record is too long", fmt.Sprintf("It would have %d bytes; %d can be stored. Use an alias that leads to all of them.", size, txtMost))
	}
}

// dmarcReports is how many addresses every receiver serves, RFC 7489 6.2.
const dmarcReports = 2

// checkQuotas says once for each domain which quotas cannot be meant.
func (l *loader) checkQuotas(b *built, d *builtDomain) {
	var disk int64
	which := "system"
	for _, h := range b.hosts {
		if h.Name != d.Host || h.Instance == nil {
			continue
		}
		disk = int64(h.Instance.SystemDisk.SizeGiB) << 30
		if data := h.Instance.DataDisk; data != nil {
			disk, which = int64(data.SizeGiB)<<30, "data"
		}
	}
	message := b.spec.Server.MaxMessageBytes
	var small, large []*Mailbox
	for _, m := range d.Mailboxes {
		switch {
		case m.QuotaBytes == 0:
		case m.QuotaBytes < message:
			small = append(small, m)
		case disk > 0 && m.QuotaBytes > disk:
			large = append(large, m)
		}
	}
	if len(small) > 0 {
		n := d.mailboxes[small[0]]
		l.warnAt(codeSmallQuota, n.at("quota"), n.header, fmt.Sprintf("a message of %s does not fit %s", formatSize(message), andOthers(small)),
			fmt.Sprintf("The server accepts messages of up to %s (server.max_message_size), which is more than the quota holds even when it is empty.", formatSize(message)))
	}
	if d.QuotaBytes > 0 && d.QuotaBytes < message {
		l.warnAt(codeSmallQuota, d.n.at("quota"), d.n.header, fmt.Sprintf("a message of %s does not fit %s", formatSize(message), d.Name),
			fmt.Sprintf("The server accepts messages of up to %s (server.max_message_size), which is more than the domain's quota holds even when it is empty.", formatSize(message)))
	}
	if disk > 0 && d.QuotaBytes > disk {
		l.warnAt(codeLargeQuota, d.n.at("quota"), d.n.header, fmt.Sprintf("the quota of %s is larger than the disk", d.Name),
			fmt.Sprintf("The mail is on the %s disk of host %q, which has %s. A full disk stops everyone's mail; a quota stops one domain in time.", which, d.Host, formatSize(disk)))
	}
	if len(large) > 0 {
		n := d.mailboxes[large[0]]
		l.warnAt(codeLargeQuota, n.at("quota"), n.header, fmt.Sprintf("the quota of %s is larger than the disk", andOthers(large)),
			fmt.Sprintf("The mail is on the %s disk of host %q, which has %s. A full disk stops everyone's mail; a quota stops one mailbox in time.", which, d.Host, formatSize(disk)))
	}
}

func andOthers(ms []*Mailbox) string {
	switch len(ms) {
	case 1:
		return ms[0].Local
	case 2:
		return ms[0].Local + " and one more"
	}
	return fmt.Sprintf("%s and %d more", ms[0].Local, len(ms)-1)
}
