package agent

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"mailform/server/manifest"
)

// Other firewalls on the machine, ufw(8) and firewalld(1): mailform leaves them as
// they are, and says which of its ports they do not let in.

// walls lists the other firewalls that are at work.
func (a *Agent) walls(ctx context.Context, m *manifest.Manifest) []manifest.Wall {
	var ports []int
	for _, s := range manifest.ServicesOf(m) {
		ports = append(ports, s.Port)
	}
	var out []manifest.Wall
	if b, err := os.ReadFile(a.Layout.Inside("/etc/ufw/ufw.conf")); err == nil && ufwEnabled.Match(b) {
		rules, _ := os.ReadFile(a.Layout.Inside("/etc/ufw/user.rules"))
		out = append(out, manifest.Wall{Name: "ufw", Closed: closed(ports, ufwPorts(string(rules)))})
	}
	if fileExists(a.Layout.Inside("/etc/firewalld")) { // no question to systemd where there is none
		if states, err := a.Systemd.Units(ctx, "firewalld.service"); err == nil && states[0].ActiveState == "active" {
			var open []portRange
			zones, _ := filepath.Glob(a.Layout.Inside("/etc/firewalld/zones/*.xml"))
			for _, zone := range zones {
				if b, err := os.ReadFile(zone); err == nil {
					open = append(open, firewalldPorts(string(b))...)
				}
			}
			out = append(out, manifest.Wall{Name: "firewalld", Closed: closed(ports, open)})
		}
	}
	return out
}

type portRange struct{ from, to int }

func closed(ports []int, open []portRange) []int {
	return slices.DeleteFunc(ports, func(p int) bool {
		return slices.ContainsFunc(open, func(r portRange) bool { return r.from <= p && p <= r.to })
	})
}

var (
	ufwEnabled = regexp.MustCompile(`(?m)^ENABLED=yes\s*$`)
	// "### tuple ### allow tcp 25,465:587 0.0.0.0/0 any 0.0.0.0/0 in", as ufw writes it.
	ufwTuple      = regexp.MustCompile(`(?m)^### tuple ### (?:allow|limit) (?:tcp|any) (\S+) `)
	firewalldPort = regexp.MustCompile(`<(?:port port="([0-9]+(?:-[0-9]+)?)" protocol="tcp"|port protocol="tcp" port="([0-9]+(?:-[0-9]+)?)"|service name="([a-z0-9-]+)")`)
)

// firewalldServices are firewalld's names of our ports.
var firewalldServices = map[string]int{"smtp": 25, "smtps": 465, "smtp-submission": 587, "imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995, "https": 443}

func ufwPorts(rules string) (open []portRange) {
	for _, m := range ufwTuple.FindAllStringSubmatch(rules, -1) {
		if m[1] == "any" {
			return []portRange{{1, 65535}}
		}
		for part := range strings.SplitSeq(m[1], ",") {
			if r, ok := parseRange(part, ":"); ok {
				open = append(open, r)
			}
		}
	}
	return open
}

func firewalldPorts(zone string) (open []portRange) {
	for _, m := range firewalldPort.FindAllStringSubmatch(zone, -1) {
		if port, known := firewalldServices[m[3]]; known {
			open = append(open, portRange{port, port})
		}
		if r, ok := parseRange(m[1]+m[2], "-"); ok {
			open = append(open, r)
		}
	}
	return open
}

func parseRange(text, sep string) (portRange, bool) {
	first, last, ranged := strings.Cut(text, sep)
	from, err := strconv.Atoi(first)
	if err != nil {
		return portRange{}, false
	}
	to := from
	if ranged {
		if to, err = strconv.Atoi(last); err != nil {
			return portRange{}, false
		}
	}
	return portRange{from, to}, true
}
