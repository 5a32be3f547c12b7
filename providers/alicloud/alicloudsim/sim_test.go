package alicloudsim

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

const testPublicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6Tf0iXxkEWiKzEZ8fBHTzmIeqcnFTRaGtwnRmWXNpZ me@laptop"

// client signs and sends requests as any other implementation would.
type client struct {
	t      *testing.T
	sim    *Sim
	nonce  int
	id     string
	secret string
	change func(url.Values) // spoils a signed request
}

func newClient(t *testing.T, cfg Config) *client {
	if cfg.AccessKeys == nil {
		cfg.AccessKeys = []AccessKey{{ID: "id", Secret: "secret"}}
	}
	return &client{t: t, sim: New(cfg), id: "id", secret: "secret"}
}

// call sends an action and returns the answer, or its error code.
func (c *client) call(version, action string, pairs ...string) (map[string]any, string) {
	c.t.Helper()
	c.nonce++
	params := url.Values{"Action": {action}, "Version": {version}, "Format": {"JSON"}, "AccessKeyId": {c.id}, "SignatureMethod": {"HMAC-SHA1"},
		"SignatureVersion": {"1.0"}, "SignatureNonce": {fmt.Sprint(c.nonce)}, "Timestamp": {time.Now().UTC().Format("2006-01-02T15:04:05Z")}, "RegionId": {"cn-hongkong"}}
	for i := 0; i < len(pairs); i += 2 {
		params.Set(pairs[i], pairs[i+1])
	}
	method := http.MethodPost
	if c.nonce%2 == 0 {
		method = http.MethodGet
	}
	params.Set("Signature", sign(stringToSign(method, params), c.secret))
	if c.change != nil {
		c.change(params)
	}
	req := httptest.NewRequest(method, "/?"+params.Encode(), nil)
	if method == http.MethodPost {
		req = httptest.NewRequest(method, "/", strings.NewReader(params.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	rec := httptest.NewRecorder()
	c.sim.ServeHTTP(rec, req)
	var answer map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
		c.t.Fatalf("%s: %v in %q", action, err, rec.Body)
	}
	if answer["RequestId"] == "" {
		c.t.Errorf("%s: no request id", action)
	}
	code, _ := answer["Code"].(string)
	if (rec.Code == 200) != (code == "") {
		c.t.Errorf("%s: status %d with code %q", action, rec.Code, code)
	}
	return answer, code
}

func (c *client) ecs(action string, pairs ...string) (map[string]any, string) {
	c.t.Helper()
	return c.call("2014-05-26", action, pairs...)
}

func (c *client) vpc(action string, pairs ...string) (map[string]any, string) {
	c.t.Helper()
	return c.call("2016-04-28", action, pairs...)
}

func (c *client) want(code string) func(map[string]any, string) map[string]any {
	c.t.Helper()
	return func(a map[string]any, got string) map[string]any {
		c.t.Helper()
		if got != code {
			c.t.Fatalf("code %q, want %q (%v)", got, code, a["Message"])
		}
		return a
	}
}

func text(a map[string]any, name string) string { s, _ := a[name].(string); return s }

// item digs into an answer: item(a, "Vpcs", "Vpc") is the first of the list.
func item(a map[string]any, outer, inner string) map[string]any {
	o, _ := a[outer].(map[string]any)
	l, _ := o[inner].([]any)
	if len(l) == 0 {
		return nil
	}
	m, _ := l[0].(map[string]any)
	return m
}

// ready makes everything up to a running instance.
func (c *client) ready() (vpc, vsw, sg, instance, eip string) {
	c.t.Helper()
	ok := c.want("")
	vpc = text(ok(c.vpc("CreateVpc", "CidrBlock", "10.0.0.0/16")), "VpcId")
	c.want("IncorrectVpcStatus")(c.vpc("CreateVSwitch", "VpcId", vpc, "ZoneId", "cn-hongkong-b", "CidrBlock", "10.0.0.0/24"))
	vsw = text(ok(c.vpc("CreateVSwitch", "VpcId", vpc, "ZoneId", "cn-hongkong-b", "CidrBlock", "10.0.0.0/24")), "VSwitchId")
	sg = text(ok(c.ecs("CreateSecurityGroup", "VpcId", vpc, "SecurityGroupName", "test")), "SecurityGroupId")
	ok(c.ecs("ImportKeyPair", "KeyPairName", "key", "PublicKeyBody", testPublicKey))
	run := []string{"InstanceType", "ecs.g7.large", "ImageId", "debian_12_11_x64_20G_alibase_20250716.vhd", "VSwitchId", vsw, "SecurityGroupId", sg,
		"KeyPairName", "key", "SystemDisk.Category", "cloud_essd", "SystemDisk.Size", "40", "HostName", "mail.example.org",
		"UserData", base64.StdEncoding.EncodeToString([]byte("#cloud-config\n{}"))}
	c.want("IncorrectVSwitchStatus")(c.ecs("RunInstances", run...))
	sets := ok(c.ecs("RunInstances", run...))["InstanceIdSets"].(map[string]any)["InstanceIdSet"].([]any)
	instance = sets[0].(string)
	eip = text(ok(c.vpc("AllocateEipAddress", "Bandwidth", "10")), "AllocationId")
	c.want("IncorrectInstanceStatus")(c.vpc("AssociateEipAddress", "AllocationId", eip, "InstanceId", instance))
	for i := 0; c.state(instance) != "Running"; i++ {
		if i > 5 {
			c.t.Fatal("it never runs")
		}
	}
	return
}

func (c *client) state(instance string) string {
	a, _ := c.ecs("DescribeInstances", "InstanceIds", `["`+instance+`"]`)
	return text(item(a, "Instances", "Instance"), "Status")
}

func TestSignatures(t *testing.T) {
	c := newClient(t, Config{MaxSkew: 15 * time.Minute})
	c.want("")(c.vpc("DescribeVpcs"))
	c.want("")(c.vpc("DescribeVpcs", "VpcName", "ä *~+/= &?"))
	for code, change := range map[string]func(url.Values){
		"SignatureDoesNotMatch":       func(v url.Values) { v.Set("VpcName", "other") },
		"MissingSignature":            func(v url.Values) { v.Del("Signature") },
		"InvalidAccessKeyId.NotFound": func(v url.Values) { v.Set("AccessKeyId", "nobody") },
		"InvalidVersion":              func(v url.Values) { v.Set("Version", "2020-01-01") },
		"InvalidTimeStamp.Format":     func(v url.Values) { v.Set("Timestamp", "now") },
		"InvalidTimeStamp.Expired": func(v url.Values) {
			v.Set("Timestamp", time.Now().Add(-time.Hour).UTC().Format("2006-01-02T15:04:05Z"))
		},
		"InvalidSecurityToken.MismatchWithAccessKey": func(v url.Values) { v.Set("SecurityToken", "x") },
	} {
		c.change = change
		c.want(code)(c.vpc("DescribeVpcs"))
	}
	c.change = nil
	c.nonce = 0 // as the first request
	c.want("SignatureNonceUsed")(c.vpc("DescribeVpcs"))
	c.nonce = 100
	c.want("InvalidAction.NotFound")(c.vpc("RunInstances"))
	c.want("InvalidRegionId.NotFound")(c.vpc("DescribeVpcs", "RegionId", "mars-1"))
	c.want("MissingParameter")(c.vpc("CreateVSwitch", "VpcId", "x"))
	for _, call := range c.sim.Calls() {
		if call.Params.Get("Signature") != "" || call.Params.Get("AccessKeyId") != "" {
			t.Errorf("the call log holds %v", call.Params)
		}
	}
}

func TestTokensAreReplayed(t *testing.T) {
	c := newClient(t, Config{})
	first := c.want("")(c.vpc("CreateVpc", "ClientToken", "tok", "CidrBlock", "10.0.0.0/16"))
	again := c.want("")(c.vpc("CreateVpc", "ClientToken", "tok", "CidrBlock", "10.0.0.0/16"))
	if text(first, "VpcId") != text(again, "VpcId") || text(first, "RequestId") == text(again, "RequestId") {
		t.Errorf("%v, then %v", first, again)
	}
	c.want("IdempotentParameterMismatch")(c.vpc("CreateVpc", "ClientToken", "tok", "CidrBlock", "10.1.0.0/16"))
	c.want("InvalidClientToken.ValueNotSupported")(c.vpc("CreateVpc", "ClientToken", strings.Repeat("x", 65)))
	if n := len(c.sim.Inventory()); n != 1 {
		t.Errorf("%d things", n)
	}
}

func TestStatesAndDependencies(t *testing.T) {
	var booted []BootRequest
	m := &fake{}
	c := newClient(t, Config{Boot: func(r BootRequest) (Machine, error) { booted = append(booted, r); return m, nil }})
	vpc, vsw, sg, inst, eip := c.ready()
	ok := c.want("")
	if len(booted) != 1 || booted[0].PublicKey != testPublicKey || booted[0].HostName != "mail.example.org" || string(booted[0].UserData) != "#cloud-config\n{}" {
		t.Errorf("booted %+v", booted)
	}
	c.want("InvalidInstanId.NotFound")(c.vpc("AssociateEipAddress", "AllocationId", eip, "InstanceId", "i-nobody"))
	ok(c.vpc("AssociateEipAddress", "AllocationId", eip, "InstanceId", inst))
	c.want("IncorrectEipStatus")(c.vpc("ReleaseEipAddress", "AllocationId", eip))
	c.want("IncorrectEipStatus")(c.vpc("AssociateEipAddress", "AllocationId", eip, "InstanceId", inst))
	a := ok(c.vpc("DescribeEipAddresses", "AllocationId", eip))
	if s := text(item(a, "EipAddresses", "EipAddress"), "Status"); s != "InUse" || !m.ip.IsValid() {
		t.Errorf("address is %s, the machine has %v", s, m.ip)
	}
	second := text(ok(c.vpc("AllocateEipAddress")), "AllocationId")
	c.want("InvalidAssociation.Duplicated")(c.vpc("AssociateEipAddress", "AllocationId", second, "InstanceId", inst))
	ok(c.vpc("ReleaseEipAddress", "AllocationId", second))
	c.want("InvalidAllocationId.NotFound")(c.vpc("ReleaseEipAddress", "AllocationId", second))

	c.want("DependencyViolation.VSwitch")(c.vpc("DeleteVpc", "VpcId", vpc))
	c.want("DependencyViolation")(c.vpc("DeleteVSwitch", "VSwitchId", vsw))
	c.want("DependencyViolation")(c.ecs("DeleteSecurityGroup", "SecurityGroupId", sg))
	c.want("InvalidParameter.KeypairAlreadyAttachedInstance")(c.ecs("DeleteKeyPairs", "KeyPairNames", `["key"]`))
	c.want("IncorrectInstanceStatus")(c.ecs("DeleteInstance", "InstanceId", inst))
	c.want("IncorrectInstanceStatus")(c.ecs("ModifyInstanceSpec", "InstanceId", inst, "InstanceType", "ecs.g7.xlarge"))
	ok(c.ecs("StopInstance", "InstanceId", inst))
	for c.state(inst) != "Stopped" {
	}
	if !m.stopped {
		t.Error("the machine was not stopped")
	}
	ok(c.ecs("ModifyInstanceSpec", "InstanceId", inst, "InstanceType", "ecs.g7.xlarge"))
	ok(c.ecs("StartInstance", "InstanceId", inst))
	for c.state(inst) != "Running" {
	}
	if m.stopped || len(booted) != 1 {
		t.Error("the machine was not started again")
	}

	ok(c.ecs("DeleteInstance", "InstanceId", inst, "Force", "true"))
	if m.ip.IsValid() {
		t.Error("the machine kept its address")
	}
	c.want("DependencyViolation")(c.ecs("DeleteSecurityGroup", "SecurityGroupId", sg)) // it lingers
	for c.state(inst) != "" {
	}
	if !m.destroyed {
		t.Error("the machine was not destroyed")
	}
	c.want("InvalidInstanceId.NotFound")(c.ecs("DeleteInstance", "InstanceId", inst, "Force", "true"))
	ok(c.ecs("DeleteSecurityGroup", "SecurityGroupId", sg))
	c.want("InvalidSecurityGroup.NotFound")(c.ecs("DeleteSecurityGroup", "SecurityGroupId", sg))
	ok(c.ecs("DeleteKeyPairs", "KeyPairNames", `["key","never-was"]`))
	ok(c.vpc("DeleteVSwitch", "VSwitchId", vsw))
	ok(c.vpc("DeleteVpc", "VpcId", vpc))
	c.want("IncorrectEipStatus")(c.vpc("ReleaseEipAddress", "AllocationId", eip)) // still being freed
	ok(c.vpc("ReleaseEipAddress", "AllocationId", eip))
	if !c.sim.Empty() {
		t.Errorf("left: %v", c.sim.Inventory())
	}
}

type fake struct {
	ip                 netip.Addr
	stopped, destroyed bool
}

func (f *fake) Attach(ip netip.Addr) { f.ip = ip }
func (f *fake) Detach()              { f.ip = netip.Addr{} }
func (f *fake) Stop() error          { f.stopped = true; return nil }
func (f *fake) Start() error         { f.stopped = false; return nil }
func (f *fake) Destroy() error       { f.destroyed = true; return nil }

func TestAMachineThatDoesNotBootIsReported(t *testing.T) {
	c := newClient(t, Config{Boot: func(BootRequest) (Machine, error) { return nil, errors.New("no memory") }})
	ok := c.want("")
	vpc := text(ok(c.vpc("CreateVpc")), "VpcId")
	ok(c.vpc("DescribeVpcs"))
	vsw := text(ok(c.vpc("CreateVSwitch", "VpcId", vpc, "ZoneId", "cn-hongkong-b", "CidrBlock", "172.16.0.0/24")), "VSwitchId")
	sg := text(ok(c.ecs("CreateSecurityGroup", "VpcId", vpc)), "SecurityGroupId")
	ok(c.vpc("DescribeVSwitches"))
	ok(c.ecs("RunInstances", "InstanceType", "ecs.g7.large", "ImageId", "debian_12_11_x64_20G_alibase_20250716.vhd", "VSwitchId", vsw,
		"SecurityGroupId", sg, "SystemDisk.Category", "cloud_essd"))
	ok(c.ecs("DescribeInstances"))
	ok(c.ecs("DescribeInstances"))
	a := c.want("InternalError")(c.ecs("DescribeInstances"))
	if !strings.Contains(text(a, "Message"), "no memory") {
		t.Errorf("message %q", text(a, "Message"))
	}
}

func TestNotFoundHasThreeShapes(t *testing.T) {
	c := newClient(t, Config{})
	c.want("InvalidVpcId.NotFound")(c.vpc("DeleteVpc", "VpcId", "vpc-x"))
	for action, list := range map[string][2]string{"DescribeInstances": {"Instances", "Instance"}, "DescribeKeyPairs": {"KeyPairs", "KeyPair"}, "DescribeSecurityGroups": {"SecurityGroups", "SecurityGroup"}} {
		a := c.want("")(c.ecs(action))
		if l, isList := a[list[0]].(map[string]any)[list[1]].([]any); !isList || len(l) != 0 {
			t.Errorf("%s: %v", action, a)
		}
	}
	if a := c.want("")(c.ecs("DescribeImageFromFamily", "ImageFamily", "acs:none")); a["Image"] != nil {
		t.Errorf("an unknown family gives %v", a)
	}
	if a := c.want("")(c.ecs("DescribeInstances", "InstanceIds", "[]")); item(a, "Instances", "Instance") != nil {
		t.Error("an empty list of ids gives instances")
	}
}

func TestWithoutPermission(t *testing.T) {
	c := newClient(t, Config{AccessKeys: []AccessKey{{ID: "id", Secret: "secret", Deny: []string{"ecs:DescribeInstances", "vpc:DeleteVpc"}}}})
	a := c.want("")(c.ecs("DescribeInstances")) // an empty list, not an error
	if item(a, "Instances", "Instance") != nil {
		t.Error("instances are seen")
	}
	c.want("Forbidden.RAM")(c.ecs("DescribeInstances", "DryRun", "true"))
	c.want("Forbidden.RAM")(c.vpc("DeleteVpc", "VpcId", "vpc-x"))
	free := newClient(t, Config{})
	free.want("DryRunOperation")(free.ecs("DescribeInstances", "DryRun", "true"))
}

func TestSecurityGroupRules(t *testing.T) {
	c := newClient(t, Config{})
	_, _, sg, inst, eip := c.ready()
	ok := c.want("")
	rule := func(n, port int, source string) []string {
		p := fmt.Sprintf("Permissions.%d.", n)
		return []string{p + "IpProtocol", "tcp", p + "PortRange", fmt.Sprintf("%d/%d", port, port), p + "SourceCidrIp", source, p + "Description", "d"}
	}
	group := []string{"SecurityGroupId", sg}
	ok(c.ecs("AuthorizeSecurityGroup", append(group, rule(1, 25, "0.0.0.0/0")...)...))
	ok(c.ecs("AuthorizeSecurityGroup", append(group, rule(1, 25, "0.0.0.0/0")...)...)) // again: nothing
	c.want("InvalidParam.DuplicatePermissions")(c.ecs("AuthorizeSecurityGroup", append(append(group, rule(1, 26, "0.0.0.0/0")...), rule(2, 26, "0.0.0.0/0")...)...))
	c.want("InvalidParam.PortRange")(c.ecs("AuthorizeSecurityGroup", "SecurityGroupId", sg, "IpProtocol", "tcp", "PortRange", "-1/-1", "SourceCidrIp", "0.0.0.0/0"))
	c.want("InvalidParam.PortRange")(c.ecs("AuthorizeSecurityGroup", "SecurityGroupId", sg, "IpProtocol", "ALL", "PortRange", "1/2", "SourceCidrIp", "0.0.0.0/0"))
	c.want("InvalidParameter.Conflict")(c.ecs("AuthorizeSecurityGroup", append(append(group, rule(1, 27, "0.0.0.0/0")...), "IpProtocol", "tcp", "PortRange", "1/2")...))
	ok(c.ecs("AuthorizeSecurityGroup", "SecurityGroupId", sg, "IpProtocol", "tcp", "PortRange", "443/443", "Ipv6SourceCidrIp", "2001:DB8::1/32"))
	a := ok(c.ecs("DescribeSecurityGroupAttribute", "SecurityGroupId", sg, "NicType", "intranet"))
	p := item(a, "Permissions", "Permission")
	if p["IpProtocol"] != "TCP" || p["Policy"] != "Accept" || p["Priority"] != "1" || p["SourceCidrIp"] != "0.0.0.0/0" {
		t.Errorf("answered as %v", p)
	}
	if a := ok(c.ecs("DescribeSecurityGroupAttribute", "SecurityGroupId", sg)); item(a, "Permissions", "Permission") != nil {
		t.Error("rules show without nic type intranet")
	}

	ok(c.vpc("AssociateEipAddress", "AllocationId", eip, "InstanceId", inst))
	ok(c.vpc("DescribeEipAddresses"))
	e := item(ok(c.vpc("DescribeEipAddresses")), "EipAddresses", "EipAddress")
	ip := netip.MustParseAddr(text(e, "IpAddress"))
	outside := netip.MustParseAddr("192.0.2.1")
	check := func(what string, protocol string, port int, want bool) {
		t.Helper()
		if got := c.sim.Allows(ip, protocol, port, outside); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	check("mail", "tcp", 25, true)
	check("other protocol", "udp", 25, false)
	check("other port", "tcp", 26, false)
	check("IPv6 rule for IPv4", "tcp", 443, false)
	drop := []string{"SecurityGroupId", sg, "Permissions.1.IpProtocol", "ALL", "Permissions.1.PortRange", "-1/-1", "Permissions.1.SourceCidrIp", "192.0.2.0/24", "Permissions.1.Policy", "drop"}
	ok(c.ecs("AuthorizeSecurityGroup", append(drop, "Permissions.1.Priority", "2")...))
	check("a drop of lesser priority", "tcp", 25, true)
	ok(c.ecs("AuthorizeSecurityGroup", append(drop, "Permissions.1.Priority", "1")...))
	check("a drop of the same priority", "tcp", 25, false)
	ok(c.ecs("RevokeSecurityGroup", append(drop, "Permissions.1.Priority", "1")...))
	ok(c.ecs("RevokeSecurityGroup", append(drop, "Permissions.1.Priority", "1")...)) // a miss by content is no error
	check("the drop revoked", "tcp", 25, true)
	c.want("InvalidSecurityGroupRule.RuleNotExist")(c.ecs("RevokeSecurityGroup", "SecurityGroupId", sg, "SecurityGroupRuleId.1", "sgr-x"))
	if c.sim.Allows(netip.MustParseAddr("198.18.9.9"), "tcp", 25, outside) {
		t.Error("an address that leads nowhere lets in")
	}
	for n := 2; ; n++ {
		_, code := c.ecs("AuthorizeSecurityGroup", append(group, rule(1, 1000+n, "0.0.0.0/0")...)...)
		if code == "AuthorizationLimitExceed" && n > 190 {
			break
		}
		if code != "" || n > 250 {
			t.Fatalf("rule %d: %q", n, code)
		}
	}
}

func TestPagesAndTags(t *testing.T) {
	c := newClient(t, Config{Settle: -1})
	for i := range 7 {
		c.want("")(c.vpc("CreateVpc", "VpcName", fmt.Sprint("n", i), "Tag.1.Key", "mailform:stack", "Tag.1.Value", fmt.Sprint(i%2)))
	}
	a := c.want("")(c.vpc("DescribeVpcs", "PageSize", "3", "PageNumber", "3", "Tag.1.Key", "mailform:stack"))
	if l := a["Vpcs"].(map[string]any)["Vpc"].([]any); len(l) != 1 || a["TotalCount"].(float64) != 7 {
		t.Errorf("page 3 of 7: %d of %v", len(l), a["TotalCount"])
	}
	a = c.want("")(c.vpc("DescribeVpcs", "Tag.1.Key", "mailform:stack", "Tag.1.Value", "1"))
	if a["TotalCount"].(float64) != 3 {
		t.Errorf("%v with the tag", a["TotalCount"])
	}
	c.want("InvalidParameter")(c.vpc("DescribeVpcs", "PageSize", "51"))
	c.want("Duplicate.TagKey")(c.vpc("CreateVpc", "Tag.1.Key", "a", "Tag.2.Key", "a"))
	c.want("InvalidTagKey.Malformed")(c.vpc("CreateVpc", "Tag.1.Key", "acs:a"))
	id := text(item(a, "Vpcs", "Vpc"), "VpcId")
	c.want("")(c.vpc("TagResources", "ResourceType", "VPC", "ResourceId.1", id, "Tag.1.Key", "x", "Tag.1.Value", "y"))
	a = c.want("")(c.vpc("DescribeVpcs", "Tag.1.Key", "x"))
	if text(item(a, "Vpcs", "Vpc"), "VpcId") != id {
		t.Error("the tag is not there")
	}
	a = c.want("")(c.ecs("DescribeSecurityGroups", "MaxResults", "1"))
	if a["NextToken"] != nil {
		t.Error("an empty list has a next page")
	}
}

func TestStock(t *testing.T) {
	c := newClient(t, Config{NoStock: func(zone, _ string) bool { return zone == "cn-hongkong-b" }, Announced: true})
	a := c.want("")(c.ecs("DescribeAvailableResource", "DestinationResource", "InstanceType", "InstanceType", "ecs.g7.large"))
	states := map[string]string{}
	for _, z := range a["AvailableZones"].(map[string]any)["AvailableZone"].([]any) {
		zone := z.(map[string]any)
		offer := item(zone["AvailableResources"].(map[string]any)["AvailableResource"].([]any)[0].(map[string]any), "SupportedResources", "SupportedResource")
		states[text(zone, "ZoneId")] = text(offer, "StatusCategory")
	}
	if states["cn-hongkong-b"] != "WithoutStock" || states["cn-hongkong-c"] != "WithStock" || len(states) != 2 {
		t.Errorf("%v", states)
	}
}

func TestFaults(t *testing.T) {
	fault := Fault{}
	c := newClient(t, Config{Fault: func(Call) Fault { return fault }})
	fault = Fault{Status: 400, Code: "Throttling.User", RetryAfter: 7}
	c.want("Throttling.User")(c.vpc("CreateVpc"))
	if !c.sim.Empty() {
		t.Error("a refused call had an effect")
	}
	fault.After = true
	c.want("Throttling.User")(c.vpc("CreateVpc"))
	if len(c.sim.Inventory()) != 1 {
		t.Error("a call with the fault after the effect had none")
	}
	fault = Fault{Drop: true, After: true}
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				t.Error("the connection was not dropped")
			}
		}()
		c.vpc("CreateVpc")
	}()
	fault = Fault{}
	c.want("")(c.vpc("CreateVpc")) // and nothing is left locked
	if calls := c.sim.Calls(); len(calls) != 4 || calls[0].Code != "Throttling.User" || calls[2].Status != 0 || calls[3].Status != 200 {
		t.Errorf("%+v", calls)
	}
}

