package specs

import (
	"net/netip"
	"time"
)

// Range is a place in a source file. Lines and columns count from 1.
type Range struct {
	File               string
	Line, Column       int
	EndLine, EndCol    int
	StartByte, EndByte int
}

// Spec is one stack: everything its *.hcl files say, with defaults filled in.
type Spec struct {
	Stack      Stack
	AliCloud   AliCloud
	Cloudflare Cloudflare
	ACME       ACME
	Resolver   string    // host:port for every DNS question; "" for the system's
	CABundle   string    // PEM file trusted beside the system's roots, as written: relative to the stack's folder; "" for none
	Hosts      []*Host   // sorted by name
	Domains    []*Domain // sorted by name
	Zones      []*Zone   // sorted by name: what a zone block says about a DNS zone
	TLS        TLS
	Server     Server
	Backup     *Backup // nil: no backups
	Monitor    Monitor
	Lock       *Lock      // nil: only this machine's file lock and the host's lease
	Protection Protection // what needs permission beyond the defaults, and what does not
	Ignore     []Ignore   // differences that are left alone, in source order
	Forget     []Forget   // things that stop being ours, in source order

	// secrets maps fingerprints to texts; see Secret.
	secrets map[string]string
}

// Secret returns the text behind a fingerprint that Fingerprint gave for this spec.
func (s *Spec) Secret(fingerprint string) (string, bool) {
	t, ok := s.secrets[fingerprint]
	return t, ok
}

