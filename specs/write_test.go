package specs

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// bare takes source ranges and secrets out of a spec, so that two can be compared.
func bare(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			bare(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			bare(v.Index(i))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[Range]() {
			v.SetZero()
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				bare(v.Field(i))
			}
		}
	}
}

func equalSpecs(t *testing.T, a, b *Spec, text []byte) {
	t.Helper()
	x, y := *a, *b
	x.secrets, y.secrets = nil, nil
	bare(reflect.ValueOf(&x).Elem())
	bare(reflect.ValueOf(&y).Elem())
	vx, vy := reflect.ValueOf(x), reflect.ValueOf(y)
	for i := range vx.NumField() {
		if f := vx.Type().Field(i); f.IsExported() && !reflect.DeepEqual(vx.Field(i).Interface(), vy.Field(i).Interface()) {
			t.Errorf("%s was %s\nand became %s\nthrough\n%s", f.Name, dump(vx.Field(i)), dump(vy.Field(i)), text)
		}
	}
}

func dump(v reflect.Value) string {
	text, err := json.MarshalIndent(v.Interface(), "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// everything is a spec in which nearly nothing is as it would be by itself.
const everything = `
stack "written" {
  contact = "ops@acme.example"
}

provider "alicloud" {
  region       = "ap-southeast-1"
  ecs_endpoint = "https://ecs.example"
  vpc_endpoint = "https://vpc.example"
  oss_endpoint = "https://oss.example"
}

provider "cloudflare" {
  base_url = "https://dns.example/client/v4"
}

provider "acme" {
  ca        = "zerossl"
  issuer    = "ca.example"
  ca_bundle = "ca.pem"
  resolver  = "9.9.9.9:53"

  eab {
    kid      = "key-1"
    hmac_key = var.acme_hmac_key
  }
}

host "mx1" {
  hostname = "mail.acme.example"

  instance {
    type           = "ecs.g7.large"
    fallback_types = ["ecs.g6.large", "ecs.c7.large"]
    zone           = "ap-southeast-1a"
    image          = "ubuntu-24.04"
    ram_role       = "mail-backup"

    system_disk {
      category = "cloud_auto"
      size     = "60GiB"
    }

    data_disk {
      size      = "200GiB"
      encrypted = true

      snapshots {
        at   = "05:00"
        keep = "21d"
      }
    }

    public_ip {
      bandwidth = "300Mbps"
      charge_by = "bandwidth"
    }
  }

  ssh {
    from            = ["198.51.100.0/24", "2001:db8::/32"]
    authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl op@laptop"]
  }

  firewall {
    exclusive = true
  }

  allow "web" {
    port = 8443
    from = ["192.0.2.0/24"]
  }

  allow "many" {
    port     = "9000-9010"
    protocol = "udp"
  }
}

host "mx2" {
  hostname = "mx2.acme.example"
  address  = "203.0.113.7"

  ssh {
    user     = "admin"
    port     = 2222
    from     = ["0.0.0.0/0"]
    host_key = "SHA256:jTFcLOmmfUKXXxYbHZSyZ9mkjNNhKz9tMbfSEZiX0iU"
  }
}

domain "acme.example" {
  host      = "mx1"
  catch_all = "alice"

  retention "bin" {
    mailbox = "Trash"
    after   = "30d"
  }

  retention "in" {
    mailbox = "INBOX"
    after   = "1095d"
  }

  quota          = "500GiB"
  quota_messages = 5000000
  discovery = true
  dane      = true

  mx {
    priority = 20
  }

  spf {
    include = ["spf.crm.example"]
    ip      = ["192.0.2.0/28"]
    all     = "softfail"
  }

  dkim {
    selector   = "s1"
    algorithms = ["rsa4096"]
    rotate     = "180d"
  }

  dmarc {
    policy           = "reject"
    subdomain_policy = "quarantine"
    reports          = ["postmaster@acme.example"]
  }

  mta_sts {
    mode    = "enforce"
    max_age = "30d"
  }

  tls_rpt {
    reports = ["tls@acme.example"]
  }

  mailbox "alice" {
    name          = "Alice \"A.\" Liddell $${x} %%{y}"
    quota         = "1536MiB"
    quota_messages = 1000
    password_hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"
    aliases       = ["a", "sales"]
  }

  mailbox "ops" {}

  alias "tls" {
    to = ["alice@acme.example", "partner@elsewhere.example"]
  }
}

domain "beta.example" {
  host = "mx2"

  spf {
    manage = false
  }

  dkim {
    manage = false
  }

  dmarc {
    manage = false
  }

  mailbox "bob" {
    quota = 0
  }
}

zone "acme.example" {
  id             = "023e105f4ecef8ad9ca31a8372d0c353"
  security_level = "under_attack"
  ssl            = "strict"
  min_tls        = "1.2"
  caa            = ["letsencrypt.org", "ca.example"]

  web "webmail" {
    host = "mx1"
  }

  web "@" {
    host    = "mx1"
    proxied = false
  }

  rule "admin" {
    expression = "http.request.uri.path contains \"/admin\""
    action     = "block"
  }
}

tls {
  key          = "rsa2048"
  renew_before = "20d"
}

server {
  max_message_size = "25MiB"

  limits {
    connections            = 500
    connections_per_client = 7
    recipients_per_message = 33
    messages_per_hour      = 44
  }

  filter {
    dnsbl       = ["zen.spamhaus.org"]
    greylist    = true
    dmarc       = false
    attachments = ["exe", "js"]
  }

  storage {
    compress = true
    encrypt  = true
  }

  pop3 {
    exclusive = true
  }

  relay {
    host     = "smtp.relay.example"
    port     = 465
    username = "acme"
    password = var.relay_password
  }
}

backup {
  endpoint          = "https://s3.oss-ap-southeast-1.aliyuncs.com"
  bucket            = "acme-backup"
  region            = "ap-southeast-1"
  prefix            = "mail"
  access_key_id     = "LTAI5tExample"
  secret_access_key = var.backup_secret_access_key
  every             = "30m"
  keep              = "90d"
}

monitor {
  alerts      = ["oncall@elsewhere.example"]
  disk_free   = "15%"
  queue_age   = "2h"
  certificate = "10d"
  blocklists  = ["bl.example"]
  metrics     = "127.0.0.1:9100"
}

lock "postgres" {
  url = var.lock_url
}

protection {
  protect      = ["dns/*/spf"]
  unprotect    = ["mailbox/*@beta.example"]
  zone_changes = "50%"
}

ignore "host/*/firewall" {
  fields = ["rules*"]
}

forget "dns/beta.example/spf" {}

variable "relay_password" {
  type      = string
  sensitive = true
}

variable "acme_hmac_key" {
  type      = string
  sensitive = true
}

variable "backup_secret_access_key" {
  type      = string
  sensitive = true
}

variable "lock_url" {
  type      = string
  sensitive = true
}
`

func readBack(t *testing.T, text string) *Spec {
	t.Helper()
	o := files{"stack/main.hcl": text, "stack/ca.pem": ""}.options()
	o.Environ = []string{"MAILFORM_VAR_relay_password=secret-1", "MAILFORM_VAR_acme_hmac_key=secret-4", "MAILFORM_VAR_backup_secret_access_key=secret-2", "MAILFORM_VAR_lock_url=postgres://op:secret-3@db.example/locks"}
	s, src, ds := Load(o)
	if s == nil {
		t.Fatalf("the spec has errors:\n%s\n%s", show(src, ds), text)
	}
	return s
}

// TestWrite: what is written is read back as it was.
func TestWrite(t *testing.T) {
	starter, err := Starter("example.com", StarterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"everything": everything, "the starter": string(starter),
		"another authority": "stack \"s\" {}\nprovider \"acme\" {\n  directory = \"https://ca.example/dir\"\n}\nhost \"h\" {\n  hostname = \"mail.a.example\"\n  instance {}\n}\ndomain \"a.example\" {\n  mailbox \"m\" {}\n}\n", "no blocklists": "stack \"s\" {}\nhost \"h\" {\n  hostname = \"mail.a.example\"\n  instance {}\n}\ndomain \"a.example\" {\n  mailbox \"m\" {}\n}\nmonitor {\n  blocklists = []\n}\n",
		"the least": "stack \"s\" {}\nhost \"h\" {\n  hostname = \"mail.a.example\"\n  instance {}\n}\ndomain \"a.example\" {\n  mailbox \"m\" {}\n}\n"} {
		t.Run(name, func(t *testing.T) {
			s := readBack(t, text)
			written := Write(s)
			again := readBack(t, string(written))
			equalSpecs(t, s, again, written)
			for _, secret := range []string{"secret-1", "secret-2", "secret-3", "secret-4"} {
				if bytes.Contains(written, []byte(secret)) {
					t.Errorf("the secret %s is written out:\n%s", secret, written)
				}
			}
			if twice := Write(again); !bytes.Equal(twice, written) {
				t.Errorf("written again it is\n%s\nafter\n%s", twice, written)
			}
		})
	}
}

// TestWriteLeavesDefaultsOut: a small spec stays small.
func TestWriteLeavesDefaultsOut(t *testing.T) {
	s := readBack(t, "stack \"s\" {}\nhost \"h\" {\n  hostname = \"mail.a.example\"\n  instance {}\n}\ndomain \"a.example\" {\n  mailbox \"m\" {}\n}\n")
	golden(t, "written.hcl", string(Write(s)))
}

// TestWriteKnowsEverything: every field of a Spec has a value of its own in the
// spec above, so that Write can forget none.
func TestWriteKnowsEverything(t *testing.T) {
	given := map[string]bool{}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch {
		case v.Type() == reflect.TypeFor[Range]():
		case v.Kind() == reflect.Pointer:
			if !v.IsNil() {
				walk(path, v.Elem())
			}
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.String:
			for i := range v.Len() {
				walk(path, v.Index(i))
			}
		case v.Kind() == reflect.Struct && v.Type().PkgPath() == reflect.TypeFor[Spec]().PkgPath():
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					walk(v.Type().Name()+"."+f.Name, v.Field(i))
				}
			}
		default:
			given[path] = given[path] || !v.IsZero()
		}
	}
	walk("", reflect.ValueOf(*readBack(t, everything)))
	// A lock in a bucket excludes one in a database, and a bucket to make one that exists; the filter's dmarc is true by itself and false above.
	for _, other := range []string{"Lock.Endpoint", "Lock.Bucket", "Lock.Region", "Lock.Key", "Filter.DMARC", "SPF.AllUnset", "Backup.Create"} {
		delete(given, other)
	}
	for path, ok := range given {
		if !ok {
			t.Errorf("%s is never given in this test's spec", path)
		}
	}
}
