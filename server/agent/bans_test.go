package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/limits"
	"mailform/server/manifest"
)

func TestBansText(t *testing.T) {
	t.Parallel()
	m := guarded().Manifest
	m.Firewall = []manifest.Opening{
		{Name: "smtp", Protocol: "tcp", FromPort: 25, ToPort: 25, From: []string{"0.0.0.0/0", "::/0"}},
		{Name: "ssh", Protocol: "tcp", FromPort: 2222, ToPort: 2222, From: []string{"203.0.113.0/24", "203.0.113.7/32", "2001:db8:5::/48"}},
		{Name: "allow-x", Protocol: "tcp", FromPort: 80, ToPort: 80, From: []string{"198.51.100.4/32"}},
	}
	text := bansText(&m)
	for _, want := range []string{
		"ip saddr { 198.51.100.4/32, 203.0.113.0/24 } accept", "ip6 saddr { 2001:db8:5::/48 } accept",
		"tcp dport { 25, 143, 465, 587, 993 } ip saddr @banned4 counter drop", "ip6 saddr & ffff:ffff:ffff:ffff:: @banned6 counter drop",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// Nothing here forgets who is banned, and nothing closes the way in.
	for _, not := range []string{"delete", "flush set", "flush table", "0.0.0.0", "2222", "policy drop"} {
		if strings.Contains(text, not) {
			t.Errorf("%q in\n%s", not, text)
		}
	}
	_, service := newMachine(t).agent().bansUnits(&m)
	if !strings.Contains(service.content, "bans serve --ssh-port 2222 --never 198.51.100.4/32 --never 203.0.113.0/24 --never 2001:db8:5::/48\n") {
		t.Errorf("%s", service.content)
	}
}

// Bans come and go with the host's firewall.
func TestBansWithFirewall(t *testing.T) {
	t.Parallel()
	m := newGuarded(t)
	m.acknowledged(wanted())
	if list, err := m.agent().Bans(t.Context()); err != nil || list.On || m.active[manifest.BansSocketUnit] {
		t.Errorf("without a firewall: %+v %v", list, err)
	}
	m.confirm(m.mustConverge(guarded()).Trial)
	if !m.active[manifest.BansSocketUnit] || !m.enabled[manifest.BansSocketUnit] || m.banned == nil {
		t.Fatal("nothing hears whom to ban")
	}
	m.banned["192.0.2.1"], m.banned["2001:db8:1::"] = 500, 700
	list, err := m.agent().Bans(t.Context())
	if want := []manifest.Ban{{Client: "192.0.2.1", Seconds: 500}, {Client: "2001:db8:1::/64", Seconds: 700}}; err != nil || !list.On || !slices.Equal(list.Bans, want) {
		t.Errorf("%+v %v", list, err)
	}
	// A change of the firewall that nobody confirms leaves them as they are.
	more := guarded()
	more.Manifest.Firewall = append(slices.Clone(more.Manifest.Firewall), manifest.Opening{Name: "zz", Protocol: "tcp", FromPort: 99, ToPort: 99, From: []string{"0.0.0.0/0"}})
	m.mustConverge(more)
	if _, err := m.agent().Revert(t.Context()); err != nil || len(m.banned) != 2 || !m.active[manifest.BansSocketUnit] {
		t.Errorf("%v, banned %v", err, m.banned)
	}
	if got, err := m.agent().LiftBan(t.Context(), manifest.LiftRequest{Claim: claim(), Address: "2001:db8:1:0:5::9"}); err != nil || !got.Lifted || got.Client != "2001:db8:1::/64" {
		t.Errorf("%+v %v", got, err)
	}
	if len(m.banned) != 1 || !slices.Equal(m.lifted, []string{"2001:db8:1:0:5::9"}) {
		t.Errorf("banned %v, lifted %q", m.banned, m.lifted)
	}
	if got, err := m.agent().LiftBan(t.Context(), manifest.LiftRequest{Claim: claim(), Address: "192.0.2.9"}); err != nil || got.Lifted {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"", "everybody", "192.0.2.1; flush ruleset", "fe80::1%eth0"} {
		if _, err := m.agent().LiftBan(t.Context(), manifest.LiftRequest{Address: bad}); ExitCode(err) != manifest.ExitRequest {
			t.Errorf("%q: %v", bad, err)
		}
	}
	m.confirm(m.mustConverge(wanted()).Trial)
	if m.banned != nil || m.active[manifest.BansSocketUnit] || m.enabled[manifest.BansSocketUnit] || fileExists(filepath.Join(m.layout.UnitDir(), manifest.BansServiceUnit)) {
		t.Error("left after the firewall")
	}
}

// Who applies from a banned address is let in to see whether mail is served.
func TestApplyingLiftsOnesOwnBan(t *testing.T) {
	t.Parallel()
	m := newGuarded(t)
	m.acknowledged(guarded())
	if r, err := m.agent().readTrial(); err != nil || r == nil {
		t.Fatal(err)
	} else {
		m.confirm(r.ID)
	}
	m.banned["192.0.2.1"], m.banned["192.0.2.2"] = 500, 500
	m.write("/proc/net/tcp", "  sl  local_address rem_address   st\n   0: 076433C6:0016 010200C0:C001 01 0:0\n   1: 076433C6:0019 020200C0:C001 01 0:0\n", 0o444)
	m.mustConverge(guarded())
	if _, still := m.banned["192.0.2.1"]; still || len(m.banned) != 1 {
		t.Errorf("banned %v", m.banned)
	}
}

func TestBanHelper(t *testing.T) {
	t.Parallel()
	var scripts []string
	var said strings.Builder
	h := &BanHelper{
		Never: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:5:5::7/128")},
		Peers: func() []netip.Addr {
			return []netip.Addr{netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("2001:db8:9::1")}
		},
		Load: func(_ context.Context, s string) error {
			scripts = append(scripts, s)
			if len(scripts) == 2 {
				return errors.New("No space left on device")
			}
			return nil
		},
		Log: slog.New(slog.NewTextHandler(&said, nil)), Idle: 50 * time.Millisecond,
	}
	path := filepath.Join(t.TempDir(), "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	to, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"ban 192.0.2.1 600", "ban 203.0.113.7 600", "ban 198.51.100.9 600", "ban 2001:db8:9:: 600", "ban 2001:db8:5:5:: 600", "ban 127.0.0.1 600", "ban 192.0.2.1 600 }; flush ruleset",
		strings.Repeat("x", 5000), "ban 192.0.2.2 600", "ban 2001:db8:1:2:: 86400",
	} {
		if _, err := to.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Serve(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"add element inet mailform_bans banned4 { 192.0.2.1 }\ndelete element inet mailform_bans banned4 { 192.0.2.1 }\nadd element inet mailform_bans banned4 { 192.0.2.1 timeout 600s }\n",
		"add element inet mailform_bans banned4 { 192.0.2.2 }\ndelete element inet mailform_bans banned4 { 192.0.2.2 }\nadd element inet mailform_bans banned4 { 192.0.2.2 timeout 600s }\n",
		"add element inet mailform_bans banned6 { 2001:db8:1:2:: }\ndelete element inet mailform_bans banned6 { 2001:db8:1:2:: }\nadd element inet mailform_bans banned6 { 2001:db8:1:2:: timeout 86400s }\n",
	}
	if !slices.Equal(scripts, want) {
		t.Errorf("%q", scripts)
	}
	if n := strings.Count(said.String(), "a ban was refused"); n != 7 || !strings.Contains(said.String(), "No space left") || strings.Contains(said.String(), "flush") {
		t.Errorf("%d refused:\n%s", n, said.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.Idle = time.Hour
	if err := h.Serve(ctx, conn); err != nil {
		t.Error(err)
	}
}

func TestParseTCP(t *testing.T) {
	t.Parallel()
	text := `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0B6433C6:0016 630200C0:D431 01 00000000:00000000 02:000A1B2C 00000000     0        0 2
   2: 0B6433C6:0019 640200C0:D431 01 00000000:00000000 02:000A1B2C 00000000     0        0 3
   3: 0000000000000000FFFF00000B6433C6:0016 0000000000000000FFFF0000650200C0:D431 01 0
   4: B80D0120000000000000000001000000:0016 B80D0120010000000000000002000000:D431 01 0
   5: garbage
   6: x:0016 y:1 01
`
	if got := parseTCP(text, 22); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("192.0.2.99"), netip.MustParseAddr("192.0.2.101"), netip.MustParseAddr("2001:db8:0:1::2")}) {
		t.Errorf("%v", got)
	}
}

func FuzzParseBans(f *testing.F) {
	f.Add([]byte(`{"nftables": [{"set": {"name": "banned4", "elem": [{"elem": {"val": "192.0.2.1", "timeout": 600, "expires": 593}}, "192.0.2.2"]}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseBans(text)
		if err != nil {
			return
		}
		for _, b := range list {
			if _, err := netip.ParseAddr(strings.TrimSuffix(b.Client, "/64")); err != nil {
				t.Errorf("%q", b.Client)
			}
		}
		_ = parseTCP(string(text), 22)
	})
}

// The largest request is the longest that the parser of requests takes.
func TestBanRequestFits(t *testing.T) {
	t.Parallel()
	b := limits.Ban{Client: netip.MustParsePrefix("2001:db8:aaaa:bbbb::/64"), For: limits.MaxBan}
	if len(b.Request()) > limits.MaxBanRequest {
		t.Errorf("%q", b.Request())
	}
}
