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
	TLS        TLS
	Server     Server

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
	Range       Range
}

// Cloudflare is the provider "cloudflare" block.
type Cloudflare struct {
	BaseURL string // "" for the vendor's
	Range   Range
}

// ACME is the provider "acme" block.
type ACME struct {
	Directory string // URL of the CA's directory; "" for Let's Encrypt
	Range     Range
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
	Range    Range
}

// Instance is an ECS instance to create.
type Instance struct {
	Type       string // "ecs.g7.large"
	Zone       string // "" lets the provider choose one that sells the type
	Image      string // "debian-12" or a vendor image id
	SystemDisk Disk
	Bandwidth  int // of the public address, Mbit/s, 1 to 200
	Range      Range
}

// Disk is a cloud disk.
type Disk struct {
	Category string // "cloud_essd"
	SizeGiB  int
}

// SSH is how mailform and people log in.
type SSH struct {
	User           string         // "root"
	Port           int            // 22
	From           []netip.Prefix // who may connect; never empty
	AuthorizedKeys []string       // in authorized_keys format; empty: the keys of the person who applies
	HostKey        string         // pinned "SHA256:…" fingerprint or public key line; "" when unknown
	Range          Range
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
	SPF       *SPF       // nil: not managed (spf block with manage = false)
	DKIM      *DKIM      // nil: nothing is signed and no key published (manage = false)
	DMARC     *DMARC     // nil: not managed (manage = false)
	Mailboxes []*Mailbox // sorted by Local; postmaster and abuse delivery are always resolved, see Aliases
	Aliases   []*Alias   // sorted by Local; includes postmaster and abuse when nothing else serves them
	CatchAll  string     // local part of a mailbox; "" refuses unknown recipients
	Range     Range
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
	Range   Range
}

// DKIM is the signing policy, RFC 6376 and RFC 8463.
type DKIM struct {
	Selector   string   // prefix of the selectors: "mf1" gives mf1-rsa and mf1-ed25519
	Algorithms []string // of "rsa2048", "rsa4096", "ed25519"
	Range      Range
}

// DMARC is the domain's policy, RFC 7489.
type DMARC struct {
	Policy          string   // "none", "quarantine" or "reject"
	SubdomainPolicy string   // "" follows Policy
	Reports         []string // addresses for aggregate reports; full addresses
	Range           Range
}

// Mailbox is one person's mailbox.
type Mailbox struct {
	Local        string   // local part, lower case
	Name         string   // the person's name
	QuotaBytes   int64    // 0: no limit
	PasswordHash string   // PHC string (argon2id); "" lets the host make the first password
	Aliases      []string // further local parts
	Range        Range
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
	Relay           *Relay
	Range           Range
}

// Relay is a smarthost for outbound mail.
type Relay struct {
	Host     string
	Port     int
	Username string
	Password string // sensitive
	Range    Range
}
