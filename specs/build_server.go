package specs

import (
	"fmt"
	"time"
)

func (l *loader) buildServer(b *built) {
	n, _ := b.root.one("server")
	s := &b.spec.Server
	*s = Server{MaxMessageBytes: get[int64](n, "max_message_size"), SCRAM: get[bool](n, "scram"), Range: rangeOf(n.header)}
	limits, _ := n.one("limits")
	s.Limits = Limits{
		Connections: int(get[int64](limits, "connections")), ConnectionsPerClient: int(get[int64](limits, "connections_per_client")),
		RecipientsPerMessage: int(get[int64](limits, "recipients_per_message")), MessagesPerHour: int(get[int64](limits, "messages_per_hour")), Range: rangeOf(limits.header),
	}
	filter, _ := n.one("filter")
	s.Filter = Filter{
		DNSBL: unique(list[string](filter, "dnsbl")), Greylist: get[bool](filter, "greylist"), DMARC: get[bool](filter, "dmarc"),
		Attachments: unique(list[string](filter, "attachments")), Range: rangeOf(filter.header),
	}
	if p := first(n, "pop3"); p != nil {
		s.POP3 = &POP3{Exclusive: get[bool](p, "exclusive"), Range: rangeOf(p.header)}
	}
	storage, _ := n.one("storage")
	s.Storage = Storage{Compress: get[bool](storage, "compress"), Encrypt: get[bool](storage, "encrypt"), Range: rangeOf(storage.header)}
	r := first(n, "relay")
	if r == nil {
		return
	}
	s.Relay = &Relay{Host: get[string](r, "host"), Port: int(get[int64](r, "port")), Username: get[string](r, "username"),
		Password: get[string](r, "password"), Range: rangeOf(r.header)}
	b.spec.keep(s.Relay.Password)
	l.pair(r, "username", "password", "the relay", "Give both, or neither for a relay that knows this host by its address.")
	l.readable(r, "password", "the relay's password", "relay_password")
}

// pair reports one half of credentials without the other.
func (l *loader) pair(n *node, name, secret, of, fix string) {
	has, lacks := name, secret
	switch {
	case n.given(name) == n.given(secret):
		return
	case n.given(secret):
		has, lacks = lacks, has
	}
	l.errorAt(codeHalfCredentials, n.at(has), n.header, fmt.Sprintf("%s has %s but no %s", of, article(has), lacks), fix)
}

// readable warns about a secret that stands in the spec as it is.
func (l *loader) readable(n *node, name, what, variable string) {
	if p := n.values[name]; p.given && !p.bad && !p.marked && p.v != nil {
		l.warnAt(codeReadableSecret, p.at, n.header, what+" stands readable in the spec",
			fmt.Sprintf("Who reads the spec can use it. Declare variable %q { sensitive = true }, write %s = var.%s, and set %s%s.", variable, name, variable, EnvPrefix, variable))
	}
}

type builtZone struct {
	*Zone
	n *node
}

func buildZone(n *node) *builtZone {
	z := &Zone{Name: n.label(), ID: get[string](n, "id"), SecurityLevel: get[string](n, "security_level"), SSL: get[string](n, "ssl"), MinTLS: get[string](n, "min_tls"),
		CAA: unique(list[string](n, "caa")), Range: rangeOf(n.header)}
	for _, w := range n.blocks["web"] {
		z.Web = append(z.Web, Web{Name: w.label(), Host: get[string](w, "host"), Proxied: get[bool](w, "proxied"), Range: rangeOf(w.header)})
	}
	for _, r := range n.blocks["rule"] {
		z.Rules = append(z.Rules, ZoneRule{Name: r.label(), Expression: get[string](r, "expression"), Action: get[string](r, "action"), Range: rangeOf(r.header)})
	}
	return &builtZone{z, n}
}

// buildOperation fills in what concerns running the system: backups, alerts,
// the lock, and what plans leave alone.
func (l *loader) buildOperation(b *built) {
	s, root := b.spec, b.root
	if n := first(root, "backup"); n != nil {
		s.Backup = &Backup{
			Endpoint: get[string](n, "endpoint"), Bucket: get[string](n, "bucket"), Region: get[string](n, "region"), Prefix: get[string](n, "prefix"),
			AccessKeyID: get[string](n, "access_key_id"), SecretAccessKey: get[string](n, "secret_access_key"),
			Every: get[time.Duration](n, "every"), Keep: get[time.Duration](n, "keep"), Range: rangeOf(n.header),
		}
		if oss := first(n, "oss"); oss != nil {
			s.Backup.Create, s.Backup.Bucket = true, get[string](oss, "bucket")
		}
		s.keep(s.Backup.SecretAccessKey)
	}
	m, _ := root.one("monitor")
	s.Monitor = Monitor{
		Alerts: unique(list[string](m, "alerts")), DiskFreePercent: get[int](m, "disk_free"), QueueAge: get[time.Duration](m, "queue_age"),
		Certificate: get[time.Duration](m, "certificate"), Metrics: get[string](m, "metrics"), Range: rangeOf(m.header),
		Blocklists: append([]string{}, unique(list[string](m, "blocklists"))...),
	}
	if n := first(root, "lock"); n != nil {
		s.Lock = &Lock{
			Kind: n.label(), Endpoint: get[string](n, "endpoint"), Bucket: get[string](n, "bucket"), Region: get[string](n, "region"),
			Key: get[string](n, "key"), URL: get[string](n, "url"), Range: rangeOf(n.header),
		}
		if s.Lock.Kind == "bucket" && s.Lock.Key == "" {
			s.Lock.Key = "mailform/" + s.Stack.Name + ".lock"
		}
		s.keep(s.Lock.URL)
	}
	p, _ := root.one("protection")
	s.Protection = Protection{Protect: unique(list[string](p, "protect")), Unprotect: unique(list[string](p, "unprotect")),
		ZonePercent: get[int](p, "zone_changes"), Range: rangeOf(p.header)}
	for _, n := range root.blocks["ignore"] {
		s.Ignore = append(s.Ignore, Ignore{Address: n.label(), Fields: unique(list[string](n, "fields")), Range: rangeOf(n.header)})
	}
	for _, n := range root.blocks["forget"] {
		s.Forget = append(s.Forget, Forget{Address: n.label(), Range: rangeOf(n.header)})
	}
}
