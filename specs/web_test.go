package specs

import "testing"

// TestWebSources: the host's web service is open to those who need it.
func TestWebSources(t *testing.T) {
	const proxied = "zone \"a.example\" {\n  web \"app\" {}\n}\n"
	for name, tc := range map[string]struct {
		domain, zone string
		want         int
	}{
		"no web":                {"", "", 0},
		"a policy":              {"mta_sts {}\n", "", 2},
		"mail programs":         {"discovery = true\n", "", 2},
		"behind the proxies":    {"", proxied, len(cloudflareIPs())},
		"both":                  {"mta_sts {}\n", proxied, 2},
		"a name of its own":     {"", "zone \"a.example\" {\n  web \"app\" {\n    proxied = false\n  }\n}\n", 2},
		"other settings alone":  {"", "zone \"a.example\" {\n  ssl = \"strict\"\n}\n", 0},
		"behind, and of itself": {"", proxied + "zone \"b.example\" {\n  web \"@\" {\n    proxied = false\n  }\n}\n", 2},
	} {
		s := mustLoad(t, "stack \"s\" {}\nhost \"h\" {\n  hostname = \"mail.a.example\"\n  instance {}\n}\ndomain \"a.example\" {\n  mailbox \"m\" {}\n"+tc.domain+"}\n"+tc.zone)
		if got := s.WebSources("h"); len(got) != tc.want {
			t.Errorf("%s: port 443 is open to %v", name, got)
		}
	}
}
