package host

import (
	"fmt"
	"net"
	"strconv"

	"mailform/plan"
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
}

func (t target) addr() string { return net.JoinHostPort(t.address, strconv.Itoa(t.port)) }

func (t target) String() string {
	return fmt.Sprintf("host %s (ssh %s@%s)", t.host, t.user, t.addr())
}

// The attributes of host/H/agent that say how to reach it. None is compared.
var targetAttrs = []string{"address", "host_key", "machine", "port", "user"}

const (
	machineCreated  = "instance"
	machineExisting = "existing"
)

// targetOf declares how to reach a host.
func targetOf(h *specs.Host) plan.Attrs {
	a := plan.Attrs{
		"machine": plan.String(machineExisting),
		"user":    plan.String(h.SSH.User),
		"port":    plan.Int(int64(h.SSH.Port)),
		"address": plan.String(h.Address.String()),
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
func readTarget(v plan.Value) (target, bool) {
	t := target{
		host:    v.Field("host").Str(),
		address: v.Field("address").Str(),
		port:    int(v.Field("port").Num()),
		user:    v.Field("user").Str(),
		hostKey: v.Field("host_key").Str(),
		created: v.Field("machine").Str() == machineCreated,
	}
	return t, t.host != "" && t.address != "" && t.port > 0 && t.user != ""
}

// agentAddr, serverAddr, certAddr are a host's own addresses.
func agentAddr(host string) plan.Address   { return plan.Addr("host", host, "agent") }
func storageAddr(host string) plan.Address { return plan.Addr("host", host, "storage") }
func diskAddr(host string) plan.Address    { return plan.Addr("host", host, "data-disk") }
func serverAddr(host string) plan.Address  { return plan.Addr("server", host) }
func certAddr(host string) plan.Address    { return plan.Addr("cert", host) }
func mailboxAddr(local, domain string) plan.Address {
	return plan.Addr("mailbox", local+"@"+domain)
}
func aliasAddr(local, domain string) plan.Address   { return plan.Addr("alias", local+"@"+domain) }
func catchAllAddr(domain string) plan.Address       { return plan.Addr("catch-all", domain) }
func dkimAddr(domain, selector string) plan.Address { return plan.Addr("dkim", domain, selector) }
