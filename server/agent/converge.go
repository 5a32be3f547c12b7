package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"mailform/server/manifest"
)

// readyTimeout bounds the wait for the daemon to serve a new manifest.
const readyTimeout = 60 * time.Second

// Converge makes the host serve the requested manifest. What is as it should be
// is not touched: a second Converge changes nothing. It can be cut off at any
// point and begun again.
func (a *Agent) Converge(ctx context.Context, req manifest.ConvergeRequest, emit func(manifest.AgentEvent)) (manifest.ConvergeResult, error) {
	var res manifest.ConvergeResult
	if err := req.Manifest.Validate(); err != nil {
		return res, failf(manifest.ExitRequest, "%v", err)
	}
	if req.Manifest.Stack != req.Stack || req.Manifest.Host != req.Host {
		return res, failf(manifest.ExitRequest, "the manifest is for %s/%s, the request for %s/%s", req.Manifest.Stack, req.Manifest.Host, req.Stack, req.Host)
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return res, err
	}
	defer unlock()
	a.taking = req.Take
	if err := a.Systemd.Available(ctx); err != nil {
		return res, err
	}
	if req.DryRun {
		if o, err := a.readOwner(); err != nil || o == nil || o.Stack != req.Stack {
			return res, errors.Join(err, failf(manifest.ExitFailed, "mailformd is not installed here for stack %s", req.Stack))
		}
	} else if err := a.claim(req.Claim, true); err != nil {
		return res, err
	}
	c := &converge{a: a, req: req, emit: emit}
	if err := c.run(ctx); err != nil {
		return res, c.failed(ctx, err)
	}
	res.Changed, res.ManifestSHA256, res.Passwords = c.changed, c.sum, c.passwords
	if c.trial != nil {
		res.Trial, res.AccessOnly = c.trial.ID, c.trial.Active == ""
	}
	res.Service, _, err = a.service(ctx)
	return res, err
}

// converge is one run.
type converge struct {
	a         *Agent
	req       manifest.ConvergeRequest
	emit      func(manifest.AgentEvent)
	changed   bool
	reload    bool // something the daemon reads has changed
	sum       string
	passwords map[string]string
	trial     *trialRecord // the change waits to be confirmed
	resumed   bool         // the trial is of a run that was cut off
}

func (c *converge) step(name, status, detail string) {
	if status == "changed" || status == "would change" {
		c.changed = true
	}
	c.emit(manifest.AgentEvent{Step: name, Status: status, Detail: detail})
}

func (c *converge) run(ctx context.Context) error {
	a := c.a
	old, oldSum, err := a.readManifest()
	if err != nil {
		// Whatever spoiled it, the wanted one replaces it; what it said of
		// mailboxes is lost, but their mail is not.
		c.step("manifest", "unchanged", err.Error())
		old = nil
	}
	want := c.req.Manifest
	if err := keepSecrets(&want, old, c.req); err != nil {
		return err
	}
	returned, err := c.returnKeys(ctx)
	if err != nil {
		return err
	}
	items, err := a.settledItems(ctx, &want)
	if err != nil {
		return err
	}
	if err := checkAll(items); err != nil {
		return err
	}
	if !c.req.DryRun {
		if c.trial, err = c.trialFor(ctx, items); err != nil {
			return err
		}
	}
	changed, err := a.settle(ctx, items, c.emit, c.req.DryRun)
	c.changed = c.changed || changed
	if err != nil {
		return err
	}
	switched, err := c.storage(ctx)
	if err != nil {
		return err
	}
	if switched || returned { // into another StateDir
		changed, err := a.settle(ctx, a.baseItems(), c.emit, false)
		c.changed = c.changed || changed
		if err != nil {
			return err
		}
	}
	text, err := manifest.Encode(&want)
	if err != nil {
		return err
	}
	c.sum = manifest.SHA256(text)
	if err := c.storeKey(&want); err != nil {
		return err
	}
	if c.req.DryRun {
		if err := c.dryManifest(ctx, old, &want, oldSum); err != nil {
			return err
		}
		if active := a.activeVersion(); active != a.installedVersion() {
			c.step("version", "would change", fmt.Sprintf("%.12s serves, %.12s is installed", active, a.installedVersion()))
		}
		return c.access(ctx)
	}
	if err := c.credentials(ctx, &want); err != nil {
		return err
	}
	if err := c.retained(ctx, old, &want); err != nil {
		return err
	}
	if err := c.beginUse(&want); err != nil {
		return err
	}
	if c.sum != oldSum {
		if err := writeFile(a.Layout.ManifestFile(), text, secretMode, a.gid()); err != nil {
			return err
		}
		c.reload = true
		c.step("manifest", "changed", c.sum)
	} else {
		c.step("manifest", "unchanged", "")
	}
	if err := c.service(ctx, items); err != nil {
		return err
	}
	if err := errors.Join(c.endUse(&want), a.noteKept()); err != nil {
		return err
	}
	if err := c.access(ctx); err != nil {
		return err
	}
	if err := a.admitPeers(ctx, &want); err != nil {
		return err
	}
	if c.trial != nil {
		return a.arm(ctx, c.trial)
	}
	return errors.Join(removeDurably(a.Layout.RevertedFile()), a.served())
}

