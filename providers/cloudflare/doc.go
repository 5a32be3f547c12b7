// Package cloudflare manages the DNS zones of a mail system at Cloudflare: it finds
// the zones, reads all records of a zone in one list and writes them in one
// transaction per zone; of a zone that has a block in the spec it also manages the
// named settings and the WAF custom rules. It puts up and takes down the challenge
// records of the certificates (Present, CleanUp).
//
// Records are managed by semantic slot (a host's address, mx, spf, dkim, dmarc,
// mta-sts, srv, caa, tlsa, …). A record is ours when its comment carries the mark
// "mf1:<stack>:<slot>", a rule when its description does. Whatever is not marked
// and stands in no wanted slot is foreign: counted and left alone.
//
// It imports plan, specs and server/manifest, and of cloudflare-go/v6 only dns,
// zones and option: the root package costs minutes of compile time, and rulesets
// more than it gives, so their few requests are written here (rest.go).
package cloudflare
