package specs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Blocks use each other's names and addresses, in any order and through locals.
func TestReferencesBetweenBlocks(t *testing.T) {
	s := mustLoad(t, `
stack "acme" { contact = "postmaster@${domain["Acme.example"].name}" }
locals {
  mail      = "mail.${local.zone}"
  zone      = domain["Acme.example"].name
  addresses = host[*].address
  made      = { for name, h in host : name => try(h.address, "later") }
  named     = [for h in ["x"] : h]
}
host "mx1" {
  hostname = upper(local.mail)
  address  = "::ffff:203.0.113.7"
}
host "mx2" {
  hostname = "second-${host.mx1.hostname}"
  address  = cidrhost("${host.mx1.address}/32", 0) == "" ? "" : "203.0.113.8"
}
domain "Acme.example" {
  host = host["mx1"].name
  spf  { ip = local.addresses }
  mailbox "alice" { name = join(" ", host.*.hostname) }
  mailbox "bob"   { name = jsonencode(local.made) }
  dynamic "mailbox" {
    for_each = domain.*.name
    labels   = ["at-${mailbox.value}"]
    content { name = host.mx2.hostname }
  }
}
domain "second.example" { host = host.mx2.name }
`)
	d := s.Domains[0]
	got := fmt.Sprint(s.Stack.Contact, s.Hosts[0].Hostname, s.Hosts[1].Hostname, d.Host, s.Domains[1].Host, d.SPF.IP)
	want := fmt.Sprint("postmaster@acme.example", "mail.acme.example", "second-mail.acme.example", "mx1", "mx2", "[203.0.113.7/32 203.0.113.8/32]")
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var names []string
	for _, m := range d.Mailboxes {
		names = append(names, m.Local+"="+m.Name)
	}
	if got, want := strings.Join(names, "; "), `alice=mail.acme.example second-mail.acme.example; at-acme.example=second-mail.acme.example; `+
		`at-second.example=second-mail.acme.example; bob={"mx1":"203.0.113.7","mx2":"203.0.113.8"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A name that a for expression or a dynamic block gives hides the blocks.
func TestNamesHideBlocks(t *testing.T) {
	s := mustLoad(t, base+`
locals { n = [for host in [{ a = "x" }] : host[*].a] }
domain "acme.example" {
  mailbox "alice" { name = join("", flatten(local.n)) }
  dynamic "mailbox" {
    for_each = ["bob"]
    iterator = host
    labels   = [host.value]
    content { name = join(",", host[*].value) }
  }
}
`)
	if m := s.Domains[0].Mailboxes; m[0].Name != "x" || m[1].Name != "bob" {
		t.Errorf("%+v %+v", m[0], m[1])
	}
}

// What a broken block exports is reported once, where it is broken.
func TestBrokenExportsDoNotCascade(t *testing.T) {
	for _, text := range []string{
		"host \"mx1\" {\n  hostname = \"a b.acme.example\"\n  address  = \"203.0.113.7\"\n}\n",
		"host \"mx1\" {\n  hostname = \"m.acme.example\" + 1\n  address  = \"203.0.113.7\"\n}\n",
		"host \"mx1\" {\n  hostname = \"m.acme.example\"\n}\n",
		"host \"mx1\" {\n  hostname = sensitive(\"m.acme.example\")\n  address  = \"203.0.113.7\"\n}\n",
	} {
		_, src, ds := load("stack \"acme\" {}\n" + text + mailboxWith("name = \"${host.mx1.hostname} ${host.mx1.address} ${join(\"\", host[*].hostname)}\""))
		if errs, _ := ds.count(); errs != 1 {
			t.Errorf("%d errors:\n%s", errs, show(src, ds))
		}
	}
}

// Hosts, domains and zones may come from a table, too.
func TestBlocksFromATable(t *testing.T) {
	s, src, ds := Load(files{"stack/main.hcl": `
stack "acme" {}
locals {
  brands = csvdecode(file("brands.csv"))
  names  = local.brands[*].name
}
dynamic "host" {
  for_each = ["203.0.113.7", "203.0.113.8"]
  labels   = ["mx${host.key}"]
  content {
    hostname = "mx${host.key}.first.example"
    address  = host.value
  }
}
dynamic "domain" {
  for_each = { for b in local.brands : b.name => b }
  iterator = brand
  labels   = [brand.key]
  content {
    host = brand.value.host
    dynamic "mailbox" {
      for_each = split(" ", brand.value.people)
      labels   = [mailbox.value]
      content { name = "${mailbox.value} of ${brand.key}" }
    }
  }
}
dynamic "zone" {
  for_each = toset(local.names)
  labels   = [zone.value]
  content { caa = ["letsencrypt.org"] }
}
server {
  dynamic "relay" {
    for_each = length(local.names) > 1 ? ["relay.elsewhere.example"] : []
    content { host = relay.value }
  }
}
dynamic "forget" {
  for_each = local.names
  labels   = ["dns/${forget.value}/dmarc"]
  content {}
}
rules { MF1512 = "ignore" }
`, "stack/brands.csv": "name,host,people\nfirst.example,mx0,alice bob\nsecond.example,mx1,carol\n"}.options())
	if s == nil || len(ds) > 0 {
		t.Fatal(show(src, ds))
	}
	var got []string
	for _, d := range s.Domains {
		for _, m := range d.Mailboxes {
			got = append(got, d.Host+" "+m.Local+"@"+d.Name+" "+m.Name)
		}
	}
	want := []string{"mx0 alice@first.example alice of first.example", "mx0 bob@first.example bob of first.example", "mx1 carol@second.example carol of second.example"}
	if !slices.Equal(got, want) || len(s.Hosts) != 2 || len(s.Zones) != 2 || s.Server.Relay == nil || len(s.Forget) != 2 || s.Forget[1].Address != "dns/second.example/dmarc" {
		t.Errorf("%q %v %v %v %v", got, s.Hosts, s.Zones, s.Server.Relay, s.Forget)
	}
}

// A zone's name is used like a domain's.
func TestZoneReferences(t *testing.T) {
	s := mustLoad(t, base+`
zone "Acme.example" {}
domain "acme.example" {
  mailbox "alice" { name = zone["Acme.example"].name }
  mailbox "bob"   { name = join(",", zone[*].name) }
}
`)
	if m := s.Domains[0].Mailboxes; m[0].Name != "acme.example" || m[1].Name != "acme.example" {
		t.Errorf("%+v %+v", m[0], m[1])
	}
}
