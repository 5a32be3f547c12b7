package specs

import "testing"

func TestIssuerOf(t *testing.T) {
	for directory, want := range map[string]string{
		"": "letsencrypt.org", "https://ACME-v02.api.letsencrypt.org/directory": "letsencrypt.org",
		"https://acme.zerossl.com/v2/DV90": "sectigo.com", "https://acme.ssl.com/sslcom-dv-rsa": "ssl.com",
		"https://ca.internal/dir": "", "nonsense": "",
	} {
		if got := IssuerOf(directory); got != want {
			t.Errorf("%q: %q, want %q", directory, got, want)
		}
	}
}
