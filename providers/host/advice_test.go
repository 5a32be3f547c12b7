package host

import (
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
	"mailform/specs"
)

func TestAdvice(t *testing.T) {
	known := func(names ...string) []manifest.ReachAddress {
		return []manifest.ReachAddress{{Address: "203.0.113.7", Names: names, Known: true}}
	}
	listed := func(address string) []manifest.ReachAddress {
		return []manifest.ReachAddress{{Address: address, Names: []string{"mail.acme.example"}, Known: true, Listed: []string{"zen.spamhaus.org", "bl.spamcop.net"}}}
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
		{&manifest.Reach{Port25: manifest.Port25Open, Addresses: listed("203.0.113.7")}, true, []string{adviceListed, "mailform apply --replace host/mx1/address"}},
		{&manifest.Reach{Port25: manifest.Port25Open, Addresses: listed("203.0.113.7")}, false, []string{adviceListed, "whoever gave you the address"}},
		{&manifest.Reach{Port25: manifest.Port25Open, Addresses: listed("203.0.113.6")}, true, nil}, // the address before this one
		{&manifest.Reach{Port25: manifest.Port25Relay, Addresses: listed("203.0.113.7")}, true, nil},
		{&manifest.Reach{Addresses: known("vps7.hoster.example")}, false, []string{adviceReverse, "whoever gave you the address"}},
	} {
		got := AdviseOn("mx1", "Mail.acme.example", "203.0.113.7", tc.cloud, &manifest.Facts{Reach: tc.r})
		if len(got) != len(tc.want)/2 || len(got) == 1 && (got[0].Code != tc.want[0] || !strings.Contains(got[0].Text, tc.want[1])) {
			t.Errorf("%+v, in the cloud %v: %+v, want %q", tc.r, tc.cloud, got, tc.want)
		}
	}
	if got := AdviseOn("mx1", "mail.acme.example", "203.0.113.7", true, &manifest.Facts{Reach: &manifest.Reach{Addresses: known("vps7.hoster.example")}}); !strings.Contains(got[0].Title, "vps7.hoster.example, not to mail.acme.example") {
		t.Errorf("%q", got[0].Title)
	}
	got := AdviseOn("mx1", "mail.acme.example", "203.0.113.7", true, &manifest.Facts{Reach: &manifest.Reach{Addresses: listed("203.0.113.7")}})
	if len(got) != 1 || got[0].Title != "203.0.113.7 is on zen.spamhaus.org and bl.spamcop.net" || len(got[0].Links) != 2 {
		t.Errorf("%+v", got)
	}
}

// What is wrong with the machine itself is said once, and only then.
func TestAdviceOnState(t *testing.T) {
	asked := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	answered := asked.Add(90 * time.Second) // over a slow line
	for _, tc := range []struct {
		now   time.Time
		clock *manifest.Clock
		taken *manifest.Reverted
		want  string // code and title
	}{
		{asked.Add(80 * time.Second), nil, nil, ""},
		{asked.Add(-time.Minute), &manifest.Clock{Synchronized: true}, nil, ""},
		{answered.Add(time.Minute), &manifest.Clock{Synchronized: true}, nil, ""},
		{asked.Add(-61 * time.Second), &manifest.Clock{Synchronized: true}, nil, "clock-off its clock is 1m1s behind this machine's"},
		{answered.AddDate(1, 0, 0), nil, nil, "clock-off its clock is 8760h0m0s ahead of this machine's"},
		{answered.Add(time.Hour), &manifest.Clock{}, nil, "clock-off its clock is 1h0m0s ahead of this machine's"},
		{asked, &manifest.Clock{}, nil, "clock-not-synchronized its clock is not synchronized"},
		{asked, nil, &manifest.Reverted{Time: asked, Why: "nobody has confirmed it"}, "change-taken-back the last change was taken back at 2026-11-22 10:00:00 UTC"},
	} {
		f := &manifest.Facts{Now: tc.now, Clock: tc.clock, Reverted: tc.taken, AheadSeconds: 7000}
		noteClock(f, asked, answered)
		got := ""
		for _, a := range AdviseOn("mx1", "mail.acme.example", "203.0.113.7", true, f) {
			got += a.Code + " " + a.Title
			if tc.taken != nil && !strings.Contains(a.Text, tc.taken.Why) {
				t.Errorf("it does not say why: %s", a.Text)
			}
		}
		if got != tc.want {
			t.Errorf("%v %+v: %q, want %q", tc.now, tc.clock, got, tc.want)
		}
	}
}

// The lines of the advice are ready to be pasted.
func TestRelayLines(t *testing.T) {
	if text, diags := specs.Format("relay.hcl", []byte(relayLines)); diags.HasErrors() || string(text) != relayLines {
		t.Errorf("%v\n%s", diags, text)
	}
}

// Another firewall is told of with the command that opens what it keeps out.
func TestAdviceOnWalls(t *testing.T) {
	for _, tc := range []struct {
		wall manifest.Wall
		want string
	}{
		{manifest.Wall{Name: "ufw"}, ""},
		{manifest.Wall{Name: "ufw", Closed: []int{25, 993}}, "ufw allow proto tcp to any port 25,993"},
		{manifest.Wall{Name: "firewalld", Closed: []int{25, 993}}, "firewall-cmd --permanent --add-port={25,993}/tcp && firewall-cmd --reload"},
		{manifest.Wall{Name: "firewalld", Closed: []int{587}}, "firewall-cmd --permanent --add-port=587/tcp && firewall-cmd --reload"},
	} {
		got := AdviseOn("mx1", "mail.acme.example", "203.0.113.7", true, &manifest.Facts{Walls: []manifest.Wall{tc.wall}})
		if tc.want == "" && len(got) > 0 || tc.want != "" && (len(got) != 1 || got[0].Code != adviceWall || !strings.HasSuffix(got[0].Text, "\n"+tc.want)) {
			t.Errorf("%+v: %+v", tc.wall, got)
		}
	}
}

// A storage key that nobody has a copy of is told of, until somebody has.
func TestAdviceOnTheStorageKey(t *testing.T) {
	for _, tc := range []struct {
		key  *manifest.StoreKey
		want int
	}{
		{nil, 0},
		{&manifest.StoreKey{}, 0}, // missing: that is drift
		{&manifest.StoreKey{Fingerprint: "0123456789abcdef"}, 1},
		{&manifest.StoreKey{Fingerprint: "0123456789abcdef", Saved: true}, 0},
	} {
		got := AdviseOn("mx1", "mail.acme.example", "203.0.113.7", true, &manifest.Facts{StoreKey: tc.key})
		if len(got) != tc.want || tc.want > 0 && (got[0].Code != adviceStoreKey || !strings.Contains(got[0].Text, tc.key.Fingerprint) || !strings.Contains(got[0].Text, "mailform storage-key export mx1")) {
			t.Errorf("%+v: %+v", tc.key, got)
		}
	}
}
