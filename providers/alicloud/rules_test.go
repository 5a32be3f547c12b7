package alicloud

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/server/manifest"
	"mailform/specs"
)

// raw calls the API as another tool would.
func raw(t *testing.T, p *Provider, req request, resp response) {
	t.Helper()
	if err := p.api.call(context.Background(), req, resp); err != nil {
		t.Fatal(err)
	}
}

// groupRules lists the rules of mx1's group as "description protocol ports source".
func groupRules(t *testing.T, p *Provider) []string {
	t.Helper()
	r := &reader{via: p.api}
	groups, err := r.securityGroups(context.Background(), stackTag("acme-mail"), "")
	if err != nil || len(groups) != 1 {
		t.Fatal(groups, err)
	}
	perms, err := r.permissions(context.Background(), groups[0].SecurityGroupId)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, q := range perms {
		out = append(out, strings.Join([]string{q.Description, q.IpProtocol, q.PortRange, q.SourceCidrIp + q.Ipv6SourceCidrIp}, " "))
	}
	slices.Sort(out)
	return out
}

func TestForeignRulesAreCountedAndLeftAlone(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec())
	group := observed(t, p, testSpec(), "host/mx1/firewall").ID
	resp := newAnswer()
	foreign := &authorizeSecurityGroup{rpc: newRPC(ecsAuthorizeSecurityGroup), SecurityGroupId: group, Permissions: &[]permissionParam{
		{Policy: "accept", Priority: "1", IpProtocol: "TCP", PortRange: "3306/3306", SourceCidrIp: "203.0.113.9", Description: "the DBA's"},
		{Policy: "drop", Priority: "50", IpProtocol: "ALL", PortRange: "-1/-1", SourceCidrIp: "192.0.2.0/24"},
		{Policy: "accept", Priority: "1", IpProtocol: "TCP", PortRange: "8080/8080", SourceCidrIp: "0.0.0.0/0", Description: "mf1:other:web"},
	}}
	raw(t, p, foreign, &resp)
	pl := planFor(t, p, testSpec())
	if len(pending(pl)) != 0 {
		t.Errorf("foreign rules make a plan: %v", pending(pl))
	}
	if len(pl.Foreign) != 1 || pl.Foreign[0].Count != 3 || pl.Foreign[0].Scope != "security group "+group {
		t.Errorf("foreign: %+v", pl.Foreign)
	}
	before := groupRules(t, p)
	c.apply(p, testSpec(func(h *specs.Host) {
		h.Allow = []specs.Allow{{Name: "web", Protocol: "tcp", FromPort: 443, ToPort: 443, From: prefixes("0.0.0.0/0")}}
	}))
	c.apply(p, testSpec())
	equal(t, "rules after opening and closing a port", groupRules(t, p), before)
}

func TestRulesChangeWithoutClosingAPort(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	web := func(name string, ports int, from ...string) func(*specs.Host) {
		return func(h *specs.Host) {
			h.Allow = []specs.Allow{{Name: name, Protocol: "tcp", FromPort: ports, ToPort: ports, From: prefixes(from...)}}
		}
	}
	c.apply(p, testSpec(web("web", 443, "0.0.0.0/0", "2001:db8::1/48")))
	mail := []string{
		"mf1:acme-mail:imap TCP 143/143 0.0.0.0/0", "mf1:acme-mail:imaps TCP 993/993 0.0.0.0/0", "mf1:acme-mail:smtp TCP 25/25 0.0.0.0/0",
		"mf1:acme-mail:ssh TCP 22/22 198.51.100.0/24", "mf1:acme-mail:submission TCP 587/587 0.0.0.0/0", "mf1:acme-mail:submissions TCP 465/465 0.0.0.0/0",
	}
	equal(t, "rules", groupRules(t, p), append(slices.Clone(mail),
		"mf1:acme-mail:web TCP 443/443 0.0.0.0/0", "mf1:acme-mail:web TCP 443/443 2001:db8::/48"))

	// Another name for the same rule: the port must stay open.
	before := len(c.sim.Calls())
	c.apply(p, testSpec(web("webmail", 443, "0.0.0.0/0", "2001:db8::/48")))
	for _, call := range c.sim.Calls()[before:] {
		if call.Action == "RevokeSecurityGroup" || call.Action == "AuthorizeSecurityGroup" {
			t.Errorf("renaming a rule calls %s", call.Action)
		}
	}
	equal(t, "renamed", groupRules(t, p), append(slices.Clone(mail),
		"mf1:acme-mail:webmail TCP 443/443 0.0.0.0/0", "mf1:acme-mail:webmail TCP 443/443 2001:db8::/48"))

	// Another source: first the new, then the old.
	before = len(c.sim.Calls())
	c.apply(p, testSpec(web("webmail", 443, "203.0.113.0/24")))
	var order []string
	for _, call := range c.sim.Calls()[before:] {
		if !call.ReadOnly() {
			order = append(order, call.Action)
		}
	}
	equal(t, "order", order, []string{"AuthorizeSecurityGroup", "RevokeSecurityGroup"})
	equal(t, "rules", groupRules(t, p), append(slices.Clone(mail), "mf1:acme-mail:webmail TCP 443/443 203.0.113.0/24"))
}

