package host

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
)

// Do implements plan.Provider. Every operation can be done again without harm:
// the agent compares before it changes.
func (p *Provider) Do(ctx context.Context, op plan.Op, _ plan.Token, progress plan.Progress) (plan.Result, error) {
	t, ok := p.readTarget(op.Inputs["target"])
	if !ok {
		return plan.Result{}, inputError(op, "address to connect to")
	}
	p.remember(t)
	switch op.Kind {
	case opConnect:
		_, err := p.sessions.get(ctx, t, forBoot, progress)
		return plan.Result{}, err
	case opInstall:
		return p.install(ctx, t, progress)
	case opMount:
		return p.mount(ctx, t, op)
	case opKeys:
		return p.makeKeys(ctx, t, op)
	case opConverge:
		if err := p.waitSeen(ctx, op, progress); err != nil {
			return plan.Result{}, err
		}
		return p.converge(ctx, t, op, progress)
	case opMakeHostKey, opNoteHostKey, opDropHostKey:
		return p.doHostKey(ctx, t, op)
	case opVerify:
		if err := p.verify(ctx, t, readExpected(op.Inputs), progress); err != nil {
			return plan.Result{}, err
		}
		return ready(t, true), nil
	case opRetireKeys:
		keys, _ := wantedKeys(op.Inputs["keys"])
		_, err := p.command(ctx, t, op.Title, "keys", func(c manifest.Claim) any { return manifest.KeysRequest{Claim: c, Retire: keys} })
		return plan.Result{}, err
	case opRemove:
		_, err := p.command(ctx, t, op.Title, "remove", func(c manifest.Claim) any {
			return manifest.RemoveRequest{Claim: c, Purge: op.Inputs["delete_mail"].True()}
		})
		if err == nil {
			p.unleased(t.host) // it went with the rest
		}
		return plan.Result{}, err
	}
	return plan.Result{}, inputError(op, "kind that this mailform knows")
}

func ready(t target, is bool) plan.Result {
	return plan.Result{Outputs: map[plan.Address]plan.Attrs{serverAddr(t.host): {"ready": plan.Bool(is)}}}
}

// install puts our mailformd on the machine unless it is there, and makes it
// the installed one.
func (p *Provider) install(ctx context.Context, t target, progress plan.Progress) (plan.Result, error) {
	arch, installed, err := p.probe(ctx, t)
	if err != nil {
		return plan.Result{}, err
	}
	b, err := p.Agents.Agent(arch)
	if err != nil {
		return plan.Result{}, &plan.Error{Code: "MF5420", Step: "find a mailformd for " + t.String(), Got: err.Error(), Err: err, Fix: "Run `make build` and use bin/mailform."}
	}
	if installed != "" {
		if _, err := p.claimNow(ctx, t); err != nil {
			return plan.Result{}, err
		}
	}
	program := paths.Binary()
	if installed != b.SHA256 {
		zipped, err := b.Gzip()
		if err != nil {
			return plan.Result{}, &plan.Error{Code: "MF5420", Step: "compress the mailformd for " + t.String(), Got: err.Error(), Err: err, Fix: "Run the command again."}
		}
		if program, err = p.upload(ctx, t, b.SHA256, zipped, progress); err != nil {
			return plan.Result{}, err
		}
	}
	req := manifest.InstallRequest{Claim: p.claim(t.host), SHA256: b.SHA256, Lease: p.leaseRequest(t.host)}
	asked := p.Now()
	answer, err := p.agent(ctx, t, "install mailformd", program, "install", req, nil)
	if err != nil {
		return plan.Result{}, err
	}
	var done manifest.Installed
	if err := json.Unmarshal(answer, &done); err != nil {
		return plan.Result{}, badAnswer(t, "install", err)
	}
	p.leased(t.host, done.Lease, asked)
	return installedOutputs(t, arch), nil
}

func installedOutputs(t target, arch string) plan.Result {
	return plan.Result{Outputs: map[plan.Address]plan.Attrs{agentAddr(t.host): {"arch": plan.String(arch)}}}
}

