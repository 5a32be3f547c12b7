package cloudflare

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"mailform/plan"
	"mailform/specs"
)

const adviceRanges = "cloudflare-networks"

// adviseRanges compares the networks of the vendor's proxies with those that this
// version knows, to which a host's port 443 is open. What cannot be asked, and what is
// no network, is worth no advice.
// https://developers.cloudflare.com/api/resources/ips/methods/list/
func (p *Provider) adviseRanges(ctx context.Context) []plan.Advice {
	var got struct {
		V4 []string `json:"ipv4_cidrs"`
		V6 []string `json:"ipv6_cidrs"`
	}
	if err := p.api.rest(ctx, "read the networks of Cloudflare's proxies", http.MethodGet, rangesPath, nil, &got); err != nil || len(got.V4) == 0 {
		return nil
	}
	known := specs.CloudflareNetworks()
	var now, fresh, gone []string
	for _, n := range append(got.V4, got.V6...) {
		prefix, err := netip.ParsePrefix(n)
		if err != nil || prefix.Bits() < 8 { // nobody opens a port to half of the Internet because an answer says so
			return nil
		}
		now = append(now, prefix.Masked().String())
	}
	for _, n := range now {
		if !slices.Contains(known, n) {
			fresh = append(fresh, n)
		}
	}
	for _, n := range known {
		if !slices.Contains(now, n) {
			gone = append(gone, n)
		}
	}
	if len(fresh)+len(gone) == 0 {
		return nil
	}
	a := plan.Advice{
		Code: adviceRanges, About: "firewall", Title: "Cloudflare's proxies have other networks than this version of mailform knows",
		Links: []string{"https://www.cloudflare.com/ips/"},
	}
	if len(gone) > 0 {
		a.Text += fmt.Sprintf("Port 443 is still open to %s, which are no longer theirs. ", strings.Join(gone, ", "))
	}
	a.Text += "A newer mailform knows them."
	if len(fresh) > 0 {
		a.Text = fmt.Sprintf("Visitors of proxied names who come through %s cannot reach the host. ", strings.Join(fresh, ", ")) + a.Text + " Until then, these lines in the host block let them in:"
		a.Spec = fmt.Sprintf("allow \"cloudflare\" {\n  port = 443\n  from = [%s]\n}\n", quoted(fresh))
	}
	return []plan.Advice{a}
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = `"` + s + `"`
	}
	return strings.Join(out, ", ")
}
