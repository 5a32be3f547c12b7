package alicloud

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// The marks.
const (
	tagStack   = "mailform:stack"
	tagAddress = "mailform:address"
	tagHostKey = "mailform:host-key" // an instance's SSH host key, "SHA256:…"

	// What an instance was created as, also set in the call that creates it.
	tagSubnet    = "mailform:subnet"     // the address of the vSwitch it was put in; see vouch
	tagInsteadOf = "mailform:instead-of" // the type it stands in for, which was sold out
)

type tags map[string]string

// reader sends the calls of one observation and counts them.
type reader struct {
	via   *api
	calls atomic.Int32
}

func (r *reader) call(ctx context.Context, req request, resp response) error {
	r.calls.Add(1)
	return r.via.call(ctx, req, resp)
}

// stackTag is the filter for everything of a stack.
func stackTag(stack string) *[]tagParam { return &[]tagParam{{tagStack, stack}} }

// addressTags is the filter for one address of a stack.
func addressTags(stack, address string) *[]tagParam {
	return &[]tagParam{{tagStack, stack}, {tagAddress, address}}
}

// maxPages stops a listing whose pages never end.
const maxPages = 1000

// numbered collects the pages of a listing that counts its pages. page returns
// the length of a page and the total.
func numbered(size int, page func(number, size string) (int, int, error)) error {
	seen := 0
	for n := 1; n <= maxPages; n++ {
		got, total, err := page(strconv.Itoa(n), strconv.Itoa(size))
		if err != nil {
			return err
		}
		if seen += got; seen >= total {
			return nil
		}
		if got == 0 {
			break // things went away between two pages, or a page was lost
		}
	}
	return &failure{action: "list", kind: partial, err: errors.New("the pages of a listing do not add up")}
}

func (r *reader) vpcs(ctx context.Context, filter *[]tagParam, id string) (all []network, err error) {
	err = numbered(50, func(number, size string) (int, int, error) {
		req := &describeVpcs{rpc: newRPC(vpcDescribeVpcs), VpcId: id, Tag: filter, PageNumber: number, PageSize: size}
		resp := &describeVpcsAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return 0, 0, err
		}
		all = append(all, resp.Vpcs.Vpc...)
		return len(resp.Vpcs.Vpc), resp.TotalCount, nil
	})
	return all, err
}

func (r *reader) vSwitches(ctx context.Context, filter *[]tagParam, id string) (all []vSwitch, err error) {
	err = numbered(50, func(number, size string) (int, int, error) {
		req := &describeVSwitches{rpc: newRPC(vpcDescribeVSwitches), VSwitchId: id, Tag: filter, PageNumber: number, PageSize: size}
		resp := &describeVSwitchesAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return 0, 0, err
		}
		all = append(all, resp.VSwitches.VSwitch...)
		return len(resp.VSwitches.VSwitch), resp.TotalCount, nil
	})
	return all, err
}

// eips lists addresses by tag, by id, or by name. An address that was just
// allocated can be found by its name before its tags are indexed.
func (r *reader) eips(ctx context.Context, filter *[]tagParam, id, name string) (all []eip, err error) {
	err = numbered(100, func(number, size string) (int, int, error) {
		req := &describeEipAddresses{rpc: newRPC(vpcDescribeEipAddresses), AllocationId: id, EipName: name,
			Tag: filter, PageNumber: number, PageSize: size}
		resp := &describeEipAddressesAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return 0, 0, err
		}
		all = append(all, resp.EipAddresses.EipAddress...)
		return len(resp.EipAddresses.EipAddress), resp.TotalCount, nil
	})
	return all, err
}

