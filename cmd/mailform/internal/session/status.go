package session

import (
	"context"
	"sync"
	"time"

	"mailform/apply"
	"mailform/plan"
	"mailform/providers/acme"
	"mailform/providers/alicloud"
	"mailform/providers/host"
)

// HostStatus is what became of asking one host about itself.
type HostStatus struct {
	Name, Hostname string
	host.Inspection
	Renewals []acme.Renewal           // of the certificates in Facts, in their order
	Rotate   map[string]time.Duration // how long a signing key of a domain signs; 0 or none: for ever
	Advice   []plan.Advice
	Err      error // why it could not be asked
}

// Status asks every host of the spec about itself, all at the same time: one
// that does not answer says nothing about the others.
func (s *Session) Status(ctx context.Context, sink apply.Sink) ([]HostStatus, error) {
	agents, known, err := s.agents(ctx, sink)
	if err != nil {
		return nil, err
	}
	out := make([]HostStatus, len(s.Spec.Hosts))
	var wg sync.WaitGroup
	for i, h := range s.Spec.Hosts {
		wg.Go(func() {
			st := HostStatus{Name: h.Name, Hostname: h.Hostname, Rotate: map[string]time.Duration{}}
			for _, d := range s.Spec.Domains {
				if d.DKIM != nil {
					st.Rotate[d.Name] = d.DKIM.Rotate
				}
			}
			st.Inspection, st.Err = s.hosts.Inspect(ctx, agents[h.Name], known)
			if st.Facts != nil {
				st.Advice = host.AdviseOn(h.Name, h.Hostname, st.Address, h.Instance != nil, st.Facts)
				st.Renewals, _ = s.certs.Renewals(ctx, st.Facts.Certificates, s.Spec.TLS.RenewAfter)
			}
			out[i] = st
		})
	}
	wg.Wait()
	return out, ctx.Err()
}

// agents gives the declared agents by host name, and what tells where they are.
func (s *Session) agents(ctx context.Context, sink apply.Sink) (map[string]plan.Resource, func(plan.Ref) (plan.Value, bool), error) {
	known, err := s.cloudOutputs(ctx, sink)
	if err != nil {
		return nil, nil, err
	}
	desired, diags := s.hosts.Declare(s.Spec)
	if diags.HasErrors() {
		return nil, nil, &SpecError{s.Sources, diags}
	}
	agents := map[string]plan.Resource{}
	for _, r := range desired {
		if host.IsAgent(r) {
			agents[r.Address.Segments()[1]] = r
		}
	}
	return agents, known, nil
}

// cloudOutputs reads the cloud for the addresses and host keys of its instances.
func (s *Session) cloudOutputs(ctx context.Context, sink apply.Sink) (func(plan.Ref) (plan.Value, bool), error) {
	outputs := map[plan.Address]plan.Attrs{}
	c := s.config(sink)
	for _, p := range s.Providers {
		if p.Name() != alicloud.Name {
			continue
		}
		desired, diags := p.Declare(s.Spec)
		if diags.HasErrors() {
			return nil, &SpecError{s.Sources, diags}
		}
		c.Providers = []plan.Provider{p}
		objects, _, _, err := apply.Observe(ctx, c, s.Spec.Stack.Name, desired)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			outputs[o.Address] = o.Outputs
		}
	}
	return func(r plan.Ref) (plan.Value, bool) {
		v := outputs[r.Address][r.Attr]
		return v, !v.IsNull()
	}, nil
}
