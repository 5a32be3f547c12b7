package baddays

import (
	"context"
	"strings"
	"testing"
	"time"

	"mailform/providers/alicloud/alicloudsim"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/providers/world"
)

// TestWhatIsForeignIsWatched: each kind of foreign thing is noticed when it becomes
// another one, by one byte, or goes.
func TestWhatIsForeignIsWatched(t *testing.T) {
	start := func(t *testing.T) (*world.World, *foreign) {
		t.Helper()
		w, err := world.Start(t.Context(), world.Config{Dir: t.TempDir(), Zones: []string{"acme.example"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		f, err := settle(w, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.first) < 12 || !strings.Contains(f.first[5], `"Status":"Running"`) {
			t.Fatalf("there are: %q", f.first)
		}
		return w, f
	}
	w, f := start(t)
	if touched, err := f.touched(false); len(touched) > 0 || err != nil {
		t.Errorf("nothing was touched: %q, %v", touched, err)
	}
	for _, c := range []struct {
		what, product, action, id string
		params                    []string
	}{
		{"a rule", "ecs", "RevokeSecurityGroup", "SecurityGroupId",
			[]string{"Permissions.1.IpProtocol", "TCP", "Permissions.1.PortRange", "443/443", "Permissions.1.SourceCidrIp", "0.0.0.0/0"}},
		{"an address", "vpc", "ReleaseEipAddress", "AllocationId", nil},
	} {
		if _, err := w.Cloud().Console(c.product, c.action, f.params(append(c.params, c.id, f.ids[c.id])...)); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		touched, err := f.touched(false)
		if err != nil || len(touched) == 0 {
			t.Errorf("%s is gone and nobody noticed: %q, %v", c.what, touched, err)
		}
		if f.first, err = f.look(); err != nil {
			t.Fatal(err)
		}
	}
	// A record that is gone, and one more with the same content.
	w.DNS().Seed("acme.example", cloudflaresim.Record{Name: "shop.acme.example", Type: "TXT", Content: `"x"`})
	for _, r := range w.DNS().Records("acme.example") {
		if r.Name == "shop.acme.example" && r.Type == "CNAME" {
			f.dns["other"], f.dns[r.ID] = true, false
		}
	}
	if touched, _ := f.touched(false); len(touched) != 1 || !strings.Contains(touched[0], "shop.acme.example") {
		t.Errorf("a record is gone: %q", touched)
	}
}

// TestClock: what is slept goes by quickly, for all who sleep at the same time once.
func TestClock(t *testing.T) {
	var c clock
	begun := c.now()
	done := make(chan struct{})
	for range 4 {
		go func() {
			c.sleep(context.Background(), 2*time.Second)
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-done
	}
	if passed := c.now().Sub(begun); passed < 2*time.Second || c.skipped() > 2*time.Second {
		t.Errorf("%s went by, %s of it were skipped", passed, c.skipped())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.sleep(ctx, time.Hour); err == nil || c.skipped() > 2*time.Second {
		t.Errorf("a sleep that is cut short: %v, %s", err, c.skipped())
	}
}

// TestCatalogue: every fault has a name of its own and a place, and what lasts says
// what its message has to say.
func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range catalogue() {
		if seen[f.id] || f.system() == "" || f.what == "" || f.bend == nil || (f.code != 0) != (len(f.says) > 0) {
			t.Errorf("%+v", f)
		}
		seen[f.id] = true
		if n := len(f.what); n > 55 {
			t.Errorf("%q is %d long", f.what, n)
		}
	}
}

// TestWeather: each kind of call is struck once, until the weather changes.
func TestWeather(t *testing.T) {
	w := &weather{clock: &clock{}}
	each(alicloudsim.Fault{Drop: true})(w)
	ask := w.config(world.Config{}).CloudFault
	call := func(action string) bool { return ask(alicloudsim.Call{Action: action}).Drop }
	if call("CreateVpc") {
		t.Error("a good day strikes")
	}
	w.blow(true)
	if !call("CreateVpc") || call("CreateVpc") || !call("DeleteVpc") || w.hits() != 2 {
		t.Errorf("%d were struck", w.hits())
	}
	w.blow(true)
	if !call("CreateVpc") {
		t.Error("the second act is spared")
	}
	w.blow(false)
	if call("RunInstances") {
		t.Error("what is over strikes")
	}
}

// TestSameAtAnotherAddress overlooks the address and nothing else.
func TestSameAtAnotherAddress(t *testing.T) {
	a := anyAddress([]string{"dns A mail.acme.example \"127.100.0.3\" ttl 300", "cloud ever made eip 2", "cloud ever made i 2"})
	b := anyAddress([]string{"dns A mail.acme.example \"127.100.0.4\" ttl 300", "cloud ever made eip 3", "cloud ever made i 2"})
	if d := difference(a, b); d != nil {
		t.Errorf("%q", d)
	}
	if c := anyAddress([]string{"dns A mail.acme.example \"203.0.113.4\" ttl 300", "cloud ever made i 2"}); difference(a, c) == nil {
		t.Error("an address of others is overlooked")
	}
}

// TestSameInAnotherZone overlooks the zone and nothing else.
func TestSameInAnotherZone(t *testing.T) {
	a := anyZone([]string{"cloud vswitch 10.77.0.0/24 cn-hongkong-b", "cloud ever made vsw 2", "cloud ever made i 2"})
	b := anyZone([]string{"cloud vswitch 10.77.1.0/24 cn-hongkong-c", "cloud ever made vsw 3", "cloud ever made i 2"})
	if d := difference(a, b); d != nil {
		t.Errorf("%q", d)
	}
	if d := difference([]string{"i 2", "i 2"}, []string{"i 2"}); len(d) != 1 {
		t.Errorf("something is there twice: %q", d)
	}
}
