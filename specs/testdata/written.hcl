stack "s" {}

provider "alicloud" {
  region = "cn-hongkong"
}

host "h" {
  hostname = "mail.a.example"

  instance {}

  ssh {
    from = ["0.0.0.0/0", "::/0"]
  }
}

domain "a.example" {
  mailbox "m" {}
}
