package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailform/server/manifest"
	"mailform/server/queue"
)

// outside is the Internet as a host's look at it may find it.
type outside struct {
	mu    sync.Mutex // of open
	mx    map[string][]queue.MX
	addrs map[string][]netip.Addr
	names map[string][]string // by address; one that is missing cannot be asked for
	open  map[string]bool     // by host:port
	lists map[string]string   // what blocklists answer, by name; "" is nothing that could be made out
	asked atomic.Int32        // how often somebody was dialled
}

func (o *outside) LookupMX(_ context.Context, domain string) ([]queue.MX, error) {
	return o.mx[domain], nil
}

func (o *outside) LookupAddr(_ context.Context, host string) ([]netip.Addr, error) {
	if a, ok := o.addrs[host]; ok {
		return a, nil
	}
	return nil, queue.ErrNoDomain
}

func (o *outside) LookupA(ctx context.Context, host string) ([]netip.Addr, error) {
	switch answer, ok := o.lists[host]; {
	case ok && answer == "":
		return nil, errors.New("SERVFAIL")
	case ok && answer == "never":
		<-ctx.Done()
		return nil, ctx.Err()
	case ok:
		return []netip.Addr{netip.MustParseAddr(answer)}, nil
	}
	return o.LookupAddr(ctx, host)
}
func (*outside) LookupTXT(context.Context, string) ([]string, error) { return nil, nil }

func (o *outside) LookupPTR(_ context.Context, a netip.Addr) ([]string, error) {
	names, ok := o.names[a.String()]
	switch {
	case !ok:
		return nil, errors.New("SERVFAIL")
	case names == nil:
		return nil, queue.ErrNoDomain
	}
	return names, nil
}

// set opens or closes a port.
func (o *outside) set(addr string, open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open[addr] = open
}

func (o *outside) dial(_ context.Context, network, addr string) (net.Conn, error) {
	o.asked.Add(1)
	o.mu.Lock()
	open := o.open[addr]
	o.mu.Unlock()
	if !open {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("i/o timeout")}
	}
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		_, _ = there.Write([]byte("220 mx.a.example ESMTP\r\n"))
		buf := make([]byte, 16)
		_, _ = there.Read(buf)
	}()
	return here, nil
}

func (o *outside) reach(domains ...string) *reach {
	return newReach(Config{Reach: domains, Resolver: o, Dial: o.dial, Now: time.Now})
}

func TestReach(t *testing.T) {
	a, b, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")
	o := &outside{
		mx: map[string][]queue.MX{"a.example": {{Host: "far.a.example.", Preference: 20}, {Host: "mx.a.example.", Preference: 10}}, "b.example": {{Host: "mx.b.example."}}, "gone.example": {{Host: "nowhere.example."}}},
		addrs: map[string][]netip.Addr{"mx.a.example": {six, a}, "mx.b.example": {b},
			"mail.acme.example": {netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.8"), netip.MustParseAddr("203.0.113.9")}},
		names: map[string][]string{"203.0.113.7": {"Mail.ACME.example."}, "203.0.113.8": nil},
		open:  map[string]bool{"192.0.2.2:25": true},
	}
	addresses := []manifest.ReachAddress{
		{Address: "203.0.113.7", Names: []string{"mail.acme.example"}, Known: true}, {Address: "203.0.113.8", Known: true}, {Address: "203.0.113.9"},
	}
	for _, tc := range []struct {
		domains []string
		relay   bool
		verdict string
		tried   []string
	}{
		{[]string{"a.example", "b.example"}, false, manifest.Port25Open, nil}, // one is enough
		{[]string{"a.example"}, false, manifest.Port25Closed, []string{"mx.a.example:25: i/o timeout"}},
		{[]string{"gone.example", "none.example"}, false, "", nil}, // DNS is what does not work
		{[]string{"a.example"}, true, manifest.Port25Relay, nil},
	} {
		o.asked.Store(0)
		got := o.reach(tc.domains...).look(t.Context(), reachSettings{hostname: "mail.acme.example", relay: tc.relay})
		if got.Port25 != tc.verdict || !reflect.DeepEqual(got.Tried, tc.tried) || !reflect.DeepEqual(got.Addresses, addresses) {
			t.Errorf("%v, relay %v: %+v", tc.domains, tc.relay, got)
		}
		if tc.relay && o.asked.Load() > 0 {
			t.Error("servers are tried although mail goes through a relay")
		}
	}
	if got := o.reach("b.example").look(t.Context(), reachSettings{hostname: "new.acme.example"}); len(got.Addresses) != 0 {
		t.Errorf("a name that is not in DNS yet has %+v", got.Addresses)
	}
}

// TestReachLists: an address is on a list only when the list says so: not when it
// refuses to answer us, does not answer or is no list any more. None holds up the others.
func TestReachLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outside{
			addrs: map[string][]netip.Addr{"mail.acme.example": {netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("2001:db8::1")}},
			lists: map[string]string{
				"7.113.0.203.listed.example": "127.0.0.2", "7.113.0.203.refuses.example": "127.255.255.254", "7.113.0.203.broken.example": "",
				"7.113.0.203.silent.example": "never", "7.113.0.203.parked.example": "198.51.100.9", "7.113.0.203.world.example": "127.0.0.1",
				"7.0.0.10.listed.example": "127.0.0.2",
			},
		}
		begun := time.Now()
		s := reachSettings{hostname: "mail.acme.example", relay: true,
			lists: "listed.example refuses.example broken.example silent.example parked.example world.example clear.example"}
		got := o.reach().look(t.Context(), s)
		if took := time.Since(begun); took != reachTarget {
			t.Errorf("a list that does not answer takes %s", took)
		}
		for _, a := range got.Addresses {
			want := manifest.ReachAddress{Address: a.Address}
			if a.Address == "203.0.113.7" {
				want.Listed, want.NotListed = []string{"listed.example"}, []string{"parked.example", "world.example", "clear.example"}
			}
			if !reflect.DeepEqual(a, want) {
				t.Errorf("%+v, want %+v", a, want)
			}
		}
		if settled(&manifest.Reach{Port25: manifest.Port25Relay, Addresses: []manifest.ReachAddress{{Names: []string{"mail.acme.example"}, Listed: []string{"listed.example"}}}}, "mail.acme.example") {
			t.Error("an address on a list is well")
		}
	})
}