// FuzzRequest signs any parameters and sends them: nothing may panic, and every
// answer is JSON with a request id.
func FuzzRequest(f *testing.F) {
	f.Add("2014-05-26", "RunInstances", "InstanceType=ecs.g7.large&UserData=%21")
	f.Add("2016-04-28", "DescribeVpcs", "PageNumber=0&Tag.1.Key=x")
	f.Add("2014-05-26", "AuthorizeSecurityGroup", "SecurityGroupId=sg&Permissions.1.IpProtocol=TCP&Permissions.1.PortRange=1/2/3")
	f.Add("2014-05-26", "ImportKeyPair", "KeyPairName=k1&PublicKeyBody=ssh-rsa+AAAA")
	f.Add("2014-05-26", "DescribeInstances", "InstanceIds=%5B1%5D&NextToken=AAAAAd-1")
	f.Add("2014-05-26", "CreateDisk", "ZoneId=cn-hongkong-b&DiskCategory=cloud_essd&Size=20&Tag.1.Key=k")
	f.Add("2014-05-26", "CreateAutoSnapshotPolicy", "timePoints=%5B%223%22%5D&repeatWeekdays=%5B%221%22%5D&retentionDays=0")
	f.Add("2014-05-26", "ApplyAutoSnapshotPolicy", "autoSnapshotPolicyId=x&diskIds=%5B%5D")
	f.Add("2014-05-26", "DescribePrice", "ResourceType=disk&DataDisk.1.Category=cloud_auto&DataDisk.1.Size=-1")
	f.Add("2014-05-26", "UntagResources", "ResourceType=disk&ResourceId.1=d&All=true")
	f.Fuzz(func(t *testing.T, version, action, query string) {
		values, err := url.ParseQuery(query)
		if err != nil || len(values) > 50 {
			return
		}
		c := newClient(t, Config{})
		var pairs []string
		for k, vs := range values {
			pairs = append(pairs, k, vs[0])
		}
		c.call(version, action, pairs...)
	})
}

// FuzzUnsigned sends anything at all.
func FuzzUnsigned(f *testing.F) {
	f.Add("GET", "Action=DescribeVpcs", "")
	f.Add("POST", "", "Action=DescribeVpcs&Action=x&Version=2016-04-28")
	f.Add("PUT", "%zz", "\x00")
	f.Fuzz(func(t *testing.T, method, query, body string) {
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		req.Method, req.URL.RawQuery = method, query
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		rec := httptest.NewRecorder()
		s := New(Config{AccessKeys: []AccessKey{{ID: "id", Secret: "secret"}}})
		s.ServeHTTP(rec, req)
		if rec.Code < 400 {
			t.Errorf("an unsigned request is answered with %d", rec.Code)
		}
	})
}
