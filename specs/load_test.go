package specs

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestSmallestCompleteSpec(t *testing.T) {
	s := mustLoad(t, `
stack "acme-mail" {}
host "mx1" {
  hostname = "mail.acme.example"
  instance {}
}
domain "acme.example" {
  mailbox "alice" {}
}
`)
	h := s.Hosts[0]
	open := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	if h.Instance.Type != "ecs.u1-c1m2.large" || h.Instance.Image != "debian-12" || h.Instance.SystemDisk != (Disk{Category: "cloud_essd", SizeGiB: 40}) || h.Instance.Bandwidth != 10 {
		t.Errorf("instance defaults: %+v", h.Instance)
	}
	if h.SSH.User != "root" || h.SSH.Port != 22 || !reflect.DeepEqual(h.SSH.From, open) || h.SSH.AuthorizedKeys != nil {
		t.Errorf("ssh defaults: %+v", h.SSH)
	}
	d := s.Domains[0]
	if d.Host != "mx1" || d.MX.Priority != 10 || d.SPF.All != "fail" || d.DKIM.Selector != "mf1" ||
		!reflect.DeepEqual(d.DKIM.Algorithms, []string{"rsa2048", "ed25519"}) || d.DMARC.Policy != "quarantine" || d.DMARC.Reports != nil {
		t.Errorf("domain defaults: %+v %+v %+v %+v", d, d.SPF, d.DKIM, d.DMARC)
	}
	var implicit []string
	for _, a := range d.Aliases {
		implicit = append(implicit, fmt.Sprint(a.Local, a.To, a.Implicit))
	}
	if want := []string{"abuse[alice@acme.example] true", "postmaster[alice@acme.example] true"}; !reflect.DeepEqual(implicit, want) {
		t.Errorf("implicit aliases %v, want %v", implicit, want)
	}
	if s.TLS.Key != "ecdsa256" || s.TLS.RenewAfter != 30*24*time.Hour || s.Server.MaxMessageBytes != 50<<20 || s.Server.Relay != nil {
		t.Errorf("tls %+v server %+v", s.TLS, s.Server)
	}
	if s.AliCloud.Region != "cn-hongkong" || s.Stack.Contact != "postmaster@acme.example" {
		t.Errorf("region %q contact %q", s.AliCloud.Region, s.Stack.Contact)
	}
}

