package agent

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
)

// distribution is what of a system decides over what the agent does there.
type distribution struct {
	osRelease string
	os        string // "ID VERSION_ID"
	systemd   int
	version   string // as systemctl prints it
	enforcing bool   // SELinux
}

// distributions are the systems that mailform serves from, in the words of their
// os-release(5) and of their systemd.
var distributions = map[string]distribution{
	"Debian 12": {osRelease: "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION=\"12 (bookworm)\"\nID=debian\n",
		os: "debian 12", systemd: 252, version: "Version=252.39-1~deb12u1"},
	"Debian 13": {osRelease: "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nID=debian\n",
		os: "debian 13", systemd: 257, version: "Version=257.8-1~deb13u2"},
	"Ubuntu 22.04": {osRelease: "PRETTY_NAME=\"Ubuntu 22.04.5 LTS\"\nVERSION_ID=\"22.04\"\nID=ubuntu\nID_LIKE=debian\n",
		os: "ubuntu 22.04", systemd: 249, version: "Version=249.11-0ubuntu3.16"},
	"Ubuntu 24.04": {osRelease: "PRETTY_NAME=\"Ubuntu 24.04.3 LTS\"\nVERSION_ID=\"24.04\"\nID=ubuntu\nID_LIKE=debian\n",
		os: "ubuntu 24.04", systemd: 255, version: "Version=255.4-1ubuntu8.10"},
	"Alibaba Cloud Linux 3": {osRelease: "NAME=\"Alibaba Cloud Linux\"\nVERSION=\"3 (OpenAnolis Edition)\"\nID=\"alinux\"\nID_LIKE=\"rhel fedora centos anolis\"\nVERSION_ID=\"3\"\n",
		os: "alinux 3", systemd: 239, version: "Version=239 (239-82.0.3.4.al8.2)"},
	"CentOS Stream 9": {osRelease: "NAME=\"CentOS Stream\"\nVERSION=\"9\"\nID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"9\"\n",
		os: "centos 9", systemd: 252, version: "Version=252-55.el9", enforcing: true},
	"AlmaLinux 9": {osRelease: "NAME=\"AlmaLinux\"\nVERSION=\"9.6 (Sage Margay)\"\nID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.6\"\n",
		os: "almalinux 9.6", systemd: 252, version: "Version=252-51.el9_6.1", enforcing: true},
}

// labels are Tools that notice what SELinux is told.
type labels struct {
	*machine
	set []string
}

func (l *labels) Run(ctx context.Context, program string, args ...string) error {
	if program == "chcon" {
		l.set = append(l.set, strings.Join(args, " "))
		return nil
	}
	return l.machine.Run(ctx, program, args...)
}

func TestDistributions(t *testing.T) {
	t.Parallel()
	for name, d := range distributions {
		t.Run(name, func(t *testing.T) {
			if v, ok := manifest.SystemdVersion(d.version); !ok || v != d.systemd || v < manifest.MinSystemd {
				t.Errorf("%q is version %d, %v", d.version, v, ok)
			}
			m := newMachine(t)
			m.write("/etc/os-release", d.osRelease, 0o644)
			if d.enforcing {
				m.write("/sys/fs/selinux/enforce", "1", 0o644)
			}
			a := m.agent()
			tools := &labels{machine: m}
			a.Tools = tools
			sum, err := fileSHA256(a.Executable)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Install(t.Context(), manifest.InstallRequest{Claim: claim(), SHA256: sum}); err != nil {
				t.Fatal(err)
			}
			var want []string
			if d.enforcing {
				want = []string{"-t bin_t /usr/local/lib/mailform/" + sum + "/mailformd"}
			}
			if !slices.Equal(tools.set, want) {
				t.Errorf("labels %q, expected %q", tools.set, want)
			}
			m.write("/usr/local/lib/mailform/.upload-test", "the program", 0o755)
			if f, err := m.agent().Observe(t.Context()); err != nil || f.OS+" "+f.OSVersion != d.os {
				t.Errorf("observed %+v, %v", f, err)
			}
		})
	}
}

