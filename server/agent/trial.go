package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mailform/server/manifest"
)

// The dead-man switch. Before a converge replaces something that could end the
// service or lock everybody out, it copies what is there to TrialDir, writes a
// record of it and starts a timer of systemd's, which needs neither this process
// nor the connection that it came over. Unless a run confirms the change over a
// new connection, the timer's service takes it back. The same service runs at
// boot, before anything that it could change, so a reboot in the middle takes the
// change back, too.
//
// A change is confirmed by deleting the record, and taken back by putting
// everything in its old place and then deleting the record: either can be cut off
// anywhere and be begun again.

// The units that take an unconfirmed change back.
const (
	revertService = "mailformd-revert.service"
	revertTimer   = "mailformd-revert.timer"
	revertAtBoot  = "mailformd-revert-boot.service"
)

// trialRecord is Layout.TrialFile.
type trialRecord struct {
	ID     string      `json:"id"`
	Until  time.Time   `json:"until"`
	BootID string      `json:"boot_id"`
	Active string      `json:"active"` // the version that served; "" when the service is no part of it
	Files  []savedFile `json:"files"`

	SSH      bool `json:"ssh,omitempty"`      // what the SSH server reads is a part of it
	Firewall bool `json:"firewall,omitempty"` // the host's firewall is
}

// savedFile is a file as it was. Saved is its copy in TrialDir, "" for one that
// was not there.
type savedFile struct {
	Path  string      `json:"path"`
	Saved string      `json:"saved,omitempty"`
	Mode  fs.FileMode `json:"mode,omitempty"`
	GID   int         `json:"gid"`
}

func (a *Agent) readTrial() (*trialRecord, error) {
	r := &trialRecord{}
	ok, err := readJSON(a.Layout.TrialFile(), r)
	if err != nil || !ok {
		return nil, err
	}
	return r, nil
}

