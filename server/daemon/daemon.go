// Package daemon is mailformd as a service: it takes its sockets from systemd,
// reads what the host is to serve, wires the mail server's parts together, and
// reads everything again on request without dropping a connection.
//
// Without a certificate it serves all the same: STARTTLS is not offered, ports
// with implicit TLS close their connections, and both change with the reload
// that finds one. A reload that cannot read everything changes nothing.
//
// It imports every other server package, and nobody imports it but cmd/mailformd.
package daemon

import (
	"context"
	"crypto/cipher"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"mailform/server/account"
	"mailform/server/backup"
	"mailform/server/filter"
	"mailform/server/imap"
	"mailform/server/imap/summary"
	"mailform/server/limits"
	"mailform/server/manifest"
	"mailform/server/monitor"
	"mailform/server/pop3"
	"mailform/server/queue"
	"mailform/server/search"
	"mailform/server/smtp"
	"mailform/server/store"
	"mailform/server/store/seal"
	"mailform/server/web"
)

// Config is what Run needs. Layout, Logger and Listeners must be set.
type Config struct {
	Layout  manifest.Layout
	Version string
	Logger  *slog.Logger
	// Listeners are the sockets by service name, see manifest.ServicesOf. Run closes them.
	Listeners map[string][]net.Listener
	Hangup    <-chan os.Signal         // each value is a reload; may be nil
	Notify    func(state string) error // tells systemd; may be nil
	Watchdog  time.Duration            // see WatchdogInterval; 0 is none

	Resolver Resolver       // default: the name servers of /etc/resolv.conf
	Dial     Dial           // default: directly
	Roots    *x509.CertPool // verify the relay; nil uses the system's
	Reach    []string       // domains whose servers are tried on port 25; default DefaultReach
	Metadata string         // URL of the instance's metadata service; "" for bucket.Metadata

	// OpenStore opens the mail store; default store.Open.
	OpenStore func(dir string, o store.Options) (store.Store, error)
	// Local are the clients that only the limit on all connections is for, and
	// that mail from outside does not come from; default this machine's loopback addresses.
	Local []netip.Prefix
	Now   func() time.Time                                 // default time.Now
	Sleep func(ctx context.Context, d time.Duration) error // delays answers to guesses; default waits
}

// shutdownTime is how long transactions may take to end.
const shutdownTime = 20 * time.Second

// daemon is one run.
type daemon struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	store   store.Store
	auth    *authenticator
	smtp    *smtp.Server
	imap    *imap.Server
	pop3    *pop3.Server
	web     *web.Server
	queue   *queue.Queue
	search  atomic.Pointer[search.Indexer]
	sums    atomic.Pointer[summary.Keeper]
	filter  *filter.Filter
	conns   *conns
	tls     *tls.Config

	backups   *backup.Runner // nil: this kind of store cannot be backed up
	monitor   *monitor.Monitor
	metrics   *monitor.Exporter
	reach     *reach
	purge     *purge
	retention *retention
	accepted  map[string]*atomic.Int64 // connections, by service
	imports   imports

	sealing   atomic.Pointer[store.Sealing] // how far encryption was when last looked at
	turned    chan struct{}                 // has a value when encryption may have been turned on
	reloading sync.Mutex
	state     atomic.Pointer[state]
}

