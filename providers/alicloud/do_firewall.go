package alicloud

import (
	"context"
	"strings"

	"mailform/plan"
)

func (r *run) createGroup(ctx context.Context) (plan.Result, error) {
	req := &createSecurityGroup{rpc: newRPC(ecsCreateSecurityGroup), ClientToken: string(r.token), VpcId: r.text("network"),
		SecurityGroupName: r.name(), Description: r.description(), SecurityGroupType: "normal", Tag: r.marks()}
	resp := &idAnswer{answer: newAnswer()}
	res, err := r.create(ctx, req, resp, func() string { return resp.SecurityGroupId }, r.findGroup)
	if err == nil && res.Outputs == nil {
		res = r.outputs(plan.Attrs{"id": plan.String(resp.SecurityGroupId)})
	}
	return res, err
}

func (r *run) findGroup(ctx context.Context) (plan.Result, bool, error) {
	all, err := r.securityGroups(ctx, addressTags(r.stack, string(r.address())), "")
	if err != nil || len(all) == 0 {
		return plan.Result{}, false, err
	}
	return r.outputs(plan.Attrs{"id": plan.String(all[0].SecurityGroupId)}), true, nil
}

// groupID is the security group an operation is about: named, or just made and
// then found by its mark.
func (r *run) groupID(ctx context.Context) (string, error) {
	if id := r.text("id"); id != "" {
		return id, nil
	}
	res, ok, err := r.eventually(ctx, r.findGroup)
	if err == nil && !ok {
		err = &plan.Error{Class: plan.ErrStale, Code: codeConflict, Got: "the security group is not there any more", Fix: "make a new plan"}
	}
	return res.Outputs[r.address()]["id"].Str(), err
}

// authorize opens ports. Authorising what is there already succeeds and adds nothing.
func (r *run) authorize(ctx context.Context) (plan.Result, error) {
	id, err := r.groupID(ctx)
	if err != nil {
		return plan.Result{}, err
	}
	var params []permissionParam
	for _, rule := range rulesFromValue(r.op.Inputs["rules"]) {
		params = append(params, rule.param(r.stack))
	}
	return r.plain(ctx, &authorizeSecurityGroup{rpc: newRPC(ecsAuthorizeSecurityGroup), ClientToken: string(r.token),
		SecurityGroupId: id, Permissions: &params})
}

// group reads the rules of the operation's security group by their identity.
// A rule appears only when it carries our mark, or with all set when it carries no
// other stack's. Inbound rules that carry no mark at all appear by their ids, too.
func (r *run) group(ctx context.Context, all bool) (map[string]permission, error) {
	id, err := r.groupID(ctx)
	if err != nil {
		return nil, err
	}
	perms, err := r.permissions(ctx, id)
	if err != nil {
		return nil, err
	}
	m := map[string]permission{}
	for _, p := range perms {
		rule, plain := fromPermission(p)
		stack, _, marked := parseRuleMark(p.Description)
		if plain && (all && !marked || marked && stack == r.stack) {
			m[rule.key()] = p
		}
		if !marked && p.inbound() && p.SecurityGroupRuleId != "" {
			m[p.SecurityGroupRuleId] = p
		}
	}
	return m, nil
}

// revoke closes ports. Rules are revoked by their ids, which are looked up among
// those that carry our mark: a rule of someone else's is only touched when the plan
// names it, which needs a spec that has the group to itself. What is not there any more needs no revoking (since 2024-07-08 the vendor
// refuses unknown ids).
func (r *run) revoke(ctx context.Context) (plan.Result, error) {
	ours, err := r.group(ctx, false)
	if err != nil {
		return plan.Result{}, err
	}
	var ids []string
	for _, rule := range rulesFromValue(r.op.Inputs["rules"]) {
		if p, ok := ours[rule.at()]; ok && p.SecurityGroupRuleId != "" {
			ids = append(ids, p.SecurityGroupRuleId)
		}
	}
	if len(ids) == 0 {
		return plan.Result{}, nil
	}
	res, err := r.plain(ctx, &revokeSecurityGroup{rpc: newRPC(ecsRevokeSecurityGroup), ClientToken: string(r.token),
		SecurityGroupId: r.text("id"), SecurityGroupRuleId: &ids})
	if isCode(err, "InvalidSecurityGroupRule.RuleNotExist", "InvalidSecurityGroupRuleId.NotFound", "InvalidParam.SecurityGroupRuleId") {
		// Someone was faster with one of them; the others are still there.
		e := explain(r.step(), err).(*plan.Error)
		e.Class, e.Code = plan.ErrTransient, codeBusy
		return plan.Result{}, e
	}
	return res, err
}

// modifyRule gives a rule our mark or another name, or takes the mark off. Only the description changes,
// but the vendor resets what a request leaves out, so all of the rule is sent.
func (r *run) modifyRule(ctx context.Context) (plan.Result, error) {
	rules := rulesFromValue(r.op.Inputs["rules"])
	if len(rules) != 1 {
		return plan.Result{}, r.internal("the operation is about one rule")
	}
	group, err := r.group(ctx, true)
	if err != nil {
		return plan.Result{}, err
	}
	have, ok := group[rules[0].key()]
	if !ok && r.op.Kind == opUnmarkRule {
		return plan.Result{}, nil
	}
	if !ok {
		return plan.Result{}, &plan.Error{Class: plan.ErrStale, Code: codeConflict,
			Got: "the rule " + rules[0].key() + " is not there any more",
			Fix: "make a new plan"}
	}
	p := rules[0].param(r.stack)
	if r.op.Kind == opUnmarkRule {
		p.Description = unmarked
	}
	return r.plain(ctx, &modifySecurityGroupRule{rpc: newRPC(ecsModifySecurityGroupRule), ClientToken: string(r.token),
		SecurityGroupId: r.text("id"), SecurityGroupRuleId: have.SecurityGroupRuleId, Policy: p.Policy, Priority: p.Priority,
		IpProtocol: p.IpProtocol, PortRange: p.PortRange, SourceCidrIp: p.SourceCidrIp, Ipv6SourceCidrIp: p.Ipv6SourceCidrIp,
		NicType: p.NicType, Description: p.Description})
}

// unmarked is the description of a rule that is ours no more. An empty one would be
// left out of the request, which does not say what becomes of the old.
const unmarked = "-"

// rulesAre reports whether every rule of the operation is there (under our name for
// it) or, with want false, whether none is.
func (r *run) rulesAre(ctx context.Context, want bool) (bool, error) {
	ours, err := r.group(ctx, false)
	if err != nil {
		return false, err
	}
	for _, rule := range rulesFromValue(r.op.Inputs["rules"]) {
		p, there := ours[rule.at()]
		if there && want {
			there = strings.TrimSpace(p.Description) == ruleMark(r.stack, rule.Name)
		}
		if there != want {
			return false, nil
		}
	}
	return true, nil
}
