package main

import (
	"strings"
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
	got = sshLine(host.Route{Address: "192.0.2.7", Port: 22, User: "root", KnownHosts: "192.0.2.7 ssh-ed25519 AAAA", ProxyCommand: "nc -X 5 100%.example 22"})
	if want := "-p 22 -o 'ProxyCommand=nc -X 5 100%%.example 22' 192.0.2.7"; !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant at its end\n%s", got, want)
	}
}