// Run serves until ctx ends or a listener fails, then shuts down: it stops
// accepting, lets transactions end for 20 s, and closes the store.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.Logger == nil || len(cfg.Listeners) == 0 {
		return errors.New("daemon.Config needs Logger and Listeners")
	}
	defer closeAll(cfg.Listeners)
	for name := range cfg.Listeners {
		if !known(name) {
			return fmt.Errorf("socket %q is for no service of mailformd", name)
		}
	}
	d, err := start(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := d.store.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close the store: %w", cerr))
		}
		d.log.Info("stopped")
	}()

	control, err := listenControl(cfg.Layout.ControlSocket())
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	hs := d.control()

	failed := make(chan error, 1)
	var serving sync.WaitGroup
	serve := func(what string, f func() error) {
		serving.Go(func() {
			if err := f(); err != nil {
				select {
				case failed <- fmt.Errorf("%s: %w", what, err):
				default:
				}
			}
		})
	}
	serve("control socket", func() error { return ignore(hs.Serve(control), http.ErrServerClosed) })
	queueCtx, stopQueue := context.WithCancel(context.WithoutCancel(ctx))
	defer stopQueue()
	serve("queue", func() error { return d.queue.Run(queueCtx) })
	serve("filter", func() error { return d.filter.Run(queueCtx) })
	serve("search", func() error { return d.search.Load().Run(queueCtx) })
	serve("summaries", func() error { return d.sums.Load().Run(queueCtx) })
	serve("monitor", func() error { return d.monitor.Run(queueCtx) })
	serve("reach", func() error { return d.reach.run(queueCtx) })
	serve("expiry", func() error { return d.expire(queueCtx) })
	serve("compaction", func() error {
		t := time.NewTicker(compactEvery)
		defer t.Stop()
		return d.compact(queueCtx, t.C)
	})
	serve("encryption", func() error {
		t := time.NewTicker(compactEvery)
		defer t.Stop()
		return d.encrypt(queueCtx, t.C)
	})
	if d.backups != nil {
		serve("backup", func() error { return d.backups.Run(queueCtx) })
	}
	d.serveListeners(serve)

	d.log.Info("serving", "version", cfg.Version, "host", d.state.Load().manifest.Hostname, "services", d.listening(), "manifest", d.state.Load().sha256)
	d.notify("READY=1\nSTATUS=Serving " + d.state.Load().manifest.Hostname)
	err = d.wait(ctx, failed)

	d.notify("STOPPING=1")
	if err != nil {
		d.log.Error("stopping", "err", err)
	} else {
		d.log.Info("stopping")
	}
	stopQueue()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	var stopping sync.WaitGroup
	for what, shutdown := range map[string]func(context.Context) error{"smtp": d.smtp.Shutdown, "imap": d.imap.Shutdown, "pop3": d.pop3.Shutdown, "web": d.web.Shutdown, "control": hs.Shutdown} {
		stopping.Go(func() {
			if err := shutdown(end); err != nil {
				d.log.Warn("shutdown", "service", what, "err", err)
			}
		})
	}
	stopping.Wait()
	_ = hs.Close()
	d.metrics.Close()
	serving.Wait()
	return err
}

// start reads the host's documents and makes the parts.
func start(ctx context.Context, cfg Config) (*daemon, error) {
	def := func(ok bool, set func()) {
		if !ok {
			set()
		}
	}
	def(cfg.Notify != nil, func() { cfg.Notify = func(string) error { return nil } })
	def(cfg.Now != nil, func() { cfg.Now = time.Now })
	def(cfg.Local != nil, func() {
		cfg.Local = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	})
	def(cfg.Sleep != nil, func() { cfg.Sleep = sleep })
	def(cfg.Dial != nil, func() { cfg.Dial = (&net.Dialer{}).DialContext })
	def(len(cfg.Reach) > 0, func() { cfg.Reach = DefaultReach() })
	def(cfg.OpenStore != nil, func() {
		cfg.OpenStore = func(dir string, o store.Options) (store.Store, error) { return store.Open(dir, o) }
	})
	if cfg.Resolver == nil {
		r, err := queue.NewDNS("", cfg.Now)
		if err != nil {
			return nil, err
		}
		cfg.Resolver = r
	}
	d := &daemon{cfg: cfg, turned: make(chan struct{}, 1), log: cfg.Logger, started: cfg.Now(), accepted: map[string]*atomic.Int64{}}
	for name := range cfg.Listeners {
		d.accepted[name] = new(atomic.Int64)
	}
	d.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: d.certificate}

	s, keyErr, err := load(cfg.Layout)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if keyErr != nil { // mail that comes in must not wait for a person who mends a key
		d.log.Error("starting without some keys", "err", keyErr)
	}
	spool, err := spoolDir(cfg.Layout)
	if err != nil {
		return nil, err
	}
	if d.store, err = cfg.OpenStore(cfg.Layout.StoreDir(), store.Options{Logger: cfg.Logger.With("part", "store"), Now: cfg.Now, Version: cfg.Version, Changed: d.changed, Root: s.root}); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	d.search.Store(search.NewIndexer(search.Config{Store: d.store, Dir: cfg.Layout.SearchDir(), Logger: cfg.Logger.With("part", "search"), Now: cfg.Now, Keys: d.keys}))
	d.sums.Store(summary.NewKeeper(summary.Config{Store: d.store, Dir: cfg.Layout.SummaryDir(), Logger: cfg.Logger.With("part", "summary"), Now: cfg.Now, Cipher: d.cipher}))
	if err := d.assemble(ctx, s, spool); err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	return d, nil
}

