package host

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"mailform/plan"
)

// The keys of a host with a data disk are on it. Between a machine that is gone, or
// cannot be asked, and one that has the disk mounted nobody can look at them; but
// what they are is in DNS. A key whose record of ours is published is taken to be
// there: the next machine finds it, and nothing changes for anybody who verifies.
// If it is not, configuring the server says so, and the next plan, which has looked
// at the disk, makes another one.

// fresh is how long a record must have been there for its key to be taken for one
// that signs: one that was published lately may still be coming up.
const fresh = 24 * time.Hour

// believe adds the keys to what was observed.
func (s *scheduler) believe() {
	hosts := map[string]string{} // by domain
	for a, r := range s.wants {
		if isKey(a) && r.Provider == Name {
			hosts[a.Segments()[1]] = r.Attrs["host"].Str()
		}
	}
	var believed []plan.Object
	for i := range s.observed {
		o := s.observed[i]
		seg := o.Address.Segments()
		if len(seg) != 4 || seg[0] != "dns" || seg[2] != "dkim" || o.Owner != plan.Ours {
			continue
		}
		domain, selector := seg[1], seg[3]
		host := hosts[domain]
		algorithm := algorithmOf(o.Attrs["content"].Str())
		if host == "" || algorithm == "" || !s.onIdleDisk(host) || s.found[dkimAddr(domain, selector)] != nil {
			continue
		}
		created := timeOf(o.Attrs["published"])
		if created.IsZero() {
			created = s.in.Now
		}
		believed = append(believed, plan.Object{
			Address: dkimAddr(domain, selector), Provider: Name, Kind: kindKey, Owner: plan.Ours,
			Attrs: plan.Attrs{
				"host": plan.String(host), "algorithm": plan.String(algorithm),
				"created": plan.String(created.UTC().Format(time.RFC3339)), "signs": plan.Bool(!s.comingUp(domain, algorithm, created)),
			},
			Outputs: plan.Attrs{"txt": o.Attrs["content"]}, Within: s.home(host), DependsOn: []plan.Address{agentAddr(host)}, Protected: keyProtected,
		})
	}
	s.observed = append(s.observed, believed...)
}

// onIdleDisk reports whether a host's data disk is there and no machine was seen to
// use it.
func (s *scheduler) onIdleDisk(host string) bool {
	_, wanted := s.wants[storageAddr(host)]
	disk := s.found[diskAddr(host)]
	return wanted && disk != nil && disk.Owner == plan.Ours && s.found[storageAddr(host)] == nil && s.found[serverAddr(host)] == nil
}

// comingUp reports whether a key whose record is new has an older one of its kind
// beside it, which signs until it is known everywhere.
func (s *scheduler) comingUp(domain, algorithm string, published time.Time) bool {
	if s.in.Now.Sub(published) > fresh {
		return false
	}
	for a, o := range s.found {
		if _, ok := recordSelector(a, domain); ok && o.Owner == plan.Ours {
			other := algorithmOf(o.Attrs["content"].Str())
			if at := timeOf(o.Attrs["published"]); other != "" && kind(other) == kind(algorithm) && !at.IsZero() && at.Before(published) {
				return true
			}
		}
	}
	return false
}

// algorithmOf is the kind of key that a record publishes, as specs name it; "" for a
// record that is revoked or that nobody here could have made.
func algorithmOf(text string) string {
	tags := recordTags(text)
	if tags["k"] == "ed25519" {
		if key, err := base64.StdEncoding.DecodeString(tags["p"]); err != nil || len(key) != 32 { // RFC 8463 4.2
			return ""
		}
		return "ed25519"
	}
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(tags["p"], " ", ""))
	if err != nil {
		return ""
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if key, ok := public.(*rsa.PublicKey); ok && err == nil {
		return fmt.Sprintf("rsa%d", key.N.BitLen())
	}
	return ""
}