func TestEverythingSet(t *testing.T) {
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqX8Y1fmZ7Bz0vHqGJmvZ2dZ8XoT3m1k0bq4eQx0lqC op@laptop"
	s, src, ds := Load(files{
		"stack/a.hcl": `
stack "acme-mail" { contact = "Ops@ACME.example" }
provider "alicloud" {
  region       = "eu-central-1"
  ecs_endpoint = "http://127.0.0.1:1"
  vpc_endpoint = "https://vpc.example"
  oss_endpoint = "https://oss.example"
}
provider "cloudflare" { base_url = "http://127.0.0.1:2/client/v4" }
provider "acme" {
  directory = "https://127.0.0.1:3/dir"
  ca_bundle = "ca.pem"
  resolver  = "127.0.0.1:5353"
}
host "mx1" {
  hostname = "MAIL.Acme.example."
  instance {
    type  = "ecs.g7.large"
    zone  = "eu-central-1a"
    image = "ubuntu-24.04"
    system_disk {
      category = "cloud_auto"
      size     = "100GiB"
    }
    public_ip { bandwidth = "1Gbps" == "" ? 1 : "200Mbps" }
  }
  ssh {
    user            = "admin"
    port            = 2222
    from            = ["198.51.100.7", "2001:db8::/32", "198.51.100.7/32"]
    authorized_keys = [file("~/.ssh/id_ed25519.pub")]
    host_key        = "SHA256:jTFcLOmmfUKXXxYbHZSyZ9mkjNNhKz9tMbfSEZiX0iU"
  }
  allow "web" {
    port = 443
    from = cloudflare_ips()
  }
  allow "media" {
    port     = "8000-8010"
    protocol = "udp"
  }
}
host "old" {
  hostname = "old.bücher.example"
  address  = "::ffff:203.0.113.9"
}
`, "stack/b.hcl": `
domain "Bücher.Example" {
  host = "old"
  mx   { priority = 20 }
  spf {
    include = ["_spf.crm.example"]
    ip      = ["192.0.2.1"]
    all     = "softfail"
  }
  dkim {
    selector   = "K1"
    algorithms = ["rsa4096"]
  }
  dmarc {
    policy           = "reject"
    subdomain_policy = "none"
    reports          = ["dmarc", "dmarc@rua.bücher.example"]
  }
  catch_all = "a"
  mailbox "Alice" {
    name          = "Alice"
    quota         = "1.5GiB"
    password_hash = "` + goodHash + `"
    aliases       = ["Sales", "a"]
  }
  mailbox "bob" {}
  alias "all" { to = ["alice", "bob+list", "Partner@Elsewhere.example", "postmaster@acme.example", "bob+list"] }
  alias "dmarc" { to = ["bob"] }
}
domain "acme.example" {
  host = "mx1"
  spf   { manage = false }
  dkim  { manage = false }
  dmarc { manage = false }
}
tls {
  key          = "rsa2048"
  renew_before = "1w3d"
}
server {
  max_message_size = "25MB"
  relay {
    host     = "smtp.relay.example"
    port     = 465
    username = "acme"
    password = sensitive("s3cret")
  }
}
`, "/home/op/.ssh/id_ed25519.pub": key + "\n"}.options())
	if s == nil {
		t.Fatal(show(src, ds))
	}
	if s.AliCloud != (AliCloud{"eu-central-1", "http://127.0.0.1:1", "https://vpc.example", "https://oss.example", s.AliCloud.Range}) ||
		s.Cloudflare.BaseURL != "http://127.0.0.1:2/client/v4" || s.ACME.Directory != "https://127.0.0.1:3/dir" || s.CABundle != "ca.pem" || s.Resolver != "127.0.0.1:5353" {
		t.Errorf("providers: %+v %+v %+v %q %q", s.AliCloud, s.Cloudflare, s.ACME, s.CABundle, s.Resolver)
	}
	h := s.Host("mx1")
	if h.Hostname != "mail.acme.example" || h.Instance.SystemDisk != (Disk{Category: "cloud_auto", SizeGiB: 100}) || h.Instance.Bandwidth != 200 {
		t.Errorf("host: %+v %+v", h, h.Instance)
	}
	if fmt.Sprint(h.SSH.From) != "[198.51.100.7/32 2001:db8::/32]" || len(h.SSH.AuthorizedKeys) != 1 || h.SSH.AuthorizedKeys[0] != key {
		t.Errorf("ssh: %+v", h.SSH)
	}
	if len(h.Allow) != 2 || len(h.Allow[0].From) != 22 || h.Allow[1].FromPort != 8000 || h.Allow[1].ToPort != 8010 || h.Allow[1].Protocol != "udp" {
		t.Errorf("allow: %+v", h.Allow)
	}
	if o := s.Host("old"); o.Hostname != "old.xn--bcher-kva.example" || o.Address != netip.MustParseAddr("203.0.113.9") || o.Instance != nil {
		t.Errorf("old: %+v", o)
	}
	a, d := s.Domains[0], s.Domains[1]
	if a.Name != "acme.example" || a.SPF != nil || a.DKIM != nil || a.DMARC != nil {
		t.Errorf("acme.example: %+v", a)
	}
	// Nothing in acme.example receives mail, so the spec's first mailbox stands in.
	if got := a.Aliases[1]; got.Local != "postmaster" || got.To[0] != "alice@xn--bcher-kva.example" {
		t.Errorf("postmaster@acme.example: %+v", got)
	}
	if d.Name != "xn--bcher-kva.example" || d.CatchAll != "alice" || d.MX.Priority != 20 || d.SPF.Include[0] != "_spf.crm.example" || d.SPF.All != "softfail" ||
		d.DKIM.Selector != "k1" || d.DMARC.SubdomainPolicy != "none" {
		t.Errorf("bücher.example: %+v %+v %+v %+v", d, d.SPF, d.DKIM, d.DMARC)
	}
	if fmt.Sprint(d.DMARC.Reports) != "[dmarc@xn--bcher-kva.example dmarc@rua.xn--bcher-kva.example]" {
		t.Errorf("reports: %v", d.DMARC.Reports)
	}
	m := d.Mailboxes[0]
	if m.Local != "alice" || m.QuotaBytes != 3<<29 || fmt.Sprint(m.Aliases) != "[a sales]" {
		t.Errorf("mailbox: %+v", m)
	}
	var all *Alias
	for _, x := range d.Aliases {
		if x.Local == "all" {
			all = x
		}
	}
	if fmt.Sprint(all.To) != "[alice@xn--bcher-kva.example bob+list@xn--bcher-kva.example Partner@elsewhere.example postmaster@acme.example]" {
		t.Errorf("alias: %v", all.To)
	}
	if s.TLS.RenewAfter != 10*24*time.Hour || s.Server.MaxMessageBytes != 25e6 || s.Server.Relay.Port != 465 {
		t.Errorf("tls %+v server %+v", s.TLS, s.Server)
	}
	for _, secret := range []string{goodHash, "s3cret"} {
		if got, ok := s.Secret(Fingerprint(secret)); !ok || got != secret {
			t.Errorf("Secret(Fingerprint(%q)) = %q, %v", secret, got, ok)
		}
	}
}

