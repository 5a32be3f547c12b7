locals {
  # login,name,role,quota,aliases (aliases separated by blanks)
  people = csvdecode(file("people.csv"))

  engineers = [for p in local.people : p.login if p.role == "engineer"]
  support   = [for p in local.people : p.login if p.role == "support"]
}

domain "team.example" {
  catch_all = "grace.hopper"

  spf {
    include = ["spf.newsletter.example"]
  }

  dmarc {
    policy  = "reject"
    reports = ["dmarc"]
  }

  dynamic "mailbox" {
    for_each = local.people
    iterator = person
    labels   = [person.value.login]

    content {
      name    = person.value.name
      quota   = coalesce(person.value.quota, var.default_quota)
      aliases = compact(split(" ", person.value.aliases))
    }
  }

  alias "engineering" {
    to = local.engineers
  }

  alias "support" {
    to = local.support
  }

  alias "everyone" {
    to = local.people[*].login
  }

  alias "dmarc" {
    to = ["grace.hopper"]
  }
}

# The shop has no mailboxes of its own: its addresses lead to people.
domain "team-shop.example" {
  dynamic "alias" {
    for_each = {
      orders  = local.support
      returns = local.support
      hello   = ["support"]
      jobs    = ["grace.hopper", "ada.lovelace"]
    }
    labels = [alias.key]

    content {
      to = [for local_part in alias.value : "${local_part}@team.example"]
    }
  }
}
