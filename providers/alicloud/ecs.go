package alicloud

// The ECS operations in use, with the parameters and fields in use. Names are the
// vendor's (https://api.aliyun.com/document/Ecs/2014-05-26/overview). Numbers and
// booleans travel as text.

// tagParam is a Tag.N of a request. ECS and VPC take the same names.
type tagParam struct {
	Key   string `name:"Key"`
	Value string `name:"Value"`
}

// ecsTags are the tags of an ECS answer.
type ecsTags struct {
	Tag []struct{ TagKey, TagValue string }
}

func (t ecsTags) tags() tags {
	m := make(tags, len(t.Tag))
	for _, e := range t.Tag {
		m[e.TagKey] = e.TagValue
	}
	return m
}

type idAnswer struct {
	answer
	SecurityGroupId string
	VpcId           string
	VSwitchId       string
	AllocationId    string
	EipAddress      string
	KeyPairName     string
	DiskId          string

	AutoSnapshotPolicyId string
}

type createSecurityGroup struct {
	rpc
	ClientToken       string      `position:"Body" name:"ClientToken"`
	SecurityGroupName string      `position:"Body" name:"SecurityGroupName"`
	Description       string      `position:"Body" name:"Description"`
	VpcId             string      `position:"Body" name:"VpcId"`
	SecurityGroupType string      `position:"Body" name:"SecurityGroupType"`
	Tag               *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type deleteSecurityGroup struct {
	rpc
	SecurityGroupId string `position:"Body" name:"SecurityGroupId"`
}

type describeSecurityGroups struct {
	rpc
	SecurityGroupId string      `position:"Body" name:"SecurityGroupId"`
	MaxResults      string      `position:"Body" name:"MaxResults"`
	NextToken       string      `position:"Body" name:"NextToken"`
	Tag             *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type securityGroup struct {
	SecurityGroupId string
	VpcId           string
	CreationTime    string
	Tags            ecsTags
}

type describeSecurityGroupsAnswer struct {
	answer
	NextToken      string
	SecurityGroups *struct{ SecurityGroup []securityGroup }
}

func (a *describeSecurityGroupsAnswer) listed() bool { return a.SecurityGroups != nil }

type describeSecurityGroupAttribute struct {
	rpc
	SecurityGroupId string `position:"Body" name:"SecurityGroupId"`
	NicType         string `position:"Body" name:"NicType"`
	Direction       string `position:"Body" name:"Direction"`
	MaxResults      string `position:"Body" name:"MaxResults"`
	NextToken       string `position:"Body" name:"NextToken"`
}

// permission is a rule as the vendor answers it: protocol in capitals, policy
// capitalised, priority as text.
type permission struct {
	SecurityGroupRuleId string
	Direction           string
	IpProtocol          string
	PortRange           string
	SourcePortRange     string
	SourceCidrIp        string
	Ipv6SourceCidrIp    string
	SourceGroupId       string
	SourcePrefixListId  string
	DestCidrIp          string
	Ipv6DestCidrIp      string
	Policy              string
	Priority            string
	Description         string
}

type describeSecurityGroupAttributeAnswer struct {
	answer
	NextToken   string
	Permissions *struct{ Permission []permission }
}

func (a *describeSecurityGroupAttributeAnswer) listed() bool { return a.Permissions != nil }

type permissionParam struct {
	Policy             string `name:"Policy"`
	Priority           string `name:"Priority"`
	IpProtocol         string `name:"IpProtocol"`
	PortRange          string `name:"PortRange"`
	SourceCidrIp       string `name:"SourceCidrIp"`
	Ipv6SourceCidrIp   string `name:"Ipv6SourceCidrIp"`
	SourceGroupId      string `name:"SourceGroupId"`
	SourcePrefixListId string `name:"SourcePrefixListId"`
	NicType            string `name:"NicType"`
	Description        string `name:"Description"`
}

type authorizeSecurityGroup struct {
	rpc
	ClientToken     string             `position:"Body" name:"ClientToken"`
	SecurityGroupId string             `position:"Body" name:"SecurityGroupId"`
	Permissions     *[]permissionParam `position:"Body" name:"Permissions" type:"Repeated"`
}

type revokeSecurityGroup struct {
	rpc
	ClientToken         string    `position:"Body" name:"ClientToken"`
	SecurityGroupId     string    `position:"Body" name:"SecurityGroupId"`
	SecurityGroupRuleId *[]string `position:"Body" name:"SecurityGroupRuleId" type:"Repeated"`
}

type modifySecurityGroupRule struct {
	rpc
	ClientToken         string `position:"Body" name:"ClientToken"`
	SecurityGroupId     string `position:"Body" name:"SecurityGroupId"`
	SecurityGroupRuleId string `position:"Body" name:"SecurityGroupRuleId"`
	Policy              string `position:"Body" name:"Policy"`
	Priority            string `position:"Body" name:"Priority"`
	IpProtocol          string `position:"Body" name:"IpProtocol"`
	PortRange           string `position:"Body" name:"PortRange"`
	SourceCidrIp        string `position:"Body" name:"SourceCidrIp"`
	Ipv6SourceCidrIp    string `position:"Body" name:"Ipv6SourceCidrIp"`
	NicType             string `position:"Body" name:"NicType"`
	Description         string `position:"Body" name:"Description"`
}

type joinSecurityGroup struct {
	rpc
	SecurityGroupId string `position:"Body" name:"SecurityGroupId"`
	InstanceId      string `position:"Body" name:"InstanceId"`
}

type importKeyPair struct {
	rpc
	KeyPairName   string      `position:"Body" name:"KeyPairName"`
	PublicKeyBody string      `position:"Body" name:"PublicKeyBody"`
	Tag           *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type deleteKeyPairs struct {
	rpc
	KeyPairNames string `position:"Body" name:"KeyPairNames"` // JSON array
}

type describeKeyPairs struct {
	rpc
	KeyPairName      string `position:"Body" name:"KeyPairName"` // may end in *
	IncludePublicKey string `position:"Body" name:"IncludePublicKey"`
	PageNumber       string `position:"Body" name:"PageNumber"`
	PageSize         string `position:"Body" name:"PageSize"`
}

type keyPair struct {
	KeyPairName  string
	PublicKey    string
	CreationTime string
	Tags         ecsTags
}

type describeKeyPairsAnswer struct {
	answer
	TotalCount int
	KeyPairs   *struct{ KeyPair []keyPair }
}

func (a *describeKeyPairsAnswer) listed() bool { return a.KeyPairs != nil }

type runInstances struct {
	rpc
	ClientToken             string      `position:"Body" name:"ClientToken"`
	ImageId                 string      `position:"Body" name:"ImageId"`
	InstanceType            string      `position:"Body" name:"InstanceType"`
	InstanceName            string      `position:"Body" name:"InstanceName"`
	Description             string      `position:"Body" name:"Description"`
	HostName                string      `position:"Body" name:"HostName"`
	VSwitchId               string      `position:"Body" name:"VSwitchId"`
	SecurityGroupId         string      `position:"Body" name:"SecurityGroupId"`
	KeyPairName             string      `position:"Body" name:"KeyPairName"`
	UserData                string      `position:"Body" name:"UserData"` // base64
	SystemDiskCategory      string      `position:"Body" name:"SystemDisk.Category"`
	SystemDiskSize          string      `position:"Body" name:"SystemDisk.Size"` // GiB
	SystemDiskEncrypted     string      `position:"Body" name:"SystemDisk.Encrypted"`
	RamRoleName             string      `position:"Body" name:"RamRoleName"`
	DeletionProtection      string      `position:"Body" name:"DeletionProtection"`
	InstanceChargeType      string      `position:"Body" name:"InstanceChargeType"`
	InternetMaxBandwidthOut string      `position:"Body" name:"InternetMaxBandwidthOut"` // 0: no public address of its own
	Amount                  string      `position:"Body" name:"Amount"`
	Tag                     *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type runInstancesAnswer struct {
	answer
	InstanceIdSets struct{ InstanceIdSet []string }
}

type describeInstances struct {
	rpc
	InstanceIds string      `position:"Body" name:"InstanceIds"` // JSON array
	DryRun      string      `position:"Body" name:"DryRun"`
	MaxResults  string      `position:"Body" name:"MaxResults"`
	NextToken   string      `position:"Body" name:"NextToken"`
	Tag         *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

type instance struct {
	InstanceId   string
	Status       string
	InstanceType string
	ImageId      string
	ZoneId       string
	HostName     string
	KeyPairName  string
	CreationTime string // without seconds: "2023-07-26T23:50Z"

	DeletionProtection bool

	SecurityGroupIds struct{ SecurityGroupId []string }
	VpcAttributes    struct{ VpcId, VSwitchId string }
	EipAddress       struct{ AllocationId, IpAddress string }
	OperationLocks   struct {
		LockReason []struct{ LockReason string }
	}
	Tags ecsTags
}

type describeInstancesAnswer struct {
	answer
	NextToken string
	Instances *struct{ Instance []instance }
}

func (a *describeInstancesAnswer) listed() bool { return a.Instances != nil }

// instanceAction is StartInstance, StopInstance, DeleteInstance, ModifyInstanceSpec
// or ModifyInstanceAttribute.
type instanceAction struct {
	rpc
	InstanceId   string `position:"Body" name:"InstanceId"`
	Force        string `position:"Body" name:"Force"`        // DeleteInstance
	StoppedMode  string `position:"Body" name:"StoppedMode"`  // StopInstance
	InstanceType string `position:"Body" name:"InstanceType"` // ModifyInstanceSpec
	ClientToken  string `position:"Body" name:"ClientToken"`  // ModifyInstanceSpec

	DeletionProtection string `position:"Body" name:"DeletionProtection"` // ModifyInstanceAttribute
}

type tagResources struct {
	rpc
	ResourceType string      `position:"Body" name:"ResourceType"`
	ResourceId   *[]string   `position:"Body" name:"ResourceId" type:"Repeated"`
	Tag          *[]tagParam `position:"Body" name:"Tag" type:"Repeated"`
}

// untagResources is UntagResources of ECS and UnTagResources of VPC.
type untagResources struct {
	rpc
	ResourceType string    `position:"Body" name:"ResourceType"`
	ResourceId   *[]string `position:"Body" name:"ResourceId" type:"Repeated"`
	TagKey       *[]string `position:"Body" name:"TagKey" type:"Repeated"`
}

type describeAvailableResource struct {
	rpc
	DestinationResource string `position:"Body" name:"DestinationResource"`
	InstanceChargeType  string `position:"Body" name:"InstanceChargeType"`
	InstanceType        string `position:"Body" name:"InstanceType"`
	SystemDiskCategory  string `position:"Body" name:"SystemDiskCategory"`
	IoOptimized         string `position:"Body" name:"IoOptimized"`
}

type describeAvailableResourceAnswer struct {
	answer
	AvailableZones *struct {
		AvailableZone []struct {
			ZoneId             string
			Status             string
			StatusCategory     string
			AvailableResources struct {
				AvailableResource []struct {
					Type               string
					SupportedResources struct {
						SupportedResource []struct {
							Value, Status, StatusCategory string
						}
					}
				}
			}
		}
	}
}

func (a *describeAvailableResourceAnswer) listed() bool { return a.AvailableZones != nil }

type image struct {
	ImageId            string
	CreationTime       string
	Status             string
	IsSupportCloudinit bool
}

type describeImages struct {
	rpc
	ImageOwnerAlias string `position:"Body" name:"ImageOwnerAlias"`
	OSType          string `position:"Body" name:"OSType"`
	InstanceType    string `position:"Body" name:"InstanceType"`
	PageNumber      string `position:"Body" name:"PageNumber"`
	PageSize        string `position:"Body" name:"PageSize"`
}

type describeImagesAnswer struct {
	answer
	TotalCount int
	Images     *struct{ Image []image }
}

func (a *describeImagesAnswer) listed() bool { return a.Images != nil }

type describeImageFromFamily struct {
	rpc
	ImageFamily string `position:"Body" name:"ImageFamily"`
}

type describeImageFromFamilyAnswer struct {
	answer
	Image image
}
