package specs

import "strings"

// onInstance is a spec of one instance, with something in the instance block
// and something around it.
func onInstance(inside, outside string) string {
	return "stack \"acme\" {}\nhost \"mx1\" {\n  hostname = \"mail.acme.example\"\n  ssh { from = [\"::1\"] }\n  instance {\n    " + inside + "\n  }\n}\n" + outside
}

// enforced is a domain with MTA-STS in mode enforce.
func enforced(more string) string {
	return domainWith("mta_sts {\n    mode = \"enforce\"\n    " + more + "\n  }")
}

// operateCases are the findings about zones, policies and how the system is run.
func operateCases() []codeCase {
	mainland := "provider \"alicloud\" { region = \"cn-hangzhou\" }\n"
	two := base + "host \"mx2\" {\n  hostname = \"m2.acme.example\"\n  address = \"203.0.113.8\"\n}\n"
	monitor := func(s string) string { return "monitor {\n  alerts = [\"a@elsewhere.example\"]\n  " + s + "\n}\n" }
	const sameID = `id = "023e105f4ecef8ad9ca31a8372d0c353"`
	return []codeCase{
		{codeMailNameTaken, zone("web \"mail\" {}"), `"mail"`, "Cloudflare's proxies carry no mail"},
		{codeMailNameTaken, zone("web \"mta-sts\" {}") + domainWith("mta_sts {}"), `"mta-sts"`, "published by itself"},
		{codeMailNameTaken, zone("web \"autodiscover\" {}") + domainWith("discovery = true"), `"autodiscover"`, "published by itself"},
		{codeMailNameTaken, two + domainWith("host = \"mx1\"") + "domain \"b.example\" { host = \"mx2\" }\n" +
			zone("web \"mail\" {\n    host = \"mx2\"\n    proxied = false\n  }"), `"mail"`, `the name of host "mx1"`},
		{codeMailNameTaken, strings.Replace(two, "m2.acme", "mta-sts.acme", 1) + domainWith("host = \"mx1\"\n  mta_sts {}") + "domain \"b.example\" { host = \"mx2\" }\n",
			`"mta-sts.acme.example"`, `is needed on host "mx1"`},
		{codeDiskSize, onInstance("data_disk { size = \"10GiB\" }", domainWith("")), `"10GiB"`, "from 20GiB to 64TiB"},
		{codeDiskSize, onInstance("data_disk {\n      category = \"cloud_ssd\"\n      size = \"40TiB\"\n    }", domainWith("")), `"40TiB"`, "no cloud_ssd disk of 40TiB"},
		{codePublicMetrics, monitor(`metrics = "0.0.0.0:9100"`), `"0.0.0.0:9100"`, `Write "127.0.0.1:9100"`},
		{codePublicMetrics, monitor(`metrics = "[2001:db8::1]:9100"`), `"[2001:db8::1]:9100"`, `Write "[::1]:9100"`},
		{codePublicMetrics, monitor(`metrics = "mail.acme.example:9100"`), `"mail.acme.example:9100"`, "not this machine alone"},
		{codePublicMetrics, monitor(`metrics = "localhost:993"`), `"localhost:993"`, "port 993 is taken"},
		{codeRelayLoop, relay("MAIL.acme.example"), `"MAIL.acme.example"`, "relay to itself"},
		{codeRelayLoop, relay("::ffff:203.0.113.7"), `"::ffff:203.0.113.7"`, "cannot be one of them"},
		{codeRelayLoop, relay("127.0.0.1"), `"127.0.0.1"`, "relay to itself"},
		{codeDuplicateZone, zone("") + zone(""), `"acme.example"`, "defined twice"},
		{codeDuplicateZone, zone(sameID) + "zone \"b.example\" { " + sameID + " }\n", `"023e105f4ecef8ad9ca31a8372d0c353"`, "zone b.example has the id of zone acme.example"},
		{codeDuplicateZone, zone("web \"a\" {}\n  web \"A\" {}"), `"A"`, `web "a" is defined twice`},
		{codeDuplicateZone, zone("rule \"a\" { expression = \"x\" }\n  rule \"a\" { expression = \"y\" }"), `"a"`, `rule "a" is defined twice`},
		{codeBadHostname, zone("web \"www.acme.example\" {}"), `"www.acme.example"`, `Write the name without the zone: "www"`},
		{codeBadHostname, zone("web \"acme.example\" {}"), `"acme.example"`, `without the zone: "@"`},
		{codeUnknownHost, zone("web \"www\" { host = \"mx9\" }"), `"mx9"`, `Did you mean "mx1"?`},
		{codeUnknownHost, two + domainWith("host = \"mx1\"") + "domain \"b.example\" { host = \"mx2\" }\n" + zone("web \"www\" {}"), `web "www"`, "which host serves www.acme.example?"},
		{codeRecordTooLong, domainWith("tls_rpt { reports = [for i in range(150) : \"tls${i}@reports.example\"] }"), `[for i in range(150) : "tls${i}@reports.example"]`, "TLS-RPT record is too long"},
		{codeUnknownRecipient, domainWith("tls_rpt { reports = [\"tls\"] }"), `"tls"`, "no such mailbox"},
		{codeOutOfRange, "server {\n  limits {\n    connections = 10\n    connections_per_client = 20\n  }\n}\n", "20", "more connections than there are"},
		{codeBackupPlace, backup("oss { bucket = \"acme-mail\" }"), `"https://s3.example"`, "Take one of the two out"},
		{codeBackupPlace, "backup {\n  region = \"cn-hongkong\"\n  oss { bucket = \"acme-mail\" }\n}\n", `"cn-hongkong"`, "region is for one that exists"},
		{codeMissingAttribute, "backup {\n  bucket = \"acme\"\n}\n", "backup", "endpoint is missing"},
		{codeMissingAttribute, "backup {\n  endpoint = \"https://s3.example\"\n}\n", "backup", "bucket is missing"},
		{codeMissingAttribute, "backup {\n  endpoint = \"https://s3.example\"\n  bucket = \"acme\"\n}\n", "backup", "access_key_id is missing"},
		{codeHalfCredentials, "backup {\n  access_key_id = \"a\"\n  oss { bucket = \"acme\" }\n}\n", `"a"`, "no secret_access_key"},
		{codeHalfCredentials, "backup {\n  secret_access_key = sensitive(\"a\")\n  oss { bucket = \"acme\" }\n}\n", `sensitive("a")`, "no access_key_id"},
		{codeNoBackupKey, onInstance("", domainWith("")) + "backup {\n  oss { bucket = \"acme\" }\n}\n", "backup", "nothing to sign its backups with"},
		{codeNoBackupKey, onInstance("", domainWith("")) + "backup {\n  endpoint = \"https://oss-cn-hongkong.aliyuncs.com\"\n  bucket = \"acme\"\n}\n", "backup", "nothing to sign its backups with"},
		{codeReadableSecret, backup(`secret_access_key = "canary"`), `"canary"`, "MAILFORM_VAR_backup_key"},
		{codeReadableSecret, "lock \"postgres\" { url = \"postgres://u:canary@db.example/m\" }", `"postgres://u:canary@db.example/m"`, "MAILFORM_VAR_lock_url"},
		{codeReferenceUnavailable, zone("security_level = zone[\"acme.example\"].ssl"), `zone["acme.example"].ssl`, "expressions can use name"},
		{codeUnknownBlock, domainWith("lock \"bucket\" {}"), "lock", "stands outside of other blocks"},

		{codeShortPolicy, enforced("max_age = \"1d\"") + "rules { MF1521 = \"ignore\" }", `"1d"`, "forget the policy of acme.example after 1d"},
		{codeBlindPolicy, enforced(""), `"enforce"`, "tls_rpt { }"},
		{codeUnsignedDANE, domainWith("dane = true"), "true", "cannot be seen from here"},
		{codeIdleZone, "zone \"acne.example\" {}", `"acne.example"`, `Did you mean "acme.example"?`},
		{codeWeakOrigin, zone("ssl = \"flexible\"\n  web \"www\" {}"), `"flexible"`, "port 80"},
		{codeWeakOrigin, zone("ssl = \"off\"\n  web \"www\" {}"), `"off"`, "not even be offered TLS"},
		{codeWeakOrigin, zone("ssl = \"full\"\n  web \"www\" {}"), `"full"`, "can pose as the host"},
		{codeOldTLS, zone("min_tls = \"1.1\""), `"1.1"`, "RFC 8996"},
		{codeOpenOrigin, zone("web \"www\" {}") + domainWith("mta_sts {}"), `"www"`, "open to everyone for mta-sts.acme.example"},
		{codeOpenOrigin, zone("web \"www\" {}\n  web \"api\" { proxied = false }"), `"www"`, "open to everyone for api.acme.example"},
		{codeManyZoneRules, zone("dynamic \"rule\" {\n    for_each = range(6)\n    labels = [\"r${rule.value}\"]\n    content { expression = \"x\" }\n  }"), "", "free plan has 5"},
		{codeIdleFallback, onInstance("fallback_types = [\"ecs.g7.large\", \"ecs.u1-c1m2.large\"]", domainWith("")), `"ecs.u1-c1m2.large"`, "changes nothing"},
		{codeIdleFallback, onInstance("fallback_types = [\"ecs.g7.large\", \"ecs.g7.large\"]", domainWith("")), `"ecs.g7.large"`, "tried before"},
		{codeFewRecipients, "server {\n  limits { recipients_per_message = 50 }\n}\n", "50", "RFC 5321 4.5.3.1.8"},
		{codePlainTransport, backup(`endpoint = "http://s3.example"`), `"http://s3.example"`, "read all mail"},
		{codePlainTransport, "lock \"bucket\" {\n  endpoint = \"http://s3.example\"\n  bucket = \"abc\"\n}", `"http://s3.example"`, "the lock at once"},
		{codePlainTransport, "lock \"postgres\" { url = sensitive(\"postgres://u:p@db.example/m?sslmode=disable\") }", "", "travels readable"},
		{codeBackupGap, backup("every = \"7d\"\n  keep = \"2d\""), `"2d"`, "kept for 2d and made every 7d"},
		{codeAlertsInside, "monitor { alerts = [\"alice@acme.example\", \"postmaster@acme.example\"] }", `["alice@acme.example", "postmaster@acme.example"]`, `alerts of host "mx1" go to itself`},
		{codeAlertsInside, strings.Replace(base, "\"acme\" {}", "\"acme\" { contact = \"alice@acme.example\" }", 1) + "monitor { disk_free = \"5%\" }\n" + domainWith(""), "monitor", "is served by that host"},
		{codeAlertsInside, two + domainWith("host = \"mx1\"") + "domain \"b.example\" { host = \"mx2\" }\nmonitor { alerts = [\"alice@acme.example\"] }", `["alice@acme.example"]`, `alerts of host "mx1"`},
		{codeLateRenewal, monitor(`certificate = "30d"`), `"30d"`, "reported with 30d left"},
		{codeWideGlob, "forget \"*\" {}", `"*"`, "everything is forgotten"},
		{codeWideGlob, "ignore \"*\" { fields = [\"ttl\", \"*\"] }", `"*"`, "every difference"},
		{codeWideGlob, "protection { unprotect = [\"dns/*\", \"*\"] }", `"*"`, "nothing is protected"},
		{codeNeedsFiling, mainland + onInstance("", domainWith("mta_sts {}")), "mta_sts", "mta-sts.acme.example needs an ICP filing in cn-hangzhou"},
		{codeNeedsFiling, mainland + onInstance("", domainWith("")+zone("web \"www\" {}")), `"www"`, "www.acme.example needs an ICP filing"},
		{codeNeedsFiling, mainland + onInstance("", domainWith("discovery = true")), "true", "autoconfig.acme.example needs"},
		{codePortOpenAlready, hostWith("allow \"web\" {\n    port = 443\n    from = cloudflare_ips()\n  }") + "domain \"b.example\" {\n  mta_sts {}\n}\n", "443", "open to everyone for mta-sts.b.example"},
		{codeLargeQuota, onInstance("data_disk { size = \"20GiB\" }", mailboxWith("quota = \"30GiB\"")), `"30GiB"`, "on the data disk"},
		{codeManyFirewallRules, strings.Replace(onInstance("", domainWith("")), "  ssh {", "  allow \"x\" {\n    port = 8000\n    from = [for i in range(200) : \"192.0.2.${i}\"]\n  }\n  ssh {", 1), `host "mx1"`, "needs 206 firewall rules"},
	}
}
