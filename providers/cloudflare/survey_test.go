package cloudflare

import (
	"net/netip"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"mailform/specs"
)

// TestRead: what a spec publishes is read back as that spec.
func TestRead(t *testing.T) {
	domain := rapid.StringMatching(`[a-z]{1,8}\.[a-z]{2,5}`)
	address := rapid.StringMatching(`[a-z!,;.]{1,6}@[a-z]{1,8}\.example`)
	rapid.Check(t, func(t *rapid.T) {
		s := &specs.SPF{
			Include: rapid.SliceOfNDistinct(domain, 0, 3, rapid.ID).Draw(t, "include"),
			All:     rapid.SampledFrom([]string{"fail", "softfail", "neutral"}).Draw(t, "all"),
		}
		for _, n := range rapid.SliceOfNDistinct(rapid.Uint8(), 0, 3, rapid.ID).Draw(t, "ip") {
			bits := rapid.SampledFrom([]int{24, 32}).Draw(t, "bits")
			s.IP = append(s.IP, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, n, 2, 0}), bits))
		}
		got, ok := ReadSPF(spfText(s))
		if !ok || got.All != s.All || len(got.Include) != len(s.Include) || len(got.IP) != len(s.IP) || spfText(got) != spfText(s) {
			t.Fatalf("%s was read as %+v, %v", spfText(s), got, ok)
		}
		d := &specs.DMARC{
			Policy:  rapid.SampledFrom([]string{"none", "quarantine", "reject"}).Draw(t, "policy"),
			Reports: rapid.SliceOfN(address, 0, 3).Draw(t, "reports"),
		}
		if len(d.Reports) == 0 {
			d.Reports = nil
		}
		if got, ok := ReadDMARC(dmarcText(d)); !ok || !reflect.DeepEqual(got, d) {
			t.Fatalf("%s was read as %+v, %v", dmarcText(d), got, ok)
		}
		if len(d.Reports) > 0 {
			text := "v=TLSRPTv1; rua=" + mailtoURIs(d.Reports)
			if got, ok := ReadTLSRPT(text); !ok || !reflect.DeepEqual(got.Reports, d.Reports) {
				t.Fatalf("%s was read as %+v, %v", text, got, ok)
			}
		}
	})
	for _, text := range []string{
		"v=spf1 include:a.example -all", "v=spf1 mx", "v=spf1 mx redirect=a.example", "v=spf1 mx exists:%{i}.a.example -all", "v=spf1 mx a -all", "nonsense",
	} {
		if s, ok := ReadSPF(text); ok {
			t.Errorf("%q was read as %+v", text, s)
		}
	}
	for _, text := range []string{"v=DMARC1; p=none; pct=50", "v=DMARC1; p=none; rua=https://a.example", "v=DMARC1", "p=none"} {
		if d, ok := ReadDMARC(text); ok {
			t.Errorf("%q was read as %+v", text, d)
		}
	}
	if r, ok := ReadTLSRPT("v=TLSRPTv1; rua=https://a.example"); ok {
		t.Errorf("it was read as %+v", r)
	}
}
