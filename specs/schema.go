package specs

import "github.com/zclconf/go-cty/cty"

// kind is what an attribute's or label's value means. It decides how the text
// in the spec is read, checked, normalised and documented.
type kind uint8

const (
	kindString    kind = iota // string
	kindBool                  // bool
	kindInt                   // int64, within Min and Max
	kindSize                  // int64 bytes, within Min and Max
	kindGiB                   // int of GiB, within Min and Max
	kindDuration              // time.Duration, within Min and Max hours
	kindBandwidth             // int of Mbit/s, within Min and Max
	kindPrefix                // netip.Prefix, masked
	kindIP                    // netip.Addr, unicast
	kindPorts                 // portRange
	kindDomain                // string, lower-case punycode
	kindHostname              // string, lower-case punycode
	kindEmail                 // string, full address
	kindRecipient             // string, local part or full address
	kindLocal                 // string, lower-case local part
	kindName                  // string, a-z 0-9 -
	kindURL                   // string
	kindHostPort              // string host:port
	kindRemote                // string, host name or IP address
	kindPath                  // string, as it is written
	kindPHC                   // string
	kindSSHKey                // string, one authorized_keys line; may expand to several
	kindHostKey               // string
	kindSelector              // string, DNS label
	kindExpr                  // handled by name, not by the decoder
)

// attrSchema describes one attribute.
type attrSchema struct {
	Name      string
	Kind      kind
	List      bool // a list of Kind
	Required  bool
	Default   cty.Value // cty.NilVal without one
	DefaultIs string    // in words, when the default depends on something else
	Sensitive bool      // the value is a secret: it may be marked sensitive and is never shown
	Choices   []string
	Min, Max  int64 // with numbers: limits, both inclusive; Max 0 means none
	MaxLen    int   // bytes of a kindString; 0 means defaultMaxLen
	Doc       string
	Example   string // HCL text of a value
}

// defaultMaxLen is how many bytes a text may have when its schema does not say.
const defaultMaxLen = 255

// labelSchema describes one label of a block.
type labelSchema struct {
	Name string
	Kind kind
	Doc  string
}

// blockSchema describes one block: how it is written, checked and documented.
type blockSchema struct {
	Name     string
	Labels   []labelSchema
	Many     bool // may stand several times
	Required bool
	FreeForm bool     // takes any attribute
	Dynamic  bool     // its nested blocks may be made by dynamic blocks
	Exports  []string // what expressions may use of it: attributes, and "name" for the label
	Doc      string
	Example  string // HCL text
	Attrs    []attrSchema
	Blocks   []*blockSchema
	// Variants replace Attrs and Blocks by the block's first label; Name is the label.
	Variants []*blockSchema
}

func (b *blockSchema) attr(name string) *attrSchema {
	for i := range b.Attrs {
		if b.Attrs[i].Name == name {
			return &b.Attrs[i]
		}
	}
	return nil
}

