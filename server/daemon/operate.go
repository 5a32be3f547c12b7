package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"mailform/server/backup"
	"mailform/server/bucket"
	"mailform/server/monitor"
	"mailform/server/store"
)

// watch makes what looks after the host: backups, the monitor and the metrics.
func (d *daemon) watch(s *state) (err error) {
	if st, ok := d.store.(backup.Store); ok {
		if d.backups, err = backup.NewRunner(backup.RunnerConfig{
			Config: backup.Config{Logger: d.log.With("part", "backup"), HTTP: HTTPClient(d.cfg.Dial, d.cfg.Roots), Now: d.cfg.Now,
				Role: bucket.Role(bucket.RoleConfig{URL: d.cfg.Metadata, Now: d.cfg.Now})},
			Store: st, Layout: d.cfg.Layout, Version: d.cfg.Version,
		}, backupSettings(s)); err != nil {
			return err
		}
	}
	d.reach, d.purge, d.retention = newReach(d.cfg), newPurge(d), newRetention(d)
	d.reach.set(s.manifest)
	d.metrics = monitor.NewExporter(d.log.With("part", "metrics"), d.collect)
	d.monitor, err = monitor.New(monitor.Config{
		Store: d.store, StateFile: d.cfg.Layout.MonitorFile(), Logger: d.log.With("part", "monitor"),
		Look: d.look, Queued: d.queue.Kick, Now: d.cfg.Now,
	}, monitorSettings(s))
	return err
}

// HTTPClient reaches object storage the way mail is sent: through dial, trusting roots.
func HTTPClient(dial Dial, roots *x509.CertPool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 30 * time.Second, ResponseHeaderTimeout: 2 * time.Minute, IdleConnTimeout: time.Minute, MaxIdleConns: 4,
	}}
}

func backupSettings(s *state) *backup.Settings {
	if s.manifest.Backup == nil {
		return nil
	}
	return &backup.Settings{Backup: *s.manifest.Backup, Stack: s.manifest.Stack, Host: s.manifest.Host}
}

func monitorSettings(s *state) *monitor.Settings {
	return &monitor.Settings{Monitor: s.manifest.Monitor, Hostname: s.manifest.Hostname, Routes: s.routes, Signer: s.keys}
}

// setWatch takes over what a reload has read.
func (d *daemon) setWatch(s *state) {
	if d.backups != nil {
		d.backups.Set(backupSettings(s))
	}
	d.monitor.Set(monitorSettings(s))
	d.reach.set(s.manifest)
	d.serveMetrics()
}

// serveMetrics listens where the settings say. A port that is taken is tried
// again with each check of the monitor; mail does not depend on it.
func (d *daemon) serveMetrics() {
	addr := ""
	if m := d.state.Load().manifest.Monitor; m != nil {
		addr = m.Metrics
	}
	if err := d.metrics.Set(addr); err != nil {
		d.log.Error("metrics are not served", "err", err)
	}
}

// lastBackup is when the newest backup was made, as far as is known.
func (d *daemon) lastBackup() time.Time {
	var last time.Time
	if d.backups != nil {
		last = d.backups.Status().Last
	}
	if f, _ := d.monitor.Last(); f.Backup != nil && f.Backup.Last.After(last) { // it remembers over restarts
		last = f.Backup.Last
	}
	return last
}

// look gathers what the monitor compares with its limits.
func (d *daemon) look(ctx context.Context) (monitor.Facts, error) {
	d.serveMetrics()
	f, err := d.quickLook(ctx)
	if err != nil {
		return f, err
	}
	if damaged, ok := d.store.(interface{ Damage() []store.Damage }); ok {
		for _, part := range damaged.Damage() {
			if !part.Tail { // those are what a crash leaves
				f.Damage = append(f.Damage, part.String())
			}
		}
	}
	f.StoreBytes, err = monitor.Size(d.cfg.Layout.StoreDir())
	return f, err
}

// quickLook is look without what takes long in a large store.
func (d *daemon) quickLook(ctx context.Context) (f monitor.Facts, err error) {
	if f.DiskBytes, f.DiskFree, err = monitor.Disk(d.cfg.Layout.StoreDir()); err != nil {
		return f, err
	}
	entries, err := d.store.Queue(ctx)
	if err != nil {
		return f, err
	}
	f.QueueLength = len(entries)
	f.QueueOldest = oldest(entries)
	f.Certificates = d.state.Load().certs.list()
	if d.backups != nil {
		if st := d.backups.Status(); st.Every > 0 {
			f.Backup = &monitor.Backup{Every: st.Every, Since: st.Since, Last: st.Last, Err: st.Err}
		}
	}
	return f, nil
}

// oldest is when the oldest message that is not held was queued; zero without one.
func oldest(entries []store.QueueEntry) (at time.Time) {
	for _, e := range entries {
		if !e.Hold && (at.IsZero() || e.Queued.Before(at)) {
			at = e.Queued
		}
	}
	return at
}

