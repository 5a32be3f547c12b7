package hostsim

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// sshdUnit is the service of the SSH server, which is always there.
const sshdUnit = "ssh.service"

// heldKey is what the file of a host key holds whose private half is a Signer.
const heldKey = "held by the simulator\n"

// keyFile is where an SSH server looks for a key of a kind.
func (h *Host) keyFile(key ssh.PublicKey) string {
	kind := strings.TrimPrefix(key.Type(), "ssh-")
	if strings.HasPrefix(kind, "ecdsa-") {
		kind = "ecdsa"
	}
	return h.path("/etc/ssh/ssh_host_" + kind + "_key")
}

// furnishKeys puts the host keys that the machine begins with into /etc/ssh.
func (h *Host) furnishKeys() error {
	if have, err := filepath.Glob(h.path("/etc/ssh/ssh_host_*_key")); err != nil || len(have) > 0 {
		return err
	}
	for _, k := range h.cfg.HostKeys {
		name := h.keyFile(k.PublicKey())
		if err := os.WriteFile(name, []byte(heldKey), 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(name+".pub", ssh.MarshalAuthorizedKey(k.PublicKey()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// reload reads the host keys and the configuration, as an SSH server does when it starts and at a SIGHUP.
func (s *sshServer) reload() error {
	names, err := filepath.Glob(s.host.path("/etc/ssh/ssh_host_*_key"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	slices.Reverse(names) // rsa, ed25519, ecdsa: those that are left out come last
	var keys []ssh.Signer
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if string(text) != heldKey {
			key, err := ssh.ParsePrivateKey(text)
			if err != nil {
				continue // sshd says so in its log and goes on
			}
			keys = append(keys, key)
			continue
		}
		for _, k := range s.host.cfg.HostKeys {
			if s.host.keyFile(k.PublicKey()) == name {
				keys = append(keys, k)
			}
		}
	}
	if len(keys) == 0 {
		return errors.New("sshd: no hostkeys available -- exiting")
	}
	s.mu.Lock()
	s.keys = keys
	s.mu.Unlock()
	return s.readPort()
}

// HostKeys are the public keys that the SSH server shows, one of each kind; none
// while the machine is off.
func (h *Host) HostKeys() []ssh.PublicKey {
	h.mu.Lock()
	s := h.sshd
	h.mu.Unlock()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ssh.PublicKey
	for _, k := range s.keys {
		out = append(out, k.PublicKey())
	}
	return out
}