func TestAnUnmarkedRuleThatIsWantedOnlyGetsOurMark(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec())
	group := observed(t, p, testSpec(), "host/mx1/firewall").ID
	resp := newAnswer()
	raw(t, p, &authorizeSecurityGroup{rpc: newRPC(ecsAuthorizeSecurityGroup), SecurityGroupId: group, Permissions: &[]permissionParam{
		{IpProtocol: "tcp", PortRange: "443/443", SourceCidrIp: "0.0.0.0/0", Description: "clicked by hand"}}}, &resp)
	spec := testSpec(func(h *specs.Host) {
		h.Allow = []specs.Allow{{Name: "web", Protocol: "tcp", FromPort: 443, ToPort: 443, From: prefixes("0.0.0.0/0")}}
	})
	before := len(c.sim.Calls())
	c.apply(p, spec)
	for _, call := range c.sim.Calls()[before:] {
		if !call.ReadOnly() && call.Action != "ModifySecurityGroupRule" {
			t.Errorf("called %s", call.Action)
		}
	}
	if !slices.Contains(groupRules(t, p), "mf1:acme-mail:web TCP 443/443 0.0.0.0/0") {
		t.Errorf("rules: %v", groupRules(t, p))
	}
}

// What another stack has opened already is open: there is nothing to do, and its rule
// stays its own when ours go. When it goes, ours comes.
func TestAnotherStacksRuleThatIsWanted(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec())
	group := observed(t, p, testSpec(), "host/mx1/firewall").ID
	resp := newAnswer()
	raw(t, p, &authorizeSecurityGroup{rpc: newRPC(ecsAuthorizeSecurityGroup), SecurityGroupId: group, Permissions: &[]permissionParam{
		{IpProtocol: "TCP", PortRange: "443/443", SourceCidrIp: "0.0.0.0/0", Description: "mf1:other:web"}}}, &resp)
	before := groupRules(t, p)
	spec := testSpec(func(h *specs.Host) {
		h.Allow = []specs.Allow{{Name: "web", Protocol: "tcp", FromPort: 443, ToPort: 443, From: prefixes("0.0.0.0/0")}}
	})
	c.apply(p, spec)
	equal(t, "rules while it is wanted", groupRules(t, p), before)
	c.apply(p, testSpec())
	equal(t, "rules when it is not", groupRules(t, p), before)

	perms, err := (&reader{via: p.api}).permissions(context.Background(), group)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range perms {
		if q.Description == "mf1:other:web" {
			raw(t, p, &revokeSecurityGroup{rpc: newRPC(ecsRevokeSecurityGroup), SecurityGroupId: group, SecurityGroupRuleId: &[]string{q.SecurityGroupRuleId}}, &resp)
		}
	}
	c.apply(p, spec)
	if !slices.Contains(groupRules(t, p), "mf1:acme-mail:web TCP 443/443 0.0.0.0/0") {
		t.Errorf("rules: %v", groupRules(t, p))
	}
}

