package alicloudsim

import (
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"
)

// maxRules and maxPermissions are the vendor's limits: of rules in a group and in one call.
const (
	maxRules       = 200
	maxPermissions = 100
)

type groupState struct {
	id, vpc, name, description, created string
	tags                                map[string]string
	rules                               []*ruleState
}

// ruleState is an inbound rule.
type ruleState struct {
	id, protocol, policy string // protocol in capitals
	from, to             int    // -1 where the protocol has no ports
	source               netip.Prefix
	sourceGroup          string
	priority             int
	description, created string
}

// key is what makes two rules the same.
func (u *ruleState) key() string {
	return fmt.Sprint(u.protocol, u.policy, u.from, u.to, u.source, u.sourceGroup, u.priority)
}

func itoa(n int) string { return strconv.Itoa(n) }

func (r *request) createGroup() (obj, error) {
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	name := r.get("SecurityGroupName")
	if badName(name, 128) || len(name) == 1 {
		return nil, refuse(400, "InvalidSecurityGroupName.Malformed", "Specified security group name is not valid.")
	}
	v, ok := r.vpcs[r.get("VpcId")]
	if !ok {
		return nil, refuse(404, "InvalidVpcId.NotFound", "Specified VPC does not exist.")
	}
	if v.look(r.Sim, nil) != "Available" {
		return nil, refuse(403, "IncorrectVpcStatus", "Current VPC status does not support this operation.")
	}
	if err := r.quota("security-group", len(r.groups), "QuotaExceed.SecurityGroup"); err != nil {
		return nil, err
	}
	g := &groupState{id: r.id("sg"), vpc: v.id, name: name, description: r.get("Description"), created: r.stamp(withSeconds), tags: tags}
	r.groups[g.id] = g
	r.indexed(g.id)
	return obj{"SecurityGroupId": g.id}, nil
}

func (r *request) describeGroups() (obj, error) {
	filter, err := r.tags()
	if err != nil {
		return nil, err
	}
	all := []*groupState{}
	for _, id := range sorted(r.groups) {
		g := r.groups[id]
		if (r.get("SecurityGroupId") == "" || r.get("SecurityGroupId") == id) && (r.get("VpcId") == "" || r.get("VpcId") == g.vpc) &&
			(r.get("SecurityGroupName") == "" || r.get("SecurityGroupName") == g.name) && r.matches(g.id, g.tags, filter) {
			all = append(all, g)
		}
	}
	var page []*groupState
	var body obj
	if r.get("MaxResults") != "" || r.get("NextToken") != "" {
		page, body, err = followed(r, all, 1, 100)
	} else {
		page, body, err = numbered(r, all, 100)
	}
	if err != nil {
		return nil, err
	}
	list := []obj{}
	for _, g := range page {
		list = append(list, obj{
			"SecurityGroupId": g.id, "SecurityGroupName": g.name, "Description": g.description, "VpcId": g.vpc,
			"SecurityGroupType": "normal", "CreationTime": g.created, "ServiceManaged": false, "Tags": ecsTags(g.tags),
		})
	}
	body["RegionId"] = r.cfg.Region
	body["SecurityGroups"] = obj{"SecurityGroup": list}
	return body, nil
}

func (r *request) group() (*groupState, error) {
	g, ok := r.groups[r.get("SecurityGroupId")]
	if !ok {
		return nil, refuse(404, "InvalidSecurityGroupId.NotFound", "The specified SecurityGroupId does not exist.")
	}
	return g, nil
}

func (r *request) describeGroup() (obj, error) {
	g, err := r.group()
	if err != nil {
		return nil, err
	}
	list := []obj{}
	// Groups in a VPC have rules of nic type intranet only; the default is internet.
	if r.get("NicType") == "intranet" && r.get("Direction") != "egress" {
		for _, u := range g.rules {
			list = append(list, u.body())
		}
	}
	page, body, err := followed(r, list, 10, 1000)
	if err != nil {
		return nil, err
	}
	for k, v := range (obj{
		"SecurityGroupId": g.id, "SecurityGroupName": g.name, "Description": g.description, "VpcId": g.vpc, "RegionId": r.cfg.Region,
		"InnerAccessPolicy": "Accept", "Permissions": obj{"Permission": page},
	}) {
		body[k] = v
	}
	return body, nil
}