// mount brings the data disk to a machine. What is on it is known from then on.
func (p *Provider) mount(ctx context.Context, t target, op plan.Op) (plan.Result, error) {
	b, err := p.command(ctx, t, op.Title, "mount", func(c manifest.Claim) any {
		return manifest.MountRequest{Claim: c, Serial: op.Inputs["serial"].Str()}
	})
	if err != nil {
		return plan.Result{}, err
	}
	var done manifest.Mounted
	if err := json.Unmarshal(b, &done); err != nil {
		return plan.Result{}, badAnswer(t, "mount", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &manifest.Facts{Owner: &manifest.Owner{Stack: p.Stack, Host: t.host}}
	if have := p.facts[t.host]; have != nil && have.Owner != nil {
		known := *have
		f = &known
	}
	f.Storage, f.DKIM, f.Certificates = &done.Storage, done.DKIM, done.Certificates
	p.facts[t.host] = f
	return plan.Result{}, nil
}

func (p *Provider) makeKeys(ctx context.Context, t target, op plan.Op) (plan.Result, error) {
	keys, replace := wantedKeys(op.Inputs["keys"])
	b, err := p.command(ctx, t, op.Title, "keys", func(c manifest.Claim) any {
		return manifest.KeysRequest{Claim: c, Keys: keys, Replace: replace}
	})
	if err != nil {
		return plan.Result{}, err
	}
	var res manifest.KeysResult
	if err := json.Unmarshal(b, &res); err != nil || len(res.Keys) != len(keys) {
		return plan.Result{}, badAnswer(t, "keys", err)
	}
	return plan.Result{Outputs: keyOutputs(res.Keys)}, nil
}

// seenWithin bounds the wait for a record that was published just now.
const seenWithin = 2 * time.Minute

// waitSeen waits until every name server shows the records of the keys that are
// to sign from this converge on. When no other key
// signs, one that is not seen from here is better than none.
func (p *Provider) waitSeen(ctx context.Context, op plan.Op, progress plan.Progress) error {
	var questions []TXT
	for _, r := range op.Inputs["records"].Items() {
		questions = append(questions, TXT{r.Field("name").Str(), r.Field("text").Str()})
	}
	if len(questions) == 0 {
		return nil
	}
	got := "there is nobody to ask"
	pause := time.Second
	for start := p.Now(); p.Published != nil; pause = min(2*pause, 10*time.Second) {
		sightings := p.Published(ctx, questions)
		i := slices.IndexFunc(sightings, func(s Sighting) bool { return !s.Everywhere })
		if i < 0 {
			return nil
		}
		got = questions[i].Name + ": " + sightings[i].Got
		if p.Now().Sub(start)+pause > seenWithin {
			break
		}
		if progress != nil {
			progress(got, 0, 0)
		}
		if err := p.Sleep(ctx, pause); err != nil {
			return err
		}
	}
	if !op.Inputs["insist"].True() {
		if progress != nil {
			progress("goes on, although the signing keys are not seen from here: "+got, 0, 0)
		}
		return nil
	}
	return &plan.Error{Class: plan.ErrTransient, Code: "MF5433", Step: op.Title, Got: got,
		Fix: "The old key still signs. Run the same command again in a few minutes; it continues where this one ended."}
}

func badAnswer(t target, command string, err error) error {
	if err == nil {
		err = errors.New("the answer is not complete")
	}
	return &plan.Error{Code: "MF5422", Step: "read the answer of " + t.String(), Sent: "mailformd " + command, Err: err, Fix: "Run the same command again."}
}

// converge sends the manifest and follows what the agent does with it.
func (p *Provider) converge(ctx context.Context, t target, op plan.Op, progress plan.Progress) (plan.Result, error) {
	claim, err := p.claimNow(ctx, t)
	if err != nil {
		return plan.Result{}, err
	}
	req, err := p.convergeRequest(claim, op.Inputs["manifest"])
	if err != nil {
		return plan.Result{}, err
	}
	req.Take = readTaking(op.Inputs["take"])
	var result *manifest.ConvergeResult
	var unconfirmed error
	lines := func(line []byte, answer io.Writer) error {
		var e manifest.AgentEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		if e.Result != nil {
			result = e.Result
			if result.Trial != "" {
				// Whoever is shut out by now has not seen the passwords either.
				want := expectedOf(&req.Manifest)
				if result.AccessOnly {
					want.services = nil
				}
				if unconfirmed = p.confirm(ctx, t, op.Title, result.Trial, want, progress); unconfirmed != nil {
					return unconfirmed
				}
			}
			if len(result.Passwords) > 0 {
				// The host would otherwise make new ones, thinking that nobody saw these.
				_, err := io.WriteString(answer, manifest.AckPasswords+"\n")
				return err
			}
			return nil
		}
		if progress != nil && e.Status != "unchanged" {
			progress(strings.TrimSuffix(e.Step+": "+e.Detail, ": "), 0, 0)
		}
		return nil
	}
	_, err = p.agent(ctx, t, op.Title, paths.Binary(), "converge", req, lines)
	if unconfirmed != nil && ctx.Err() == nil {
		return plan.Result{}, unconfirmed
	}
	if err != nil {
		return plan.Result{}, err
	}
	if result == nil {
		return plan.Result{}, badAnswer(t, "converge", nil)
	}
	res := ready(t, true)
	if len(result.Passwords) > 0 {
		res.Secrets = map[plan.Address]string{}
		for addr, text := range result.Passwords {
			local, domain, _ := cutLast(addr, "@")
			res.Secrets[mailboxAddr(local, domain)] = text
		}
	}
	return res, nil
}

// Resolve implements plan.Provider: it looks at the machine.
func (p *Provider) Resolve(ctx context.Context, op plan.Op, _ plan.Token) (plan.Verdict, plan.Result, error) {
	t, ok := p.readTarget(op.Inputs["target"])
	if !ok {
		return plan.NotDone, plan.Result{}, nil // it could not have been begun
	}
	switch op.Kind {
	case opMakeHostKey, opNoteHostKey, opDropHostKey:
		return plan.NotDone, plan.Result{}, nil // doing it again does no harm, and sees to what was left out
	}
	p.remember(t)
	f, _, err := p.observeFacts(ctx, t)
	var refused *plan.Error
	if errors.As(err, &refused) && refused.Code == codeHostKey && t.created {
		// It may have another key since the plan was made; the next observation asks
		// the cloud for it.
		return plan.Undecidable, plan.Result{}, nil
	}
	if err != nil {
		return plan.Undecidable, plan.Result{}, err
	}
	if op.Kind == opRemove {
		if f == nil {
			return plan.Done, plan.Result{}, nil
		}
		return plan.NotDone, plan.Result{}, nil
	}
	if f == nil || f.Owner == nil || f.Owner.Stack != p.Stack {
		return plan.NotDone, plan.Result{}, nil
	}
	done, result := false, plan.Result{}
	switch op.Kind {
	case opInstall:
		b, err := p.Agents.Agent(f.Arch)
		done, result = err == nil && b.SHA256 == f.Agent.SHA256, installedOutputs(t, f.Arch)
	case opMount:
		s := f.Storage
		done = s != nil && s.Serial == op.Inputs["serial"].Str() && s.Mounted && s.Keys && len(s.Drift) == 0
	case opKeys:
		keys, _ := wantedKeys(op.Inputs["keys"])
		done = !slices.ContainsFunc(keys, func(k manifest.DKIMWanted) bool { return !hasKey(f, k) })
		result.Outputs = keyOutputs(slices.DeleteFunc(slices.Clone(f.DKIM), func(have manifest.DKIMPublic) bool {
			return !slices.Contains(keys, manifest.DKIMWanted{Domain: have.Domain, Selector: have.Selector, Algorithm: have.Algorithm})
		}))
	case opRetireKeys:
		keys, _ := wantedKeys(op.Inputs["keys"])
		done = !slices.ContainsFunc(keys, func(k manifest.DKIMWanted) bool { return hasKey(f, k) })
	case opConverge:
		req, err := p.convergeRequest(p.claim(t.host), op.Inputs["manifest"])
		req.Take = readTaking(op.Inputs["take"])
		done, result = err == nil && served(req, f) && takenOver(req, f), ready(t, true)
	}
	if !done {
		return plan.NotDone, plan.Result{}, nil
	}
	return plan.Done, result, nil
}

func hasKey(f *manifest.Facts, k manifest.DKIMWanted) bool {
	return slices.ContainsFunc(f.DKIM, func(have manifest.DKIMPublic) bool {
		return have.Domain == k.Domain && have.Selector == k.Selector && have.Algorithm == k.Algorithm
	})
}