// Rules of others take room, too: when old and new do not fit beside them the old go first.
func TestManyRulesBesideOthers(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	spec := func(from int) *specs.Spec {
		return testSpec(func(h *specs.Host) {
			for i := range 60 {
				h.Allow = append(h.Allow, specs.Allow{Name: "many", Protocol: "udp", FromPort: from + i, ToPort: from + i, From: prefixes("203.0.113.0/24")})
			}
		})
	}
	c.apply(p, spec(1000))
	group := observed(t, p, testSpec(), "host/mx1/firewall").ID
	var foreign []permissionParam
	for i := range 100 {
		foreign = append(foreign, permissionParam{IpProtocol: "TCP", PortRange: portRange(3000+i, 3000+i), SourceCidrIp: "203.0.113.9"})
	}
	resp := newAnswer()
	raw(t, p, &authorizeSecurityGroup{rpc: newRPC(ecsAuthorizeSecurityGroup), SecurityGroupId: group, Permissions: &foreign}, &resp)
	c.apply(p, spec(5000))
	if n := len(groupRules(t, p)); n != 166 {
		t.Errorf("%d rules, want 166", n)
	}
}

func TestSomeoneChangedOurRule(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec())
	want := groupRules(t, p)
	group := observed(t, p, testSpec(), "host/mx1/firewall").ID
	r := &reader{via: p.api}
	perms, _ := r.permissions(context.Background(), group)
	for _, q := range perms {
		if q.PortRange == "25/25" { // "temporarily" shut
			resp := newAnswer()
			raw(t, p, &modifySecurityGroupRule{rpc: newRPC(ecsModifySecurityGroupRule), SecurityGroupId: group, SecurityGroupRuleId: q.SecurityGroupRuleId,
				Policy: "drop", Priority: "1", IpProtocol: "TCP", PortRange: "25/25", SourceCidrIp: "0.0.0.0/0", Description: q.Description}, &resp)
		}
	}
	equal(t, "plan", pending(planFor(t, p, testSpec())), []string{"update host/mx1/firewall"})
	c.apply(p, testSpec())
	equal(t, "rules", groupRules(t, p), want)
}

func TestManyRulesTakeBatches(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	spec := func(n, from int) *specs.Spec {
		return testSpec(func(h *specs.Host) {
			for i := range n {
				h.Allow = append(h.Allow, specs.Allow{Name: "many", Protocol: "udp", FromPort: from + i, ToPort: from + i, From: prefixes("203.0.113.0/24")})
			}
		})
	}
	c.apply(p, spec(190, 1000))
	calls := map[string]int{}
	for _, call := range c.sim.Calls() {
		calls[call.Action]++
	}
	if calls["AuthorizeSecurityGroup"] != 2 {
		t.Errorf("196 rules took %d calls", calls["AuthorizeSecurityGroup"])
	}
	// 190 others do not fit beside them: the old must go first.
	c.apply(p, spec(190, 5000))
	if _, diags := p.Declare(spec(195, 1000)); !diags.HasErrors() {
		t.Error("201 rules are not refused")
	}
}

