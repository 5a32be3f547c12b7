package specs

import (
	"regexp"

	"github.com/zclconf/go-cty/cty"
)

var (
	typeForm = &form{regexp.MustCompile(`^ecs\.[a-z0-9]+(-[a-z0-9]+)*\.[a-z0-9-]+$`), "is not an instance type", `Types are named like "ecs.g7.large"; the vendor lists them at https://www.alibabacloud.com/help/en/ecs/user-guide/overview-of-instance-families.`}
	roleForm = &form{regexp.MustCompile(`^[A-Za-z0-9._-]+$`), "is not the name of a RAM role", "Write the role's name, not its ARN: letters, digits and . _ -"}
)

// diskCategories are the vendor's, best first. Local disks and the retired
// "cloud" are left out: the one dies with its instance, the other is not sold.
func diskCategories() []string {
	return []string{"cloud_essd", "cloud_essd_entry", "cloud_auto", "cloud_ssd", "cloud_efficiency"}
}

const encryptedDoc = "Encrypts the disk with the account's default key of the vendor's key service. It is decided when the disk is made: changing it later makes a new disk."

func hostSchema() *blockSchema {
	return &blockSchema{
		Name: "host", Many: true, Exports: []string{"name", "hostname", "address"},
		Labels: []labelSchema{{"name", kindName, "The host's name inside the spec."}},
		Doc: "A machine that serves mail: one that mailform creates (instance) or one that exists (address). Ports for mail and SSH are " +
			"opened by themselves. The address of an instance is known only after apply and cannot be used in expressions.",
		Example: `host "mx1" {
  hostname = "mail.acme.example"

  instance {
    type = "ecs.u1-c1m2.large"
  }

  ssh {
    from = ["198.51.100.0/24"]
  }
}`,
		Attrs: []attrSchema{
			{Name: "hostname", Kind: kindHostname, Required: true, Example: `"mail.acme.example"`,
				Doc: "The name in MX records, certificate and greeting. It must lie in a domain of this spec."},
			{Name: "address", Kind: kindIP, Example: `"203.0.113.7"`, Doc: "Public address of a machine that exists. Excludes instance."},
			{Name: "tune", Kind: kindBool, DefaultIs: "true on an instance, false on a machine that exists",
				Doc: "Sets the machine itself for a mail server, by files of mailform's own: room for waiting connections (sysctl.d), at most 1GiB of journal (journald.conf.d), and, on an instance where nothing keeps the clock right, systemd-timesyncd."},
		},
		Blocks: []*blockSchema{
			{
				Name: "instance", Doc: "An ECS instance to create, with its network, firewall and public address.",
				Attrs: []attrSchema{
					{Name: "type", Kind: kindString, Default: text("ecs.u1-c1m2.large"), MaxLen: 64, Form: typeForm, Doc: "The vendor's instance type. The default has 2 CPUs and 4 GiB of memory, enough for a hundred people."},
					{Name: "fallback_types", Kind: kindString, List: true, MaxLen: 64, Form: typeForm, DefaultIs: "none", Example: `["ecs.g7.large", "ecs.g6.large"]`,
						Doc: "Further types, in order of preference, for when type is out of stock. They count only when the instance is created: one that runs on such a type stays there."},
					{Name: "zone", Kind: kindString, DefaultIs: "one of the region that sells the type", MaxLen: 64, Example: `"cn-hongkong-b"`, Doc: "The vendor's zone."},
					{Name: "image", Kind: kindString, Default: text("debian-12"), MaxLen: 128, Doc: "A family such as debian-12 or ubuntu-24.04 (its newest image is used once, at creation), or the vendor's image id."},
					{Name: "ram_role", Kind: kindString, MaxLen: 64, Form: roleForm, DefaultIs: "none", Example: `"mail-backup"`, Doc: "Name of a RAM role that exists and that programs on the instance may use."},
				},
				Blocks: []*blockSchema{
					{
						Name: "system_disk", Doc: "The disk the machine starts from. The mail and the keys are on it, too, unless there is a data_disk.",
						Attrs: []attrSchema{
							{Name: "category", Kind: kindString, Default: text("cloud_essd"), Choices: diskCategories(), Doc: "The vendor's disk category."},
							{Name: "size", Kind: kindGiB, Default: text("40GiB"), Min: 20, Max: 2048, Doc: "Whole GiB. It can grow and never shrink."},
							{Name: "encrypted", Kind: kindBool, Default: cty.False, Doc: encryptedDoc},
						},
					},
					{
						Name: "data_disk", Doc: "A disk of its own for the mail and the keys (DKIM, TLS with certificates, ACME accounts). It outlives the instance: when the instance is replaced, the mail stays where it is, the next one signs with the same selectors and serves the same certificate. The keys are in its snapshots, too: use encrypted.",
						Example: "data_disk {\n  size = \"200GiB\"\n\n  snapshots {\n    keep = \"14d\"\n  }\n}",
						Attrs: []attrSchema{
							{Name: "category", Kind: kindString, Default: text("cloud_essd"), Choices: diskCategories(), Doc: "The vendor's disk category."},
							{Name: "size", Kind: kindGiB, Default: text("100GiB"), Min: 10, Max: 65536,
								Doc: "Whole GiB. It can grow and never shrink. The categories have limits of their own: cloud_essd 20GiB to 64TiB, cloud_auto 10GiB to 64TiB, cloud_essd_entry 10GiB to 32TiB, cloud_ssd and cloud_efficiency 20GiB to 32TiB."},
							{Name: "encrypted", Kind: kindBool, Default: cty.False, Doc: encryptedDoc},
						},
						Blocks: []*blockSchema{{
							Name: "snapshots", Doc: "The vendor takes a snapshot of the disk every day. Without the block, none are taken. Snapshots are billed by what they hold.",
							Attrs: []attrSchema{
								{Name: "at", Kind: kindHour, Default: text("03:00"), Doc: "When, to the full hour, in UTC+8 whatever the region: the vendor counts so. Snapshots may begin up to half an hour later."},
								{Name: "keep", Kind: kindDays, Default: text("14d"), Min: 1, Max: 65535, Doc: "How long each is kept, in whole days."},
							},
						}},
					},
					{
						Name: "public_ip", Doc: "The public address.",
						Attrs: []attrSchema{
							{Name: "bandwidth", Kind: kindBandwidth, Default: text("10Mbps"), Min: 1, Max: 500, Doc: "Peak outbound bandwidth: at most 200Mbps when traffic is charged, 500Mbps when bandwidth is."},
							{Name: "charge_by", Kind: kindString, Default: text("traffic"), Choices: []string{"traffic", "bandwidth"},
								Doc: "What is paid for: each GB sent, or the bandwidth by the hour, whether used or not. The vendor changes it for an address only in its console (Elastic IP Addresses, " +
									"Switch Metering Method; from the next midnight on); a change here alone would take another address, which needs --allow. International accounts have only traffic."},
						},
					},
				},
			},
			{
				Name: "ssh", Doc: "How mailform and people log in.",
				Attrs: []attrSchema{
					{Name: "user", Kind: kindString, Default: text("root"), MaxLen: 32, Doc: "Log-in name. On a machine that exists, User in ~/.ssh/config counts when the spec says nothing."},
					{Name: "port", Kind: kindInt, Default: cty.NumberIntVal(22), Min: 1, Max: 65535, Doc: "TCP port. On a machine that exists, Port in ~/.ssh/config counts when the spec says nothing."},
					{Name: "from", Kind: kindPrefix, List: true, DefaultIs: "everyone, with a warning", Example: `["198.51.100.0/24"]`, Doc: "Networks that may connect. Say so explicitly if it is really everyone: [\"0.0.0.0/0\", \"::/0\"]."},
					{Name: "authorized_keys", Kind: kindSSHKey, List: true, DefaultIs: "the public keys of the person who applies", Example: `[file("~/.ssh/id_ed25519.pub")]`, Doc: "Public keys, in the format of authorized_keys."},
					{Name: "host_key", Kind: kindHostKey, Example: `"SHA256:jTFcLOmmfUKXXxYbHZSyZ9mkjNNhKz9tMbfSEZiX0iU"`, Doc: "Pins the machine's host key: its fingerprint as ssh-keygen -l prints it, or the public key line. For machines that exist."},
					{Name: "harden", Kind: kindBool, DefaultIs: "true on an instance, false on a machine that exists",
						Doc: "Turns log-in by password off, by a file of mailform's own in sshd_config.d. The machine takes the change back when nobody can log in any more."},
				},
			},
			{
				Name: "firewall", Doc: "The security group of an instance, and the machine's own firewall. Their rules follow from what the host serves, the ssh block and the allow blocks.",
				Example: "firewall {\n  exclusive = true\n}",
				Attrs: []attrSchema{
					{Name: "exclusive", Kind: kindBool, Default: cty.False,
						Doc: "Removes every inbound rule that the spec does not say. Without it, rules that others made are counted and left alone. Rules of other stacks and outbound rules stay in any case."},
					{Name: "host", Kind: kindBool, DefaultIs: "true on an instance, false on a machine that exists",
						Doc: "Loads the same openings into the machine's own firewall (a table of nftables that is mailform's alone; the others stay as they are) and drops whatever else comes in. " +
							"Where nft is not installed there is none. The machine takes the change back when nobody can log in any more."},
				},
			},
			{
				Name: "allow", Many: true,
				Labels:  []labelSchema{{"name", kindName, "What it is for; shown in the firewall."}},
				Doc:     "Opens a port beyond those of mail and SSH.",
				Example: "allow \"web\" {\n  port = 443\n  from = cloudflare_ips()\n}",
				Attrs: []attrSchema{
					{Name: "port", Kind: kindPorts, Required: true, Example: `"8000-8010"`, Doc: "A port or a range of ports."},
					{Name: "protocol", Kind: kindString, Default: text("tcp"), Choices: []string{"tcp", "udp"}, Doc: "Transport protocol."},
					{Name: "from", Kind: kindPrefix, List: true, Default: texts("0.0.0.0/0", "::/0"), Doc: "Networks that may connect."},
				},
			},
		},
	}
}
