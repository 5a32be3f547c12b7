# Two mail servers, each for its own domains. They are made and planned at the same
# time; what could stop mail (another version, other settings, another type of machine)
# is done to mx1 first, and to mx2 once mx1 serves again. When mx1 fails, mx2 goes on
# as it was.

stack "two-hosts" {
  contact = "ops@two.example"
}

provider "alicloud" {
  region = "cn-hongkong"
}

provider "cloudflare" {}

locals {
  machine = {
    type  = "ecs.u1-c1m2.large"
    image = "debian-12"
  }

  office = ["198.51.100.0/24", "2001:db8:1::/48"]
}

host "mx1" {
  hostname = "mx1.two.example"

  instance {
    type  = local.machine.type
    image = local.machine.image
  }

  ssh {
    from = local.office
  }
}

host "mx2" {
  hostname = "mx2.shop.example"

  instance {
    type  = local.machine.type
    image = local.machine.image
  }

  ssh {
    from = local.office
  }
}

domain "two.example" {
  host = "mx1"

  mailbox "ada" {
    aliases = ["ops"]
  }
  mailbox "ben" {}

  alias "everybody" {
    to = ["ada", "ben", "orders@shop.example"]
  }
}

domain "shop.example" {
  host = "mx2"

  mailbox "orders" {
    quota = "20GiB"
  }
}

# The same for both.
server {
  limits {
    connections = 500
  }
}