func TestRuleTable(t *testing.T) {
	for _, tc := range []struct {
		in   permission
		want string
		ok   bool
	}{
		{permission{IpProtocol: "TCP", PortRange: "25/25", SourceCidrIp: "0.0.0.0/0", Policy: "Accept", Priority: "1"}, "tcp 25/25 0.0.0.0/0 accept 1", true},
		{permission{IpProtocol: "tcp", PortRange: " 025/25 ", SourceCidrIp: "198.51.100.7/24", Policy: "accept"}, "tcp 25/25 198.51.100.0/24 accept 1", true},
		{permission{IpProtocol: "ALL", PortRange: "-1/-1", SourceCidrIp: "203.0.113.9", Policy: "Drop", Priority: "100"}, "all -1/-1 203.0.113.9/32 drop 100", true},
		{permission{IpProtocol: "UDP", PortRange: "1/65535", Ipv6SourceCidrIp: "2001:0DB8:0::1/32"}, "udp 1/65535 2001:db8::/32 accept 1", true},
		{permission{IpProtocol: "TCP", PortRange: "22/22", Ipv6SourceCidrIp: "::ffff:198.51.100.0/120"}, "", false},
		{permission{IpProtocol: "TCP", PortRange: "22/22", SourceGroupId: "sg-1"}, "tcp 22/22 sg-1 accept 1", true},
		{permission{IpProtocol: "TCP", PortRange: "22/22", SourcePrefixListId: "pl-1"}, "tcp 22/22 pl-1 accept 1", true},
		{permission{IpProtocol: "TCP", PortRange: "22/22"}, "", false},
		{permission{Direction: "egress", IpProtocol: "TCP", PortRange: "22/22", SourceCidrIp: "0.0.0.0/0"}, "", false},
		{permission{IpProtocol: "TCP", PortRange: "22/22", SourceCidrIp: "0.0.0.0/0", DestCidrIp: "10.0.0.1"}, "", false},
		{permission{IpProtocol: "TCP", PortRange: "22/22", SourceCidrIp: "0.0.0.0/0", SourcePortRange: "80/80"}, "", false},
		{permission{IpProtocol: "TCP", PortRange: "22/22", SourceCidrIp: "0.0.0.0/0", SourcePortRange: "-1/-1"}, "tcp 22/22 0.0.0.0/0 accept 1", true},
	} {
		r, ok := fromPermission(tc.in)
		if ok != tc.ok || ok && r.key() != tc.want {
			t.Errorf("%+v: %q %v, want %q %v", tc.in, r.key(), ok, tc.want, tc.ok)
		}
	}
	if p := canonicalPrefix(netip.MustParsePrefix("::ffff:198.51.100.7/120")); p != "198.51.100.0/24" {
		t.Errorf("an IPv4-mapped prefix is %s", p)
	}
}

func TestRulesThatAreTheSameToTheVendorAreOne(t *testing.T) {
	h := testSpec(func(h *specs.Host) {
		h.Allow = []specs.Allow{
			{Name: "again", Protocol: "tcp", FromPort: 25, ToPort: 25, From: prefixes("0.0.0.0/0")},
			{Name: "again", Protocol: "TCP", FromPort: 22, ToPort: 22, From: prefixes("198.51.100.9/24", "198.51.100.0/24")},
		}
	}).Hosts[0]
	if rules := hostRules(h, manifest.Services(), nil); len(rules) != 6 {
		t.Errorf("%d rules: %+v", len(rules), rules)
	}
	web := hostRules(h, manifest.Services(), prefixes("0.0.0.0/0", "::/0"))
	if len(web) != 7 || web[5].Name != "https" || web[5].Ports != "443/443" {
		t.Errorf("with a web service there are %d rules: %+v", len(web), web)
	}
}

// FuzzRule holds that what a rule becomes in canonical form stays what it is, in
// a plan and back, and that a diff of a rule set with itself is empty.
func FuzzRule(f *testing.F) {
	f.Add("TCP", "25/25", "0.0.0.0/0", "", "Accept", "1", "mf1:acme-mail:smtp")
	f.Add("all", "-1/-1", "", "2001:DB8::1/32", "drop", "100", "mf1::")
	f.Add("Icmp", "-1", "::ffff:1.2.3.4/100", "", "", "x", "mf1:a:b:c")
	f.Add("", "99999999999999999999/0", "fe80::1%eth0", "1.2.3.4", "ACCEPT", "-7", "")
	f.Fuzz(func(t *testing.T, protocol, ports, v4, v6, policy, priority, description string) {
		if stack, name, ok := parseRuleMark(description); ok && ruleMark(stack, name) != description {
			t.Errorf("mark %q becomes %q", description, ruleMark(stack, name))
		}
		r, ok := fromPermission(permission{IpProtocol: protocol, PortRange: ports, SourceCidrIp: v4, Ipv6SourceCidrIp: v6, Policy: policy, Priority: priority})
		if !ok {
			return
		}
		r.Name = "n"
		if again := canonicalSource(r.Source); again != r.Source {
			t.Errorf("source %q becomes %q", r.Source, again)
		}
		if again := canonicalPorts(r.Ports); again != r.Ports {
			t.Errorf("ports %q become %q", r.Ports, again)
		}
		if back := ruleFromValue(r.value()); back != r {
			t.Errorf("%+v comes back from a plan as %+v", r, back)
		}
		if d := diffRules([]rule{r}, []rule{r}); len(d.add)+len(d.remove)+len(d.rename) != 0 {
			t.Errorf("a rule differs from itself: %+v", d)
		}
		p := r.param("s")
		again, ok := fromPermission(permission{IpProtocol: p.IpProtocol, PortRange: p.PortRange, SourceCidrIp: p.SourceCidrIp,
			Ipv6SourceCidrIp: p.Ipv6SourceCidrIp, Policy: p.Policy, Priority: p.Priority})
		if again.Name = "n"; ok && again.Ports == r.Ports && again.Source == r.Source && strings.EqualFold(r.Protocol, again.Protocol) && again.Priority != r.Priority {
			t.Errorf("%+v comes back from the API as %+v", r, again)
		}
	})
}

