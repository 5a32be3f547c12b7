package specs

import (
	"fmt"
	"regexp"

	"github.com/zclconf/go-cty/cty"
)

// kind is what an attribute's or label's value means. It decides how the text
// in the spec is read, checked, normalised and documented.
type kind uint8

const (
	kindString      kind = iota // string
	kindBool                    // bool
	kindInt                     // int64, within Min and Max
	kindSize                    // int64 bytes, within Min and Max
	kindGiB                     // int of GiB, within Min and Max
	kindDuration                // time.Duration, within Min and Max minutes
	kindDays                    // int of days, within Min and Max
	kindHour                    // int, the hour of a time of day
	kindPercent                 // int, within Min and Max
	kindBandwidth               // int of Mbit/s, within Min and Max
	kindPrefix                  // netip.Prefix, masked
	kindIP                      // netip.Addr, unicast
	kindPorts                   // portRange
	kindDomain                  // string, lower-case punycode
	kindHostname                // string, lower-case punycode
	kindEmail                   // string, full address
	kindRecipient               // string, local part or full address
	kindLocal                   // string, lower-case local part
	kindName                    // string, a-z 0-9 -
	kindURL                     // string
	kindHostPort                // string host:port
	kindRemote                  // string, host name or IP address
	kindPath                    // string, as it is written
	kindPHC                     // string
	kindSSHKey                  // string, one authorized_keys line; may expand to several
	kindHostKey                 // string
	kindSelector                // string, DNS label
	kindWebName                 // string, name relative to a zone or "@"
	kindBucket                  // string, name of an S3 bucket
	kindObjectKey               // string, path in a bucket without slashes at its ends
	kindDatabase                // string, URL of a PostgreSQL database
	kindExtension               // string, file name extension, lower case without the dot
	kindFilter                  // string, expression of Cloudflare's rules language, may have several lines
	kindAddressGlob             // string, glob over plan addresses
	kindFieldGlob               // string, glob over field paths
	kindExpr                    // handled by name, not by the decoder
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
	Min, Max  int64  // with numbers: limits, both inclusive; Max 0 means none
	MaxLen    int    // bytes of a kindString; 0 means defaultMaxLen
	Form      *form  // of a kindString: what it must look like
	ZeroIs    string // what 0 means where it is allowed beside Min and Max: "no limit"
	Doc       string
	Example   string // HCL text of a value
}

// form is a pattern that texts of one sort follow.
type form struct {
	re   *regexp.Regexp
	not  string // what a text that does not follow it is: "is not an instance type"
	hint string // how to write it
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
	Dynamic  bool     // its nested blocks, and those inside them, may be made by dynamic blocks
	Static   bool     // is not made by a dynamic block and has none inside
	Exports  []string // what expressions may use of it: attributes, and "name" for the label
	Doc      string
	Example  string // HCL text
	Attrs    []attrSchema
	Blocks   []*blockSchema
	// Variants replace Attrs and Blocks by the block's first label; Name is the
	// label, and Of the type of the block.
	Variants []*blockSchema
	Of       string
}

// title is how people call the block: its type, and its label where that decides what it takes.
func (b *blockSchema) title() string {
	if b.Of != "" {
		return fmt.Sprintf("%s %q", b.Of, b.Name)
	}
	return b.Name
}

// aBlock is "A domain block".
func (b *blockSchema) aBlock() string { return capital(article(b.title() + " block")) }

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
		Dynamic: true,
		Doc: "One folder is one stack: all of its *.hcl files together are one spec. " +
			"Files named *.vars.hcl are not read; they are for --var-file.",
		Blocks: []*blockSchema{
			stackSchema(), variableSchema(), localsSchema(), providerSchema(),
			hostSchema(), domainSchema(), zoneSchema(), tlsSchema(), serverSchema(),
			backupSchema(), monitorSchema(), lockSchema(), protectionSchema(), ignoreSchema(), forgetSchema(), rulesSchema(),
		},
	}
}

func stackSchema() *blockSchema {
	return &blockSchema{
		Name: "stack", Required: true, Static: true,
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
		Name: "variable", Many: true, Static: true,
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
		Name: "locals", Many: true, FreeForm: true, Static: true,
		Doc:     "Named expressions, used as local.NAME. They may use each other in any order, and what hosts and domains export.",
		Example: "locals {\n  people = csvdecode(file(\"people.csv\"))\n}",
	}
}

