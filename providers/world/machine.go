package world

import (
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"

	"mailform/providers/alicloud/alicloudsim"
	"mailform/providers/host/hostsim"
)

// machine is a simulated host at its place in the network.
type machine struct {
	*hostsim.Host
	net *network

	mu sync.Mutex
	ip netip.Addr // the zero Addr while it has no public address
}

var _ alicloudsim.Machine = (*machine)(nil)

// boot starts the machine behind a new instance.
func (w *World) boot(r alicloudsim.BootRequest) (alicloudsim.Machine, error) {
	var keys []string
	if r.PublicKey != "" {
		keys = append(keys, r.PublicKey)
	}
	h, err := hostsim.Start(hostsim.Config{UserData: string(r.UserData), AuthorizedKeys: keys, Env: w.hostEnvironment()})
	if err != nil {
		return nil, fmt.Errorf("boot %s: %w", r.InstanceID, err)
	}
	return w.keep(h), nil
}

// addMachine starts a machine that is there before any spec is applied.
func (w *World) addMachine(ip netip.Addr) error {
	operator, err := os.ReadFile(w.OperatorKey() + ".pub")
	if err != nil {
		return err
	}
	h, err := hostsim.Start(hostsim.Config{AuthorizedKeys: []string{string(operator)}, Env: w.hostEnvironment()})
	if err != nil {
		return fmt.Errorf("start the machine at %s: %w", ip, err)
	}
	m := w.keep(h)
	w.mu.Lock()
	w.machines[ip] = m
	w.hostKeys[ip] = ssh.FingerprintSHA256(h.HostKey())
	w.mu.Unlock()
	m.Attach(ip)
	return nil
}

func (w *World) keep(h *hostsim.Host) *machine {
	m := &machine{Host: h, net: w.net}
	w.mu.Lock()
	w.booted = append(w.booted, m)
	w.mu.Unlock()
	return m
}

// Attach gives the machine a public address.
func (m *machine) Attach(ip netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ip = ip
	m.net.attach(ip, m.Host)
}

// Detach takes it away.
func (m *machine) Detach() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ip.IsValid() {
		m.net.detach(m.ip)
		m.ip = netip.Addr{}
	}
}

// Stop shuts the machine down; Start boots it again.
func (m *machine) Stop() error {
	m.Host.Stop()
	return nil
}

// Destroy ends the machine and deletes what it held.
func (m *machine) Destroy() error {
	m.Detach()
	return m.Host.Destroy()
}

// HostRoots are the root folders of all hosts that were ever started, in that order.
func (w *World) HostRoots() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var roots []string
	for _, m := range w.booted {
		roots = append(roots, m.Root())
	}
	return roots
}
