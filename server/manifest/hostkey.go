package manifest

// HostKey is the SSH host key that the host has made for itself.
type HostKey struct {
	Fingerprint string `json:"fingerprint"` // "SHA256:…", as ssh-keygen -l prints it
	// Old are the keys it takes the place of, of which the user data tells, as far as
	// the SSH server still has them.
	Old []string `json:"old,omitempty"`
}

// HostKeyRequest asks for an SSH host key that nobody else knows, beside the one
// that the machine is recognised by, or for an end of those it takes the place of.
type HostKeyRequest struct {
	Claim
	// Trusted is the fingerprint by which the sender recognises the machine. The new
	// key is of another kind, so that the SSH server shows both.
	Trusted string `json:"trusted,omitempty"`
	// InsteadOf is a key of ours that is not to be used any more; "" takes the one there is.
	InsteadOf string `json:"instead_of,omitempty"`
	// Keep, when set, is our key that stays; those it takes the place of go, and none is made.
	Keep string `json:"keep,omitempty"`
}

// SSHDir is where the SSH server's configuration and keys are, and HostKeyFile
// says which of them is ours.
func (l Layout) SSHDir() string      { return l.at("/etc/ssh") }
func (l Layout) HostKeyFile() string { return l.at("/etc/mailform/host-key.json") }

// SSHHostKey is the file of the SSH server's key of a kind, "ed25519" or "ecdsa",
// at the place where it looks for keys by itself, sshd_config(5).
func (l Layout) SSHHostKey(kind string) string {
	return l.at("/etc/ssh/ssh_host_" + kind + "_key")
}