// keyPairs lists by name, which may end in *: a pair's name is its identity, so
// one that stands in our way is seen too, with or without our tags.
func (r *reader) keyPairs(ctx context.Context, name string) (all []keyPair, err error) {
	err = numbered(50, func(number, size string) (int, int, error) {
		req := &describeKeyPairs{rpc: newRPC(ecsDescribeKeyPairs), KeyPairName: name, IncludePublicKey: "true",
			PageNumber: number, PageSize: size}
		resp := &describeKeyPairsAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return 0, 0, err
		}
		all = append(all, resp.KeyPairs.KeyPair...)
		return len(resp.KeyPairs.KeyPair), resp.TotalCount, nil
	})
	return all, err
}

// followed collects the pages of a listing that hands out tokens.
func followed(page func(token string) (string, error)) error {
	token := ""
	for range maxPages {
		next, err := page(token)
		if err != nil || next == "" {
			return err
		}
		if next == token {
			break
		}
		token = next
	}
	return &failure{action: "list", kind: partial, err: errors.New("the pages of a listing do not end")}
}

func (r *reader) securityGroups(ctx context.Context, filter *[]tagParam, id string) (all []securityGroup, err error) {
	err = followed(func(token string) (string, error) {
		req := &describeSecurityGroups{rpc: newRPC(ecsDescribeSecurityGroups), SecurityGroupId: id, Tag: filter,
			MaxResults: "100", NextToken: token}
		resp := &describeSecurityGroupsAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return "", err
		}
		all = append(all, resp.SecurityGroups.SecurityGroup...)
		return resp.NextToken, nil
	})
	return all, err
}

// groupsAndRules lists security groups, and the rules of each. A group that is gone by
// the time that its rules are asked for counts as absent when it is not listed any more.
func (r *reader) groupsAndRules(ctx context.Context, filter *[]tagParam) (groups []securityGroup, rules [][]permission, err error) {
	for again := false; ; again = true {
		if groups, err = r.securityGroups(ctx, filter, ""); err != nil {
			return nil, nil, err
		}
		rules = make([][]permission, len(groups))
		each, ctx := errgroup.WithContext(ctx)
		for i, sg := range groups {
			each.Go(func() (err error) { rules[i], err = r.permissions(ctx, sg.SecurityGroupId); return })
		}
		if err = each.Wait(); again || !gone(err) {
			return groups, rules, err
		}
	}
}

// permissions lists all rules of a group. In a VPC only nic type intranet has any.
func (r *reader) permissions(ctx context.Context, group string) (all []permission, err error) {
	err = followed(func(token string) (string, error) {
		req := &describeSecurityGroupAttribute{rpc: newRPC(ecsDescribeSecurityGroupAttribute), SecurityGroupId: group,
			NicType: "intranet", Direction: "all", MaxResults: "1000", NextToken: token}
		resp := &describeSecurityGroupAttributeAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return "", err
		}
		all = append(all, resp.Permissions.Permission...)
		return resp.NextToken, nil
	})
	return all, err
}

// instances lists by tag or by id. The vendor answers an empty list also to those
// who may not see instances, which would read as "deleted": when nothing is
// found, one dry run of the same call tells the two apart, because only it is
// checked against the caller's permissions.
func (r *reader) instances(ctx context.Context, filter *[]tagParam, id string) (all []instance, err error) {
	ids := ""
	if id != "" {
		ids = jsonList(id)
	}
	err = followed(func(token string) (string, error) {
		req := &describeInstances{rpc: newRPC(ecsDescribeInstances), InstanceIds: ids, Tag: filter,
			MaxResults: "100", NextToken: token}
		resp := &describeInstancesAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return "", err
		}
		all = append(all, resp.Instances.Instance...)
		return resp.NextToken, nil
	})
	if err != nil || len(all) > 0 {
		return all, err
	}
	req := &describeInstances{rpc: newRPC(ecsDescribeInstances), InstanceIds: ids, Tag: filter, MaxResults: "100", DryRun: "true"}
	err = r.call(ctx, req, &describeInstancesAnswer{answer: newAnswer()})
	if isCode(err, "DryRunOperation") {
		err = nil // "the request would have succeeded", told as an error
	}
	return nil, err
}
