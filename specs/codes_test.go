package specs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// codeCase is one spec that must give one finding.
type codeCase struct {
	code string
	text string // added to base, or the whole spec when it has its own stack
	at   string // the source text the finding points at; "" for none
	says string // part of summary or detail
}

const inDomain = "domain \"acme.example\" {\n  mailbox \"alice\" {}\n  %s\n}\n"

func domainWith(s string) string { return fmt.Sprintf(inDomain, s) }

func hostWith(s string) string {
	return "stack \"acme\" {}\nhost \"mx1\" {\n  hostname = \"mail.acme.example\"\n  address  = \"203.0.113.7\"\n  " + s + "\n}\n" + domainWith("")
}

func mailboxWith(s string) string {
	return "domain \"acme.example\" {\n  mailbox \"alice\" {\n    " + s + "\n  }\n}\n"
}

func backup(s string) string {
	lines := "  endpoint = \"https://s3.example\"\n  bucket = \"acme\"\n  access_key_id = \"a\"\n  secret_access_key = sensitive(\"b\")\n"
	if name, _, _ := strings.Cut(s, " ="); strings.Contains(lines, name+" =") {
		var kept []string
		for _, line := range strings.Split(lines, "\n") {
			if !strings.Contains(line, " "+name+" =") {
				kept = append(kept, line)
			}
		}
		lines = strings.Join(kept, "\n")
	}
	return "backup {\n" + lines + "  " + s + "\n}\n"
}

// madeDomains is a spec in which a dynamic block makes a domain.
const madeDomains = "domain \"acme.example\" {\n  mailbox \"alice\" {}\n}\n" +
	"dynamic \"domain\" {\n  for_each = [\"b.example\"]\n  labels = [domain.value]\n  content {}\n}\n"

func zone(s string) string { return "zone \"acme.example\" {\n  " + s + "\n}\n" }

func codeCases() []codeCase { return append(coreCases(), operateCases()...) }

