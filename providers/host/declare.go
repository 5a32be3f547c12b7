package host

import (
	"slices"
	"strings"

	"mailform/plan"
	"mailform/specs"
)

// Kinds of resource.
const (
	kindAgent    = "agent"
	kindKey      = "dkim-key"
	kindServer   = "server"
	kindMailbox  = "mailbox"
	kindAlias    = "alias"
	kindCatchAll = "catch-all"
)

// Why things are not deleted without being named.
const (
	mailboxProtected = "it holds mail; a deleted mailbox is kept, disabled, for 30 days"
	keyProtected     = "mail signed with it may still be on its way"
)

// passwordOnHost is the value of a mailbox's password when the host makes it.
const passwordOnHost = "host"

// Declare implements plan.Provider.
func (p *Provider) Declare(spec *specs.Spec) ([]plan.Resource, specs.Diagnostics) {
	var rs []plan.Resource
	for _, h := range spec.Hosts {
		rs = append(rs, p.declareHost(spec, h)...)
	}
	for _, d := range spec.Domains {
		if h := spec.Host(d.Host); h != nil {
			rs = append(rs, declareDomain(h, d)...)
		}
	}
	for i := range rs {
		rs[i].Provider = Name
	}
	return rs, nil
}

// on completes a resource that lives on a host: it needs the agent, and it is
// lost with a machine that mailform made.
func on(h *specs.Host, r plan.Resource) plan.Resource {
	if h.Instance != nil {
		r.Within = plan.Addr("host", h.Name, "instance")
	}
	if r.Address != agentAddr(h.Name) {
		r.DependsOn = append(r.DependsOn, agentAddr(h.Name))
	}
	return r
}

func (p *Provider) declareHost(spec *specs.Spec, h *specs.Host) []plan.Resource {
	agent := plan.Resource{
		Address: agentAddr(h.Name), Kind: kindAgent,
		Attrs:      targetOf(h),
		CreateOnly: targetAttrs,
		Outputs:    []string{"arch"},
		Effect:     "mailformd is installed on " + h.Name,
		Origin:     h.Range,
	}
	agent.Attrs["version"] = plan.String(p.Version)
	if h.Instance != nil {
		agent.DependsOn = []plan.Address{plan.Addr("host", h.Name, "address-link"), plan.Addr("host", h.Name, "firewall")}
	}

	server := plan.Resource{
		Address: serverAddr(h.Name), Kind: kindServer,
		Attrs: plan.Attrs{
			"version":           plan.String(p.Version),
			"hostname":          plan.String(h.Hostname),
			"max_message_bytes": plan.Int(spec.Server.MaxMessageBytes),
			"relay":             relayValue(spec.Server.Relay),
			"drift":             plan.List(),
		},
		Outputs:   []string{"ready"},
		DependsOn: []plan.Address{certAddr(h.Name)},
		Effect:    h.Name + " answers as " + h.Hostname + " on ports 25, 143, 465, 587 and 993",
		Origin:    h.Range,
	}
	domains := map[string]plan.Value{}
	for _, d := range spec.Domains {
		if d.Host != h.Name {
			continue
		}
		var keys []string
		for _, k := range signingKeys(d) {
			keys = append(keys, k.selector+":"+k.algorithm)
			server.DependsOn = append(server.DependsOn, dkimAddr(d.Name, k.selector))
		}
		domains[d.Name] = domainValue(keys)
	}
	server.Attrs["domains"] = plan.Map(domains)
	return []plan.Resource{on(h, agent), on(h, server)}
}

// domainValue is a domain in the server's attributes: "selector:algorithm" of
// the keys it signs with.
func domainValue(keys []string) plan.Value {
	slices.Sort(keys)
	return plan.Map(map[string]plan.Value{"sign": plan.Strings(keys...)})
}

func relayValue(r *specs.Relay) plan.Value {
	if r == nil {
		return plan.Null()
	}
	v := map[string]plan.Value{"host": plan.String(r.Host), "port": plan.Int(int64(r.Port)), "username": plan.String(r.Username)}
	if r.Password != "" {
		v["password"] = plan.Secret(specs.Fingerprint(r.Password))
	}
	return plan.Map(v)
}

type signingKey struct{ selector, algorithm string }

// signingKeys are a domain's keys: the selector's prefix and the kind of key.
func signingKeys(d *specs.Domain) []signingKey {
	if d.DKIM == nil {
		return nil
	}
	var out []signingKey
	for _, a := range d.DKIM.Algorithms {
		kind := a
		if strings.HasPrefix(a, "rsa") {
			kind = "rsa"
		}
		out = append(out, signingKey{d.DKIM.Selector + "-" + kind, a})
	}
	return out
}

func declareDomain(h *specs.Host, d *specs.Domain) []plan.Resource {
	var rs []plan.Resource
	for _, k := range signingKeys(d) {
		rs = append(rs, on(h, plan.Resource{
			Address: dkimAddr(d.Name, k.selector), Kind: kindKey,
			Attrs:     plan.Attrs{"host": plan.String(h.Name), "algorithm": plan.String(k.algorithm)},
			ReplaceOn: []string{"algorithm", "host"},
			Outputs:   []string{"txt"},
			Protected: keyProtected,
			Effect:    "mail from " + d.Name + " can be signed",
			Origin:    d.DKIM.Range,
		}))
	}
	for _, b := range d.Mailboxes {
		password := plan.String(passwordOnHost)
		if b.PasswordHash != "" {
			password = plan.Secret(specs.Fingerprint(b.PasswordHash))
		}
		rs = append(rs, on(h, plan.Resource{
			Address: mailboxAddr(b.Local, d.Name), Kind: kindMailbox,
			Attrs: plan.Attrs{
				"host":        plan.String(h.Name),
				"name":        plan.String(b.Name),
				"quota_bytes": plan.Int(b.QuotaBytes),
				"aliases":     sorted(b.Aliases),
				"password":    password,
			},
			ReplaceOn: []string{"host"},
			Protected: mailboxProtected,
			Origin:    b.Range,
		}))
	}
	for _, a := range d.Aliases {
		rs = append(rs, on(h, plan.Resource{
			Address: aliasAddr(a.Local, d.Name), Kind: kindAlias,
			Attrs:  plan.Attrs{"host": plan.String(h.Name), "to": sorted(a.To)},
			Origin: a.Range,
		}))
	}
	if d.CatchAll != "" {
		rs = append(rs, on(h, plan.Resource{
			Address: catchAllAddr(d.Name), Kind: kindCatchAll,
			Attrs:  plan.Attrs{"host": plan.String(h.Name), "mailbox": plan.String(d.CatchAll)},
			Effect: "unknown recipients at " + d.Name + " are delivered to " + d.CatchAll,
			Origin: d.Range,
		}))
	}
	return rs
}

// sorted is a list whose order does not matter.
func sorted(ss []string) plan.Value {
	ss = slices.Clone(ss)
	slices.Sort(ss)
	return plan.Strings(ss...)
}
