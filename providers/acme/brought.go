package acme

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
)

// A certificate on a data disk cannot be seen while no machine has the disk mounted:
// when the plan is made between two machines, it says that one is to be made. What
// turns out to be there, and is as wanted, is taken instead, and the CA is not asked.
// The operations then hand on empty texts.

// brought is the certificate that a host has by now and that the operation would
// otherwise ask for anew; nil for none, or for one that is due.
func (p *Provider) brought(ctx context.Context, op plan.Op) (*manifest.Certificate, error) {
	if !op.Inputs["adopt"].True() {
		return nil, nil
	}
	c := p.installed(op.Inputs["host"].Str(), certName(op.Addresses[0]))
	if c == nil || c.Key != op.Inputs["key"].Str() || c.Directory != op.Inputs["directory"].Str() ||
		!slices.Equal(c.Names, slices.Sorted(slices.Values(op.Inputs["names"].Texts()))) {
		return nil, nil
	}
	before, err := time.ParseDuration(op.Inputs["renew_before"].Str())
	if err != nil {
		return nil, fmt.Errorf("acme: operation %s: %w", op.ID, err)
	}
	if renewals, _ := p.Renewals(ctx, []manifest.Certificate{*c}, before); renewals[0].Due != "" {
		return nil, nil
	}
	return c, nil
}

// installed is a certificate as it was last seen on a host; nil for none.
func (p *Provider) installed(host, name string) *manifest.Certificate {
	found, _ := p.cfg.Hosts.Certificates(host)
	if i := slices.IndexFunc(found, func(c manifest.Certificate) bool { return c.Name == name }); i >= 0 {
		return &found[i]
	}
	return nil
}

// nothingToDo tells the empty text of a certificate that is there from one that is
// not known.
func nothingToDo(v plan.Value) bool { return v.Kind() == plan.KindString && v.Str() == "" }
