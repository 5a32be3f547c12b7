package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailform/server/manifest"
)

// Versions of mailformd lie side by side, each in a folder named by its digest.
// Two links choose among them: Binary is the newest, which agent commands run,
// and ActiveLink the one that serves. An installation moves only the first; the
// second moves when the service is restarted, and back when that went wrong.

// keepVersions is how many versions stay on the host, the active one among them.
const keepVersions = 3

// switchVersion copies the executable to its versioned place and points Binary there.
func (a *Agent) switchVersion(ctx context.Context, sum string) (bool, error) {
	target := a.Layout.VersionBinary(sum)
	changed := false
	if have, err := fileSHA256(target); err != nil || have != sum {
		if err := mkdirAll(a.Layout.VersionDir(sum), 0o755); err != nil {
			return false, err
		}
		if err := copyFile(a.Executable, target, 0o755); err != nil {
			return false, err
		}
		if err := a.labelProgram(ctx, target); err != nil {
			return false, err
		}
		changed = true
	}
	if v := a.readVersion(sum); v.Version != a.Version || v.Installed.IsZero() {
		v.Version, v.Installed = a.Version, a.Now().UTC()
		if err := a.writeVersion(v); err != nil {
			return false, err
		}
	}
	link := a.Layout.Binary()
	before, err := os.Readlink(link)
	// The link is relative, so that it holds in a private root too.
	want := a.Layout.VersionLink(sum)
	if err != nil || before != want {
		if err := switchLink(want, link); err != nil {
			return false, err
		}
		changed = true
	}
	// This one is installed, and parts of others that never came to an end are of no use.
	uploads, err := filepath.Glob(a.Layout.UploadPrefix() + "*")
	if err != nil {
		return false, err
	}
	for _, name := range uploads {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return changed, nil
}

func (a *Agent) readVersion(sum string) manifest.Version {
	v := manifest.Version{SHA256: sum}
	if ok, err := readJSON(a.Layout.VersionFile(sum), &v); !ok || err != nil || v.SHA256 != sum {
		v = manifest.Version{SHA256: sum} // it only informs
	}
	return v
}

func (a *Agent) writeVersion(v manifest.Version) error {
	v.Active = false
	return writeJSON(a.Layout.VersionFile(v.SHA256), v, 0o644)
}

// versions are those on the host, the newest first.
func (a *Agent) versions() ([]manifest.Version, error) {
	entries, err := os.ReadDir(a.Layout.VersionsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	active := a.activeVersion()
	var list []manifest.Version
	for _, e := range entries {
		if e.IsDir() && len(e.Name()) == 64 && fileExists(a.Layout.VersionBinary(e.Name())) {
			v := a.readVersion(e.Name())
			v.Active = v.SHA256 == active
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(x, y manifest.Version) int {
		return cmp.Or(y.Installed.Compare(x.Installed), cmp.Compare(x.SHA256, y.SHA256))
	})
	return list, nil
}

// activeVersion is the digest of the version that serves, "" before the first converge.
func (a *Agent) activeVersion() string {
	sum, err := os.Readlink(a.Layout.ActiveLink())
	if err != nil || len(sum) != 64 {
		return ""
	}
	return sum
}

// installedVersion is the digest of the binary that Binary points at.
func (a *Agent) installedVersion() string {
	target, err := os.Readlink(a.Layout.Binary())
	if err != nil {
		return ""
	}
	return versionOf(target)
}

// named is a version as a person knows it.
func (a *Agent) named(sum string) string {
	if v := a.readVersion(sum); v.Version != "" {
		return fmt.Sprintf("mailformd %s (%.12s)", v.Version, sum)
	}
	return fmt.Sprintf("mailformd %.12s", sum)
}

// activate makes a version the one that serves from the next start on.
func (a *Agent) activate(sum string) error {
	if sum == "" || !fileExists(a.Layout.VersionBinary(sum)) {
		return failf(manifest.ExitFailed, "version %.12s of mailformd is not on this host", sum)
	}
	if a.activeVersion() == sum {
		return nil
	}
	return switchLink(sum, a.Layout.ActiveLink())
}

// served notes that the active version was found healthy, and deletes what is
// older than the last few versions.
func (a *Agent) served() error {
	active := a.activeVersion()
	if active == "" {
		return nil
	}
	v := a.readVersion(active)
	if a.Now().Sub(v.Served) > time.Hour || v.Served.IsZero() {
		v.Served = a.Now().UTC()
		if err := a.writeVersion(v); err != nil {
			return err
		}
	}
	list, err := a.versions()
	if err != nil {
		return err
	}
	// Those that have served come before those that never did.
	slices.SortStableFunc(list, func(x, y manifest.Version) int { return y.Served.Compare(x.Served) })
	installed, kept := a.installedVersion(), 0
	for _, v := range list {
		if v.SHA256 == active || v.SHA256 == installed {
			kept++
		}
	}
	for _, v := range list {
		if v.SHA256 == active || v.SHA256 == installed {
			continue
		}
		if kept++; kept > keepVersions {
			if err := os.RemoveAll(a.Layout.VersionDir(v.SHA256)); err != nil {
				return err
			}
		}
	}
	return nil
}

// versionOf returns the hash in a path …/<sha256>/mailformd, or "".
func versionOf(path string) string {
	path = strings.TrimSuffix(path, " (deleted)")
	parts := strings.Split(path, "/")
	if n := len(parts); n >= 2 && len(parts[n-2]) == 64 {
		return parts[n-2]
	}
	return ""
}

// Rollback makes another version that is on the host serve what is served now. It
// waits for a confirmation like every change of the service.
func (a *Agent) Rollback(ctx context.Context, req manifest.RollbackRequest) (manifest.RolledBack, error) {
	var out manifest.RolledBack
	unlock, err := a.lock(ctx)
	if err != nil {
		return out, err
	}
	defer unlock()
	if err := a.claim(req.Claim, false); err != nil {
		return out, err
	}
	if !fileExists(a.Layout.VersionBinary(req.SHA256)) || len(req.SHA256) != 64 {
		return out, failf(manifest.ExitRequest, "version %.12s of mailformd is not on this host", req.SHA256)
	}
	m, sum, err := a.readManifest()
	if err != nil {
		return out, err
	}
	if m == nil || a.activeVersion() == "" {
		return out, failf(manifest.ExitFailed, "no mailformd has served here yet")
	}
	if r, err := a.readTrial(); err != nil {
		return out, err
	} else if r != nil {
		if err := a.takeBack(ctx, r, "a rollback was asked for"); err != nil {
			return out, err
		}
	}
	if a.activeVersion() != req.SHA256 {
		c := &converge{a: a, req: manifest.ConvergeRequest{Manifest: *m}, emit: func(manifest.AgentEvent) {}, sum: sum}
		if c.trial, err = a.beginTrial(ctx, trialRecord{Active: a.activeVersion()}); err != nil {
			return out, err
		}
		if err := c.switchTo(ctx, req.SHA256); err != nil {
			return out, c.failed(ctx, err)
		}
		out.Trial = c.trial.ID
	}
	out.Service, _, err = a.service(ctx)
	return out, err
}

// switchTo restarts the service with another version.
func (c *converge) switchTo(ctx context.Context, version string) error {
	if err := c.a.activate(version); err != nil {
		return err
	}
	if err := c.a.restartServer(ctx); err != nil {
		return c.unhealthy(ctx, err.Error())
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	return c.a.arm(ctx, c.trial)
}
