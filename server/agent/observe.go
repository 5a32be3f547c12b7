package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"mailform/server/manifest"
)

// lookTimeout bounds a look at the way to other servers: a closed port 25 and
// blocklists that do not answer take five seconds, all at the same time.
const lookTimeout = 8 * time.Second

// statusTimeout bounds the question to a daemon that may hang.
const statusTimeout = 5 * time.Second

// LookAndObserve is Observe, after the daemon has looked once more at its way to
// other servers. When that takes too long, it tells what it knew before.
func (a *Agent) LookAndObserve(ctx context.Context) (*manifest.Facts, error) {
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_, _ = a.Daemon.Look(look) // one that does not serve has nothing to look at
	return a.Observe(ctx)
}

// Observe reports what is on the host. It changes nothing.
func (a *Agent) Observe(ctx context.Context) (*manifest.Facts, error) {
	f := &manifest.Facts{
		Format: manifest.Format, Arch: runtime.GOARCH, Now: a.Now().UTC(),
		Agent: manifest.Agent{Version: a.Version},
	}
	f.OS, f.OSVersion = a.osRelease()
	if b, err := os.ReadFile(a.Layout.BootIDFile()); err == nil {
		f.BootID = strings.TrimSpace(string(b))
	}
	f.Disks, f.Memory, f.UpSeconds, f.Clock = a.diskSpace(), a.memory(), a.upSeconds(), a.clock()
	var err error
	if f.Agent.SHA256, err = fileSHA256(a.Executable); err != nil {
		return nil, err
	}
	if f.Owner, err = a.readOwner(); err != nil || f.Owner == nil {
		return f, err
	}
	if f.Lease, err = a.lease(); err != nil {
		return nil, err
	}
	keys, err := a.keysKnown()
	if err != nil {
		return nil, err
	}
	f.DKIM, f.Certificates = keys.DKIM, keys.Certificates
	retained, err := a.readRetained()
	if err != nil {
		return nil, err
	}
	if f.HostKey, err = a.hostKey(); err != nil {
		return nil, err
	}
	if f.Versions, err = a.versions(); err != nil {
		return nil, err
	}
	trial, err := a.readTrial()
	if err != nil {
		return nil, err
	}
	if trial != nil {
		f.Trial = &manifest.Trial{ID: trial.ID, Until: trial.Until}
	}
	var reverted manifest.Reverted
	if ok, err := readJSON(a.Layout.RevertedFile(), &reverted); err != nil {
		return nil, err
	} else if ok {
		f.Reverted = &reverted
	}
	m, sum, err := a.readManifest()
	if err != nil {
		return nil, err
	}
	if f.Foreign, err = a.foreignThings(m); err != nil {
		return nil, err
	}
	var running *manifest.Status
	if f.Service, running, err = a.service(ctx); err != nil {
		return nil, err
	}
	var purged []string
	if running != nil {
		f.Reach, purged = running.Reach, running.Purged
	}
	f.Retained = retainedFacts(retained, purged)
	if f.Storage, err = a.storageFacts(m); err != nil || m == nil {
		return f, err
	}
	if f.Service.Drift, err = a.drift(ctx, m, sum, f.Service); err != nil {
		return nil, err
	}
	f.Service.Drift = append(f.Service.Drift, useDrift(m, f.DKIM)...)
	if trial != nil {
		f.Service.Drift = append(f.Service.Drift, "a change is not confirmed yet")
	}
	key, drift, err := a.storeKeyFacts(m)
	if err != nil {
		return nil, err
	}
	f.StoreKey = key
	if drift != "" {
		f.Service.Drift = append(f.Service.Drift, drift)
	}
	f.Walls = a.walls(ctx, m)
	if bans, err := a.Bans(ctx); err == nil { // a table that is not loaded is drift
		f.Banned = len(bans.Bans)
	}
	creds, err := a.readCredentials()
	if err != nil {
		return nil, err
	}
	f.Manifest, f.Passwords = redact(m, creds)
	if f.Storage != nil && !f.Storage.Mounted {
		// They are on the disk that is missing: nothing says that they are gone.
		for _, d := range m.Domains {
			for _, b := range d.Mailboxes {
				if b.PasswordHash == "" {
					f.Passwords[b.Local+"@"+d.Name] = "host"
				}
			}
		}
	}
	return f, nil
}

