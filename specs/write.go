package specs

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Write returns the text of a spec: the opposite of Load. What is as it would be
// by itself is left out, and a secret becomes a variable that has to be given.
// Loading the text with those variables gives an equal Spec, but for source
// ranges and for what only its writer knows: locals, loops and comments.
func Write(s *Spec) []byte {
	w := &writer{}
	root := rootSchema()
	w.block(root.block("stack"), []string{s.Stack.Name}, func(b body) {
		if len(s.Domains) == 0 || s.Stack.Contact != "postmaster@"+s.Domains[0].Name {
			b.attr("contact", s.Stack.Contact)
		}
	})
	w.providers(root.block("provider"), s)
	for _, h := range s.Hosts {
		w.host(root.block("host"), h)
	}
	for _, d := range s.Domains {
		w.domain(root.block("domain"), d, len(s.Hosts) > 1)
	}
	for _, z := range s.Zones {
		w.zone(root.block("zone"), z, len(s.Hosts) > 1)
	}
	w.optional(root.block("tls"), nil, func(b body) {
		b.attr("key", s.TLS.Key)
		b.attr("renew_before", s.TLS.RenewAfter)
	})
	w.server(root.block("server"), &s.Server)
	if s.Backup != nil {
		w.backup(root.block("backup"), s.Backup)
	}
	w.optional(root.block("monitor"), nil, func(b body) {
		m := &s.Monitor
		if !slices.Equal(m.Alerts, []string{s.Stack.Contact}) {
			b.attr("alerts", m.Alerts)
		}
		b.attr("disk_free", m.DiskFreePercent)
		b.attr("queue_age", m.QueueAge)
		b.attr("certificate", m.Certificate)
		b.attr("blocklists", m.Blocklists)
		if m.Blocklists != nil && len(m.Blocklists) == 0 {
			b.say("blocklists", "[]")
		}
		b.attr("metrics", m.Metrics)
	})
	if l := s.Lock; l != nil {
		w.block(variant(root.block("lock"), l.Kind), []string{l.Kind}, func(b body) {
			b.attr("endpoint", l.Endpoint)
			b.attr("bucket", l.Bucket)
			b.attr("region", l.Region)
			b.attr("key", l.Key)
			b.secret("url", l.URL, "lock_url")
		})
	}
	w.optional(root.block("protection"), nil, func(b body) {
		b.attr("protect", s.Protection.Protect)
		b.attr("unprotect", s.Protection.Unprotect)
		b.attr("zone_changes", s.Protection.ZonePercent)
	})
	for _, i := range s.Ignore {
		w.block(root.block("ignore"), []string{i.Address}, func(b body) { b.attr("fields", i.Fields) })
	}
	for _, f := range s.Forget {
		w.block(root.block("forget"), []string{f.Address}, func(body) {})
	}
	out, _ := Format("", []byte(w.variables()+w.text.String()))
	return out
}

// writer collects the text of blocks and the names of the secrets in them.
type writer struct {
	text    strings.Builder
	secrets []string
}

// body is a block that is being written. Its schema knows each attribute's kind,
// and the default that need not be written.
type body struct {
	w      *writer
	schema *blockSchema
}

// block writes a block whether or not anything stands in it.
func (w *writer) block(schema *blockSchema, labels []string, fill func(body)) {
	inner := &writer{}
	fill(body{inner, schema})
	w.add(schema, labels, inner)
}

// optional writes a block only when something stands in it.
func (w *writer) optional(schema *blockSchema, labels []string, fill func(body)) {
	inner := &writer{}
	fill(body{inner, schema})
	if inner.text.Len() > 0 {
		w.add(schema, labels, inner)
	}
}

// add writes a block around what stands in it, with an empty line on both sides.
func (w *writer) add(schema *blockSchema, labels []string, inner *writer) {
	w.secrets = append(w.secrets, inner.secrets...)
	if text := w.text.String(); text != "" && !strings.HasSuffix(text, "\n\n") {
		w.text.WriteByte('\n')
	}
	w.text.WriteString(schema.Name)
	for _, l := range labels {
		w.text.WriteString(" " + quoted(l))
	}
	content := strings.TrimRight(inner.text.String(), "\n")
	if content == "" {
		w.text.WriteString(" {}\n\n")
		return
	}
	w.text.WriteString(" {\n" + content + "\n}\n\n")
}

func (b body) block(name string, labels []string, fill func(body)) {
	b.w.block(b.schema.block(name), labels, fill)
}

func (b body) optional(name string, fill func(body)) {
	b.w.optional(b.schema.block(name), nil, fill)
}