// keys returns the keys of the store's accounts; nil when nothing is encrypted.
func (d *daemon) keys() *seal.Ring {
	if s, ok := d.store.(interface{ Keys() *seal.Ring }); ok {
		return s.Keys()
	}
	return nil
}

// cipher is what an account's summaries are sealed with; nil while it has no key, and
// so no encrypted mail.
func (d *daemon) cipher(account string) (cipher.AEAD, error) {
	ring := d.keys()
	if ring == nil || !ring.Has(account) {
		return nil, nil
	}
	return ring.Cipher(account, "summary")
}

// changed tells the search index and the summaries what the store has committed.
func (d *daemon) changed(account string, added []*store.Message, removed bool) {
	if n := d.search.Load(); n != nil {
		n.Changed(account, added, removed)
	}
	if k := d.sums.Load(); k != nil {
		k.Changed(account, added, removed)
	}
}

func (d *daemon) assemble(ctx context.Context, s *state, spool string) error {
	if err := s.ready(ctx, d.store); err != nil {
		return err
	}
	accounts, err := account.NewAuthenticator(s.directory, account.Options{KeyFile: d.cfg.Layout.LoginKeysFile(), Logger: d.log.With("part", "account"), Now: d.cfg.Now})
	if err != nil {
		return err
	}
	d.auth = &authenticator{accounts: accounts, penalties: limits.NewPenalties(limits.PenaltyOptions{Now: d.cfg.Now}), scramless: scramless{now: d.cfg.Now, clients: map[netip.Prefix]time.Time{}}, sleep: d.cfg.Sleep,
		banner: newBanner(d.cfg.Now, d.cfg.Layout.BansSocket(), d.log.With("part", "limits"))}
	d.state.Store(s)
	d.conns = newConns(s.manifest.Limits, d.cfg.Local, d.cfg.Now)
	if d.queue, err = queue.New(queue.Config{
		Store: d.store, Resolver: d.cfg.Resolver, Dial: d.cfg.Dial, Roots: d.cfg.Roots, Logger: d.log.With("part", "queue"), Now: d.cfg.Now,
	}, d.queueSettings(s)); err != nil {
		return err
	}
	if d.filter, err = filter.New(filter.Config{
		Resolver: lookups{d.cfg.Resolver}, Logger: d.log.With("part", "filter"), Local: d.cfg.Local,
		GreylistFile: d.cfg.Layout.GreylistFile(), Now: d.cfg.Now,
	}); err != nil {
		return err
	}
	if d.smtp, err = smtp.New(smtp.Config{
		Store: d.store, Filter: d.filter, Auth: d.auth.login, Queued: d.queue.Kick, SpoolDir: spool, Logger: d.log.With("part", "smtp"), Now: d.cfg.Now, Sleep: d.cfg.Sleep,
	}, d.smtpSettings(s)); err != nil {
		return err
	}
	if d.imap, err = imap.New(imap.Config{
		Store: d.store, Find: d.search.Load().Find, Summaries: d.sums.Load().Reader, Auth: d.auth.login, Logger: d.log.With("part", "imap"), Sleep: d.cfg.Sleep,
		OnAuthFailure: func(netip.Addr, string) time.Duration { return 0 }, // login has taken its time
	}, d.imapSettings(s)); err != nil {
		return err
	}
	if d.pop3, err = pop3.New(pop3.Config{Store: d.store, Auth: d.auth.login, Logger: d.log.With("part", "pop3")}, d.pop3Settings(s)); err != nil {
		return err
	}
	if d.web, err = web.New(web.Config{Logger: d.log.With("part", "web"), GetCertificate: d.certificate}, s.manifest); err != nil {
		return err
	}
	if err := d.watch(s); err != nil {
		return err
	}
	for _, a := range s.directory.Accounts() {
		d.search.Load().Check(a.Address)
		d.sums.Load().Check(a.Address)
	}
	d.tell(s)
	return nil
}

