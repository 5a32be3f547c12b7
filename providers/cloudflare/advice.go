package cloudflare

import (
	"fmt"
	"slices"
	"strings"

	"mailform/plan"
)

// Codes of advice about zones, beside those of dnssec.go.
const (
	adviceUnserved  = "zone-not-served"
	adviceCAA       = "caa-forbids-issuer"
	adviceDisturbed = "record-disturbed"
	adviceSweep     = "zones-not-searched"
	advicePlan      = "zone-plan-unknown"
)

var _ plan.Advisor = (*Provider)(nil)

// Advise implements plan.Advisor, from the last observation.
func (p *Provider) Advise() []plan.Advice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.advice)
}

// advise is what there is to say about a zone of the spec.
func (v *view) advise() []plan.Advice {
	out := v.notes
	if a, ok := v.zone.adviceUnserved(); ok {
		return append(out, a) // whether it is signed does not matter yet
	}
	if v.signed != nil {
		if a, ok := v.signed.advice(v.zone, v.dane); ok {
			out = append(out, a)
		}
	}
	return out
}

// adviceUnserved says what to do about a zone that the Internet does not ask the vendor about.
func (z zone) adviceUnserved() (plan.Advice, bool) {
	note, ok := z.unserved()
	return plan.Advice{
		Code: adviceUnserved, About: "zone " + z.name, Title: "nobody sees its records yet (" + z.status + ")",
		Text:  "This is " + note + ". " + z.unservedFix() + ". Until then no certificate can be had for its names, and no mail comes.",
		Links: []string{"https://developers.cloudflare.com/dns/zone-setups/full-setup/setup/"},
	}, ok
}

// unservedFix is what to do so that a zone is served.
func (z zone) unservedFix() string {
	return fmt.Sprintf("At the registrar of %s set the name servers to %s, and wait until Cloudflare shows the zone as active", z.name, strings.Join(z.nameServers, " and "))
}

// adviseDisturbed says which records of others take away the meaning of one of ours.
func (v *view) adviseDisturbed(a plan.Address, harms []string) {
	v.notes = append(v.notes, plan.Advice{
		Code: adviceDisturbed, About: string(a), Title: "somebody else's record in zone " + v.zone.name + " disturbs it",
		Text: strings.Join(harms, ".\n") + ".\nmailform leaves it alone: delete it at Cloudflare when nobody needs it.",
	})
}
