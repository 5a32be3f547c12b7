package host

import (
	"strings"
	"testing"

	"mailform/server/manifest"
	"mailform/specs"
)

func TestAdvice(t *testing.T) {
	known := func(names ...string) []manifest.ReachAddress {
		return []manifest.ReachAddress{{Address: "203.0.113.7", Names: names, Known: true}}
	}
	for _, tc := range []struct {
		r     *manifest.Reach
		cloud bool
		want  []string // codes, and a part of the text
	}{
		{nil, true, nil},
		{&manifest.Reach{}, true, nil},
		{&manifest.Reach{Port25: manifest.Port25Open, Addresses: known("mail.acme.example", "other.example")}, true, nil},
		{&manifest.Reach{Port25: manifest.Port25Open, Addresses: []manifest.ReachAddress{{Address: "203.0.113.7"}}}, true, nil}, // DNS did not answer
		{&manifest.Reach{Port25: manifest.Port25Relay, Addresses: known()}, true, nil},
		{&manifest.Reach{Port25: manifest.Port25Closed}, true, []string{advicePort25, "Alibaba Cloud closes"}},
		{&manifest.Reach{Port25: manifest.Port25Closed}, false, []string{advicePort25, "provider has closed"}},
		{&manifest.Reach{Addresses: known()}, true, []string{adviceReverse, "Reverse DNS Lookup"}},
		{&manifest.Reach{Addresses: known("vps7.hoster.example")}, false, []string{adviceReverse, "whoever gave you the address"}},
	} {
		got := AdviseOn("mx1", "Mail.acme.example", tc.cloud, tc.r)
		if len(got) != len(tc.want)/2 || len(got) == 1 && (got[0].Code != tc.want[0] || !strings.Contains(got[0].Text, tc.want[1])) {
			t.Errorf("%+v, in the cloud %v: %+v, want %q", tc.r, tc.cloud, got, tc.want)
		}
	}
	if got := AdviseOn("mx1", "mail.acme.example", true, &manifest.Reach{Addresses: known("vps7.hoster.example")}); !strings.Contains(got[0].Title, "vps7.hoster.example, not to mail.acme.example") {
		t.Errorf("%q", got[0].Title)
	}
}

// The lines of the advice are ready to be pasted.
func TestRelayLines(t *testing.T) {
	if text, diags := specs.Format("relay.hcl", []byte(relayLines)); diags.HasErrors() || string(text) != relayLines {
		t.Errorf("%v\n%s", diags, text)
	}
}
