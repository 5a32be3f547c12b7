package manifest

import (
	"strconv"
	"strings"
)

// MinSystemd is the earliest systemd that mailform works with: that of Alibaba Cloud
// Linux 3 and the other relatives of RHEL 8. sysusers.d(5) has had a shell since 238.
const MinSystemd = 239

// SystemdVersion reads what `systemctl show --property=Version` prints, such as
// "Version=252.39-1~deb12u1" or "Version=239 (239-82.el8)". It is false for anything else.
func SystemdVersion(text string) (int, bool) {
	text, ok := strings.CutPrefix(strings.TrimSpace(text), "Version=")
	if !ok {
		return 0, false
	}
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(text)
	}
	n, err := strconv.Atoi(text[:end])
	return n, err == nil && n > 0
}