// attr writes an attribute unless its value is nothing or the default.
func (b body) attr(name string, value any) {
	a := b.schema.attr(name)
	if a == nil || reflect.ValueOf(value).IsZero() && a.unset() {
		return
	}
	text := a.hcl(value)
	if text == "" || text == a.defaultText() {
		return
	}
	fmt.Fprintf(&b.w.text, "%s = %s\n", name, text)
}

// say writes what means something else than silence, even when it is the default.
func (b body) say(name, text string) {
	if b.schema.attr(name) != nil {
		fmt.Fprintf(&b.w.text, "%s = %s\n", name, text)
	}
}

// choice writes a bool whose default depends on something else.
func (b body) choice(name string, value, byDefault bool) {
	if b.schema.attr(name) != nil && value != byDefault {
		fmt.Fprintf(&b.w.text, "%s = %t\n", name, value)
	}
}

// unset reports whether the zero value says nothing: that nobody has set it.
func (a *attrSchema) unset() bool {
	switch a.Kind {
	case kindBool:
		return a.Default == cty.NilVal
	case kindInt, kindHour:
		return a.Default == cty.NilVal || a.Min > 0
	}
	return true
}

// secret writes a reference to a variable in place of a secret.
func (b body) secret(name, value, variable string) {
	if value == "" || b.schema.attr(name) == nil {
		return
	}
	b.w.secrets = append(b.w.secrets, variable)
	fmt.Fprintf(&b.w.text, "%s = var.%s\n", name, variable)
}

// variables declares what secret referred to.
func (w *writer) variables() string {
	slices.Sort(w.secrets)
	var b strings.Builder
	for _, v := range slices.Compact(w.secrets) {
		fmt.Fprintf(&b, "variable %s {\n  type = string\n  sensitive = true\n}\n\n", quoted(v))
	}
	return b.String()
}

