package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"mailform/server/limits"
	"mailform/server/manifest"
)

// Bans in the kernel: a table of our own with a set of clients for each family,
// whose packets to the mail ports are dropped until their time is over. Other ports
// are never closed by a ban, so that nobody is shut out of the machine, and the
// networks that the spec names are let through before. The table is apart from the
// firewall's, which is made anew whenever it changes.

// bansTable is the table's name for nft(8).
const bansTable = "inet mailform_bans"

// maxBanned is how many clients each set has room for.
const maxBanned = 4096

// bansText makes the table and its rules, and leaves the clients that are in it.
func bansText(m *manifest.Manifest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "add table %[1]s\nadd set %[1]s banned4 { type ipv4_addr; flags timeout; size %[2]d; }\nadd set %[1]s banned6 { type ipv6_addr; flags timeout; size %[2]d; }\n"+
		"add chain %[1]s input { type filter hook input priority filter - 5; policy accept; }\nflush chain %[1]s input\nadd rule %[1]s input iif \"lo\" accept\n", bansTable, maxBanned)
	for _, family := range []string{"ip", "ip6"} {
		var never []string
		for _, p := range neverBanned(m) {
			if p.Addr().Is6() == (family == "ip6") {
				never = append(never, p.String())
			}
		}
		if len(never) > 0 {
			fmt.Fprintf(&b, "add rule %s input %s saddr { %s } accept\n", bansTable, family, strings.Join(never, ", "))
		}
	}
	var ports []string
	for _, s := range manifest.ServicesOf(m) {
		ports = append(ports, fmt.Sprint(s.Port))
	}
	fmt.Fprintf(&b, "add rule %[1]s input tcp dport { %[2]s } ip saddr @banned4 counter drop\nadd rule %[1]s input tcp dport { %[2]s } ip6 saddr & ffff:ffff:ffff:ffff:: @banned6 counter drop\n",
		bansTable, strings.Join(ports, ", "))
	return b.String()
}

