// Package manifest is the typed document that the host provider writes and
// mailformd reads: what one machine is to serve, and what it answers about itself.
//
// It is the one package that the provider side and the server side share. It
// imports nothing of mailform.
package manifest

import "time"

// Format is the version of the documents in this package. A reader refuses a
// newer one and says so.
const Format = 1

// Manifest is everything one host serves. It holds password hashes, so it is
// written with mode 0640 and never printed.
type Manifest struct {
	Format   int    `json:"format"`
	Stack    string `json:"stack"`
	Host     string `json:"host"`     // the host's name in the spec: "mx1"
	Hostname string `json:"hostname"` // FQDN for greeting and certificate

	MaxMessageBytes int64    `json:"max_message_bytes"`
	Limits          *Limits  `json:"limits,omitempty"` // nil: the daemon's defaults
	Filter          *Filter  `json:"filter,omitempty"` // nil: nothing is filtered
	Relay           *Relay   `json:"relay,omitempty"`
	POP3            *POP3    `json:"pop3,omitempty"`      // nil: ports 110 and 995 are not served
	Store           *Store   `json:"store,omitempty"`     // nil: messages are kept as they are
	NoSCRAM         bool     `json:"no_scram,omitempty"`  // SCRAM-SHA-256 is not offered, and no keys for it are kept
	Web             bool     `json:"web,omitempty"`       // port 443 (ServicesOf, WebNames): MTA-STS policies and set-up of mail programs
	DataDisk        string   `json:"data_disk,omitempty"` // serial number of the disk the mail is on; "" when that is the system disk
	Backup          *Backup  `json:"backup,omitempty"`
	Monitor         *Monitor `json:"monitor,omitempty"`
	Domains         []Domain `json:"domains"`

	// HardenSSH turns log-in to the machine by password off. Firewall is what the
	// host's own firewall lets in; without any opening there is no firewall.
	HardenSSH bool      `json:"harden_ssh,omitempty"`
	Firewall  []Opening `json:"firewall,omitempty"`

	Tuning *Tuning `json:"tuning,omitempty"` // nil: the machine's settings are its owner's
}

// Limits bound what clients may do; 0 leaves one at the daemon's default.
type Limits struct {
	Connections          int `json:"connections,omitempty"`            // at the same time, all services together; a quarter of them is kept for our users
	ConnectionsPerClient int `json:"connections_per_client,omitempty"` // at the same time, per IPv4 address or IPv6 /64
	RecipientsPerMessage int `json:"recipients_per_message,omitempty"` // from outside and from our users
	MessagesPerHour      int `json:"messages_per_hour,omitempty"`      // that one account may submit
}

// POP3 is how mailboxes are fetched by POP3.
type POP3 struct {
	Exclusive bool `json:"exclusive,omitempty"` // one session at a time for each mailbox
}

// Store is how mail is kept on the disk.
type Store struct {
	Compress bool `json:"compress,omitempty"` // where it saves octets
	Encrypt  bool `json:"encrypt,omitempty"`  // with keys of the accounts, wrapped by Layout.StoreKeyFile
}

// Filter is what is done about unwanted mail on port 25.
type Filter struct {
	DNSBL       []string `json:"dnsbl,omitempty"`       // zones; a listed client is refused
	Greylist    bool     `json:"greylist,omitempty"`    // suspicious first contacts are asked to come back
	DMARC       bool     `json:"dmarc,omitempty"`       // obey the sender domain's policy
	Attachments []string `json:"attachments,omitempty"` // refused file name extensions, lower case without the dot
}

// Backup is the S3-compatible bucket the mail is copied to.
type Backup struct {
	Endpoint        string `json:"endpoint"` // URL
	Bucket          string `json:"bucket"`
	Region          string `json:"region,omitempty"`
	Prefix          string `json:"prefix,omitempty"`
	AccessKeyID     string `json:"access_key_id,omitempty"`
	SecretAccessKey string `json:"secret_access_key,omitempty"`
	Role            bool   `json:"role,omitempty"` // sign with the RAM role of the instance, without a key
	OSS             bool   `json:"oss,omitempty"`  // the service is OSS, whatever its name
	EverySeconds    int64  `json:"every_seconds"`
	KeepSeconds     int64  `json:"keep_seconds"`
}