// FuzzFailure gives the error mapper any answer: it must neither panic nor say more
// than one bounded line.
func FuzzFailure(f *testing.F) {
	f.Add(400, "SignatureDoesNotMatch", "Specified signature is not matched. server string to sign is:POST&secret", "R-1")
	f.Add(403, "Forbidden.RAM", "no\nsuch\x1b[31m permission", "")
	f.Add(429, "Throttling.User", strings.Repeat("x", 5000), "R")
	f.Add(503, "", "\x00", url.QueryEscape("&"))
	f.Fuzz(func(t *testing.T, status int, code, message, request string) {
		for _, action := range []string{"DescribeVpcs", "RunInstances"} {
			err := explain("step", &failure{product: ecs, action: action, to: endpoint{"https", "h"}, kind: refused,
				status: status, code: clean(code, 100), message: clean(message, 300), request: clean(request, 64)})
			e, ok := err.(*plan.Error)
			if !ok {
				t.Fatalf("%T", err)
			}
			text := e.Error()
			if strings.ContainsAny(text, "\n\r\x1b\x00") || len(text) > 700 {
				t.Errorf("%d bytes: %q", len(text), text)
			}
			if strings.Contains(message, "server string to sign") && strings.Contains(text, "to sign is") {
				t.Errorf("the string to sign is quoted: %q", text)
			}
			if e.Fix == "" || e.Code == "" {
				t.Errorf("no advice for %d %q", status, code)
			}
			if action == "RunInstances" && status >= 500 && code == "InternalError" && e.Class != plan.ErrAmbiguous {
				t.Errorf("a server error on an effect is %q", e.Class)
			}
		}
	})
}

func TestClasses(t *testing.T) {
	for _, tc := range []struct {
		status int
		code   string
		want   plan.ErrorClass
	}{
		{400, "Throttling", plan.ErrThrottled}, {400, "Throttling.Api", plan.ErrThrottled}, {400, "Rejected.Throttling", plan.ErrThrottled},
		{429, "Throttling.Resource", plan.ErrThrottled}, {400, "FrequentPurchase.EIP", plan.ErrThrottled},
		{400, "TaskConflict", plan.ErrTransient}, {409, "OperationConflict", plan.ErrTransient}, {400, "OperationFailed.DistibuteLock", plan.ErrTransient},
		{400, "System.ServiceBusy", plan.ErrTransient}, {403, "LastTokenProcessing", plan.ErrTransient}, {403, "IdempotentProcessing", plan.ErrTransient},
		{400, "TOKEN_PROCESSING", plan.ErrTransient}, {400, "OperationFailed.IdempotentTokenProcessing", plan.ErrTransient},
		{400, "IncorrectVpcStatus", plan.ErrTransient}, {400, "IncorrectVSwitchStatus", plan.ErrTransient}, {403, "IncorrectInstanceStatus", plan.ErrTransient},
		{403, "IncorrectInstanceStatus.Initializing", plan.ErrTransient}, {400, "IncorrectEipStatus", plan.ErrTransient}, {400, "IncorrectStatus.cbnStatus", plan.ErrTransient},
		{400, "InvalidStatus.EcsStatusNotSupport", plan.ErrTransient}, {403, "DependencyViolation", plan.ErrTransient}, {400, "DependencyViolation.VSwitch", plan.ErrTransient},
		{400, "InvalidParameter.KeypairAlreadyAttachedInstance", plan.ErrTransient},
		{403, "OperationDenied.NoStock", plan.ErrFatal}, {400, "Zone.NotOnSale", plan.ErrFatal}, {403, "Zone.NotOnSale", plan.ErrFatal},
		{403, "QuotaExceed.SecurityGroup", plan.ErrFatal}, {400, "QuotaExceeded.Vpc", plan.ErrFatal}, {400, "Account.Arrearage", plan.ErrFatal},
		{403, "InvalidAccountStatus.NotEnoughBalance", plan.ErrFatal}, {403, "InvalidInstanceType.ZoneNotSupported", plan.ErrFatal},
		{403, "Forbidden.RAM", plan.ErrCredentials}, {403, "Forbidden", plan.ErrCredentials}, {404, "InvalidAccessKeyId.NotFound", plan.ErrCredentials},
		{400, "InvalidSecurityToken.Expired", plan.ErrCredentials}, {400, "IncompleteSignature", plan.ErrCredentials},
		{400, "Forbidden.VpcNotFound", plan.ErrFatal}, {403, "InvalidOperation.DeletionProtection", plan.ErrBlocked},
		{500, "InternalError", plan.ErrAmbiguous}, {503, "ServiceUnavailable", plan.ErrAmbiguous}, {400, "InvalidParameter", plan.ErrFatal},
	} {
		if got, _, _ := classify(ecs, "RunInstances", tc.status, tc.code); got != tc.want {
			t.Errorf("%d %s: %q, want %q", tc.status, tc.code, got, tc.want)
		}
	}
	if got, _, _ := classify(ecs, "DescribeInstances", 503, "ServiceUnavailable"); got != plan.ErrTransient {
		t.Errorf("a server error on a read is %q", got)
	}
}

