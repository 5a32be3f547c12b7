package specs

func backupSchema() *blockSchema {
	return &blockSchema{
		Name: "backup", Doc: "Each host copies its mail to a bucket: one that mailform makes (oss), or one of OSS or any S3-compatible service that exists (endpoint and bucket). Without the block there are no backups.",
		Example: `backup {
  oss {
    bucket = "acme-mail-backup"
  }
}`,
		Attrs: []attrSchema{
			{Name: "endpoint", Kind: kindURL, Example: `"https://s3.oss-cn-hongkong.aliyuncs.com"`, Doc: "URL of the service, without the bucket. Excludes oss."},
			{Name: "bucket", Kind: kindBucket, Example: `"acme-mail-backup"`, Doc: "Name of a bucket that exists. Excludes oss."},
			{Name: "region", Kind: kindString, MaxLen: 64, Form: regionForm, DefaultIs: `from the endpoint's name, else "us-east-1"`, Example: `"cn-hongkong"`, Doc: "The service's region."},
			{Name: "prefix", Kind: kindObjectKey, MaxLen: 512, DefaultIs: "none", Example: `"mail"`, Doc: "What the names of all objects begin with."},
			{Name: "access_key_id", Kind: kindString, MaxLen: 128, DefaultIs: "with OSS, the instance's ram_role signs", Example: `"LTAI5tExample"`,
				Doc: "Access key; one that can do nothing but read and write in this bucket. Without it and with OSS, each instance signs as its ram_role, and there is no key to keep or to leak."},
			{Name: "secret_access_key", Kind: kindString, Sensitive: true, MaxLen: 256, Example: "var.backup_key", Doc: "The access key's secret; use a sensitive variable."},
			{Name: "every", Kind: kindDuration, Default: text("1h"), Min: 15, Max: 7 * day, Doc: "How often. What came in since the last time is lost with the disk."},
			{Name: "keep", Kind: kindDuration, Default: text("30d"), Min: day, Max: 3650 * day, Doc: "How far back a restore can go."},
		},
		Blocks: []*blockSchema{{
			Name: "oss", Doc: "A bucket that mailform makes in the region of the provider \"alicloud\" and keeps as it should be: private and closed to the public, encrypted by the service, " +
				"versioned, so that what somebody with the hosts' key deletes can be had back for as long as keep says. When the block is taken out of the spec it goes when that is allowed (--allow backup/NAME), and destroy takes it away with the rest; neither does while anything is in it. To keep it, write forget \"backup/NAME\" {}.",
			Example: "oss {\n  bucket = \"acme-mail-backup\"\n}",
			Attrs: []attrSchema{
				{Name: "bucket", Kind: kindBucket, Required: true, Example: `"acme-mail-backup"`, Doc: "Its name, which must be free among all of the vendor's customers."},
			},
		}},
	}
}

func monitorSchema() *blockSchema {
	return &blockSchema{
		Name: "monitor", Doc: "When a host writes to somebody about itself.",
		Example: "monitor {\n  alerts = [\"oncall@elsewhere.example\"]\n}",
		Attrs: []attrSchema{
			{Name: "alerts", Kind: kindEmail, List: true, DefaultIs: "the stack's contact", Example: `["oncall@elsewhere.example"]`,
				Doc: "Who is written to. At least one should not be served by the host itself, which cannot tell of its own fall."},
			{Name: "disk_free", Kind: kindPercent, Default: text("10%"), Min: 1, Max: 90, Doc: "When less of the disk is free."},
			{Name: "queue_age", Kind: kindDuration, Default: text("4h"), Min: 15, Max: 7 * day, Doc: "When a message waits longer to leave."},
			{Name: "certificate", Kind: kindDuration, Default: text("14d"), Min: day, Max: 60 * day, Doc: "When less is left on a certificate. It must be less than the tls block's renew_before."},
			{Name: "blocklists", Kind: kindDomain, List: true, Default: texts("zen.spamhaus.org", "bl.spamcop.net"), Example: `["zen.spamhaus.org"]`,
				Doc: "Blocklists (RFC 5782) in which a host looks for its own IPv4 address every few hours; plan, apply and status say when it is on one, and what to do. One that does not answer, or not to the host's resolver, counts as not known. [] asks none."},
			{Name: "metrics", Kind: kindHostPort, DefaultIs: "none", Example: `"127.0.0.1:9100"`, Doc: "Where metrics for Prometheus are served: a port of the machine itself, which only programs on it reach."},
		},
	}
}

