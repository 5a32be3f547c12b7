# Who may send, who is believed, and who the people are. For many of them see
# examples/team, which reads a table.

domain "full.example" {
  # Whatever nobody here is called lands with Ada. Her mailbox also takes postmaster and abuse.
  catch_all = "ada"

  # Mail programs set themselves up from the address alone.
  discovery = true

  mx {
    priority = 10
  }

  # The machine itself, the shop that sends invoices for us, and nobody else.
  spf {
    include = ["spf.shop.example"]
    all     = "fail"
  }

  # Twice a year the keys change by themselves; all it takes is a scheduled apply.
  dkim {
    algorithms = ["rsa2048", "ed25519"]
    rotate     = "180d"
  }

  dmarc {
    policy  = "reject"
    reports = ["reports"]
  }

  # Senders insist on TLS and on our certificate. Begin with "testing", and read the reports.
  mta_sts {
    mode    = "enforce"
    max_age = "14d"
  }

  tls_rpt {
    reports = ["reports"]
  }

  # dane = true asks for a zone that is signed with DNSSEC: switch that on at Cloudflare and
  # at the registrar first. Senders would not look at TLSA records in a zone without it.

  mailbox "ada" {
    name    = "Ada Lovelace"
    quota   = "20GiB"
    aliases = ["a.lovelace", "boss"]
  }

  mailbox "grace" {
    name    = "Grace Hopper"
    quota   = "10GiB"
    aliases = ["g.hopper"]
  }

  mailbox "edsger" {
    name  = "Edsger Dijkstra"
    quota = "10GiB"
  }

  mailbox "scanner" {
    name  = "Scanner in the corridor"
    quota = "1GiB"
  }

  alias "all" {
    to = ["ada", "grace", "edsger"]
  }

  alias "accounts" {
    to = ["grace", "books@accountant.example"]
  }

  alias "reports" {
    to = ["edsger"]
  }
}

# The shop's addresses lead to people of the other domain.
domain "full-shop.example" {
  discovery = true

  spf {
    all = "fail"
  }

  dkim {
    rotate = "180d"
  }

  # Receivers send reports to another domain only if that agrees, so they come here first.
  dmarc {
    policy  = "reject"
    reports = ["reports"]
  }

  mta_sts {
    mode    = "enforce"
    max_age = "14d"
  }

  tls_rpt {
    reports = ["reports"]
  }

  mailbox "orders" {
    name    = "Orders"
    quota   = "5GiB"
    aliases = ["returns"]
  }

  alias "hello" {
    to = ["ada@full.example", "grace@full.example"]
  }

  alias "reports" {
    to = ["edsger@full.example"]
  }
}

# Cloudflare's own settings, for the web names that go through it. Mail never does.
zone "full.example" {
  security_level = "medium"
  ssl            = "strict"
  min_tls        = "1.2"
  caa            = ["letsencrypt.org"]

  # Leads to the machine's port 443.
  web "webmail" {
    proxied = true
  }

  rule "admin" {
    expression = "http.host eq \"webmail.full.example\" and starts_with(http.request.uri.path, \"/admin\")"
    action     = "block"
  }
}

zone "full-shop.example" {
  caa = ["letsencrypt.org"]
}