func TestPostmasterGoesTo(t *testing.T) {
	for name, c := range map[string]struct{ contact, body, want string }{
		"the contact's mailbox":   {"bob@acme.example", `mailbox "alice" {}` + "\n" + `mailbox "bob" {}`, "bob@acme.example"},
		"the contact by alias":    {"ops@acme.example", `mailbox "alice" {}` + "\n" + `mailbox "bob" { aliases = ["ops"] }`, "bob@acme.example"},
		"the catch-all":           {"ops@elsewhere.example", `catch_all = "bob"` + "\n" + `mailbox "alice" {}` + "\n" + `mailbox "bob" {}`, "bob@acme.example"},
		"the first mailbox":       {"postmaster@acme.example", `mailbox "bob" {}` + "\n" + `mailbox "alice" {}`, "alice@acme.example"},
		"the contact outside":     {"ops@elsewhere.example", `alias "x" { to = ["y@elsewhere.example"] }`, "ops@elsewhere.example"},
		"a mailbox that takes it": {"", `mailbox "bob" { aliases = ["postmaster", "abuse"] }`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(base, "{}", "{\n}", 1)
			if c.contact != "" {
				text = strings.Replace(text, "{\n}", "{ contact = \""+c.contact+"\" }", 1)
			}
			s := mustLoad(t, text+"domain \"acme.example\" {\n"+c.body+"\n}\n")
			got := ""
			for _, a := range s.Domains[0].Aliases {
				if a.Local == "postmaster" {
					got = a.To[0]
				}
			}
			if got != c.want {
				t.Errorf("postmaster goes to %q, want %q", got, c.want)
			}
		})
	}
}

