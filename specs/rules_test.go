package specs

import (
	"fmt"
	"strings"
	"testing"
)

// open is a spec that gives MF1501.
const open = `
stack "acme" {}
host "mx1" {
  hostname = "mail.acme.example"
  instance {}
}
domain "acme.example" {
  mailbox "alice" {}
}
`

// The spec itself says how seriously a rule is taken.
func TestRuleSeverity(t *testing.T) {
	for rules, want := range map[string]Severity{
		"":                             SeverityWarning,
		`rules { MF1501 = "warning" }`: SeverityWarning,
		`rules { MF1501 = "error" }`:   SeverityError,
		`rules { MF1501 = "ignore" }`:  "",
		`rules { MF1502 = "ignore" }`:  SeverityWarning,
		`rules { MF1501 = null }`:      SeverityWarning,
		"variable \"s\" { default = \"ignore\" }\nrules { MF1501 = var.s }": "",
	} {
		s, src, ds := load(open + rules)
		var got Severity
		for _, d := range ds {
			if d.Code == codeSSHOpen {
				got = d.Severity
			}
		}
		if got != want || (s == nil) != (want == SeverityError) || len(ds) > 1 {
			t.Errorf("%q: severity %q, want %q:\n%s", rules, got, want, show(src, ds))
		}
	}
}

// Every rule can be changed and nothing else can.
func TestEveryRuleIsInTheBlock(t *testing.T) {
	s := rulesSchema()
	for _, c := range Codes() {
		if rule := strings.HasPrefix(c.Code, rulePrefix); (s.attr(c.Code) != nil) != rule {
			t.Errorf("%s: rule %v", c.Code, rule)
		}
	}
}

// Good specs get no advice.
func TestNoAdviceForGoodSpecs(t *testing.T) {
	for name, text := range map[string]string{
		"defaults":           base + domainWith(""),
		"relay included":     base + relay("r.example") + domainWith("spf { include = [\"spf.r.example\"] }"),
		"relay by address":   base + relay("192.0.2.9") + domainWith("spf { ip = [\"192.0.2.0/28\"] }"),
		"relay, neutral":     base + relay("r.example") + domainWith("spf { all = \"neutral\" }"),
		"own spf, no policy": base + domainWith("spf { manage = false }\n  dkim { manage = false }\n  dmarc { policy = \"none\" }"),
		"only dkim":          base + domainWith("spf { manage = false }\n  dmarc { policy = \"reject\" }"),
		"strict subdomains":  base + domainWith("dmarc {\n    policy = \"quarantine\"\n    subdomain_policy = \"reject\"\n  }"),
		"web in Hong Kong":   strings.Replace(open, "instance {}", "instance {}\n  ssh { from = [\"::1\"] }\n  allow \"web\" { port = 443 }", 1),
		"other ports":        "provider \"alicloud\" { region = \"cn-hangzhou\" }\n" + strings.Replace(open, "instance {}", "instance {}\n  ssh { from = [\"::1\"] }\n  allow \"x\" { port = 8000 }", 1),
		"quotas":             strings.Replace(open, "instance {}\n}", "instance {}\n  ssh { from = [\"::1\"] }\n}", 1) + "domain \"b.example\" {\n  mailbox \"a\" { quota = \"50MiB\" }\n  mailbox \"b\" { quota = \"40GiB\" }\n  mailbox \"c\" { quota = 0 }\n}",
		"enforced":           base + domainWith("mta_sts { mode = \"enforce\" }\n  tls_rpt {}\n  discovery = true"),
		"web":                base + zone("ssl = \"strict\"\n  min_tls = \"1.2\"\n  web \"www\" {}\n  web \"@\" {}") + domainWith(""),
		"web by the host":    base + zone("web \"mail\" { proxied = false }\n  web \"api\" { proxied = false }") + domainWith(""),
		"weak, unproxied":    base + zone("ssl = \"off\"\n  web \"www\" { proxied = false }") + domainWith(""),
		"subdomain's zone":   base + zone("") + "domain \"mail.acme.example\" {\n  mailbox \"alice\" {}\n}\n",
		"mail in mainland":   "provider \"alicloud\" { region = \"cn-hangzhou\" }\n" + onInstance("data_disk {\n      snapshots {}\n    }", domainWith("tls_rpt {}")),
		"monitor":            base + "monitor {\n  alerts = [\"alice@acme.example\", \"x@elsewhere.example\"]\n  metrics = \"127.0.0.1:9100\"\n}\n" + domainWith(""),
		"loopback":           base + backup("endpoint = \"http://127.0.0.1:9000\"") + domainWith("") + "lock \"bucket\" {\n  endpoint = \"http://localhost:9000\"\n  bucket = \"abc\"\n}\n",
		"narrow globs":       base + domainWith("") + "forget \"dns/*\" {}\nignore \"*\" { fields = [\"ttl\"] }\nprotection { unprotect = [\"mailbox/*\"] }\n",
	} {
		if _, src, ds := load(text); len(ds) > 0 {
			t.Errorf("%s:\n%s", name, show(src, ds))
		}
	}
}

// Advice alone never stops a command, however much there is of it.
func TestManyWarnings(t *testing.T) {
	var b strings.Builder
	for i := range maxFindings + 10 {
		fmt.Fprintf(&b, "domain \"d%d.example\" {\n  host = \"mx1\"\n  dkim { algorithms = [\"ed25519\"] }\n}\n", i)
	}
	s, _, ds := load(base + domainWith("") + b.String())
	if last := ds[len(ds)-1]; s == nil || last.Code != codeMoreToSay || last.Severity != SeverityWarning {
		t.Errorf("spec %v, last %+v", s != nil, last)
	}
}
