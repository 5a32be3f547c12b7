package adopt

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailform/plan"
	"mailform/providers/cloudflare"
	"mailform/specs"
)

// Instances turns the hosts that the cloud's objects show to be instances of the
// stack into such. It goes before Complete, because a host is asked in another
// way when it is an instance.
func Instances(s *specs.Spec, objects []plan.Object) {
	at := byAddress(objects)
	for _, h := range s.Hosts {
		if _, ok := at[plan.Addr("host", h.Name, "instance")]; ok {
			h.Instance, h.Address = &specs.Instance{}, netip.Addr{}
		}
	}
}

func byAddress(objects []plan.Object) map[plan.Address]plan.Object {
	at := map[plan.Address]plan.Object{}
	for _, o := range objects {
		if _, twice := at[o.Address]; !twice && o.Owner == plan.Ours {
			at[o.Address] = o
		}
	}
	return at
}

// Complete fills a spec that Begin made with what was observed through it.
func Complete(s *specs.Spec, objects []plan.Object) (notes []string) {
	c := &completion{spec: s, at: byAddress(objects)}
	for _, h := range s.Hosts {
		c.host(h)
	}
	for _, d := range s.Domains {
		c.domain(d)
	}
	c.zones()
	return c.notes
}

type completion struct {
	spec  *specs.Spec
	at    map[plan.Address]plan.Object
	notes []string
}

// note tells the person something, once for all hosts.
func (c *completion) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(c.notes, text) {
		c.notes = append(c.notes, text)
	}
}

func (c *completion) get(segments ...string) (plan.Object, bool) {
	o, ok := c.at[plan.Addr(segments...)]
	return o, ok
}

func (c *completion) host(h *specs.Host) {
	if h.Instance != nil {
		c.instance(h)
	}
	server, ok := c.get("server", h.Name)
	h.SSH.Harden, h.Firewall, h.Tune = server.Attrs["harden_ssh"].True(), !server.Attrs["firewall"].IsNull(), !server.Attrs["tuning"].IsNull()
	if !ok {
		h.SSH.Harden, h.Firewall, h.Tune = h.Instance != nil, h.Instance != nil, h.Instance != nil // what the spec would say by itself
		c.note("no mailformd of this stack answers on %s: its mailboxes are not known, and apply would install it there", h.Hostname)
		return
	}
	c.server(server.Attrs)
	if cert, ok := c.get("cert", h.Name); ok {
		c.spec.TLS.Key = cert.Attrs["key"].Str()
	}
}

func (c *completion) instance(h *specs.Host) {
	o, _ := c.get("host", h.Name, "instance")
	in := h.Instance
	in.Type = o.Attrs["type"].Str()
	in.Zone = o.Outputs["zone"].Str()
	in.Image = o.Outputs["image_id"].Str()
	in.RAMRole = o.Attrs["ram_role"].Str()
	in.SystemDisk.SizeGiB = int(o.Attrs["system_disk_gib"].Num())
	if key, ok := c.get("host", h.Name, "ssh-key"); ok {
		if k := key.Attrs["public_key"].Str(); k != "" {
			h.SSH.AuthorizedKeys = []string{k}
		}
	}
	if ip, ok := c.get("host", h.Name, "address"); ok {
		in.Bandwidth, in.ChargeBy = int(ip.Attrs["bandwidth"].Num()), ip.Attrs["charge_by"].Str()
	}
	if d, ok := c.get("host", h.Name, "data-disk"); ok {
		in.DataDisk = &specs.DataDisk{Disk: specs.Disk{
			Category: d.Attrs["category"].Str(), SizeGiB: int(d.Attrs["size_gib"].Num()), Encrypted: d.Attrs["encrypted"].True(),
		}}
		if p, ok := c.get("host", h.Name, "snapshots"); ok {
			in.DataDisk.Snapshots = &specs.Snapshots{Hour: int(p.Attrs["hour"].Num()), Days: int(p.Attrs["days"].Num())}
		}
	}
	if f, ok := c.get("host", h.Name, "firewall"); ok {
		c.firewall(h, f.Attrs["rules"])
	}
}

// firewall reads the rules beyond those that follow from the rest of a spec. A
// rule's name is that of the block it comes from.
func (c *completion) firewall(h *specs.Host, rules plan.Value) {
	h.SSH.From, h.Allow = nil, nil
	for _, r := range rules.Items() {
		name := r.Field("name").Str()
		from, to, err := ports(r.Field("ports").Str())
		source, perr := netip.ParsePrefix(r.Field("source").Str())
		if err != nil || perr != nil {
			c.note("the rule %s of %s could not be read: %v", name, h.Name, cmp.Or(err, perr))
			continue
		}
		switch name {
		case "smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "https":
		case "ssh":
			h.SSH.Port = from
			h.SSH.From = append(h.SSH.From, source)
		default:
			at := slices.IndexFunc(h.Allow, func(a specs.Allow) bool { return a.Name == name })
			if at < 0 {
				at = len(h.Allow)
				h.Allow = append(h.Allow, specs.Allow{Name: name, Protocol: r.Field("protocol").Str(), FromPort: from, ToPort: to})
			}
			h.Allow[at].From = append(h.Allow[at].From, source)
		}
	}
	if len(h.SSH.From) == 0 {
		h.SSH.From = anywhere()
	}
}

