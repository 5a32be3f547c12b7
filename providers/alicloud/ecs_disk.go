package alicloud

import (
	"context"
	"encoding/json"
)

// The ECS operations in use on disks and automatic snapshot policies.

type createDisk struct {
	rpc
	ClientToken  string      `position:"Body" name:"ClientToken"`
	ZoneId       string      `position:"Body" name:"ZoneId"`
	DiskName     string      `position:"Body" name:"DiskName"`
	Description  string      `position:"Body" name:"Description"`
	DiskCategory string      `position:"Body" name:"DiskCategory"`
	Size         string      `position:"Body" name:"Size"` // GiB
	Encrypted    string      `position:"Body" name:"Encrypted"`
	Tag          *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

// diskAction is AttachDisk, DetachDisk, DeleteDisk, ResizeDisk, ModifyDiskSpec or
// ModifyDiskAttribute.
type diskAction struct {
	rpc
	DiskId             string `position:"Body" name:"DiskId"`
	InstanceId         string `position:"Body" name:"InstanceId"`         // AttachDisk, DetachDisk
	DeleteWithInstance string `position:"Body" name:"DeleteWithInstance"` // AttachDisk, ModifyDiskAttribute
	NewSize            string `position:"Body" name:"NewSize"`            // ResizeDisk, GiB
	Type               string `position:"Body" name:"Type"`               // ResizeDisk: online or offline
	DiskCategory       string `position:"Body" name:"DiskCategory"`       // ModifyDiskSpec
	ClientToken        string `position:"Body" name:"ClientToken"`        // ResizeDisk
}

type describeDisks struct {
	rpc
	DiskIds    string      `position:"Body" name:"DiskIds"` // JSON array
	InstanceId string      `position:"Body" name:"InstanceId"`
	DiskType   string      `position:"Body" name:"DiskType"` // system or data
	MaxResults string      `position:"Body" name:"MaxResults"`
	NextToken  string      `position:"Body" name:"NextToken"`
	Tag        *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type disk struct {
	DiskId               string
	SerialNumber         string // what the instance sees as the device's serial number
	Type                 string // system or data
	Category             string
	Size                 int // GiB
	Encrypted            bool
	DeleteWithInstance   bool
	Status               string // In_use, Available, Attaching, Detaching, Creating, ReIniting
	InstanceId           string
	ZoneId               string
	AutoSnapshotPolicyId string
	CreationTime         string
	Tags                 ecsTags
}

type describeDisksAnswer struct {
	answer
	NextToken string
	Disks     *struct{ Disk []disk }
}

func (a *describeDisksAnswer) listed() bool { return a.Disks != nil }

// disks lists by tag, by id, or the system disk of an instance.
func (r *reader) disks(ctx context.Context, filter *[]tagParam, id, systemOf string) (all []disk, err error) {
	err = followed(func(token string) (string, error) {
		req := &describeDisks{rpc: newRPC(ecsDescribeDisks), Tag: filter, MaxResults: "500", NextToken: token}
		if id != "" {
			req.DiskIds = jsonList(id)
		}
		if systemOf != "" {
			req.InstanceId, req.DiskType = systemOf, "system"
		}
		resp := &describeDisksAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return "", err
		}
		all = append(all, resp.Disks.Disk...)
		return resp.NextToken, nil
	})
	return all, err
}

// createAutoSnapshotPolicy has no ClientToken.
type createAutoSnapshotPolicy struct {
	rpc
	Name           string      `position:"Body" name:"autoSnapshotPolicyName"`
	TimePoints     string      `position:"Body" name:"timePoints"`     // JSON array of hours as text, UTC+8
	RepeatWeekdays string      `position:"Body" name:"repeatWeekdays"` // JSON array of days as text, 1 is Monday
	RetentionDays  string      `position:"Body" name:"retentionDays"`
	Tag            *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

// snapshotPolicyAction is ModifyAutoSnapshotPolicyEx, ApplyAutoSnapshotPolicy,
// CancelAutoSnapshotPolicy or DeleteAutoSnapshotPolicy.
type snapshotPolicyAction struct {
	rpc
	PolicyId       string `position:"Body" name:"autoSnapshotPolicyId"`
	DiskIds        string `position:"Body" name:"diskIds"` // JSON array
	TimePoints     string `position:"Body" name:"timePoints"`
	RepeatWeekdays string `position:"Body" name:"repeatWeekdays"`
	RetentionDays  string `position:"Body" name:"retentionDays"`
}

type describeAutoSnapshotPolicyEx struct {
	rpc
	PolicyId   string      `position:"Body" name:"AutoSnapshotPolicyId"`
	Name       string      `position:"Body" name:"AutoSnapshotPolicyName"`
	PageNumber string      `position:"Body" name:"PageNumber"`
	PageSize   string      `position:"Body" name:"PageSize"`
	Tag        *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type snapshotPolicy struct {
	AutoSnapshotPolicyId   string
	AutoSnapshotPolicyName string
	TimePoints             string // JSON array
	RepeatWeekdays         string // JSON array
	RetentionDays          int    // -1: for ever
	CreationTime           string
	Tags                   ecsTags
}

type describeAutoSnapshotPolicyExAnswer struct {
	answer
	TotalCount           int
	AutoSnapshotPolicies *struct{ AutoSnapshotPolicy []snapshotPolicy }
}

func (a *describeAutoSnapshotPolicyExAnswer) listed() bool { return a.AutoSnapshotPolicies != nil }

// snapshotPolicies lists by tag, by id or by name.
func (r *reader) snapshotPolicies(ctx context.Context, filter *[]tagParam, id, name string) (all []snapshotPolicy, err error) {
	err = numbered(100, func(number, size string) (int, int, error) {
		req := &describeAutoSnapshotPolicyEx{rpc: newRPC(ecsDescribeAutoSnapshotPolicyEx), PolicyId: id, Name: name, Tag: filter,
			PageNumber: number, PageSize: size}
		resp := &describeAutoSnapshotPolicyExAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return 0, 0, err
		}
		all = append(all, resp.AutoSnapshotPolicies.AutoSnapshotPolicy...)
		return len(resp.AutoSnapshotPolicies.AutoSnapshotPolicy), resp.TotalCount, nil
	})
	return all, err
}

// everyDay is a week as the vendor writes it.
const everyDay = `["1","2","3","4","5","6","7"]`

// texts reads a JSON array of texts; nil for anything else.
func texts(s string) []string {
	var l []string
	if json.Unmarshal([]byte(s), &l) != nil {
		return nil
	}
	return l
}
