package manifest

import (
	"slices"
	"testing"
)

func TestServicesOf(t *testing.T) {
	m := sample()
	if got := ServicesOf(&m); !slices.Equal(got, Services()) {
		t.Errorf("without web: %v", got)
	}
	m.Web = true
	got := ServicesOf(&m)
	ports := make([]int, len(got))
	for i, p := range got {
		ports[i] = p.Port
	}
	if !slices.Equal(ports, []int{25, 143, 443, 465, 587, 993}) || got[2] != (ServicePort{"https", 443, true}) {
		t.Errorf("with web: %v", got)
	}
}

func TestWebNames(t *testing.T) {
	m := sample()
	d := Domain{Name: "acme.example", MTASTS: &MTASTS{Mode: "enforce", MaxAgeSeconds: 604800}, Discovery: true}
	if got := WebNames(&m, d); got != nil {
		t.Errorf("without web: %v", got)
	}
	m.Web = true
	if got := WebNames(&m, d); !slices.Equal(got, []string{"autoconfig.acme.example", "autodiscover.acme.example", "mta-sts.acme.example"}) {
		t.Errorf("names: %v", got)
	}
}

// RFC 8461 3.2's own example, with one mx.
func TestPolicyText(t *testing.T) {
	got := PolicyText("Mail.example.com", MTASTS{Mode: "enforce", MaxAgeSeconds: 604800})
	if want := "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmax_age: 604800\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
