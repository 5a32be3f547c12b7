package host

import (
	"bytes"
	"context"

	"mailform/plan"
	"mailform/server/manifest"
)

// reach returns how a declared agent's host is reached now; false while it has no address.
func (p *Provider) reach(agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) (target, bool) {
	t, ok := p.readTarget(targetInput(agent.Address.Segments()[1], agent.Attrs.Resolve(known)))
	if ok {
		p.remember(t)
	}
	return t, ok
}

// Bans lists whom a host's own firewall drops. agent and known are as in Inspect.
func (p *Provider) Bans(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) (manifest.BanList, error) {
	var list manifest.BanList
	t, ok := p.reach(agent, known)
	if !ok {
		return list, noAddress(agent.Address.Segments()[1])
	}
	out, err := p.run(ctx, t, commandLine(paths.Binary(), "bans", "--json"), nil, nil)
	if err != nil {
		return list, err
	}
	if out.status != 0 {
		return list, agentError(t, "list who is banned", "bans", out)
	}
	if err := manifest.Decode(bytes.NewReader(out.stdout), &list); err != nil {
		return list, badAnswer(t, "bans", err)
	}
	return list, nil
}

// LiftBan ends a client's ban on a host before its time.
func (p *Provider) LiftBan(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool), address string) (manifest.Lifted, error) {
	var got manifest.Lifted
	t, ok := p.reach(agent, known)
	if !ok {
		return got, noAddress(agent.Address.Segments()[1])
	}
	b, err := p.agent(ctx, t, "end the ban of "+address, paths.Binary(), "lift-ban", manifest.LiftRequest{Claim: p.claim(t.host), Address: address}, nil)
	if err != nil {
		return got, err
	}
	if err := manifest.Decode(bytes.NewReader(b), &got); err != nil {
		return got, badAnswer(t, "lift-ban", err)
	}
	return got, nil
}