func coreCases() []codeCase {
	instance := "stack \"acme\" {}\nhost \"mx1\" {\n  hostname = \"mail.acme.example\"\n  ssh { from = [\"::1\"] }\n  instance {\n    %s\n  }\n}\n" + domainWith("")
	dataDisk := func(s string) string { return fmt.Sprintf(instance, "data_disk {\n      "+s+"\n    }") }
	long := strings.Repeat("a", 60)
	longDomain := strings.Join([]string{long, long, long, "bb", "example"}, ".") // 193 characters
	return []codeCase{
		{codeSyntax, "host \"x\" { a = 1, b = 2 }", ",", "one attribute only"},
		{codeSyntax, domainWith("catch_all = \"alice\"\n  catch_all = \"bob\""), "catch_all", "already set"},
		{codeTooComplex, "locals { a = " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + " }", "[", "100 levels"},
		{codeTooComplex, "locals { a = 1" + strings.Repeat("+1", 2000) + " }", "+", "500 operators"},
		{codeTooComplex, "locals { a = (1" + strings.Repeat("\n+1", 2000) + ") }", "+", "500 operators"},

		{codeUnknownBlock, "domian \"acme.example\" {}", "domian", `Did you mean "domain"?`},
		{codeUnknownBlock, domainWith("backup {}"), "backup", "A domain block takes"},
		{codeUnknownBlock, hostWith("data_disk {}"), "data_disk", "A host block takes"},
		{codeUnknownBlock, "mailbox \"x\" {}", "mailbox", "belongs in a domain block"},
		{codeUnknownBlock, hostWith("hostnam {}"), "hostnam", "Did you mean"},
		{codeUnknownBlock, domainWith("catch_all {}"), "catch_all", "is an attribute"},
		{codeUnknownAttribute, mailboxWith("quta = \"1GiB\""), "quta", `Did you mean "quota"?`},
		{codeUnknownAttribute, "region = \"cn-hongkong\"", "region", "--var-file"},
		{codeUnknownAttribute, domainWith("mx = 10"), "mx", "is a block"},
		{codeUnknownAttribute, hostWith("backup = true"), "backup", "A host block takes the attributes hostname, address"},
		{codeMissingAttribute, "stack \"acme\" {}\nhost \"mx1\" {\n  address = \"203.0.113.7\"\n}\n" + domainWith(""), `host "mx1"`, "hostname is missing"},
		{codeMissingAttribute, hostWith("allow \"web\" {\n    port = null\n  }"), "null", "port is null"},
		{codeMissingAttribute, "variable \"x\" {\n  default = 1\n  validation {\n    condition = true\n  }\n}", "validation", "error_message is missing"},
		{codeMissingBlock, "locals { a = \"stack \\\"acme\" }", "", "the stack block is missing"},
		{codeWrongLabels, "stack {}\n", "stack", `stack "NAME"`},
		{codeWrongLabels, "domain \"a.example\" \"b\" {}", `"b"`, "one label"},
		{codeWrongLabels, domainWith("spf \"all\" {}"), `"all"`, "an spf block has no label"},
		{codeWrongLabels, "provider \"aws\" {}", `"aws"`, "There are alicloud, cloudflare and acme."},
		{codeWrongLabels, "provider \"cloudfare\" {}", `"cloudfare"`, `Did you mean "cloudflare"?`},
		{codeRepeatedBlock, domainWith("spf {}\n  spf {}"), "spf", "the first is at stack/main.hcl:10,3"},
		{codeTwoAuthorities, "provider \"acme\" {\n  ca = \"zerossl\"\n  directory = \"https://ca.example/dir\"\n}", `"https://ca.example/dir"`, "there are two certificate authorities"},
		{codeReadableSecret, "provider \"acme\" {\n  eab {\n    kid = \"k\"\n    hmac_key = \"c2VjcmV0IHNlY3JldCBzZWNyZXQ\"\n  }\n}", `"c2VjcmV0IHNlY3JldCBzZWNyZXQ"`, "acme_hmac_key"},
		{codeRepeatedBlock, "provider \"acme\" {}\nprovider \"acme\" {}", `provider "acme"`, "a second provider"},
		{codeBadDynamic, "dynamic \"variable\" {\n  for_each = []\n  labels = [\"x\"]\n  content {}\n}", `"variable"`, "cannot make a variable block"},
		{codeBadDynamic, "variable \"x\" {\n  default = 1\n  dynamic \"validation\" {\n    for_each = [1]\n    content {}\n  }\n}", "dynamic", "inside a variable block is needed"},
		{codeReferenceUnavailable, madeDomains + "locals { a = domain[*].name }", "domain", "the list that its for_each goes over"},
		{codeUndefinedReference, madeDomains + "locals { a = domain[\"b.example\"].name }", `domain["b.example"].name`, "Those that a dynamic block makes"},
		{codeBadDynamic, domainWith("dynamic \"mailbox\" {\n  labels = [\"x\"]\n  content {}\n}"), `dynamic "mailbox"`, "needs for_each"},
		{codeBadDynamic, domainWith("dynamic \"mailbox\" {\n  for_each = [1]\n  content {}\n}"), `dynamic "mailbox"`, "labels = [mailbox.value]"},
		{codeBadDynamic, domainWith("dynamic \"mailbox\" {\n  for_each = [1]\n  labels = [\"x\"]\n  quota = 1\n  content {}\n}"), "quota", "goes into content"},
		{codeBadDynamic, domainWith("dynamic \"mailbox\" {\n  for_each = 1\n  labels = [mailbox.value]\n  content {}\n}"), "1", "must be a list"},
		{codeBadDynamic, domainWith("dynamic \"mailbox\" {\n  for_each = [null]\n  labels = [mailbox.value]\n  content {}\n}"), "mailbox.value", "null"},
		{codeBadDynamic, domainWith("dynamic \"mailbox\" {\n  for_each = [[]]\n  labels = [mailbox.value]\n  content {}\n}"), "mailbox.value", "must be a string The value is a list."},
		{codeBadDynamic, domainWith("dynamic \"mailbox\" {\n  for_each = [sensitive(\"canary\")]\n  labels = [mailbox.value]\n  content {}\n}"), "mailbox.value", "name is sensitive"},
		{codeBadDynamic, domainWith("dynamic \"mailbox\" {\n  for_each = null\n  labels = [mailbox.value]\n  content {}\n}"), "null", "for_each is null"},
		{codeEvaluation, domainWith("dynamic \"mailbox\" {\n  for_each = [1]\n  labels = [mailbox.value.x]\n  content {}\n}"), ".x", "attribute"},
		{codeBadDynamic, domainWith("dynamic \"mx\" {\n  for_each = [1]\n  labels = [\"a\"]\n  content {}\n}"), "labels", "no labels"},
		{codeBadDynamic, domainWith("dynamic \"mx\" {\n  for_each = [1]\n  iterator = \"a b\"\n  content {}\n}"), `"a b"`, "bare name"},

		{codeUndefinedReference, mailboxWith("quota = var.quota"), "var.quota", "Declare it"},
		{codeUndefinedReference, "variable \"quota\" { default = 1 }\n" + mailboxWith("name = var.qouta"), "var.qouta", "Did you mean var.quota?"},
		{codeUndefinedReference, "locals { quota = 1 }\n" + mailboxWith("name = var.quota"), "var.quota", "Did you mean local.quota?"},
		{codeUndefinedReference, "locals { quota = 1 }\n" + mailboxWith("name = quota"), "quota", "Did you mean local.quota?"},
		{codeUndefinedReference, domainWith("dmarc { policy = reject }"), "reject", `"reject"`},
		{codeUndefinedReference, mailboxWith("name = each.value"), "each.value", "var.NAME"},
		{codeUndefinedReference, mailboxWith("name = local"), "local", "local.NAME"},
		{codeUndefinedReference, "variable \"x\" { default = local.y }\nlocals { y = 1 }", "local.y", "must be a value by itself"},
		{codeUndefinedReference, mailboxWith("name = host.mx2.hostname"), "host.mx2.hostname", `Did you mean "mx1"?`},
		{codeUndefinedReference, mailboxWith("name = host[0].hostname"), "host[0].hostname", "There is only mx1."},
		{codeUndefinedReference, mailboxWith("name = domain.acme.example.name"), "domain.acme.example.name", `domain["acme.example"].name`},
		{codeUndefinedReference, "variable \"x\" {\n  default = 1\n  validation {\n    condition = host.mx1.name == var.x\n    error_message = \"x\"\n  }\n}", "host.mx1.name", "variables only"},
		{codeReferenceUnavailable, fmt.Sprintf(instance, "") + "locals { a = host.mx1.address }", "host.mx1.address", "only after apply"},
		{codeReferenceUnavailable, mailboxWith("name = host.mx1.ssh.port"), "host.mx1.ssh.port", "name, hostname, address"},
		{codeReferenceUnavailable, mailboxWith("name = host.mx1.adress"), "host.mx1.adress", `Did you mean "address"?`},
		{codeReferenceUnavailable, mailboxWith("name = stack.name"), "stack.name", "host.NAME.hostname"},
		{codeEvaluation, fmt.Sprintf(instance, "") + "locals { a = host[*].address }", ".address", "address"},
		{codeEvaluation, mailboxWith("name = \"a\" + 1"), `"a"`, "number"},
		{codeEvaluation, mailboxWith("name = file(\"missing.txt\")"), `missing.txt`, "stack/missing.txt cannot be read: it does not exist"},
		{codeEvaluation, mailboxWith("name = file(\"~/x\")"), `~/x`, "home/op/x cannot be read"},
		{codeEvaluation, mailboxWith("name = format(\"%9999d\", 1)"), `%9999d`, "three digits"},
		{codeEvaluation, mailboxWith("name = csvdecode(\"a,a\\n1,2\")[0].a"), "csvdecode(", "csvdecode"},
		{codeWrongType, mailboxWith("name = [\"a\"]"), `["a"]`, "name must be a string The value is a list."},
		{codeWrongType, mailboxWith("aliases = \"a\""), `"a"`, "aliases = [ … ]"},
		{codeWrongType, mailboxWith("aliases = [\"a\", null]"), "null", "compact"},
		{codeWrongType, domainWith("mx { priority = \"high\" }"), `"high"`, "must be a number"},
		{codeWrongType, domainWith("spf { manage = \"perhaps\" }"), `"perhaps"`, "true or false"},
		{codeUnknownFunction, mailboxWith("name = uper(\"a\")"), "uper", "Did you mean upper()?"},
		{codeUnknownFunction, mailboxWith("name = env(\"HOME\")"), "env", "MAILFORM_VAR_NAME"},
		{codeExposedSecret, mailboxWith("name = sensitive(\"x\")"), `sensitive("x")`, "nonsensitive"},
		{codeReferenceCycle, "locals {\n  a = local.b\n  b = [local.c]\n  c = local.a\n}", "a", "local.a → local.b → local.c → local.a. They are defined here: a at stack/main.hcl:9,3; b at stack/main.hcl:10,3; c at stack/main.hcl:11,3."},
		{codeReferenceCycle, base + "host \"mx2\" {\n  hostname = local.h\n  address = \"203.0.113.8\"\n}\nlocals { h = host.mx2.hostname }\n" + domainWith("host = \"mx1\""), "hostname", "host.mx2.hostname → local.h → host.mx2.hostname"},
		{codeReferenceCycle, "locals { a = local.a }", "a", "local.a → local.a"},
		{codeValueTooLarge, "locals { n = 1e99999 }", "1e99999", "too large"},
		{codeValueTooLarge, doubling(), "", "too large"},
		{codeMissingVariable, "variable \"alice\" { description = \"Alice's hash.\" }", `"alice"`, "Alice's hash. Set it with --var alice=…"},
		{codeBadVariableValue, "variable \"n\" {\n  type = number\n  default = \"x\"\n}", `"x"`, "type is number"},
		{codeBadVariableValue, "variable \"n\" {\n  type = list(object({ a = number }))\n  default = [{ a = 1 }, { a = \"x\" }]\n}", `[{ a = 1 }, { a = "x" }]`, "at [1].a"},
		{codeValidationFailed, "variable \"n\" {\n  default = 1\n  validation {\n    condition = var.n > 1\n    error_message = \"Too small.\"\n  }\n}", `"n"`, "Too small."},
		{codeBadDeclaration, "variable \"n\" { default = 1 }\nvariable \"n\" { default = 1 }", `"n"`, "stack/main.hcl:8,1"},
		{codeBadDeclaration, "locals { n = 1 }\nlocals { n = 1 }", "n", "defined twice"},
		{codeBadDeclaration, "variable \"a b\" {}", `"a b"`, "cannot be a variable's name"},
		{codeBadDeclaration, "variable \"a\" {\n  default = 1\n  type = strng\n}", "strng", "strng"},
		{codeBadDeclaration, "variable \"a\" {\n  default = 1\n  sensitive = var.b\n}", "var.b", "plain bool"},

		{codeBadName, "stack \"Acme Mail\" {}\n", `"Acme Mail"`, "a-z, 0-9 and -"},
		{codeBadName, fmt.Sprintf(instance, `zone = "Hong Kong"`), `"Hong Kong"`, "is not a zone"},
		{codeBadDomain, "domain \"acme_mail.example\" {}", `"acme_mail.example"`, "the character '_'"},
		{codeBadDomain, "domain \"localhost\" {}", `"localhost"`, "only one label"},
		{codeBadDomain, "domain \"" + strings.Repeat("a", 64) + ".example\" {}", `"` + strings.Repeat("a", 64) + `.example"`, "63 are allowed"},
		{codeBadDomain, domainWith("spf { include = [\"a..b\"] }"), `"a..b"`, "empty label"},
		{codeBadHostname, "stack \"a\" {}\nhost \"mx1\" {\n  address = \"203.0.113.7\"\n  hostname = \"203.0.113.7\"\n}\n", `"203.0.113.7"`, "It is an IP address"},
		{codeBadLocalPart, "domain \"acme.example\" {\n  mailbox \"alice@acme.example\" {}\n}", `"alice@acme.example"`, "only the part before it"},
		{codeBadLocalPart, mailboxWith("aliases = [\"a+b\"]"), `"a+b"`, "sub-address"},
		{codeBadLocalPart, mailboxWith("aliases = [\"a..b\"]"), `"a..b"`, "two in a row"},
		{codeBadLocalPart, domainWith("alias \"x\" { to = [\"al ice\"] }"), `"al ice"`, "neither a local part"},
		{codeBadEmail, "stack \"acme\" { contact = \"ops\" }\n", `"ops"`, "It has no @"},
		{codeBadEmail, domainWith("dmarc { reports = [\"Ops <ops@x.example>\"] }"), `"Ops <ops@x.example>"`, "without a name"},
		{codeBadSize, mailboxWith("quota = \"ten\""), `"ten"`, `like "10GiB"`},
		{codeBadSize, mailboxWith("quota = \"10GiBs\""), `"10GiBs"`, `The unit "GiBs" is not known`},
		{codeBadSize, mailboxWith("quota = 5"), "5", "From 1MiB to 1024TiB"},
		{codeBadSize, fmt.Sprintf(instance, `system_disk { size = "40GB" }`), `"40GB"`, `Write "38GiB"`},
		{codeBadSize, fmt.Sprintf(instance, `system_disk { size = "10GiB" }`), `"10GiB"`, "From 20GiB to 2TiB"},
		{codeBadDuration, "tls { renew_before = \"soon\" }", `"soon"`, `like "30d"`},
		{codeBadDuration, "tls { renew_before = \"1h\" }", `"1h"`, "From 1d to 60d"},
		{codeBadBandwidth, fmt.Sprintf(instance, `public_ip { bandwidth = "fast" }`), `"fast"`, "10Mbps"},
		{codeBadBandwidth, fmt.Sprintf(instance, `public_ip { bandwidth = 501 }`), "501", "From 1Mbps to 500Mbps"},
		{codeBadBandwidth, fmt.Sprintf(instance, `public_ip { bandwidth = "201Mbps" }`), `"201Mbps"`, "charge_by"},
		{codeBadPrefix, hostWith("ssh { from = [\"10.0.0.0/33\"] }"), `"10.0.0.0/33"`, "is not a network"},
		{codeBadPrefix, hostWith("ssh { from = [\"10.0.0.1/24\"] }"), `"10.0.0.1/24"`, `The network is "10.0.0.0/24"`},
		{codeBadIP, "stack \"a\" {}\nhost \"mx1\" {\n  hostname = \"m.acme.example\"\n  address = \"0.0.0.0\"\n}\n" + domainWith(""), `"0.0.0.0"`, "address of a machine"},
		{codeBadPort, hostWith("allow \"x\" { port = 70000 }"), "70000", "1 to 65535"},
		{codeBadPort, hostWith("allow \"x\" { port = \"90-80\" }"), `"90-80"`, `"80-90"`},
		{codeBadPort, hostWith("allow \"x\" { port = \"http\" }"), `"http"`, "a port or a range"},
		{codeBadChoice, domainWith("spf { all = \"softfial\" }"), `"softfial"`, `Did you mean "softfail"?`},
		{codeBadChoice, domainWith("dkim { algorithms = [\"rsa1024\"] }"), `"rsa1024"`, `Did you mean`},
		{codeBadPasswordHash, mailboxWith("password_hash = \"hunter2\""), `"hunter2"`, "mailform hash-password"},
		{codeBadPasswordHash, mailboxWith("password_hash = \"$argon2id$v=19$m=9999999,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA\""), `"$argon2id$v=19$m=9999999,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"`, "costs are out of bounds"},
		{codeBadSSHKey, hostWith("ssh { authorized_keys = [\"ssh-rsa AAAA\"] }"), `"ssh-rsa AAAA"`, ".pub"},
		{codeBadSSHKey, hostWith("ssh { authorized_keys = [\"-----BEGIN OPENSSH PRIVATE KEY-----\"] }"), `"-----BEGIN OPENSSH PRIVATE KEY-----"`, "this is a private key"},
		{codeBadHostKey, hostWith("ssh { host_key = \"SHA256:short\" }"), `"SHA256:short"`, "ssh-keygen -lf"},
		{codeBadSelector, domainWith("dkim { selector = \"a.b\" }"), `"a.b"`, "DKIM selector"},
		{codeBadSelector, domainWith("dkim { selector = \"" + long + "\" }"), `"` + long + `"`, "55 are allowed"},
		{codeBadURL, "provider \"acme\" { directory = \"acme.example\" }", `"acme.example"`, "https://"},
		{codeBadURL, "provider \"acme\" { directory = \"https://u:p@acme.example\" }", `"https://u:p@acme.example"`, "without credentials"},
		{codeOutOfRange, domainWith("mx { priority = 70000 }"), "70000", "From 0 to 65535"},
		{codeOutOfRange, domainWith("mx { priority = 1.5 }"), "1.5", "whole number"},
		{codeOutOfRange, domainWith("alias \"x\" { to = [] }"), "[]", "at least one"},
		{codeBadText, mailboxWith("name = \"\""), `""`, "name is empty"},
		{codeBadText, mailboxWith("name = \"a\\nb\""), `"a\nb"`, "trimspace"},
		{codeBadText, mailboxWith("name = \"" + strings.Repeat("x", 200) + "\""), `"` + strings.Repeat("x", 200) + `"`, "128 are allowed"},
		{codeBadHostPort, "provider \"acme\" { resolver = \"9.9.9.9\" }", `"9.9.9.9"`, "9.9.9.9:53"},

		{codeBadTime, dataDisk(`snapshots { at = "3:30" }`), `"3:30"`, `"00:00" to "23:00"`},
		{codeBadTime, dataDisk(`snapshots { at = "24:00" }`), `"24:00"`, "full hour"},
		{codeBadDuration, dataDisk(`snapshots { keep = "36h" }`), `"36h"`, "whole days"},
		{codeBadDuration, dataDisk(`snapshots { keep = "0d" }`), `"0d"`, "From 1d to 65535d"},
		{codeBadDuration, domainWith("dkim { rotate = \"6d\" }"), `"6d"`, "From 7d to 3650d"},
		{codeBadDuration, backup(`every = "5m"`), `"5m"`, "From 15m to 7d"},
		{codeBadPercent, "monitor { disk_free = \"a tenth\" }", `"a tenth"`, `"10%"`},
		{codeBadPercent, "protection { zone_changes = 0 }", "0", "From 1% to 100%"},
		{codeBadGlob, "forget \"mailbx/bob@acme.example\" {}", `"mailbx/bob@acme.example"`, `Did you mean "mailbox"?`},
		{codeBadGlob, "forget \"spf\" {}", `"spf"`, "Addresses begin with alias,"},
		{codeBadGlob, "forget \"mailbox\" {}", `"mailbox"`, `"mailbox/*"`},
		{codeBadGlob, "forget \"mx*\" {}", `"mx*"`, `address begins with "mx"`},
		{codeBadGlob, "protection { protect = [\"dns/a b\"] }", `"dns/a b"`, "the character ' '"},
		{codeBadGlob, "protection { unprotect = [\"dns/bücher.example/*\"] }", `"dns/bücher.example/*"`, "punycode"},
		{codeBadGlob, "protection { unprotect = [\"dns//spf\"] }", `"dns//spf"`, "empty part"},
		{codeBadGlob, "ignore \"dns/*\" { fields = [\"\"] }", `""`, "It is empty"},
		{codeBadBucket, backup(`bucket = "Acme_Mail"`), `"Acme_Mail"`, "3 to 63 characters"},
		{codeBadBucket, backup(`prefix = "a//b"`), `"a//b"`, "name of an object"},
		{codeBadName, fmt.Sprintf(instance, `type = "ecs.g7"`), `"ecs.g7"`, "is not an instance type"},
		{codeBadName, fmt.Sprintf(instance, `fallback_types = ["ecs.g7.large", "g7"]`), `"g7"`, "ecs.g7.large"},
		{codeBadName, fmt.Sprintf(instance, `ram_role = "acs:ram::1:role/x"`), `"acs:ram::1:role/x"`, "not its ARN"},
		{codeBadName, zone("id = \"023E105F4ECEF8AD9CA31A8372D0C353\""), `"023E105F4ECEF8AD9CA31A8372D0C353"`, "is not the id of a zone"},
		{codeBadName, backup(`region = "Hong Kong"`), `"Hong Kong"`, "is not a region"},
		{codeBadText, "server {\n  filter { attachments = [\".EXE\", \"tar.gz\"] }\n}", `"tar.gz"`, "last dot"},
		{codeBadText, zone("rule \"r\" { expression = \"(ip.src eq 1.2.3.4\" }"), `"(ip.src eq 1.2.3.4"`, "brackets that do not match"},
		{codeBadText, zone("rule \"r\" { expression = \"a eq \\\"b\" }"), `"a eq \"b"`, "quote that is not closed"},
		{codeBadURL, "lock \"postgres\" { url = \"mysql://canary@x/y\" }", `"mysql://canary@x/y"`, "this value is not the URL of a PostgreSQL database"},
		{codeBadHostname, zone("web \"a_b\" {}"), `"a_b"`, "is not a name in a zone"},
		{codeBadChoice, zone("security_level = \"medium_high\""), `"medium_high"`, "under_attack"},
		{codeMissingAttribute, "ignore \"dns/*\" {}", `ignore "dns/*"`, "fields is missing"},
		{codeMissingAttribute, "lock \"bucket\" { bucket = \"abc\" }", `lock "bucket"`, `A lock "bucket" block needs it`},
		{codeWrongLabels, "lock \"consul\" {}", `"consul"`, "There are bucket and postgres."},
		{codeRepeatedBlock, "lock \"postgres\" {}\nlock \"postgres\" {}", `lock "postgres"`, "a second lock block"},
		{codeOutOfRange, "ignore \"dns/*\" { fields = [] }", "[]", "at least one"},
		{codeOutOfRange, "server {\n  limits { connections = 0 }\n}", "0", "From 1 to 100000"},

		{codeDuplicateHost, base[1:] + "host \"mx1\" {\n  hostname = \"m2.acme.example\"\n  address = \"203.0.113.8\"\n}\n" + domainWith(""), `"mx1"`, "first defined at stack/main.hcl:3,1"},
		{codeSharedName, base + "host \"mx2\" {\n  hostname = \"MAIL.acme.example\"\n  address = \"203.0.113.8\"\n}\n", `"MAIL.acme.example"`, "hostname of two hosts"},
		{codeSharedName, base + "host \"mx2\" {\n  hostname = \"m2.acme.example\"\n  address = \"203.0.113.7\"\n}\n", `"203.0.113.7"`, "address of two hosts"},
		{codeDuplicateDomain, domainWith("") + "domain \"ACME.example\" {}", `"ACME.example"`, "defined twice"},
		{codeAddressTaken, domainWith("mailbox \"alice\" {}"), `"alice"`, "It is the mailbox at stack/main.hcl:9,11"},
		{codeAddressTaken, domainWith("alias \"alice\" { to = [\"x@y.example\"] }"), `"alice"`, "It is the mailbox"},
		{codeAddressTaken, domainWith("mailbox \"bob\" { aliases = [\"alice\"] }"), `"alice"`, "It is the mailbox"},
		{codeAddressTaken, domainWith("mailbox \"bob\" { aliases = [\"b\", \"b\"] }"), `"b"`, `It is the alias of mailbox "bob"`},
		{codeAddressTaken, domainWith("alias \"x\" { to = [\"alice\"] }\n  alias \"X\" { to = [\"alice\"] }"), `"X"`, "It is the alias at"},
		{codeUnknownHost, domainWith("host = \"mx2\""), `"mx2"`, `Did you mean "mx1"?`},
		{codeUnknownHost, "stack \"a\" {}\n" + domainWith(""), `domain "acme.example"`, "nothing serves acme.example"},
		{codeUnknownHost, base + "host \"mx2\" {\n  hostname = \"m2.acme.example\"\n  address = \"203.0.113.8\"\n}\n" + domainWith(""), `domain "acme.example"`, "which host serves"},
		{codeOutsideZones, "domain \"other.example\" {\n  mailbox \"a\" {}\n}", `"mail.acme.example"`, `"mail.other.example"`},
		{codeInstanceOrAddress, hostWith("instance {}"), `"203.0.113.7"`, "not both"},
		{codeInstanceOrAddress, "stack \"a\" {}\nhost \"mx1\" {\n  hostname = \"mail.acme.example\"\n}\n" + domainWith(""), `host "mx1"`, "instance { }"},
		{codeAliasCycle, domainWith("alias \"a\" { to = [\"b\", \"alice\"] }\n  alias \"b\" { to = [\"c+x\"] }\n  alias \"c\" { to = [\"a\"] }"), `"a"`, "a@acme.example → b@acme.example → c@acme.example → a@acme.example"},
		{codeAliasCycle, domainWith("alias \"a\" { to = [\"a\"] }"), `"a"`, "a@acme.example → a@acme.example"},
		{codeUnknownRecipient, domainWith("alias \"a\" { to = [\"alcie\"] }"), `"alcie"`, `Did you mean "alice"?`},
		{codeUnknownRecipient, domainWith("alias \"a\" { to = [\"bob@acme.example\"] }"), `"bob@acme.example"`, "no such mailbox"},
		{codeUnknownRecipient, domainWith("dmarc { reports = [\"rua\"] }"), `"rua"`, "no such mailbox"},
		{codeUnknownCatchAll, domainWith("catch_all = \"alcie\""), `"alcie"`, `Did you mean "alice"?`},
		{codeUnknownCatchAll, domainWith("catch_all = \"x\"\n  alias \"x\" { to = [\"alice\"] }"), `"x"`, "mailbox of this domain"},
		{codeNoPostmaster, "domain \"acme.example\" {}", `domain "acme.example"`, "postmaster"},
		{codeDuplicateAllow, hostWith("allow \"a\" { port = 80 }\n  allow \"a\" { port = 81 }"), `"a"`, "defined twice"},
		{codeDuplicateAllow, hostWith("allow \"a\" { port = 80 }\n  allow \"b\" { port = \"80-80\" }"), `"80-80"`, `the same as allow "a"`},
		{codeZoneOutsideRegion, "provider \"alicloud\" { region = \"cn-hongkong\" }\n" + fmt.Sprintf(instance, `zone = "us-east-1a"`), `"us-east-1a"`, "is not in region cn-hongkong"},
		{codeRecordTooLong, domainWith("spf { ip = [for i in range(200) : \"192.0.2.${i}\"] }"), "spf", "2048 can be stored"},
		{codeRecordTooLong, fmt.Sprintf("domain \"%s\" {\n  host = \"mx1\"\n  mailbox \"a\" {}\n  dkim { selector = \"%s\" }\n}\n", longDomain, long[:54]) + domainWith(""), "dkim", "at most 253"},
		{codeHalfCredentials, "server {\n  relay {\n    host = \"r.example\"\n    username = \"u\"\n  }\n}", `"u"`, "a username but no password"},
		{codeAlgorithmConflict, domainWith("dkim { algorithms = [\"rsa2048\", \"rsa4096\"] }"), `["rsa2048", "rsa4096"]`, "one RSA key"},
		{codeAlgorithmConflict, domainWith("dkim { algorithms = [] }"), "[]", "needs an algorithm"},
		{codeRecordTooLong, domainWith("dmarc { reports = [for i in range(150) : \"rua${i}@reports.example\"] }"), `[for i in range(150) : "rua${i}@reports.example"]`, "2048 can be stored"},
		{codeSPFCircle, domainWith("spf { include = [\"b.example\"] }") + "domain \"b.example\" {\n  spf { include = [\"acme.example\"] }\n}\n", `["b.example"]`, "acme.example → b.example → acme.example"},
		{codeSPFCircle, domainWith("spf { include = [\"acme.example\"] }"), `["acme.example"]`, "includes itself"},
		{codeUnknownAttribute, "rules { MF1404 = \"ignore\" }", "MF1404", "MF1404 cannot be changed"},
		{codeUnknownAttribute, "rules { MF1551 = \"ignore\" }", "MF1551", "Did you mean"},
		{codeBadChoice, "rules { MF1501 = \"off\" }", `"off"`, `"error", "warning" or "ignore"`},

		{codeSSHOpen, "stack \"a\" {}\nhost \"mx1\" {\n  hostname = \"mail.acme.example\"\n  instance {}\n}\n" + domainWith(""), `host "mx1"`, "open to everyone"},
		{codeSSHOpen, "stack \"a\" {}\nhost \"mx1\" {\n  hostname = \"mail.acme.example\"\n  instance {}\n  ssh { port = 23 }\n}\n" + domainWith(""), "ssh", "open to everyone"},
		{codeSPFLookups, domainWith("spf { include = [for i in range(10) : \"s${i}.example\"] }"), `[for i in range(10) : "s${i}.example"]`, "at least 11 DNS lookups"},
		{codeReportsElsewhere, domainWith("dmarc { reports = [\"rua@reports.example\"] }"), `"rua@reports.example"`, "acme.example._report._dmarc.reports.example"},
		{codePortOpenAlready, hostWith("allow \"imaps\" { port = 993 }"), "993", "open already"},
		{codeIdleHost, base + "host \"mx2\" {\n  hostname = \"m2.acme.example\"\n  address = \"203.0.113.8\"\n}\n" + domainWith("host = \"mx1\""), `host "mx2"`, "serves no domain"},
		{codeContactUnreachable, "stack \"acme\" { contact = \"ops@acme.example\" }\nhost \"mx1\" {\n  hostname = \"mail.acme.example\"\n  address  = \"203.0.113.7\"\n}\n" + domainWith(""), `"ops@acme.example"`, "Alerts would be lost"},
		{codeEmptySpec, "stack \"acme\" {}\n", `stack "acme"`, "removes everything"},
		{codeEd25519Only, domainWith("dkim { algorithms = [\"ed25519\"] }"), `["ed25519"]`, `Add "rsa2048"`},
		{codeLongSPF, domainWith("spf { ip = [for i in range(30) : \"192.0.2.${i}\"] }"), "spf", "RFC 7208 3.4"},
		{codeReadableSecret, "server {\n  relay {\n    host = \"r.example\"\n    username = \"u\"\n    password = \"p\"\n  }\n}", `"p"`, "MAILFORM_VAR_relay_password"},
		{codeSPFLookups, domainWith("spf { include = [\"b.example\", \"x.example\"] }") + "domain \"b.example\" {\n  spf { include = [for i in range(7) : \"s${i}.example\"] }\n}\n", `["b.example", "x.example"]`, "at least 11 DNS lookups"},
		{codeNoAlignment, domainWith("spf { manage = false }\n  dkim { manage = false }\n  dmarc { policy = \"reject\" }"), "dmarc", "passes neither SPF nor DKIM"},
		{codeRelayOutsideSPF, relay("smtp.relay.example") + domainWith(""), `domain "acme.example"`, "smtp.relay.example may not send for acme.example"},
		{codeRelayOutsideSPF, relay("192.0.2.1") + domainWith("spf { ip = [\"192.0.2.2\"] }\n  dkim { manage = false }"), "spf", "Without DKIM nothing is left"},
		{codeWeakSubdomains, domainWith("dmarc {\n    policy = \"reject\"\n    subdomain_policy = \"none\"\n  }"), `"none"`, "subdomains of acme.example can be forged"},
		{codeWideSPF, domainWith("spf { ip = [\"192.0.2.1\", \"128.0.0.0/1\"] }"), `"128.0.0.0/1"`, "everyone in 128.0.0.0/1 may send as acme.example"},
		{codeWideSPF, domainWith("spf { ip = [\"2001::/16\"] }"), `"2001::/16"`, "everyone"},
		{codeWideSPF, domainWith("spf { ip = [\"10.1.2.3\"] }"), `"10.1.2.3"`, "never see"},
		{codeRetainedMail, domainWith("retention \"in\" {\n    mailbox = \"inbox\"\n    after = \"90d\"\n  }"), `"inbox"`, "mail in INBOX is deleted after 90d"},
		{codeRepeatedBlock, domainWith("retention \"a\" {\n    mailbox = \"Trash\"\n    after = \"90d\"\n  }\n  retention \"b\" {\n    mailbox = \"Trash\"\n    after = \"9d\"\n  }"), `"Trash"`, "a second rule for Trash"},
		{codeRepeatedBlock, domainWith("retention \"a\" {\n    mailbox = \"Trash\"\n    after = \"90d\"\n  }\n  retention \"a\" {\n    mailbox = \"Junk\"\n    after = \"9d\"\n  }"), `"a"`, "a second rule"},
		{codeBadName, domainWith("retention \"a\" {\n    mailbox = \"Lists/*\"\n    after = \"90d\"\n  }"), `"Lists/*"`, "is not a mailbox's name"},
		{codeBadDuration, domainWith("retention \"a\" {\n    mailbox = \"Trash\"\n    after = \"1h\"\n  }"), `"1h"`, "outside"},
		{codeIdleFirewall, "stack \"a\" {}\nhost \"mx1\" {\n  hostname = \"mail.acme.example\"\n  address = \"203.0.113.7\"\n  firewall {}\n}\n" + domainWith(""), "firewall", "Only that of an instance"},
		{codePrivateAddress, "stack \"a\" {}\nhost \"mx1\" {\n  hostname = \"mail.acme.example\"\n  address = \"192.168.1.5\"\n}\n" + domainWith(""), `"192.168.1.5"`, "cannot be reached"},
		{codeNeedsFiling, "provider \"alicloud\" { region = \"cn-hangzhou\" }\n" + strings.Replace(fmt.Sprintf(instance, ""), "  instance", "  allow \"web\" { port = \"400-500\" }\n  instance", 1), `"400-500"`, "port 443 needs an ICP filing in cn-hangzhou"},
		{codeManyReports, domainWith("dmarc { reports = [\"alice\", \"abuse\", \"postmaster\"] }"), `["alice", "abuse", "postmaster"]`, "RFC 7489 6.2"},
		{codeSmallQuota, mailboxWith("quota = \"49MiB\""), `"49MiB"`, "a message of 50MiB does not fit alice"},
		{codeSmallQuota, strings.Replace(mailboxWith(""), "mailbox \"alice\"", "quota = \"20MiB\"\n  mailbox \"alice\"", 1), `"20MiB"`, "does not fit"},
		{codeLargeQuota, strings.Replace(fmt.Sprintf(instance, ""), `mailbox "alice" {}`, "quota = \"41GiB\"\n  mailbox \"alice\" {}", 1), `"41GiB"`, "the quota of "},
		{codeLargeQuota, strings.Replace(fmt.Sprintf(instance, ""), `mailbox "alice" {}`, "mailbox \"alice\" { quota = \"41GiB\" }\n  mailbox \"bob\" { quota = \"1TiB\" }", 1), `"41GiB"`, "the quota of alice and one more is larger"},
	}
}