// TestAnExclusiveFirewallHasOnlyTheSpecsRules: what nobody marked is shown by its id
// and taken away, in whatever form it is; another stack's rules and outbound ones stay.
func TestAnExclusiveFirewallHasOnlyTheSpecsRules(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	exclusive := func(h *specs.Host) { h.Exclusive = true }
	c.apply(p, testSpec(exclusive))
	ours := groupRules(t, p)
	group := observed(t, p, testSpec(), "host/mx1/firewall").ID
	resp := newAnswer()
	raw(t, p, &authorizeSecurityGroup{rpc: newRPC(ecsAuthorizeSecurityGroup), SecurityGroupId: group, Permissions: &[]permissionParam{
		{Policy: "accept", Priority: "1", IpProtocol: "TCP", PortRange: "3306/3306", SourceCidrIp: "203.0.113.9", Description: "the DBA's"},
		{Policy: "drop", Priority: "50", IpProtocol: "ALL", PortRange: "-1/-1", SourceCidrIp: "192.0.2.0/24"},
		{Policy: "accept", Priority: "1", IpProtocol: "TCP", PortRange: "25/25", Ipv6SourceCidrIp: "::ffff:192.0.2.0/120"},
		{Policy: "accept", Priority: "1", IpProtocol: "TCP", PortRange: "8080/8080", SourceCidrIp: "0.0.0.0/0", Description: "mf1:other:web"},
	}}, &resp)
	if pl := planFor(t, p, testSpec()); len(pending(pl)) != 0 || pl.Foreign[0].Count != 4 {
		t.Errorf("without being exclusive: %v, %+v", pending(pl), pl.Foreign)
	}
	pl := planFor(t, p, testSpec(exclusive))
	ch, _ := pl.Change("host/mx1/firewall")
	if ch.Action != plan.Update || len(ch.Fields) != 3 || pl.Foreign[0].Count != 1 {
		t.Fatalf("%s with %v, foreign %+v", ch.Action, ch.Fields, pl.Foreign)
	}
	for _, f := range ch.Fields {
		if !strings.HasPrefix(f.Path, "rules[sgr-") || !f.After.IsNull() {
			t.Errorf("%s: %v → %v", f.Path, f.Before, f.After)
		}
	}
	if text := ch.Fields[0].Before.String() + ch.Fields[1].Before.String() + ch.Fields[2].Before.String(); !strings.Contains(text, `"the DBA's"`) {
		t.Errorf("nobody sees whose rule goes: %s", text)
	}
	// Another of our rules goes at the same time, and one is new.
	allow443 := func(h *specs.Host) {
		h.Allow = []specs.Allow{{Name: "web", Protocol: "tcp", FromPort: 443, ToPort: 443, From: prefixes("0.0.0.0/0")}}
	}
	c.apply(p, testSpec(exclusive, allow443))
	if left := pending(planFor(t, p, testSpec(exclusive, allow443))); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	c.apply(p, testSpec(exclusive))
	equal(t, "rules", groupRules(t, p), append(slices.Clone(ours), "mf1:other:web TCP 8080/8080 0.0.0.0/0"))
}