// Host returns the host with that name, or nil.
func (s *Spec) Host(name string) *Host {
	for _, h := range s.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Stack names the whole and its owner mark.
type Stack struct {
	Name    string // 1 to 32 of a-z, 0-9 and -; part of every ownership mark
	Contact string // e-mail address: ACME contact and alert address
	Range   Range
}

// AliCloud is the provider "alicloud" block. Credentials never stand in a spec.
type AliCloud struct {
	Region      string // "cn-hongkong"
	ECSEndpoint string // URL or host; "" for the vendor's
	VPCEndpoint string
	OSSEndpoint string
	Range       Range
}

// Cloudflare is the provider "cloudflare" block.
type Cloudflare struct {
	BaseURL string // "" for the vendor's
	Range   Range
}

// ACME is the provider "acme" block.
type ACME struct {
	CA        string // name of an Authority; "" when the spec names none
	Directory string // URL of the CA's directory, also of CA; "" for Let's Encrypt
	Issuer    string // the CA's name in CAA records; "" when it follows from the directory
	EAB       *EAB   // nil when the spec has none
	Range     Range
}

// EAB binds the ACME account to one made on the CA's web site (RFC 8555 7.3.4).
type EAB struct {
	KeyID string
	HMAC  string // base64url; sensitive
	Range Range
}

// Host is a machine that serves mail: one that mailform creates (Instance) or
// one that exists (Address).
type Host struct {
	Name     string
	Hostname string     // FQDN in lower-case punycode; the name in MX, certificate and greeting
	Address  netip.Addr // of an existing machine; the zero Addr when Instance is set
	Instance *Instance
	SSH      SSH
	Allow    []Allow // beyond the mail ports and SSH
	// Exclusive has inbound firewall rules that the spec does not say removed.
	Exclusive bool
	// Firewall has the host run a firewall of its own, too, with the same openings.
	Firewall bool
	// Tune sets the machine itself for a mail server: kernel, journal, clock.
	Tune  bool
	Range Range
}

// Instance is an ECS instance to create.
type Instance struct {
	Type  string // "ecs.g7.large"
	Zone  string // "" lets the provider choose one that sells the type
	Image string // "debian-12" or a vendor image id
	// Instead are further types, in order of preference, for when Type is out of
	// stock; they count only when the instance is created.
	Instead    []string
	RAMRole    string // name of the RAM role the instance may use; "" for none
	SystemDisk Disk
	DataDisk   *DataDisk // nil: mail lives on the system disk
	Bandwidth  int       // of the public address, Mbit/s, 1 to 200, or 500 when it is what is charged
	ChargeBy   string    // what of the public address is paid for: "traffic" or "bandwidth"
	Range      Range
}

// Disk is a cloud disk.
type Disk struct {
	Category  string // "cloud_essd"
	SizeGiB   int
	Encrypted bool // with the account's default KMS key; decided at creation
}

// DataDisk is the disk the mail and the keys are on. It outlives the instance.
type DataDisk struct {
	Disk
	Snapshots *Snapshots // nil: none are made
	Range     Range
}

// Snapshots is a disk's automatic snapshot policy.
type Snapshots struct {
	Hour  int // 0 to 23, UTC+8, as the vendor counts
	Days  int // snapshots are kept this long, 1 to 65535
	Range Range
}

// SSH is how mailform and people log in.
type SSH struct {
	User           string         // "root"
	Port           int            // 22
	From           []netip.Prefix // who may connect; never empty
	AuthorizedKeys []string       // in authorized_keys format; empty: the keys of the person who applies
	HostKey        string         // pinned "SHA256:…" fingerprint or public key line; "" when unknown
	Harden         bool           // log-in by password is turned off
	Range          Range

	// UserUnset and PortUnset say that User and Port are the defaults because the
	// spec says nothing: on a machine that exists, the person's ssh configuration may.
	UserUnset, PortUnset bool
}

// Allow is an additional open port.
type Allow struct {
	Name     string
	Protocol string // "tcp" or "udp"
	FromPort int
	ToPort   int
	From     []netip.Prefix
	Range    Range
}

// Domain is a mail domain.
type Domain struct {
	Name      string // lower-case punycode, no trailing dot
	Host      string // name of the Host that serves it
	MX        MX
	SPF       *SPF    // nil: not managed (spf block with manage = false)
	DKIM      *DKIM   // nil: nothing is signed and no key published (manage = false)
	DMARC     *DMARC  // nil: not managed (manage = false)
	MTASTS    *MTASTS // nil: no policy is published
	TLSRPT    *TLSRPT // nil: no reports are asked for
	Discovery bool    // SRV records and autoconfig names for mail programs
	DANE      bool    // TLSA records for the host's certificate key; needs a signed zone
	Retention []Retention
	Mailboxes []*Mailbox // sorted by Local; postmaster and abuse delivery are always resolved, see Aliases
	Aliases   []*Alias   // sorted by Local; includes postmaster and abuse when nothing else serves them
	CatchAll  string     // local part of a mailbox; "" refuses unknown recipients
	// QuotaBytes and QuotaMessages bound what all mailboxes hold together; 0: no limit.
	QuotaBytes    int64
	QuotaMessages int64
	Range         Range
}

// MX is the domain's mail exchanger record.
type MX struct {
	Priority int // 0 to 65535
	Range    Range
}

// SPF is the sender policy, RFC 7208.
type SPF struct {
	Include []string // domains
	IP      []netip.Prefix
	All     string // "fail", "softfail" or "neutral"
	// AllUnset says that All is the default because the spec does not say: in a record
	// that others have begun, theirs stays.
	AllUnset bool
	Range    Range
}

// DKIM is the signing policy, RFC 6376 and RFC 8463.
type DKIM struct {
	Selector   string        // prefix of the selectors: "mf1" gives mf1-rsa and mf1-ed25519
	Algorithms []string      // of "rsa2048", "rsa4096", "ed25519"
	Rotate     time.Duration // a new key after this long; 0: never by itself
	Range      Range
}

// DMARC is the domain's policy, RFC 7489.
type DMARC struct {
	Policy          string   // "none", "quarantine" or "reject"
	SubdomainPolicy string   // "" follows Policy
	Reports         []string // addresses for aggregate reports; full addresses
	Range           Range
}

// MTASTS is the policy by which senders insist on TLS, RFC 8461. The host serves
// it at https://mta-sts.DOMAIN/.well-known/mta-sts.txt.
type MTASTS struct {
	Mode   string        // "testing", "enforce" or "none"
	MaxAge time.Duration // 1 day to 1 year
	Range  Range
}

// TLSRPT asks senders for reports about TLS, RFC 8460.
type TLSRPT struct {
	Reports []string // full addresses
	Range   Range
}

// Retention takes messages out of a mailbox of each account when they have been in
// it for some time.
type Retention struct {
	Name    string
	Mailbox string // see manifest.Retention
	After   time.Duration
	Range   Range
}

// Mailbox is one person's mailbox.
type Mailbox struct {
	Local      string // local part, lower case
	Name       string // the person's name
	QuotaBytes int64  // 0: no limit
	// QuotaMessages is how many messages it may hold; 0: no limit.
	QuotaMessages int64
	PasswordHash  string   // PHC string (argon2id); "" lets the host make the first password
	Aliases       []string // further local parts
	Range         Range
}

// Alias forwards a local part.
type Alias struct {
	Local    string
	To       []string // full addresses, resolved within the domain
	Implicit bool     // postmaster or abuse, made by default
	Range    Range
}

// TLS says how certificates are made.
type TLS struct {
	Key        string        // "ecdsa256" (default) or "rsa2048"
	RenewAfter time.Duration // renew when less than this is left; default 30 days
	Range      Range
}

// Server is the mail server's settings.
type Server struct {
	MaxMessageBytes int64 // default 50 MiB
	SCRAM           bool  // logins by SCRAM-SHA-256 are offered; default true
	Limits          Limits
	Filter          Filter
	POP3            *POP3 // nil: mailboxes are not fetched by POP3
	Storage         Storage
	Relay           *Relay
	Range           Range
}

// POP3 is how mailboxes are fetched by POP3.
type POP3 struct {
	Exclusive bool // one session at a time for each mailbox
	Range     Range
}

// Storage is how mail is kept on the disk.
type Storage struct {
	Compress bool // messages, where it saves octets
	Encrypt  bool // messages, with a key of each mailbox
	Range    Range
}

// Limits bound what clients may do. All are at least 1.
type Limits struct {
	Connections          int // at the same time, all services together
	ConnectionsPerClient int // at the same time, per IPv4 address or IPv6 /64
	RecipientsPerMessage int
	MessagesPerHour      int // that one account may submit
	Range                Range
}

// Filter is what is done about unwanted mail from outside.
type Filter struct {
	DNSBL       []string // zones, such as "zen.spamhaus.org"; a listed client is refused
	Greylist    bool     // first contacts that look suspicious are asked to come back
	DMARC       bool     // obey the sender domain's DMARC policy: refuse for reject, Junk for quarantine
	Attachments []string // refused file name extensions, lower case without the dot
	Range       Range
}

// Relay is a smarthost for outbound mail.
type Relay struct {
	Host     string
	Port     int
	Username string
	Password string // sensitive
	Range    Range
}

// Zone is what a zone block says about a DNS zone at Cloudflare, beyond its mail
// records. nil and "" mean that a setting is not managed.
type Zone struct {
	Name          string   // lower-case punycode
	ID            string   // Cloudflare's, 32 lower-case hexadecimal digits; "" to look it up
	SecurityLevel string   // "essentially_off", "low", "medium", "high" or "under_attack"
	SSL           string   // "off", "flexible", "full" or "strict"
	MinTLS        string   // "1.0", "1.1", "1.2" or "1.3"
	CAA           []string // who may issue certificates for the zone, such as "letsencrypt.org"
	Web           []Web
	Rules         []ZoneRule // WAF custom rules, in order
	Range         Range
}

// Web is a name that leads to a host's web service on port 443.
type Web struct {
	Name    string // relative to the zone, "@" for the zone itself
	Host    string // name of a Host
	Proxied bool   // through Cloudflare, which then alone may reach the host's port 443
	Range   Range
}

// ZoneRule is a WAF custom rule.
type ZoneRule struct {
	Name       string
	Expression string // in Cloudflare's rules language
	Action     string // "block", "challenge", "js_challenge" or "managed_challenge"
	Range      Range
}

// Backup is where the host copies the mail to: an S3-compatible bucket.
type Backup struct {
	Create          bool   // mailform makes the bucket, in OSS: see Spec.BackupEndpoint for where
	Endpoint        string // URL of the service: "https://oss-cn-hongkong.aliyuncs.com"; "" with Create
	Bucket          string
	Region          string
	Prefix          string        // of the keys, without slashes at its ends; "" for none
	AccessKeyID     string        // "" when each host signs as the role of its instance
	SecretAccessKey string        // sensitive
	Every           time.Duration // 15 minutes to 7 days
	Keep            time.Duration // how far back a restore can go, 1 day to 10 years
	Range           Range
}

// BackupEndpoint is the URL of the service that a host copies its mail to. A bucket
// that mailform makes is in the instances' region, where they reach it by the
// vendor's own network: it costs nothing and takes nothing of the public bandwidth.
func (s *Spec) BackupEndpoint(h *Host) string {
	switch {
	case !s.Backup.Create:
		return s.Backup.Endpoint
	case s.AliCloud.OSSEndpoint != "":
		return s.AliCloud.OSSEndpoint
	case h.Instance != nil:
		return "https://oss-" + s.AliCloud.Region + "-internal.aliyuncs.com"
	}
	return "https://oss-" + s.AliCloud.Region + ".aliyuncs.com"
}

// Monitor says when the host writes to somebody about itself.
type Monitor struct {
	Alerts          []string      // full addresses; the stack's contact when none are given
	DiskFreePercent int           // less free space than this is reported, 1 to 90
	QueueAge        time.Duration // a message waiting longer than this is reported
	Certificate     time.Duration // less than this left on a certificate is reported
	Blocklists      []string      // DNS zones in which a host looks for its own IPv4 address; empty, not nil, for none
	Metrics         string        // host:port on which Prometheus metrics are served to the machine itself; "" for none
	Range           Range
}

// Lock is a lock that a team shares.
type Lock struct {
	Kind     string // "bucket" or "postgres"
	Endpoint string // URL of the S3-compatible service, with Kind bucket
	Bucket   string
	Region   string
	Key      string // of the lock object, with Kind bucket
	URL      string // of the database, sensitive, with Kind postgres; "" for the environment's MAILFORM_LOCK_URL
	Range    Range
}

// Protection changes what needs --allow.
type Protection struct {
	Protect   []string // address globs that need permission to be replaced or deleted, too
	Unprotect []string // address globs that do not
	// ZonePercent is the share of a zone's own records that one plan may change or
	// delete without permission, 1 to 100.
	ZonePercent int
	Range       Range
}

// Ignore leaves differences alone.
type Ignore struct {
	Address string   // glob
	Fields  []string // globs over field paths; never empty
	Range   Range
}

// Forget makes things foreign: their marks are taken off, they stay as they are.
type Forget struct {
	Address string // glob
	Range   Range
}
