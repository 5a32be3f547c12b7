// Package alicloud manages what a mail host needs of Alibaba Cloud: a VPC with
// one vSwitch, a security group whose rules are one resource, a key pair, an ECS
// instance, its elastic public address, the data disk with its snapshots, which
// outlives the instance, and the OSS bucket that backups go to.
//
// It talks to the ECS (2014-05-26) and VPC (2016-04-28) RPC APIs through the core
// of alibaba-cloud-sdk-go with typed requests of its own, because the generated
// clients cost minutes of compile time. Everything the vendor's SDK touches stays
// behind this package: it has no contexts, is not safe for concurrent use, panics
// on malformed errors and speaks plain HTTP unless told otherwise; rpc.go is where
// that ends.
//
// Ownership lives in the vendor's tags: mailform:stack and mailform:address are
// set in the call that creates a thing, so that nothing of ours ever exists
// unmarked. Security group rules cannot be tagged; their descriptions carry
// "mf1:<stack>:<rule name>". Rules without our mark are counted and left alone.
//
// Each operation has at most one effect, but for one: making an instance where the
// first zone has none left moves its empty vSwitch to another. Each step of that is
// found again by its mark, so it too may be interrupted anywhere (stock.go).
//
// A request can only be made from the table in actions.go, which is therefore the
// list of the permissions that the provider needs.
//
// OSS is spoken to through server/bucket (oss.go, bucket.go). The vendor cannot mark a
// bucket in the call that makes it: an empty one as that call leaves it counts as ours.
//
// It imports plan, specs and server/bucket, nothing else of mailform.
package alicloud
