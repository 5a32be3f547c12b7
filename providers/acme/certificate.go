package acme

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
	"mailform/specs"
)

const kindCertificate = "certificate"

// Declare implements plan.Provider: one certificate for each host, or as many as
// its names need.
func (p *Provider) Declare(s *specs.Spec) ([]plan.Resource, specs.Diagnostics) {
	var out []plan.Resource
	for _, h := range s.Hosts {
		names := names(s, h)
		r := plan.Resource{
			Address: plan.Addr("cert", h.Name), Provider: Name, Kind: kindCertificate,
			Attrs: plan.Attrs{
				"host":         plan.String(h.Name),
				"names":        plan.Strings(names...),
				"key":          plan.String(s.TLS.Key),
				"directory":    plan.String(p.cfg.Directory),
				"renew_before": plan.String(s.TLS.RenewAfter.String()),
				"keep_key":     plan.Bool(published(s, h)),
			},
			CreateOnly: []string{"renew_before", "keep_key"}, // for Observe and for the next renewal
			Outputs:    []string{"not_after", "serial", "spki"},
			DependsOn:  []plan.Address{plan.Addr("host", h.Name, "agent")},
			Effect:     "clients and other servers trust " + h.Hostname,
			Origin:     h.Range,
		}
		if published(s, h) {
			r.ReplaceOn = []string{"key"} // what names the key has to follow
		}
		if h.Instance != nil {
			r.Within = plan.Addr("host", h.Name, "instance")
			if h.Instance.DataDisk != nil { // its key is there, too
				r.Within = diskAddr(h.Name)
			}
		}
		for _, n := range names {
			if z := plan.Addr("zone", zoneOf(s, n)); !slices.Contains(r.DependsOn, z) {
				r.DependsOn = append(r.DependsOn, z)
			}
		}
		out = append(out, grouped(r, nil)...)
	}
	return out, nil
}

func diskAddr(host string) plan.Address { return plan.Addr("host", host, "data-disk") }

// published reports whether the DNS names the key of a host's certificate (a TLSA
// record), so that renewals keep it. All other renewals make a new key.
func published(s *specs.Spec, h *specs.Host) bool {
	return slices.ContainsFunc(s.Domains, func(d *specs.Domain) bool { return d.DANE && d.Host == h.Name })
}

// zoneOf names the zone in which a name's challenge record is put up. Names of a
// zone block may lie under no mail domain.
func zoneOf(s *specs.Spec, name string) string {
	zone := s.ZoneDomain(name)
	if zone != name {
		return zone
	}
	for _, z := range s.Zones {
		if strings.HasSuffix(name, "."+z.Name) && (zone == name || len(z.Name) > len(zone)) {
			zone = z.Name
		}
	}
	return zone
}

// names are the DNS names of a host's certificate: its own first, then, sorted,
// those under which it answers HTTPS. A name that Cloudflare proxies is among
// them, because Cloudflare checks the certificate behind it too (SSL mode strict).
func names(s *specs.Spec, h *specs.Host) []string {
	var web []string
	for _, d := range s.Domains {
		if d.Host != h.Name {
			continue
		}
		if d.MTASTS != nil {
			web = append(web, manifest.MTASTSName(d.Name))
		}
		if d.Discovery {
			web = append(web, manifest.AutoconfigName(d.Name), manifest.AutodiscoverName(d.Name))
		}
	}
	for _, z := range s.Zones {
		for _, w := range z.Web {
			switch {
			case w.Host != h.Name:
			case w.Name == "@":
				web = append(web, z.Name)
			default:
				web = append(web, w.Name+"."+z.Name)
			}
		}
	}
	web = slices.DeleteFunc(web, func(n string) bool { return n == h.Hostname })
	slices.Sort(web)
	return append([]string{h.Hostname}, slices.Compact(web)...)
}

