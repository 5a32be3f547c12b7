package limits

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestParseBan(t *testing.T) {
	for _, line := range []string{"ban 192.0.2.1 600", "ban 2001:db8:1:2:: 86400"} {
		b, err := ParseBan([]byte(line))
		if err != nil || string(b.Request()) != line {
			t.Errorf("%q: %+v %v", line, b, err)
		}
	}
	for _, line := range []string{
		"", "ban", "ban 192.0.2.1", "ban 192.0.2.1 600 ", "ban  192.0.2.1 600", "BAN 192.0.2.1 600", "ban 192.0.2.1 600\n", "ban 192.0.2.1 600\x00",
		"ban 192.0.2.1 599", "ban 192.0.2.1 86401", "ban 192.0.2.1 -600", "ban 192.0.2.1 +600", "ban 192.0.2.1 0600", "ban 192.0.2.1 99999999999999999999", "ban 192.0.2.1 10m",
		"ban 127.0.0.1 600", "ban ::1 600", "ban 10.1.2.3 600", "ban 192.168.1.1 600", "ban 172.16.0.1 600", "ban 100.64.0.1 600", "ban 169.254.1.1 600", "ban fe80::1 600",
		"ban fd00::1 600", "ban 0.0.0.0 600", "ban :: 600", "ban 224.0.0.1 600", "ban ff02::1 600", "ban 255.255.255.255 600", "ban 0.1.2.3 600", "ban 240.0.0.1 600",
		"ban ::ffff:192.0.2.1 600", "ban ::ffff:127.0.0.1 600", "ban 2001:db8:1:2::3 600", "ban 2001:DB8:1:2:: 600", "ban fe80::1%eth0 600", "ban 192.0.2.0/24 600",
		"ban 192.0.2.1,192.0.2.2 600", "ban mail.example 600", "ban 192.0.2.1 600; flush ruleset", "ban 192.0.2.1 " + strings.Repeat("0", 99) + "600",
	} {
		if b, err := ParseBan([]byte(line)); err == nil {
			t.Errorf("%q is accepted: %+v", line, b)
		}
	}
}

func FuzzParseBan(f *testing.F) {
	f.Add([]byte("ban 192.0.2.1 600"))
	f.Add([]byte("ban 2001:db8:1:2:: 86400"))
	f.Fuzz(func(t *testing.T, line []byte) {
		b, err := ParseBan(line)
		if err != nil {
			return
		}
		a := b.Client.Addr()
		if !Bannable(a) || a.IsLoopback() || a.IsPrivate() || a.Is4In6() || b.For < MinBan || b.For > MaxBan || string(b.Request()) != string(line) {
			t.Errorf("%q: %+v", line, b)
		}
		if bits := b.Client.Bits(); a.Is4() && bits != 32 || a.Is6() && bits != 64 || b.Client.Masked() != b.Client {
			t.Errorf("%q bans %s", line, b.Client)
		}
	})
}

// Whoever comes back is banned for twice as long, up to a day; after a day without
// it begins anew.
func TestBansGrow(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := NewBans(func() time.Time { return now })
	a := netip.MustParseAddr("2001:db8::5")
	for i, want := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 80 * time.Minute, 160 * time.Minute, 320 * time.Minute, 640 * time.Minute, 1280 * time.Minute, MaxBan, MaxBan} {
		got, ok := b.Decide(a)
		if !ok || got.For != want || got.Client.String() != "2001:db8::/64" {
			t.Fatalf("ban %d: %+v %v", i, got, ok)
		}
		if _, again := b.Decide(netip.MustParseAddr("2001:db8::6")); again {
			t.Error("banned twice")
		}
		now = now.Add(want)
	}
	now = now.Add(MaxBan)
	if got, _ := b.Decide(a); got.For != MinBan {
		t.Errorf("after a day: %s", got.For)
	}
	b.Lift(a)
	if got, ok := b.Decide(a); !ok || got.For != MinBan {
		t.Errorf("after it was lifted: %s", got.For)
	}
	for _, private := range []string{"127.0.0.1", "10.0.0.1", "::1", "fd00::1", "100.100.0.1"} {
		if got, ok := b.Decide(netip.MustParseAddr(private)); ok {
			t.Errorf("banned %+v", got)
		}
	}
}

func TestBansAreBounded(t *testing.T) {
	b := NewBans(nil)
	for i := range maxBans + 500 {
		b.Decide(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(b.clients) > maxBans {
		t.Errorf("%d remembered", len(b.clients))
	}
}
