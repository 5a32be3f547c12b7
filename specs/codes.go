package specs

// Code explains one stable diagnostic code.
type Code struct {
	Code    string
	Meaning string
}

// The codes of this package's findings. A code keeps its meaning for ever; the
// wording of a message may change.
const (
	codeNoSpec     = "MF1001"
	codeUnreadable = "MF1002"
	codeTooLarge   = "MF1003"
	codeSyntax     = "MF1004"
	codeTooComplex = "MF1005"
	codeMoreToSay  = "MF1008"
	codeInternal   = "MF1009"

	codeUnknownBlock     = "MF1101"
	codeUnknownAttribute = "MF1102"
	codeMissingAttribute = "MF1103"
	codeMissingBlock     = "MF1104"
	codeWrongLabels      = "MF1105"
	codeRepeatedBlock    = "MF1106"
	codeBadDynamic       = "MF1107"

	codeUndefinedReference   = "MF1201"
	codeReferenceUnavailable = "MF1202"
	codeEvaluation           = "MF1203"
	codeWrongType            = "MF1204"
	codeUnknownFunction      = "MF1205"
	codeExposedSecret        = "MF1206"
	codeReferenceCycle       = "MF1207"
	codeValueTooLarge        = "MF1208"
	codeMissingVariable      = "MF1211"
	codeBadVariableValue     = "MF1212"
	codeValidationFailed     = "MF1213"
	codeUndeclaredVariable   = "MF1214"
	codeBadDeclaration       = "MF1215"
	codeBadAssignment        = "MF1216"

	codeBadName         = "MF1301"
	codeBadDomain       = "MF1302"
	codeBadHostname     = "MF1303"
	codeBadLocalPart    = "MF1304"
	codeBadEmail        = "MF1305"
	codeBadSize         = "MF1306"
	codeBadDuration     = "MF1307"
	codeBadBandwidth    = "MF1308"
	codeBadPrefix       = "MF1309"
	codeBadIP           = "MF1310"
	codeBadPort         = "MF1311"
	codeBadChoice       = "MF1312"
	codeBadPasswordHash = "MF1313"
	codeBadSSHKey       = "MF1314"
	codeBadHostKey      = "MF1315"
	codeBadSelector     = "MF1316"
	codeBadURL          = "MF1317"
	codeOutOfRange      = "MF1318"
	codeBadText         = "MF1319"
	codeBadHostPort     = "MF1320"
	codeBadTime         = "MF1321"
	codeBadPercent      = "MF1322"
	codeBadGlob         = "MF1323"
	codeBadBucket       = "MF1324"

	codeDuplicateHost     = "MF1401"
	codeSharedName        = "MF1402"
	codeDuplicateDomain   = "MF1403"
	codeAddressTaken      = "MF1404"
	codeUnknownHost       = "MF1405"
	codeOutsideZones      = "MF1406"
	codeInstanceOrAddress = "MF1407"
	codeAliasCycle        = "MF1408"
	codeUnknownRecipient  = "MF1409"
	codeUnknownCatchAll   = "MF1410"
	codeNoPostmaster      = "MF1411"
	codeDuplicateAllow    = "MF1412"
	codeZoneOutsideRegion = "MF1413"
	codeRecordTooLong     = "MF1414"
	codeHalfCredentials   = "MF1415"
	codeAlgorithmConflict = "MF1416"
	codeSPFCircle         = "MF1417"
	codeMailNameTaken     = "MF1418"
	codeManyFirewallRules = "MF1419"
	codeDiskSize          = "MF1420"
	codePublicMetrics     = "MF1421"
	codeRelayLoop         = "MF1422"
	codeDuplicateZone     = "MF1423"
	codeTwoAuthorities    = "MF1424"
	codeBackupPlace       = "MF1430"
	codeNoBackupKey       = "MF1431"

	codeSSHOpen            = "MF1501"
	codeSPFLookups         = "MF1502"
	codeReportsElsewhere   = "MF1503"
	codePortOpenAlready    = "MF1504"
	codeIdleHost           = "MF1505"
	codeContactUnreachable = "MF1506"
	codeEmptySpec          = "MF1507"
	codeEd25519Only        = "MF1508"
	codeLongSPF            = "MF1509"
	codeReadableSecret     = "MF1510"
	codeNoAlignment        = "MF1511"
	codeRelayOutsideSPF    = "MF1512"
	codeWeakSubdomains     = "MF1513"
	codeWideSPF            = "MF1514"
	codePrivateAddress     = "MF1515"
	codeNeedsFiling        = "MF1516"
	codeManyReports        = "MF1517"
	codeSmallQuota         = "MF1518"
	codeLargeQuota         = "MF1519"
	codeShortPolicy        = "MF1520"
	codeBlindPolicy        = "MF1521"
	codeUnsignedDANE       = "MF1522"
	codeIdleZone           = "MF1523"
	codeWeakOrigin         = "MF1524"
	codeOldTLS             = "MF1525"
	codeOpenOrigin         = "MF1526"
	codeManyZoneRules      = "MF1527"
	codeIdleFallback       = "MF1528"
	codeFewRecipients      = "MF1529"
	codePlainTransport     = "MF1530"
	codeBackupGap          = "MF1531"
	codeAlertsInside       = "MF1532"
	codeLateRenewal        = "MF1533"
	codeWideGlob           = "MF1534"
	codeIdleFirewall       = "MF1535"
	codeRetainedMail       = "MF1536"
)