func relay(host string) string { return "server {\n  relay { host = \"" + host + "\" }\n}\n" }

// doubling is a spec of a few lines whose last local would have gigabytes.
func doubling() string {
	var b strings.Builder
	b.WriteString("locals {\n  a0 = \"0123456789\"\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&b, "  a%d = \"${local.a%d}${local.a%d}\"\n", i, i-1, i-1)
	}
	return b.String() + "}\n"
}

// TestCodes holds, for each code, a spec that gives it: with the exact place and
// a text that helps.
func TestCodes(t *testing.T) {
	for i, c := range codeCases() {
		t.Run(fmt.Sprintf("%s/%d", c.code, i), func(t *testing.T) {
			text := c.text
			if !strings.Contains(text, "stack ") {
				text = base + text
				if !strings.Contains(text, "domain ") {
					text += "\n" + domainWith("")
				}
			}
			s, src, ds := load(text)
			if (s == nil) != ds.HasErrors() {
				t.Errorf("spec %v with findings %v", s, ds)
			}
			for _, d := range ds {
				if d.Code != c.code || !strings.Contains(d.Summary+" "+d.Detail, c.says) {
					continue
				}
				if wantError := c.code < "MF15"; (d.Severity == SeverityError) != wantError {
					t.Errorf("severity %s", d.Severity)
				}
				at := ""
				if d.Subject != nil {
					at = text[d.Subject.StartByte:d.Subject.EndByte]
				}
				if c.at != "" && at != c.at {
					t.Errorf("points at %q, want %q", at, c.at)
				}
				return
			}
			t.Errorf("no %s that says %q:\n%s", c.code, c.says, show(src, ds))
		})
	}
}