// spoolDir is where large messages wait while they arrive. The files in it have
// no names, but for one that a crash may have left with nothing in it.
func spoolDir(l manifest.Layout) (string, error) {
	dir := filepath.Join(l.StoreDir(), "incoming")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (d *daemon) smtpSettings(s *state) *smtp.Settings {
	st := &smtp.Settings{
		Hostname: s.manifest.Hostname, MaxMessageBytes: s.manifest.MaxMessageBytes, Routes: s.routes, Signer: s.keys,
		Policy: s.manifest.Filter, SCRAM: d.offered(s),
	}
	if l := s.manifest.Limits; l != nil {
		st.MaxRecipients, st.MessagesPerHour = l.RecipientsPerMessage, l.MessagesPerHour
	}
	if s.certs.host != nil {
		st.TLS = d.tls
	}
	return st
}

func (d *daemon) imapSettings(s *state) *imap.Settings {
	st := &imap.Settings{Hostname: s.manifest.Hostname, MaxMessageBytes: s.manifest.MaxMessageBytes, SCRAM: d.offered(s)}
	if s.certs.host != nil {
		st.TLS = d.tls
	}
	return st
}

func (d *daemon) pop3Settings(s *state) *pop3.Settings {
	st := &pop3.Settings{Exclusive: s.manifest.POP3 != nil && s.manifest.POP3.Exclusive, SCRAM: d.offered(s)}
	if s.certs.host != nil {
		st.TLS = d.tls
	}
	return st
}

func (d *daemon) queueSettings(s *state) *queue.Settings {
	return &queue.Settings{Hostname: s.manifest.Hostname, Relay: s.manifest.Relay, Routes: s.routes, Signer: s.keys}
}

// certificate answers a TLS handshake.
func (d *daemon) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s := d.state.Load(); s != nil {
		if c := s.certs.choose(hello); c != nil {
			return c, nil
		}
	}
	return nil, errors.New("there is no certificate yet")
}

// tell logs what a person should know about a state.
func (d *daemon) tell(s *state) {
	for _, p := range s.routes.Problems() {
		d.log.Warn("manifest", "problem", p)
	}
	if s.certs.host == nil {
		d.log.Warn("no certificate yet: TLS is not offered", "chain", d.cfg.Layout.CertChain(s.manifest.Host))
	}
}

// serveListeners hands each socket to its service, behind the limits.
func (d *daemon) serveListeners(serve func(what string, f func() error)) {
	for _, p := range manifest.EveryService() {
		for _, l := range d.cfg.Listeners[p.Name] {
			limited := &limits.Listener{Listener: l, Conns: d.conns.users, Refused: func(a netip.Addr) {
				d.log.Warn("too many connections", "service", p.Name, "remote", a.String())
				d.auth.banner.refused(a)
			}}
			counted := accepting{limited, d.accepted[p.Name]}
			switch p.Name {
			case "smtp":
				limited.Conns, limited.Refusal = d.conns.servers, "421 4.7.0 Too many connections, try again later\r\n"
				serve(p.Name, func() error { return ignore(d.smtp.Serve(counted, smtp.MX, p.TLS), smtp.ErrServerClosed) })
			case "submission", "submissions":
				if !p.TLS {
					limited.Refusal = "421 4.7.0 Too many connections, try again later\r\n"
				}
				serve(p.Name, func() error { return ignore(d.smtp.Serve(counted, smtp.Submission, p.TLS), smtp.ErrServerClosed) })
			case "imap", "imaps":
				if !p.TLS {
					limited.Refusal = "* BYE [UNAVAILABLE] Too many connections, try again later\r\n"
				}
				serve(p.Name, func() error { return ignore(d.imap.Serve(counted, p.TLS), imap.ErrServerClosed) })
			case "pop3", "pop3s":
				if !p.TLS {
					limited.Refusal = "-ERR [SYS/TEMP] Too many connections, try again later\r\n"
				}
				serve(p.Name, func() error { return ignore(d.pop3.Serve(counted, p.TLS), pop3.ErrServerClosed) })
			case "https":
				serve(p.Name, func() error { return ignore(d.web.Serve(counted), web.ErrServerClosed) })
			}
		}
	}
}