// Observe implements plan.Provider. What is installed was read with the rest of
// the host; the CA is asked one question about each certificate, all at the same
// time. A CA that does not answer is no error: then the spec decides when to renew.
func (p *Provider) Observe(ctx context.Context, scope plan.Scope) (plan.Observed, error) {
	var out plan.Observed
	var certs []manifest.Certificate
	var at []plan.Address
	var before time.Duration
	own := map[string]string{} // hosts' own names
	made := map[string]bool{}  // hosts whose machine mailform makes
	for _, r := range scope.Desired {
		if groupOf(r.Address) != 1 {
			continue
		}
		host := r.Attrs["host"].Str()
		own[host], made[host] = first(r.Attrs["names"].Texts()), r.Within != ""
		var err error // one tls block says it for all
		if before, err = time.ParseDuration(r.Attrs["renew_before"].Str()); err != nil {
			return out, fmt.Errorf("observe %s: %w", r.Address, err)
		}
		found, _ := p.cfg.Hosts.Certificates(host)
		for _, c := range found {
			if a := addressOf(host, c.Name); a != "" {
				certs, at = append(certs, c), append(at, a)
			}
		}
	}
	renewals, calls := p.Renewals(ctx, certs, before)
	out.Calls = calls
	for i, c := range certs {
		host := at[i].Segments()[1]
		var home plan.Address
		switch {
		case made[host] && c.OnDisk:
			home = diskAddr(host)
		case made[host]:
			home = plan.Addr("host", host, "instance")
		}
		out.Objects = append(out.Objects, plan.Object{
			Address: at[i], Within: home, Provider: Name, Kind: kindCertificate, ID: c.SerialHex, Owner: plan.Ours,
			Attrs: plan.Attrs{
				"host": plan.String(host), "names": plan.Strings(headed(c.Names, own[host])...),
				"key": plan.String(c.Key), "directory": plan.String(c.Directory), "renewal_info": plan.String(c.RenewalInfo),
			},
			Outputs:   outputs(c.NotAfter, c.SerialHex, c.SPKI),
			DependsOn: []plan.Address{plan.Addr("host", host, "agent")},
			Due:       renewals[i].Due,
			Renews:    renewals[i].At, RenewsWhy: renewals[i].Why,
		})
	}
	return out, ctx.Err()
}

// headed gives a host's sorted names the order in which they are declared: its
// own first.
func headed(sorted []string, own string) []string {
	i := slices.Index(sorted, own)
	if i < 0 {
		return sorted
	}
	return slices.Concat([]string{own}, sorted[:i], sorted[i+1:])
}

func outputs(notAfter time.Time, serial, spki string) plan.Attrs {
	return plan.Attrs{
		"not_after": plan.String(notAfter.UTC().Format(time.RFC3339)),
		"serial":    plan.String(serial),
		"spki":      plan.String(spki),
	}
}

// outputsOf are the outputs of a certificate that was just issued.
func outputsOf(leaf *x509.Certificate) plan.Attrs {
	spki := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return outputs(leaf.NotAfter, hex.EncodeToString(leaf.SerialNumber.Bytes()), hex.EncodeToString(spki[:]))
}

// The kinds of this provider's operations, in the order in which they happen.
const (
	opRequest = "Request" // key and signing request, on the host
	opObtain  = "Obtain"  // order, proof and issue, at the CA
	opInstall = "Install" // on the host
	opRemove  = "Remove"  // from the host, what holds no name any more
)

