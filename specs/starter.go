package specs

import (
	"fmt"
	"strings"
)

// StarterOptions change what Starter writes; the zero value is fine.
type StarterOptions struct {
	Stack        string // "" makes it from the domain: "example-com"
	Region       string // "" is "cn-hongkong"
	InstanceType string // "" is the schema's default
}

// Starter returns a commented spec for a domain that can be applied as it
// stands. The error says what is wrong with the domain.
func Starter(domain string, o StarterOptions) ([]byte, error) {
	d, err := mailDomain(domain)
	if err != nil {
		return nil, fmt.Errorf("%q is not a mail domain: %w", domain, err)
	}
	if o.Stack == "" {
		o.Stack = StackName(d)
	}
	if o.Region == "" {
		o.Region = defaultRegion
	}
	if o.InstanceType == "" {
		o.InstanceType = hostSchema().block("instance").attr("type").Default.AsString()
	}
	return []byte(strings.NewReplacer("@DOMAIN@", d, "@STACK@", o.Stack, "@REGION@", o.Region, "@TYPE@", o.InstanceType).Replace(starterText)), nil
}

// StackName turns a mail domain into a name for its stack.
func StackName(domain string) string {
	s := strings.ReplaceAll(domain, ".", "-")
	if len(s) > 32 {
		s = s[:32]
	}
	return strings.Trim(s, "-")
}

const starterText = `# Mail for @DOMAIN@. See what it takes: mailform plan. Do it: mailform apply.
# Every block and attribute is explained by: mailform docs

stack "@STACK@" {
  contact = "postmaster@@DOMAIN@" # the certificate authority and alerts write here
}

provider "alicloud" {
  region = "@REGION@"
}

host "mx1" {
  hostname = "mail.@DOMAIN@"

  # For a machine that exists: address = "203.0.113.7" in place of this block.
  instance {
    type  = "@TYPE@"
    image = "debian-12"
  }

  # The public keys of the person who applies may log in. To name others:
  # authorized_keys = [file("~/.ssh/id_ed25519.pub")]
  ssh {
    from = ["0.0.0.0/0", "::/0"] # better: only your own networks
  }
}

# MX, SPF, DKIM and DMARC records follow from this block.
domain "@DOMAIN@" {
  # catch_all = "alice" # mail for unknown names; without it, they are refused

  # A first password is made on the host and shown once by apply.
  mailbox "alice" {
    name  = "Alice"
    quota = "10GiB"
    # aliases       = ["sales"]
    # password_hash = "…" # from: mailform hash-password
  }

  mailbox "bob" {
    name  = "Bob"
    quota = "5GiB"
  }

  alias "team" {
    to = ["alice", "bob"]
  }

  # spf {
  #   include = ["spf.newsletter.example"] # who else sends for you
  # }

  # mta_sts {
  #   mode = "testing" # later "enforce": senders then insist on TLS
  # }
}

# Somebody elsewhere should hear when something is wrong with the host:
# monitor {
#   alerts = ["you@elsewhere.example"]
# }

# Alibaba Cloud closes outbound port 25 by default. To send through a relay:
# server {
#   relay {
#     host     = "smtp.relay.example"
#     username = "you"
#     password = var.relay_password
#   }
# }
`