// Findings do not cascade: every case of TestCodes with an error has that code only.
func TestOneMistakeOneFinding(t *testing.T) {
	for i, c := range codeCases() {
		if strings.Contains(c.text, "stack ") || c.code == codeMissingBlock {
			continue
		}
		text := base + c.text
		if !strings.Contains(text, "domain ") {
			text += "\n" + domainWith("")
		}
		_, src, ds := load(text)
		for _, d := range ds {
			if d.Code != c.code && d.Severity == SeverityError {
				t.Errorf("case %d of %s also gives %s:\n%s", i, c.code, d.Code, show(src, ds))
				break
			}
		}
	}
}

func TestReadingCodes(t *testing.T) {
	big := strings.Repeat("# "+strings.Repeat("x", 1<<20)+"\n", 9)
	f := func(extra files) LoadOptions {
		m := files{"stack/main.hcl": base + domainWith("")}
		for k, v := range extra {
			m[k] = v
		}
		return m.options()
	}
	many := files{}
	for i := range maxSpecFiles + 1 {
		many[fmt.Sprintf("stack/%d.hcl", i)] = "\n"
	}
	broken := f(nil)
	open := broken.Open
	broken.Open = func(n string) (fs.File, error) {
		if strings.HasSuffix(n, "main.hcl") {
			return nil, &fs.PathError{Op: "open", Path: n, Err: fs.ErrPermission}
		}
		return open(n)
	}
	variable := files{"stack/v.hcl": "variable \"region\" { default = \"x\" }\n"}
	withVars := func(change func(*LoadOptions), extra files) LoadOptions {
		m := files{}
		for k, v := range variable {
			m[k] = v
		}
		for k, v := range extra {
			m[k] = v
		}
		o := f(m)
		change(&o)
		return o
	}
	for _, c := range []struct {
		code string
		o    LoadOptions
		says string
	}{
		{codeNoSpec, files{"stack/notes.txt": "x", "stack/.hidden.hcl": "x", "stack/a.vars.hcl": "x"}.options(), "mailform init"},
		{codeUnreadable, files{"elsewhere/a.hcl": ""}.options(), "cannot read the folder stack"},
		{codeUnreadable, broken, "Permission denied"},
		{codeTooLarge, f(files{"stack/big.hcl": big}), "8MiB"},
		{codeTooLarge, many.options(), "1000 are allowed"},
		{codeEvaluation, f(files{"stack/x.hcl": "locals { a = file(\"big\") }", "stack/big": big}), "too large"},
		{codeEvaluation, f(files{"stack/x.hcl": "locals { a = file(\"sub\") }", "stack/sub/y": ""}), "not a regular file"},
		{codeTooComplex, f(files{"stack/x.hcl": strings.Repeat("[ ", 3<<20)}), "too many symbols"},
		{codeUndeclaredVariable, withVars(func(o *LoadOptions) { o.Vars = []string{"regoin=x"} }, nil), `Did you mean "region"?`},
		{codeUndeclaredVariable, withVars(func(o *LoadOptions) { o.Environ = []string{"MAILFORM_VAR_REGION=x"} }, nil), "Did you mean MAILFORM_VAR_region?"},
		{codeUndeclaredVariable, withVars(func(o *LoadOptions) { o.VarFiles = []string{"v.json"} }, files{"v.json": `{"regoin": 1}`}), `Did you mean "region"?`},
		{codeBadAssignment, withVars(func(o *LoadOptions) { o.Vars = []string{"region"} }, nil), "NAME=VALUE"},
		{codeBadAssignment, withVars(func(o *LoadOptions) { o.VarFiles = []string{"v.hcl"} }, files{"v.hcl": "region {}"}), ""},
		{codeBadVariableValue, withVars(func(o *LoadOptions) { o.VarFiles = []string{"v.hcl"} }, files{"v.hcl": "region = upper(\"x\")"}), "without references or functions"},
		{codeUnreadable, withVars(func(o *LoadOptions) { o.VarFiles = []string{"none.hcl"} }, nil), "cannot read none.hcl"},
		{codeTooComplex, withVars(func(o *LoadOptions) { o.VarFiles = []string{"v.json"} }, files{"v.json": strings.Repeat("[", 1<<20)}), "nested"},
	} {
		_, src, ds := Load(c.o)
		ok := false
		for _, d := range ds {
			ok = ok || d.Code == c.code && strings.Contains(d.Summary+" "+d.Detail, c.says)
		}
		if !ok {
			t.Errorf("no %s that says %q:\n%s", c.code, c.says, show(src, ds))
		}
	}
}

