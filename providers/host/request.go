package host

import (
	"fmt"

	"mailform/plan"
	"mailform/server/manifest"
)

// convergeRequest turns an operation's manifest value into the agent's request.
// Secrets that Config.Secret does not know are the host's to keep.
func (p *Provider) convergeRequest(claim manifest.Claim, v plan.Value) (manifest.ConvergeRequest, error) {
	req := manifest.ConvergeRequest{Claim: claim, KeepPasswords: map[string]string{}}
	m := readSettings(v)
	m.Format, m.Stack, m.Host, m.Domains = manifest.Format, claim.Stack, claim.Host, []manifest.Domain{}
	if m.Relay != nil {
		m.Relay.Password, req.KeepRelayPassword = p.secretOrKeep(m.Relay.Password)
	}
	if m.Backup != nil {
		m.Backup.SecretAccessKey, req.KeepBackupSecret = p.secretOrKeep(m.Backup.SecretAccessKey)
	}
	for _, dv := range v.Field("domains").Items() {
		d := readDomain(dv)
		for _, bv := range dv.Field("mailboxes").Items() {
			b := manifest.Mailbox{
				Local: bv.Field("local").Str(), Name: bv.Field("name").Str(), QuotaBytes: bv.Field("quota_bytes").Num(),
				QuotaMessages: bv.Field("quota_messages").Num(), Aliases: bv.Field("aliases").Texts(),
			}
			var keep string
			if b.PasswordHash, keep = p.secretOrKeep(bv.Field("password").Fingerprint()); keep != "" {
				req.KeepPasswords[b.Local+"@"+d.Name] = keep
			}
			d.Mailboxes = append(d.Mailboxes, b)
		}
		for _, av := range dv.Field("aliases").Items() {
			d.Aliases = append(d.Aliases, manifest.Alias{Local: av.Field("local").Str(), To: av.Field("to").Texts()})
		}
		m.Domains = append(m.Domains, d)
	}
	if err := m.Validate(); err != nil {
		return req, fmt.Errorf("the plan for host %s: %w", claim.Host, err)
	}
	req.Manifest = m
	return req, nil
}

// secretOrKeep returns the text behind a fingerprint or, when only the host
// knows it, the fingerprint of what is to be kept.
func (p *Provider) secretOrKeep(fingerprint string) (text, keep string) {
	if fingerprint == "" {
		return "", ""
	}
	if p.Secret != nil {
		if text, known := p.Secret(fingerprint); known {
			return text, ""
		}
	}
	return "", fingerprint
}

// served reports whether a host's facts are what a request would bring about.
func served(req manifest.ConvergeRequest, f *manifest.Facts) bool {
	if f == nil || f.Manifest == nil || f.Trial != nil || len(f.Service.Drift) > 0 || f.Storage != nil && len(f.Storage.Drift) > 0 || f.Service.BinarySHA256 != f.Agent.SHA256 {
		return false
	}
	want := req.Manifest
	if want.Relay != nil {
		relay := *want.Relay
		relay.Password = fingerprintOr(relay.Password, req.KeepRelayPassword)
		want.Relay = &relay
	}
	if want.Backup != nil {
		backup := *want.Backup
		backup.SecretAccessKey = fingerprintOr(backup.SecretAccessKey, req.KeepBackupSecret)
		want.Backup = &backup
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

// fingerprintOr is a secret's fingerprint, or print when there is no secret.
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
