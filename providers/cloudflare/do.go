package cloudflare

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mailform/plan"
)

// Do implements plan.Provider: one transaction, one setting or one rule. The vendor has no idempotency
// token; ids in deletes and patches, and Resolve, take its place.
func (p *Provider) Do(ctx context.Context, op plan.Op, _ plan.Token, _ plan.Progress) (plan.Result, error) {
	switch op.Kind {
	case opSetting:
		return p.doSetting(ctx, op)
	case opWriteRule, opRemoveRule:
		return p.doRule(ctx, op)
	}
	z, b, err := readOp(op)
	if err != nil {
		return plan.Result{}, err
	}
	patched, posted, err := p.api.batch(ctx, op.Title, z.id, b.batch)
	switch {
	case hasCode(err, codeNoSuchRecord) && len(b.deletes) > 0:
		patched, posted, err = p.withoutGone(ctx, op.Title, z, b.batch, err)
	case hasCode(err, codeExists, codeIdentical):
		return p.already(ctx, z, b, err)
	}
	if err != nil {
		return plan.Result{}, err
	}
	return b.result(patched, posted), nil
}

// already deals with a transaction that was refused, and so had no effect, because of a
// record that is there. When an earlier attempt or run of ours made it, the list of
// records may not have shown that yet: it is looked at again for a while. A record
// that is not ours is the next plan's business.
func (p *Provider) already(ctx context.Context, z zone, b addressed, refused error) (plan.Result, error) {
	result := plan.Result{}
	err := p.settled(ctx, z, func(records []record) (bool, error) {
		for _, want := range b.posts {
			for _, r := range records {
				if r.name == want.name && r.kind == want.kind && r.content == want.content && !r.matches(want) {
					return false, refused
				}
			}
		}
		verdict, res := verdictOn(b, records)
		result = res
		return verdict == plan.Done, nil
	}, refused)
	return result, err
}

// settled looks at a zone's records until they are as is wants them, as long as the
// list may lag behind what was written. Then it gives up with late.
func (p *Provider) settled(ctx context.Context, z zone, is func([]record) (bool, error), late error) error {
	const patience = 30 * time.Second
	wait, waited := time.Second, time.Duration(0)
	for {
		records, _, err := p.api.listRecords(ctx, z, "")
		if err != nil {
			return err
		}
		if ok, err := is(records); ok || err != nil {
			return err
		}
		if waited >= patience || p.sleep(ctx, wait) != nil {
			return late
		}
		waited += wait
		wait = min(2*wait, 8*time.Second)
	}
}

// withoutGone repeats a transaction that was refused, and so had no effect, because
// of a record that is not there. A delete whose record is gone already is done: the
// challenge record of an interrupted order is taken down by the order's next run
// before the plan gets to it. Anything else that is missing stays an error.
func (p *Provider) withoutGone(ctx context.Context, step string, z zone, b batch, refused error) (patched, posted []record, err error) {
	rest := b
	err = p.settled(ctx, z, func(records []record) (bool, error) {
		there := map[string]bool{}
		for _, r := range records {
			there[r.id] = true
		}
		rest.deletes = slices.DeleteFunc(slices.Clone(b.deletes), func(id string) bool { return !there[id] })
		patchless := slices.ContainsFunc(b.patches, func(r record) bool { return !there[r.id] })
		if patchless && len(rest.deletes) == len(b.deletes) {
			return false, refused // what is to be changed is gone: that needs a new plan
		}
		return len(rest.deletes) < len(b.deletes), nil
	}, refused)
	if err != nil {
		return nil, nil, err
	}
	if len(rest.deletes)+len(rest.patches)+len(rest.posts) == 0 {
		return nil, nil, nil
	}
	return p.api.batch(ctx, step, z.id, rest)
}

// Resolve implements plan.Provider. A transaction happened entirely or not at
// all: when what is there is neither the one nor the other, somebody else was there
// in between and the next observation decides.
func (p *Provider) Resolve(ctx context.Context, op plan.Op, _ plan.Token) (plan.Verdict, plan.Result, error) {
	switch op.Kind {
	case opSetting:
		return p.resolveSetting(ctx, op)
	case opWriteRule, opRemoveRule:
		return p.resolveRule(ctx, op)
	}
	z, b, err := readOp(op)
	if err != nil {
		return plan.Undecidable, plan.Result{}, err
	}
	records, _, err := p.api.listRecords(ctx, z, "")
	if err != nil {
		return plan.Undecidable, plan.Result{}, err
	}
	verdict, res := verdictOn(b, records)
	return verdict, res, nil
}

