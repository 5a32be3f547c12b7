package host

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mailform/plan"
	"mailform/server/manifest"
)

// Observe implements plan.Provider: one SSH connection per host that has an
// address, however many mailboxes it serves.
func (p *Provider) Observe(ctx context.Context, scope plan.Scope) (plan.Observed, error) {
	var targets []target
	for _, r := range scope.Desired {
		if r.Kind != kindAgent {
			continue
		}
		host := r.Address.Segments()[1]
		// Without an address there is nothing yet.
		if t, ok := p.readTarget(targetInput(host, r.Attrs.Resolve(scope.Known))); ok {
			p.remember(t)
			targets = append(targets, t)
		}
	}
	var (
		out   plan.Observed
		found = make([][]plan.Object, len(targets))
		calls = make([]int, len(targets))
	)
	g, one := errgroup.WithContext(ctx)
	for i, t := range targets {
		g.Go(func() (err error) {
			found[i], calls[i], err = p.observeHost(one, t, scope.Desired)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return plan.Observed{}, err
	}
	p.look(ctx, found)
	at := map[plan.Address]plan.Object{}
	for i, objects := range found {
		out.Calls += calls[i]
		for _, o := range objects {
			// The same mailbox on two hosts is on its way from one to the other;
			// what the spec wants decides which of them it is.
			if have, twice := at[o.Address]; !twice || onWantedHost(scope.Desired, o) && !onWantedHost(scope.Desired, have) {
				at[o.Address] = o
			}
		}
	}
	for _, o := range at {
		out.Objects = append(out.Objects, o)
	}
	slices.SortFunc(out.Objects, func(a, b plan.Object) int { return strings.Compare(string(a.Address), string(b.Address)) })
	return out, nil
}

func onWantedHost(desired []plan.Resource, o plan.Object) bool {
	return slices.ContainsFunc(desired, func(r plan.Resource) bool {
		return r.Address == o.Address && r.Attrs["host"].Equal(o.Attrs["host"])
	})
}

// observeHost returns what is on one host and how many commands that took.
func (p *Provider) observeHost(ctx context.Context, t target, desired []plan.Resource) ([]plan.Object, int, error) {
	f, calls, err := p.leasedFacts(ctx, t)
	p.mu.Lock()
	delete(p.facts, t.host)
	if f != nil {
		p.facts[t.host] = f
	}
	p.mu.Unlock()
	if err != nil || f == nil {
		return nil, calls, err
	}
	wanted := ""
	if b, err := p.Agents.Agent(f.Arch); err == nil {
		wanted = b.SHA256
	}
	objects := p.objects(t, f, wanted)
	if objects[0].Owner == plan.Ours {
		objects = append(objects, hostKeyObject(desired, t, f)...)
	}
	return objects, calls, nil
}

// observeFacts asks the machine about itself; nil when mailformd is not there.
func (p *Provider) observeFacts(ctx context.Context, t target) (*manifest.Facts, int, error) {
	return p.askFacts(ctx, t, "observe")
}

// askFacts does so with one of the agent's commands that answer with facts.
func (p *Provider) askFacts(ctx context.Context, t target, command string) (*manifest.Facts, int, error) {
	_, sha, err := p.probe(ctx, t)
	if err != nil || sha == "" {
		return nil, 2, err
	}
	asked := p.clockNow()
	b, err := p.agent(ctx, t, "look at what is there", paths.Binary(), command, nil, nil)
	if err != nil {
		return nil, 3, err
	}
	f, err := manifest.ReadFacts(b)
	if err != nil {
		return nil, 3, unreadableFacts(t, command, err)
	}
	noteClock(f, asked, p.clockNow())
	return f, 3, nil
}

func unreadableFacts(t target, command string, err error) error {
	return &plan.Error{Code: "MF5418", Step: "look at " + t.String(), Sent: "mailformd " + command, Err: err,
		Fix: "Is a newer mailform in use elsewhere? Then use that one."}
}

// objects turns facts into plan objects.
func (p *Provider) objects(t target, f *manifest.Facts, wanted string) []plan.Object {
	label := p.agentLabel(f, wanted)
	agent := plan.Object{
		Address: agentAddr(t.host), Provider: Name, Kind: kindAgent, Owner: plan.Ours,
		Attrs: plan.Attrs{
			"version": plan.String(label), "address": plan.String(t.address), "user": plan.String(t.user),
			"port": plan.Int(int64(t.port)), "machine": plan.String(machineExisting),
			"hostname": plan.String(t.hostname),
		},
		Outputs: plan.Attrs{"arch": plan.String(f.Arch)},
	}
	if t.hostKey != "" {
		agent.Attrs["host_key"] = plan.String(t.hostKey)
	}
	if t.created {
		agent.Attrs["machine"] = plan.String(machineCreated)
		for _, part := range []string{"address-link", "firewall", "instance"} {
			agent.DependsOn = append(agent.DependsOn, plan.Addr("host", t.host, part))
		}
	}
	switch {
	case f.Owner == nil:
		agent.Owner = plan.Unowned
		return []plan.Object{agent}
	case f.Owner.Stack != p.Stack || f.Owner.Host != t.host:
		agent.Owner, agent.OwnedBy = plan.OtherStack, f.Owner.Stack
		return []plan.Object{agent}
	}
	objects := []plan.Object{agent}
	add := func(a plan.Address, kind string, attrs, outputs plan.Attrs, protected string, deps ...plan.Address) {
		objects = append(objects, plan.Object{
			Address: a, Provider: Name, Kind: kind, Owner: plan.Ours, Attrs: attrs, Outputs: outputs,
			DependsOn: append(deps, agentAddr(t.host)), Protected: protected,
		})
	}
	for _, k := range f.DKIM {
		k = byOurClock(k, f.AheadSeconds)
		add(dkimAddr(k.Domain, k.Selector), kindKey, keyAttrs(t.host, k, f.Manifest),
			plan.Attrs{"txt": plan.String(k.TXT)}, keyProtected)
	}
	objects = append(objects, foreignObjects(t, f)...)
	if s := f.Storage; s != nil {
		add(storageAddr(t.host), kindStorage, plan.Attrs{
			"host": plan.String(t.host), "serial": plan.String(s.Serial), "size_gib": plan.Int((s.Bytes + 1<<29) >> 30), "drift": plan.Strings(s.Drift...),
		}, nil, storageProtected)
	}
	m := f.Manifest
	if m == nil {
		return lostWith(t, objects, f.Storage)
	}
	add(serverAddr(t.host), kindServer, p.serverAttrs(f, label, wanted),
		plan.Attrs{"ready": plan.Bool(len(f.Service.Drift) == 0)}, "", certAddr(t.host))
	for _, d := range m.Domains {
		for _, b := range d.Mailboxes {
			add(mailboxAddr(b.Local, d.Name), kindMailbox, plan.Attrs{
				"host": plan.String(t.host), "name": plan.String(b.Name), "quota_bytes": plan.Int(b.QuotaBytes),
				"quota_messages": limit(b.QuotaMessages), "aliases": sorted(b.Aliases), "password": observedPassword(f.Passwords[b.Local+"@"+d.Name]),
			}, nil, mailboxProtected)
		}
		for _, a := range d.Aliases {
			add(aliasAddr(a.Local, d.Name), kindAlias, plan.Attrs{"host": plan.String(t.host), "to": sorted(a.To)}, nil, "")
		}
		if d.CatchAll != "" {
			add(catchAllAddr(d.Name), kindCatchAll, plan.Attrs{"host": plan.String(t.host), "mailbox": plan.String(d.CatchAll)}, nil, "")
		}
	}
	return lostWith(t, objects, f.Storage)
}

// lostWith says of everything on a machine that mailform made what it is lost with.
func lostWith(t target, objects []plan.Object, s *manifest.Storage) []plan.Object {
	if t.created {
		for i := range objects {
			objects[i].Within = whereFound(t.host, objects[i].Kind, s)
		}
	}
	return objects
}

// whereFound is what an object on a machine that mailform made is lost with, "" for
// where it is declared. What is yet to move to a data disk is lost with the machine.
func whereFound(host, kind string, s *manifest.Storage) plan.Address {
	switch {
	case kind == kindServer || kind == kindAgent:
		return ""
	case kind == kindFile: // on the system's disk
	case s != nil && (s.Mounted || s.Keys) && (kind != kindKey || s.Keys):
		return diskAddr(host)
	}
	return plan.Addr("host", host, "instance")
}

// keyAttrs describes a signing key; all but host and algorithm is for Schedule.
func keyAttrs(host string, k manifest.DKIMPublic, m *manifest.Manifest) plan.Attrs {
	attrs := plan.Attrs{"host": plan.String(host), "algorithm": plan.String(k.Algorithm)}
	for name, t := range map[string]time.Time{"created": k.Created, "signs_since": k.SignsSince, "signed_until": k.SignedUntil} {
		if !t.IsZero() {
			attrs[name] = plan.String(t.UTC().Format(time.RFC3339))
		}
	}
	signs := m != nil && slices.ContainsFunc(m.Domains, func(d manifest.Domain) bool {
		return d.Name == k.Domain && slices.ContainsFunc(d.DKIM, func(s manifest.DKIMKey) bool { return s.Selector == k.Selector && !s.Idle })
	})
	attrs["signs"] = plan.Bool(signs)
	return attrs
}

// look asks the name servers about the keys that may be coming up: those that do
// not sign and of which it is not known that they have.
func (p *Provider) look(ctx context.Context, found [][]plan.Object) {
	if p.Published == nil {
		return
	}
	var questions []TXT
	var about []plan.Attrs
	for _, objects := range found {
		for _, o := range objects {
			if o.Kind != kindKey || o.Attrs["signs"].True() || !o.Attrs["signed_until"].IsNull() {
				continue
			}
			seg := o.Address.Segments()
			questions = append(questions, TXT{seg[2] + "._domainkey." + seg[1], o.Outputs["txt"].Str()})
			about = append(about, o.Attrs)
		}
	}
	if len(questions) == 0 {
		return
	}
	for i, s := range p.Published(ctx, questions) {
		about[i]["seen"] = plan.Bool(s.Everywhere)
		if s.Got != "" {
			about[i]["seen_instead"] = plan.String(s.Got)
		}
		if s.Negative > 0 {
			about[i]["negative_seconds"] = plan.Int(seconds(s.Negative))
		}
	}
}

// observedPassword is a mailbox's password as the host tells it.
func observedPassword(s string) plan.Value {
	switch {
	case s == "":
		return plan.Null()
	case strings.HasPrefix(s, passwordOnHost):
		return plan.String(s)
	}
	return plan.Secret(s)
}

// agentLabel is the version to show for the installed mailformd. What decides
// is the digest: a binary other than the one we carry never shows our version.
func (p *Provider) agentLabel(f *manifest.Facts, wanted string) string {
	switch {
	case f.Agent.SHA256 == wanted:
		return p.Version
	case wanted == "": // we carry none to compare with
		return f.Agent.Version
	}
	return f.Agent.Version + " (" + short(f.Agent.SHA256) + ")"
}

func short(sha string) string { return sha[:min(len(sha), 12)] }

func (p *Provider) serverAttrs(f *manifest.Facts, label, wanted string) plan.Attrs {
	m := f.Manifest
	switch running := f.Service.BinarySHA256; {
	case running == "" || running == f.Agent.SHA256: // not running: drift says so
	case running == wanted:
		label = p.Version
	default:
		label = "still running " + short(running)
		if i := slices.IndexFunc(f.Versions, func(v manifest.Version) bool { return v.SHA256 == running }); i >= 0 && f.Versions[i].Version != "" {
			label = "still running " + f.Versions[i].Version + " (" + short(running) + ")"
		}
	}
	attrs := settingsAttrs(m) // of secrets the agent has sent the fingerprints
	attrs["version"] = plan.String(label)
	attrs["drift"] = plan.Strings(f.Service.Drift...)
	return attrs
}

// counted is "1 mailbox" or "3 mailboxes".
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
