package host

import (
	"bytes"
	"context"

	"mailform/plan"
	"mailform/server/manifest"
)

// Inspection is what one host says about itself.
type Inspection struct {
	Address   string           // where it was asked; "" while it has none
	Facts     *manifest.Facts  // nil when mailformd is not installed
	Server    *manifest.Status // nil when the server is not running
	Mailboxes int              // that it serves
}

// Inspect asks one host about itself and changes nothing. agent is the host's
// declared agent; known gives the outputs it refers to, as in plan.Scope. The
// error says why the host cannot be asked.
func (p *Provider) Inspect(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) (Inspection, error) {
	var in Inspection
	t, ok := p.readTarget(targetInput(agent.Address.Segments()[1], agent.Attrs.Resolve(known)))
	if !ok {
		return in, nil
	}
	in.Address = t.address
	p.remember(t)
	f, _, err := p.observeFacts(ctx, t)
	if err != nil || f == nil {
		return in, err
	}
	in.Facts = f
	if f.Manifest != nil {
		for _, d := range f.Manifest.Domains {
			in.Mailboxes += len(d.Mailboxes)
		}
	}
	if f.Service.Active != "active" {
		return in, nil
	}
	b, err := p.run(ctx, t, commandLine(paths.Binary(), "status", "--json"), nil, nil)
	if err != nil || b.status != 0 {
		return in, err // one that stopped just now does not answer
	}
	var st manifest.Status
	if err := manifest.Decode(bytes.NewReader(b.stdout), &st); err != nil {
		return in, badAnswer(t, "status", err)
	}
	in.Server = &st
	return in, nil
}

// IsAgent reports whether a resource is a host's agent.
func IsAgent(r plan.Resource) bool { return r.Provider == Name && r.Kind == kindAgent }
