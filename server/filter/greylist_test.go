package filter

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailform/server/manifest"
)

// A suspicious client's first attempt is put off; when it comes back as mail
// servers do its whole network is trusted from then on.
func TestGreylist(t *testing.T) {
	r := start(t)
	p := &manifest.Filter{Greylist: true}
	rcpt := func(addr, to string) string { return r.rcpt(p, addr, "mx.other.example", "x@lax.example", to) }
	if got := rcpt("198.51.100.9", "alice@example.com"); got != "451 4.7.1 Greylisted: try again in 5 min" {
		t.Errorf("first contact: %q", got)
	}
	r.now = r.now.Add(90 * time.Second)
	if got := rcpt("198.51.100.9", "alice@example.com"); got != "451 4.7.1 Greylisted: try again in 4 min" {
		t.Errorf("too soon: %q", got)
	}
	r.now = r.now.Add(4 * time.Minute)
	if got := rcpt("198.51.100.9", "bob@example.com"); got != "451 4.7.1 Greylisted: try again in 5 min" {
		t.Errorf("another recipient: %q", got)
	}
	if got := rcpt("198.51.100.200", "Alice@example.com"); got != "" {
		t.Errorf("back in time, from its neighbour: %q", got)
	}
	if got := rcpt("198.51.100.9", "carol@example.com"); got != "" {
		t.Errorf("known by now: %q", got)
	}
	r.now = r.now.Add(35 * 24 * time.Hour)
	if got := rcpt("198.51.100.9", "carol@example.com"); got != "" {
		t.Errorf("a month later: %q", got)
	}
	r.now = r.now.Add(37 * 24 * time.Hour)
	if got := rcpt("198.51.100.9", "carol@example.com"); got == "" {
		t.Error("unheard of for 37 days, and still known")
	}
	r.now = r.now.Add(49 * time.Hour)
	if got := rcpt("198.51.100.9", "carol@example.com"); got != "451 4.7.1 Greylisted: try again in 5 min" {
		t.Errorf("back after two days: %q", got)
	}
	for name, got := range map[string]string{
		"an honest client":   r.rcpt(p, "192.0.2.7", "mx.good.example", "x@lax.example", "alice@example.com"),
		"SPF passes":         r.rcpt(p, "192.0.2.7", "mx.other.example", "x@good.example", "alice@example.com"),
		"to postmaster":      rcpt("198.51.101.9", "postmaster@example.com"),
		"this machine":       rcpt("127.0.0.1", "alice@example.com"),
		"greylisting is off": r.rcpt(&manifest.Filter{DNSBL: []string{"bl2.example"}}, "198.51.101.9", "x", "x@lax.example", "alice@example.com"),
	} {
		if got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if c := r.Counts(); c.Deferred != 5 || c.Refused != 0 {
		t.Errorf("counts: %+v", c)
	}
}

// What is known survives a restart; a damaged file is an empty one.
func TestGreylistFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "greylist")
	p := &manifest.Filter{Greylist: true}
	file := func(c *Config) { c.GreylistFile = path }
	r := start(t, file)
	rcpt := func(r *rig, addr string) string {
		return r.rcpt(p, addr, "mx.other.example", "x@lax.example", "alice@example.com")
	}
	rcpt(r, "198.51.100.9")
	r.now = r.now.Add(greyDelay)
	if got := rcpt(r, "198.51.100.9"); got != "" {
		t.Fatalf("back in time: %q", got)
	}
	rcpt(r, "198.51.101.9")
	now := r.now
	r.save()
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	r.save()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("nothing has changed, and the file was written again: %v, %v", info.Mode(), err)
	}

	r = start(t, file)
	r.now = now
	if got := rcpt(r, "198.51.100.9"); got != "" {
		t.Errorf("known before the restart: %q", got)
	}
	r.now = now.Add(greyDelay)
	if got := rcpt(r, "198.51.101.9"); got != "" {
		t.Errorf("first came before the restart: %q", got)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := append([]byte(nil), whole...)
		damaged[i] ^= 1
		if err := newGreylist(10).decode(damaged); err == nil {
			t.Errorf("octet %d is wrong and it was read", i)
		}
		if err := newGreylist(10).decode(whole[:i]); err == nil {
			t.Errorf("the first %d octets were read", i)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, file)
	if got := rcpt(r, "198.51.100.9"); got == "" {
		t.Error("a torn file says that a client is known")
	}
}

func TestGreylistIsBounded(t *testing.T) {
	g := newGreylist(100)
	now := time.Unix(1_800_000_000, 0)
	for i := range 10_000 {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		g.check(addr, "x@example.com", fmt.Sprint(i), now)
		g.check(addr, "x@example.com", fmt.Sprint(i), now.Add(greyDelay))
		g.check(addr, "x@example.com", fmt.Sprint(i), now.Add(2*greyDelay))
		if len(g.waiting) > 100 || len(g.known) > 100 {
			t.Fatalf("%d waiting, %d known", len(g.waiting), len(g.known))
		}
	}
	if len(g.known) < 50 {
		t.Errorf("only %d networks are known", len(g.known))
	}
}

func FuzzGreylistFile(f *testing.F) {
	g := newGreylist(10)
	now := time.Unix(1_800_000_000, 0)
	g.check(netip.MustParseAddr("192.0.2.1"), "a", "b", now)
	whole := g.encode(now)
	f.Add(whole[:len(whole)-4])
	f.Add([]byte(greyMagic + "\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		whole := binary.LittleEndian.AppendUint32(append([]byte(nil), body...), crc32.Checksum(body, castagnoli))
		g := newGreylist(10)
		if err := g.decode(whole); err != nil {
			return
		}
		again := newGreylist(10)
		if err := again.decode(g.encode(time.Unix(0, 0))); err != nil {
			t.Fatal(err)
		}
	})
}