// TestAForeignRuleThatGotAMarkIsLeftAlone: between plan and apply another stack took
// the rule over.
func TestAForeignRuleThatGotAMarkIsLeftAlone(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	exclusive := func(h *specs.Host) { h.Exclusive = true }
	c.apply(p, testSpec(exclusive))
	group := observed(t, p, testSpec(), "host/mx1/firewall").ID
	resp := newAnswer()
	foreign := permissionParam{Policy: "accept", Priority: "1", IpProtocol: "TCP", PortRange: "3306/3306", SourceCidrIp: "203.0.113.9/32"}
	raw(t, p, &authorizeSecurityGroup{rpc: newRPC(ecsAuthorizeSecurityGroup), SecurityGroupId: group, Permissions: &[]permissionParam{foreign}}, &resp)
	pl := planFor(t, p, testSpec(exclusive))
	ch, _ := pl.Change("host/mx1/firewall")
	if len(ch.Fields) != 1 {
		t.Fatal(ch.Fields)
	}
	resp = newAnswer()
	raw(t, p, &modifySecurityGroupRule{rpc: newRPC(ecsModifySecurityGroupRule), SecurityGroupId: group,
		SecurityGroupRuleId: ch.Fields[0].Before.Field("id").Str(), Policy: "accept", Priority: "1", IpProtocol: "TCP", PortRange: "3306/3306",
		SourceCidrIp: "203.0.113.9/32", NicType: "intranet", Description: "mf1:other:db"}, &resp)
	if _, err := walk(p, pl, 1); err != nil {
		t.Fatal(err)
	}
	if rules := groupRules(t, p); !slices.Contains(rules, "mf1:other:db TCP 3306/3306 203.0.113.9/32") {
		t.Errorf("rules: %v", rules)
	}
}

// TestARuleThatSomebodyElseRevokedIsNoError: since July 2024 the vendor refuses to
// revoke a rule id that it does not know. Gone between plan and apply, a rule needs
// no revoking; gone between our look and our call, it is looked for once more.
func TestARuleThatSomebodyElseRevokedIsNoError(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	open := func(h *specs.Host) {
		h.Allow = []specs.Allow{{Name: "web", Protocol: "tcp", FromPort: 443, ToPort: 443, From: prefixes("0.0.0.0/0")}}
	}
	for _, code := range []string{"", "InvalidSecurityGroupRule.RuleNotExist", "InvalidParam.SecurityGroupRuleId"} {
		c.applied++
		c.apply(p, testSpec(open))
		want := slices.DeleteFunc(groupRules(t, p), func(r string) bool { return strings.Contains(r, "443/443") })
		pl := planFor(t, p, testSpec())
		if code == "" {
			group := observed(t, p, testSpec(), "host/mx1/firewall").ID
			for _, perm := range must(t)((&reader{via: p.api}).permissions(t.Context(), group)) {
				if perm.PortRange == "443/443" {
					resp := newAnswer()
					raw(t, p, &revokeSecurityGroup{rpc: newRPC(ecsRevokeSecurityGroup), SecurityGroupId: group, SecurityGroupRuleId: &[]string{perm.SecurityGroupRuleId}}, &resp)
				}
			}
		}
		refused := false
		c.inject(func(call alicloudsim.Call) alicloudsim.Fault {
			if call.Action != "RevokeSecurityGroup" || refused || code == "" {
				return alicloudsim.Fault{}
			}
			refused = true
			return alicloudsim.Fault{Status: 400, Code: code, After: true}
		})
		c.applied++
		if _, err := walk(p, pl, c.applied); err != nil {
			t.Errorf("%q: %v", code, err)
		}
		c.inject(nil)
		equal(t, "rules after "+code, groupRules(t, p), want)
	}
}

func must(t *testing.T) func([]permission, error) []permission {
	return func(all []permission, err error) []permission {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
}
