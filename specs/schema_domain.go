package specs

import (
	"regexp"

	"github.com/zclconf/go-cty/cty"
)

var mailboxNameForm = &form{regexp.MustCompile(`^[^%*\x00-\x1f\x7f/]([^%*\x00-\x1f\x7f]*[^%*\x00-\x1f\x7f/])?$`), "is not a mailbox's name", `Write it as mail programs show it, levels with slashes between: "Lists/Old".`}

func domainSchema() *blockSchema {
	return &blockSchema{
		Name: "domain", Many: true, Exports: []string{"name"},
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
			{Name: "quota", Kind: kindSize, DefaultIs: "no limit", ZeroIs: "no limit", Min: 1 << 20, Max: 1 << 50, Example: `"500GiB"`,
				Doc: "How much mail all mailboxes of the domain may hold together, removed ones that are kept included; 0 is no limit. Mail that does not fit is refused as when a mailbox is full."},
			{Name: "quota_messages", Kind: kindInt, DefaultIs: "no limit", ZeroIs: "no limit", Min: 0, Max: 1_000_000_000, Example: "5000000", Doc: "How many messages they may hold together; 0 is no limit."},
			{Name: "discovery", Kind: kindBool, Default: cty.False,
				Doc: "Publishes where the mail is for programs that set themselves up from an address: SRV records (RFC 6186) and the names autoconfig and autodiscover, which the host serves on port 443."},
			{Name: "dane", Kind: kindBool, Default: cty.False,
				Doc: "Publishes TLSA records of the host's certificate key (RFC 7672), by which senders know the host. They count only in a zone that is signed with DNSSEC, which is switched on at Cloudflare and at the domain's registrar."},
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
					{Name: "all", Kind: kindString, Default: text("fail"), Choices: []string{"fail", "softfail", "neutral"}, Doc: "What receivers should think of everyone else. In a record that others are in already, theirs stays unless the spec says it."},
					{Name: "manage", Kind: kindBool, Default: cty.True, Doc: "false leaves the SPF record alone."},
				},
			},
			{
				Name: "dkim", Doc: "Signatures on outgoing mail (RFC 6376, RFC 8463). The keys are made on the host and never leave it.",
				Attrs: []attrSchema{
					{Name: "selector", Kind: kindSelector, Default: text("mf1"), Doc: "Prefix of the key names: mf1 gives mf1-rsa and mf1-ed25519."},
					{Name: "algorithms", Kind: kindString, List: true, Default: texts("rsa2048", "ed25519"), Choices: []string{"rsa2048", "rsa4096", "ed25519"},
						Doc: "One key each. RSA is what every receiver can verify."},
					{Name: "rotate", Kind: kindDuration, Min: 7 * day, Max: 3650 * day, ZeroIs: "never", DefaultIs: "never", Example: `"180d"`,
						Doc: "A new key after this long; 0 is never. The next apply after that publishes it, signs with it when receivers can see it, and takes the old one away later."},
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
				Name: "mta_sts", Doc: "A policy by which senders insist on TLS and on the host's certificate (RFC 8461). The host serves it at https://mta-sts.DOMAIN/, so its port 443 is opened. Without the block there is no policy.",
				Example: "mta_sts {\n  mode = \"enforce\"\n}",
				Attrs: []attrSchema{
					{Name: "mode", Kind: kindString, Default: text("testing"), Choices: []string{"testing", "enforce", "none"},
						Doc: "testing: senders deliver anyway and report. enforce: senders do not deliver to a host they cannot verify. none: senders forget the policy; keep it for as long as max_age was before taking the block out."},
					{Name: "max_age", Kind: kindDuration, Default: text("7d"), Min: day, Max: 365 * day, Doc: "How long senders remember the policy."},
				},
			},
			{
				Name: "tls_rpt", Doc: "Asks senders for daily reports about TLS on their way here (RFC 8460). Without the block no reports are asked for.",
				Attrs: []attrSchema{
					{Name: "reports", Kind: kindRecipient, List: true, Min: 1, Default: texts("postmaster"), Example: `["tls-reports"]`, Doc: "Who receives them: mail addresses, or local parts of this domain."},
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
					{Name: "quota", Kind: kindSize, DefaultIs: "no limit", ZeroIs: "no limit", Min: 1 << 20, Max: 1 << 50, Example: `"10GiB"`, Doc: "How much mail it may hold; 0 is no limit."},
					{Name: "quota_messages", Kind: kindInt, DefaultIs: "no limit", ZeroIs: "no limit", Min: 0, Max: 1_000_000_000, Example: "500000", Doc: "How many messages it may hold; 0 is no limit."},
					{Name: "password_hash", Kind: kindPHC, Sensitive: true, DefaultIs: "a password is made on the host and shown once", Example: "var.alice",
						Doc: "An argon2id hash as mailform hash-password prints it."},
					{Name: "aliases", Kind: kindLocal, List: true, Example: `["a", "sales"]`, Doc: "Further local parts of this domain."},
				},
			},
			{
				Name: "retention", Many: true,
				Labels: []labelSchema{{"name", kindName, "The rule's name."}},
				Doc: "Takes messages out of one mailbox of each account of the domain some time after they came into it (their save date, RFC 8514, not the date they were sent). " +
					"The host looks every hour; a clock that jumps ahead is not believed for a day.",
				Example: "retention \"trash\" {\n  mailbox = \"Trash\"\n  after   = \"30d\"\n}",
				Attrs: []attrSchema{
					{Name: "mailbox", Kind: kindString, Required: true, MaxLen: 1000, Form: mailboxNameForm, Example: `"Trash"`,
						Doc: "Archive, Drafts, Junk, Sent and Trash mean the mailbox of that use, whatever people have named it; else the mailbox of exactly that name, without those below it."},
					{Name: "after", Kind: kindDuration, Required: true, Min: day, Max: 36500 * day, Example: `"30d"`, Doc: "How long a message stays."},
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
