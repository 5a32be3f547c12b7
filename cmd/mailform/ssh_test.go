package main

import (
	"testing"

	"mailform/providers/host"
)

// The line is one command of a POSIX shell, whatever stands in it.
func TestSSHLine(t *testing.T) {
	got := sshLine(host.Route{
		Address: "2001:db8::7", Port: 2222, User: "o'hara", Jumps: []string{"a@bastion:22", "b@inner:22"}, Identities: []string{"/home/me/my key"},
		KnownHosts: "[2001:db8::7]:2222 ssh-ed25519 AAAA",
	})
	const want = `ssh -o StrictHostKeyChecking=yes -o UserKnownHostsFile=none -o GlobalKnownHostsFile=none ` +
		`-o 'KnownHostsCommand=/bin/echo [2001:db8::7]:2222 ssh-ed25519 AAAA' -l 'o'\''hara' -p 2222 -J a@bastion:22,b@inner:22 -i '/home/me/my key' 2001:db8::7`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
