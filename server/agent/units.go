package agent

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"mailform/server/manifest"
)

// ServiceUnit is the daemon's systemd service.
const ServiceUnit = manifest.ServiceUnit

// SocketUnit is the socket unit of a listening service.
func SocketUnit(p manifest.ServicePort) string { return "mailformd-" + p.Name + ".socket" }

func socketUnits(services []manifest.ServicePort) []string {
	var names []string
	for _, p := range services {
		names = append(names, SocketUnit(p))
	}
	return names
}

// unitItems are the unit files of some services: the service first, then its
// sockets in their order.
func (a *Agent) unitItems(services []manifest.ServicePort) []*fileItem {
	items := []*fileItem{a.file(filepath.Join(a.Layout.UnitDir(), ServiceUnit), serviceText(services), 0o644)}
	for _, p := range services {
		items = append(items, a.file(a.socketFile(p), socketText(p), 0o644))
	}
	return items
}

func (a *Agent) socketFile(p manifest.ServicePort) string {
	return filepath.Join(a.Layout.UnitDir(), SocketUnit(p))
}

// strayServices are the services whose socket unit is there although nobody
// asks for them any more.
func (a *Agent) strayServices(m *manifest.Manifest) []manifest.ServicePort {
	wanted := manifest.ServicesOf(m)
	return slices.DeleteFunc(manifest.EveryService(), func(p manifest.ServicePort) bool {
		return slices.Contains(wanted, p) || !(&fileItem{a: a, path: a.socketFile(p)}).ours()
	})
}

// serviceText is the service unit. The sockets are systemd's, so the service
// needs no capability at all, and connections wait in the kernel while it
// restarts. Paths are those of a real machine: units are read by its systemd.
func serviceText(services []manifest.ServicePort) string {
	real := manifest.Layout{Root: "/"}
	sockets := strings.Join(socketUnits(services), " ")
	return fmt.Sprintf(`[Unit]
Description=mailform mail server
Wants=network-online.target
After=network-online.target %[1]s
Requires=%[1]s
RequiresMountsFor=%[5]s
ConditionPathExists=!%[6]s
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=notify
ExecStart=%[2]s serve
ExecReload=%[2]s reload
Sockets=%[1]s
User=%[3]s
Group=%[3]s
Restart=on-failure
RestartSec=1
TimeoutStopSec=30
WatchdogSec=30
LimitNOFILE=65536
TasksMax=4096
MemoryHigh=75%%
MemoryMax=85%%
RuntimeDirectory=mailform
RuntimeDirectoryMode=0750
ReadWritePaths=%[4]s
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
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
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
`, sockets, real.ActiveBinary(), User, real.StoreDir(), real.StateDir(), real.MovingFile())
}

// socketText is the socket unit of one port. Without an address systemd
// listens on IPv6 and IPv4.
func socketText(p manifest.ServicePort) string {
	return fmt.Sprintf(`[Unit]
Description=mailform %[1]s socket
ConditionPathExists=!%[4]s

[Socket]
ListenStream=%[2]d
FileDescriptorName=%[1]s
Service=%[3]s
Backlog=4096
KeepAlive=yes

[Install]
WantedBy=sockets.target
`, p.Name, p.Port, ServiceUnit, manifest.Layout{Root: "/"}.MovingFile())
}
