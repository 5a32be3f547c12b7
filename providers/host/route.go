package host

import (
	"context"
	"strings"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
	"mailform/providers/host/sshconn"
)

// Route is how to log in to a host, for a program that is not mailform.
type Route struct {
	Host    string // name in the spec
	Address string // IP address
	Port    int
	User    string
	// Jumps are the hosts on the way, the nearest first, each as "user@host:port". They
	// are those of the person's own ssh configuration.
	Jumps []string
	// ProxyCommand is the command whose input and output are the connection, with nothing
	// left to expand; "" for none.
	ProxyCommand string
	// Identities are the key files that somebody has named for it; none means the usual ones.
	Identities []string
	// HostKey is the key that the host has just shown and that was accepted.
	HostKey ssh.PublicKey
	// KnownHosts is the line of a known_hosts file that says so: with it as the only
	// UserKnownHostsFile and StrictHostKeyChecking=yes, ssh accepts exactly that key.
	KnownHosts string
}

// Route connects to a host, so that its key is verified as it is for everything
// else, and returns how that was done. agent and known are as for Inspect. It is
// false for a host that has no address yet.
func (p *Provider) Route(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool)) (Route, bool, error) {
	t, ok := p.readTarget(targetInput(agent.Address.Segments()[1], agent.Attrs.Resolve(known)))
	if !ok {
		return Route{}, false, nil
	}
	p.remember(t)
	c, err := p.sessions.get(ctx, t, atOnce, nil)
	if err != nil {
		return Route{}, true, err
	}
	s := c.Settings
	r := Route{Host: t.host, Address: s.Host, Port: s.Port, User: s.User, ProxyCommand: s.ProxyCommand, Identities: s.Named, HostKey: c.HostKey}
	for _, j := range s.Jumps {
		r.Jumps = append(r.Jumps, j.User+"@"+j.Addr())
	}
	key := c.HostKey
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key // the certificate vouches for it
	}
	r.KnownHosts = strings.TrimSpace(sshconn.KnownHostsLine(s.Host, s.Port, key))
	return r, true, nil
}
