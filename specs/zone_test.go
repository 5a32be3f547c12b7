package specs

import (
	"strings"
	"testing"
)

// Who has to agree to receive DMARC reports (RFC 7489 7.1): another organisation, and
// only one that the spec does not hold is warned about.
func TestReportsElsewhere(t *testing.T) {
	const rest = "stack \"a\" {}\nhost \"mx1\" {\n  hostname = \"mail.acme.example\"\n  address = \"203.0.113.7\"\n}\ndomain \"team.other.example\" {\n  mailbox \"bob\" {}\n}\nzone \"reports.example\" {\n  caa = [\"letsencrypt.org\"]\n}\n"
	for address, warns := range map[string]bool{
		"alice": false, "abuse@acme.example": false, "x@sub.acme.example": false, "bob@team.other.example": false, "x@reports.example": false, "x@in.reports.example": false,
		"x@other.example": true, "x@elsewhere.example": true,
	} {
		_, _, diags := load(rest + "domain \"acme.example\" {\n  mailbox \"alice\" {}\n  dmarc {\n    reports = [\"" + address + "\"]\n  }\n}\n")
		warned := false
		for _, d := range diags {
			warned = warned || d.Code == codeReportsElsewhere
			if d.Severity == SeverityError {
				t.Errorf("%s: %v", address, d)
			}
		}
		if warned != warns {
			t.Errorf("%s: warned %v, want %v: %v", address, warned, warns, diags)
		}
	}
	// Siblings are of one organisation, customers of a registry are not.
	for _, c := range []struct {
		domain, at string
		needs      bool
	}{
		{"a.acme.example", "b.acme.example", false}, {"acme.co.uk", "other.co.uk", true}, {"acme.github.io", "github.io", true}, {"acme.example", "acme.example", false},
	} {
		if got := NeedsConsent(c.domain, c.at); got != c.needs {
			t.Errorf("%s to %s: %v", c.domain, c.at, got)
		}
	}
	s := &Spec{Domains: []*Domain{{Name: "acme.example"}, {Name: "team.acme.example"}}, Zones: []*Zone{{Name: "reports.example"}}}
	for name, want := range map[string]string{"x.acme.example": "acme.example", "team.acme.example": "team.acme.example", "reports.example": "reports.example", "notacme.example": "", "example": ""} {
		if got := s.Holder(name); got != want {
			t.Errorf("%s is in %q, want %q", name, got, want)
		}
	}
	if got := ConsentName("acme.example", "other.example"); !strings.HasPrefix(got, "acme.example._report._dmarc.") {
		t.Error(got)
	}
}