// Monitor says when the host writes to somebody about itself.
type Monitor struct {
	Alerts             []string `json:"alerts,omitempty"` // full addresses
	DiskFreePercent    int      `json:"disk_free_percent,omitempty"`
	QueueAgeSeconds    int64    `json:"queue_age_seconds,omitempty"`
	CertificateSeconds int64    `json:"certificate_seconds,omitempty"` // less than this left is reported
	Metrics            string   `json:"metrics,omitempty"`             // loopback host:port for Prometheus
	Blocklists         []string `json:"blocklists,omitempty"`          // DNS zones in which the host looks for its own address
}

// Relay is the smarthost for mail to other domains.
type Relay struct {
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// Domain is a mail domain served here.
type Domain struct {
	Name      string    `json:"name"`
	DKIM      []DKIMKey `json:"dkim,omitempty"` // keys to sign with, all of them
	Mailboxes []Mailbox `json:"mailboxes,omitempty"`
	Aliases   []Alias   `json:"aliases,omitempty"`
	CatchAll  string    `json:"catch_all,omitempty"` // local part
	// QuotaBytes and QuotaMessages bound what all mailboxes hold together; 0 is no limit.
	QuotaBytes    int64   `json:"quota_bytes,omitempty"`
	QuotaMessages int64   `json:"quota_messages,omitempty"`
	MTASTS        *MTASTS `json:"mta_sts,omitempty"`   // served at https://mta-sts.NAME/.well-known/mta-sts.txt
	Discovery     bool    `json:"discovery,omitempty"` // autoconfig.NAME and autodiscover.NAME answer
	// Retention are the mailboxes from which messages go by themselves.
	Retention []Retention `json:"retention,omitempty"`
}

// Retention is a rule for a mailbox of each account of a domain: messages that came
// into it longer ago are expunged.
type Retention struct {
	Name string `json:"name"` // of the rule
	// Mailbox is Archive, Drafts, Junk, Sent or Trash for the one of that use
	// (RFC 6154), whatever its name is, else the mailbox of that name.
	Mailbox      string `json:"mailbox"`
	AfterSeconds int64  `json:"after_seconds"` // at least MinRetention
}

// MinRetention is the shortest time that a rule may keep messages, in seconds.
const MinRetention = 24 * 60 * 60

// Retains is what has become of a rule since the daemon was started.
type Retains struct {
	Domain  string    `json:"domain"`
	Rule    string    `json:"rule"`
	Mailbox string    `json:"mailbox"`
	Last    time.Time `json:"last,omitzero"` // when it was applied last; zero: not yet
	Removed int64     `json:"removed"`       // messages
	Failed  string    `json:"failed,omitempty"`
}

// MTASTS is a policy of RFC 8461; its mx is the manifest's Hostname.
type MTASTS struct {
	Mode          string `json:"mode"` // "testing", "enforce" or "none"
	MaxAgeSeconds int64  `json:"max_age_seconds"`
}

// DKIMKey names a signing key that exists in Layout.DKIMKey.
type DKIMKey struct {
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"`      // "rsa2048", "rsa4096" or "ed25519"
	Idle      bool   `json:"idle,omitempty"` // published, but not signed with: coming up or retired
}

// Mailbox is an account with an address of its own.
type Mailbox struct {
	Local      string `json:"local"`
	Name       string `json:"name,omitempty"`
	QuotaBytes int64  `json:"quota_bytes,omitempty"`
	// QuotaMessages is how many messages it may hold; 0 is no limit.
	QuotaMessages int64    `json:"quota_messages,omitempty"`
	PasswordHash  string   `json:"password_hash,omitempty"` // PHC; "" uses the Credentials file
	Aliases       []string `json:"aliases,omitempty"`
}

// Alias delivers a local part to other addresses.
type Alias struct {
	Local string   `json:"local"`
	To    []string `json:"to"` // full addresses
}

// Credentials are the password hashes that were born on the host, by full
// mailbox address. Mode 0640, only on the host.
type Credentials struct {
	Format int               `json:"format"`
	Hashes map[string]string `json:"hashes"`           // address -> PHC string
	SCRAM  map[string]string `json:"scram,omitempty"`  // address -> account.SCRAMKeys of the same password
	Unseen []string          `json:"unseen,omitempty"` // addresses whose first password nobody is known to have received
}

// Owner is /var/lib/mailform/owner.json: whose machine this is.
type Owner struct {
	Stack string `json:"stack"`
	Host  string `json:"host"`
	Epoch int64  `json:"epoch"`           // highest fencing epoch that has written here
	Actor string `json:"actor,omitempty"` // who claimed it: "alice@laptop"
}

// Retained is a mailbox that was removed from the spec: its mail is kept,
// the account cannot log in and receives nothing.
type Retained struct {
	Address string    `json:"address"`
	Since   time.Time `json:"since"`
	// Mailbox is how it was, for the one that restores it; nil when an earlier version retired it.
	Mailbox *Mailbox `json:"mailbox,omitempty"`
}

// Expired reports whether the mail need not be kept any longer.
func (r Retained) Expired(now time.Time) bool { return now.Sub(r.Since) >= RetainedFor }

// RetainedFor is how long the mail of a removed mailbox is kept.
const RetainedFor = 30 * 24 * time.Hour

// DaysLeft is how many days its mail is kept yet, begun ones counted; 0 when it
// may be deleted.
func (r Retained) DaysLeft(now time.Time) int {
	const day = 24 * time.Hour
	return int(max(0, (r.Since.Add(RetainedFor).Sub(now)+day-1)/day))
}

// Facts are what `mailformd observe` says about a host. No private key and no
// hash is in them: a password is represented by its fingerprint (specs.Fingerprint
// of the PHC string), by "host" when it was made there, or by "host, not shown"
// when it was made there and its first password reached nobody.
type Facts struct {
	Format    int       `json:"format"`
	OS        string    `json:"os"` // ID from os-release: "debian"
	OSVersion string    `json:"os_version"`
	Arch      string    `json:"arch"` // "amd64"
	BootID    string    `json:"boot_id"`
	Now       time.Time `json:"now"`
	Agent     Agent     `json:"agent"`
	Owner     *Owner    `json:"owner,omitempty"`
	Lease     *Lease    `json:"lease,omitempty"` // that is live
	// Manifest is the applied one with every secret replaced by its fingerprint; nil before the first converge.
	Manifest     *Manifest         `json:"manifest,omitempty"`
	Passwords    map[string]string `json:"passwords,omitempty"` // mailbox address -> fingerprint, "host" or "host, not shown"
	Retained     []Retained        `json:"retained,omitempty"`
	DKIM         []DKIMPublic      `json:"dkim,omitempty"`
	Certificates []Certificate     `json:"certificates,omitempty"`
	Storage      *Storage          `json:"storage,omitempty"` // nil: the mail is on the system disk
	Reach        *Reach            `json:"reach,omitempty"`   // as the running daemon tells it
	Disks        []DiskSpace       `json:"disks,omitempty"`   // the system's first; the mail's, when it has one of its own
	Memory       *Memory           `json:"memory,omitempty"`
	UpSeconds    int64             `json:"up_seconds,omitempty"` // since the machine has booted; 0 is unknown
	// HostKey is the SSH host key that was made here; nil while there is none.
	HostKey *HostKey `json:"host_key,omitempty"`
	Clock   *Clock   `json:"clock,omitempty"` // nil: the kernel does not say
	// AheadSeconds is by how much Now differs from the clock of who asked, behind it when
	// negative, beyond what the asking took. Who asked fills it in.
	AheadSeconds int64   `json:"ahead_seconds,omitempty"`
	Service      Service `json:"service"`
	// Walls are other firewalls that are at work on the machine.
	Walls []Wall `json:"walls,omitempty"`
	// StoreKey is the key of the stored mail; nil when that is not encrypted.
	StoreKey *StoreKey `json:"store_key,omitempty"`
	// Banned is how many clients the host's own firewall drops.
	Banned int `json:"banned,omitempty"`
	// Foreign is what stands in the places of what mailform would make.
	Foreign []Foreign `json:"foreign,omitempty"`
	// Versions are the mailformds on the host, the newest first.
	Versions []Version `json:"versions,omitempty"`
	// Trial is a change that nobody has confirmed yet.
	Trial *Trial `json:"trial,omitempty"`
	// Reverted is the last change that the host has taken back, until one succeeds.
	Reverted *Reverted `json:"reverted,omitempty"`
}

// StoreKey is what is told of a storage key; never the key.
type StoreKey struct {
	Fingerprint string `json:"fingerprint,omitempty"` // "": it is missing
	Saved       bool   `json:"saved,omitempty"`       // somebody has exported it
	Aside       string `json:"aside,omitempty"`       // file of the key that an imported one took the place of
}

// Version is one mailformd on the host.
type Version struct {
	SHA256    string    `json:"sha256"`
	Version   string    `json:"version,omitempty"`
	Installed time.Time `json:"installed,omitzero"`
	Served    time.Time `json:"served,omitzero"` // when it was last found healthy; zero: never
	Active    bool      `json:"active,omitempty"`
}

// Trial is a change that the host takes back by itself at Until, unless it is confirmed.
type Trial struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until"`
}