func providerSchema() *blockSchema {
	return &blockSchema{
		Name: "provider", Many: true, Static: true,
		Labels: []labelSchema{{"name", kindString, `"alicloud", "cloudflare" or "acme".`}},
		Doc: "Settings of an outside system. All of them have defaults, so the blocks may be left out. Credentials never stand in a spec: " +
			"they come from the environment.",
		Example: `provider "alicloud" {
  region = "cn-hongkong"
}`,
		Variants: []*blockSchema{
			{
				Name: "alicloud", Of: "provider", Doc: "Alibaba Cloud: instance, network, firewall and public address.",
				Attrs: []attrSchema{
					{Name: "region", Kind: kindName, DefaultIs: `the region of the instances' zone, else "cn-hongkong"`, Example: `"cn-hongkong"`,
						Doc: "Where the machines stand, best near to those who read the mail: cn-hongkong for mainland China and South-East Asia, ap-southeast-1 (Singapore), ap-northeast-1 (Tokyo), eu-central-1 (Frankfurt), us-east-1 (Virginia), us-west-1 (Silicon Valley). " +
							"Mainland regions need an ICP filing for web names, and the way between them and the rest of the world is slow."},
					{Name: "ecs_endpoint", Kind: kindURL, DefaultIs: "the vendor's", Doc: "Address of the ECS API. The environment's ALIBABA_CLOUD_ECS_ENDPOINT serves when this is not set."},
					{Name: "vpc_endpoint", Kind: kindURL, DefaultIs: "the vendor's", Doc: "Address of the VPC API. The environment's ALIBABA_CLOUD_VPC_ENDPOINT serves when this is not set."},
					{Name: "oss_endpoint", Kind: kindURL, DefaultIs: "the vendor's", Doc: "Address of OSS, for the bucket of backups. The environment's ALIBABA_CLOUD_OSS_ENDPOINT serves when this is not set."},
				},
			},
			{
				Name: "cloudflare", Of: "provider", Doc: "Cloudflare: the DNS zones of the domains, which must exist there.",
				Attrs: []attrSchema{
					{Name: "base_url", Kind: kindURL, DefaultIs: "the vendor's", Doc: "Address of the API. The environment's CLOUDFLARE_BASE_URL serves when this is not set."},
				},
			},
			{
				Name: "acme", Of: "provider", Doc: "The certificate authority, and how mailform itself reaches the network.",
				Attrs: []attrSchema{
					{Name: "ca", Kind: kindString, Choices: authorityNames(), DefaultIs: "Let's Encrypt", Example: `"letsencrypt-staging"`,
						Doc: "The certificate authority. ZeroSSL, Google and SSL.com want the eab block too. Staging services issue certificates that nobody trusts, for trials."},
					{Name: "issuer", Kind: kindDomain, DefaultIs: "what is known of the authority", Example: `"ca.acme.example"`,
						Doc: "The authority's name in CAA records, for one that mailform does not know."},
					{Name: "directory", Kind: kindURL, DefaultIs: "the authority's", Example: `"https://acme-staging-v02.api.letsencrypt.org/directory"`,
						Doc: "The ACME directory of an authority that has no name in ca. The environment's MAILFORM_ACME_DIRECTORY serves when neither is set."},
					{Name: "ca_bundle", Kind: kindPath, Example: `"internal-ca.pem"`,
						MaxLen: 4096,
						Doc:    "PEM file of authorities to trust beside the system's; the path starts from the stack's folder, ~/ from your home. The environment's MAILFORM_CA_BUNDLE serves when this is not set."},
					{Name: "resolver", Kind: kindHostPort, DefaultIs: "the system's", Example: `"9.9.9.9:53"`,
						Doc: "DNS server for every question mailform asks. The environment's MAILFORM_RESOLVER serves when this is not set."},
				},
				Blocks: []*blockSchema{{
					Name: "eab", Doc: "External account binding: some authorities only take ACME accounts that are bound to one on their web site, which shows these values. They are needed once, when the account is made.",
					Example: "eab {\n  kid      = \"mHUqjg…\"\n  hmac_key = var.acme_hmac_key\n}",
					Attrs: []attrSchema{
						{Name: "kid", Kind: kindString, Required: true, Example: `"mHUqjg…"`, Doc: "The key's identifier. The environment's MAILFORM_ACME_EAB_KID serves when there is no eab block."},
						{Name: "hmac_key", Kind: kindString, Required: true, Sensitive: true, MaxLen: 1024, Example: "var.acme_hmac_key", Doc: "The key, base64url; use a sensitive variable. The environment's MAILFORM_ACME_EAB_HMAC serves when there is no eab block."},
					},
				}},
			},
		},
	}
}
