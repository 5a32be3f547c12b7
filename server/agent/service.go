package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"mailform/server/manifest"
)

// service brings systemd and the daemon to what is on disk. Sockets stay open
// while the service restarts or reloads; only a socket that is itself wrong
// makes the service stop, because systemd does not start a socket under a
// running service.
func (c *converge) service(ctx context.Context, items []item) error {
	a := c.a
	written := map[string]bool{}
	for _, it := range items {
		if f, ok := it.(*fileItem); ok && f.changed {
			written[f.path] = true
		}
	}
	if err := c.strays(ctx); err != nil {
		return err
	}
	services := manifest.ServicesOf(&c.req.Manifest)
	units := a.unitItems(services)
	files := append(slices.Clone(units), a.revertItems()...)
	names := append([]string{ServiceUnit}, socketUnits(services)...)
	enabled := len(names)
	names = append(names, revertService, revertTimer, revertAtBoot) // in the order of files
	states, err := a.Systemd.Units(ctx, names...)
	if err != nil {
		return err
	}
	reread := false
	for i, u := range files {
		reread = reread || written[u.path] || states[i].NeedDaemonReload || states[i].LoadState == "not-found"
	}
	if reread {
		if err := a.Systemd.DaemonReload(ctx); err != nil {
			return err
		}
		c.step("systemd", "changed", "unit files read again")
		if states, err = a.Systemd.Units(ctx, names...); err != nil {
			return err
		}
	}
	var enable []string
	for i, n := range names {
		if (i < enabled || n == revertAtBoot) && states[i].UnitFileState != "enabled" {
			enable = append(enable, n)
		}
	}
	if len(enable) > 0 {
		if err := a.Systemd.Enable(ctx, enable...); err != nil {
			return err
		}
		c.step("systemd", "changed", "enabled "+strings.Join(enable, ", "))
	}
	if err := c.sockets(ctx, services, units[1:], written, states); err != nil {
		return err
	}
	if err := a.activate(a.installedVersion()); err != nil {
		return err
	}
	return c.daemon(ctx, written[units[0].path])
}

// strays takes away the sockets of services that are not asked for any more. The
// service's unit does not require them by now, so it keeps running.
func (c *converge) strays(ctx context.Context) error {
	strays := c.a.strayServices(&c.req.Manifest)
	if len(strays) == 0 {
		return nil
	}
	a, names := c.a, socketUnits(strays)
	// Before they are stopped: the unit in memory may still require them.
	if err := a.Systemd.DaemonReload(ctx); err != nil {
		return err
	}
	if err := a.Systemd.Stop(ctx, names...); err != nil {
		return err
	}
	if err := a.Systemd.Disable(ctx, names...); err != nil {
		return err
	}
	for _, p := range strays {
		if err := a.dropFile(a.socketFile(p)); err != nil {
			return err
		}
	}
	if err := a.Systemd.DaemonReload(ctx); err != nil {
		return err
	}
	c.step("sockets", "changed", "no longer listening: "+strings.Join(names, ", "))
	return nil
}

// sockets starts the sockets that do not listen and restarts those whose unit changed.
func (c *converge) sockets(ctx context.Context, services []manifest.ServicePort, units []*fileItem, written map[string]bool, states []UnitState) error {
	a := c.a
	var start, restart []string
	for i, p := range services {
		switch {
		case states[i+1].ActiveState != "active":
			start = append(start, SocketUnit(p))
		case written[units[i].path]:
			restart = append(restart, SocketUnit(p))
		}
	}
	if len(start)+len(restart) == 0 {
		c.step("sockets", "unchanged", "")
		return nil
	}
	if states[0].ActiveState == "active" {
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
		if err := a.Systemd.Start(ctx, start...); err != nil {
			return failf(manifest.ExitUnhealthy, "%v; is another mail server running on this machine?", err)
		}
	}
	c.step("sockets", "changed", "listening: "+strings.Join(append(start, restart...), ", "))
	return nil
}

