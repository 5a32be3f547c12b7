# A small mail system: one machine, one domain, two people.
# Try it without any account: mailform rehearse examples/quickstart

stack "quickstart" {
  contact = "alice@quickstart.example"
}

provider "alicloud" {
  region = "cn-hongkong"
}

host "mx1" {
  hostname = "mail.quickstart.example"

  instance {
    type  = "ecs.u1-c1m2.large"
    image = "debian-12"
  }

  ssh {
    from = ["0.0.0.0/0", "::/0"]
  }
}

domain "quickstart.example" {
  # alice also receives alice+anything, and mail for postmaster and abuse.
  mailbox "alice" {
    name    = "Alice"
    quota   = "2GiB"
    aliases = ["sales"]
  }

  mailbox "bob" {
    name  = "Bob"
    quota = "1GiB"
  }

  alias "team" {
    to = ["alice", "bob"]
  }
}
