package agent

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mailform/server/manifest"
)

// A machine that mailform has made begins with an SSH host key from its user
// data, which others may read. On first contact it gets one that was made on it:
// first beside the old one, so that the machine is recognised by either, and when
// the sender has noted the new one, the old one goes.

// hostKeyRecord is the content of manifest.Layout.HostKeyFile.
type hostKeyRecord struct {
	Fingerprint string   `json:"fingerprint"`
	Replaces    []string `json:"replaces,omitempty"` // fingerprints
}

// hostKey tells of the key that was made here; nil when there is none, or its file
// has gone or is another one by now.
func (a *Agent) hostKey() (*manifest.HostKey, error) {
	var r hostKeyRecord
	if ok, err := readJSON(a.Layout.HostKeyFile(), &r); err != nil || !ok {
		return nil, err
	}
	files, err := a.sshKeys()
	if err != nil || files[r.Fingerprint] == "" {
		return nil, err
	}
	k := &manifest.HostKey{Fingerprint: r.Fingerprint}
	for _, old := range r.Replaces {
		if files[old] != "" {
			k.Old = append(k.Old, old)
		}
	}
	return k, nil
}

// sshKeys are the files of the SSH server's keys, by fingerprint.
func (a *Agent) sshKeys() (map[string]string, error) {
	names, err := filepath.Glob(filepath.Join(a.Layout.SSHDir(), "ssh_host_*_key"))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name + ".pub")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if part := strings.Fields(string(text)); len(part) > 1 {
			if blob, err := base64.StdEncoding.DecodeString(part[1]); err == nil {
				out[sshFingerprint(blob)] = name
			}
		}
	}
	return out, nil
}

// sshFingerprint is a public key's, as ssh-keygen -l prints it.
func sshFingerprint(blob []byte) string {
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// HostKey makes the host's own SSH host key, or takes away those it replaces.
// Both may be asked for again. It answers with what is there then.
func (a *Agent) HostKey(ctx context.Context, req manifest.HostKeyRequest) (manifest.HostKey, error) {
	var none manifest.HostKey
	unlock, err := a.lock(ctx)
	if err != nil {
		return none, err
	}
	defer unlock()
	if err := a.claim(req.Claim, false); err != nil {
		return none, err
	}
	files, err := a.sshKeys()
	if err != nil {
		return none, err
	}
	have, err := a.hostKey()
	if err != nil {
		return none, err
	}
	switch {
	case req.Keep != "":
		if have == nil || have.Fingerprint != req.Keep {
			return none, failf(manifest.ExitConflict, "the SSH host key that is to stay, %s, is not the one that was made here", req.Keep)
		}
		for _, old := range have.Old {
			for _, name := range []string{files[old], files[old] + "-cert.pub", files[old] + ".pub"} { // the last one tells of it
				if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return none, err
				}
			}
		}
		err = syncDir(a.Layout.SSHDir())
	case have == nil || have.Fingerprint == req.InsteadOf:
		err = a.makeHostKey(req.Trusted, files)
	}
	if err == nil {
		// Also when it was there: an earlier run may have ended before this.
		err = a.reloadSSH(ctx)
	}
	if err != nil {
		return none, fmt.Errorf("the SSH host key: %w", err)
	}
	if have, err = a.hostKey(); err != nil || have == nil {
		return none, errors.Join(err, errors.New("the SSH host key is not where it was put"))
	}
	return *have, nil
}

