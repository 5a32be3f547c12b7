package host

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
	"mailform/specs"
)

// settingsOf is what the spec wants of a host's server, in the form in which
// the host tells what it serves: every secret is its fingerprint, and there are
// no mailboxes and aliases, which are resources of their own.
func settingsOf(spec *specs.Spec, h *specs.Host) *manifest.Manifest {
	m := &manifest.Manifest{
		Hostname:        h.Hostname,
		MaxMessageBytes: spec.Server.MaxMessageBytes,
		NoSCRAM:         !spec.Server.SCRAM,
		Web:             servesWeb(spec, h),
	}
	if l := spec.Server.Limits; l.Connections+l.ConnectionsPerClient+l.RecipientsPerMessage+l.MessagesPerHour > 0 {
		m.Limits = &manifest.Limits{
			Connections: l.Connections, ConnectionsPerClient: l.ConnectionsPerClient,
			RecipientsPerMessage: l.RecipientsPerMessage, MessagesPerHour: l.MessagesPerHour,
		}
	}
	if f := spec.Server.Filter; f.Greylist || f.DMARC || len(f.DNSBL)+len(f.Attachments) > 0 {
		m.Filter = &manifest.Filter{DNSBL: slices.Clone(f.DNSBL), Greylist: f.Greylist, DMARC: f.DMARC, Attachments: slices.Sorted(slices.Values(f.Attachments))}
	}
	if r := spec.Server.Relay; r != nil {
		m.Relay = &manifest.Relay{Host: r.Host, Port: r.Port, Username: r.Username, Password: fingerprintOr(r.Password, "")}
	}
	if p := spec.Server.POP3; p != nil {
		m.POP3 = &manifest.POP3{Exclusive: p.Exclusive}
	}
	if s := spec.Server.Storage; s.Compress || s.Encrypt {
		m.Store = &manifest.Store{Compress: s.Compress, Encrypt: s.Encrypt}
	}
	if b := spec.Backup; b != nil {
		m.Backup = &manifest.Backup{
			Endpoint: spec.BackupEndpoint(h), Bucket: b.Bucket, Region: b.Region, Prefix: b.Prefix, AccessKeyID: b.AccessKeyID,
			SecretAccessKey: fingerprintOr(b.SecretAccessKey, ""), Role: b.AccessKeyID == "", OSS: b.Create, EverySeconds: seconds(b.Every), KeepSeconds: seconds(b.Keep),
		}
		if b.Create {
			m.Backup.Region = spec.AliCloud.Region
		}
	}
	if w := spec.Monitor; len(w.Alerts)+len(w.Blocklists) > 0 || w.Metrics != "" {
		m.Monitor = &manifest.Monitor{
			Alerts: slices.Clone(w.Alerts), DiskFreePercent: w.DiskFreePercent, QueueAgeSeconds: seconds(w.QueueAge),
			CertificateSeconds: seconds(w.Certificate), Metrics: w.Metrics, Blocklists: slices.Clone(w.Blocklists),
		}
	}
	m.HardenSSH = h.SSH.Harden
	if h.Tune {
		m.Tuning = manifest.DefaultTuning(h.Instance != nil)
	}
	if h.Firewall {
		m.Firewall = openings(h, m)
	}
	for _, d := range spec.Domains {
		if d.Host != h.Name {
			continue
		}
		md := manifest.Domain{Name: d.Name, Discovery: d.Discovery, QuotaBytes: d.QuotaBytes, QuotaMessages: d.QuotaMessages}
		if p := d.MTASTS; p != nil {
			md.MTASTS = &manifest.MTASTS{Mode: p.Mode, MaxAgeSeconds: seconds(p.MaxAge)}
		}
		for _, r := range d.Retention {
			md.Retention = append(md.Retention, manifest.Retention{Name: r.Name, Mailbox: r.Mailbox, AfterSeconds: seconds(r.After)})
		}
		slices.SortFunc(md.Retention, func(a, b manifest.Retention) int { return strings.Compare(a.Name, b.Name) })
		for _, k := range signingKeys(d) {
			md.DKIM = append(md.DKIM, manifest.DKIMKey{Selector: k.selector, Algorithm: k.algorithm})
		}
		m.Domains = append(m.Domains, md)
	}
	return m
}