// redact replaces every secret of a manifest by its fingerprint and tells
// where each mailbox's password comes from.
func redact(m *manifest.Manifest, creds manifest.Credentials) (*manifest.Manifest, map[string]string) {
	unseen := map[string]bool{}
	for _, addr := range creds.Unseen {
		unseen[addr] = true
	}
	passwords := map[string]string{}
	out := *m
	if m.Relay != nil {
		relay := *m.Relay
		if relay.Password != "" {
			relay.Password = manifest.Fingerprint(relay.Password)
		}
		out.Relay = &relay
	}
	if m.Backup != nil {
		backup := *m.Backup
		if backup.SecretAccessKey != "" {
			backup.SecretAccessKey = manifest.Fingerprint(backup.SecretAccessKey)
		}
		out.Backup = &backup
	}
	out.Domains = make([]manifest.Domain, len(m.Domains))
	for i, d := range m.Domains {
		boxes := make([]manifest.Mailbox, len(d.Mailboxes))
		for j, b := range d.Mailboxes {
			addr := b.Local + "@" + d.Name
			if b.PasswordHash != "" {
				b.PasswordHash = manifest.Fingerprint(b.PasswordHash)
				passwords[addr] = b.PasswordHash
			} else if _, ok := creds.Hashes[addr]; ok {
				passwords[addr] = "host"
				if unseen[addr] {
					passwords[addr] = "host, not shown"
				}
			}
			boxes[j] = b
		}
		d.Mailboxes = boxes
		out.Domains[i] = d
	}
	return &out, passwords
}

// readManifest returns the applied manifest and its file's digest; nil before
// the first converge.
func (a *Agent) readManifest() (*manifest.Manifest, string, error) {
	b, err := os.ReadFile(a.Layout.ManifestFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	m, err := manifest.ReadManifest(b)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", a.Layout.ManifestFile(), err)
	}
	return m, manifest.SHA256(b), nil
}

func (a *Agent) osRelease() (id, version string) {
	b, err := os.ReadFile(a.Layout.OSReleaseFile())
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		v = strings.Trim(v, `"'`)
		switch k {
		case "ID":
			id = v
		case "VERSION_ID":
			version = v
		}
	}
	return id, version
}

// service reports the daemon's state as systemd and the daemon itself see it;
// what the daemon said is nil when it did not answer.
func (a *Agent) service(ctx context.Context) (manifest.Service, *manifest.Status, error) {
	s := manifest.Service{Unit: ServiceUnit}
	services := manifest.EveryService()
	states, err := a.Systemd.Units(ctx, append([]string{ServiceUnit}, socketUnits(services)...)...)
	if err != nil {
		return s, nil, err
	}
	s.Active = states[0].ActiveState
	s.Enabled = states[0].UnitFileState == "enabled"
	s.BinarySHA256 = versionOf(states[0].MainExe)
	for i, p := range services {
		if states[i+1].ActiveState == "active" {
			s.Ports = append(s.Ports, p.Port)
		}
	}
	if s.Active == "active" {
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		if st, err := a.Daemon.Status(ctx); err == nil {
			s.ManifestLoaded = st.ManifestSHA256
			return s, &st, nil
		}
	}
	return s, nil, nil
}

// drift lists what a converge to the applied manifest would change.
func (a *Agent) drift(ctx context.Context, m *manifest.Manifest, sum string, s manifest.Service) ([]string, error) {
	items, err := a.settledItems(ctx, m)
	if err != nil {
		return []string{err.Error()}, nil
	}
	var out []string
	for _, it := range items {
		diff, err := it.check()
		switch {
		case isForeign(err): // told apart: Facts.Foreign
		case err != nil:
			out = append(out, err.Error())
		case diff != "":
			out = append(out, it.name()+" "+diff)
		}
	}
	doors, _, _, err := a.accessDrift(ctx, m)
	if err != nil && !isForeign(err) {
		doors = []string{err.Error()}
	}
	return append(append(out, doors...), a.serviceDrift(m, sum, s)...), nil
}

// serviceDrift is what a converge would change about the units that run.
func (a *Agent) serviceDrift(m *manifest.Manifest, sum string, s manifest.Service) (out []string) {
	if !s.Enabled {
		out = append(out, ServiceUnit+" is not enabled")
	}
	if s.Active != "active" {
		return append(out, ServiceUnit+" is "+s.Active)
	}
	listening := map[int]bool{}
	for _, p := range s.Ports {
		listening[p] = true
	}
	for _, p := range manifest.ServicesOf(m) {
		if !listening[p.Port] {
			out = append(out, SocketUnit(p)+" does not listen")
		}
	}
	for _, p := range a.strayServices(m) {
		out = append(out, SocketUnit(p)+" is there, though nothing asks for it")
	}
	if s.ManifestLoaded != sum {
		out = append(out, "the running mailformd does not serve the manifest on disk")
	}
	return out
}
