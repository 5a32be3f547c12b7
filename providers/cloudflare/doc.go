// Package cloudflare manages the DNS of a mail system at Cloudflare: it finds the
// zones, reads all records of a zone in one list and writes them in one
// transaction per zone. It also puts up and takes down the challenge records of
// the certificates (Present, CleanUp).
//
// Records are managed by semantic slot (a host's address, mx, spf, dkim, dmarc).
// A record is ours when its comment carries the mark "mf1:<stack>:<slot>".
// Whatever is not marked and stands in no wanted slot is foreign: counted and
// left alone.
//
// It imports plan and specs, and of cloudflare-go/v6 only dns, zones and option:
// the root package costs minutes of compile time.
package cloudflare
