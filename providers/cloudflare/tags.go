package cloudflare

import "strings"

// tagVersion is what the records of a role begin with, where these are tag lists:
// DMARC (RFC 7489 6.4), MTA-STS (RFC 8461 3.1) and TLSRPT (RFC 8460 3).
var tagVersion = map[string]string{
	"dmarc":        "v=DMARC1",
	"dmarc-report": "v=DMARC1",
	"mta-sts":      "v=STSv1",
	"tls-rpt":      "v=TLSRPTv1",
}

// canonicalTags gives a tag list its canonical spacing, so that a record a person
// wrote with other spaces is not seen as different.
func canonicalTags(text string) string {
	var tags []string
	for _, tag := range strings.Split(text, ";") {
		name, value, _ := strings.Cut(tag, "=")
		if name = strings.TrimSpace(name); name != "" {
			tags = append(tags, name+"="+strings.TrimSpace(value))
		}
	}
	return strings.Join(tags, "; ")
}

// hasVersion reports whether a text is a tag list of that version.
func hasVersion(text, version string) bool {
	first, _, _ := strings.Cut(canonicalTags(text), ";")
	return first == version
}

// isTagList reports whether a text is a tag list of a version we know.
func isTagList(text string) bool {
	for _, v := range tagVersion {
		if hasVersion(text, v) {
			return true
		}
	}
	return false
}