func lockSchema() *blockSchema {
	return &blockSchema{
		Name: "lock", Static: true,
		Labels: []labelSchema{{"kind", kindString, `"bucket" or "postgres".`}},
		Doc: "A lock that a team shares, so that two people never apply at once. There may be one. Without it, only one machine's commands exclude each " +
			"other, and what the host itself allows.",
		Example: "lock \"bucket\" {\n  endpoint = \"https://s3.oss-cn-hongkong.aliyuncs.com\"\n  bucket   = \"acme-mailform\"\n}",
		Variants: []*blockSchema{
			{
				Name: "bucket", Of: "lock", Doc: "An object in a bucket of OSS or of any S3-compatible service that honours conditional writes. Credentials come from the environment.",
				Attrs: []attrSchema{
					{Name: "endpoint", Kind: kindURL, Required: true, Example: `"https://s3.oss-cn-hongkong.aliyuncs.com"`, Doc: "URL of the service, without the bucket."},
					{Name: "bucket", Kind: kindBucket, Required: true, Example: `"acme-mailform"`, Doc: "Name of the bucket, which must exist."},
					{Name: "region", Kind: kindString, MaxLen: 64, Form: regionForm, DefaultIs: `from the endpoint's name, else "us-east-1"`, Example: `"cn-hongkong"`, Doc: "The service's region."},
					{Name: "key", Kind: kindObjectKey, MaxLen: 512, DefaultIs: `"mailform/STACK.lock"`, Doc: "Name of the object."},
				},
			},
			{
				Name: "postgres", Of: "lock", Doc: "An advisory lock of a PostgreSQL database.",
				Attrs: []attrSchema{
					{Name: "url", Kind: kindDatabase, Sensitive: true, MaxLen: 1024, DefaultIs: "the environment's MAILFORM_LOCK_URL", Example: "var.lock_url",
						Doc: "The database: postgres://USER:PASSWORD@HOST/NAME; use a sensitive variable."},
				},
			},
		},
	}
}

func protectionSchema() *blockSchema {
	return &blockSchema{
		Name: "protection", Doc: "What needs permission (--allow). By default these do: instances, addresses, disks and mailboxes that would be replaced or deleted, " +
			"and MX records while there are mailboxes. The lists hold addresses as plan prints them; * stands for any characters, ? for one.",
		Example: "protection {\n  protect   = [\"dns/*/spf\"]\n  unprotect = [\"mailbox/*@test.acme.example\"]\n}",
		Attrs: []attrSchema{
			{Name: "protect", Kind: kindAddressGlob, List: true, DefaultIs: "none", Example: `["dns/*/spf"]`, Doc: "Further things that need permission to be replaced or deleted."},
			{Name: "unprotect", Kind: kindAddressGlob, List: true, DefaultIs: "none", Example: `["mailbox/*@test.acme.example"]`, Doc: "Things that need none. What protect names, too, stays protected."},
			{Name: "zone_changes", Kind: kindPercent, Default: text("50%"), Min: 1, Max: 100, Doc: "How much of a zone's own records one plan may change or delete without permission, once there are ten of them; 100% is all."},
		},
	}
}

func ignoreSchema() *blockSchema {
	return &blockSchema{
		Name: "ignore", Many: true,
		Labels:  []labelSchema{{"address", kindAddressGlob, "Addresses as plan prints them; * stands for any characters, ? for one."}},
		Doc:     "Differences that are left alone: neither shown nor changed back.",
		Example: "ignore \"host/*/firewall\" {\n  fields = [\"rules[office]*\"]\n}",
		Attrs: []attrSchema{
			{Name: "fields", Kind: kindFieldGlob, List: true, Required: true, Min: 1, Example: `["ttl"]`, Doc: "Fields as plan prints them; * stands for any characters, ? for one. [\"*\"] is all of them."},
		},
	}
}

func forgetSchema() *blockSchema {
	return &blockSchema{
		Name: "forget", Many: true,
		Labels:  []labelSchema{{"address", kindAddressGlob, "Addresses as plan prints them; * stands for any characters, ? for one."}},
		Doc:     "Things that stop being ours: the next apply takes its marks off them, and they stay as they are. Take what the spec says of them out at the same time.",
		Example: "forget \"dns/acme.example/spf\" {}",
	}
}