// Reverted tells of a change that was taken back.
type Reverted struct {
	Time time.Time `json:"time"`
	Why  string    `json:"why"`
}

// DiskSpace is a file system.
type DiskSpace struct {
	What      string `json:"what"` // "system" or "mail"
	Bytes     int64  `json:"bytes"`
	FreeBytes int64  `json:"free_bytes"` // for users other than root
}

// Memory is the machine's.
type Memory struct {
	Bytes          int64 `json:"bytes"`
	AvailableBytes int64 `json:"available_bytes"` // without swapping
}

// Agent is the installed mailformd.
type Agent struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // hex, of the binary file
}

// DKIMPublic is the public half of a signing key on the host.
type DKIMPublic struct {
	Domain    string `json:"domain"`
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"`
	TXT       string `json:"txt"` // the whole record text: "v=DKIM1; k=rsa; p=…"

	Created     time.Time `json:"created"`
	SignsSince  time.Time `json:"signs_since,omitzero"`  // zero: it has never signed
	SignedUntil time.Time `json:"signed_until,omitzero"` // zero: it signs, or never has
}

// KeyUse is the file beside a signing key that says when it signed. Its own age
// is that of its file.
type KeyUse struct {
	SignsSince  time.Time `json:"signs_since,omitzero"`
	SignedUntil time.Time `json:"signed_until,omitzero"`
}

