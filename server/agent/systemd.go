package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"mailform/server/manifest"
)

// Systemd is what the agent needs of the machine's service manager.
type Systemd interface {
	// Available fails, in words, on a machine that is not run by systemd.
	Available(ctx context.Context) error
	// Sysusers makes the users that a sysusers.d file declares.
	Sysusers(ctx context.Context, file string) error
	// RemoveUser takes a user and the group of the same name away.
	RemoveUser(ctx context.Context, user string) error
	DaemonReload(ctx context.Context) error
	Enable(ctx context.Context, units ...string) error
	Disable(ctx context.Context, units ...string) error
	Start(ctx context.Context, units ...string) error
	Stop(ctx context.Context, units ...string) error
	Restart(ctx context.Context, units ...string) error
	// Reload makes a running service read its configuration again.
	Reload(ctx context.Context, unit string) error
	// ResetFailed forgets that units failed, and how often they were started.
	ResetFailed(ctx context.Context, units ...string) error
	// Listening returns the TCP addresses that a socket unit listens on: "[::]:25".
	Listening(ctx context.Context, unit string) ([]string, error)
	// Units returns the state of each unit, in order. Units that do not exist
	// have the LoadState "not-found".
	Units(ctx context.Context, units ...string) ([]UnitState, error)
	// Log returns the last lines a unit wrote, for an error message.
	Log(ctx context.Context, unit string, lines int) string
}

// UnitState is what `systemctl show` says about a unit.
type UnitState struct {
	LoadState        string // "loaded", "not-found", …
	ActiveState      string // "active", "inactive", "failed", …
	UnitFileState    string // "enabled", "disabled", …
	MainExe          string // the file a service's main process runs; "" when it does not run
	NeedDaemonReload bool
}

// systemctlTimeout bounds one call: longer than the 90 s that systemd gives a
// service to become ready.
const systemctlTimeout = 2 * time.Minute

// Systemctl is the Systemd that runs systemctl, systemd-sysusers and
// journalctl as found in PATH.
type Systemctl struct{}

func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, systemctlTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if msg := strings.TrimSpace(stderr.String()); msg != "" {
			err = fmt.Errorf("%s (%w)", msg, err)
		}
		return out, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out, nil
}

func systemctl(ctx context.Context, args ...string) error {
	_, err := run(ctx, "systemctl", args...)
	return err
}

// Available implements Systemd.
func (Systemctl) Available(ctx context.Context) error {
	out, err := run(ctx, "systemctl", "show", "--property=Version")
	if errors.Is(err, exec.ErrNotFound) {
		return failf(manifest.ExitFailed, "systemctl is not found: mailform needs a machine that is run by systemd")
	}
	if err != nil {
		return failf(manifest.ExitFailed, "systemd does not answer (%v): mailform needs a machine that is run by systemd", err)
	}
	if v, ok := manifest.SystemdVersion(string(out)); ok && v < manifest.MinSystemd {
		return failf(manifest.ExitFailed, "systemd %d is too old: mailform needs %d or later", v, manifest.MinSystemd)
	}
	return nil
}

// Sysusers implements Systemd.
func (Systemctl) Sysusers(ctx context.Context, file string) error {
	_, err := run(ctx, "systemd-sysusers", file)
	return err
}

// RemoveUser implements Systemd. systemd only makes users; userdel(8) is part of
// every system that has useradd.
func (Systemctl) RemoveUser(ctx context.Context, user string) error {
	_, err := run(ctx, "userdel", user)
	return err
}

// DaemonReload implements Systemd.
func (Systemctl) DaemonReload(ctx context.Context) error { return systemctl(ctx, "daemon-reload") }

// Enable implements Systemd.
func (Systemctl) Enable(ctx context.Context, units ...string) error {
	return systemctl(ctx, append([]string{"enable", "--quiet"}, units...)...)
}

// Disable implements Systemd.
func (Systemctl) Disable(ctx context.Context, units ...string) error {
	return systemctl(ctx, append([]string{"disable", "--quiet"}, units...)...)
}

// Start implements Systemd.
func (Systemctl) Start(ctx context.Context, units ...string) error {
	return systemctl(ctx, append([]string{"start"}, units...)...)
}

// Stop implements Systemd.
func (Systemctl) Stop(ctx context.Context, units ...string) error {
	return systemctl(ctx, append([]string{"stop"}, units...)...)
}

// Restart implements Systemd.
func (Systemctl) Restart(ctx context.Context, units ...string) error {
	return systemctl(ctx, append([]string{"restart"}, units...)...)
}

// Reload implements Systemd.
func (Systemctl) Reload(ctx context.Context, unit string) error {
	return systemctl(ctx, "reload", unit)
}

// ResetFailed implements Systemd.
func (Systemctl) ResetFailed(ctx context.Context, units ...string) error {
	return systemctl(ctx, append([]string{"reset-failed"}, units...)...)
}

// Listening implements Systemd.
func (Systemctl) Listening(ctx context.Context, unit string) ([]string, error) {
	out, err := run(ctx, "systemctl", "show", "--property=Listen", unit)
	if err != nil {
		return nil, err
	}
	return parseListen(string(out)), nil
}

// parseListen reads lines like "Listen=[::]:25 (Stream)".
func parseListen(out string) []string {
	var addrs []string
	for line := range strings.Lines(out) {
		v, ok := strings.CutPrefix(strings.TrimSpace(line), "Listen=")
		if addr, kind, _ := strings.Cut(v, " "); ok && kind == "(Stream)" {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// Units implements Systemd.
func (Systemctl) Units(ctx context.Context, units ...string) ([]UnitState, error) {
	out, err := run(ctx, "systemctl", append([]string{"show",
		"--property=Id,LoadState,ActiveState,UnitFileState,MainPID,NeedDaemonReload"}, units...)...)
	if err != nil {
		return nil, err
	}
	states := parseShow(string(out))
	if len(states) != len(units) {
		return nil, fmt.Errorf("systemctl show answered for %d units, not %d", len(states), len(units))
	}
	return states, nil
}

// parseShow reads the blocks that `systemctl show` prints, one per unit, with
// an empty line between.
func parseShow(out string) []UnitState {
	var states []UnitState
	for block := range strings.SplitSeq(strings.TrimSpace(out), "\n\n") {
		var u UnitState
		for line := range strings.Lines(block) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch k {
			case "LoadState":
				u.LoadState = v
			case "ActiveState":
				u.ActiveState = v
			case "UnitFileState":
				u.UnitFileState = v
			case "MainPID":
				if pid, err := strconv.Atoi(v); err == nil && pid > 0 {
					u.MainExe, _ = os.Readlink("/proc/" + v + "/exe") // gone: it has just ended
				}
			case "NeedDaemonReload":
				u.NeedDaemonReload = v == "yes"
			}
		}
		states = append(states, u)
	}
	return states
}

// Log implements Systemd.
func (Systemctl) Log(ctx context.Context, unit string, lines int) string {
	out, err := run(ctx, "journalctl", "--unit="+unit, "--lines="+strconv.Itoa(lines), "--output=cat", "--no-pager")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
