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
	world    *World
	net      *network
	instance string     // the cloud's id for it; "" when the cloud has not booted it
	key      ssh.Signer // then

	mu   sync.Mutex
	ip   netip.Addr // the zero Addr while it has no public address
	gone bool
}

var _ alicloudsim.Machine = (*machine)(nil)

// boot starts the machine behind a new instance.
func (w *World) boot(r alicloudsim.BootRequest) (alicloudsim.Machine, error) {
	var keys []string
	if r.PublicKey != "" {
		keys = append(keys, r.PublicKey)
	}
	root, disks, err := w.image(func(i image) bool { return i.instance == r.InstanceID })
	if err != nil {
		return nil, fmt.Errorf("boot %s: %w", r.InstanceID, err)
	}
	h, err := hostsim.Start(hostsim.Config{Root: root, Disks: disks, UserData: string(r.UserData), AuthorizedKeys: keys, Env: w.hostEnvironment(r.InstanceID), Watch: w.cfg.Watch, DiskFull: w.cfg.DiskFull, Shim: w.cfg.Shim})
	if err != nil {
		return nil, fmt.Errorf("boot %s: %w", r.InstanceID, err)
	}
	return w.keep(&machine{Host: h, world: w, net: w.net, instance: r.InstanceID}), nil
}

// addMachine starts a machine that is there before any spec is applied.
func (w *World) addMachine(ip netip.Addr) error {
	operator, err := os.ReadFile(w.OperatorKey() + ".pub")
	if err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("start the machine at %s: %w", ip, err) }
	root, disks, err := w.image(func(i image) bool { return i.ip == ip && i.key != nil })
	if err != nil {
		return fail(err)
	}
	key, err := w.machineKey(ip)
	if err != nil {
		return fail(err)
	}
	h, err := hostsim.Start(hostsim.Config{
		Root: root, Disks: disks, HostKeys: []ssh.Signer{key}, AuthorizedKeys: []string{string(operator)}, Env: w.hostEnvironment(""), Watch: w.cfg.Watch,
		DiskFull: w.cfg.DiskFull, Shim: w.cfg.Shim,
	})
	if err != nil {
		return fail(err)
	}
	m := w.keep(&machine{Host: h, world: w, net: w.net, key: key})
	w.mu.Lock()
	w.machines[ip] = m
	w.hostKeys[ip] = ssh.FingerprintSHA256(h.HostKey())
	w.mu.Unlock()
	m.Attach(ip)
	return nil
}

func (w *World) keep(m *machine) *machine {
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
	m.mu.Lock()
	m.gone = true
	m.mu.Unlock()
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
