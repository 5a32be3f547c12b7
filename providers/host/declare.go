package host

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
	"mailform/specs"
)

// Kinds of resource.
const (
	kindAgent    = "agent"
	kindKey      = "dkim-key"
	kindStorage  = "storage"
	kindServer   = "server"
	kindMailbox  = "mailbox"
	kindAlias    = "alias"
	kindCatchAll = "catch-all"
	kindFile     = "file" // something that is not ours and stands in the place of ours
)

// Why things are not deleted without being named.
const (
	mailboxProtected = "it holds mail; a deleted mailbox is kept, disabled, for 30 days"
	keyProtected     = "mail signed with it may still be on its way"
	storageProtected = "the mail is on it; without it the server begins with none"
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

// kept completes a resource that lives where the mail and the keys are: on the data
// disk, which outlives the machine, when there is one. What a new machine is told of
// it comes with the server's settings.
func kept(h *specs.Host, r plan.Resource) plan.Resource {
	r = on(h, r)
	if h.Instance != nil && h.Instance.DataDisk != nil {
		r.Within = diskAddr(h.Name)
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

	settings := settingsOf(spec, h)
	server := plan.Resource{
		Address: serverAddr(h.Name), Kind: kindServer,
		Attrs:     settingsAttrs(settings),
		Outputs:   []string{"ready"},
		DependsOn: []plan.Address{certAddr(h.Name)},
		Effect:    h.Name + " answers as " + h.Hostname + " on ports " + portsOf(settings) + expiry(settings),
		Origin:    h.Range,
	}
	server.Attrs["version"] = plan.String(p.Version)
	server.Attrs["drift"] = plan.List()
	if b := spec.Backup; b != nil && b.Create {
		server.DependsOn = append(server.DependsOn, bucketAddr(b.Bucket))
	}
	for _, d := range settings.Domains {
		for _, k := range d.DKIM {
			server.DependsOn = append(server.DependsOn, dkimAddr(d.Name, k.Selector))
		}
	}
	rs := []plan.Resource{on(h, agent)}
	if h.Instance != nil && h.Instance.DataDisk != nil {
		rs = append(rs, kept(h, declareStorage(h)))
		server.DependsOn = append(server.DependsOn, storageAddr(h.Name))
	}
	rs = append(rs, p.declareHostKey(h)...)
	return append(rs, on(h, server))
}

// declareStorage wants the mail and the keys on the host's data disk. On a machine on
// which nothing serves yet it is mounted before a key is made; otherwise the server
// brings it about as a part of its settings, before anything else.
func declareStorage(h *specs.Host) plan.Resource {
	d := h.Instance.DataDisk
	return plan.Resource{
		Address: storageAddr(h.Name), Kind: kindStorage,
		Attrs: plan.Attrs{
			"host":     plan.String(h.Name),
			"serial":   plan.Unknown(plan.Addr("host", h.Name, "data-disk-link"), "serial"),
			"size_gib": number(d.SizeGiB),
			"drift":    plan.List(),
		},
		DependsOn: []plan.Address{diskAddr(h.Name)}, // it may be growing
		Protected: storageProtected,
		Effect:    "the mail and the keys of " + h.Hostname + " are on a disk of their own, which outlives the machine",
		Origin:    d.Range,
	}
}

// portsOf lists the ports that a manifest has served: "25, 143 and 993".
func portsOf(m *manifest.Manifest) string {
	services := manifest.ServicesOf(m)
	var words []string
	for _, s := range services[:len(services)-1] {
		words = append(words, strconv.Itoa(s.Port))
	}
	return strings.Join(words, ", ") + " and " + strconv.Itoa(services[len(services)-1].Port)
}

// signingKey is written "selector:algorithm" in attributes.
type signingKey struct{ selector, algorithm string }

func (k signingKey) String() string { return k.selector + ":" + k.algorithm }

func parseKey(s string) signingKey {
	selector, algorithm, _ := strings.Cut(s, ":")
	return signingKey{selector, algorithm}
}

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
		rs = append(rs, kept(h, plan.Resource{
			Address: dkimAddr(d.Name, k.selector), Kind: kindKey,
			Attrs:      plan.Attrs{"host": plan.String(h.Name), "algorithm": plan.String(k.algorithm), "rotate": plan.String(days(d.DKIM.Rotate))},
			CreateOnly: []string{"rotate"}, // for Schedule
			ReplaceOn:  []string{"algorithm", "host"},
			Outputs:    []string{"txt"},
			Protected:  keyProtected,
			Effect:     "mail from " + d.Name + " can be signed",
			Origin:     d.DKIM.Range,
		}))
	}
	for _, b := range d.Mailboxes {
		password := plan.String(passwordOnHost)
		if b.PasswordHash != "" {
			password = plan.Secret(specs.Fingerprint(b.PasswordHash))
		}
		rs = append(rs, kept(h, plan.Resource{
			Address: mailboxAddr(b.Local, d.Name), Kind: kindMailbox,
			Attrs: plan.Attrs{
				"host":        plan.String(h.Name),
				"name":        plan.String(b.Name),
				"quota_bytes": plan.Int(b.QuotaBytes),
				"aliases":     sorted(b.Aliases),
				"password":    password,

				"quota_messages": limit(b.QuotaMessages),
			},
			ReplaceOn: []string{"host"},
			Protected: mailboxProtected,
			Origin:    b.Range,
		}))
	}
	for _, a := range d.Aliases {
		rs = append(rs, kept(h, plan.Resource{
			Address: aliasAddr(a.Local, d.Name), Kind: kindAlias,
			Attrs:  plan.Attrs{"host": plan.String(h.Name), "to": sorted(a.To)},
			Origin: a.Range,
		}))
	}
	if d.CatchAll != "" {
		rs = append(rs, kept(h, plan.Resource{
			Address: catchAllAddr(d.Name), Kind: kindCatchAll,
			Attrs:  plan.Attrs{"host": plan.String(h.Name), "mailbox": plan.String(d.CatchAll)},
			Effect: "unknown recipients at " + d.Name + " are delivered to " + d.CatchAll,
			Origin: d.Range,
		}))
	}
	return rs
}

// days is a time span as a spec writes it, "180d"; "" for none.
func days(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d%(24*time.Hour) == 0:
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	return d.String()
}

// parseDays is the inverse of days.
func parseDays(s string) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSuffix(s, "d")); err == nil {
		return time.Duration(n) * 24 * time.Hour
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0
	}
	return d
}

// sorted is a list whose order does not matter.
func sorted(ss []string) plan.Value {
	ss = slices.Clone(ss)
	slices.Sort(ss)
	return plan.Strings(ss...)
}