func TestSystemdVersion(t *testing.T) {
	for text, want := range map[string]int{
		"Version=252.39-1~deb12u1\n": 252, "Version=239 (239-82.el8)": 239, "Version=257": 257, "Version=v255": 0, "Version=": 0, "252": 0, "": 0,
	} {
		if got, ok := manifest.SystemdVersion(text); got != want || ok != (want > 0) {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
}

// directives are those of our units, with the version of systemd that brought
// them, systemd's NEWS; 0 is before anything that is still in use.
var directives = map[string]int{
	"Description": 0, "Wants": 0, "After": 0, "Before": 0, "Requires": 0, "Conflicts": 0, "RequiresMountsFor": 0, "ConditionPathExists": 0, "DefaultDependencies": 0,
	"StartLimitIntervalSec": 230, "StartLimitBurst": 230, "WantedBy": 0,
	"Type": 0, "ExecStart": 0, "ExecReload": 0, "Sockets": 0, "User": 0, "Group": 0, "Restart": 0, "RestartSec": 0, "TimeoutStopSec": 0, "TimeoutStartSec": 0, "WatchdogSec": 0,
	"LimitNOFILE": 0, "TasksMax": 227, "MemoryHigh": 231, "MemoryMax": 231, "RuntimeDirectory": 211, "RuntimeDirectoryMode": 211, "ReadWritePaths": 231, "UMask": 0,
	"NoNewPrivileges": 0, "CapabilityBoundingSet": 0, "AmbientCapabilities": 229, "ProtectSystem": 214, "ProtectHome": 214, "PrivateTmp": 0, "PrivateDevices": 209,
	"ProtectHostname": 242, "ProtectClock": 245, "ProtectKernelTunables": 232, "ProtectKernelModules": 232, "ProtectKernelLogs": 244, "ProtectControlGroups": 232,
	"ProtectProc": 247, "ProcSubset": 247, "RestrictAddressFamilies": 211, "RestrictNamespaces": 233, "RestrictRealtime": 231, "RestrictSUIDSGID": 242,
	"LockPersonality": 235, "MemoryDenyWriteExecute": 231, "RemoveIPC": 232, "SystemCallArchitectures": 0, "SystemCallFilter": 0,
	"ListenStream": 0, "FileDescriptorName": 227, "Service": 0, "Backlog": 0, "KeepAlive": 216,
	"IPAddressDeny": 235, "ListenDatagram": 0, "SocketUser": 214, "SocketGroup": 214, "SocketMode": 0, "RemoveOnStop": 214,
	"OnActiveSec": 0, "AccuracySec": 209, "Unit": 0,
	"What": 0, "Where": 0, "Options": 0,
}

// mayBeMissing are directives that only take rights away. An earlier systemd warns
// of them and goes on: the service works there, with fewer walls around it.
var mayBeMissing = []string{"ProtectClock", "ProtectHostname", "ProtectKernelLogs", "ProtectProc", "ProcSubset", "RestrictSUIDSGID"}

// The units mean the same to every systemd that mailform works with.
func TestDirectivesAreKnown(t *testing.T) {
	m := newMachine(t)
	a := m.agent()
	files := append(a.unitItems(manifest.EveryService()), a.revertItems()...)
	socket, service := a.bansUnits(&manifest.Manifest{})
	files = append(files, a.mountUnit(content{kind: "ext4", uuid: "0"}), socket, service)
	newer := map[string]bool{}
	for _, f := range files {
		for line := range strings.Lines(f.content) {
			name, _, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || strings.HasPrefix(line, "#") {
				continue
			}
			since, known := directives[name]
			if !known {
				t.Errorf("%s: since when does systemd know %s=?", filepath.Base(f.path), name)
			}
			if since > manifest.MinSystemd {
				newer[name] = true
			}
		}
	}
	if got := slices.Sorted(maps.Keys(newer)); !slices.Equal(got, slices.Sorted(slices.Values(mayBeMissing))) {
		t.Errorf("systemd %d does not know %q; of these only hardening may be missing: %q", manifest.MinSystemd, got, mayBeMissing)
	}
}

// The shell of the service's user is where all of them have it; on the relatives of
// RHEL /sbin is a link to /usr/sbin.
func TestShell(t *testing.T) {
	if !strings.HasSuffix(strings.TrimSpace(sysusersConf), " /usr/sbin/nologin") {
		t.Errorf("%q", sysusersConf)
	}
}

// A machine that is not run by systemd, or by too old a one, is told apart in words.
func TestAvailable(t *testing.T) {
	for script, want := range map[string]string{
		"echo 'Version=252.39-1~deb12u1'": "",
		"echo 'Version=239 (239-82.el8)'": "",
		"echo 'Version=237'":              "systemd 237 is too old: mailform needs 239 or later",
		"echo 'System has not been booted with systemd as init system (PID 1).' >&2; exit 1": "has not been booted with systemd",
		"missing": "systemctl is not found",
	} {
		dir := t.TempDir()
		if script != "missing" {
			if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("PATH", dir)
		err := Systemctl{}.Available(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", script, err)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Code != manifest.ExitFailed) {
			t.Errorf("%s: %#v", script, err)
		}
	}
}

// A clock that is wrong by a year, either way and back, ends nothing: converges
// go on, leases are neither kept forever nor lost while they are renewed.
func TestClockWrongByAYear(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, step := range []time.Duration{year, -year} {
		m := newMachine(t)
		m.install()
		m.acknowledged(wanted())
		right := m.now
		req := manifest.LeaseRequest{Claim: claim(), ID: "run-1", Seconds: manifest.MinLeaseSeconds}
		first, err := m.agent().AcquireLease(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		m.now = right.Add(step)
		if _, err := m.agent().RenewLease(t.Context(), req); err != nil {
			t.Errorf("clock %s: renew: %v", step, err)
		}
		change := wanted()
		change.Epoch = first.Lease.Epoch
		change.Manifest.MaxMessageBytes = 1 << 20
		m.mustConverge(change)
		m.mustBeQuiet(change)
		// The clock is set right while the lease of the wrong time is there.
		m.now = right.Add(time.Second)
		next, err := m.agent().AcquireLease(t.Context(), manifest.LeaseRequest{Claim: claim(), ID: "run-2", Seconds: manifest.MinLeaseSeconds})
		if err != nil {
			t.Fatalf("clock %s: the next run: %v", step, err)
		}
		change.Epoch = next.Lease.Epoch
		m.mustConverge(change)
		m.mustBeQuiet(change)
	}
}