// verdictOn says whether a transaction has happened, from the records that are there.
func verdictOn(b addressed, records []record) (plan.Verdict, plan.Result) {
	byID := map[string]record{}
	for _, r := range records {
		byID[r.id] = r
	}
	done, undone := 0, 0
	tell := func(yes bool) {
		if yes {
			done++
		} else {
			undone++
		}
	}
	for _, id := range b.deletes {
		_, there := byID[id]
		tell(!there)
	}
	var patched, posted []record
	for _, want := range b.patches {
		is := byID[want.id]
		tell(is.matches(want))
		patched = append(patched, is)
	}
	for _, want := range b.posts {
		var is record
		for _, r := range records {
			if r.matches(want) {
				is = r
				break
			}
		}
		tell(is.id != "")
		posted = append(posted, is)
	}
	switch {
	case undone == 0:
		return plan.Done, b.result(patched, posted)
	case done == 0:
		return plan.NotDone, plan.Result{}
	}
	return plan.Undecidable, plan.Result{}
}

// addressed is a batch whose parts know whose they are.
type addressed struct {
	batch
	patchFor, postFor []plan.Address
}

func (b addressed) result(patched, posted []record) plan.Result {
	out := plan.Result{Outputs: map[plan.Address]plan.Attrs{}}
	for i, r := range patched {
		out.Outputs[b.patchFor[i]] = plan.Attrs{"id": plan.String(r.id)}
	}
	for i, r := range posted {
		out.Outputs[b.postFor[i]] = plan.Attrs{"id": plan.String(r.id)}
	}
	return out
}

// readOp reads the inputs of an operation that Compile made.
func readOp(op plan.Op) (zone, addressed, error) {
	z := zone{id: op.Inputs["zone_id"].Str(), name: op.Inputs["zone"].Str()}
	var b addressed
	bad := func(what string) (zone, addressed, error) {
		return z, b, &plan.Error{
			Code: "MF5221", Step: op.Title, Got: what,
			Fix: "make a new plan; if it happens again, please report this as a defect of mailform",
		}
	}
	switch op.Kind {
	case opWrite, opRemove, opAnnounce, opRetract, opPublishMX, opWithdrawMX, opForget:
	default:
		return bad(fmt.Sprintf("this provider has no operation %q", op.Kind))
	}
	if z.id == "" {
		return bad("the zone is not known")
	}
	for _, v := range op.Inputs["deletes"].Items() {
		b.deletes = append(b.deletes, v.Field("id").Str())
	}
	read := func(v plan.Value) (record, plan.Address, bool) {
		r := record{
			id: v.Field("id").Str(), name: v.Field("name").Str(), kind: v.Field("type").Str(),
			content: v.Field("content").Str(), ttl: v.Field("ttl").Num(), priority: v.Field("priority").Num(),
			proxied: v.Field("proxied").True(), comment: v.Field("comment").Str(),
		}
		return r, plan.Address(v.Field("address").Str()), r.name != "" && r.kind != "" && (r.content != "" || v.Field("keep").True())
	}
	for _, v := range op.Inputs["patches"].Items() {
		r, a, ok := read(v)
		if !ok || r.id == "" {
			return bad(fmt.Sprintf("the record for %s is not known completely", a))
		}
		b.patches, b.patchFor = append(b.patches, r), append(b.patchFor, a)
	}
	for _, v := range op.Inputs["posts"].Items() {
		r, a, ok := read(v)
		if !ok {
			return bad(fmt.Sprintf("the record for %s is not known completely", a))
		}
		b.posts, b.postFor = append(b.posts, r), append(b.postFor, a)
	}
	if len(b.deletes)+len(b.patches)+len(b.posts) == 0 {
		return bad("there is nothing to do")
	}
	return z, b, nil
}