// servesWeb reports whether a host answers HTTPS: for a policy, for mail
// programs that ask how they are set up, or because a name of a zone leads there.
func servesWeb(spec *specs.Spec, h *specs.Host) bool {
	return slices.ContainsFunc(spec.Domains, func(d *specs.Domain) bool {
		return d.Host == h.Name && (d.MTASTS != nil || d.Discovery)
	}) || slices.ContainsFunc(spec.Zones, func(z *specs.Zone) bool {
		return slices.ContainsFunc(z.Web, func(w specs.Web) bool { return w.Host == h.Name })
	})
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// settingsAttrs are the attributes of server/H that say how it serves. Both what
// is wanted and what was found go through it; secrets are fingerprints.
func settingsAttrs(m *manifest.Manifest) plan.Attrs {
	domains := map[string]plan.Value{}
	for _, d := range m.Domains {
		domains[d.Name] = domainValue(d)
	}
	return plan.Attrs{
		"hostname":          plan.String(m.Hostname),
		"max_message_bytes": plan.Int(m.MaxMessageBytes),
		"limits":            limitsValue(m.Limits),
		"filter":            filterValue(m.Filter),
		"relay":             relayValue(m.Relay),
		"pop3":              pop3Value(m.POP3),
		"store":             storeValue(m.Store),
		"scram":             scramValue(m.NoSCRAM),
		"web":               plan.Bool(m.Web),
		"backup":            backupValue(m.Backup),
		"monitor":           monitorValue(m.Monitor),
		"harden_ssh":        plan.Bool(m.HardenSSH),
		"firewall":          firewallValue(m.Firewall),
		"tuning":            tuningValue(m.Tuning),
		"domains":           plan.Map(domains),
	}
}

// domainValue is a domain in the server's attributes. Its keys are written
// "selector:algorithm": those it signs with, and those that only stand in DNS.
func domainValue(d manifest.Domain) plan.Value {
	var sign, idle []string
	for _, k := range d.DKIM {
		if k.Idle {
			idle = append(idle, k.Selector+":"+k.Algorithm)
		} else {
			sign = append(sign, k.Selector+":"+k.Algorithm)
		}
	}
	v := map[string]plan.Value{"sign": sorted(sign), "idle": sorted(idle), "discovery": plan.Bool(d.Discovery)}
	if p := d.MTASTS; p != nil {
		v["mta_sts"] = plan.Map(map[string]plan.Value{"mode": plan.String(p.Mode), "max_age_seconds": plan.Int(p.MaxAgeSeconds)})
	}
	if len(d.Retention) > 0 {
		rules := map[string]plan.Value{}
		for _, r := range d.Retention {
			rules[r.Name] = plan.Map(map[string]plan.Value{"mailbox": plan.String(r.Mailbox), "after_seconds": plan.Int(r.AfterSeconds)})
		}
		v["retention"] = plan.Map(rules)
	}
	if d.QuotaBytes > 0 {
		v["quota_bytes"] = plan.Int(d.QuotaBytes)
	}
	if d.QuotaMessages > 0 {
		v["quota_messages"] = plan.Int(d.QuotaMessages)
	}
	return plan.Map(v)
}

// limit is a number of which 0 means that there is none.
func limit(n int64) plan.Value {
	if n == 0 {
		return plan.Null()
	}
	return plan.Int(n)
}

// expiry says in words what the retention rules of a host delete; "" without any.
func expiry(m *manifest.Manifest) string {
	var parts []string
	for _, d := range m.Domains {
		for _, r := range d.Retention {
			parts = append(parts, fmt.Sprintf("%s of everyone at %s after %s", r.Mailbox, d.Name, age(r.AfterSeconds)))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "; messages are deleted from " + strings.Join(parts, ", from ")
}

func limitsValue(l *manifest.Limits) plan.Value {
	if l == nil {
		return plan.Null()
	}
	return plan.Map(map[string]plan.Value{
		"connections": number(l.Connections), "connections_per_client": number(l.ConnectionsPerClient),
		"recipients_per_message": number(l.RecipientsPerMessage), "messages_per_hour": number(l.MessagesPerHour),
	})
}

func filterValue(f *manifest.Filter) plan.Value {
	if f == nil {
		return plan.Null()
	}
	return plan.Map(map[string]plan.Value{
		"dnsbl": plan.Strings(f.DNSBL...), "greylist": plan.Bool(f.Greylist), "dmarc": plan.Bool(f.DMARC), "attachments": plan.Strings(f.Attachments...),
	})
}

func pop3Value(p *manifest.POP3) plan.Value {
	if p == nil {
		return plan.Null()
	}
	return plan.Map(map[string]plan.Value{"exclusive": plan.Bool(p.Exclusive)})
}

// scramValue is null where SCRAM is offered, as it is on hosts that were converged
// by versions that do not know it.
func scramValue(off bool) plan.Value {
	if off {
		return plan.Bool(false)
	}
	return plan.Null()
}

func readPOP3(v plan.Value) *manifest.POP3 {
	if v.IsNull() {
		return nil
	}
	return &manifest.POP3{Exclusive: v.Field("exclusive").True()}
}

func storeValue(s *manifest.Store) plan.Value {
	if s == nil {
		return plan.Null()
	}
	v := map[string]plan.Value{"compress": plan.Bool(s.Compress)}
	if s.Encrypt { // what states from before say is the same without it
		v["encrypt"] = plan.Bool(true)
	}
	return plan.Map(v)
}

func readStore(v plan.Value) *manifest.Store {
	if v.IsNull() {
		return nil
	}
	return &manifest.Store{Compress: v.Field("compress").True(), Encrypt: v.Field("encrypt").True()}
}

func relayValue(r *manifest.Relay) plan.Value {
	if r == nil {
		return plan.Null()
	}
	return plan.Map(map[string]plan.Value{
		"host": plan.String(r.Host), "port": number(r.Port), "username": plan.String(r.Username), "password": secretValue(r.Password),
	})
}

func backupValue(b *manifest.Backup) plan.Value {
	if b == nil {
		return plan.Null()
	}
	v := map[string]plan.Value{
		"endpoint": plan.String(b.Endpoint), "bucket": plan.String(b.Bucket), "region": plan.String(b.Region), "prefix": plan.String(b.Prefix),
		"access_key_id": plan.String(b.AccessKeyID), "secret_access_key": secretValue(b.SecretAccessKey),
		"every_seconds": plan.Int(b.EverySeconds), "keep_seconds": plan.Int(b.KeepSeconds),
	}
	if b.Role {
		v["role"] = plan.Bool(true)
	}
	if b.OSS {
		v["oss"] = plan.Bool(true)
	}
	return plan.Map(v)
}

func monitorValue(w *manifest.Monitor) plan.Value {
	if w == nil {
		return plan.Null()
	}
	return plan.Map(map[string]plan.Value{
		"alerts": plan.Strings(w.Alerts...), "disk_free_percent": number(w.DiskFreePercent), "queue_age_seconds": plan.Int(w.QueueAgeSeconds),
		"certificate_seconds": plan.Int(w.CertificateSeconds), "metrics": plan.String(w.Metrics),
		"blocklists": plan.Strings(w.Blocklists...),
	})
}

func number(n int) plan.Value { return plan.Int(int64(n)) }

func secretValue(fingerprint string) plan.Value {
	if fingerprint == "" {
		return plan.Null()
	}
	return plan.Secret(fingerprint)
}

// readSettings is the inverse of settingsAttrs but for the domains: see
// readDomain. Where a secret stands it leaves the fingerprint.
func readSettings(v plan.Value) manifest.Manifest {
	m := manifest.Manifest{
		Hostname: v.Field("hostname").Str(), MaxMessageBytes: v.Field("max_message_bytes").Num(),
		POP3: readPOP3(v.Field("pop3")), NoSCRAM: !v.Field("scram").IsNull(), Store: readStore(v.Field("store")), Web: v.Field("web").True(), DataDisk: v.Field("data_disk").Str(),
		HardenSSH: v.Field("harden_ssh").True(), Firewall: readFirewall(v.Field("firewall")),
		Tuning: readTuning(v.Field("tuning")),
	}
	if l := v.Field("limits"); !l.IsNull() {
		m.Limits = &manifest.Limits{
			Connections: count(l, "connections"), ConnectionsPerClient: count(l, "connections_per_client"),
			RecipientsPerMessage: count(l, "recipients_per_message"), MessagesPerHour: count(l, "messages_per_hour"),
		}
	}
	if f := v.Field("filter"); !f.IsNull() {
		m.Filter = &manifest.Filter{
			DNSBL: f.Field("dnsbl").Texts(), Greylist: f.Field("greylist").True(), DMARC: f.Field("dmarc").True(), Attachments: f.Field("attachments").Texts(),
		}
	}
	if r := v.Field("relay"); !r.IsNull() {
		m.Relay = &manifest.Relay{
			Host: r.Field("host").Str(), Port: count(r, "port"), Username: r.Field("username").Str(), Password: r.Field("password").Fingerprint(),
		}
	}
	if b := v.Field("backup"); !b.IsNull() {
		m.Backup = &manifest.Backup{
			Endpoint: b.Field("endpoint").Str(), Bucket: b.Field("bucket").Str(), Region: b.Field("region").Str(), Prefix: b.Field("prefix").Str(),
			AccessKeyID: b.Field("access_key_id").Str(), SecretAccessKey: b.Field("secret_access_key").Fingerprint(),
			Role: b.Field("role").True(), OSS: b.Field("oss").True(),
			EverySeconds: b.Field("every_seconds").Num(), KeepSeconds: b.Field("keep_seconds").Num(),
		}
	}
	if w := v.Field("monitor"); !w.IsNull() {
		m.Monitor = &manifest.Monitor{
			Alerts: w.Field("alerts").Texts(), DiskFreePercent: count(w, "disk_free_percent"), QueueAgeSeconds: w.Field("queue_age_seconds").Num(),
			CertificateSeconds: w.Field("certificate_seconds").Num(), Metrics: w.Field("metrics").Str(),
			Blocklists: w.Field("blocklists").Texts(),
		}
	}
	return m
}

func count(v plan.Value, field string) int { return int(v.Field(field).Num()) }

// readDomain is the inverse of domainValue, with the domain's name in the value.
func readDomain(v plan.Value) manifest.Domain {
	d := manifest.Domain{Name: v.Field("name").Str(), Discovery: v.Field("discovery").True(), CatchAll: v.Field("catch_all").Str(),
		QuotaBytes: v.Field("quota_bytes").Num(), QuotaMessages: v.Field("quota_messages").Num()}
	if p := v.Field("mta_sts"); !p.IsNull() {
		d.MTASTS = &manifest.MTASTS{Mode: p.Field("mode").Str(), MaxAgeSeconds: p.Field("max_age_seconds").Num()}
	}
	rules := v.Field("retention")
	for _, name := range rules.FieldNames() {
		r := rules.Field(name)
		d.Retention = append(d.Retention, manifest.Retention{Name: name, Mailbox: r.Field("mailbox").Str(), AfterSeconds: r.Field("after_seconds").Num()})
	}
	for _, state := range []string{"sign", "idle"} {
		for _, key := range v.Field(state).Texts() {
			k := parseKey(key)
			d.DKIM = append(d.DKIM, manifest.DKIMKey{Selector: k.selector, Algorithm: k.algorithm, Idle: state == "idle"})
		}
	}
	return d
}

// age is a time in words: "30 days", or hours where it is none of whole days.
func age(seconds int64) string {
	const hour, day = 3600, 24 * 3600
	switch {
	case seconds == day:
		return "1 day"
	case seconds%day == 0:
		return fmt.Sprintf("%d days", seconds/day)
	}
	return fmt.Sprintf("%d hours", seconds/hour)
}
