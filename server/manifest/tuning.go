package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Tuning is what the machine itself is set to for a mail server.
type Tuning struct {
	// Kernel are parameters of the network with their least values: one that is
	// larger already stays. sysctl.d(5)
	Kernel map[string]int64 `json:"kernel,omitempty"`
	// JournalMiB bounds the journal on the disk; 0 leaves it to the system. journald.conf(5), SystemMaxUse
	JournalMiB int `json:"journal_mib,omitempty"`
	// TimeSync turns systemd-timesyncd on where nothing else keeps the clock right.
	TimeSync bool `json:"time_sync,omitempty"`
}

// DefaultTuning is for a machine that is there for mail alone, except that the
// clock of one that mailform did not make is its owner's matter.
func DefaultTuning(timeSync bool) *Tuning {
	return &Tuning{
		Kernel: map[string]int64{
			// Connections that wait while the service restarts; as many as the sockets ask for.
			"net.core.somaxconn": 4096,
			// Those that are being made, before SYN cookies begin.
			"net.ipv4.tcp_max_syn_backlog": 4096,
			"net.ipv4.tcp_syncookies":      1,
		},
		JournalMiB: 1024,
		TimeSync:   timeSync,
	}
}

var kernelParameter = regexp.MustCompile(`^net(\.[a-z0-9_]+)+$`)

func (t *Tuning) validate() error {
	if t == nil {
		return nil
	}
	for name, value := range t.Kernel {
		if !kernelParameter.MatchString(name) || value < 0 {
			return fmt.Errorf("manifest: bad kernel parameter %q = %d", name, value)
		}
	}
	if t.JournalMiB < 0 {
		return fmt.Errorf("manifest: bad size of the journal %d", t.JournalMiB)
	}
	return nil
}

// Parameters are the names of t.Kernel in their order; none for nil.
func (t *Tuning) Parameters() []string {
	if t == nil {
		return nil
	}
	names := make([]string, 0, len(t.Kernel))
	for name := range t.Kernel {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Clock is what the machine's kernel says about its clock.
type Clock struct {
	Synchronized bool `json:"synchronized"`
}

// Layout of what a machine is tuned by.

// SysctlFile and JournalDropIn are mailform's own files in the system's folders.
func (l Layout) SysctlFile() string    { return l.at("/etc/sysctl.d/90-mailform.conf") }
func (l Layout) JournalDropIn() string { return l.at("/etc/systemd/journald.conf.d/mailform.conf") }

// Sysctl is where the kernel shows a parameter, proc_sys(5).
func (l Layout) Sysctl(name string) string {
	return l.at("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
}

// KernelFile holds what parameters were before mailform raised them.
func (l Layout) KernelFile() string { return l.at("/etc/mailform/kernel.json") }

// ClockFile is there once systemd-timesyncd has set the clock.
func (l Layout) ClockFile() string { return l.at("/run/systemd/timesync/synchronized") }
