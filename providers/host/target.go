package host

import (
	"fmt"
	"net"
	"strconv"

	"mailform/plan"
	"mailform/providers/host/sshconn"
	"mailform/specs"
)

// target is how to reach a host.
type target struct {
	host    string // name in the spec
	address string // IP address
	port    int
	user    string
	hostKey string // what the SSH server must prove: "SHA256:…", a public key line, or "" when nothing is pinned
	created bool   // mailform made the machine

	hostname string // by which the person's ssh may know it, too
}

// ssh is the target as the connection's package sees it.
func (t target) ssh() sshconn.Target {
	return sshconn.Target{Label: t.label(), Names: []string{t.hostname}, Address: t.address, Port: t.port, User: t.user, HostKey: t.hostKey}
}

func (t target) label() string { return "host " + t.host }

func (t target) addr() string { return net.JoinHostPort(t.address, strconv.Itoa(t.port)) }

func (t target) String() string {
	return fmt.Sprintf("host %s (ssh %s@%s)", t.host, t.user, t.addr())
}

// The attributes of host/H/agent that say how to reach it. None is compared.
var targetAttrs = []string{"address", "host_key", "hostname", "machine", "port", "user"}

const (
	machineCreated  = "instance"
	machineExisting = "existing"
)

// targetOf declares how to reach a host.
func targetOf(h *specs.Host) plan.Attrs {
	a := plan.Attrs{
		"machine":  plan.String(machineExisting),
		"hostname": plan.String(h.Hostname),
		"address":  plan.String(h.Address.String()),
	}
	// On a machine that exists, what the spec does not say is the person's ssh
	// configuration's to say. One that mailform makes is made with the defaults.
	if h.Instance != nil || !h.SSH.UserUnset {
		a["user"] = plan.String(h.SSH.User)
	}
	if h.Instance != nil || !h.SSH.PortUnset {
		a["port"] = plan.Int(int64(h.SSH.Port))
	}
	if h.SSH.HostKey != "" {
		a["host_key"] = plan.String(h.SSH.HostKey)
	}
	if h.Instance != nil {
		a["machine"] = plan.String(machineCreated)
		a["address"] = plan.Unknown(plan.Addr("host", h.Name, "address-link"), "ip")
		if h.SSH.HostKey == "" {
			a["host_key"] = plan.Unknown(plan.Addr("host", h.Name, "instance"), "host_key")
		}
	}
	return a
}

// Target is how a host of a spec is reached, as far as the spec says.
func Target(h *specs.Host) sshconn.Target {
	t := sshconn.Target{Label: "host " + h.Name, Names: []string{h.Hostname}, Port: h.SSH.Port, User: h.SSH.User}
	if h.Address.IsValid() {
		t.Address = h.Address.String()
	}
	return t
}

// inputs puts the target's attributes under one name for an operation.
func targetInput(host string, attrs plan.Attrs) plan.Value {
	fields := map[string]plan.Value{"host": plan.String(host)}
	for _, name := range targetAttrs {
		if v, ok := attrs[name]; ok && !v.IsNull() {
			fields[name] = v
		}
	}
	return plan.Map(fields)
}

// readTarget is the inverse of targetInput; false while the address is unknown.
// What the plan leaves open is as the person's ssh configuration says.
func (p *Provider) readTarget(v plan.Value) (target, bool) {
	t := target{
		hostname: v.Field("hostname").Str(),

		host:    v.Field("host").Str(),
		address: v.Field("address").Str(),
		port:    int(v.Field("port").Num()),
		user:    v.Field("user").Str(),
		hostKey: v.Field("host_key").Str(),
		created: v.Field("machine").Str() == machineCreated,
	}
	if t.host == "" || t.address == "" {
		return t, false
	}
	if t.user == "" || t.port == 0 {
		s, err := p.SSH.Settings(t.ssh())
		if t.user, t.port = s.User, s.Port; err != nil {
			t.user, t.port = "root", 22 // the connection says what is wrong
		}
	}
	return t, true
}

// agentAddr, serverAddr, certAddr are a host's own addresses.
func agentAddr(host string) plan.Address   { return plan.Addr("host", host, "agent") }
func storageAddr(host string) plan.Address { return plan.Addr("host", host, "storage") }
func diskAddr(host string) plan.Address    { return plan.Addr("host", host, "data-disk") }
func bucketAddr(name string) plan.Address  { return plan.Addr("backup", name) }
func serverAddr(host string) plan.Address  { return plan.Addr("server", host) }
func certAddr(host string) plan.Address    { return plan.Addr("cert", host) }
func mailboxAddr(local, domain string) plan.Address {
	return plan.Addr("mailbox", local+"@"+domain)
}
func aliasAddr(local, domain string) plan.Address   { return plan.Addr("alias", local+"@"+domain) }
func catchAllAddr(domain string) plan.Address       { return plan.Addr("catch-all", domain) }
func dkimAddr(domain, selector string) plan.Address { return plan.Addr("dkim", domain, selector) }
