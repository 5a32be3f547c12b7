package specs

import "github.com/zclconf/go-cty/cty"

func tlsSchema() *blockSchema {
	return &blockSchema{
		Name: "tls", Doc: "How certificates are made.",
		Example: "tls {\n  renew_before = \"30d\"\n}",
		Attrs: []attrSchema{
			{Name: "key", Kind: kindString, Default: text("ecdsa256"), Choices: []string{"ecdsa256", "rsa2048"}, Doc: "Type of the private key, which is made on the host and never leaves it."},
			{Name: "renew_before", Kind: kindDuration, Default: text("30d"), Min: day, Max: 60 * day, Doc: "Renew when less than this is left, if the authority does not say when it wants to renew (ACME Renewal Information, RFC 9773); after two thirds of the lifetime of certificates that live shorter than three times this."},
		},
	}
}

func serverSchema() *blockSchema {
	return &blockSchema{
		Name: "server", Doc: "The mail server's settings.",
		Example: "server {\n  max_message_size = \"50MiB\"\n}",
		Attrs: []attrSchema{
			{Name: "max_message_size", Kind: kindSize, Default: text("50MiB"), Min: 64 << 10, Max: 1 << 30, Doc: "Larger messages are refused."},
			{Name: "scram", Kind: kindBool, Default: cty.True,
				Doc: "Let programs log in by SCRAM-SHA-256, which does not show the server the password and binds the login to the TLS connection (-PLUS). It needs keys beside the argon2id hash, with which a thief of the host's files guesses a weak password faster. They are made with a password that is made on the host, and of a `password_hash` when its owner logs in by other means for the first time. `false` removes them."},
		},
		Blocks: []*blockSchema{limitsSchema(), filterSchema(), pop3Schema(), storageSchema(), {
			Name: "relay", Doc: "A smarthost that takes mail for other domains. Alibaba Cloud closes outbound port 25 by default, so most need one or ask for the port to be opened.",
			Example: `relay {
  host     = "smtp.relay.example"
  username = "acme"
  password = var.relay_password
}`,
			Attrs: []attrSchema{
				{Name: "host", Kind: kindRemote, Required: true, Example: `"smtp.relay.example"`, Doc: "Its name or address."},
				{Name: "port", Kind: kindInt, Default: cty.NumberIntVal(587), Min: 1, Max: 65535, Doc: "Its submission port; 465 speaks TLS from the first byte."},
				{Name: "username", Kind: kindString, DefaultIs: "no authentication", Doc: "Log-in name."},
				{Name: "password", Kind: kindString, Sensitive: true, MaxLen: 1024, Example: "var.relay_password", Doc: "Password; use a sensitive variable."},
			},
		}},
	}
}

func limitsSchema() *blockSchema {
	return &blockSchema{
		Name: "limits", Doc: "How much clients may do. The defaults fit an office of a hundred people.",
		Attrs: []attrSchema{
			{Name: "connections", Kind: kindInt, Default: cty.NumberIntVal(2000), Min: 1, Max: 100_000, Doc: "At the same time, all services together."},
			{Name: "connections_per_client", Kind: kindInt, Default: cty.NumberIntVal(50), Min: 1, Max: 100_000,
				Doc: "At the same time, per IPv4 address or IPv6 /64. A mail program keeps up to five open; people behind one router share its address."},
			{Name: "recipients_per_message", Kind: kindInt, Default: cty.NumberIntVal(100), Min: 1, Max: 10_000, Doc: "Of one message. Senders expect at least 100 (RFC 5321 4.5.3.1.8)."},
			{Name: "messages_per_hour", Kind: kindInt, Default: cty.NumberIntVal(300), Min: 1, Max: 1_000_000,
				Doc: "That one mailbox may send. It bounds what a thief of a password can do before somebody notices."},
		},
	}
}

func pop3Schema() *blockSchema {
	return &blockSchema{
		Name: "pop3", Doc: "Lets programs fetch mail by POP3, on ports 110 and 995. Without the block they stay closed: IMAP is what people need.",
		Example: "pop3 {}",
		Attrs: []attrSchema{
			{Name: "exclusive", Kind: kindBool, Default: cty.False,
				Doc: "One session at a time for each mailbox (RFC 1939 3). Nothing gets lost without it; with it a program whose connection broke keeps the others out for up to ten minutes."},
		},
	}
}

func storageSchema() *blockSchema {
	return &blockSchema{
		Name: "storage", Doc: "How mail is kept on the disk.",
		Example: "storage {\n  compress = true\n  encrypt  = true\n}",
		Attrs: []attrSchema{
			{Name: "compress", Kind: kindBool, Default: cty.False,
				Doc: "Compresses messages (zstd) where that saves at least an eighth; what is compressed already is left as it is. Quotas count the messages' own size. It goes for mail that comes from then on, and for older mail when the store is compacted. " +
					"Versions of mailform from before there was this setting cannot serve the store any more, also after it is taken back."},
			{Name: "encrypt", Kind: kindBool, Default: cty.False,
				Doc: "Encrypts messages, the search index and what is kept for mail programs (AES-256-GCM) with a key for each mailbox. Those are wrapped by the storage key, which is made on the host and is in no backup: take a copy of it (mailform storage-key export), without it neither the host's disk nor a backup can be read by anyone. " +
					"Erasing a mailbox destroys its key. Mail that is there already is encrypted in the background, at 4 MiB a second; mailformd store stats says how much is left. Taken back, new mail is kept in the clear, what is encrypted stays so, and the key is still needed. Names of mailboxes and folders, flags, dates, sizes and annotations are not encrypted. " +
					"Versions of mailform from before there was this setting cannot serve the store any more, also after it is taken back."},
		},
	}
}

func filterSchema() *blockSchema {
	return &blockSchema{
		Name: "filter", Doc: "What is done about unwanted mail from outside. Mail of the spec's own people is not filtered.",
		Example: "filter {\n  dnsbl    = [\"zen.spamhaus.org\"]\n  greylist = true\n}",
		Attrs: []attrSchema{
			{Name: "dnsbl", Kind: kindDomain, List: true, DefaultIs: "none", Example: `["zen.spamhaus.org"]`,
				Doc: "DNS block lists; a client that one of them lists is refused. Mind the lists' terms: most are free for small sites only and do not answer public resolvers."},
			{Name: "greylist", Kind: kindBool, Default: cty.False, Doc: "Asks senders that were never seen and look suspicious to come back later, which spammers seldom do. Their first message comes minutes late."},
			{Name: "dmarc", Kind: kindBool, Default: cty.True, Doc: "Does what the sender's domain asks for mail that forges it (RFC 7489): refuses it, or puts it into the junk folder."},
			{Name: "attachments", Kind: kindExtension, List: true, DefaultIs: "none", Example: `["exe", "scr", "js", "vbs", "lnk"]`, Doc: "Messages with a file of such a name are refused: file name extensions."},
		},
	}
}