func TestDynamicBlocks(t *testing.T) {
	s, src, ds := Load(files{"stack/main.hcl": base + `
locals {
  people = csvdecode(file("people.csv"))
  nets   = { office = "198.51.100.0/24", home = "192.0.2.9" }
}
domain "acme.example" {
  host = "mx1"
  dynamic "mailbox" {
    for_each = { for p in local.people : p.login => p if p.active == "yes" }
    iterator = person
    labels   = [person.key]
    content {
      name    = person.value.name
      aliases = [for a in split(" ", person.value.aliases) : "${a}.${person.key}" if a != ""]
    }
  }
}
host "gate" {
  hostname = "gate.acme.example"
  address  = "203.0.113.8"
  dynamic "allow" {
    for_each = local.nets
    labels   = [allow.key]
    content {
      port = 8443
      from = [allow.value]
    }
  }
  dynamic "ssh" {
    for_each = [2200]
    content {
      port = ssh.value
    }
  }
}
domain "b.acme.example" {
  host = "gate"
  dynamic "alias" {
    for_each = toset(["x", "y"])
    labels   = [alias.value]
    content { to = ["bob@acme.example"] }
  }
}
`, "stack/people.csv": "\ufefflogin,name,active,aliases\nbob,Bob,yes,b bo\neve,Eve,no,\namy,王选,yes,\n"}.options())
	if s == nil {
		t.Fatal(show(src, ds))
	}
	m := s.Domains[0].Mailboxes
	if len(m) != 2 || m[0].Local != "amy" || m[0].Name != "王选" || fmt.Sprint(m[1].Aliases) != "[b.bob bo.bob]" {
		t.Errorf("mailboxes: %+v %+v", m[0], m[1])
	}
	gate := s.Host("gate")
	if gate.SSH.Port != 2200 || len(gate.Allow) != 2 || gate.Allow[0].Name != "home" || fmt.Sprint(gate.Allow[0].From) != "[192.0.2.9/32]" {
		t.Errorf("gate: %+v", gate)
	}
	if a := s.Domains[1].Aliases; len(a) != 4 || a[2].Local != "x" {
		t.Errorf("aliases: %+v", a)
	}
}

func TestVariablePrecedence(t *testing.T) {
	const text = base + `
variable "q" {
  type    = string
  default = "1GiB"
}
domain "acme.example" {
  mailbox "alice" { quota = var.q }
}
`
	f := files{"stack/main.hcl": text, "a.hcl": `q = "3GiB"`, "b.json": `{"q": "4GiB"}`, "stack/prod.vars.hcl": `q = "5GiB"`, "stack/x.hcl": `q = "6GiB"`}
	for _, c := range []struct {
		name     string
		env      []string
		varFiles []string
		vars     []string
		want     int64
	}{
		{"default", nil, nil, nil, 1},
		{"environment", []string{"MAILFORM_VAR_q=2GiB", "MAILFORM_VAR_other=1", "PATH=/bin"}, nil, nil, 2},
		{"file over environment", []string{"MAILFORM_VAR_q=2GiB"}, []string{"a.hcl"}, nil, 3},
		{"a later file wins", nil, []string{"a.hcl", "b.json"}, nil, 4},
		{"a file of the folder", nil, []string{"stack/prod.vars.hcl"}, nil, 5},
		{"any name in the folder", nil, []string{"stack/x.hcl"}, nil, 6},
		{"argument over all", []string{"MAILFORM_VAR_q=2GiB"}, []string{"a.hcl"}, []string{"q=7GiB", "q=8GiB"}, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			ff := files{}
			for n, x := range f {
				if n != "stack/x.hcl" || c.want == 6 {
					ff[n] = x
				}
			}
			o := ff.options()
			o.Environ, o.VarFiles, o.Vars = c.env, c.varFiles, c.vars
			s, src, ds := Load(o)
			if s == nil {
				t.Fatal(show(src, ds))
			}
			if got := s.Domains[0].Mailboxes[0].QuotaBytes; got != c.want<<30 {
				t.Errorf("quota %d, want %dGiB", got, c.want)
			}
		})
	}
}