// makeHostKey makes a key of another kind than the one the machine is recognised
// by: an SSH server shows one key of each kind.
func (a *Agent) makeHostKey(trusted string, files map[string]string) error {
	kind, algorithm := "ed25519", "ed25519"
	old := a.Layout.SSHHostKey(kind)
	if trusted == "" || files[trusted] == "" {
		return failf(manifest.ExitRequest, "the key that the machine is recognised by, %q, is none of those in %s", trusted, a.Layout.SSHDir())
	}
	if files[trusted] == old {
		kind, algorithm = "ecdsa", "ecdsa256"
	}
	key, err := newKey(a.Rand, algorithm)
	if err != nil {
		return err
	}
	private, public, err := sshKey(a.Rand, key, "mailform")
	if err != nil {
		return err
	}
	name := a.Layout.SSHHostKey(kind)
	if err := writeFile(name, private, 0o600, -1); err != nil {
		return err
	}
	line := strings.Join([]string{sshName(key.Public()), base64.StdEncoding.EncodeToString(public), "mailform"}, " ") + "\n"
	if err := writeFile(name+".pub", []byte(line), 0o644, -1); err != nil {
		return err
	}
	var before hostKeyRecord
	if _, err := readJSON(a.Layout.HostKeyFile(), &before); err != nil {
		return err
	}
	replaces := before.Replaces // of a change that has not come to its end
	if !slices.Contains(replaces, trusted) {
		replaces = append(replaces, trusted)
	}
	return writeJSON(a.Layout.HostKeyFile(), hostKeyRecord{Fingerprint: sshFingerprint(public), Replaces: replaces}, 0o600)
}

// sshUnits are the SSH server's service under the names that distributions give it.
var sshUnits = []string{"ssh.service", "sshd.service"}

// reloadSSH makes the SSH server read its keys. Connections that are there stay.
// One that is started for each connection reads them then.
func (a *Agent) reloadSSH(ctx context.Context) error {
	states, err := a.Systemd.Units(ctx, sshUnits...)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(states, func(s UnitState) bool { return s.ActiveState == "active" })
	if i < 0 {
		return nil
	}
	// One that is told to read a configuration that it cannot read ends, and nobody
	// could log in again.
	sshd := a.Layout.Inside("/usr/sbin/sshd")
	if a.Tools.Has(sshd) {
		if err := a.Tools.Run(ctx, sshd, "-t"); err != nil {
			return fmt.Errorf("its configuration has an error: %w", err)
		}
	}
	return a.Systemd.Reload(ctx, sshUnits[i])
}

// sshName is the algorithm's name in SSH, RFC 5656 and RFC 8709.
func sshName(pub crypto.PublicKey) string {
	if _, ok := pub.(ed25519.PublicKey); ok {
		return "ssh-ed25519"
	}
	return "ecdsa-sha2-nistp256"
}

// sshKey encodes a key as OpenSSH keeps it (PROTOCOL.key), without a passphrase,
// and its public half as SSH sends it.
func sshKey(random io.Reader, key crypto.Signer, comment string) (private, public []byte, err error) {
	text := func(parts ...[]byte) []byte {
		var b []byte
		for _, p := range parts {
			b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
			b = append(b, p...)
		}
		return b
	}
	name := []byte(sshName(key.Public()))
	var secret []byte
	switch k := key.(type) {
	case ed25519.PrivateKey:
		pub := []byte(k.Public().(ed25519.PublicKey))
		public, secret = text(name, pub), text(name, pub, k)
	case *ecdsa.PrivateKey:
		point, err := k.PublicKey.Bytes()
		if err != nil {
			return nil, nil, err
		}
		scalar, err := k.Bytes()
		if err != nil {
			return nil, nil, err
		}
		number := append([]byte{0}, scalar...) // an mpint that is never negative, RFC 4251 5
		for len(number) > 1 && number[0] == 0 && number[1] < 0x80 {
			number = number[1:]
		}
		public, secret = text(name, []byte("nistp256"), point), text(name, []byte("nistp256"), point, number)
	default:
		return nil, nil, fmt.Errorf("a %T is no SSH host key", key)
	}
	check := make([]byte, 4)
	if _, err := io.ReadFull(random, check); err != nil {
		return nil, nil, err
	}
	inner := slices.Concat(check, check, secret, text([]byte(comment)))
	for i := byte(1); len(inner)%8 != 0; i++ {
		inner = append(inner, i)
	}
	blob := []byte("openssh-key-v1\x00")
	blob = append(blob, text([]byte("none"), []byte("none"), nil)...)
	blob = binary.BigEndian.AppendUint32(blob, 1)
	blob = append(blob, text(public, inner)...)
	return pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: blob}), public, nil
}
