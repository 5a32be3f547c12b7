package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
)

// The host takes a change of the service, or of the access to it, back by itself
// unless it is confirmed: see manifest.TrialRequest. What confirms it is what
// would be gone if the change were wrong: the ports, seen from here, and a
// connection that was made after it.

// confirm looks at the ports of a host, logs in to it anew and keeps the change.
// When that does not work the change is taken back: at once, when the old
// connection still stands, or else by the host.
func (p *Provider) confirm(ctx context.Context, t target, title, trial string, want expected, progress plan.Progress) error {
	if progress != nil {
		progress("looks at the ports and logs in anew, to keep the change", 0, 0)
	}
	ctx, cancel := context.WithTimeout(ctx, manifest.TrialSeconds*time.Second)
	defer cancel()
	err := p.verifyOnce(ctx, t, want, progress)
	if err == nil {
		err = p.sessions.renew(ctx, t)
	}
	if err == nil {
		_, err = p.endTrial(ctx, t, title, "confirm", trial)
	}
	if err == nil {
		return nil
	}
	e := &plan.Error{Code: "MF5430", Step: "keep the change on " + t.String(), Err: err, Got: oneLine(err)}
	var inner *plan.Error
	if errors.As(err, &inner) {
		e.Got, e.Class = inner.Step+": "+inner.Got, inner.Class
	}
	if _, back := p.endTrial(context.WithoutCancel(ctx), t, title, "take-back", trial); back != nil {
		e.Fix = fmt.Sprintf("The host takes the change back within %d seconds and serves as before. Mend the cause, then run the same command again.", manifest.TrialSeconds)
	} else {
		e.Fix = "The change was taken back: the host serves as before. Mend the cause, then run the same command again."
	}
	return e
}

func oneLine(err error) string { return fmt.Sprintf("%.300s", err.Error()) }

// endTrial confirms a change or takes it back.
func (p *Provider) endTrial(ctx context.Context, t target, title, command, trial string) (manifest.TrialEnded, error) {
	var out manifest.TrialEnded
	b, err := p.agent(ctx, t, title, paths.Binary(), command, manifest.TrialRequest{Claim: p.claim(t.host), Trial: trial}, nil)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, badAnswer(t, command, err)
	}
	return out, nil
}

// renew makes a new connection to a host and, when that works, uses it from now
// on. The old one is closed when what runs on it has ended.
func (s *sessions) renew(ctx context.Context, t target) error {
	sl := s.slot(t.host)
	select {
	case sl.sem <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-sl.sem }()
	if sl.client == nil || sl.client.t != t {
		return errors.New("there is no connection to it any more")
	}
	c, err := s.make(ctx, sl, t, atOnce, nil)
	if err != nil {
		return err
	}
	sl.old = append(sl.old, sl.client)
	sl.client = c
	return nil
}

// Versions are the mailformds on a host, the newest first. agent and known are
// those of Inspect.
func (p *Provider) Versions(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) ([]manifest.Version, error) {
	host := agent.Address.Segments()[1]
	t, ok := p.readTarget(targetInput(host, agent.Attrs.Resolve(known)))
	if !ok {
		return nil, noAddress(host)
	}
	p.remember(t)
	f, _, err := p.observeFacts(ctx, t)
	if err != nil {
		return nil, err
	}
	if f == nil || f.Owner == nil || f.Owner.Stack != p.Stack || f.Owner.Host != host {
		return nil, &plan.Error{Code: "MF5431", Step: "look at " + t.String(), Got: "mailform has installed nothing there for this stack", Fix: "`mailform apply` does."}
	}
	return f.Versions, nil
}

// Rollback makes another version that is on a host serve, and keeps it when its
// ports answer.
func (p *Provider) Rollback(ctx context.Context, host, sha256 string, progress plan.Progress) error {
	t, err := p.target(host)
	if err != nil {
		return err
	}
	const title = "roll back mailformd"
	out, err := p.command(ctx, t, title, "rollback", func(c manifest.Claim) any {
		return manifest.RollbackRequest{Claim: c, SHA256: sha256}
	})
	if err != nil {
		return err
	}
	var done manifest.RolledBack
	if err := json.Unmarshal(out, &done); err != nil {
		return badAnswer(t, "rollback", err)
	}
	if done.Trial == "" {
		return nil
	}
	f, _, err := p.observeFacts(ctx, t)
	if err == nil && (f == nil || f.Manifest == nil) {
		err = badAnswer(t, "observe", nil)
	}
	if err != nil {
		return err
	}
	return p.confirm(ctx, t, title, done.Trial, expectedOf(f.Manifest), progress)
}

// expectedOf is what a host shows to the world. The certificate and documents on
// the web are not a matter of this change: the host has compared the certificate
// with its own, and opVerify looks at the rest.
func expectedOf(m *manifest.Manifest) expected {
	return expected{hostname: m.Hostname, services: manifest.ServicesOf(m), anyCert: true}
}