func (u *ruleState) body() obj {
	b := obj{
		"SecurityGroupRuleId": u.id, "Direction": "ingress", "IpProtocol": u.protocol, "PortRange": itoa(u.from) + "/" + itoa(u.to),
		"Policy": strings.ToUpper(u.policy[:1]) + u.policy[1:], "Priority": itoa(u.priority), "NicType": "intranet",
		"Description": u.description, "CreateTime": u.created, "SourceGroupId": u.sourceGroup, "SourceCidrIp": "", "Ipv6SourceCidrIp": "",
		"DestCidrIp": "", "Ipv6DestCidrIp": "", "SourcePortRange": "",
	}
	switch {
	case !u.source.IsValid():
	case u.source.Addr().Is6():
		b["Ipv6SourceCidrIp"] = u.source.String()
	default:
		b["SourceCidrIp"] = u.source.String()
	}
	return b
}

// permissions reads Permissions.N, or the flat parameters of a single rule.
func (r *request) permissions() ([]*ruleState, error) {
	flat := r.get("IpProtocol") != "" || r.get("PortRange") != ""
	var rules []*ruleState
	for n := 1; ; n++ {
		p := "Permissions." + itoa(n) + "."
		if r.get(p+"IpProtocol") == "" && r.get(p+"PortRange") == "" {
			break
		}
		if n > maxPermissions {
			return nil, refuse(400, "InvalidParam.Permissions", "The maximum number of permissions is exceeded.")
		}
		u, err := r.permission(p)
		if err != nil {
			return nil, err
		}
		rules = append(rules, u)
	}
	if flat {
		if len(rules) > 0 {
			return nil, refuse(400, "InvalidParameter.Conflict", "Permissions and the parameters of a single rule exclude each other.")
		}
		u, err := r.permission("")
		if err != nil {
			return nil, err
		}
		rules = append(rules, u)
	}
	seen := map[string]bool{}
	for _, u := range rules {
		if seen[u.key()] {
			return nil, refuse(400, "InvalidParam.DuplicatePermissions", "There are duplicate permissions in the specified parameter.")
		}
		seen[u.key()] = true
	}
	return rules, nil
}

