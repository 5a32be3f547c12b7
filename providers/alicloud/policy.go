package alicloud

import (
	"encoding/json"
	"strings"
)

// RAM policies, ready to be given to a RAM user or role.
// https://www.alibabacloud.com/help/en/ram/user-guide/policy-structure-and-syntax

type policyStatement struct {
	Effect    string
	Action    []string
	Resource  any                          // one or several
	Condition map[string]map[string]string `json:",omitempty"`
}

func policy(statements []policyStatement) string {
	doc := struct {
		Version   string
		Statement []policyStatement
	}{"1", statements}
	text, _ := json.MarshalIndent(doc, "", "  ") // plain strings always marshal
	return string(text) + "\n"
}

// PolicyJSON is a RAM policy that permits what Permissions lists. What is about
// buckets is a statement of its own, which only a backup block with oss needs. The
// only role it lets anybody hand on is one for ECS.
func PolicyJSON(readOnly bool) string {
	var own, buckets []string
	var statements []policyStatement
	for _, name := range Permissions(readOnly) {
		switch {
		case name == "ram:PassRole":
			statements = append(statements, policyStatement{"Allow", []string{name}, "acs:ram:*:*:role/*",
				map[string]map[string]string{"StringEquals": {"acs:Service": "ecs.aliyuncs.com"}}})
		case strings.HasPrefix(name, oss.name+":"):
			buckets = append(buckets, name)
		default:
			own = append(own, name)
		}
	}
	return policy(append([]policyStatement{{Effect: "Allow", Action: own, Resource: "*"}, {Effect: "Allow", Action: buckets, Resource: "acs:oss:*:*:*"}}, statements...))
}

// hostPermissions are what a host's role needs to make backups and to bring them
// back. Deleting a version is not among them: what somebody who got into the host
// deletes can be had back for as long as versions are kept.
var hostPermissions = [...]string{"oss:DeleteObject", "oss:GetObject", "oss:ListObjects", "oss:PutObject"}

// HostPolicyJSON is a RAM policy for the role of the hosts that back up to a bucket.
func HostPolicyJSON(bucket string) string {
	return policy([]policyStatement{{Effect: "Allow", Action: hostPermissions[:], Resource: []string{"acs:oss:*:*:" + bucket, "acs:oss:*:*:" + bucket + "/*"}}})
}
