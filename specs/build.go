package specs

import (
	"net/netip"
	"sort"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// built keeps what the checks need beside the Spec: where everything stands.
type built struct {
	spec    *Spec
	root    *node
	hosts   []*builtHost // in source order
	domains []*builtDomain
	zones   []*builtZone
	web     map[string][]webName // by host; see settleWeb
}

type builtHost struct {
	*Host
	n *node
}

type builtDomain struct {
	*Domain
	n         *node
	mailboxes map[*Mailbox]*node
	aliases   map[*Alias]*node
}

// build turns the decoded spec into a Spec and checks what only the whole can show.
func (l *loader) build(root *node) *Spec {
	b := &built{root: root, spec: &Spec{secrets: map[string]string{}}}
	s := b.spec
	l.applyRules(root)
	if n := first(root, "stack"); n != nil {
		s.Stack = Stack{Name: n.label(), Contact: get[string](n, "contact"), Range: rangeOf(n.header)}
	}
	l.buildProviders(b)
	for _, n := range root.blocks["host"] {
		b.hosts = append(b.hosts, &builtHost{l.buildHost(n), n})
	}
	for _, n := range root.blocks["domain"] {
		b.domains = append(b.domains, l.buildDomain(b, n))
	}
	tls, _ := root.one("tls")
	s.TLS = TLS{Key: get[string](tls, "key"), RenewAfter: get[time.Duration](tls, "renew_before"), Range: rangeOf(tls.header)}
	l.buildServer(b)
	for _, n := range root.blocks["zone"] {
		b.zones = append(b.zones, buildZone(n))
	}
	l.buildOperation(b)

	l.checkDomains(b)
	l.settleWeb(b)
	l.checkHosts(b)
	l.checkRegion(b)
	l.checkZones(b)
	l.checkPolicies(b)
	l.checkOperation(b)
	l.checkMail(b)
	l.checkSense(b)

	for _, h := range b.hosts {
		s.Hosts = append(s.Hosts, h.Host)
	}
	for _, d := range b.domains {
		s.Domains = append(s.Domains, d.Domain)
		sort.SliceStable(d.Mailboxes, func(i, j int) bool { return d.Mailboxes[i].Local < d.Mailboxes[j].Local })
		sort.SliceStable(d.Aliases, func(i, j int) bool { return d.Aliases[i].Local < d.Aliases[j].Local })
	}
	sort.SliceStable(s.Hosts, func(i, j int) bool { return s.Hosts[i].Name < s.Hosts[j].Name })
	sort.SliceStable(s.Domains, func(i, j int) bool { return s.Domains[i].Name < s.Domains[j].Name })
	for _, z := range b.zones {
		s.Zones = append(s.Zones, z.Zone)
	}
	sort.SliceStable(s.Zones, func(i, j int) bool { return s.Zones[i].Name < s.Zones[j].Name })
	if s.Stack.Contact == "" && len(s.Domains) > 0 {
		s.Stack.Contact = "postmaster@" + s.Domains[0].Name
	}
	if len(s.Monitor.Alerts) == 0 && s.Stack.Contact != "" {
		s.Monitor.Alerts = []string{s.Stack.Contact}
	}
	return s
}

func first(n *node, block string) *node {
	if bs := n.blocks[block]; len(bs) > 0 {
		return bs[0]
	}
	return nil
}

func (l *loader) buildProviders(b *built) {
	seen := map[string]*node{}
	s := b.spec
	for _, n := range b.root.blocks["provider"] {
		if f := seen[n.schema.Name]; f != nil {
			l.errorAt(codeRepeatedBlock, n.header, hcl.Range{}, "a second provider \""+n.schema.Name+"\" block", "There may be one; the first is at "+rangeOf(f.header).String()+".")
			continue
		}
		seen[n.schema.Name] = n
		at := rangeOf(n.header)
		switch n.schema.Name {
		case "alicloud":
			s.AliCloud = AliCloud{Region: get[string](n, "region"), ECSEndpoint: get[string](n, "ecs_endpoint"), VPCEndpoint: get[string](n, "vpc_endpoint"), OSSEndpoint: get[string](n, "oss_endpoint"), Range: at}
		case "cloudflare":
			s.Cloudflare = Cloudflare{BaseURL: get[string](n, "base_url"), Range: at}
		case "acme":
			l.buildACME(b, n)
			s.CABundle, s.Resolver = get[string](n, "ca_bundle"), get[string](n, "resolver")
		}
	}
}

func (l *loader) buildACME(b *built, n *node) {
	a := ACME{CA: get[string](n, "ca"), Directory: get[string](n, "directory"), Issuer: get[string](n, "issuer"), Range: rangeOf(n.header)}
	if a.CA != "" && a.Directory != "" {
		l.errorAt(codeTwoAuthorities, n.at("directory"), n.header, "there are two certificate authorities, ca and directory", "Give one of them.")
	}
	if by, ok := authority(a.CA); ok {
		a.Directory = by.Directory
	}
	if e := first(n, "eab"); e != nil {
		a.EAB = &EAB{KeyID: get[string](e, "kid"), HMAC: get[string](e, "hmac_key"), Range: rangeOf(e.header)}
		b.spec.keep(a.EAB.HMAC)
		l.readable(e, "hmac_key", "the key of the account binding", "acme_hmac_key")
	}
	b.spec.ACME = a
}

func (l *loader) buildHost(n *node) *Host {
	h := &Host{Name: n.label(), Hostname: get[string](n, "hostname"), Address: get[netip.Addr](n, "address"), Range: rangeOf(n.header)}
	if i := first(n, "instance"); i != nil {
		h.Instance = buildInstance(i)
	}
	ssh, _ := n.one("ssh")
	h.SSH = SSH{
		User: get[string](ssh, "user"), Port: int(get[int64](ssh, "port")), From: unique(list[netip.Prefix](ssh, "from")),
		AuthorizedKeys: unique(list[string](ssh, "authorized_keys")), HostKey: get[string](ssh, "host_key"), Range: rangeOf(ssh.header),
		UserUnset: !ssh.given("user"), PortUnset: !ssh.given("port"),
	}
	if len(h.SSH.From) == 0 {
		h.SSH.From = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	firewall, _ := n.one("firewall")
	h.Exclusive = get[bool](firewall, "exclusive")
	h.Firewall = choice(firewall, "host", h.Instance != nil)
	h.Tune = choice(n, "tune", h.Instance != nil)
	h.SSH.Harden = choice(ssh, "harden", h.Instance != nil)
	for _, a := range n.blocks["allow"] {
		p := get[portRange](a, "port")
		h.Allow = append(h.Allow, Allow{Name: a.label(), Protocol: get[string](a, "protocol"), FromPort: p.from, ToPort: p.to,
			From: unique(list[netip.Prefix](a, "from")), Range: rangeOf(a.header)})
	}
	return h
}

// choice is a bool whose default depends on something else.
func choice(n *node, name string, byDefault bool) bool {
	if n.given(name) {
		return get[bool](n, name)
	}
	return byDefault
}

func buildInstance(i *node) *Instance {
	disk, _ := i.one("system_disk")
	ip, _ := i.one("public_ip")
	out := &Instance{
		Type: get[string](i, "type"), Zone: get[string](i, "zone"), Image: get[string](i, "image"),
		Instead: unique(list[string](i, "fallback_types")), RAMRole: get[string](i, "ram_role"),
		SystemDisk: buildDisk(disk), Bandwidth: get[int](ip, "bandwidth"), ChargeBy: get[string](ip, "charge_by"), Range: rangeOf(i.header),
	}
	if d := first(i, "data_disk"); d != nil {
		out.DataDisk = &DataDisk{Disk: buildDisk(d), Range: rangeOf(d.header)}
		if s := first(d, "snapshots"); s != nil {
			out.DataDisk.Snapshots = &Snapshots{Hour: get[int](s, "at"), Days: get[int](s, "keep"), Range: rangeOf(s.header)}
		}
	}
	return out
}

func buildDisk(n *node) Disk {
	return Disk{Category: get[string](n, "category"), SizeGiB: get[int](n, "size"), Encrypted: get[bool](n, "encrypted")}
}

func (l *loader) buildDomain(b *built, n *node) *builtDomain {
	d := &Domain{Name: n.label(), Host: get[string](n, "host"), CatchAll: get[string](n, "catch_all"),
		QuotaBytes: get[int64](n, "quota"), QuotaMessages: get[int64](n, "quota_messages"),
		Discovery: get[bool](n, "discovery"), DANE: get[bool](n, "dane"), Range: rangeOf(n.header)}
	out := &builtDomain{Domain: d, n: n, mailboxes: map[*Mailbox]*node{}, aliases: map[*Alias]*node{}}
	mx, _ := n.one("mx")
	d.MX = MX{Priority: int(get[int64](mx, "priority")), Range: rangeOf(mx.header)}
	if spf, _ := n.one("spf"); get[bool](spf, "manage") {
		d.SPF = &SPF{Include: unique(list[string](spf, "include")), IP: unique(list[netip.Prefix](spf, "ip")), All: get[string](spf, "all"), AllUnset: !spf.given("all"), Range: rangeOf(spf.header)}
	}
	if dkim, _ := n.one("dkim"); get[bool](dkim, "manage") {
		d.DKIM = &DKIM{Selector: get[string](dkim, "selector"), Algorithms: unique(list[string](dkim, "algorithms")),
			Rotate: get[time.Duration](dkim, "rotate"), Range: rangeOf(dkim.header)}
	}
	if dmarc, _ := n.one("dmarc"); get[bool](dmarc, "manage") {
		d.DMARC = &DMARC{Policy: get[string](dmarc, "policy"), SubdomainPolicy: get[string](dmarc, "subdomain_policy"), Range: rangeOf(dmarc.header)}
		d.DMARC.Reports = recipients(dmarc, "reports", d.Name)
	}
	if m := first(n, "mta_sts"); m != nil {
		d.MTASTS = &MTASTS{Mode: get[string](m, "mode"), MaxAge: get[time.Duration](m, "max_age"), Range: rangeOf(m.header)}
	}
	if r := first(n, "tls_rpt"); r != nil {
		d.TLSRPT = &TLSRPT{Reports: recipients(r, "reports", d.Name), Range: rangeOf(r.header)}
	}
	for _, m := range n.blocks["mailbox"] {
		box := &Mailbox{Local: m.label(), Name: get[string](m, "name"), QuotaBytes: get[int64](m, "quota"), QuotaMessages: get[int64](m, "quota_messages"),
			PasswordHash: get[string](m, "password_hash"), Aliases: list[string](m, "aliases"), Range: rangeOf(m.header)}
		sort.Strings(box.Aliases)
		b.spec.keep(box.PasswordHash)
		d.Mailboxes = append(d.Mailboxes, box)
		out.mailboxes[box] = m
	}
	for _, r := range n.blocks["retention"] {
		box := get[string](r, "mailbox")
		if strings.EqualFold(box, "INBOX") {
			box = "INBOX"
		}
		d.Retention = append(d.Retention, Retention{Name: r.label(), Mailbox: box, After: get[time.Duration](r, "after"), Range: rangeOf(r.header)})
	}
	for _, a := range n.blocks["alias"] {
		alias := &Alias{Local: a.label(), To: recipients(a, "to", d.Name), Range: rangeOf(a.header)}
		d.Aliases = append(d.Aliases, alias)
		out.aliases[alias] = a
	}
	return out
}

// keep files a secret under its fingerprint.
func (s *Spec) keep(secret string) {
	if secret != "" {
		s.secrets[Fingerprint(secret)] = secret
	}
}

// full completes a local part with its domain.
func full(recipient, domain string) string {
	if strings.Contains(recipient, "@") {
		return recipient
	}
	return recipient + "@" + domain
}

// recipients are the full addresses of a list of recipients, each once.
func recipients(n *node, name, domain string) []string {
	var out []string
	for _, r := range list[string](n, name) {
		out = append(out, full(r, domain))
	}
	return unique(out)
}

// unique keeps the first of equal elements, in order.
func unique[T comparable](in []T) []T {
	seen := make(map[T]bool, len(in))
	var out []T
	for _, v := range in {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}