func TestTypedVariables(t *testing.T) {
	o := files{"stack/main.hcl": base + `
variable "people" {
  type = list(object({
    login = string
    quota = optional(string, "2GiB")
  }))
}
variable "port" { type = number }
variable "on" { type = bool }
domain "acme.example" {
  mx { priority = var.on ? var.port : 1 }
  dynamic "mailbox" {
    for_each = var.people
    labels   = [mailbox.value.login]
    content { quota = mailbox.value.quota }
  }
}
`}.options()
	o.Vars = []string{`people=[{login="alice"}, {login="bob", quota="3GiB"}]`, "port=25", "on=true"}
	s, src, ds := Load(o)
	if s == nil {
		t.Fatal(show(src, ds))
	}
	d := s.Domains[0]
	if d.MX.Priority != 25 || d.Mailboxes[0].QuotaBytes != 2<<30 || d.Mailboxes[1].QuotaBytes != 3<<30 {
		t.Errorf("%+v %+v %+v", d.MX, d.Mailboxes[0], d.Mailboxes[1])
	}
}

// A sensitive variable reaches a secret attribute and nothing else, and its
// value appears in no finding.
func TestSensitiveValuesStayHidden(t *testing.T) {
	const canary = "canary-7f3a"
	o := files{"stack/main.hcl": base + `
variable "hash" {
  type      = string
  sensitive = true
  default   = "canary-7f3a-default"
  validation {
    condition     = length(var.hash) > 100
    error_message = "Too short: ${var.hash}"
  }
}
domain "acme.example" {
  mailbox "alice" { password_hash = var.hash }
  mailbox "bob"   { name = "x${var.hash}" }
  mailbox "carol" { password_hash = "canary-7f3a" }
  mailbox "dave"  { quota = tonumber(var.hash) }
  mailbox "eve"   { quota = parseint(var.hash, 10) }
  mailbox "f"     { name = file(var.hash) }
  mailbox "g"     { quota = sensitive("canary-7f3a") + 1 }
  dynamic "alias" {
    for_each = [var.hash]
    labels   = [alias.value]
    content { to = ["x@y.example"] }
  }
}
server {
  relay {
    host     = "r.example"
    username = "u"
    password = "canary-7f3a"
    oops     = 1
  }
}
backup {
  endpoint          = "https://s3.example"
  bucket            = "abc"
  access_key_id     = "a"
  secret_access_key = "canary-7f3a${1 + {}}"
}
lock "postgres" { url = "mysql://u:canary-7f3a@db.example/m" }
monitor { metrics = var.hash }
ignore "dns/*" { fields = [var.hash] }
zone "acme.example" {
  rule "r" { expression = var.hash }
}
`}.options()
	o.Vars = []string{"hash=" + canary}
	s, src, ds := Load(o)
	if s != nil {
		t.Fatal("must be refused")
	}
	for _, out := range []string{show(src, ds), string(DiagnosticsJSON(src, ds)), fmt.Sprintf("%+v", ds)} {
		for _, line := range strings.Split(out, "\n") {
			if strings.Contains(line, canary) {
				t.Errorf("a secret is shown: %s", line)
			}
		}
	}
	for _, code := range []string{codeValidationFailed, codeBadPasswordHash, codeExposedSecret, codeEvaluation, codeBadDynamic} {
		found := false
		for _, d := range ds {
			found = found || d.Code == code
		}
		if !found {
			t.Errorf("no finding with code %s:\n%s", code, show(src, ds))
		}
	}
}

func TestSecretsInSyntaxErrorsStayHidden(t *testing.T) {
	for _, text := range []string{
		"mailbox \"a\" {\n  password_hash = \"canary\" oops\n}\n",
		"mailbox \"a\" { password = \"canary\" }}\n",
		"mailbox \"a\" {\n  password_hash = \"canary\n}\n",
		"backup {\n  secret_access_key = \"canary\" oops\n}\n",
		"lock \"postgres\" {\n  url = \"postgres://u:canary@db.example/x\" oops\n}\n",
		"locals { \"x\" = [\"postgresql://u:canary@db.example/x\"] }\n",
	} {
		_, src, ds := load(base + text)
		if !ds.HasErrors() {
			t.Errorf("accepted %q", text)
		}
		if out := show(src, ds) + string(DiagnosticsJSON(src, ds)); strings.Contains(out, "canary") {
			t.Errorf("shown:\n%s", out)
		}
	}
	o := files{"stack/main.hcl": base + "variable \"v\" { sensitive = true }\n", "v.hcl": "v = \"canary\" x\n"}.options()
	o.VarFiles = []string{"v.hcl"}
	_, src, ds := Load(o)
	if out := show(src, ds); !ds.HasErrors() || strings.Contains(out, "canary") {
		t.Errorf("variable file:\n%s", out)
	}
}