// returnKeys sees to the data disk before anything else when the keys are on it and
// it is not mounted: nothing can be said of the rest without them. It reports whether
// StateDir is another folder than before.
func (c *converge) returnKeys(ctx context.Context) (switched bool, err error) {
	if away, err := c.a.keysAway(); err != nil || !away || c.req.DryRun {
		return false, err
	}
	return c.storage(ctx)
}

// dryManifest says what a converge would change in the manifest and about the
// service: its units that do not run, or do not serve what is on disk.
func (c *converge) dryManifest(ctx context.Context, old, want *manifest.Manifest, oldSum string) error {
	if c.sum != oldSum {
		fields, err := manifestDifference(old, want)
		if err != nil {
			return err
		}
		for _, field := range fields {
			c.step("manifest", "would change", field)
		}
		if len(fields) == 0 {
			c.step("manifest", "would change", "the file is written anew")
		}
	}
	s, _, err := c.a.service(ctx)
	if err != nil {
		return err
	}
	for _, d := range c.a.serviceDrift(want, oldSum, s) {
		c.step("service", "would change", d)
	}
	return nil
}

// failed takes back what was changed on the way to an error.
func (c *converge) failed(ctx context.Context, err error) error {
	if c.trial == nil {
		return err
	}
	code := ExitCode(err)
	if back := c.a.takeBack(context.WithoutCancel(ctx), c.trial, err.Error()); back != nil {
		return failf(code, "%v\nTaking the change back went wrong, too: %v\nThe host tries it again within %d seconds.", err, back, manifest.TrialSeconds)
	}
	if c.trial.Active == "" {
		return failf(code, "%v\nWho may reach the machine is as it was before.", err)
	}
	return failf(code, "%v\nThe change was taken back: %s serves as before.", err, c.a.named(c.trial.Active))
}

// settledItems is everything but the manifest and the service's state: folders,
// the user, unit files, access to the keys the manifest names, and what the
// machine itself is set to.
func (a *Agent) settledItems(ctx context.Context, m *manifest.Manifest) ([]item, error) {
	items := a.baseItems()
	var missing []string
	for _, d := range m.Domains {
		for _, k := range d.DKIM {
			path := a.Layout.DKIMKey(d.Name, k.Selector)
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				missing = append(missing, path)
				continue
			}
			items = append(items, &accessItem{a, path})
		}
	}
	if len(missing) > 0 {
		return nil, failf(manifest.ExitFailed, "signing keys are missing: %s; the next plan makes new ones", strings.Join(missing, ", "))
	}
	if path := a.Layout.CertKey(m.Host); fileExists(path) {
		items = append(items, &accessItem{a, path})
	}
	// What is in StateDir may have come on a data disk, from a machine on which the
	// service's group had another number.
	for _, path := range []string{a.Layout.ManifestFile(), a.Layout.CredentialsFile(), a.Layout.RetainedFile()} {
		if fileExists(path) {
			items = append(items, &accessItem{a, path})
		}
	}
	for _, u := range append(a.unitItems(manifest.ServicesOf(m)), a.revertItems()...) {
		items = append(items, u)
	}
	tuning, err := a.tuningItems(ctx, m.Tuning)
	return append(items, tuning...), err
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// keepSecrets fills in the secrets that the request names by fingerprint.
func keepSecrets(want, old *manifest.Manifest, req manifest.ConvergeRequest) error {
	for i := range want.Domains {
		d := &want.Domains[i]
		for j := range d.Mailboxes {
			b := &d.Mailboxes[j]
			addr := b.Local + "@" + d.Name
			print, keep := req.KeepPasswords[addr]
			if !keep {
				continue
			}
			have := findMailbox(old, addr)
			if have == nil || manifest.Fingerprint(have.PasswordHash) != print {
				return failf(manifest.ExitRequest, "the password hash of %s is not the one this host has: plan again", addr)
			}
			b.PasswordHash = have.PasswordHash
		}
	}
	if req.KeepRelayPassword != "" && want.Relay != nil {
		if old == nil || old.Relay == nil || manifest.Fingerprint(old.Relay.Password) != req.KeepRelayPassword {
			return failf(manifest.ExitRequest, "the relay's password is not the one this host has: plan again")
		}
		want.Relay.Password = old.Relay.Password
	}
	if req.KeepBackupSecret != "" && want.Backup != nil {
		if old == nil || old.Backup == nil || manifest.Fingerprint(old.Backup.SecretAccessKey) != req.KeepBackupSecret {
			return failf(manifest.ExitRequest, "the backup's secret access key is not the one this host has: plan again")
		}
		want.Backup.SecretAccessKey = old.Backup.SecretAccessKey
	}
	return nil
}

func (c *converge) credentials(ctx context.Context, want *manifest.Manifest) error {
	before, _ := os.ReadFile(c.a.Layout.CredentialsFile())
	texts, err := c.a.firstPasswords(ctx, want)
	if err != nil {
		return fmt.Errorf("first passwords: %w", err)
	}
	c.passwords = texts
	after, _ := os.ReadFile(c.a.Layout.CredentialsFile())
	if string(before) != string(after) {
		c.reload = true
		c.step("credentials", "changed", fmt.Sprintf("%d first passwords made", len(texts)))
	} else {
		c.step("credentials", "unchanged", "")
	}
	return nil
}
