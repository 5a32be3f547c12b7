package specs

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// checkPolicies finds MTA-STS and DANE that do less than they seem to, or more.
func (l *loader) checkPolicies(b *built) {
	for _, d := range b.domains {
		if d.DANE {
			l.warnAt(codeUnsignedDANE, d.n.at("dane"), d.n.header, fmt.Sprintf("DANE for %s needs DNSSEC", d.Name),
				"Senders look at TLSA records only in a signed zone, and whether it is signed cannot be seen from here. Check it at Cloudflare (DNS, Settings) and at the registrar, then say so: rules { "+codeUnsignedDANE+" = \"ignore\" }.")
		}
		l.checkTLSReports(d)
		if d.MTASTS == nil || d.MTASTS.Mode != "enforce" {
			continue
		}
		n := first(d.n, "mta_sts")
		if age := d.MTASTS.MaxAge; age > 0 && age < shortPolicy {
			l.warnAt(codeShortPolicy, n.at("max_age"), n.header, fmt.Sprintf("senders forget the policy of %s after %s", d.Name, formatDuration(age)),
				"Whoever can keep them from it for that long has them deliver without TLS. Once mode is enforce, max_age should be weeks (RFC 8461 3.2).")
		}
		if d.TLSRPT == nil {
			l.warnAt(codeBlindPolicy, n.at("mode"), n.header, fmt.Sprintf("nobody learns when the policy of %s stops mail", d.Name),
				"Under enforce, senders that cannot verify the host keep their mail. They say so in TLS reports, if they are asked to: tls_rpt { }.")
		}
	}
}

// checkRetention finds rules that speak of the same mailbox, and those that touch
// what people have not dealt with.
func (l *loader) checkRetention(b *built) {
	for _, d := range b.domains {
		seen, names := map[string]*node{}, map[string]*node{}
		for i, n := range d.n.blocks["retention"] {
			r := d.Retention[i]
			if f := names[r.Name]; f != nil && r.Name != "" {
				l.errorAt(codeRepeatedBlock, n.labels[0].at, n.header, fmt.Sprintf("a second rule %q", r.Name), fmt.Sprintf("There may be one; the first is at %s.", rangeOf(f.header)))
				continue
			}
			names[r.Name] = n
			if r.Mailbox == "" {
				continue
			}
			if f := seen[r.Mailbox]; f != nil {
				l.errorAt(codeRepeatedBlock, n.at("mailbox"), n.header, fmt.Sprintf("a second rule for %s", r.Mailbox), fmt.Sprintf("There may be one; the first is at %s.", rangeOf(f.header)))
				continue
			}
			seen[r.Mailbox] = n
			if !slices.Contains([]string{"Trash", "Junk"}, r.Mailbox) {
				l.warnAt(codeRetainedMail, n.at("mailbox"), n.header, fmt.Sprintf("mail in %s is deleted after %s, read or not", r.Mailbox, formatDuration(r.After)),
					fmt.Sprintf("That goes for every mailbox of %s, and for what is there already. Only a backup has it then.", d.Name))
			}
		}
	}
}

// shortPolicy is the default max_age.
const shortPolicy = 7 * 24 * time.Hour

func (l *loader) checkTLSReports(d *builtDomain) {
	if d.TLSRPT == nil {
		return
	}
	n := first(d.n, "tls_rpt")
	if size := len("v=TLSRPTv1; rua=") + len(",mailto:")*len(d.TLSRPT.Reports) + len(strings.Join(d.TLSRPT.Reports, "")); size > txtMost {
		l.errorAt(codeRecordTooLong, n.at("reports"), n.header, "the TLS-RPT record is too long", fmt.Sprintf("It would have %d bytes; %d can be stored. Use an alias that leads to all of them.", size, txtMost))
	}
}

// checkOperation finds what is wrong with how the system is run.
func (l *loader) checkOperation(b *built) {
	l.checkLimits(b)
	l.checkRetention(b)
	l.checkBackup(b)
	l.checkLock(b)
	l.checkMonitor(b)
	for _, n := range b.root.blocks["ignore"] {
		if n.label() == "*" && slices.Contains(list[string](n, "fields"), "*") {
			l.warnAt(codeWideGlob, n.labels[0].at, n.header, "every difference is left alone", "No change to the spec and no drift would ever be applied. Name what is meant.")
		}
	}
	for _, n := range b.root.blocks["forget"] {
		if n.label() == "*" {
			l.warnAt(codeWideGlob, n.labels[0].at, n.header, "everything is forgotten", "The whole stack would stop being ours. Name what is meant.")
		}
	}
	p, _ := b.root.one("protection")
	for _, it := range p.values["unprotect"].items {
		if it.v == "*" {
			l.warnAt(codeWideGlob, it.at, p.header, "nothing is protected", "A typing error could then delete mailboxes and disks without a question. Name what is meant.")
		}
	}
}

// sendersExpect is how many recipients a server must take, RFC 5321 4.5.3.1.8.
const sendersExpect = 100