func (b *blockSchema) block(name string) *blockSchema {
	for _, c := range b.Blocks {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func (b *blockSchema) variant(label string) *blockSchema {
	for _, v := range b.Variants {
		if v.Name == label {
			return v
		}
	}
	return nil
}

func (b *blockSchema) attrNames() []string {
	names := make([]string, len(b.Attrs))
	for i := range b.Attrs {
		names[i] = b.Attrs[i].Name
	}
	return names
}

func (b *blockSchema) blockNames() []string {
	names := make([]string, len(b.Blocks))
	for i, c := range b.Blocks {
		names[i] = c.Name
	}
	return names
}

func text(s string) cty.Value { return cty.StringVal(s) }

func texts(ss ...string) cty.Value {
	vs := make([]cty.Value, len(ss))
	for i, s := range ss {
		vs[i] = cty.StringVal(s)
	}
	return cty.TupleVal(vs)
}

// rootSchema is the whole language: the only place that says which blocks and
// attributes exist. Decoding, defaults, "did you mean" and the reference all
// read it.
func rootSchema() *blockSchema {
	return &blockSchema{
		Doc: "One folder is one stack: all of its *.hcl files together are one spec. " +
			"Files named *.vars.hcl are not read; they are for --var-file.",
		Blocks: []*blockSchema{
			stackSchema(), variableSchema(), localsSchema(), providerSchema(),
			hostSchema(), domainSchema(), tlsSchema(), serverSchema(), rulesSchema(),
		},
	}
}

func stackSchema() *blockSchema {
	return &blockSchema{
		Name: "stack", Required: true,
		Labels: []labelSchema{{"name", kindName, "Part of every ownership mark in the cloud, in DNS and on the host. Renaming a stack disowns all of it."}},
		Doc:    "Names the whole and says who looks after it.",
		Example: `stack "acme-mail" {
  contact = "ops@acme.example"
}`,
		Attrs: []attrSchema{
			{Name: "contact", Kind: kindEmail, DefaultIs: "postmaster of the first domain", Example: `"ops@acme.example"`,
				Doc: "Where the certificate authority and alerts write to. If it is a mailbox of this spec, it also receives mail for postmaster and abuse."},
		},
	}
}

func variableSchema() *blockSchema {
	return &blockSchema{
		Name: "variable", Many: true,
		Labels: []labelSchema{{"name", kindString, "Used as var.NAME."}},
		Doc: "A value from outside. Precedence: --var NAME=VALUE, then --var-file FILE (a later one wins), then the environment's " +
			"MAILFORM_VAR_NAME, then the default.",
		Example: `variable "alice" {
  description = "Alice's password hash, from mailform hash-password"
  type        = string
  sensitive   = true

  validation {
    condition     = startswith(var.alice, "$argon2id$")
    error_message = "This is not an argon2id hash."
  }
}`,
		Attrs: []attrSchema{
			{Name: "type", Kind: kindExpr, DefaultIs: "any", Example: `list(object({ login = string, quota = optional(string, "5GiB") }))`,
				Doc: "string, number, bool, list(T), set(T), map(T), object({…}) with optional(T, DEFAULT), tuple([…]) or any."},
			{Name: "default", Kind: kindExpr, DefaultIs: "none: a value must be given", Doc: "A value without references; null is a value."},
			{Name: "description", Kind: kindExpr, Doc: "For people; shown when a value is missing."},
			{Name: "sensitive", Kind: kindExpr, Default: cty.False, Doc: "The value is a secret: it is never shown and is accepted only where secrets belong."},
		},
		Blocks: []*blockSchema{{
			Name: "validation", Many: true,
			Doc: "A rule the value must keep.",
			Attrs: []attrSchema{
				{Name: "condition", Kind: kindExpr, Required: true, Doc: "Must be true. May use any variable."},
				{Name: "error_message", Kind: kindExpr, Required: true, Doc: "What to say otherwise."},
			},
		}},
	}
}

func localsSchema() *blockSchema {
	return &blockSchema{
		Name: "locals", Many: true, FreeForm: true,
		Doc:     "Named expressions, used as local.NAME. They may use each other in any order, and what hosts and domains export.",
		Example: "locals {\n  people = csvdecode(file(\"people.csv\"))\n}",
	}
}

func providerSchema() *blockSchema {
	return &blockSchema{
		Name: "provider", Many: true,
		Labels: []labelSchema{{"name", kindString, `"alicloud", "cloudflare" or "acme".`}},
		Doc: "Settings of an outside system. All of them have defaults, so the blocks may be left out. Credentials never stand in a spec: " +
			"they come from the environment.",
		Example: `provider "alicloud" {
  region = "cn-hongkong"
}`,
		Variants: []*blockSchema{
			{
				Name: "alicloud", Doc: "Alibaba Cloud: instance, network, firewall and public address.",
				Attrs: []attrSchema{
					{Name: "region", Kind: kindName, DefaultIs: `the region of the instances' zone, else "cn-hongkong"`, Example: `"cn-hongkong"`,
						Doc: "Where the machines stand. Mainland regions need an ICP filing for web names."},
					{Name: "ecs_endpoint", Kind: kindURL, DefaultIs: "the vendor's", Doc: "Address of the ECS API. The environment's ALIBABA_CLOUD_ECS_ENDPOINT serves when this is not set."},
					{Name: "vpc_endpoint", Kind: kindURL, DefaultIs: "the vendor's", Doc: "Address of the VPC API. The environment's ALIBABA_CLOUD_VPC_ENDPOINT serves when this is not set."},
				},
			},
			{
				Name: "cloudflare", Doc: "Cloudflare: the DNS zones of the domains, which must exist there.",
				Attrs: []attrSchema{
					{Name: "base_url", Kind: kindURL, DefaultIs: "the vendor's", Doc: "Address of the API. The environment's CLOUDFLARE_BASE_URL serves when this is not set."},
				},
			},
			{
				Name: "acme", Doc: "The certificate authority, and how mailform itself reaches the network.",
				Attrs: []attrSchema{
					{Name: "directory", Kind: kindURL, DefaultIs: "Let's Encrypt", Example: `"https://acme-staging-v02.api.letsencrypt.org/directory"`,
						Doc: "The authority's ACME directory. The environment's MAILFORM_ACME_DIRECTORY serves when this is not set."},
					{Name: "ca_bundle", Kind: kindPath, Example: `"internal-ca.pem"`,
						MaxLen: 4096,
						Doc:    "PEM file of authorities to trust beside the system's; the path starts from the stack's folder, ~/ from your home. The environment's MAILFORM_CA_BUNDLE serves when this is not set."},
					{Name: "resolver", Kind: kindHostPort, DefaultIs: "the system's", Example: `"9.9.9.9:53"`,
						Doc: "DNS server for every question mailform asks. The environment's MAILFORM_RESOLVER serves when this is not set."},
				},
			},
		},
	}
}

func hostSchema() *blockSchema {
	return &blockSchema{
		Name: "host", Many: true, Dynamic: true, Exports: []string{"name", "hostname", "address"},
		Labels: []labelSchema{{"name", kindName, "The host's name inside the spec."}},
		Doc: "A machine that serves mail: one that mailform creates (instance) or one that exists (address). Ports for mail and SSH are " +
			"opened by themselves. The address of an instance is known only after apply and cannot be used in expressions.",
		Example: `host "mx1" {
  hostname = "mail.acme.example"

  instance {
    type = "ecs.u1-c1m2.large"
  }

  ssh {
    from = ["198.51.100.0/24"]
  }
}`,
		Attrs: []attrSchema{
			{Name: "hostname", Kind: kindHostname, Required: true, Example: `"mail.acme.example"`,
				Doc: "The name in MX records, certificate and greeting. It must lie in a domain of this spec."},
			{Name: "address", Kind: kindIP, Example: `"203.0.113.7"`, Doc: "Public address of a machine that exists. Excludes instance."},
		},
		Blocks: []*blockSchema{
			{
				Name: "instance", Doc: "An ECS instance to create, with its network, firewall and public address.",
				Attrs: []attrSchema{
					{Name: "type", Kind: kindString, Default: text("ecs.u1-c1m2.large"), MaxLen: 64, Doc: "The vendor's instance type. The default has 2 CPUs and 4 GiB of memory, enough for a hundred people."},
					{Name: "zone", Kind: kindString, DefaultIs: "one of the region that sells the type", MaxLen: 64, Example: `"cn-hongkong-b"`, Doc: "The vendor's zone."},
					{Name: "image", Kind: kindString, Default: text("debian-12"), MaxLen: 128, Doc: "A family such as debian-12 or ubuntu-24.04 (its newest image is used once, at creation), or the vendor's image id."},
				},
				Blocks: []*blockSchema{
					{
						Name: "system_disk", Doc: "The disk the machine starts from. The mail is on it, too.",
						Attrs: []attrSchema{
							{Name: "category", Kind: kindString, Default: text("cloud_essd"),
								Choices: []string{"cloud_essd", "cloud_essd_entry", "cloud_auto", "cloud_ssd", "cloud_efficiency"}, Doc: "The vendor's disk category."},
							{Name: "size", Kind: kindGiB, Default: text("40GiB"), Min: 20, Max: 2048, Doc: "Whole GiB."},
						},
					},
					{
						Name: "public_ip", Doc: "The public address.",
						Attrs: []attrSchema{
							{Name: "bandwidth", Kind: kindBandwidth, Default: text("10Mbps"), Min: 1, Max: 200, Doc: "Peak outbound bandwidth."},
						},
					},
				},
			},
			{
				Name: "ssh", Doc: "How mailform and people log in.",
				Attrs: []attrSchema{
					{Name: "user", Kind: kindString, Default: text("root"), MaxLen: 32, Doc: "Log-in name."},
					{Name: "port", Kind: kindInt, Default: cty.NumberIntVal(22), Min: 1, Max: 65535, Doc: "TCP port."},
					{Name: "from", Kind: kindPrefix, List: true, DefaultIs: "everyone, with a warning", Example: `["198.51.100.0/24"]`, Doc: "Networks that may connect. Say so explicitly if it is really everyone: [\"0.0.0.0/0\", \"::/0\"]."},
					{Name: "authorized_keys", Kind: kindSSHKey, List: true, DefaultIs: "the public keys of the person who applies", Example: `[file("~/.ssh/id_ed25519.pub")]`, Doc: "Public keys, in the format of authorized_keys."},
					{Name: "host_key", Kind: kindHostKey, Example: `"SHA256:jTFcLOmmfUKXXxYbHZSyZ9mkjNNhKz9tMbfSEZiX0iU"`, Doc: "Pins the machine's host key: its fingerprint as ssh-keygen -l prints it, or the public key line. For machines that exist."},
				},
			},
			{
				Name: "allow", Many: true,
				Labels:  []labelSchema{{"name", kindName, "What it is for; shown in the firewall."}},
				Doc:     "Opens a port beyond those of mail and SSH.",
				Example: "allow \"web\" {\n  port = 443\n  from = cloudflare_ips()\n}",
				Attrs: []attrSchema{
					{Name: "port", Kind: kindPorts, Required: true, Example: `"8000-8010"`, Doc: "A port or a range of ports."},
					{Name: "protocol", Kind: kindString, Default: text("tcp"), Choices: []string{"tcp", "udp"}, Doc: "Transport protocol."},
					{Name: "from", Kind: kindPrefix, List: true, Default: texts("0.0.0.0/0", "::/0"), Doc: "Networks that may connect."},
				},
			},
		},
	}
}

func domainSchema() *blockSchema {
	return &blockSchema{
		Name: "domain", Many: true, Dynamic: true, Exports: []string{"name"},
		Labels: []labelSchema{{"name", kindDomain, "The part after the @. Its DNS zone must exist at Cloudflare."}},
		Doc: "A mail domain: its DNS records and the people in it. postmaster and abuse always exist: unless a mailbox or alias takes " +
			"them they go to the stack's contact if that is a mailbox here, else to catch_all, else to the first mailbox by name.",
		Example: `domain "acme.example" {
  mailbox "alice" {
    name  = "Alice"
    quota = "10GiB"
  }
}`,
		Attrs: []attrSchema{
			{Name: "host", Kind: kindString, DefaultIs: "the only host of the spec", Example: `"mx1"`, Doc: "Name of the host that serves the domain."},
			{Name: "catch_all", Kind: kindLocal, DefaultIs: "unknown recipients are refused", Example: `"alice"`, Doc: "Mailbox that receives mail for every other local part."},
		},
		Blocks: []*blockSchema{
			{
				Name: "mx", Doc: "The MX record.",
				Attrs: []attrSchema{{Name: "priority", Kind: kindInt, Default: cty.NumberIntVal(10), Min: 0, Max: 65535, Doc: "Lower is tried first."}},
			},
			{
				Name: "spf", Doc: "Who may send for the domain (RFC 7208). Without the block: the host itself and nobody else, \"v=spf1 mx -all\".",
				Attrs: []attrSchema{
					{Name: "include", Kind: kindDomain, List: true, Example: `["spf.crm.example"]`, Doc: "Services that send for you, as they tell you to include them."},
					{Name: "ip", Kind: kindPrefix, List: true, Example: `["192.0.2.0/28"]`, Doc: "Further machines that send."},
					{Name: "all", Kind: kindString, Default: text("fail"), Choices: []string{"fail", "softfail", "neutral"}, Doc: "What receivers should think of everyone else."},
					{Name: "manage", Kind: kindBool, Default: cty.True, Doc: "false leaves the SPF record alone."},
				},
			},
			{
				Name: "dkim", Doc: "Signatures on outgoing mail (RFC 6376, RFC 8463). The keys are made on the host and never leave it.",
				Attrs: []attrSchema{
					{Name: "selector", Kind: kindSelector, Default: text("mf1"), Doc: "Prefix of the key names: mf1 gives mf1-rsa and mf1-ed25519."},
					{Name: "algorithms", Kind: kindString, List: true, Default: texts("rsa2048", "ed25519"), Choices: []string{"rsa2048", "rsa4096", "ed25519"},
						Doc: "One key each. RSA is what every receiver can verify."},
					{Name: "manage", Kind: kindBool, Default: cty.True, Doc: "false signs nothing and publishes no key."},
				},
			},
			{
				Name: "dmarc", Doc: "What receivers should do with mail that fails both SPF and DKIM (RFC 7489). Without the block: quarantine, which " +
					"puts forgeries into the junk folder and loses nothing if a sender of yours was forgotten.",
				Attrs: []attrSchema{
					{Name: "policy", Kind: kindString, Default: text("quarantine"), Choices: []string{"none", "quarantine", "reject"}, Doc: "For mail from the domain."},
					{Name: "subdomain_policy", Kind: kindString, DefaultIs: "as policy", Choices: []string{"none", "quarantine", "reject"}, Doc: "For mail from its subdomains."},
					{Name: "reports", Kind: kindRecipient, List: true, DefaultIs: "no reports", Example: `["postmaster"]`, Doc: "Who receives the daily reports: mail addresses, or local parts of this domain."},
					{Name: "manage", Kind: kindBool, Default: cty.True, Doc: "false leaves the DMARC record alone."},
				},
			},
			{
				Name: "mailbox", Many: true,
				Labels: []labelSchema{{"local", kindLocal, "The part before the @. alice also receives alice+anything."}},
				Doc:    "A person's mailbox.",
				Example: `mailbox "alice" {
  name    = "Alice"
  quota   = "10GiB"
  aliases = ["a", "sales"]
}`,
				Attrs: []attrSchema{
					{Name: "name", Kind: kindString, MaxLen: 128, Example: `"Alice Liddell"`, Doc: "The person's name."},
					{Name: "quota", Kind: kindSize, DefaultIs: "no limit", Min: 1 << 20, Max: 1 << 50, Example: `"10GiB"`, Doc: "How much mail it may hold; 0 is no limit."},
					{Name: "password_hash", Kind: kindPHC, Sensitive: true, DefaultIs: "a password is made on the host and shown once", Example: "var.alice",
						Doc: "An argon2id hash as mailform hash-password prints it."},
					{Name: "aliases", Kind: kindLocal, List: true, Example: `["a", "sales"]`, Doc: "Further local parts of this domain."},
				},
			},
			{
				Name: "alias", Many: true,
				Labels:  []labelSchema{{"local", kindLocal, "The part before the @."}},
				Doc:     "An address that leads to others.",
				Example: "alias \"team\" {\n  to = [\"alice\", \"bob\", \"partner@elsewhere.example\"]\n}",
				Attrs: []attrSchema{
					{Name: "to", Kind: kindRecipient, List: true, Required: true, Min: 1, Example: `["alice", "partner@elsewhere.example"]`, Doc: "Local parts of this domain, or full addresses anywhere."},
				},
			},
		},
	}
}

func tlsSchema() *blockSchema {
	return &blockSchema{
		Name: "tls", Doc: "How certificates are made.",
		Example: "tls {\n  renew_before = \"30d\"\n}",
		Attrs: []attrSchema{
			{Name: "key", Kind: kindString, Default: text("ecdsa256"), Choices: []string{"ecdsa256", "rsa2048"}, Doc: "Type of the private key, which is made on the host and never leaves it."},
			{Name: "renew_before", Kind: kindDuration, Default: text("30d"), Min: 24, Max: 60 * 24, Doc: "Renew when less than this is left."},
		},
	}
}

func serverSchema() *blockSchema {
	return &blockSchema{
		Name: "server", Doc: "The mail server's settings.",
		Example: "server {\n  max_message_size = \"50MiB\"\n}",
		Attrs: []attrSchema{
			{Name: "max_message_size", Kind: kindSize, Default: text("50MiB"), Min: 64 << 10, Max: 1 << 30, Doc: "Larger messages are refused."},
		},
		Blocks: []*blockSchema{{
			Name: "relay", Doc: "A smarthost that takes mail for other domains. Alibaba Cloud closes outbound port 25 by default, so most need one or ask for the port to be opened.",
			Example: `relay {
  host     = "smtp.relay.example"
  username = "acme"
  password = var.relay_password
}`,
			Attrs: []attrSchema{
				{Name: "host", Kind: kindRemote, Required: true, Example: `"smtp.relay.example"`, Doc: "Its name or address."},
				{Name: "port", Kind: kindInt, Default: cty.NumberIntVal(587), Min: 1, Max: 65535, Doc: "Its submission port; 465 speaks TLS from the first byte."},
				{Name: "username", Kind: kindString, DefaultIs: "no authentication", Doc: "Log-in name."},
				{Name: "password", Kind: kindString, Sensitive: true, MaxLen: 1024, Example: "var.relay_password", Doc: "Password; use a sensitive variable."},
			},
		}},
	}
}
