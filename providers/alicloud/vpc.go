package alicloud

// The VPC operations in use (https://api.aliyun.com/document/Vpc/2016-04-28/overview).

// vpcTags are the tags of a VPC answer; ECS names the same fields differently.
type vpcTags struct {
	Tag []struct{ Key, Value string }
}

func (t vpcTags) tags() tags {
	m := make(tags, len(t.Tag))
	for _, e := range t.Tag {
		m[e.Key] = e.Value
	}
	return m
}

type createVpc struct {
	rpc
	ClientToken string      `position:"Body" name:"ClientToken"`
	CidrBlock   string      `position:"Body" name:"CidrBlock"`
	VpcName     string      `position:"Body" name:"VpcName"`
	Description string      `position:"Body" name:"Description"`
	Tag         *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type deleteVpc struct {
	rpc
	VpcId string `position:"Body" name:"VpcId"`
}

type describeVpcs struct {
	rpc
	VpcId      string      `position:"Body" name:"VpcId"`
	PageNumber string      `position:"Body" name:"PageNumber"`
	PageSize   string      `position:"Body" name:"PageSize"`
	Tag        *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type network struct {
	VpcId        string
	Status       string
	CidrBlock    string
	CreationTime string
	VSwitchIds   struct{ VSwitchId []string }
	Tags         vpcTags
}

type describeVpcsAnswer struct {
	answer
	TotalCount int
	Vpcs       *struct{ Vpc []network }
}

func (a *describeVpcsAnswer) listed() bool { return a.Vpcs != nil }

type createVSwitch struct {
	rpc
	ClientToken string      `position:"Body" name:"ClientToken"`
	ZoneId      string      `position:"Body" name:"ZoneId"`
	VpcId       string      `position:"Body" name:"VpcId"`
	CidrBlock   string      `position:"Body" name:"CidrBlock"`
	VSwitchName string      `position:"Body" name:"VSwitchName"`
	Description string      `position:"Body" name:"Description"`
	Tag         *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type deleteVSwitch struct {
	rpc
	VSwitchId string `position:"Body" name:"VSwitchId"`
}

type describeVSwitches struct {
	rpc
	VSwitchId  string      `position:"Body" name:"VSwitchId"`
	PageNumber string      `position:"Body" name:"PageNumber"`
	PageSize   string      `position:"Body" name:"PageSize"`
	Tag        *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type vSwitch struct {
	VSwitchId    string
	VpcId        string
	Status       string
	ZoneId       string
	CidrBlock    string
	CreationTime string
	Tags         vpcTags
}

type describeVSwitchesAnswer struct {
	answer
	TotalCount int
	VSwitches  *struct{ VSwitch []vSwitch }
}

func (a *describeVSwitchesAnswer) listed() bool { return a.VSwitches != nil }

type allocateEipAddress struct {
	rpc
	ClientToken        string      `position:"Body" name:"ClientToken"`
	Bandwidth          string      `position:"Body" name:"Bandwidth"` // Mbit/s
	InternetChargeType string      `position:"Body" name:"InternetChargeType"`
	InstanceChargeType string      `position:"Body" name:"InstanceChargeType"`
	Name               string      `position:"Body" name:"Name"`
	Description        string      `position:"Body" name:"Description"`
	Tag                *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

// eipAction is AssociateEipAddress, UnassociateEipAddress, ReleaseEipAddress or
// ModifyEipAddressAttribute.
type eipAction struct {
	rpc
	AllocationId string `position:"Body" name:"AllocationId"`
	InstanceId   string `position:"Body" name:"InstanceId"`
	InstanceType string `position:"Body" name:"InstanceType"`
	Bandwidth    string `position:"Body" name:"Bandwidth"`
	ClientToken  string `position:"Body" name:"ClientToken"`
}

type describeEipAddresses struct {
	rpc
	AllocationId string      `position:"Body" name:"AllocationId"`
	EipName      string      `position:"Body" name:"EipName"`
	PageNumber   string      `position:"Body" name:"PageNumber"`
	PageSize     string      `position:"Body" name:"PageSize"`
	Tag          *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type eip struct {
	AllocationId   string
	IpAddress      string
	Status         string // Associating, Unassociating, InUse, Available, Releasing
	InstanceId     string
	InstanceType   string
	Bandwidth      string // Mbit/s, as text
	AllocationTime string

	InternetChargeType            string
	ReservationInternetChargeType string // what it changes to at the next midnight (UTC+8); "" when it does not
	Tags                          vpcTags
}

type describeEipAddressesAnswer struct {
	answer
	TotalCount   int
	EipAddresses *struct{ EipAddress []eip }
}

func (a *describeEipAddressesAnswer) listed() bool { return a.EipAddresses != nil }
