package host

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"mailform/plan"
	"mailform/providers/host/sshconn"
	"mailform/server/manifest"
	"mailform/specs"
)

// A machine that mailform makes begins with an SSH host key from its user data,
// which whoever reads that knows. On first contact the machine makes one of its
// own, and the instance's tag, by which it is recognised, is set to that. In three
// steps, each of which may be the last of a run:
//
//	            the machine shows     the tag names
//	before      old                   old
//	make        old and new           old
//	note        old and new           new
//	drop        new                   new
//
// The two are keys of different kinds, so that an SSH server shows both, and at
// every point it shows the one that the tag names.

// Kinds of operation that bring a machine to its own SSH host key.
const (
	opMakeHostKey = "host.MakeHostKey"
	opNoteHostKey = "host.NoteHostKey"
	opDropHostKey = "host.DropHostKey"
)

const kindHostKey = "host-key"

// Where a machine's SSH host key comes from.
const (
	keyFromUserData = "user data"
	keyFromMachine  = "the machine"
	keyInBetween    = "the machine, and user data" // an earlier run has not come to the end
)

func hostKeyAddr(host string) plan.Address { return plan.Addr("host", host, "host-key") }

// declareHostKey wants a machine that mailform makes to be known by a key that was
// made on it. A key that the spec pins is a person's to look after.
func (p *Provider) declareHostKey(h *specs.Host) []plan.Resource {
	if h.Instance == nil || h.SSH.HostKey != "" || p.NoteHostKey == nil {
		return nil
	}
	return []plan.Resource{on(h, plan.Resource{
		Address: hostKeyAddr(h.Name), Kind: kindHostKey,
		Attrs:      plan.Attrs{"made_by": plan.String(keyFromMachine), "instance": plan.Unknown(plan.Addr("host", h.Name, "instance"), "id")},
		CreateOnly: []string{"instance"},
		Outputs:    []string{"fingerprint"},
		Effect:     "the SSH host key in the user data of " + h.Name + " opens nothing any more",
		Origin:     h.Range,
	})}
}

// hostKeyObject is what is known of a machine's SSH host key; nil without a wish for one.
func hostKeyObject(desired []plan.Resource, t target, f *manifest.Facts) []plan.Object {
	if f == nil || f.Owner == nil || !slices.ContainsFunc(desired, func(r plan.Resource) bool { return r.Address == hostKeyAddr(t.host) }) {
		return nil
	}
	o := plan.Object{
		Address: hostKeyAddr(t.host), Provider: Name, Kind: kindHostKey, Owner: plan.Ours,
		Attrs: plan.Attrs{"made_by": plan.String(keyFromUserData)}, DependsOn: []plan.Address{agentAddr(t.host)},
	}
	if k := f.HostKey; k != nil {
		o.Attrs["made_by"] = plan.String(keyInBetween)
		if len(k.Old) == 0 && k.Fingerprint == t.hostKey {
			o.Attrs["made_by"] = plan.String(keyFromMachine)
		}
		o.Attrs["fingerprint"] = plan.String(k.Fingerprint)
		o.Outputs = plan.Attrs{"fingerprint": plan.String(k.Fingerprint)}
	}
	return []plan.Object{o}
}

// hostKeyOps are the steps to a key of the machine's own.
func (h *hostChanges) hostKeyOps() []plan.Op {
	c := h.hostKey
	if c == nil || !c.Pending() || c.Action == plan.Delete {
		return nil // it goes with the machine
	}
	addrs := []plan.Address{c.Address}
	made := plan.Unknown(c.Address, "fingerprint")
	make := plan.Op{Kind: opMakeHostKey, Title: "let " + h.host + " make its own SSH host key", Addresses: addrs, Seconds: 2}
	if c.Action == plan.Replace {
		// The one in use now is not good enough any more.
		make.Inputs = plan.Attrs{"instead_of": c.Before["fingerprint"]}
	}
	return []plan.Op{
		make,
		{Kind: opNoteHostKey, Title: "note on the instance by which SSH host key " + h.host + " is known", Addresses: addrs, Seconds: 2,
			Inputs: plan.Attrs{"fingerprint": made, "instance": c.After["instance"]}},
		{Kind: opDropHostKey, Title: "end the SSH host key that " + h.host + " began with", Addresses: addrs, Seconds: 1,
			Inputs: plan.Attrs{"fingerprint": made}},
	}
}

