package specs

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// Everything beyond the core of the language, set to other values than its defaults.
func TestEverythingElseSet(t *testing.T) {
	s := mustLoad(t, `
stack "acme" { contact = "ops@acme.example" }
variable "backup_key" {
  default   = "canary-backup"
  sensitive = true
}
host "mx1" {
  hostname = "mail.acme.example"
  instance {
    type           = "ecs.g7.large"
    fallback_types = ["ecs.g6.large", "ecs.u1-c1m2.large"]
    ram_role       = "Mail.Backup_1"
    system_disk { encrypted = true }
    data_disk {
      category  = "cloud_auto"
      size      = "1TiB"
      encrypted = true
      snapshots {
        at   = "4:00"
        keep = "2w"
      }
    }
  }
  ssh { from = ["198.51.100.0/24"] }
}
domain "acme.example" {
  discovery = true
  dane      = true
  dkim { rotate = "180d" }
  mta_sts {
    mode    = "enforce"
    max_age = "30d"
  }
  tls_rpt { reports = ["alice", "tls@reports.example", "alice"] }
  mailbox "alice" { aliases = ["ops"] }
}
zone "Acme.Example." {
  security_level = "under_attack"
  ssl            = "strict"
  min_tls        = "1.3"
  caa            = ["LetsEncrypt.org"]
  web "Webmail" {}
  web "@" {
    host    = "mx1"
    proxied = false
  }
  rule "z" { expression = "ip.src ne 192.0.2.1" }
  rule "a" {
    expression = <<-E
      (http.host eq "webmail.acme.example"
       and not ip.src in {192.0.2.0/24})
    E
    action     = "block"
  }
}
server {
  limits {
    connections            = 9
    connections_per_client = 8
    recipients_per_message = 700
    messages_per_hour      = 6
  }
  filter {
    dnsbl       = ["zen.spamhaus.org"]
    greylist    = true
    dmarc       = false
    attachments = [".EXE", "scr", "exe"]
  }
}
backup {
  endpoint          = "https://s3.example"
  bucket            = "acme-mail"
  region            = "cn-hongkong"
  prefix            = "/mail/acme/"
  access_key_id     = "LTAI"
  secret_access_key = var.backup_key
  every             = "15m"
  keep              = "90d"
}
monitor {
  alerts      = ["oncall@elsewhere.example", "ops@acme.example"]
  disk_free   = 5
  queue_age   = "30m"
  certificate = "10d"
  blocklists  = ["Zen.spamhaus.org", "bl.example", "bl.example"]
  metrics     = "[::1]:9100"
}
lock "postgres" { url = sensitive("postgres://u:canary-lock@db.example/m") }
protection {
  protect      = ["dns/*/spf", "*"]
  unprotect    = ["Mailbox/*@test.acme.example", "m?ilbox/x*"]
  zone_changes = "25%"
}
ignore "dns/acme.example/a/mx1" { fields = ["ttl"] }
ignore "host/*" { fields = ["rules[office]*", "*"] }
forget "dns/acme.example/dkim/*" {}
forget "mailbox/bob@acme.example" {}
`)
	i := s.Hosts[0].Instance
	if got := fmt.Sprintln(i.Instead, i.RAMRole, i.SystemDisk, i.DataDisk.Disk, i.DataDisk.Snapshots.Hour, i.DataDisk.Snapshots.Days); got != "[ecs.g6.large ecs.u1-c1m2.large] Mail.Backup_1 {cloud_essd 40 true} {cloud_auto 1024 true} 4 14\n" {
		t.Errorf("instance: %s", got)
	}
	d := s.Domains[0]
	if got := fmt.Sprintln(d.Discovery, d.DANE, d.DKIM.Rotate, d.MTASTS.Mode, d.MTASTS.MaxAge, d.TLSRPT.Reports); got != "true true 4320h0m0s enforce 720h0m0s [alice@acme.example tls@reports.example]\n" {
		t.Errorf("domain: %s", got)
	}
	z := s.Zones[0]
	if got := fmt.Sprintln(z.Name, z.SecurityLevel, z.SSL, z.MinTLS, z.CAA); got != "acme.example under_attack strict 1.3 [letsencrypt.org]\n" {
		t.Errorf("zone: %s", got)
	}
	if len(z.Web) != 2 || z.Web[0] != (Web{"webmail", "mx1", true, z.Web[0].Range}) || z.Web[1] != (Web{"@", "mx1", false, z.Web[1].Range}) {
		t.Errorf("web: %+v", z.Web)
	}
	if len(z.Rules) != 2 || z.Rules[0] != (ZoneRule{"z", "ip.src ne 192.0.2.1", "managed_challenge", z.Rules[0].Range}) || z.Rules[1].Action != "block" ||
		z.Rules[1].Expression != "(http.host eq \"webmail.acme.example\"\n and not ip.src in {192.0.2.0/24})" {
		t.Errorf("rules: %+v", z.Rules)
	}
	if l := s.Server.Limits; l != (Limits{9, 8, 700, 6, l.Range}) {
		t.Errorf("limits: %+v", l)
	}
	if f := s.Server.Filter; !reflect.DeepEqual(f, Filter{[]string{"zen.spamhaus.org"}, true, false, []string{"exe", "scr"}, f.Range}) {
		t.Errorf("filter: %+v", f)
	}
	if b := s.Backup; *b != (Backup{false, "https://s3.example", "acme-mail", "cn-hongkong", "mail/acme", "LTAI", "canary-backup", 15 * time.Minute, 90 * 24 * time.Hour, b.Range}) {
		t.Errorf("backup: %+v", b)
	}
	if m := s.Monitor; !reflect.DeepEqual(m, Monitor{[]string{"oncall@elsewhere.example", "ops@acme.example"}, 5, 30 * time.Minute, 10 * 24 * time.Hour, []string{"zen.spamhaus.org", "bl.example"}, "[::1]:9100", m.Range}) {
		t.Errorf("monitor: %+v", m)
	}
	if l := s.Lock; l.Kind != "postgres" || l.URL != "postgres://u:canary-lock@db.example/m" || l.Key != "" {
		t.Errorf("lock: %+v", l)
	}
	if p := s.Protection; !reflect.DeepEqual(p, Protection{[]string{"dns/*/spf", "*"}, []string{"mailbox/*@test.acme.example", "m?ilbox/x*"}, 25, p.Range}) {
		t.Errorf("protection: %+v", p)
	}
	if len(s.Ignore) != 2 || s.Ignore[0].Address != "dns/acme.example/a/mx1" || fmt.Sprint(s.Ignore[1].Fields) != "[rules[office]* *]" {
		t.Errorf("ignore: %+v", s.Ignore)
	}
	if len(s.Forget) != 2 || s.Forget[1].Address != "mailbox/bob@acme.example" {
		t.Errorf("forget: %+v", s.Forget)
	}
	for _, secret := range []string{"canary-backup", "postgres://u:canary-lock@db.example/m"} {
		if got, ok := s.Secret(Fingerprint(secret)); !ok || got != secret {
			t.Errorf("Secret(Fingerprint(%q)) = %q, %v", secret, got, ok)
		}
	}
}