// wait returns when it is time to stop.
func (d *daemon) wait(ctx context.Context, failed <-chan error) error {
	var watchdog <-chan time.Time
	if d.cfg.Watchdog > 0 {
		t := time.NewTicker(d.cfg.Watchdog / 2)
		defer t.Stop()
		watchdog = t.C
	}
	// One check at a time: what hangs keeps its channel empty, and systemd hears nothing more.
	idle := make(chan bool, 1)
	idle <- true
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-d.cfg.Hangup:
			if err := d.reload(ctx); err != nil {
				d.log.Error("reload", "err", err)
			}
		case <-watchdog:
			select {
			case <-idle:
				go func() {
					if d.alive(ctx) {
						d.notify("WATCHDOG=1")
					}
					idle <- true
				}()
			default:
			}
		}
	}
}

// alive asks what a restart can help when it does not answer: the store's index,
// and its writer, which everything that is acknowledged goes through. A full disk
// is an answer, too.
func (d *daemon) alive(ctx context.Context) bool {
	if _, err := d.store.Queue(ctx); err != nil {
		return false
	}
	err := d.store.RemoveQueue(ctx, "watchdog") // there is none of that name
	return ctx.Err() == nil && !errors.Is(err, store.ErrClosed)
}

// reload reads everything again. On an error all stays as it was.
func (d *daemon) reload(ctx context.Context) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	d.notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonicUSec()))
	defer d.notify("READY=1")
	s, keyErr, err := load(d.cfg.Layout)
	if err = errors.Join(err, keyErr); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	if err := s.ready(ctx, d.store); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	d.state.Store(s)
	d.auth.accounts.SetDirectory(s.directory)
	d.smtp.Set(d.smtpSettings(s))
	d.imap.Set(d.imapSettings(s))
	d.pop3.Set(d.pop3Settings(s))
	d.queue.Set(d.queueSettings(s))
	d.web.Set(s.manifest)
	d.conns.set(s.manifest.Limits)
	d.setWatch(s)
	d.tell(s)
	select {
	case d.turned <- struct{}{}:
	default:
	}
	d.log.Info("reloaded", "manifest", s.sha256, "accounts", len(s.directory.Accounts()))
	return nil
}

func (d *daemon) notify(state string) {
	if err := d.cfg.Notify(state); err != nil {
		d.log.Warn("notify systemd", "err", err)
	}
}

// listening lists the services that have a socket, in port order.
func (d *daemon) listening() []string {
	names := []string{}
	for _, n := range serviceNames() {
		if len(d.cfg.Listeners[n]) > 0 {
			names = append(names, n)
		}
	}
	return names
}

func (d *daemon) status(ctx context.Context) (manifest.Status, error) {
	entries, err := d.store.Queue(ctx)
	if err != nil {
		return manifest.Status{}, err
	}
	s := d.state.Load()
	st := manifest.Status{Version: d.cfg.Version, PID: os.Getpid(), Started: d.started.UTC(), ManifestSHA256: s.sha256,
		Listening: d.listening(), Queue: len(entries), Connections: d.conns.all.Open(), Refused: d.conns.refused()}
	counts := d.filter.Counts()
	st.Filter = manifest.FilterStatus{Refused: counts.Refused, Junk: counts.Junk, Deferred: counts.Deferred}
	st.Alerts, st.LastBackup = d.monitor.Conditions(), d.lastBackup()
	st.QueueOldest, st.Reach = oldest(entries), d.reach.last()
	st.Purged = d.purge.purged()
	st.Retention = d.retention.status(s.manifest)
	if d.backups != nil {
		st.BackupEverySeconds = int64(d.backups.Status().Every / time.Second)
	}
	if s.manifest.Store != nil && s.manifest.Store.Encrypt {
		st.Encryption = d.encryption()
	}
	if s.certs.host != nil {
		st.CertNotAfter = s.certs.host.Leaf.NotAfter
	}
	return st, nil
}

func closeAll(listeners map[string][]net.Listener) {
	for _, list := range listeners {
		for _, l := range list {
			_ = l.Close()
		}
	}
}

func ignore(err, usual error) error {
	if errors.Is(err, usual) {
		return nil
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