func TestExamplesLoadClean(t *testing.T) {
	for name, want := range map[string][2]int{"quickstart": {1, 2}, "team": {2, 25}, "two-hosts": {2, 3}} {
		s, src, ds := Load(osOptions(filepath.Join("..", "examples", name)))
		if len(ds) > 0 {
			t.Errorf("%s has findings:\n%s", name, show(src, ds))
			continue
		}
		boxes := 0
		for _, d := range s.Domains {
			boxes += len(d.Mailboxes)
		}
		if got := [2]int{len(s.Domains), boxes}; got != want {
			t.Errorf("%s has %d domains and %d mailboxes, want %v", name, got[0], got[1], want)
		}
	}
}

func TestStarterLoadsClean(t *testing.T) {
	for _, domain := range []string{"example.com", "Bücher.example", "a-very-long-name-for-a-company.and-its-subsidiary.example"} {
		text, err := Starter(domain, StarterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s, src, ds := load(string(text))
		if len(ds) > 0 {
			t.Errorf("%s:\n%s", domain, show(src, ds))
			continue
		}
		if len(s.Domains[0].Mailboxes) != 2 || s.Hosts[0].Instance == nil {
			t.Errorf("%s: %+v", domain, s)
		}
		if formatted, ds := Format("x", text); len(ds) > 0 || string(formatted) != string(text) {
			t.Errorf("the starter is not formatted:\n%s", formatted)
		}
	}
	if _, err := Starter("example..com", StarterOptions{}); err == nil {
		t.Error("accepted example..com")
	}
	text, _ := Starter("example.com", StarterOptions{Stack: "s", Region: "ap-southeast-1", InstanceType: "ecs.g7.large"})
	if s := mustLoad(t, string(text)); s.Stack.Name != "s" || s.AliCloud.Region != "ap-southeast-1" || s.Hosts[0].Instance.Type != "ecs.g7.large" {
		t.Errorf("options are ignored: %+v", s)
	}
}

// The commented parts of the starter are right, too.
func TestStarterUncommented(t *testing.T) {
	text, _ := Starter("example.com", StarterOptions{})
	out := "variable \"relay_password\" {\n  default = \"x\"\n  sensitive = true\n}\n"
	for _, line := range strings.Split(string(text), "\n") {
		trimmed := strings.TrimLeft(line, " ")
		code := strings.TrimPrefix(strings.TrimPrefix(trimmed, "#"), " ")
		isCode := strings.HasPrefix(trimmed, "#") && (strings.Contains(code, " = ") || strings.HasSuffix(code, "{") || strings.TrimSpace(code) == "}") &&
			!strings.Contains(code, ": address") && !strings.Contains(code, "id_ed25519")
		if isCode {
			line = strings.ReplaceAll(code, "\"…\"", "\""+goodHash+"\"")
		}
		out += line + "\n"
	}
	s := mustLoad(t, out)
	if s.Server.Relay == nil || s.Domains[0].CatchAll != "alice" || len(s.Domains[0].SPF.Include) != 1 || s.Domains[0].MTASTS == nil || s.Monitor.Alerts[0] != "you@elsewhere.example" || s.Domains[0].Mailboxes[0].PasswordHash == "" {
		t.Errorf("not all of it was used:\n%s", out)
	}
}
