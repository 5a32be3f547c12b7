package alicloudsim

import (
	"bytes"
	"encoding/json"
	"errors"
)

// CloudConfig is what a simulated machine does of cloud-init's work.
type CloudConfig struct {
	SSHKeys struct {
		Private string `json:"ed25519_private"` // OpenSSH PEM
		Public  string `json:"ed25519_public"`
	} `json:"ssh_keys"`
	FQDN       string            `json:"fqdn"`
	Users      []json.RawMessage `json:"users"`
	WriteFiles []struct {
		Path        string `json:"path"`
		Permissions string `json:"permissions"`
		Content     string `json:"content"`
	} `json:"write_files"`
}

// CloudUser is one of CloudConfig.Users.
type CloudUser struct {
	Name           string   `json:"name"`
	AuthorizedKeys []string `json:"ssh_authorized_keys"`
	Sudo           string   `json:"sudo"`
}

// ParseCloudConfig reads user data. Of YAML it understands what is also JSON.
func ParseCloudConfig(userData []byte) (CloudConfig, error) {
	var c CloudConfig
	rest, ok := bytes.CutPrefix(userData, []byte("#cloud-config\n"))
	if !ok {
		return c, errors.New("user data is not a cloud-config")
	}
	if err := json.Unmarshal(rest, &c); err != nil {
		return c, errors.New("user data is not a cloud-config in JSON")
	}
	return c, nil
}

// Accounts gives the users with a name; "default" is none.
func (c CloudConfig) Accounts() []CloudUser {
	var users []CloudUser
	for _, raw := range c.Users {
		var u CloudUser
		if json.Unmarshal(raw, &u) == nil && u.Name != "" {
			users = append(users, u)
		}
	}
	return users
}
