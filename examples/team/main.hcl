# A team of 25 on two domains, kept in a spreadsheet.
# people.csv has a line for each person; add one and apply.

stack "team" {
  contact = "grace.hopper@team.example"
}

provider "alicloud" {
  region = var.region
}

host "mx1" {
  hostname = "mail.team.example"

  instance {
    type  = var.instance_type
    image = "debian-12"

    system_disk {
      size = "100GiB"
    }

    public_ip {
      bandwidth = "20Mbps"
    }
  }

  ssh {
    from = var.office_networks
  }
}

server {
  max_message_size = "35MiB"
}