// defaultText is how hcl would give the default; "" without one.
func (a *attrSchema) defaultText() string {
	if a.Default == cty.NilVal || a.Default.IsNull() {
		return ""
	}
	if !a.List {
		v, flaw := a.parse(a.Default)
		if flaw != nil {
			return ""
		}
		return a.hcl(v)
	}
	var texts []string
	for it := a.Default.ElementIterator(); it.Next(); {
		_, e := it.Element()
		v, flaw := a.parse(e)
		if flaw != nil {
			return ""
		}
		texts = append(texts, a.hcl(v))
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// hcl gives a value of the attribute's kind as HCL; "" for an empty list.
func (a *attrSchema) hcl(value any) string {
	switch v := value.(type) {
	case string:
		return quoted(v)
	case bool:
		return fmt.Sprint(v)
	case time.Duration:
		return quoted(formatDuration(v))
	case netip.Addr:
		return quoted(v.String())
	case netip.Prefix:
		return quoted(v.String())
	case portRange:
		if v.from == v.to {
			return fmt.Sprint(v.from)
		}
		return quoted(fmt.Sprintf("%d-%d", v.from, v.to))
	}
	v := reflect.ValueOf(value)
	switch {
	case v.Kind() == reflect.Slice:
		texts := make([]string, v.Len())
		for i := range texts {
			texts[i] = a.hcl(v.Index(i).Interface())
		}
		if len(texts) == 0 {
			return ""
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case a.Kind == kindSize:
		return quoted(formatSize(v.Int()))
	case a.Kind == kindGiB:
		return quoted(formatSize(v.Int() << 30))
	case a.Kind == kindBandwidth:
		return quoted(fmt.Sprintf("%dMbps", v.Int()))
	case a.Kind == kindPercent:
		return quoted(fmt.Sprintf("%d%%", v.Int()))
	case a.Kind == kindDays:
		return quoted(fmt.Sprintf("%dd", v.Int()))
	case a.Kind == kindHour:
		return quoted(fmt.Sprintf("%02d:00", v.Int()))
	default:
		return fmt.Sprint(v.Int())
	}
}

func quoted(s string) string {
	return string(hclwrite.TokensForValue(cty.StringVal(s)).Bytes())
}

// variant is the schema of a block with that first label, under the block's name.
func variant(schema *blockSchema, label string) *blockSchema {
	v := *schema.variant(label)
	v.Name = schema.Name
	return &v
}

func (w *writer) providers(schema *blockSchema, s *Spec) {
	provider := func(name string, fill func(body)) {
		w.optional(variant(schema, name), []string{name}, fill)
	}
	provider("alicloud", func(b body) {
		b.attr("region", s.AliCloud.Region)
		b.attr("ecs_endpoint", s.AliCloud.ECSEndpoint)
		b.attr("vpc_endpoint", s.AliCloud.VPCEndpoint)
		b.attr("oss_endpoint", s.AliCloud.OSSEndpoint)
	})
	provider("cloudflare", func(b body) { b.attr("base_url", s.Cloudflare.BaseURL) })
	provider("acme", func(b body) {
		b.attr("ca", s.ACME.CA)
		b.attr("issuer", s.ACME.Issuer)
		if s.ACME.CA == "" {
			b.attr("directory", s.ACME.Directory)
		}
		b.attr("ca_bundle", s.CABundle)
		b.attr("resolver", s.Resolver)
		if e := s.ACME.EAB; e != nil {
			b.block("eab", nil, func(b body) {
				b.attr("kid", e.KeyID)
				b.secret("hmac_key", e.HMAC, "acme_hmac_key")
			})
		}
	})
}

func (w *writer) host(schema *blockSchema, h *Host) {
	w.block(schema, []string{h.Name}, func(b body) {
		b.attr("hostname", h.Hostname)
		if h.Address.IsValid() {
			b.attr("address", h.Address)
		}
		b.choice("tune", h.Tune, h.Instance != nil)
		if i := h.Instance; i != nil {
			b.block("instance", nil, func(b body) { b.instance(i) })
		}
		b.block("ssh", nil, func(b body) {
			b.attr("user", h.SSH.User)
			b.attr("port", h.SSH.Port)
			b.attr("from", h.SSH.From) // also when it is everyone: then it is meant
			b.attr("authorized_keys", h.SSH.AuthorizedKeys)
			b.attr("host_key", h.SSH.HostKey)
			b.choice("harden", h.SSH.Harden, h.Instance != nil)
		})
		b.optional("firewall", func(b body) {
			b.attr("exclusive", h.Exclusive)
			b.choice("host", h.Firewall, h.Instance != nil)
		})
		for _, a := range h.Allow {
			b.block("allow", []string{a.Name}, func(b body) {
				b.attr("port", portRange{a.FromPort, a.ToPort})
				b.attr("protocol", a.Protocol)
				b.attr("from", a.From)
			})
		}
	})
}

func (b body) instance(i *Instance) {
	b.attr("type", i.Type)
	b.attr("fallback_types", i.Instead)
	b.attr("zone", i.Zone)
	b.attr("image", i.Image)
	b.attr("ram_role", i.RAMRole)
	disk := func(d Disk) func(body) {
		return func(b body) {
			b.attr("category", d.Category)
			b.attr("size", d.SizeGiB)
			b.attr("encrypted", d.Encrypted)
		}
	}
	b.optional("system_disk", disk(i.SystemDisk))
	if d := i.DataDisk; d != nil {
		b.block("data_disk", nil, func(b body) {
			disk(d.Disk)(b)
			if d.Snapshots != nil {
				b.block("snapshots", nil, func(b body) {
					b.attr("at", d.Snapshots.Hour)
					b.attr("keep", d.Snapshots.Days)
				})
			}
		})
	}
	b.optional("public_ip", func(b body) {
		b.attr("bandwidth", i.Bandwidth)
		b.attr("charge_by", i.ChargeBy)
	})
}

func (w *writer) domain(schema *blockSchema, d *Domain, several bool) {
	w.block(schema, []string{d.Name}, func(b body) {
		if several {
			b.attr("host", d.Host)
		}
		b.attr("catch_all", d.CatchAll)
		if d.QuotaBytes > 0 {
			b.attr("quota", d.QuotaBytes)
		}
		if d.QuotaMessages > 0 {
			b.attr("quota_messages", d.QuotaMessages)
		}
		b.attr("discovery", d.Discovery)
		b.attr("dane", d.DANE)
		b.optional("mx", func(b body) { b.attr("priority", d.MX.Priority) })
		b.policy("spf", d.SPF != nil, func(b body) {
			b.attr("include", d.SPF.Include)
			b.attr("ip", d.SPF.IP)
			if !d.SPF.AllUnset && d.SPF.All != "" {
				b.say("all", quoted(d.SPF.All))
			}
		})
		b.policy("dkim", d.DKIM != nil, func(b body) {
			b.attr("selector", d.DKIM.Selector)
			b.attr("algorithms", d.DKIM.Algorithms)
			b.attr("rotate", d.DKIM.Rotate)
		})
		b.policy("dmarc", d.DMARC != nil, func(b body) {
			b.attr("policy", d.DMARC.Policy)
			b.attr("subdomain_policy", d.DMARC.SubdomainPolicy)
			b.attr("reports", locals(d, d.DMARC.Reports))
		})
		if m := d.MTASTS; m != nil {
			b.block("mta_sts", nil, func(b body) {
				b.attr("mode", m.Mode)
				b.attr("max_age", m.MaxAge)
			})
		}
		if r := d.TLSRPT; r != nil {
			b.block("tls_rpt", nil, func(b body) { b.attr("reports", locals(d, r.Reports)) })
		}
		for _, m := range d.Mailboxes {
			b.block("mailbox", []string{m.Local}, func(b body) {
				b.attr("name", m.Name)
				if m.QuotaBytes > 0 {
					b.attr("quota", m.QuotaBytes)
				}
				if m.QuotaMessages > 0 {
					b.attr("quota_messages", m.QuotaMessages)
				}
				b.attr("password_hash", m.PasswordHash)
				b.attr("aliases", m.Aliases)
			})
		}
		for _, r := range d.Retention {
			b.block("retention", []string{r.Name}, func(b body) {
				b.attr("mailbox", r.Mailbox)
				b.attr("after", r.After)
			})
		}
		for _, a := range d.Aliases {
			if !a.Implicit {
				b.block("alias", []string{a.Local}, func(b body) { b.attr("to", locals(d, a.To)) })
			}
		}
	})
}

// locals shortens the addresses of a domain to local parts.
func locals(d *Domain, addresses []string) []string {
	out := slices.Clone(addresses)
	for i, a := range out {
		out[i] = strings.TrimSuffix(a, "@"+d.Name)
	}
	return out
}

// policy writes a block that is managed unless it says otherwise.
func (b body) policy(name string, managed bool, fill func(body)) {
	b.optional(name, func(b body) {
		if managed {
			fill(b)
		} else {
			b.attr("manage", false)
		}
	})
}

func (w *writer) zone(schema *blockSchema, z *Zone, several bool) {
	w.block(schema, []string{z.Name}, func(b body) {
		b.attr("id", z.ID)
		b.attr("security_level", z.SecurityLevel)
		b.attr("ssl", z.SSL)
		b.attr("min_tls", z.MinTLS)
		b.attr("caa", z.CAA)
		for _, n := range z.Web {
			b.block("web", []string{n.Name}, func(b body) {
				if several {
					b.attr("host", n.Host)
				}
				b.attr("proxied", n.Proxied)
			})
		}
		for _, r := range z.Rules {
			b.block("rule", []string{r.Name}, func(b body) {
				b.attr("expression", r.Expression)
				b.attr("action", r.Action)
			})
		}
	})
}

func (w *writer) server(schema *blockSchema, s *Server) {
	w.optional(schema, nil, func(b body) {
		b.attr("max_message_size", s.MaxMessageBytes)
		b.attr("scram", s.SCRAM)
		b.optional("limits", func(b body) {
			b.attr("connections", s.Limits.Connections)
			b.attr("connections_per_client", s.Limits.ConnectionsPerClient)
			b.attr("recipients_per_message", s.Limits.RecipientsPerMessage)
			b.attr("messages_per_hour", s.Limits.MessagesPerHour)
		})
		b.optional("filter", func(b body) {
			b.attr("dnsbl", s.Filter.DNSBL)
			b.attr("greylist", s.Filter.Greylist)
			b.attr("dmarc", s.Filter.DMARC)
			b.attr("attachments", s.Filter.Attachments)
		})
		if p := s.POP3; p != nil {
			b.block("pop3", nil, func(b body) { b.attr("exclusive", p.Exclusive) })
		}
		b.optional("storage", func(b body) {
			b.attr("compress", s.Storage.Compress)
			b.attr("encrypt", s.Storage.Encrypt)
		})
		if r := s.Relay; r != nil {
			b.block("relay", nil, func(b body) {
				b.attr("host", r.Host)
				b.attr("port", r.Port)
				b.attr("username", r.Username)
				b.secret("password", r.Password, "relay_password")
			})
		}
	})
}

func (w *writer) backup(schema *blockSchema, k *Backup) {
	w.block(schema, nil, func(b body) {
		if k.Create {
			b.block("oss", nil, func(b body) { b.attr("bucket", k.Bucket) })
		} else {
			b.attr("endpoint", k.Endpoint)
			b.attr("bucket", k.Bucket)
			b.attr("region", k.Region)
		}
		b.attr("prefix", k.Prefix)
		b.attr("access_key_id", k.AccessKeyID)
		b.secret("secret_access_key", k.SecretAccessKey, "backup_secret_access_key")
		b.attr("every", k.Every)
		b.attr("keep", k.Keep)
	})
}