// Codes lists every code this package reports, in order.
func Codes() []Code {
	return []Code{
		{codeNoSpec, "The folder holds no *.hcl file."},
		{codeUnreadable, "A file or folder cannot be read."},
		{codeTooLarge, "A file, or all of them together, exceed the size limits."},
		{codeSyntax, "The text is not valid HCL."},
		{codeTooComplex, "An expression is nested or chained beyond reason."},
		{codeMoreToSay, "There were more findings than are listed."},
		{codeInternal, "mailform failed on this spec; that is a bug in mailform."},

		{codeUnknownBlock, "A block of this type does not belong here."},
		{codeUnknownAttribute, "An attribute of this name does not belong here."},
		{codeMissingAttribute, "A required attribute is missing."},
		{codeMissingBlock, "A required block is missing."},
		{codeWrongLabels, "A block has too few, too many or unknown labels."},
		{codeRepeatedBlock, "A block that may stand only once stands twice."},
		{codeBadDynamic, "A dynamic block is malformed, or stands where none may."},

		{codeUndefinedReference, "A reference names nothing that is defined."},
		{codeReferenceUnavailable, "A reference to another block's value that is not available while a spec is read."},
		{codeEvaluation, "An expression cannot be evaluated."},
		{codeWrongType, "A value has the wrong type."},
		{codeUnknownFunction, "A function of this name does not exist."},
		{codeExposedSecret, "A sensitive value stands where it would be shown."},
		{codeReferenceCycle, "Locals, or other values that expressions use, refer to each other in a circle."},
		{codeValueTooLarge, "A value grew beyond the limits."},
		{codeMissingVariable, "A variable without a default was given no value."},
		{codeBadVariableValue, "The value given for a variable does not fit its type."},
		{codeValidationFailed, "A variable's validation rule refused its value."},
		{codeUndeclaredVariable, "A value was given for a variable that is not declared."},
		{codeBadDeclaration, "A variable or local is declared wrongly or twice."},
		{codeBadAssignment, "An argument of --var, or a variable file, is not NAME=VALUE."},

		{codeBadName, "Not a usable name."},
		{codeBadDomain, "Not a domain name."},
		{codeBadHostname, "Not a host name."},
		{codeBadLocalPart, "Not a usable local part of a mail address."},
		{codeBadEmail, "Not a mail address."},
		{codeBadSize, "Not a size, or outside its limits."},
		{codeBadDuration, "Not a duration, or outside its limits."},
		{codeBadBandwidth, "Not a bandwidth, or outside its limits."},
		{codeBadPrefix, "Not an IP network."},
		{codeBadIP, "Not a usable IP address."},
		{codeBadPort, "Not a port or a range of ports."},
		{codeBadChoice, "Not one of the allowed values."},
		{codeBadPasswordHash, "Not an argon2id hash."},
		{codeBadSSHKey, "Not an SSH public key."},
		{codeBadHostKey, "Not an SSH host key or its fingerprint."},
		{codeBadSelector, "Not a DKIM selector."},
		{codeBadURL, "Not an http or https URL."},
		{codeOutOfRange, "A number outside its limits."},
		{codeBadText, "Empty, too long, or with characters that do not belong."},
		{codeBadHostPort, "Not HOST:PORT."},
		{codeBadTime, "Not a time of day, or not a full hour."},
		{codeBadPercent, "Not a percentage, or outside its limits."},
		{codeBadGlob, "Not a pattern over addresses or fields that could match one."},
		{codeBadBucket, "Not a name that a bucket or an object in it can have."},

		{codeDuplicateHost, "Two hosts have the same name."},
		{codeSharedName, "Two hosts share a hostname or an address."},
		{codeDuplicateDomain, "A domain is defined twice."},
		{codeAddressTaken, "Two mailboxes or aliases claim the same mail address."},
		{codeUnknownHost, "A domain names a host that is not defined, or names none where it must."},
		{codeOutsideZones, "A hostname lies in no domain of the spec, so nobody could publish it."},
		{codeInstanceOrAddress, "A host needs either an instance or an address."},
		{codeAliasCycle, "Aliases lead back to themselves."},
		{codeUnknownRecipient, "An alias leads to an address of ours that does not exist."},
		{codeUnknownCatchAll, "catch_all does not name a mailbox of its domain."},
		{codeNoPostmaster, "Nothing in the spec could receive mail for postmaster and abuse."},
		{codeDuplicateAllow, "Two allow blocks open the same ports to the same network, or share a name."},
		{codeZoneOutsideRegion, "The instance's zone is not in the provider's region."},
		{codeRecordTooLong, "A DNS record would exceed the limits of its name or text."},
		{codeHalfCredentials, "A user name without a password, or the other way round."},
		{codeAlgorithmConflict, "DKIM algorithms that exclude each other, or none at all."},
		{codeSPFCircle, "SPF records include each other in a circle; receivers treat them as broken."},

		{codeMailNameTaken, "A web name takes a name that mail needs: a mail host's, which is never proxied and never a CNAME, or that of a policy."},
		{codeManyFirewallRules, "A host's firewall would have more rules than the vendor allows."},
		{codeDiskSize, "The vendor does not sell a disk of this size in this category."},
		{codePublicMetrics, "Metrics would be served to the network, or on a port that is taken."},
		{codeRelayLoop, "The relay is a host of the spec: mail would go round for ever."},
		{codeDuplicateZone, "A zone, or a web name or rule in it, is defined twice, or two zones have one id."},
		{codeTwoAuthorities, "A certificate authority by name and another by its directory."},
		{codeBackupPlace, "A backup block names a bucket that exists and one to make."},
		{codeNoBackupKey, "Nothing could sign what a host sends to the bucket of its backups."},

		{codeSSHOpen, "SSH is open to the whole internet because the spec does not say to whom."},
		{codeSPFLookups, "The SPF record needs more than ten DNS lookups; receivers will refuse it."},
		{codeReportsElsewhere, "DMARC reports go to a domain that must agree to receive them."},
		{codePortOpenAlready, "An allow block opens a port that is open anyway."},
		{codeIdleHost, "A host serves no domain."},
		{codeContactUnreachable, "The contact address is in a domain of the spec, but nothing there receives it."},
		{codeEmptySpec, "The spec describes no host and no domain."},
		{codeEd25519Only, "Only Ed25519 signatures, which many receivers cannot verify."},
		{codeLongSPF, "The SPF record is longer than what fits one DNS answer over UDP."},
		{codeReadableSecret, "A password stands readable in the spec."},
		{codeNoAlignment, "DMARC asks for SPF or DKIM, and the spec manages neither."},
		{codeRelayOutsideSPF, "Mail leaves through a relay that the SPF record does not allow."},
		{codeWeakSubdomains, "DMARC is weaker for subdomains than for the domain itself."},
		{codeWideSPF, "SPF allows a network too wide to be one sender's, or one that no receiver sees."},
		{codePrivateAddress, "A host's address cannot be reached from the internet."},
		{codeNeedsFiling, "A web port in a mainland-China region, which needs an ICP filing."},
		{codeManyReports, "More DMARC report addresses than every receiver serves."},
		{codeSmallQuota, "A mailbox's quota is smaller than one message may be."},
		{codeLargeQuota, "A mailbox's quota is larger than the disk."},
		{codeShortPolicy, "MTA-STS is enforced, but senders remember it for less than a week."},
		{codeBlindPolicy, "MTA-STS is enforced, and nobody is told when it stops mail."},
		{codeUnsignedDANE, "DANE counts only in a zone that is signed with DNSSEC, which a spec cannot show."},
		{codeIdleZone, "A zone block is for a zone in which the spec has no mail domain."},
		{codeWeakOrigin, "Cloudflare reaches a proxied name's host without checking its certificate, or without TLS."},
		{codeOldTLS, "The zone accepts TLS 1.0 or 1.1."},
		{codeOpenOrigin, "A host's port 443 is open to everyone, so visitors can go around Cloudflare."},
		{codeManyZoneRules, "More custom rules than Cloudflare's free plan has."},
		{codeIdleFallback, "A fallback type that changes nothing."},
		{codeFewRecipients, "Fewer recipients per message than senders may expect."},
		{codePlainTransport, "Backups, or the lock's credentials, travel without TLS."},
		{codeBackupGap, "Backups are kept for less time than lies between two of them."},
		{codeAlertsInside, "Alerts of a host go only to addresses that the host itself serves."},
		{codeLateRenewal, "Certificates are reported before they are due for renewal."},
		{codeWideGlob, "A glob covers everything."},
		{codeIdleFirewall, "A firewall block for a machine whose firewall mailform does not manage."},
		{codeRetainedMail, "A retention rule deletes mail that nobody has thrown away."},
	}
}