// Many rows with the same mistake give a bounded list.
func TestManyFindings(t *testing.T) {
	_, src, ds := load(base + `
domain "acme.example" {
  dynamic "mailbox" {
    for_each = range(1000)
    labels   = ["bad name ${mailbox.value}"]
    content {}
  }
}
`)
	last := ds[len(ds)-1]
	if len(ds) != maxFindings+1 || last.Code != codeMoreToSay || last.Summary != "and 500 more findings" {
		t.Errorf("%d findings, the last %+v", len(ds), last)
	}
	if out := show(src, ds); !strings.Contains(out, "… and 461 more\n") || !strings.HasSuffix(out, "501 errors\n") {
		t.Errorf("rendered:\n%s", out[len(out)-400:])
	}
}

// A panic below Load becomes a finding.
func TestPanicIsAFinding(t *testing.T) {
	o := files{}.options()
	o.ReadDir = func(string) ([]fs.DirEntry, error) { panic(errors.New("boom")) }
	s, src, ds := Load(o)
	if s != nil || src == nil || len(ds) != 1 || ds[0].Code != codeInternal {
		t.Errorf("%v %v", s, ds)
	}
}

// Every code that exists is explained once, and every one is tested above.
func TestCodeTable(t *testing.T) {
	tested := map[string]bool{
		codeNoSpec: true, codeUnreadable: true, codeTooLarge: true, codeMoreToSay: true, codeInternal: true,
		codeUndeclaredVariable: true, codeBadAssignment: true,
	}
	for _, c := range codeCases() {
		tested[c.code] = true
	}
	seen := map[string]bool{}
	last, page := "", ReferenceMarkdown()
	for _, c := range Codes() {
		if !strings.Contains(page, "\n- `"+c.Code+"`: ") {
			t.Errorf("%s is not in the reference", c.Code)
		}
		if seen[c.Code] || c.Code <= last || c.Meaning == "" {
			t.Errorf("%s: listed twice, out of order or without a meaning", c.Code)
		}
		seen[c.Code], last = true, c.Code
		if !tested[c.Code] {
			t.Errorf("%s has no test", c.Code)
		}
	}
	for code := range tested {
		if !seen[code] {
			t.Errorf("%s is not in the table", code)
		}
	}
}
