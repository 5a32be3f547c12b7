package alicloud

import (
	"strings"

	"mailform/plan"
)

// adviceRegion is the code of the advice about where a machine is to stand.
const adviceRegion = "region-mainland"

var _ plan.Advisor = (*Provider)(nil)

// Advise says what is worth knowing about the region before a machine is made in it,
// and nothing once it stands there: then moving it is the greater trouble. That web
// names need an ICP filing there is found in the spec.
func (p *Provider) Advise() []plan.Advice {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []plan.Advice
	for _, host := range p.planned {
		out = append(out, plan.Advice{
			Code: adviceRegion, About: "host " + host, Title: "it would stand in mainland China, region " + p.region,
			Text: "That is near to people and servers in mainland China and far from all others: connections across its border take long, are lost at times, and are looked into. " +
				"Mail to and from abroad is slower for it, and reading it from abroad is. If people here and elsewhere read it, cn-hongkong is near to the mainland and outside of that border; " +
				"ap-southeast-1 (Singapore), ap-northeast-1 (Tokyo), eu-central-1 (Frankfurt) and us-east-1 (Virginia) are near to those around them. A machine cannot be moved later, only made anew.",
			Links: []string{"https://www.alibabacloud.com/help/en/ecs/product-overview/regions-and-zones"},
			Spec:  "provider \"alicloud\" {\n  region = \"cn-hongkong\"\n}\n",
		})
	}
	return out
}

// mainland reports whether a region is in mainland China.
func mainland(region string) bool {
	return strings.HasPrefix(region, "cn-") && region != "cn-hongkong"
}

// note remembers which hosts are still to be made in the mainland.
func (p *Provider) note(desired []plan.Resource, found []plan.Object) {
	var planned []string
	if mainland(p.region) {
		there := map[plan.Address]bool{}
		for _, o := range found {
			there[o.Address] = true
		}
		for _, d := range desired {
			if d.Kind == kindInstance && !there[d.Address] {
				planned = append(planned, hostOf(d.Address))
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.planned = planned
}