// TestReachTimes: what is well is looked at every six hours, what is not more
// often, and new settings at once.
func TestReachTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outside{
			mx:    map[string][]queue.MX{"a.example": {{Host: "mx.a.example."}}},
			addrs: map[string][]netip.Addr{"mx.a.example": {netip.MustParseAddr("192.0.2.1")}, "mail.acme.example": {netip.MustParseAddr("203.0.113.7")}},
			names: map[string][]string{"203.0.113.7": {"mail.acme.example."}}, open: map[string]bool{},
		}
		r := o.reach("a.example")
		m := &manifest.Manifest{Hostname: "mail.acme.example"}
		r.set(m)
		if r.last() != nil {
			t.Error("something is known before the first look")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = r.run(ctx) }()
		looks := func(after time.Duration, want int32, verdict string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := o.asked.Load(); got != want || r.last() == nil || r.last().Port25 != verdict {
				t.Errorf("%d looks, want %d; %+v", got, want, r.last())
			}
		}
		looks(time.Second, 1, manifest.Port25Closed)
		looks(reachSoon, 2, manifest.Port25Closed)
		o.set("192.0.2.1:25", true)
		looks(reachSoon, 3, manifest.Port25Open)
		looks(reachSoon, 3, manifest.Port25Open)
		looks(reachEvery, 4, manifest.Port25Open)
		r.set(m) // nothing new
		looks(time.Second, 4, manifest.Port25Open)
		r.set(&manifest.Manifest{Hostname: m.Hostname, Relay: &manifest.Relay{Host: "smtp.relay.example"}})
		looks(time.Second, 4, manifest.Port25Relay)
		r.set(m)
		looks(time.Second, 5, manifest.Port25Open)
		// Whoever asks is told how it is now; who goes away keeps nothing.
		o.set("192.0.2.1:25", false)
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := r.again(gone); err == nil || r.last().Port25 != manifest.Port25Open {
			t.Errorf("a look that was cut short: %v, %+v", err, r.last())
		}
		if well, err := r.again(ctx); well || err != nil || r.last().Port25 != manifest.Port25Closed {
			t.Errorf("asked again: %v, %v, %+v", well, err, r.last())
		}
		r.set(&manifest.Manifest{Hostname: m.Hostname, Monitor: &manifest.Monitor{Blocklists: []string{"list.example"}}})
		if r.last() != nil {
			t.Error("what was found without the list is kept")
		}
		cancel()
		<-ended
	})
}

func TestShortly(t *testing.T) {
	err := shortly(&net.OpError{Op: "dial", Err: &net.OpError{Op: "socks", Err: errors.New("refused")}})
	if !strings.EqualFold(err.Error(), "refused") {
		t.Error(err)
	}
}
