package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"mailform/server/manifest"
)

// Who may reach the machine: what its SSH server accepts, and its own firewall
// behind the cloud's. Both can lock everybody out, so they change last and only
// within a trial. Nothing of others is touched: the SSH server reads a file of
// ours, and the firewall has a table of its own.

// FirewallUnit loads the firewall at boot, before the network is there.
const FirewallUnit = manifest.FirewallUnit

// firewallUnits are all units of the firewall's.
var firewallUnits = []string{FirewallUnit, manifest.BansSocketUnit, manifest.BansServiceUnit}

// includesDropIns finds the line of sshd_config that reads the folder our file is in.
var includesDropIns = regexp.MustCompile(`(?im)^[ \t]*Include[ \t].*/?sshd_config\.d/\*\.conf`)

// sshText turns log-in by password off. The first value counts, sshd_config(5),
// and our file is read before those of cloud-init.
const sshText = `PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
`

// access is what the manifest wants of the machine's doors.
type access struct {
	ssh, rules, unit *fileItem // nil: not wanted
	socket, service  *fileItem // of the bans
	advice           []string  // what is wanted and cannot be had here
}

func (a *Agent) access(m *manifest.Manifest) access {
	var out access
	if m.HardenSSH {
		config, err := os.ReadFile(a.Layout.SSHConfig())
		if err == nil && includesDropIns.Match(config) {
			out.ssh = a.file(a.Layout.SSHDropIn(), sshText, 0o644)
		} else {
			out.advice = append(out.advice, "log-in by password stays as it is: "+a.Layout.SSHConfig()+" reads no sshd_config.d/*.conf")
		}
	}
	if len(m.Firewall) > 0 {
		if a.Tools.Has("nft") {
			out.rules = a.file(a.Layout.FirewallFile(), firewallText(m.Firewall)+bansText(m), 0o644)
			out.socket, out.service = a.bansUnits(m)
			out.unit = a.file(filepath.Join(a.Layout.UnitDir(), FirewallUnit), firewallUnitText(), 0o644)
		} else {
			out.advice = append(out.advice, "the host has no firewall of its own: nft is not installed")
		}
	}
	return out
}

func (x access) files() []*fileItem {
	return slices.DeleteFunc([]*fileItem{x.ssh, x.rules, x.unit, x.socket, x.service}, func(f *fileItem) bool { return f == nil })
}

// accessFiles are all files that access may want.
func (a *Agent) accessFiles() []string {
	out := []string{a.Layout.SSHDropIn(), a.Layout.FirewallFile()}
	for _, unit := range firewallUnits {
		out = append(out, filepath.Join(a.Layout.UnitDir(), unit))
	}
	return out
}

// accessDrift says in words what a converge would change; ssh and firewall say
// whose matter it is.
func (a *Agent) accessDrift(ctx context.Context, m *manifest.Manifest) (drift []string, ssh, firewall bool, err error) {
	want := a.access(m)
	wanted := map[string]bool{}
	note := func(f *fileItem, text string) {
		drift = append(drift, text)
		if f.path == a.Layout.SSHDropIn() {
			ssh = true
		} else {
			firewall = true
		}
	}
	for _, f := range want.files() {
		wanted[f.path] = true
		diff, err := f.check()
		if err != nil {
			return nil, false, false, err
		}
		if diff != "" {
			note(f, f.name()+" "+diff)
		}
	}
	for _, path := range a.accessFiles() {
		if f := (&fileItem{a: a, path: path}); !wanted[path] && f.ours() {
			note(f, f.name()+" is there, though nothing asks for it")
		}
	}
	if want.rules != nil && !a.firewallLoaded(ctx) {
		drift, firewall = append(drift, "the host's firewall is not loaded"), true
	}
	return drift, ssh, firewall, nil
}

// stopKnown stops a unit that systemd may not have heard of yet.
func (a *Agent) stopKnown(ctx context.Context, unit string) error {
	states, err := a.Systemd.Units(ctx, unit)
	if err != nil || states[0].LoadState == "not-found" {
		return err
	}
	return a.Systemd.Stop(ctx, unit)
}

// ours reports whether the file is there and begins with Header.
func (f *fileItem) ours() bool {
	b, err := os.ReadFile(f.path)
	return err == nil && strings.HasPrefix(string(b), Header)
}

func (a *Agent) firewallLoaded(ctx context.Context) bool {
	return a.tableLoaded(ctx, "mailform") && a.tableLoaded(ctx, "mailform_bans")
}

func (a *Agent) tableLoaded(ctx context.Context, name string) bool {
	return a.Tools.Has("nft") && a.Tools.Run(ctx, "nft", "list", "table", "inet", name) == nil
}

