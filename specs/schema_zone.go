package specs

import (
	"regexp"

	"github.com/zclconf/go-cty/cty"
)

var zoneIDForm = &form{regexp.MustCompile(`^[0-9a-f]{32}$`), "is not the id of a zone", "It has 32 digits of 0-9 and a-f in lower case; the zone's overview page at Cloudflare shows it."}

func zoneSchema() *blockSchema {
	return &blockSchema{
		Name: "zone", Many: true, Exports: []string{"name"},
		Labels: []labelSchema{{"name", kindDomain, "The zone's name at Cloudflare."}},
		Doc: "Settings of a DNS zone at Cloudflare beyond its mail records. What is not set here is not managed and stays as it is. " +
			"All but caa concerns only names whose web traffic goes through Cloudflare; mail never does.",
		Example: `zone "acme.example" {
  ssl = "strict"
  caa = ["letsencrypt.org"]

  web "webmail" {
    host = "mx1"
  }

  rule "admin" {
    expression = "http.request.uri.path contains \"/admin\" and ip.src.country ne \"HK\""
    action     = "managed_challenge"
  }
}`,
		Attrs: []attrSchema{
			{Name: "id", Kind: kindString, Form: zoneIDForm, DefaultIs: "looked up by name", Example: `"023e105f4ecef8ad9ca31a8372d0c353"`,
				Doc: "Cloudflare's id of the zone, from its overview page. When the zones of all domains have one the account's zones are not listed, which saves a call in every plan; " +
					"other zones of the account are then not searched for records that a domain left behind (keep the block until they are gone), and a zone that is not active is only noticed when a certificate is needed. " +
					"A block with nothing but an id costs no further calls, so rules that were in it before are not looked for."},
			{Name: "security_level", Kind: kindString, DefaultIs: "not managed", Choices: []string{"essentially_off", "low", "medium", "high", "under_attack"},
				Doc: "How suspicious Cloudflare is of visitors; under_attack shows every one of them a check."},
			{Name: "ssl", Kind: kindString, DefaultIs: "not managed", Choices: []string{"off", "flexible", "full", "strict"},
				Doc: "How Cloudflare reaches the host: only strict checks its certificate, which mailform's hosts have."},
			{Name: "min_tls", Kind: kindString, DefaultIs: "not managed", Choices: []string{"1.0", "1.1", "1.2", "1.3"}, Doc: "Oldest version of TLS that visitors may use."},
			{Name: "caa", Kind: kindDomain, List: true, Min: 1, DefaultIs: "not managed: any authority may", Example: `["letsencrypt.org"]`,
				Doc: "CAA records (RFC 8659): which authorities may issue certificates for names of the zone. The one that mailform gets its own from is always among them."},
		},
		Blocks: []*blockSchema{
			{
				Name: "web", Many: true,
				Labels:  []labelSchema{{"name", kindWebName, "The name inside the zone, such as webmail; @ is the zone itself."}},
				Doc:     "A name that leads to a host's port 443, and opens it.",
				Example: "web \"webmail\" {\n  host = \"mx1\"\n}",
				Attrs: []attrSchema{
					{Name: "host", Kind: kindString, DefaultIs: "the only host of the spec", Example: `"mx1"`, Doc: "Name of the host."},
					{Name: "proxied", Kind: kindBool, Default: cty.True,
						Doc: "Visitors come through Cloudflare. Then only Cloudflare may reach the host's port 443, unless a domain's mta_sts or discovery, or a name that is not proxied, needs it open."},
				},
			},
			{
				Name: "rule", Many: true,
				Labels: []labelSchema{{"name", kindName, "What it is for."}},
				Doc:    "A custom rule of Cloudflare's web application firewall, for names that are proxied. Rules are tried in the order they stand in.",
				Attrs: []attrSchema{
					{Name: "expression", Kind: kindFilter, Required: true, MaxLen: 4096, Example: `"http.request.uri.path contains \"/admin\""`, Doc: "Which requests it is about, in Cloudflare's rules language."},
					{Name: "action", Kind: kindString, Default: text("managed_challenge"), Choices: []string{"block", "challenge", "js_challenge", "managed_challenge"}, Doc: "What is done about them."},
				},
			},
		},
	}
}
