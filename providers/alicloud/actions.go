package alicloud

import (
	"sort"
	"strings"
)

// action is an operation of the vendor's that this package can send. A request is
// only ever made from one of them (see newRPC), so the permissions that mailform
// needs are the table below and nothing else.
type action uint8

const (
	ecsAttachDisk action = iota
	ecsApplyAutoSnapshotPolicy
	ecsAuthorizeSecurityGroup
	ecsCancelAutoSnapshotPolicy
	ecsCreateAutoSnapshotPolicy
	ecsCreateDisk
	ecsCreateSecurityGroup
	ecsDeleteAutoSnapshotPolicy
	ecsDeleteDisk
	ecsDeleteInstance
	ecsDeleteKeyPairs
	ecsDeleteSecurityGroup
	ecsDescribeAutoSnapshotPolicyEx
	ecsDescribeAvailableResource
	ecsDescribeDisks
	ecsDescribeImageFromFamily
	ecsDescribeImages
	ecsDescribeInstances
	ecsDescribeKeyPairs
	ecsDescribePrice
	ecsDescribeSecurityGroupAttribute
	ecsDescribeSecurityGroups
	ecsDetachDisk
	ecsImportKeyPair
	ecsJoinSecurityGroup
	ecsModifyAutoSnapshotPolicyEx
	ecsModifyDiskAttribute
	ecsModifyDiskSpec
	ecsModifyInstanceAttribute
	ecsModifyInstanceSpec
	ecsModifySecurityGroupRule
	ecsResizeDisk
	ecsRevokeSecurityGroup
	ecsRunInstances
	ecsStartInstance
	ecsStopInstance
	ecsTagResources
	ecsUntagResources
	ossDeleteBucket
	ossDeleteBucketTagging
	ossGetBucketInfo
	ossGetBucketLifecycle
	ossGetBucketTagging
	ossListBuckets
	ossListObjects
	ossPutBucket
	ossPutBucketAcl
	ossPutBucketEncryption
	ossPutBucketLifecycle
	ossPutBucketPublicAccessBlock
	ossPutBucketTagging
	ossPutBucketVersioning
	vpcAllocateEipAddress
	vpcAssociateEipAddress
	vpcCreateVSwitch
	vpcCreateVpc
	vpcDeleteVSwitch
	vpcDeleteVpc
	vpcDescribeEipAddresses
	vpcDescribeVSwitches
	vpcDescribeVpcs
	vpcModifyEipAddressAttribute
	vpcReleaseEipAddress
	vpcTagResources
	vpcUnTagResources
	vpcUnassociateEipAddress
)