// daemon starts, restarts or reloads the service and waits until it serves the
// manifest.
func (c *converge) daemon(ctx context.Context, unitChanged bool) error {
	a := c.a
	states, err := a.Systemd.Units(ctx, ServiceUnit)
	if err != nil {
		return err
	}
	did := ""
	switch {
	case states[0].ActiveState != "active":
		did, err = "started", a.restartServer(ctx) // restart also leaves the failed state
	case unitChanged:
		did, err = "restarted: its unit file changed", a.restartServer(ctx)
	case versionOf(states[0].MainExe) != a.activeVersion():
		did, err = "restarted with the new version", a.restartServer(ctx)
	default:
		st, statusErr := a.Daemon.Status(ctx)
		if statusErr == nil && !c.reload && st.ManifestSHA256 == c.sum {
			c.step("service", "unchanged", "")
			return nil
		}
		did = "reloaded"
		if _, err = a.Daemon.Reload(ctx); err != nil {
			did, err = "restarted: it did not reload", a.restartServer(ctx)
		}
	}
	if err != nil {
		return c.unhealthy(ctx, err.Error())
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	c.step("service", "changed", did)
	return nil
}

// ready waits until the daemon says that it serves the manifest on disk, asks
// every port, and looks whether that is still the same process.
func (c *converge) ready(ctx context.Context) error {
	if err := c.loaded(ctx); err != nil {
		return err
	}
	if err := c.a.health(ctx, &c.req.Manifest); err != nil {
		return c.unhealthy(ctx, err.Error())
	}
	states, err := c.a.Systemd.Units(ctx, ServiceUnit)
	if err != nil {
		return err
	}
	switch st := states[0]; {
	case st.ActiveState != "active":
		return c.unhealthy(ctx, "it is "+st.ActiveState+" after it was asked on its ports")
	case versionOf(st.MainExe) != c.a.activeVersion():
		return c.unhealthy(ctx, "another version of it answers than the one that was started")
	}
	return nil
}

// loaded waits until the daemon says that it serves the manifest on disk.
func (c *converge) loaded(ctx context.Context) error {
	deadline := c.a.Now().Add(readyTimeout)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		st, err := c.a.Daemon.Status(ctx)
		if err == nil && st.ManifestSHA256 == c.sum {
			return nil
		}
		if !c.a.Now().Before(deadline) {
			if err != nil {
				return c.unhealthy(ctx, "its control socket does not answer: "+err.Error())
			}
			return c.unhealthy(ctx, "it serves another manifest than the one on disk")
		}
		c.emit(manifest.AgentEvent{Step: "service", Status: "waiting", Detail: "mailformd is starting"})
		if err := c.a.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (c *converge) unhealthy(ctx context.Context, why string) error {
	msg := "mailformd does not serve: " + why
	if log := c.a.Systemd.Log(ctx, ServiceUnit, 5); log != "" {
		msg += "\nits last log lines:\n" + log
	}
	return failf(manifest.ExitUnhealthy, "%s", msg)
}

// reloadIfRunning makes a running daemon read its files again.
func (a *Agent) reloadIfRunning(ctx context.Context) error {
	states, err := a.Systemd.Units(ctx, ServiceUnit)
	if err != nil {
		return err
	}
	if states[0].ActiveState != "active" {
		return nil
	}
	if _, err := a.Daemon.Reload(ctx); err != nil {
		return failf(manifest.ExitUnhealthy, "everything is in place, but mailformd did not reload: %v", err)
	}
	return nil
}

// restartServer restarts the service because somebody wants it, which is no part
// of a crash loop: what systemd counts against one is forgotten before, so that
// changes in quick succession are not refused as starts that are too many, with
// the sockets closed. A service that was never started has no count to forget.
func (a *Agent) restartServer(ctx context.Context) error {
	_ = a.Systemd.ResetFailed(ctx, ServiceUnit)
	return a.Systemd.Restart(ctx, ServiceUnit)
}