// neverBanned are the networks that the spec lets in by name: those that may log in,
// and those of allow blocks. Everybody is nobody in particular.
func neverBanned(m *manifest.Manifest) []netip.Prefix {
	var out []netip.Prefix
	for _, o := range m.Firewall {
		for _, from := range o.From {
			if p, err := netip.ParsePrefix(from); err == nil && p.Bits() > 0 && !slices.Contains(out, p.Masked()) {
				out = append(out, p.Masked())
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	// What lies within another has been said; nft takes no intervals that overlap.
	return slices.DeleteFunc(slices.Clone(out), func(p netip.Prefix) bool {
		return slices.ContainsFunc(out, func(q netip.Prefix) bool { return q.Bits() < p.Bits() && q.Contains(p.Addr()) })
	})
}

// sshPort is where the machine's SSH server listens, as the spec says it.
func sshPort(m *manifest.Manifest) int {
	for _, o := range m.Firewall {
		if o.Name == "ssh" {
			return o.FromPort
		}
	}
	return 22
}

// bansUnits are the socket on which the daemon, which has no rights, asks for bans,
// and the service that checks what it asks and tells the kernel.
func (a *Agent) bansUnits(m *manifest.Manifest) (socket, service *fileItem) {
	real := manifest.Layout{Root: "/"}
	socket = a.file(filepath.Join(a.Layout.UnitDir(), manifest.BansSocketUnit), fmt.Sprintf(`[Unit]
Description=mailform hears whom to ban

[Socket]
ListenDatagram=%s
SocketUser=root
SocketGroup=%s
SocketMode=0660
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
`, real.BansSocket(), User), 0o644)
	args := fmt.Sprintf(" --ssh-port %d", sshPort(m))
	for _, p := range neverBanned(m) {
		args += " --never " + p.String()
	}
	service = a.file(filepath.Join(a.Layout.UnitDir(), manifest.BansServiceUnit), fmt.Sprintf(`[Unit]
Description=mailform drops the packets of banned clients
Requires=%[1]s
After=%[1]s

[Service]
ExecStart=%[2]s bans serve%[3]s
TasksMax=64
MemoryMax=128M
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
UMask=0077
RemoveIPC=yes
IPAddressDeny=any
RestrictAddressFamilies=AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@resources
`, manifest.BansSocketUnit, real.ActiveBinary(), args), 0o644)
	return socket, service
}

// loadBans lets systemd hear on the socket, or no more.
func (a *Agent) loadBans(ctx context.Context) error {
	if !fileExists(filepath.Join(a.Layout.UnitDir(), manifest.BansSocketUnit)) {
		return nil
	}
	if err := a.loadUnits(ctx, manifest.BansSocketUnit, manifest.BansServiceUnit); err != nil {
		return err
	}
	if err := a.Systemd.Enable(ctx, manifest.BansSocketUnit); err != nil {
		return err
	}
	// It begins again, with what its unit says now, when it is asked for something.
	if err := a.Systemd.Stop(ctx, manifest.BansServiceUnit); err != nil {
		return err
	}
	return a.Systemd.Restart(ctx, manifest.BansSocketUnit)
}

// Bans lists who is banned.
func (a *Agent) Bans(ctx context.Context) (manifest.BanList, error) {
	list := manifest.BanList{Bans: []manifest.Ban{}}
	if !fileExists(a.Layout.FirewallFile()) || !a.Tools.Has("nft") {
		return list, nil
	}
	text, err := a.Tools.Output(ctx, "nft", "-j", "list", "table", "inet", "mailform_bans")
	if err != nil {
		return list, err
	}
	list.On = true
	list.Bans, err = parseBans(text)
	return list, err
}

// parseBans reads what `nft -j list table` prints, libnftables-json(5).
func parseBans(text []byte) ([]manifest.Ban, error) {
	type element struct {
		Elem struct {
			Val     string `json:"val"`
			Expires int64  `json:"expires"`
		} `json:"elem"`
	}
	var doc struct {
		Objects []struct {
			Set *struct {
				Name string            `json:"name"`
				Elem []json.RawMessage `json:"elem"`
			} `json:"set"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("what nft says of %s: %w", bansTable, err)
	}
	out := []manifest.Ban{}
	for _, o := range doc.Objects {
		if o.Set == nil || o.Set.Name != "banned4" && o.Set.Name != "banned6" {
			continue
		}
		for _, raw := range o.Set.Elem {
			var e element
			if err := json.Unmarshal(raw, &e); err != nil {
				continue // added by hand, without a time
			}
			addr, err := netip.ParseAddr(e.Elem.Val)
			if err != nil {
				continue
			}
			out = append(out, manifest.Ban{Client: clientText(addr), Seconds: e.Elem.Expires})
		}
	}
	slices.SortFunc(out, func(a, b manifest.Ban) int { return strings.Compare(a.Client, b.Client) })
	return out, nil
}

// clientText writes the client that an address belongs to.
func clientText(a netip.Addr) string {
	client, _ := limits.Prefixes(a)
	if client.Addr().Is4() {
		return client.Addr().String()
	}
	return client.String()
}

// LiftBan ends a client's ban, and what the daemon remembers of it.
func (a *Agent) LiftBan(ctx context.Context, req manifest.LiftRequest) (manifest.Lifted, error) {
	addr, err := netip.ParseAddr(strings.TrimSuffix(req.Address, "/64"))
	if err != nil || addr.Zone() != "" {
		return manifest.Lifted{}, failf(manifest.ExitRequest, "%q is not an IP address", req.Address)
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return manifest.Lifted{}, err
	}
	defer unlock()
	if req.Stack != "" { // a person on the host needs no claim
		if err := a.owned(req.Claim); err != nil {
			return manifest.Lifted{}, err
		}
	}
	out, err := a.lift(ctx, addr)
	if err == nil {
		_ = a.Daemon.Lift(ctx, addr) // one that does not serve remembers nothing
	}
	return out, err
}

// owned checks that the host is the claimant's, whatever its epoch.
func (a *Agent) owned(c manifest.Claim) error {
	o, err := a.readOwner()
	if err != nil {
		return err
	}
	if o == nil || o.Stack != c.Stack || o.Host != c.Host {
		return failf(manifest.ExitOwned, "this machine is not host %q of stack %q", c.Host, c.Stack)
	}
	return nil
}

func (a *Agent) lift(ctx context.Context, addr netip.Addr) (manifest.Lifted, error) {
	client, _ := limits.Prefixes(addr)
	out := manifest.Lifted{Client: clientText(addr)}
	list, err := a.Bans(ctx)
	if err != nil {
		return out, err
	}
	if !slices.ContainsFunc(list.Bans, func(b manifest.Ban) bool { return b.Client == out.Client }) {
		return out, nil
	}
	out.Lifted = true
	return out, a.Tools.Run(ctx, "nft", "delete", "element", "inet", "mailform_bans", bansSet(client), "{ "+client.Addr().String()+" }")
}

func bansSet(client netip.Prefix) string {
	if client.Addr().Is4() {
		return "banned4"
	}
	return "banned6"
}

// admitPeers lifts the bans of whoever is logged in over SSH now: who applies is to
// reach the mail ports, which he will look at.
func (a *Agent) admitPeers(ctx context.Context, m *manifest.Manifest) error {
	list, err := a.Bans(ctx)
	if err != nil || len(list.Bans) == 0 {
		return nil // a firewall that is not loaded is somebody else's matter: accessDrift
	}
	for _, peer := range sshPeers(a.Layout, sshPort(m)) {
		if slices.ContainsFunc(list.Bans, func(b manifest.Ban) bool { return b.Client == clientText(peer) }) {
			if _, err := a.lift(ctx, peer); err != nil {
				return err
			}
			_ = a.Daemon.Lift(ctx, peer)
		}
	}
	return nil
}