// permission reads and checks one rule.
func (r *request) permission(p string) (*ruleState, error) {
	u := &ruleState{protocol: strings.ToUpper(r.get(p + "IpProtocol")), policy: strings.ToLower(r.get(p + "Policy")), priority: 1,
		description: r.get(p + "Description"), sourceGroup: r.get(p + "SourceGroupId")}
	if u.policy == "" {
		u.policy = "accept"
	}
	if u.policy != "accept" && u.policy != "drop" {
		return nil, refuse(400, "InvalidPolicy.Malformed", "The specified parameter \"Policy\" is not valid.")
	}
	if text := r.get(p + "Priority"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 100 {
			return nil, refuse(400, "InvalidPriority.ValueNotSupported", "The specified parameter \"Priority\" is not valid.")
		}
		u.priority = n
	}
	if len(u.description) > 512 {
		return nil, refuse(400, "InvalidSecurityGroupDiscription.Malformed", "The specified description is wrongly formed.")
	}
	from, to, ok := strings.Cut(r.get(p+"PortRange"), "/")
	var err1, err2 error
	u.from, err1 = strconv.Atoi(from)
	u.to, err2 = strconv.Atoi(to)
	if !ok || err1 != nil || err2 != nil {
		return nil, refuse(400, "InvalidPortRange.Malformed", "The specified parameter \"PortRange\" is not valid.")
	}
	switch u.protocol {
	case "TCP", "UDP":
		if u.from < 1 || u.to < u.from || u.to > 65535 {
			return nil, refuse(400, "InvalidParam.PortRange", "The specified parameter \"PortRange\" is not valid.")
		}
	case "ICMP", "ICMPV6", "GRE", "ALL":
		if u.from != -1 || u.to != -1 {
			return nil, refuse(400, "InvalidParam.PortRange", "The specified parameter \"PortRange\" is not valid.")
		}
	default:
		return nil, refuse(400, "InvalidIpProtocol.ValueNotSupported", "The specified parameter \"IpProtocol\" is not supported.")
	}
	v4, v6 := r.get(p+"SourceCidrIp"), r.get(p+"Ipv6SourceCidrIp")
	if v4 != "" && v6 != "" {
		return nil, refuse(400, "InvalidParameter.Ipv6CidrIp", "IPv4 and IPv6 sources exclude each other.")
	}
	if v4+v6+u.sourceGroup == "" {
		return nil, refuse(400, "MissingParameter.Source", "One of the parameters SourceCidrIp, Ipv6SourceCidrIp, SourceGroupId or SourcePrefixListId must be specified.")
	}
	for _, text := range []string{v4, v6} {
		if text == "" {
			continue
		}
		source, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err == nil {
				source = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil || source.Addr().Is6() != (text == v6) {
			return nil, refuse(400, "InvalidSourceCidrIp.Malformed", "The specified source CIDR block is not valid.")
		}
		u.source = source.Masked()
	}
	if u.sourceGroup != "" && r.groups[u.sourceGroup] == nil {
		return nil, refuse(404, "InvalidSourceGroupId.NotFound", "The SourceGroupId provided does not exist.")
	}
	if nic := r.get(p + "NicType"); nic != "" && nic != "intranet" {
		return nil, refuse(400, "InvalidNicType.Mismatch", "Specified nic type conflicts with the authorization record.")
	}
	return u, nil
}

// authorize adds rules. One that is there already stays as it is, and that is a success.
func (r *request) authorize() (obj, error) {
	g, err := r.group()
	if err != nil {
		return nil, err
	}
	rules, err := r.permissions()
	if err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		return nil, refuse(400, "MissingParameter", "No rule is given.")
	}
	var fresh []*ruleState
	for _, u := range rules {
		if g.find(u) == nil {
			fresh = append(fresh, u)
		}
	}
	if len(g.rules)+len(fresh) > maxRules {
		return nil, refuse(403, "AuthorizationLimitExceed", "The limit of authorization records in the security group reaches.")
	}
	for _, u := range fresh {
		u.id, u.created = r.id("sgr"), r.stamp(withSeconds)
		g.rules = append(g.rules, u)
	}
	return obj{}, nil
}

func (g *groupState) find(u *ruleState) *ruleState {
	for _, have := range g.rules {
		if have.key() == u.key() {
			return have
		}
	}
	return nil
}

// revoke removes rules: by id, where an unknown one is an error, or by what they
// say, where it is none.
func (r *request) revoke() (obj, error) {
	g, err := r.group()
	if err != nil {
		return nil, err
	}
	drop := map[string]bool{}
	for n := 1; r.get("SecurityGroupRuleId."+itoa(n)) != ""; n++ {
		id := r.get("SecurityGroupRuleId." + itoa(n))
		if drop[id] {
			return nil, refuse(400, "InvalidParam.SecurityGroupRuleIdRepeated", "The specified parameter SecurityGroupRuleId is repeated.")
		}
		known := false
		for _, u := range g.rules {
			known = known || u.id == id
		}
		if !known || n > 100 {
			return nil, refuse(400, "InvalidSecurityGroupRule.RuleNotExist", "The specified rule does not exist.")
		}
		drop[id] = true
	}
	if len(drop) == 0 {
		rules, err := r.permissions()
		if err != nil {
			return nil, err
		}
		for _, u := range rules {
			if have := g.find(u); have != nil {
				drop[have.id] = true
			}
		}
	}
	kept := g.rules[:0:0]
	for _, u := range g.rules {
		if !drop[u.id] {
			kept = append(kept, u)
		}
	}
	g.rules = kept
	return obj{}, nil
}

