package session

import (
	"context"
	"fmt"
	"strings"

	"mailform/apply"
	"mailform/cmd/mailform/internal/adopt"
	"mailform/plan"
	"mailform/providers/alicloud"
	"mailform/providers/cloudflare"
	"mailform/specs"
)

// Adopt reads the domains' zones, the cloud account and the hosts, and returns
// the spec that describes what is there, with notes for the person. It changes
// nothing.
func Adopt(ctx context.Context, env Env, domains []string, o adopt.Options) (*specs.Spec, []string, error) {
	bare := &specs.Spec{Stack: specs.Stack{Name: o.Stack}, AliCloud: specs.AliCloud{Region: o.Region}}
	s, err := open(env, Options{}, &Session{Spec: bare})
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	spec, notes, err := s.survey(ctx, domains, o)
	if err != nil {
		return nil, nil, err
	}
	instances, note, err := s.cloudOf(ctx, spec.Stack.Name, o.Region)
	switch {
	case err != nil:
		return nil, nil, err
	case note != "":
		notes = append(notes, note)
	default:
		adopt.Instances(spec, instances)
	}

	// Through that spec everything else can be read.
	full, err := open(env, Options{}, &Session{Spec: spec})
	if err != nil {
		return nil, nil, err
	}
	defer full.Close()
	objects, err := full.found(ctx, full.Providers)
	if plan.ClassOf(err) == plan.ErrCredentials {
		// Rules need a permission that not every token has.
		spec.Zones = nil
		notes = append(notes, "the rules of the zones were not read: "+firstLine(err.Error()))
		objects, err = full.found(ctx, full.Providers)
	}
	if err != nil {
		// A host that cannot be read yet is no reason not to describe the rest.
		notes = append(notes, "the hosts were not read: "+firstLine(err.Error()))
		var rest []plan.Provider
		for _, p := range full.Providers {
			switch p.(type) {
			case *cloudflare.Provider, *alicloud.Provider:
				rest = append(rest, p)
			}
		}
		if objects, err = full.found(ctx, rest); err != nil {
			return nil, nil, err
		}
	}
	return spec, append(notes, adopt.Complete(spec, objects)...), nil
}

// found is what providers see of the session's spec.
func (s *Session) found(ctx context.Context, providers []plan.Provider) ([]plan.Object, error) {
	var desired []plan.Resource
	for _, p := range providers {
		r, diags := p.Declare(s.Spec)
		if diags.HasErrors() {
			return nil, &SpecError{s.Sources, diags}
		}
		desired = append(desired, r...)
	}
	c := s.config(nil)
	c.Providers = providers
	objects, _, _, err := apply.Observe(ctx, c, s.Spec.Stack.Name, desired)
	return objects, err
}

func (s *Session) survey(ctx context.Context, domains []string, o adopt.Options) (*specs.Spec, []string, error) {
	var dns *cloudflare.Provider
	for _, p := range s.Providers {
		if c, ok := p.(*cloudflare.Provider); ok {
			dns = c
		}
	}
	var zones []cloudflare.Survey
	seen := map[string]bool{}
	for _, d := range domains {
		z, err := dns.Survey(ctx, d)
		if err != nil {
			return nil, nil, err
		}
		if !seen[z.Zone] {
			seen[z.Zone] = true
			zones = append(zones, z)
		}
	}
	return adopt.Begin(domains, zones, o)
}

// cloudOf lists what the stack has in the cloud. Without a region or credentials
// there is a note instead.
func (s *Session) cloudOf(ctx context.Context, stack, region string) (objects []plan.Object, note string, err error) {
	if region == "" {
		return nil, "the cloud was not read: hosts are described as machines that exist; name its region with --region to read it", nil
	}
	for _, p := range s.Providers {
		if cloud, ok := p.(*alicloud.Provider); ok {
			observed, err := cloud.Observe(ctx, plan.Scope{Stack: stack, Known: func(plan.Ref) (plan.Value, bool) { return plan.Value{}, false }})
			if plan.ClassOf(err) == plan.ErrCredentials {
				return nil, fmt.Sprintf("the cloud was not read (%s): hosts are described as machines that exist", firstLine(err.Error())), nil
			}
			return observed.Objects, "", err
		}
	}
	return nil, "", nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
