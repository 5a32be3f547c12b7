package hostsim

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// cloudInit is what a machine takes from its user data at the first boot.
type cloudInit struct {
	hostKeys []ssh.Signer // none when it names none
	users    map[string][]string
	files    []cloudFile
	sshPort  int
}

type cloudFile struct {
	Path    string `json:"path"`
	Content string `json:"content"`
}

// maxUserData is the vendor's limit, in bytes before base64.
const maxUserData = 32 << 10

// parseCloudInit reads user data: "#cloud-config" and a JSON document, which is
// the YAML that needs no rules, or ssh_keys with a literal block in plain YAML.
// Empty user data is a machine as its image is.
func parseCloudInit(data string) (cloudInit, error) {
	c := cloudInit{sshPort: 22, users: map[string][]string{"root": nil}}
	if data == "" {
		return c, nil
	}
	if len(data) > 2*maxUserData {
		return c, errors.New("user data: too long")
	}
	if !strings.HasPrefix(data, "#") {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(data))
		if err != nil {
			return c, errors.New("user data: neither #cloud-config nor base64")
		}
		data = string(raw)
	}
	body, ok := strings.CutPrefix(data, "#cloud-config\n")
	if !ok {
		return c, errors.New("user data: not #cloud-config")
	}
	var doc struct {
		SSHKeys struct {
			Ed25519 string `json:"ed25519_private"`
			ECDSA   string `json:"ecdsa_private"`
		} `json:"ssh_keys"`
		Users      []json.RawMessage `json:"users"`
		WriteFiles []cloudFile       `json:"write_files"`
	}
	if strings.HasPrefix(strings.TrimSpace(body), "{") {
		if err := json.Unmarshal([]byte(body), &doc); err != nil {
			return c, fmt.Errorf("user data: %w", err)
		}
	} else {
		doc.SSHKeys.Ed25519, doc.SSHKeys.ECDSA = literalBlock(body, "ed25519_private"), literalBlock(body, "ecdsa_private")
	}
	for _, text := range []string{doc.SSHKeys.ECDSA, doc.SSHKeys.Ed25519} {
		if text == "" {
			continue
		}
		key, err := ssh.ParsePrivateKey([]byte(text))
		if err != nil {
			return c, errors.New("user data: a host key is not a private key") // not quoted: it is one
		}
		c.hostKeys = append(c.hostKeys, key)
	}
	for _, raw := range doc.Users {
		var u struct {
			Name           string   `json:"name"`
			AuthorizedKeys []string `json:"ssh_authorized_keys"`
		}
		if json.Unmarshal(raw, &u) == nil && u.Name != "" { // the other form is a name: "default"
			c.users[u.Name] = u.AuthorizedKeys
		}
	}
	c.files = doc.WriteFiles
	for _, f := range c.files {
		if !strings.HasPrefix(f.Path, "/etc/ssh/sshd_config.d/") {
			continue
		}
		for line := range strings.Lines(f.Content) {
			if port, ok := strings.CutPrefix(strings.TrimSpace(line), "Port "); ok {
				n, err := strconv.Atoi(port)
				if err != nil || n < 1 || n > 65535 {
					return c, fmt.Errorf("user data: bad SSH port %q", port)
				}
				c.sshPort = n
			}
		}
	}
	return c, nil
}

// literalBlock returns the YAML literal block ("key: |") under a key, without
// its indentation.
func literalBlock(doc, key string) string {
	var out strings.Builder
	indent := -1
	inside := false
	for line := range strings.Lines(doc) {
		text := strings.TrimRight(line, "\r\n")
		depth := len(text) - len(strings.TrimLeft(text, " "))
		if !inside {
			inside = strings.TrimSpace(text) == key+": |"
			continue
		}
		if indent < 0 {
			indent = depth
		}
		if strings.TrimSpace(text) != "" && depth < indent || indent == 0 {
			break
		}
		out.WriteString(text[min(indent, len(text)):] + "\n")
	}
	return out.String()
}