func (a *Agent) bootID() string {
	b, err := os.ReadFile(a.Layout.BootIDFile())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// trialFiles are the files that a converge can change and that decide over the
// service and the access to the machine.
func (a *Agent) trialFiles() []string {
	files := []string{a.Layout.ManifestFile(), a.Layout.CredentialsFile(), a.Layout.RetainedFile()}
	for _, u := range a.unitItems(manifest.EveryService()) {
		files = append(files, u.path)
	}
	return files
}

// beginTrial saves what there is and starts the timer. The agent lock is held.
func (a *Agent) beginTrial(ctx context.Context, r trialRecord) (*trialRecord, error) {
	for _, u := range a.revertItems() { // they may be new, too
		diff, err := u.check()
		if err == nil && diff != "" {
			err = u.apply(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := a.loadUnits(ctx, revertService, revertTimer); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(a.Layout.TrialDir()); err != nil { // of one that was cut off before it began
		return nil, err
	}
	if err := mkdirAll(a.Layout.TrialDir(), 0o700); err != nil {
		return nil, err
	}
	r.ID, r.BootID = rand.Text()[:12], a.bootID()
	files := a.accessFiles()
	if r.Active != "" {
		files = append(files, a.trialFiles()...)
	}
	for i, path := range files {
		s := savedFile{Path: path}
		fi, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		default:
			s.Saved, s.Mode, s.GID = strconv.Itoa(i), fi.Mode().Perm(), -1
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				s.GID = int(st.Gid)
			}
			if err := copyFile(path, filepath.Join(a.Layout.TrialDir(), s.Saved), 0o600); err != nil {
				return nil, err
			}
		}
		r.Files = append(r.Files, s)
	}
	return &r, a.arm(ctx, &r)
}

// arm lets the wait for the confirmation begin, again or for the first time.
func (a *Agent) arm(ctx context.Context, r *trialRecord) error {
	r.Until = a.Now().UTC().Add(manifest.TrialSeconds * time.Second)
	if err := writeJSON(a.Layout.TrialFile(), r, 0o600); err != nil {
		return err
	}
	// The timer may have elapsed while this was at work; what it started waits for the lock.
	if err := a.Systemd.Stop(ctx, revertService); err != nil {
		return err
	}
	return a.Systemd.Restart(ctx, revertTimer)
}

// trialFor returns the record of the change that a converge is about to make: of
// one that was cut off, or a new one when it changes what serves now or who may
// reach the machine. Nil when nothing is at stake.
func (c *converge) trialFor(ctx context.Context, items []item) (*trialRecord, error) {
	a := c.a
	states, err := a.Systemd.Units(ctx, ServiceUnit)
	if err != nil {
		return nil, err
	}
	running := versionOf(states[0].MainExe)
	if a.activeVersion() == "" && running != "" { // of a mailformd from before there was the link
		if err := a.activate(running); err != nil {
			return nil, err
		}
	}
	var want trialRecord
	if _, want.SSH, want.Firewall, err = a.accessDrift(ctx, &c.req.Manifest); err != nil {
		return nil, err
	}
	s, err := a.lookAtStorage(c.req.Manifest.DataDisk)
	if err != nil {
		return nil, err
	}
	// Of a service that does not run, or moves to another disk, nothing can be gone back to.
	service := len(a.storageDrift(s)) == 0 && states[0].ActiveState == "active" && a.activeVersion() != ""
	risky := false
	if service {
		if risky, err = c.risky(items); err != nil {
			return nil, err
		}
	}
	if risky {
		want.Active = a.activeVersion()
	}
	r, err := a.readTrial()
	switch {
	case err != nil:
		return nil, err
	case r != nil && r.BootID == a.bootID() && (!risky || r.Active != "") && (!want.SSH || r.SSH) && (!want.Firewall || r.Firewall) && (service || r.Active == ""):
		c.resumed = true
		return r, a.arm(ctx, r)
	case r != nil: // what was saved is of another place or time, or too little
		if err := a.takeBack(ctx, r, "another change came before it was confirmed"); err != nil {
			return nil, err
		}
		return c.trialFor(ctx, items) // what there is to do is seen anew
	case !risky && !want.SSH && !want.Firewall:
		return nil, nil
	}
	return a.beginTrial(ctx, want)
}

// risky reports whether the service is to be another one: its version or its units.
func (c *converge) risky(items []item) (bool, error) {
	a := c.a
	if a.activeVersion() != a.installedVersion() || len(a.strayServices(&c.req.Manifest)) > 0 {
		return true, nil
	}
	for _, it := range items {
		f, ok := it.(*fileItem)
		if !ok || !slices.Contains(a.trialFiles(), f.path) {
			continue
		}
		if diff, err := f.check(); err != nil || diff != "" {
			return true, err
		}
	}
	return false, nil
}

// loadUnits makes systemd read its files again when it does not know these as they are.
func (a *Agent) loadUnits(ctx context.Context, names ...string) error {
	states, err := a.Systemd.Units(ctx, names...)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(states, func(s UnitState) bool { return s.NeedDaemonReload || s.LoadState == "not-found" }) {
		return a.Systemd.DaemonReload(ctx)
	}
	return nil
}

// Confirm ends the wait for the confirmation of a change, which stays.
func (a *Agent) Confirm(ctx context.Context, req manifest.TrialRequest) (manifest.TrialEnded, error) {
	unlock, err := a.lock(ctx)
	if err != nil {
		return manifest.TrialEnded{}, err
	}
	defer unlock()
	if err := a.claim(req.Claim, false); err != nil {
		return manifest.TrialEnded{}, err
	}
	r, err := a.readTrial()
	if err != nil {
		return manifest.TrialEnded{}, err
	}
	if r == nil || r.ID != req.Trial {
		return manifest.TrialEnded{}, failf(manifest.ExitFailed, "the change was not confirmed in time: the host has taken it back")
	}
	if err := a.endTrial(ctx); err != nil {
		return manifest.TrialEnded{}, err
	}
	if err := removeDurably(a.Layout.RevertedFile()); err != nil {
		return manifest.TrialEnded{}, err
	}
	return manifest.TrialEnded{SHA256: a.activeVersion()}, a.served()
}

// endTrial deletes the record, which decides, and then what it names.
func (a *Agent) endTrial(ctx context.Context) error {
	if err := removeDurably(a.Layout.TrialFile()); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(a.Layout.TrialDir()), a.Systemd.Stop(ctx, revertTimer))
}

// TakeBack is Confirm's opposite.
func (a *Agent) TakeBack(ctx context.Context, req manifest.TrialRequest) (manifest.TrialEnded, error) {
	unlock, err := a.lock(ctx)
	if err != nil {
		return manifest.TrialEnded{}, err
	}
	defer unlock()
	if err := a.claim(req.Claim, false); err != nil {
		return manifest.TrialEnded{}, err
	}
	r, err := a.readTrial()
	if err == nil && r != nil && (req.Trial == "" || r.ID == req.Trial) {
		err = a.takeBack(ctx, r, "the run that made it did not find it well")
	}
	return manifest.TrialEnded{SHA256: a.activeVersion()}, err
}

// Revert is what the timer and the boot run: it takes back what nobody has
// confirmed. It waits for whoever is at work. No clock decides: whoever begins the
// wait again stops what an earlier one has started.
func (a *Agent) Revert(ctx context.Context) (reverted bool, err error) {
	var unlock func()
	for {
		if unlock, err = a.lock(ctx); ExitCode(err) != manifest.ExitBusy {
			break
		}
	}
	if err != nil {
		return false, err
	}
	defer unlock()
	r, err := a.readTrial()
	if err != nil || r == nil {
		return false, err
	}
	why := "nobody has confirmed it"
	if r.BootID != a.bootID() {
		why = "the machine was restarted before it was confirmed"
	}
	return true, a.takeBack(ctx, r, why)
}

// takeBack puts everything where it was before the change. The agent lock is held.
func (a *Agent) takeBack(ctx context.Context, r *trialRecord, why string) error {
	if err := writeJSON(a.Layout.RevertedFile(), manifest.Reverted{Time: a.Now().UTC(), Why: why}, 0o644); err != nil {
		return err
	}
	booting := r.BootID != a.bootID()
	var failed []error
	changed := map[string]bool{}
	for _, s := range r.Files {
		did, err := a.restoreFile(ctx, s, booting)
		failed = append(failed, err)
		changed[s.Path] = did
	}
	if r.Active != "" {
		failed = append(failed, a.activate(r.Active))
	}
	failed = append(failed, a.Systemd.DaemonReload(ctx))
	if !booting {
		failed = append(failed, a.resumeAccess(ctx, r))
	}
	if !booting && r.Active != "" {
		failed = append(failed, a.resume(ctx, r.Active, changed))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("take back a change: %w", err)
	}
	return a.endTrial(ctx)
}

// restoreFile puts one file back and reports whether it was another. The units of
// what was not there are stopped first.
func (a *Agent) restoreFile(ctx context.Context, s savedFile, booting bool) (bool, error) {
	if s.Saved == "" {
		if !fileExists(s.Path) {
			return false, nil
		}
		unit := filepath.Base(s.Path)
		if !booting && strings.HasSuffix(unit, ".socket") {
			// The service in memory may require it: see strays.
			if err := a.stopKnown(ctx, unit); err != nil {
				return false, err
			}
		}
		if strings.HasSuffix(unit, ".socket") || unit == FirewallUnit {
			if err := a.Systemd.Disable(ctx, unit); err != nil {
				return false, err
			}
		}
		return true, a.dropFile(s.Path)
	}
	was, err := os.ReadFile(filepath.Join(a.Layout.TrialDir(), s.Saved))
	if err != nil {
		return false, err
	}
	if a.takenOver(a.foreignName(s.Path)) != nil && !strings.HasPrefix(string(was), Header) && (&fileItem{a: a, path: s.Path}).ours() {
		return true, a.dropFile(s.Path) // the change has taken it over
	}
	is, err := os.ReadFile(s.Path)
	if err == nil && string(is) == string(was) {
		return false, nil
	}
	return true, writeFile(s.Path, was, s.Mode, s.GID)
}

// resume brings the running service back to what the files say now.
func (a *Agent) resume(ctx context.Context, version string, changed map[string]bool) error {
	m, sum, err := a.readManifest()
	if err != nil || m == nil {
		return err
	}
	services := manifest.ServicesOf(m)
	sockets := socketUnits(services)
	states, err := a.Systemd.Units(ctx, append([]string{ServiceUnit}, sockets...)...)
	if err != nil {
		return err
	}
	var start, restart []string
	for i, p := range services {
		if states[i+1].ActiveState != "active" {
			start = append(start, sockets[i])
		} else if changed[a.socketFile(p)] {
			restart = append(restart, sockets[i])
		}
	}
	if len(start)+len(restart) > 0 {
		if err := a.Systemd.Stop(ctx, ServiceUnit); err != nil {
			return err
		}
	}
	if len(restart) > 0 {
		if err := a.Systemd.Restart(ctx, restart...); err != nil {
			return err
		}
	}
	if len(start) > 0 {
		if err := errors.Join(a.Systemd.Enable(ctx, start...), a.Systemd.Start(ctx, start...)); err != nil {
			return err
		}
	}
	if len(start)+len(restart) == 0 && states[0].ActiveState == "active" && versionOf(states[0].MainExe) == version &&
		!changed[filepath.Join(a.Layout.UnitDir(), ServiceUnit)] {
		if st, err := a.Daemon.Reload(ctx); err == nil && st.ManifestSHA256 == sum {
			return nil
		}
	}
	if err := a.Systemd.ResetFailed(ctx, ServiceUnit); err != nil {
		return err
	}
	return a.Systemd.Restart(ctx, ServiceUnit)
}

// revertItems are the units of the dead-man switch.
func (a *Agent) revertItems() []*fileItem {
	unit := func(name, text string) *fileItem {
		return a.file(filepath.Join(a.Layout.UnitDir(), name), text, 0o644)
	}
	return []*fileItem{
		unit(revertService, revertText("", "")),
		unit(revertTimer, fmt.Sprintf(`[Unit]
Description=mailform waits for the confirmation of a change

[Timer]
OnActiveSec=%d
AccuracySec=1s
Unit=%s
`, manifest.TrialSeconds, revertService)),
		// What it starts again must not have to wait for it, so that the timer's has no order.
		unit(revertAtBoot, revertText("Before="+ServiceUnit+" "+strings.Join(socketUnits(manifest.EveryService()), " ")+" "+FirewallUnit+" ssh.service sshd.service ssh.socket\n",
			"\n[Install]\nWantedBy=multi-user.target\n")),
	}
}

// revertText is a unit that takes a change back, if there is one to take back.
func revertText(order, install string) string {
	real := manifest.Layout{Root: "/"}
	return fmt.Sprintf(`[Unit]
Description=mailform takes back a change that nobody has confirmed
ConditionPathExists=%[1]s
DefaultDependencies=no
RequiresMountsFor=%[1]s %[2]s
After=local-fs.target
Conflicts=shutdown.target
%[3]s
[Service]
Type=oneshot
ExecStart=%[2]s revert
TimeoutStartSec=10min
%[4]s`, real.TrialFile(), real.Binary(), order, install)
}
