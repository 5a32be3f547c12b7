package alicloudsim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The instance metadata service in its hardened mode, and the RAM roles whose
// credentials it gives.
// https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata

const (
	// roleTime is how long credentials of a role are good; the service gives the
	// next ones roleOverlap before their end.
	roleTime    = 6 * time.Hour
	roleOverlap = 30 * time.Minute
	// maxTokenSeconds is the longest life of a token of the service's.
	maxTokenSeconds = 21600

	metadataRole = "meta-data/ram/security-credentials/"
)

// Metadata is the metadata service as one instance sees it at
// http://100.100.100.200/latest/. It knows the instance's id and its RAM role.
func (s *Sim) Metadata(instance string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := strings.CutPrefix(r.URL.Path, "/latest/")
		if !ok {
			http.NotFound(w, r)
			return
		}
		if path == "api/token" {
			s.metadataToken(w, r, instance)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		i := s.instances[instance]
		until, known := s.metadata[r.Header.Get("X-aliyun-ecs-metadata-token")]
		switch {
		case r.Method != http.MethodGet:
			http.Error(w, "405 Method Not Allowed", http.StatusMethodNotAllowed)
		case !known || !s.cfg.Now().Before(until):
			http.Error(w, "401 Unauthorized", http.StatusUnauthorized)
		case i == nil || i.state == "Deleted":
			http.NotFound(w, r)
		case path == "meta-data/instance-id":
			fmt.Fprint(w, i.id)
		case i.role != "" && path == metadataRole:
			fmt.Fprint(w, i.role)
		case i.role != "" && path == metadataRole+i.role:
			k := s.roleKey(i)
			writeJSON(w, http.StatusOK, obj{"Code": "Success", "AccessKeyId": k.ID, "AccessKeySecret": k.Secret, "SecurityToken": k.SecurityToken,
				"Expiration": k.Expires.UTC().Format(withSeconds), "LastUpdated": k.Expires.Add(-roleTime).UTC().Format(withSeconds)})
		default:
			http.NotFound(w, r)
		}
	})
}

// metadataToken gives a token that the service's other answers take.
func (s *Sim) metadataToken(w http.ResponseWriter, r *http.Request, instance string) {
	seconds, err := strconv.Atoi(r.Header.Get("X-aliyun-ecs-metadata-token-ttl-seconds"))
	switch {
	case r.Method != http.MethodPut:
		http.Error(w, "405 Method Not Allowed", http.StatusMethodNotAllowed)
		return
	case err != nil || seconds < 1 || seconds > maxTokenSeconds:
		http.Error(w, "400 Bad Request", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	for token, until := range s.metadata {
		if !now.Before(until) {
			delete(s.metadata, token)
		}
	}
	s.sessions++
	token := secretText("metadata", instance, s.sessions)
	s.metadata[token] = now.Add(time.Duration(seconds) * time.Second)
	fmt.Fprint(w, token)
}

// roleKey is what an instance signs with as its role. s.mu is held.
func (s *Sim) roleKey(i *instanceState) AccessKey {
	now := s.cfg.Now()
	s.roleKeys = slices.DeleteFunc(s.roleKeys, func(k AccessKey) bool { return !now.Before(k.Expires) })
	if have := i.roleKey; now.Before(have.Expires.Add(-roleOverlap)) {
		return have
	}
	s.sessions++
	i.roleKey = AccessKey{
		ID: "STS." + secretText("id", i.id, s.sessions)[:24], Secret: secretText("secret", i.id, s.sessions), SecurityToken: secretText("token", i.id, s.sessions),
		Expires: now.Add(roleTime).Truncate(time.Second), Allow: s.cfg.RoleAllow,
	}
	s.roleKeys = append(s.roleKeys, i.roleKey)
	return i.roleKey
}

func secretText(kind, id string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", kind, id, n))
	return hex.EncodeToString(sum[:])
}

// accessKey finds a key of a RAM user or of a role.
func (s *Sim) accessKey(id string) (AccessKey, bool) {
	for _, k := range s.cfg.AccessKeys {
		if k.ID == id {
			return k, true
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range s.roleKeys {
		if k.ID == id {
			return k, true
		}
	}
	return AccessKey{}, false
}