// list returns each certificate once, by its first name.
func (c certificates) list() []monitor.Certificate {
	seen := map[*tls.Certificate]bool{}
	var out []monitor.Certificate
	add := func(cert *tls.Certificate) {
		if cert == nil || seen[cert] {
			return
		}
		seen[cert] = true
		name := cert.Leaf.Subject.CommonName
		if len(cert.Leaf.DNSNames) > 0 {
			name = cert.Leaf.DNSNames[0]
		}
		out = append(out, monitor.Certificate{Name: name, NotAfter: cert.Leaf.NotAfter})
	}
	add(c.host)
	for _, list := range c.byName {
		for _, cert := range list {
			add(cert)
		}
	}
	slices.SortFunc(out, func(a, b monitor.Certificate) int {
		if n := strings.Compare(a.Name, b.Name); n != 0 {
			return n
		}
		return a.NotAfter.Compare(b.NotAfter)
	})
	// Of two with the same first name the one that ends first counts.
	return slices.CompactFunc(out, func(a, b monitor.Certificate) bool { return a.Name == b.Name })
}

// collect answers Prometheus.
func (d *daemon) collect(ctx context.Context, m *monitor.Metrics) error {
	f, err := d.quickLook(ctx)
	if err != nil {
		return err
	}
	now := d.cfg.Now()
	checked, conditions := d.monitor.Last()

	m.Family("mailform_build_info", monitor.Gauge, "The mailformd that runs.")
	m.Value("mailform_build_info", 1, "version", d.cfg.Version)
	m.One("mailform_start_time_seconds", monitor.Gauge, "When it was started, in seconds since 1970.", float64(d.started.Unix()))
	m.Family("mailform_connections_total", monitor.Counter, "Connections let in, by service.")
	for _, name := range d.listening() {
		m.Value("mailform_connections_total", float64(d.accepted[name].Load()), "service", name)
	}
	m.One("mailform_connections_refused_total", monitor.Counter, "Connections that a limit refused.", float64(d.conns.refused()))
	m.One("mailform_connections_open", monitor.Gauge, "Connections that are open.", float64(d.conns.all.Open()))
	messages := d.smtp.Counts()
	m.One("mailform_messages_received_total", monitor.Counter, "Messages accepted from other servers.", float64(messages.Received))
	m.One("mailform_messages_submitted_total", monitor.Counter, "Messages accepted from users.", float64(messages.Submitted))
	m.One("mailform_messages_refused_total", monitor.Counter, "Messages that were sent and not accepted.", float64(messages.Refused))
	filtered := d.filter.Counts()
	m.Family("mailform_filter_total", monitor.Counter, "What the filter did about messages, or recipients refused before there was one.")
	m.Value("mailform_filter_total", float64(filtered.Refused), "verdict", "refused")
	m.Value("mailform_filter_total", float64(filtered.Junk), "verdict", "junk")
	m.Value("mailform_filter_total", float64(filtered.Deferred), "verdict", "deferred")
	m.One("mailform_queue_messages", monitor.Gauge, "Messages that wait for other servers.", float64(f.QueueLength))
	oldest := 0.0
	if !f.QueueOldest.IsZero() {
		oldest = now.Sub(f.QueueOldest).Seconds()
	}
	m.One("mailform_queue_oldest_seconds", monitor.Gauge, "Age of the oldest of them that is not held.", oldest)
	m.One("mailform_store_bytes", monitor.Gauge, "What the mail takes on the disk, a few minutes ago at most.", float64(checked.StoreBytes))
	m.One("mailform_disk_bytes", monitor.Gauge, "Size of the file system that the mail is on.", float64(f.DiskBytes))
	m.One("mailform_disk_free_bytes", monitor.Gauge, "What is free of it.", float64(f.DiskFree))
	m.Family("mailform_certificate_remaining_seconds", monitor.Gauge, "How long a served certificate is valid yet.")
	for _, c := range f.Certificates {
		m.Value("mailform_certificate_remaining_seconds", c.NotAfter.Sub(now).Seconds(), "certificate", c.Name)
	}
	if f.Backup != nil && !f.Backup.Last.IsZero() {
		m.One("mailform_backup_age_seconds", monitor.Gauge, "Age of the newest backup.", now.Sub(f.Backup.Last).Seconds())
	}
	m.Family("mailform_condition", monitor.Gauge, "1 for each thing that is wrong with the host.")
	for _, c := range conditions {
		m.Value("mailform_condition", 1, "condition", c.Key)
	}
	return nil
}

// accepting counts the connections of one service.
type accepting struct {
	net.Listener
	n *atomic.Int64
}

func (l accepting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// backupNow makes a backup for POST /v1/backup.
func (d *daemon) backupNow(w http.ResponseWriter, r *http.Request) {
	// It may take longer than other requests.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	if d.backups == nil {
		http.Error(w, backup.ErrOff.Error(), http.StatusUnprocessableEntity)
		return
	}
	m, err := d.backups.Now(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	d.answer(w, m.Told())
}