// What is not written has defaults that are safe, and nothing more is made.
func TestEverythingElseUnset(t *testing.T) {
	s := mustLoad(t, base+`
lock "bucket" {
  endpoint = "https://s3.example"
  bucket   = "acme-lock"
}
domain "acme.example" {
  mta_sts {}
  tls_rpt {}
  dkim { rotate = "0" }
  mailbox "alice" {}
}
domain "b.example" {
  dkim { rotate = 0 }
}
zone "acme.example" {}
`)
	d := s.Domains[0]
	if got := fmt.Sprintln(d.MTASTS.Mode, d.MTASTS.MaxAge, d.TLSRPT.Reports, d.DKIM.Rotate, d.Discovery, d.DANE); got != "testing 168h0m0s [postmaster@acme.example] 0s false false\n" {
		t.Errorf("domain: %s", got)
	}
	if b := s.Domains[1]; b.MTASTS != nil || b.TLSRPT != nil || b.DKIM.Rotate != 0 {
		t.Errorf("b.example: %+v", b)
	}
	if z := s.Zones[0]; !reflect.DeepEqual(*z, Zone{Name: "acme.example", Range: z.Range}) {
		t.Errorf("zone: %+v", z)
	}
	if l := s.Server.Limits; l != (Limits{2000, 50, 100, 300, l.Range}) {
		t.Errorf("limits: %+v", l)
	}
	if f := s.Server.Filter; !reflect.DeepEqual(f, Filter{DMARC: true, Range: f.Range}) {
		t.Errorf("filter: %+v", f)
	}
	if m := s.Monitor; !reflect.DeepEqual(m, Monitor{[]string{"postmaster@acme.example"}, 10, 4 * time.Hour, 14 * 24 * time.Hour, []string{"zen.spamhaus.org", "bl.spamcop.net"}, "", m.Range}) {
		t.Errorf("monitor: %+v", m)
	}
	if l := s.Lock; *l != (Lock{Kind: "bucket", Endpoint: "https://s3.example", Bucket: "acme-lock", Key: "mailform/acme.lock", Range: l.Range}) {
		t.Errorf("lock: %+v", l)
	}
	if p := s.Protection; !reflect.DeepEqual(p, Protection{ZonePercent: 50, Range: p.Range}) || s.Backup != nil || s.Ignore != nil || s.Forget != nil {
		t.Errorf("protection %+v backup %v ignore %v forget %v", p, s.Backup, s.Ignore, s.Forget)
	}
}

// TestABucketToMake: a backup block can have its bucket made, and Write says so again.
func TestABucketToMake(t *testing.T) {
	s := mustLoad(t, `
stack "acme" {}
provider "alicloud" { region = "ap-southeast-1" }
host "mx1" {
  hostname = "mail.acme.example"
  instance { ram_role = "mail-backup" }
  ssh { from = ["::1"] }
}
host "mx2" {
  hostname = "mx2.acme.example"
  address  = "203.0.113.9"
}
domain "acme.example" {
  host = "mx1"
  mailbox "alice" {}
}
domain "b.example" { host = "mx2" }
backup {
  oss { bucket = "acme-mail-backup" }
}
`)
	if b := s.Backup; !b.Create || b.Bucket != "acme-mail-backup" || b.Endpoint != "" || b.AccessKeyID != "" {
		t.Errorf("backup: %+v", b)
	}
	for i, want := range []string{"https://oss-ap-southeast-1-internal.aliyuncs.com", "https://oss-ap-southeast-1.aliyuncs.com"} {
		if got := s.BackupEndpoint(s.Hosts[i]); got != want {
			t.Errorf("%s copies to %s, want %s", s.Hosts[i].Name, got, want)
		}
	}
	text := Write(s)
	if again := mustLoad(t, string(text)); !again.Backup.Create || again.Backup.Bucket != s.Backup.Bucket {
		t.Errorf("written and read again: %+v\n%s", again.Backup, text)
	}
}
