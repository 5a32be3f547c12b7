package alicloud

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// hostKey is an SSH host key made for an instance that is about to be created. It
// exists in this process and in the instance's user data; mailform keeps only the
// fingerprint, as the instance's tag mailform:host-key. On first contact the machine
// makes another one, an Ed25519 key: this one is ECDSA, so that for a while it can
// show both.
type hostKey struct {
	private     string // OpenSSH PEM
	public      string // "ecdsa-sha2-nistp256 AAAA…"
	fingerprint string // "SHA256:…"
}

// newHostKey makes a random key. It is deliberately not derived from the
// operation's token: whoever knows the plan must not know the key.
func newHostKey(random io.Reader) (hostKey, error) {
	number := make([]byte, 32)
	if _, err := io.ReadFull(random, number); err != nil {
		return hostKey{}, fmt.Errorf("make an SSH host key: %w", err)
	}
	// One number in 2^32 is none of the curve's; the next attempt draws another.
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), number)
	if err != nil {
		return hostKey{}, fmt.Errorf("make an SSH host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "mailform")
	if err != nil {
		return hostKey{}, fmt.Errorf("make an SSH host key: %w", err)
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return hostKey{}, fmt.Errorf("make an SSH host key: %w", err)
	}
	return hostKey{
		private:     string(pem.EncodeToMemory(block)),
		public:      string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(pub))),
		fingerprint: ssh.FingerprintSHA256(pub),
	}, nil
}

// cloudConfig is the part of cloud-init's configuration in use
// (https://cloudinit.readthedocs.io/en/latest/reference/modules.html).
type cloudConfig struct {
	// SSHKeys installs exactly this host key; cloud-init then generates no others.
	SSHKeys struct {
		Private string `json:"ecdsa_private"`
		Public  string `json:"ecdsa_public"`
	} `json:"ssh_keys"`
	SSHPasswordAuth bool        `json:"ssh_pwauth"`
	DisableRoot     bool        `json:"disable_root"`
	FQDN            string      `json:"fqdn,omitempty"`
	Users           []any       `json:"users"`
	WriteFiles      []writeFile `json:"write_files,omitempty"`
}

type cloudUser struct {
	Name           string   `json:"name"`
	AuthorizedKeys []string `json:"ssh_authorized_keys"`
	Sudo           string   `json:"sudo,omitempty"`
	Shell          string   `json:"shell,omitempty"`
	LockPassword   bool     `json:"lock_passwd"`
}

type writeFile struct {
	Path        string `json:"path"`
	Permissions string `json:"permissions"`
	Content     string `json:"content"`
}

// userData is the instance's user data, base64 as the API wants it. The document
// is JSON, which is YAML that needs no quoting rules.
func userData(key hostKey, fqdn, user string, port int, authorized []string) (string, error) {
	c := cloudConfig{FQDN: fqdn}
	c.SSHKeys.Private = key.private
	c.SSHKeys.Public = key.public
	u := cloudUser{Name: user, AuthorizedKeys: authorized, LockPassword: true}
	if user != "root" {
		u.Sudo = "ALL=(ALL) NOPASSWD:ALL"
		u.Shell = "/bin/bash"
	}
	c.Users = []any{"default", u}
	if port != 22 {
		c.WriteFiles = []writeFile{{
			Path: "/etc/ssh/sshd_config.d/10-mailform.conf", Permissions: "0644",
			Content: fmt.Sprintf("Port %d\n", port),
		}}
	}
	var b bytes.Buffer
	b.WriteString("#cloud-config\n")
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}
