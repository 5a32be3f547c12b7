package specs

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// checkBackupPlace wants one bucket: one to make, or one that exists.
func (l *loader) checkBackupPlace(n *node) {
	if first(n, "oss") != nil {
		for _, name := range []string{"endpoint", "bucket", "region"} {
			if n.given(name) {
				l.errorAt(codeBackupPlace, n.at(name), n.header, "backups go to one bucket",
					fmt.Sprintf("The oss block has one made, and %s is for one that exists. Take one of the two out.", name))
				return
			}
		}
		return
	}
	for _, name := range []string{"endpoint", "bucket"} {
		if !n.given(name) {
			l.errorAt(codeMissingAttribute, n.header, hcl.Range{}, name+" is missing",
				"Name a bucket that exists with endpoint and bucket, or have one made: oss { bucket = \"acme-mail-backup\" }.")
		}
	}
}

// checkBackupKey wants something that signs: a key, or with OSS the role of every instance.
func (l *loader) checkBackupKey(b *built, n *node) {
	id, secret := n.given("access_key_id"), n.given("secret_access_key")
	k := b.spec.Backup
	switch {
	case id && secret:
	case id:
		l.errorAt(codeHalfCredentials, n.at("access_key_id"), n.header, "the backup has an access_key_id but no secret_access_key", "Give both, or with OSS none: then each instance signs as its ram_role.")
	case secret:
		l.errorAt(codeHalfCredentials, n.at("secret_access_key"), n.header, "the backup has a secret_access_key but no access_key_id", "Give both, or with OSS none: then each instance signs as its ram_role.")
	case !k.Create && n.given("endpoint") && !ofAlibaba(k.Endpoint):
		l.errorAt(codeMissingAttribute, n.header, hcl.Range{}, "access_key_id is missing", "Only at OSS can an instance sign without a key, as its RAM role. Give access_key_id and secret_access_key.")
	case k.Create || n.given("endpoint"):
		for _, h := range b.hosts {
			if h.Instance != nil && h.Instance.RAMRole == "" {
				l.errorAt(codeNoBackupKey, n.header, hcl.Range{}, fmt.Sprintf("host %q has nothing to sign its backups with", h.Name),
					"Give its instance a RAM role that may write into the bucket (ram_role in the instance block; examples/ci has the policy), or give the backup block access_key_id and secret_access_key.")
			}
		}
	}
}

// ofAlibaba reports whether an endpoint is one of OSS.
func ofAlibaba(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && strings.HasSuffix(strings.ToLower(u.Hostname()), ".aliyuncs.com")
}