// modifyRule changes a rule; what is left out falls back to its default.
func (r *request) modifyRule() (obj, error) {
	g, err := r.group()
	if err != nil {
		return nil, err
	}
	for i, have := range g.rules {
		if have.id != r.get("SecurityGroupRuleId") {
			continue
		}
		u, err := r.permission("")
		if err != nil {
			return nil, err
		}
		if other := g.find(u); other != nil && other != have {
			return nil, refuse(400, "InvalidParam.InvalidModifyRuleRequest", "The rule equals another one.")
		}
		u.id, u.created = have.id, have.created
		g.rules[i] = u
		return obj{}, nil
	}
	return nil, refuse(404, "InvalidSecurityGroupRuleId.NotFound", "The specified SecurityGroupRuleId is not exists.")
}

func (r *request) deleteGroup() (obj, error) {
	g, ok := r.groups[r.get("SecurityGroupId")]
	if !ok {
		return nil, refuse(404, "InvalidSecurityGroup.NotFound", "The specified security group does not exist.")
	}
	for _, id := range sorted(r.instances) {
		i := r.instances[id]
		if i.member(g.id) && r.lookInstance(i) != "Deleted" {
			return nil, refuse(403, "DependencyViolation", "There is still instance(s) in the specified security group.")
		}
	}
	for _, other := range r.groups {
		for _, u := range other.rules {
			if other != g && u.sourceGroup == g.id {
				return nil, refuse(403, "DependencyViolation", "The specified security group has been authorized in another one.")
			}
		}
	}
	delete(r.groups, g.id)
	return obj{}, nil
}

func (r *request) joinGroup() (obj, error) {
	g, err := r.group()
	if err != nil {
		return nil, err
	}
	i, err := r.instance()
	if err != nil {
		return nil, err
	}
	if state := r.lookInstance(i); state != "Running" && state != "Stopped" {
		return nil, refuse(403, "IncorrectInstanceStatus", "The current status of the resource does not support this operation.")
	}
	if i.member(g.id) {
		return nil, refuse(403, "InvalidInstanceId.AlreadyExists", "The specified instance already exists in the specified security group.")
	}
	if v := r.vswitches[i.vswitch]; v != nil && v.vpc != g.vpc {
		return nil, refuse(403, "InvalidOperation.VpcMismatch", "The specified security group and the specified instance are not in the same VPC.")
	}
	i.groups = append(i.groups, g.id)
	return obj{}, nil
}

// Allows reports whether the security groups of the running instance behind a
// public address let in a packet from source. Of the matching rules the one with the
// smallest priority number decides, and between equals a drop; without a match
// nothing comes in.
func (s *Sim) Allows(ip netip.Addr, protocol string, port int, source netip.Addr) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.eips {
		if e.ip != ip || e.state != "InUse" {
			continue
		}
		i := s.instances[e.instance]
		if i == nil || i.state != "Running" {
			return false
		}
		var rules []*ruleState
		for _, id := range i.groups {
			if g := s.groups[id]; g != nil {
				rules = append(rules, g.rules...)
			}
		}
		return allows(rules, protocol, port, source)
	}
	return false
}

func allows(rules []*ruleState, protocol string, port int, source netip.Addr) bool {
	protocol, source = strings.ToUpper(protocol), source.Unmap()
	var match []*ruleState
	for _, u := range rules {
		ports := u.from == -1 || u.from <= port && port <= u.to
		if (u.protocol == "ALL" || u.protocol == protocol) && ports && u.source.IsValid() && u.source.Contains(source) {
			match = append(match, u)
		}
	}
	sort.SliceStable(match, func(i, j int) bool {
		if match[i].priority != match[j].priority {
			return match[i].priority < match[j].priority
		}
		return match[i].policy == "drop" && match[j].policy != "drop"
	})
	return len(match) > 0 && match[0].policy == "accept"
}