// access brings the doors to what is wanted. It is the last thing of a converge,
// so that the wait for the confirmation begins with it.
func (c *converge) access(ctx context.Context) error {
	a := c.a
	drift, ssh, firewall, err := a.accessDrift(ctx, &c.req.Manifest)
	if err != nil {
		return err
	}
	want := a.access(&c.req.Manifest)
	if c.req.DryRun {
		for _, d := range drift {
			c.step("access", "would change", d)
		}
		return nil
	}
	for _, text := range want.advice {
		c.step("access", "unchanged", text)
	}
	// A run that was cut off may have written files that nothing has read yet.
	ssh, firewall = ssh || c.resumed && c.trial.SSH, firewall || c.resumed && c.trial.Firewall
	if !ssh && !firewall {
		return nil
	}
	keep := map[string]bool{}
	for _, f := range want.files() {
		keep[f.path] = true
		if err := f.apply(ctx); err != nil {
			return err
		}
	}
	for _, path := range a.accessFiles() {
		if f := (&fileItem{a: a, path: path}); !keep[path] && f.ours() {
			if err := a.endUnit(ctx, path); err != nil {
				return err
			}
			if err := a.dropFile(path); err != nil {
				return err
			}
		}
	}
	if err := a.arm(ctx, c.trial); err != nil {
		return err
	}
	if ssh {
		if err := a.reloadSSH(ctx); err != nil {
			return fmt.Errorf("the SSH server: %w", err)
		}
		c.step("ssh server", "changed", strings.Join(drift, "; "))
	}
	if firewall {
		if err := a.loadFirewall(ctx); err != nil {
			return err
		}
		if want.unit != nil {
			if err := a.loadUnits(ctx, FirewallUnit); err != nil {
				return err
			}
			if err := a.Systemd.Enable(ctx, FirewallUnit); err != nil {
				return err
			}
		}
		if err := a.loadBans(ctx); err != nil {
			return err
		}
		c.step("firewall", "changed", strings.Join(drift, "; "))
	}
	return nil
}

// loadFirewall makes the kernel's table what the file says; without one there is none.
func (a *Agent) loadFirewall(ctx context.Context) error {
	text, err := os.ReadFile(a.Layout.FirewallFile())
	there := err == nil
	if there {
		if err := a.Tools.Run(ctx, "nft", "-f", a.Layout.FirewallFile()); err != nil {
			return err
		}
	} else if a.tableLoaded(ctx, "mailform") {
		if err := a.Tools.Run(ctx, "nft", "delete", "table", "inet", "mailform"); err != nil {
			return err
		}
	}
	if bans := there && strings.Contains(string(text), bansTable); bans || !a.tableLoaded(ctx, "mailform_bans") {
		return nil
	}
	return a.Tools.Run(ctx, "nft", "delete", "table", "inet", "mailform_bans")
}

// endUnit stops and disables the unit of a file that goes; other files are none.
func (a *Agent) endUnit(ctx context.Context, path string) error {
	unit := filepath.Base(path)
	if !slices.Contains(firewallUnits, unit) {
		return nil
	}
	if unit != FirewallUnit { // which runs at boot only
		if err := a.stopKnown(ctx, unit); err != nil {
			return err
		}
	}
	if unit == manifest.BansServiceUnit { // which its socket starts
		return nil
	}
	return a.Systemd.Disable(ctx, unit)
}

// resumeAccess lets what a change of the doors has touched read its old files again.
func (a *Agent) resumeAccess(ctx context.Context, r *trialRecord) error {
	var failed []error
	if r.SSH {
		failed = append(failed, a.reloadSSH(ctx))
	}
	if r.Firewall {
		failed = append(failed, a.loadFirewall(ctx), a.loadBans(ctx))
	}
	return errors.Join(failed...)
}

// removeAccess takes the doors' files away, with what they do.
func (a *Agent) removeAccess(ctx context.Context, remove func(string) error) error {
	ssh, rules := fileExists(a.Layout.SSHDropIn()), fileExists(a.Layout.FirewallFile())
	for _, path := range a.accessFiles() {
		if f := (&fileItem{a: a, path: path}); f.ours() {
			if err := a.endUnit(ctx, path); err != nil {
				return err
			}
			if err := remove(path); err != nil {
				return err
			}
		}
	}
	return a.resumeAccess(ctx, &trialRecord{SSH: ssh, Firewall: rules})
}

// firewallText is a table of our own that lets in what the spec opens and nothing
// else. One file replaces the whole table in one step, nft(8).
func firewallText(openings []manifest.Opening) string {
	var b strings.Builder
	b.WriteString(`table inet mailform
delete table inet mailform
table inet mailform {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		ct state invalid drop
		iif "lo" accept
		meta l4proto { 1, 58 } accept comment "ICMP, for both families"
		udp sport 67 udp dport 68 accept
		udp sport 547 udp dport 546 accept
`)
	for _, o := range openings {
		ports := fmt.Sprint(o.FromPort)
		if o.ToPort != o.FromPort {
			ports = fmt.Sprintf("%d-%d", o.FromPort, o.ToPort)
		}
		for _, family := range []string{"ip", "ip6"} {
			from := o.Sources(family == "ip6")
			if len(from) == 0 {
				continue
			}
			fmt.Fprintf(&b, "\t\t%s saddr { %s } %s dport %s accept comment %q\n", family, strings.Join(from, ", "), o.Protocol, ports, o.Name)
		}
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// firewallUnitText loads the table before there is a network; what the
// distribution loads at boot would otherwise flush it.
func firewallUnitText() string {
	return fmt.Sprintf(`[Unit]
Description=mailform's firewall
ConditionPathExists=%[1]s
DefaultDependencies=no
RequiresMountsFor=%[1]s
After=local-fs.target nftables.service %[2]s
Before=network-pre.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
ExecStart=/usr/sbin/nft -f %[1]s

[Install]
WantedBy=multi-user.target
`, manifest.Layout{Root: "/"}.FirewallFile(), revertAtBoot)
}