// Compile implements plan.Provider. The certificate of a host that goes needs
// nothing: it goes with what is removed there. One of several that holds no name any
// more is taken away.
func (p *Provider) Compile(changes []plan.Change) []plan.Op {
	var ops []plan.Op
	var all []string
	for _, c := range changes {
		if c.Pending() && c.Action != plan.Delete {
			all = append(all, string(c.Address))
		}
	}
	for _, c := range changes {
		if !c.Pending() {
			continue
		}
		a := c.Address
		if c.Action == plan.Delete {
			host := a.Segments()[1]
			if groupOf(a) > 1 && !slices.ContainsFunc(changes, func(o plan.Change) bool {
				return o.Address == groupAddress(host, 1) && o.Action == plan.Delete
			}) {
				ops = append(ops, plan.Op{
					ID: Name + "." + opRemove + " " + string(a), Provider: Name, Kind: opRemove, Title: "remove a certificate without names from " + host,
					Addresses: []plan.Address{a}, Inputs: plan.Attrs{"host": plan.String(host)}, Seconds: 1,
				})
			}
			continue
		}
		host := c.After["host"]
		id := func(kind string) string { return Name + "." + kind + " " + string(a) }
		op := func(kind, title string, seconds int, inputs plan.Attrs, after ...string) plan.Op {
			inputs["host"] = host
			return plan.Op{
				ID: id(kind), Provider: Name, Kind: kind, Title: title, Addresses: []plan.Address{a},
				Inputs: inputs, After: after, Seconds: seconds,
			}
		}
		request := "make the TLS key and a signing request on "
		if c.After["keep_key"].True() {
			request = "make a signing request for the TLS key on "
		}
		asked := plan.Attrs{"names": c.After["names"], "key": c.After["key"], "keep_key": c.After["keep_key"]}
		if c.Action == plan.Create && slices.Contains(c.DependsOn, diskAddr(host.Str())) {
			// The disk may bring one that could not be seen before it was mounted.
			asked["adopt"], asked["directory"], asked["renew_before"] = plan.Bool(true), c.After["directory"], c.After["renew_before"]
		}
		obtain := plan.Attrs{"names": c.After["names"], "directory": c.After["directory"], "csr": plan.Unknown(a, "csr")}
		if len(all) > 1 {
			obtain["beside"] = plan.Strings(all...) // their challenge records go up together
		}
		if c.Before["directory"].Equal(c.After["directory"]) && c.Before["renewal_info"].Str() != "" {
			obtain["replaces"] = plan.String(replacedID(c.Before["renewal_info"].Str()))
		}
		ops = append(ops,
			op(opRequest, request+host.Str(), 1, asked),
			op(opObtain, "get the certificate for "+first(c.After["names"].Texts()), 20, obtain, id(opRequest)),
			op(opInstall, "install the certificate on "+host.Str(), 1,
				plan.Attrs{"directory": c.After["directory"], "chain": plan.Unknown(a, "chain"), "renewal_info": plan.Unknown(a, "renewal_info")}, id(opObtain)),
		)
	}
	return ops
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// Do implements plan.Provider. Each of the three operations can be repeated
// without harm, so tokens are not needed: the host takes up a key that waits, the CA
// reuses proofs, installing the same chain again changes nothing.
func (p *Provider) Do(ctx context.Context, op plan.Op, _ plan.Token, progress plan.Progress) (plan.Result, error) {
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	host, name, names := op.Inputs["host"].Str(), certName(op.Addresses[0]), op.Inputs["names"].Texts()
	var out plan.Attrs
	switch op.Kind {
	case opRequest:
		if c, err := p.brought(ctx, op); err != nil {
			return plan.Result{}, err
		} else if c != nil {
			progress("the data disk has brought a certificate that is good until "+c.NotAfter.UTC().Format("2006-01-02"), 0, 0)
			out = plan.Attrs{"csr": plan.String("")}
			break
		}
		csr, err := p.cfg.Hosts.CertificateRequest(ctx, host, name, names, op.Inputs["key"].Str(), op.Inputs["keep_key"].True())
		if err != nil {
			return plan.Result{}, err
		}
		if _, err := parseRequest(csr, names); err != nil {
			return plan.Result{}, p.failure(op.Title, err)
		}
		out = plan.Attrs{"csr": plan.String(string(csr))}
	case opObtain:
		if nothingToDo(op.Inputs["csr"]) {
			p.gather.end(string(op.Addresses[0])) // nobody has to wait for its records
			out = plan.Attrs{"chain": plan.String(""), "renewal_info": plan.String("")}
			break
		}
		chain, ask, err := p.obtain(ctx, op, progress)
		if err != nil {
			return plan.Result{}, err
		}
		out = plan.Attrs{"chain": plan.String(string(chain)), "renewal_info": plan.String(ask)}
	case opInstall:
		if nothingToDo(op.Inputs["chain"]) {
			c := p.installed(host, name)
			if c == nil {
				return plan.Result{}, p.failure(op.Title, fmt.Errorf("the certificate that the data disk had brought is gone"))
			}
			out = outputs(c.NotAfter, c.SerialHex, c.SPKI)
			break
		}
		leaf, err := parseChain([]byte(op.Inputs["chain"].Str()))
		if err != nil {
			return plan.Result{}, p.failure(op.Title, err)
		}
		meta := map[string]string{"directory": op.Inputs["directory"].Str()}
		if ask := op.Inputs["renewal_info"].Str(); ask != "" {
			meta[manifest.MetaRenewalInfo] = ask
		}
		if err := p.cfg.Hosts.InstallCertificate(ctx, host, name, []byte(op.Inputs["chain"].Str()), meta); err != nil {
			return plan.Result{}, err
		}
		p.tidy(ctx, progress)
		out = outputsOf(leaf)
	case opRemove:
		if err := p.cfg.Hosts.RemoveCertificate(ctx, host, name); err != nil {
			return plan.Result{}, err
		}
	default:
		return plan.Result{}, fmt.Errorf("acme: no operation %q", op.Kind)
	}
	return plan.Result{Outputs: map[plan.Address]plan.Attrs{op.Addresses[0]: out}}, nil
}

// Resolve implements plan.Provider. A lost signing request or chain is asked for
// again; whether a chain was installed can be seen when the host was observed
// since.
func (p *Provider) Resolve(_ context.Context, op plan.Op, _ plan.Token) (plan.Verdict, plan.Result, error) {
	if op.Kind != opInstall {
		return plan.NotDone, plan.Result{}, nil
	}
	leaf, err := parseChain([]byte(op.Inputs["chain"].Str()))
	if err != nil {
		return plan.NotDone, plan.Result{}, nil // it was never known: nothing was sent
	}
	serial := hex.EncodeToString(leaf.SerialNumber.Bytes())
	if c := p.installed(op.Inputs["host"].Str(), certName(op.Addresses[0])); c != nil && c.SerialHex == serial {
		return plan.Done, plan.Result{Outputs: map[plan.Address]plan.Attrs{op.Addresses[0]: outputsOf(leaf)}}, nil
	}
	return plan.NotDone, plan.Result{}, nil
}
