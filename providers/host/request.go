package host

import (
	"fmt"

	"mailform/plan"
	"mailform/server/manifest"
)

// convergeRequest turns an operation's manifest value into the agent's request.
// Secrets that Config.Secret does not know are the host's to keep.
func (p *Provider) convergeRequest(host string, v plan.Value) (manifest.ConvergeRequest, error) {
	req := manifest.ConvergeRequest{Claim: p.claim(host), KeepPasswords: map[string]string{}}
	m := manifest.Manifest{
		Format: manifest.Format, Stack: p.Stack, Host: host,
		Hostname: v.Field("hostname").Str(), MaxMessageBytes: v.Field("max_message_bytes").Num(),
		Domains: []manifest.Domain{},
	}
	if r := v.Field("relay"); !r.IsNull() {
		m.Relay = &manifest.Relay{Host: r.Field("host").Str(), Port: int(r.Field("port").Num()), Username: r.Field("username").Str()}
		if print := r.Field("password").Fingerprint(); print != "" {
			var known bool
			if m.Relay.Password, known = p.secret(print); !known {
				req.KeepRelayPassword = print
			}
		}
	}
	for _, dv := range v.Field("domains").Items() {
		d := manifest.Domain{Name: dv.Field("name").Str(), CatchAll: dv.Field("catch_all").Str()}
		for _, k := range dv.Field("sign").Items() {
			d.DKIM = append(d.DKIM, manifest.DKIMKey{Selector: k.Field("selector").Str(), Algorithm: k.Field("algorithm").Str()})
		}
		for _, bv := range dv.Field("mailboxes").Items() {
			b := manifest.Mailbox{
				Local: bv.Field("local").Str(), Name: bv.Field("name").Str(), QuotaBytes: bv.Field("quota_bytes").Num(),
				Aliases: bv.Field("aliases").Texts(),
			}
			if print := bv.Field("password").Fingerprint(); print != "" {
				var known bool
				if b.PasswordHash, known = p.secret(print); !known {
					req.KeepPasswords[b.Local+"@"+d.Name] = print
				}
			}
			d.Mailboxes = append(d.Mailboxes, b)
		}
		for _, av := range dv.Field("aliases").Items() {
			d.Aliases = append(d.Aliases, manifest.Alias{Local: av.Field("local").Str(), To: av.Field("to").Texts()})
		}
		m.Domains = append(m.Domains, d)
	}
	if err := m.Validate(); err != nil {
		return req, fmt.Errorf("the plan for host %s: %w", host, err)
	}
	req.Manifest = m
	return req, nil
}

func (p *Provider) secret(fingerprint string) (string, bool) {
	if p.Secret == nil {
		return "", false
	}
	return p.Secret(fingerprint)
}

// served reports whether a host's facts are what a request would bring about.
func served(req manifest.ConvergeRequest, f *manifest.Facts) bool {
	if f == nil || f.Manifest == nil || len(f.Service.Drift) > 0 || f.Service.BinarySHA256 != f.Agent.SHA256 {
		return false
	}
	want := req.Manifest
	if want.Relay != nil {
		relay := *want.Relay
		relay.Password = fingerprintOr(relay.Password, req.KeepRelayPassword)
		want.Relay = &relay
	}
	want.Domains = append([]manifest.Domain{}, want.Domains...)
	for i, d := range want.Domains {
		d.Mailboxes = append([]manifest.Mailbox(nil), d.Mailboxes...)
		for j, b := range d.Mailboxes {
			addr := b.Local + "@" + d.Name
			d.Mailboxes[j].PasswordHash = fingerprintOr(b.PasswordHash, req.KeepPasswords[addr])
			if d.Mailboxes[j].PasswordHash == "" && f.Passwords[addr] != passwordOnHost {
				return false // there is none yet, or nobody has seen it
			}
		}
		want.Domains[i] = d
	}
	a, errA := manifest.Encode(want)
	b, errB := manifest.Encode(f.Manifest)
	return errA == nil && errB == nil && string(a) == string(b)
}

func fingerprintOr(secret, print string) string {
	if secret == "" {
		return print
	}
	return manifest.Fingerprint(secret)
}

// wantedKeys reads an operation's signing keys.
func wantedKeys(v plan.Value) (keys []manifest.DKIMWanted, replace bool) {
	for _, k := range v.Items() {
		keys = append(keys, manifest.DKIMWanted{Domain: k.Field("domain").Str(), Selector: k.Field("selector").Str(), Algorithm: k.Field("algorithm").Str()})
		replace = replace || k.Field("replace").True()
	}
	return keys, replace
}

// keyOutputs are the TXT records of signing keys, by address.
func keyOutputs(keys []manifest.DKIMPublic) map[plan.Address]plan.Attrs {
	out := map[plan.Address]plan.Attrs{}
	for _, k := range keys {
		out[dkimAddr(k.Domain, k.Selector)] = plan.Attrs{"txt": plan.String(k.TXT)}
	}
	return out
}