// actions says of each action where it is, what it is called (in RAM, where OSS's own
// names differ), whether a plan needs
// it (and not only an apply), and what else the caller must be permitted to for it.
var actions = [...]struct {
	product product
	name    string
	plan    bool
	also    string
}{
	ecsApplyAutoSnapshotPolicy:        {product: ecs, name: "ApplyAutoSnapshotPolicy"},
	ecsAttachDisk:                     {product: ecs, name: "AttachDisk"},
	ecsAuthorizeSecurityGroup:         {product: ecs, name: "AuthorizeSecurityGroup"},
	ecsCancelAutoSnapshotPolicy:       {product: ecs, name: "CancelAutoSnapshotPolicy"},
	ecsCreateAutoSnapshotPolicy:       {product: ecs, name: "CreateAutoSnapshotPolicy"},
	ecsCreateDisk:                     {product: ecs, name: "CreateDisk"},
	ecsCreateSecurityGroup:            {product: ecs, name: "CreateSecurityGroup"},
	ecsDeleteAutoSnapshotPolicy:       {product: ecs, name: "DeleteAutoSnapshotPolicy"},
	ecsDeleteDisk:                     {product: ecs, name: "DeleteDisk"},
	ecsDeleteInstance:                 {product: ecs, name: "DeleteInstance"},
	ecsDeleteKeyPairs:                 {product: ecs, name: "DeleteKeyPairs"},
	ecsDeleteSecurityGroup:            {product: ecs, name: "DeleteSecurityGroup"},
	ecsDescribeAutoSnapshotPolicyEx:   {product: ecs, name: "DescribeAutoSnapshotPolicyEx", plan: true},
	ecsDescribeAvailableResource:      {product: ecs, name: "DescribeAvailableResource"},
	ecsDescribeDisks:                  {product: ecs, name: "DescribeDisks", plan: true},
	ecsDescribeImageFromFamily:        {product: ecs, name: "DescribeImageFromFamily"},
	ecsDescribeImages:                 {product: ecs, name: "DescribeImages"},
	ecsDescribeInstances:              {product: ecs, name: "DescribeInstances", plan: true},
	ecsDescribeKeyPairs:               {product: ecs, name: "DescribeKeyPairs", plan: true},
	ecsDescribePrice:                  {product: ecs, name: "DescribePrice", plan: true},
	ecsDescribeSecurityGroupAttribute: {product: ecs, name: "DescribeSecurityGroupAttribute", plan: true},
	ecsDescribeSecurityGroups:         {product: ecs, name: "DescribeSecurityGroups", plan: true},
	ecsDetachDisk:                     {product: ecs, name: "DetachDisk"},
	ecsImportKeyPair:                  {product: ecs, name: "ImportKeyPair"},
	ecsJoinSecurityGroup:              {product: ecs, name: "JoinSecurityGroup"},
	ecsModifyAutoSnapshotPolicyEx:     {product: ecs, name: "ModifyAutoSnapshotPolicyEx"},
	ecsModifyDiskAttribute:            {product: ecs, name: "ModifyDiskAttribute"},
	ecsModifyDiskSpec:                 {product: ecs, name: "ModifyDiskSpec"},
	ecsModifyInstanceAttribute:        {product: ecs, name: "ModifyInstanceAttribute"},
	ecsModifyInstanceSpec:             {product: ecs, name: "ModifyInstanceSpec"},
	ecsModifySecurityGroupRule:        {product: ecs, name: "ModifySecurityGroupRule"},
	ecsResizeDisk:                     {product: ecs, name: "ResizeDisk"},
	ecsRevokeSecurityGroup:            {product: ecs, name: "RevokeSecurityGroup"},
	ecsRunInstances:                   {product: ecs, name: "RunInstances", also: "ram:PassRole"}, // for an instance with a RAM role
	ecsStartInstance:                  {product: ecs, name: "StartInstance"},
	ecsStopInstance:                   {product: ecs, name: "StopInstance"},
	ecsTagResources:                   {product: ecs, name: "TagResources"},
	ecsUntagResources:                 {product: ecs, name: "UntagResources"},
	ossDeleteBucket:                   {product: oss, name: "DeleteBucket"},
	ossDeleteBucketTagging:            {product: oss, name: "DeleteBucketTagging"},
	ossGetBucketInfo:                  {product: oss, name: "GetBucketInfo", plan: true},
	ossGetBucketLifecycle:             {product: oss, name: "GetBucketLifecycle", plan: true},
	ossGetBucketTagging:               {product: oss, name: "GetBucketTagging", plan: true},
	ossListBuckets:                    {product: oss, name: "ListBuckets", plan: true},
	ossListObjects:                    {product: oss, name: "ListObjects", plan: true},
	ossPutBucket:                      {product: oss, name: "PutBucket"},
	ossPutBucketAcl:                   {product: oss, name: "PutBucketAcl"},
	ossPutBucketEncryption:            {product: oss, name: "PutBucketEncryption"},
	ossPutBucketLifecycle:             {product: oss, name: "PutBucketLifecycle"},
	ossPutBucketPublicAccessBlock:     {product: oss, name: "PutBucketPublicAccessBlock"},
	ossPutBucketTagging:               {product: oss, name: "PutBucketTagging"},
	ossPutBucketVersioning:            {product: oss, name: "PutBucketVersioning"},
	vpcAllocateEipAddress:             {product: vpc, name: "AllocateEipAddress"},
	vpcAssociateEipAddress:            {product: vpc, name: "AssociateEipAddress"},
	vpcCreateVSwitch:                  {product: vpc, name: "CreateVSwitch"},
	vpcCreateVpc:                      {product: vpc, name: "CreateVpc"},
	vpcDeleteVSwitch:                  {product: vpc, name: "DeleteVSwitch"},
	vpcDeleteVpc:                      {product: vpc, name: "DeleteVpc"},
	vpcDescribeEipAddresses:           {product: vpc, name: "DescribeEipAddresses", plan: true},
	vpcDescribeVSwitches:              {product: vpc, name: "DescribeVSwitches", plan: true},
	vpcDescribeVpcs:                   {product: vpc, name: "DescribeVpcs", plan: true},
	vpcModifyEipAddressAttribute:      {product: vpc, name: "ModifyEipAddressAttribute"},
	vpcReleaseEipAddress:              {product: vpc, name: "ReleaseEipAddress"},
	vpcTagResources:                   {product: vpc, name: "TagResources"},
	vpcUnTagResources:                 {product: vpc, name: "UnTagResources"}, // the vendor's spelling
	vpcUnassociateEipAddress:          {product: vpc, name: "UnassociateEipAddress"},
}

// reads reports whether an action changes nothing.
func reads(name string) bool {
	return strings.HasPrefix(name, "Describe") || strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List")
}

// Permissions lists the RAM actions, such as "ecs:RunInstances", that the
// provider can need, sorted: with readOnly those of plan and drift, else all.
func Permissions(readOnly bool) []string {
	var names []string
	for _, a := range actions {
		if readOnly && !a.plan {
			continue
		}
		names = append(names, a.product.name+":"+a.name)
		if a.also != "" {
			names = append(names, a.also)
		}
	}
	sort.Strings(names)
	return names
}
