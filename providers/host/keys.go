package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Keys are the SSH keys of the person who runs mailform.
type Keys struct {
	Signers []ssh.Signer
	Notes   []string // keys that were found and cannot be used, and why
	agent   net.Conn
}

// OperatorKeys finds the person's keys where ssh does: the agent at
// SSH_AUTH_SOCK, then the file MAILFORM_SSH_KEY, or without it id_ed25519,
// id_ecdsa and id_rsa in ~/.ssh. Encrypted key files are skipped with a note; a
// file that MAILFORM_SSH_KEY names must be usable. Close when done.
func OperatorKeys(home string, getenv func(string) string) (*Keys, error) {
	k := &Keys{}
	if sock := getenv("SSH_AUTH_SOCK"); sock != "" {
		if err := k.fromAgent(sock); err != nil {
			k.Notes = append(k.Notes, fmt.Sprintf("the SSH agent at %s does not answer: %v", sock, err))
		}
	}
	if file := getenv("MAILFORM_SSH_KEY"); file != "" {
		if rest, ok := strings.CutPrefix(file, "~/"); ok {
			file = filepath.Join(home, rest)
		}
		if err := k.fromFile(file); err != nil {
			k.Close()
			return nil, fmt.Errorf("MAILFORM_SSH_KEY: %w", err)
		}
		return k, nil
	}
	if home == "" {
		return k, nil
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		err := k.fromFile(filepath.Join(home, ".ssh", name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.Notes = append(k.Notes, err.Error())
		}
	}
	return k, nil
}

func (k *Keys) fromAgent(sock string) error {
	conn, err := net.Dial("unix", sock)
	if err != nil {
		return err
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		conn.Close()
		return err
	}
	k.agent = conn // signing needs it
	k.Signers = append(k.Signers, signers...)
	return nil
}

func (k *Keys) fromFile(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(text)
	var encrypted *ssh.PassphraseMissingError
	if errors.As(err, &encrypted) {
		return fmt.Errorf("%s is encrypted: load it into an SSH agent (ssh-add %s)", file, file)
	}
	if err != nil {
		return fmt.Errorf("%s is not a private key that can be used: %w", file, err)
	}
	for _, have := range k.Signers {
		if string(have.PublicKey().Marshal()) == string(signer.PublicKey().Marshal()) {
			return nil // the agent has it too
		}
	}
	k.Signers = append(k.Signers, signer)
	return nil
}

// Public returns the public keys in authorized_keys format, the preferred one first.
func (k *Keys) Public() []string {
	var out []string
	for _, s := range k.Signers {
		out = append(out, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey()))))
	}
	return out
}

// Close ends the connection to the agent.
func (k *Keys) Close() {
	if k.agent != nil {
		k.agent.Close()
	}
}
