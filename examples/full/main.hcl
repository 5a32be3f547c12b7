# A whole mail system with nearly everything a spec can say: one machine, two domains, a
# disk of its own for the mail, backups, alerts, a web name behind Cloudflare. Take what
# you need; whatever is left out has a safe default.
#
#   mailform rehearse examples/full            tries it without any account
#   mailform rehearse --faults examples/full   takes it through the vendors' bad days

# The name is part of every ownership mark: never change it. The certificate authority
# writes to the contact, and so do servers that mail postmaster.
stack "full" {
  contact = "ada@full.example"
}

provider "alicloud" {
  region = "cn-hongkong"
}

variable "office" {
  description = "Networks of the office, from which machines are looked after"
  type        = list(string)
  default     = ["198.51.100.0/24", "2001:db8:100::/48"]
}

host "mx1" {
  hostname = "mail.full.example"

  instance {
    type           = "ecs.g7.large"
    fallback_types = ["ecs.g6.large"] # when the first is out of stock
    image          = "debian-12"
    ram_role       = "mail-backup" # writes the backups: see examples/ci/ram-policy-host.json

    system_disk {
      size = "40GiB"
    }

    # The mail. It stays when the machine is replaced, and can grow while mail goes on.
    data_disk {
      size      = "200GiB"
      encrypted = true

      snapshots {
        at   = "03:00" # UTC+8, whatever the region
        keep = "14d"
      }
    }

    public_ip {
      bandwidth = "20Mbps"
    }
  }

  ssh {
    from = var.office
  }

  # Inbound rules that nobody wrote down here do not stay.
  firewall {
    exclusive = true
  }

  # The ports of mail are open by themselves; this is one more.
  allow "monitoring" {
    port = 9100
    from = var.office
  }
}

server {
  max_message_size = "35MiB"

  limits {
    recipients_per_message = 100
    messages_per_hour      = 200 # of one mailbox: what a stolen password can send
  }

  # Against what nobody wants. Mind the terms of block lists: most are free for small
  # sites only, and do not answer public resolvers.
  filter {
    dnsbl       = ["zen.spamhaus.org"]
    greylist    = true
    attachments = ["exe", "scr", "js", "vbs", "lnk"]
  }

  # For the old scanner in the corridor.
  pop3 {}

  # Less disk, smaller backups. There is no way back to versions that cannot read it.
  storage {
    compress = true
  }
}

tls {
  key          = "ecdsa256"
  renew_before = "30d" # when the authority does not say itself when it wants to renew
}

# A private, versioned bucket that mailform makes. The machine writes to it as its RAM
# role, so there is no key that could get lost, and cannot delete older versions.
backup {
  every = "1h"
  keep  = "30d"

  oss {
    bucket = "full-example-mail-backup"
  }
}

# A machine cannot tell of its own fall: somebody elsewhere is among those who are told.
monitor {
  alerts    = ["ada@full.example", "oncall@elsewhere.example"]
  disk_free = "15%"
  queue_age = "2h"
  metrics   = "127.0.0.1:9100"
}

# What goes only with --allow, beyond machines, disks, addresses and mailboxes.
protection {
  protect      = ["dns/*/spf", "dns/*/dmarc"]
  zone_changes = "40%"
}

# Advice that was read and is not followed: the policy of MTA-STS is fetched from port 443,
# so that is open to everyone and not only to Cloudflare.
rules {
  MF1526 = "ignore"
}