func (l *loader) checkLimits(b *built) {
	server, _ := b.root.one("server")
	n, written := server.one("limits")
	if !written {
		return
	}
	limits := b.spec.Server.Limits
	if limits.RecipientsPerMessage > 0 && limits.RecipientsPerMessage < sendersExpect {
		l.warnAt(codeFewRecipients, n.at("recipients_per_message"), n.header, fmt.Sprintf("senders may give a message %d recipients", sendersExpect),
			"They rely on that many being taken at once (RFC 5321 4.5.3.1.8); some give up when they are not.")
	}
	if limits.Connections > 0 && limits.ConnectionsPerClient > limits.Connections {
		l.errorAt(codeOutOfRange, n.at("connections_per_client"), n.header, "one client may have more connections than there are",
			fmt.Sprintf("connections is %d, for all clients together.", limits.Connections))
	}
}

// overPlainHTTP reports whether an endpoint's traffic can be read on its way.
func overPlainHTTP(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && u.Scheme == "http" && !loopback(u.Hostname())
}

func (l *loader) checkBackup(b *built) {
	k := b.spec.Backup
	if k == nil {
		return
	}
	n := first(b.root, "backup")
	l.checkBackupPlace(n)
	l.checkBackupKey(b, n)
	if overPlainHTTP(k.Endpoint) {
		l.warnAt(codePlainTransport, n.at("endpoint"), n.header, "backups travel without TLS", "Everyone on the way could read all mail. Write https://.")
	}
	if k.Keep > 0 && k.Keep < k.Every {
		l.warnAt(codeBackupGap, n.at("keep"), n.header, fmt.Sprintf("copies are kept for %s and made every %s", formatDuration(k.Keep), formatDuration(k.Every)), "Between two of them there may be none to restore. Make keep longer than every, best by many times.")
	}
	l.readable(n, "secret_access_key", "the backup's key", "backup_key")
}

func (l *loader) checkLock(b *built) {
	k := b.spec.Lock
	if k == nil {
		return
	}
	n := first(b.root, "lock")
	if overPlainHTTP(k.Endpoint) {
		l.warnAt(codePlainTransport, n.at("endpoint"), n.header, "the lock is reached without TLS", "Somebody on the way could give two people the lock at once. Write https://.")
	}
	if u, err := url.Parse(k.URL); err == nil && u.Query().Get("sslmode") == "disable" && !loopback(u.Hostname()) {
		l.warnAt(codePlainTransport, n.at("url"), n.header, "the lock is reached without TLS", "The database's password travels readable. Leave sslmode=disable out.")
	}
	l.readable(n, "url", "the lock's database", "lock_url")
}

func (l *loader) checkMonitor(b *built) {
	n := first(b.root, "monitor")
	if n == nil {
		return
	}
	m := b.spec.Monitor
	l.checkMetrics(b, n, m.Metrics)
	if renew := b.spec.TLS.RenewAfter; m.Certificate > 0 && renew > 0 && m.Certificate >= renew {
		l.warnAt(codeLateRenewal, n.at("certificate"), n.header, fmt.Sprintf("every certificate would be reported with %s left", formatDuration(m.Certificate)),
			fmt.Sprintf("Renewal begins when %s are left (renew_before in the tls block), so there is nothing wrong before. Make certificate less.", formatDuration(renew)))
	}
	l.checkAlerts(b, n)
}

// checkMetrics: metrics tell who has mail and from whom, so only the machine
// itself may ask for them.
func (l *loader) checkMetrics(b *built, n *node, metrics string) {
	if metrics == "" {
		return
	}
	host, port, _ := cutPort(metrics)
	if !loopback(host) {
		fix := "127.0.0.1:" + port
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
			fix = "[::1]:" + port
		}
		l.errorAt(codePublicMetrics, n.at("metrics"), n.header, fmt.Sprintf("%s is not this machine alone", host), fmt.Sprintf("Whoever reaches the port could read the metrics. Write %q, and let the collector run there or come through SSH.", fix))
		return
	}
	p, _ := strconv.Atoi(port)
	taken := slices.Contains(mailPorts[:], p) || p == webPort || p == acmePort
	for _, h := range b.hosts {
		taken = taken || p == h.SSH.Port
	}
	if taken {
		l.errorAt(codePublicMetrics, n.at("metrics"), n.header, fmt.Sprintf("port %d is taken", p), "Mail, SSH or the web is on it. Prometheus' exporters are usually found at 9100 and above.")
	}
}

// acmePort is where plain HTTP is.
const acmePort = 80

// checkAlerts: what a host writes about itself must not have to arrive at that host.
func (l *loader) checkAlerts(b *built, n *node) {
	alerts, at := b.spec.Monitor.Alerts, n.at("alerts")
	if len(alerts) == 0 {
		contact := b.spec.Stack.Contact
		if contact == "" {
			return // the first domain's postmaster, of whom nobody has thought yet
		}
		alerts = []string{contact}
	}
	ours := b.byName()
	for _, h := range b.hosts {
		inside := func(a string) bool {
			_, at := splitAddress(a)
			return ours[at] != nil && ours[at].Host == h.Name
		}
		if h.Name != "" && !slices.ContainsFunc(alerts, func(a string) bool { return !inside(a) }) {
			l.warnAt(codeAlertsInside, at, hcl.Range{}, fmt.Sprintf("alerts of host %q go to itself", h.Name),
				fmt.Sprintf("%s is served by that host: when it is down or its disk is full, nobody reads the alert. Add an address elsewhere: alerts = [\"you@elsewhere.example\"].", strings.Join(alerts, ", ")))
		}
	}
}