// shownWithin bounds the wait for an SSH server to show its new key.
const shownWithin = 15 * time.Second

// doHostKey carries out one of the steps.
func (p *Provider) doHostKey(ctx context.Context, t target, op plan.Op) (plan.Result, error) {
	fingerprint := op.Inputs["fingerprint"].Str()
	if op.Kind != opMakeHostKey && fingerprint == "" {
		return plan.Result{}, inputError(op, "fingerprint")
	}
	if op.Kind == opNoteHostKey {
		return plan.Result{}, p.NoteHostKey(ctx, op.Inputs["instance"].Str(), fingerprint)
	}
	claim, err := p.claimNow(ctx, t)
	if err != nil {
		return plan.Result{}, err
	}
	c, err := p.sessions.get(ctx, t, atOnce, nil)
	if err != nil {
		return plan.Result{}, err
	}
	req := manifest.HostKeyRequest{Claim: claim, Keep: fingerprint}
	if op.Kind == opMakeHostKey {
		// By which it was recognised now: an earlier run may have got further than the plan knows.
		req = manifest.HostKeyRequest{Claim: claim, Trusted: sshconn.Fingerprint(c.HostKey), InsteadOf: op.Inputs["instead_of"].Str()}
	}
	b, err := p.agent(ctx, t, op.Title, paths.Binary(), "host-key", req, nil)
	if err != nil {
		return plan.Result{}, err
	}
	var key manifest.HostKey
	if err := json.Unmarshal(b, &key); err != nil || key.Fingerprint == "" {
		return plan.Result{}, badAnswer(t, "host-key", err)
	}
	if err := p.shows(ctx, t, op.Title, key.Fingerprint); err != nil {
		return plan.Result{}, err
	}
	// The plan's operations name the old one.
	p.sessions.alsoTrust(t.host, key.Fingerprint)
	return plan.Result{Outputs: map[plan.Address]plan.Attrs{op.Addresses[0]: {"fingerprint": plan.String(key.Fingerprint)}}}, nil
}

// shows makes sure that a new connection is shown a key.
func (p *Provider) shows(ctx context.Context, t target, step, fingerprint string) error {
	only := t.ssh()
	only.HostKey = fingerprint
	settings, err := p.SSH.Settings(only)
	if err != nil {
		return configError(t, err)
	}
	pause := 250 * time.Millisecond
	for start := p.Now(); ; pause = min(2*pause, 2*time.Second) {
		trust, err := p.SSH.Trust(settings)
		if err != nil {
			return p.connectError(t, err, 1, 0)
		}
		c, err := p.SSH.Connect(ctx, settings, trust)
		if err == nil {
			return c.Close()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p.Now().Sub(start)+pause > shownWithin {
			return &plan.Error{Code: "MF5430", Step: step, Sent: "a new SSH connection to " + t.addr(), Got: fmt.Sprintf("%.300s", err), Err: err,
				Fix: "The machine has made the key, and its SSH server does not show it: do HostKey lines in its sshd_config name other files? The key it had is still in use. " +
					"Mend it and run the same command again, or pin the key that is to stay: ssh { host_key = \"SHA256:…\" }."}
		}
		if err := p.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// alsoTrust lets a host show another key for the rest of the run.
func (s *sessions) alsoTrust(host, fingerprint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.also == nil {
		s.also = map[string]string{}
	}
	s.also[host] = fingerprint
}

// trusted is what a host must show in this run.
func (s *sessions) trusted(t target) sshconn.Target {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := t.ssh()
	if also := s.also[t.host]; also != "" && out.HostKey != "" {
		out.HostKey += " " + also
	}
	return out
}
