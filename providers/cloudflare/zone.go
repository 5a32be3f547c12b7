package cloudflare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mailform/plan"
	"mailform/specs"
)

// block wants what a zone block says.
func (d *declaration) block(z *specs.Zone) {
	d.zone(z.Name, z.Range)
	d.caa(z)
	for i := range z.Web {
		d.web(z, &z.Web[i])
	}
	d.security(z)
}

// web wants a name that leads to a host's web service.
func (d *declaration) web(z *specs.Zone, w *specs.Web) {
	h := d.spec.Host(w.Host)
	if h == nil {
		return // reported where the spec is read
	}
	name := z.Name
	if w.Name != "@" {
		name = canonicalName(w.Name) + "." + z.Name
	}
	effect := name + " leads to the web service of " + h.Name
	if w.Proxied {
		effect += " through Cloudflare"
	}
	d.leadTo(h, z.Name, name, plan.Resource{
		Address: plan.Addr("dns", z.Name, "web", w.Name), DependsOn: served(h), Effect: effect, Origin: w.Range,
	}, w.Proxied)
}

// issuer is the CAA name of the CA of our certificates, "" when it is not known.
func (d *declaration) issuer() string { return cmp.Or(d.spec.ACME.Issuer, specs.IssuerOf(d.ca())) }

// caa wants the records that say who may issue certificates for a zone (RFC 8659).
// The CA of our own certificates is always among them.
func (d *declaration) caa(z *specs.Zone) {
	if len(z.CAA) == 0 {
		return
	}
	values := slices.Clone(z.CAA)
	if own := d.issuer(); own != "" {
		values = append(values, own)
	} else {
		d.report(specs.SeverityWarning, "MF5231", "the name of the CA at "+d.ca()+" in CAA records is not known",
			"The zone "+z.Name+" lets only those issue certificates that its caa names. The name of the CA from which mailform gets certificates must be among them, or it will refuse; its documentation says what it is: write it as issuer in provider \"acme\".", z.Range)
	}
	seen := map[string]bool{}
	for _, v := range values {
		content := caaContent(0, "issue", v)
		by := issuer(content)
		if by == "" || seen[by] {
			continue
		}
		seen[by] = true
		d.record(z.Name, plan.Resource{
			Address: plan.Addr("dns", z.Name, "caa", by),
			Attrs:   plan.Attrs{"name": plan.String(z.Name), "type": plan.String("CAA"), "content": plan.String(content)},
			Effect:  fmt.Sprintf("%s may issue certificates for %s", by, z.Name),
			Origin:  z.Range,
		})
	}
}

// lockedOut says that the CAA records of a zone, as found and as wanted, keep our
// CA from issuing a certificate for a name that needs one. Those of the closest
// name that has any count (RFC 8659 3).
func (v *view) lockedOut() (plan.Advice, bool) {
	if v.issuer == "" {
		return plan.Advice{}, false
	}
	at := map[string][]string{} // who may issue, by name
	add := func(name, kind, content string) {
		if _, tag, _, ok := readCAA(content); ok && kind == "CAA" && tag == "issue" {
			at[name] = append(at[name], issuer(content))
		}
	}
	for _, r := range v.records {
		add(r.name, r.kind, r.content)
	}
	for _, s := range v.wanted {
		add(s.name, s.kind, s.content)
	}
	for _, s := range v.wanted {
		if !addressRole(s.role) || s.wanted["proxied"].True() {
			continue
		}
		for name := s.name; under(name, v.zone.name); {
			if who := at[name]; len(who) > 0 {
				if !slices.Contains(who, v.issuer) {
					return plan.Advice{
						Code: adviceCAA, About: "zone " + v.zone.name, Title: fmt.Sprintf("CAA records at %s do not let %s issue a certificate for %s", name, v.issuer, s.name),
						Text: fmt.Sprintf("They name %s, so that the CA would refuse, and mailform does not ask it (RFC 8659). Beside them write a record CAA %s 0 issue %q, or, for the zone's own name, put caa into the zone block of the spec.",
							namedIssuers(who), name, v.issuer),
					}, true
				}
				break
			}
			_, parent, more := strings.Cut(name, ".")
			if !more {
				break
			}
			name = parent
		}
	}
	return plan.Advice{}, false
}

// namedIssuers lists who may issue; a record that forbids it to everybody names nobody.
func namedIssuers(who []string) string {
	names := slices.DeleteFunc(slices.Clone(who), func(n string) bool { return n == "" })
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