// ports reads "25/25" or "8000/8010".
func ports(s string) (from, to int, err error) {
	a, b, _ := strings.Cut(s, "/")
	if from, err = strconv.Atoi(a); err == nil {
		to, err = strconv.Atoi(b)
	}
	return from, to, err
}

func (c *completion) server(a plan.Attrs) {
	s := &c.spec.Server
	s.MaxMessageBytes = a["max_message_bytes"].Num()
	s.SCRAM = a["scram"].IsNull()
	if l := a["limits"]; !l.IsNull() {
		s.Limits = specs.Limits{
			Connections: count(l, "connections"), ConnectionsPerClient: count(l, "connections_per_client"),
			RecipientsPerMessage: count(l, "recipients_per_message"), MessagesPerHour: count(l, "messages_per_hour"),
		}
	}
	if f := a["filter"]; !f.IsNull() {
		s.Filter = specs.Filter{
			DNSBL: f.Field("dnsbl").Texts(), Greylist: f.Field("greylist").True(), DMARC: f.Field("dmarc").True(), Attachments: f.Field("attachments").Texts(),
		}
	}
	s.Storage.Compress = a["store"].Field("compress").True()
	s.Storage.Encrypt = a["store"].Field("encrypt").True()
	if p := a["pop3"]; !p.IsNull() {
		s.POP3 = &specs.POP3{Exclusive: p.Field("exclusive").True()}
	}
	if r := a["relay"]; !r.IsNull() {
		s.Relay = &specs.Relay{Host: r.Field("host").Str(), Port: count(r, "port"), Username: r.Field("username").Str()}
		if p := r.Field("password"); !p.IsNull() {
			s.Relay.Password = "?" // becomes a variable
			c.note("the relay's password is a secret: give it as the variable relay_password")
		}
	}
	if b := a["backup"]; !b.IsNull() {
		c.spec.Backup = &specs.Backup{
			Endpoint: b.Field("endpoint").Str(), Bucket: b.Field("bucket").Str(), Region: b.Field("region").Str(), Prefix: b.Field("prefix").Str(),
			AccessKeyID: b.Field("access_key_id").Str(), Every: span(b, "every_seconds"), Keep: span(b, "keep_seconds"),
		}
		if c.spec.Backup.Create = b.Field("oss").True(); c.spec.Backup.Create {
			c.spec.Backup.Endpoint, c.spec.Backup.Region = "", ""
		}
		if k := b.Field("secret_access_key"); !k.IsNull() {
			c.spec.Backup.SecretAccessKey = "?"
			c.note("the backup's access key is a secret: give it as the variable backup_secret_access_key")
		}
	}
	if m := a["monitor"]; !m.IsNull() {
		c.spec.Monitor = specs.Monitor{
			Alerts: m.Field("alerts").Texts(), DiskFreePercent: count(m, "disk_free_percent"), QueueAge: span(m, "queue_age_seconds"),
			Certificate: span(m, "certificate_seconds"), Metrics: m.Field("metrics").Str(),
		}
		// Without a setting of their own, alerts go to the stack's contact.
		if alerts := c.spec.Monitor.Alerts; len(alerts) == 1 {
			c.spec.Stack.Contact = alerts[0]
		}
	}
	for _, d := range c.spec.Domains {
		v := a["domains"].Field(d.Name)
		d.Discovery = d.Discovery || v.Field("discovery").True()
		if p := v.Field("mta_sts"); !p.IsNull() {
			d.MTASTS = &specs.MTASTS{Mode: p.Field("mode").Str(), MaxAge: span(p, "max_age_seconds")}
		}
		if v.IsNull() {
			continue
		}
		d.DKIM = nil
		for _, k := range v.Field("sign").Texts() {
			c.signs(d, k)
		}
	}
}

// signs adds a key, written "selector:algorithm", to what a domain signs with.
func (c *completion) signs(d *specs.Domain, key string) {
	selector, algorithm, _ := strings.Cut(key, ":")
	prefix := defaultSelector
	if at := strings.LastIndexByte(selector, '-'); at > 0 {
		prefix = selector[:at]
	}
	if d.DKIM == nil {
		d.DKIM = &specs.DKIM{Selector: prefix}
	}
	d.DKIM.Algorithms = append(d.DKIM.Algorithms, algorithm)
	// As people write them: what every receiver can verify goes first.
	slices.SortFunc(d.DKIM.Algorithms, func(a, b string) int { return cmp.Compare(b, a) })
}

func count(v plan.Value, field string) int { return int(v.Field(field).Num()) }

func span(v plan.Value, field string) time.Duration {
	return time.Duration(v.Field(field).Num()) * time.Second
}

