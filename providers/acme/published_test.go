package acme

import (
	"strings"
	"testing"
	"time"

	"mailform/providers/cloudflare/cloudflaresim"
)

// A record counts as published when the server shows it and nothing beside it.
func TestPublished(t *testing.T) {
	text := "v=DKIM1; k=rsa; p=" + strings.Repeat("A", 712) // RSA with 4096 bits
	quoted := `"` + text[:255] + `" "` + text[255:510] + `" "` + text[510:] + `"`
	sim := cloudflaresim.New(cloudflaresim.Config{Static: []cloudflaresim.StaticZone{{Origin: "acme.example", Records: []string{
		"right._domainkey 300 IN TXT " + quoted,
		"two._domainkey 300 IN TXT " + quoted, `two._domainkey 300 IN TXT "somebody else's"`,
	}}}})
	names, err := sim.ListenDNS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { names.Close() })
	p := &Provider{visible: newWatcher(names.Addr(), noSleep)}
	for _, c := range []struct {
		name string
		seen bool
		got  string
	}{{"right", true, ""}, {"missing", false, "no TXT record"}, {"two", false, "other TXT records (2)"}} {
		seen, negative, got := p.Published(t.Context(), c.name+"._domainkey.acme.example", text)
		if seen != c.seen || !strings.HasSuffix(got, c.got) || seen && negative < time.Minute {
			t.Errorf("%s: %v, negative TTL %v, %q", c.name, seen, negative, got)
		}
	}
}