// Storage is the data disk that Layout.StateDir is on.
type Storage struct {
	Serial      string `json:"serial"`            // of the disk
	Device      string `json:"device,omitempty"`  // "/dev/vdb"; "" while it is not attached
	Kind        string `json:"kind,omitempty"`    // of its file system: "ext4" or "xfs"
	UUID        string `json:"uuid,omitempty"`    // of its file system
	Mounted     bool   `json:"mounted,omitempty"` // at Layout.StateDir
	Keys        bool   `json:"keys,omitempty"`    // the host's keys are on it, in Layout.KeysDir
	DeviceBytes int64  `json:"device_bytes,omitempty"`
	Bytes       int64  `json:"bytes,omitempty"`      // that the file system covers
	FreeBytes   int64  `json:"free_bytes,omitempty"` // for the service's use
	// Drift lists, in words, what a converge would change.
	Drift []string `json:"drift,omitempty"`
}

// Certificate is an installed certificate with its key on the host.
type Certificate struct {
	Name      string   `json:"name"`  // the certificate's name in the spec: "mx1"
	Names     []string `json:"names"` // DNS names, sorted
	Key       string   `json:"key"`   // "ecdsa256" or "rsa2048"
	Issuer    string   `json:"issuer"`
	Directory string   `json:"directory"` // the ACME directory it came from
	// RenewalInfo is where its CA is asked when to renew it (RFC 9773 4.1); "" when it does not say.
	RenewalInfo string    `json:"renewal_info,omitempty"`
	SerialHex   string    `json:"serial"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	SHA256      string    `json:"sha256"` // of the leaf
	SPKI        string    `json:"spki"`   // SHA-256 of the leaf's SubjectPublicKeyInfo, hex: the data of a "3 1 1" TLSA record (RFC 6698 2.1)
	// OnDisk says that it is on the data disk and outlives the machine.
	OnDisk bool `json:"on_disk,omitempty"`
}

// Service is the state of mailformd as a service.
type Service struct {
	Unit           string `json:"unit"`   // "mailformd.service"
	Active         string `json:"active"` // systemd's ActiveState: "active", "inactive", "failed"
	Enabled        bool   `json:"enabled"`
	Ports          []int  `json:"ports,omitempty"`           // ports of sockets that listen
	ManifestLoaded string `json:"manifest_loaded,omitempty"` // SHA-256 of the manifest the running daemon serves
	BinarySHA256   string `json:"binary_sha256,omitempty"`   // of the mailformd that is running
	// Drift lists, in words, what a converge to the applied manifest would change.
	Drift []string `json:"drift,omitempty"`
}

// Status is what the running daemon answers on its control socket
// (Layout.ControlSocket, HTTP: GET /v1/status; POST /v1/reload answers the same
// once the manifest, credentials, certificates and signing keys have been read again).
type Status struct {
	Version        string    `json:"version"`
	PID            int       `json:"pid"`
	Started        time.Time `json:"started"`
	ManifestSHA256 string    `json:"manifest_sha256"` // of the manifest file being served, hex
	Listening      []string  `json:"listening"`       // service names
	Queue          int       `json:"queue"`           // messages waiting for other hosts
	CertNotAfter   time.Time `json:"cert_not_after"`
	Connections    int       `json:"connections"` // open now, all services together
	Refused        int64     `json:"refused"`     // connections refused by the limits since Started
	// Filter counts what happened to mail from outside since Started.
	Filter FilterStatus `json:"filter"`
	// LastBackup is when the newest backup was made; zero when there is none, or
	// none is known.
	LastBackup time.Time `json:"last_backup,omitzero"`
	// Alerts says in words what is wrong with the host now.
	Alerts []string `json:"alerts,omitempty"`
	// QueueOldest is when the oldest waiting message that is not held was queued; zero without one.
	QueueOldest time.Time `json:"queue_oldest,omitzero"`
	// BackupEverySeconds is how often backups are to be made; 0: never.
	BackupEverySeconds int64 `json:"backup_every_seconds,omitempty"`
	// Purged are the retained mailboxes whose time was over and whose mail is gone.
	Purged []string `json:"purged,omitempty"`
	// Retention says what the rules have removed since Started.
	Retention []Retains `json:"retention,omitempty"`
	// Reach is nil until it was looked at for the first time.
	Reach *Reach `json:"reach,omitempty"`
	// Encryption is nil when stored mail is not to be encrypted.
	Encryption *Encryption `json:"encryption,omitempty"`
}

// Encryption is how far the encryption of mail has come that was stored before.
type Encryption struct {
	Looked      bool  `json:"looked"`                 // what follows is known; soon after a start it is not
	ClearOctets int64 `json:"clear_octets,omitempty"` // of files with anything in the clear
	ClearFiles  int   `json:"clear_files,omitempty"`  // how many those are; 0: all mail is encrypted
	StuckFiles  int   `json:"stuck_files,omitempty"`  // those of them that are damaged and stay
	SecondsLeft int64 `json:"seconds_left,omitempty"` // at the rate at which it is done, at least
}

// Reach is what the daemon has found out about its way to other servers, and how
// it looks to them. It looks again every few hours.
type Reach struct {
	Checked time.Time `json:"checked"`
	// Port25 says whether other servers can be reached; "" when that could not be found out.
	Port25 string   `json:"port_25,omitempty"`
	Tried  []string `json:"tried,omitempty"` // when it is closed: "mx3.qq.com:25: i/o timeout"
	// Addresses are the hostname's in DNS, with the names that they lead back to.
	Addresses []ReachAddress `json:"addresses,omitempty"`
}

// What Reach.Port25 says.
const (
	Port25Open   = "open"
	Port25Closed = "closed"
	Port25Relay  = "relay" // nobody needs it: mail goes through a relay
)

// ReachAddress is an address of the host in DNS.
type ReachAddress struct {
	Address string   `json:"address"`
	Names   []string `json:"names,omitempty"` // of its PTR records, in lower case without a dot at their end
	// Known is false while the PTR records could not be asked for.
	Known bool `json:"known,omitempty"`
	// Listed are the blocklists that an IPv4 address is on, NotListed those that it is
	// not on. One that gave no answer, or none to us, is in neither.
	Listed    []string `json:"listed,omitempty"`
	NotListed []string `json:"not_listed,omitempty"`
}

// Backed is what POST /v1/backup on the control socket answers once a backup was made.
type Backed struct {
	Time  time.Time `json:"time"`
	Files int       `json:"files"`
	Bytes int64     `json:"bytes"`
}

// FilterStatus counts messages, or recipients refused before there was one.
type FilterStatus struct {
	Refused  int64 `json:"refused"`
	Junk     int64 `json:"junk"`     // delivered to the mailbox for junk
	Deferred int64 `json:"deferred"` // asked to come back, by greylisting
}