func (c *completion) domain(d *specs.Domain) {
	// Of a record that others are in, too, only our part is the spec's.
	if o, ok := c.get("dns", d.Name, "spf"); ok {
		if spf, ok := cloudflare.ReadSPF(o.Attrs["content"].Str()); ok {
			d.SPF = spf
		}
	}
	for a, o := range c.at {
		local, ok := strings.CutSuffix(strings.TrimPrefix(string(a), a.Kind()+"/"), "@"+d.Name)
		if !ok {
			continue
		}
		switch a.Kind() {
		case "mailbox":
			d.Mailboxes = append(d.Mailboxes, &specs.Mailbox{
				Local: local, Name: o.Attrs["name"].Str(), QuotaBytes: o.Attrs["quota_bytes"].Num(), QuotaMessages: o.Attrs["quota_messages"].Num(), Aliases: o.Attrs["aliases"].Texts(),
			})
			if o.Attrs["password"].Fingerprint() != "" {
				c.note("%s@%s has a password_hash, which the host does not tell: put it into the spec, or a new password is made", local, d.Name)
			}
		case "alias":
			d.Aliases = append(d.Aliases, &specs.Alias{Local: local, To: o.Attrs["to"].Texts()})
		}
	}
	slices.SortFunc(d.Mailboxes, func(a, b *specs.Mailbox) int { return cmp.Compare(a.Local, b.Local) })
	slices.SortFunc(d.Aliases, func(a, b *specs.Alias) int { return cmp.Compare(a.Local, b.Local) })
	if o, ok := c.get("catch-all", d.Name); ok {
		d.CatchAll = o.Attrs["mailbox"].Str()
	}
	if server, ok := c.get("server", d.Host); ok {
		v := server.Attrs["domains"].Field(d.Name)
		for _, name := range v.Field("retention").FieldNames() {
			r := v.Field("retention").Field(name)
			d.Retention = append(d.Retention, specs.Retention{Name: name, Mailbox: r.Field("mailbox").Str(), After: span(r, "after_seconds")})
		}
		d.QuotaBytes, d.QuotaMessages = v.Field("quota_bytes").Num(), v.Field("quota_messages").Num()
	}
	implied := c.implied(d)
	d.Aliases = slices.DeleteFunc(d.Aliases, func(a *specs.Alias) bool {
		return (a.Local == "postmaster" || a.Local == "abuse") && slices.Equal(a.To, []string{implied})
	})
	if len(d.Mailboxes) == 0 {
		d.Mailboxes = []*specs.Mailbox{{Local: "postmaster"}}
		c.note("no mailbox of %s is known; the spec has postmaster, add the others", d.Name)
	}
	_, d.DANE = c.get("dns", c.spec.ZoneDomain(c.hostname(d)), "tlsa", d.Host)
}

// implied is who gets the mail for postmaster and abuse when a spec does not say.
func (c *completion) implied(d *specs.Domain) string {
	local := d.CatchAll
	if local == "" && len(d.Mailboxes) > 0 {
		local = d.Mailboxes[0].Local
	}
	for _, m := range d.Mailboxes {
		if m.Local+"@"+d.Name == c.spec.Stack.Contact {
			local = m.Local
		}
	}
	return local + "@" + d.Name
}

func (c *completion) hostname(d *specs.Domain) string {
	if h := c.spec.Host(d.Host); h != nil {
		return h.Hostname
	}
	return d.Name
}

// zones reads the CAA records, web names and rules that are the stack's.
func (c *completion) zones() {
	c.spec.Zones = nil
	zones := map[string]*specs.Zone{}
	zone := func(name string) *specs.Zone {
		if zones[name] == nil {
			zones[name] = &specs.Zone{Name: name}
		}
		return zones[name]
	}
	for _, a := range slices.Sorted(maps.Keys(c.at)) {
		seg := a.Segments()
		if len(seg) != 4 {
			continue
		}
		o := c.at[a]
		if seg[0] == "zone" && seg[2] == "rule" {
			z := zone(seg[1])
			z.Rules = append(z.Rules, specs.ZoneRule{Name: seg[3], Expression: o.Attrs["expression"].Str(), Action: o.Attrs["action"].Str()})
		}
		if seg[0] != "dns" {
			continue
		}
		switch seg[2] {
		case "caa":
			z := zone(seg[1])
			z.CAA = append(z.CAA, seg[3])
		case "web":
			if h := c.hostOf(o.Attrs["content"].Str()); h != "" {
				z := zone(seg[1])
				z.Web = append(z.Web, specs.Web{Name: seg[3], Host: h, Proxied: o.Attrs["proxied"].True()})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(zones)) {
		position := func(r specs.ZoneRule) int64 {
			return c.at[plan.Addr("zone", name, "rule", r.Name)].Attrs["position"].Num()
		}
		slices.SortFunc(zones[name].Rules, func(a, b specs.ZoneRule) int { return cmp.Compare(position(a), position(b)) })
		c.spec.Zones = append(c.spec.Zones, zones[name])
	}
}

// hostOf names the host with a public address.
func (c *completion) hostOf(ip string) string {
	for _, h := range c.spec.Hosts {
		if h.Address.IsValid() && h.Address.String() == ip {
			return h.Name
		}
		if o, ok := c.get("host", h.Name, "address"); ok && o.Outputs["ip"].Str() == ip {
			return h.Name
		}
	}
	return ""
}
