package agent

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"mailform/server/manifest"
)

// Other firewalls, AppArmor and what else a distribution brings are told of or left
// alone, and nothing of them is changed.
func TestOtherWalls(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files  map[string]string
		active string
		want   string
	}{
		"none":      {nil, "", "[]"},
		"apparmor":  {map[string]string{"/sys/module/apparmor/parameters/enabled": "Y\n"}, "", "[]"},
		"ufw off":   {map[string]string{"/etc/ufw/ufw.conf": "# conf\nENABLED=no\n"}, "", "[]"},
		"ufw":       {map[string]string{"/etc/ufw/ufw.conf": "ENABLED=yes\nLOGLEVEL=low\n", "/etc/ufw/user.rules": "*filter\n### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n### tuple ### allow any 25 0.0.0.0/0 any 0.0.0.0/0 in\n### tuple ### allow udp 143 0.0.0.0/0 any 0.0.0.0/0 in\n### tuple ### deny tcp 993 0.0.0.0/0 any 0.0.0.0/0 in\n"}, "", "[{ufw [143 465 587 993]}]"},
		"ufw open":  {map[string]string{"/etc/ufw/ufw.conf": "ENABLED=yes\n", "/etc/ufw/user.rules": "### tuple ### allow tcp 25,143,465:600,993 0.0.0.0/0 any 0.0.0.0/0 in\n"}, "", "[{ufw []}]"},
		"stopped":   {map[string]string{"/etc/firewalld/zones/public.xml": "<zone/>"}, "", "[]"},
		"firewalld": {map[string]string{"/etc/firewalld/zones/public.xml": "<zone>\n  <service name=\"ssh\"/>\n  <service name=\"smtp\"/>\n  <port port=\"460-470\" protocol=\"tcp\"/>\n  <port protocol=\"tcp\" port=\"993\"/>\n  <port port=\"143\" protocol=\"udp\"/>\n</zone>\n"}, "firewalld.service", "[{firewalld [143 587]}]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			for path, text := range c.files {
				m.write(path, text, 0o644)
			}
			if c.active != "" {
				m.loaded[c.active], m.active[c.active], m.system = true, true, []string{c.active}
			}
			m.install()
			m.mustConverge(wanted())
			if got := fmt.Sprint(m.observe().Walls); got != c.want {
				t.Errorf("%s, expected %s", got, c.want)
			}
			if strings.Contains(strings.Join(m.calls, " "), "firewalld") {
				t.Errorf("it was touched: %q", m.calls)
			}
		})
	}
}

// A system whose programs cannot be written says so with what to do about it.
func TestReadOnlyUsr(t *testing.T) {
	t.Parallel()
	err := readOnlyHint(fmt.Errorf("mkdir /usr/local/lib/mailform: %w", syscall.EROFS))
	if ExitCode(err) != manifest.ExitFailed || !strings.Contains(err.Error(), "read-only file system") || !strings.Contains(err.Error(), "/usr/local") {
		t.Errorf("%v", err)
	}
	if other := fmt.Errorf("mkdir x: %w", syscall.ENOSPC); readOnlyHint(other) != other {
		t.Error("another error is changed")
	}
}

func FuzzWalls(f *testing.F) {
	f.Add("### tuple ### allow tcp 25,465:587 0.0.0.0/0 any 0.0.0.0/0 in", `<port port="25" protocol="tcp"/>`)
	f.Fuzz(func(t *testing.T, ufw, zone string) {
		_ = closed([]int{25, 465}, append(ufwPorts(ufw), firewalldPorts(zone)...))
	})
}
