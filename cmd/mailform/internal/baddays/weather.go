package baddays

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"mailform/providers/alicloud/alicloudsim"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/providers/host/hostsim"
	"mailform/providers/world"
)

// weather is what a fault does to a world: answers of its own in the vendors' places,
// cut connections, missing things. The zero weather is a good day.
type weather struct {
	clock *clock

	// Each is asked before a request is carried out, or a step of a command on a host
	// is gone, while the fault lasts. nil is a good day.
	cloud func(alicloudsim.Call) alicloudsim.Fault
	dns   func(*http.Request) cloudflaresim.Fault
	ca    func(w http.ResponseWriter, r *http.Request, api http.Handler) bool // true: it has answered
	host  func(hostsim.Step) bool                                             // false cuts the connection

	latency  time.Duration // of each call to the cloud
	cloudLag time.Duration // of its lists
	dnsLag   time.Duration // and of Cloudflare's
	noStock  func(zone, instanceType string) bool
	full     bool                     // the hosts' disks
	begin    func(*world.World) error // when the first command is about to run
	lift     func(*world.World)       // when the fault ends

	mu     sync.Mutex
	on     bool
	seen   map[string]bool // kinds of calls that were struck
	calls  int             // that the fault was asked about
	struck int             // that it spoiled
}

// first reports, once for each kind of call, that it is to be struck.
func (w *weather) first(kind string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[kind] {
		return false
	}
	if w.seen == nil {
		w.seen = map[string]bool{}
	}
	w.seen[kind] = true
	w.struck++
	return true
}

// hit counts a call that is struck.
func (w *weather) hit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.struck++
}

// after counts calls and reports whether this one comes after the first n; then it is struck.
func (w *weather) after(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls++; w.calls <= n {
		return false
	}
	w.struck++
	return true
}

// blowing reports whether the fault lasts.
func (w *weather) blowing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.on
}

// blow begins the fault, or ends it; what was struck before may be struck again.
func (w *weather) blow(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on, w.seen, w.calls = on, nil, 0
}

// hits is how many calls were spoiled so far.
func (w *weather) hits() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.struck
}

// config makes a world have this weather.
func (w *weather) config(c world.Config) world.Config {
	c.Now, c.Sleep = w.clock.now, w.clock.rest
	c.CloudLag, c.DNSLag = w.cloudLag, w.dnsLag
	c.CloudFault = func(call alicloudsim.Call) alicloudsim.Fault {
		if w.cloud == nil || !w.blowing() {
			return alicloudsim.Fault{}
		}
		return w.cloud(call)
	}
	c.DNSFault = func(r *http.Request) cloudflaresim.Fault {
		if w.dns == nil || !w.blowing() {
			return cloudflaresim.Fault{}
		}
		return w.dns(r)
	}
	c.Latency = func() time.Duration {
		if !w.blowing() || w.latency == 0 {
			return 0
		}
		w.hit()
		return w.latency
	}
	c.NoStock = func(zone, instanceType string) bool {
		return w.noStock != nil && w.blowing() && w.noStock(zone, instanceType)
	}
	c.DiskFull = func() bool {
		if !w.full || !w.blowing() {
			return false
		}
		w.hit()
		return true
	}
	c.Watch = func(s hostsim.Step) bool { return w.host == nil || !w.blowing() || w.host(s) }
	c.Front = func(vendor string, api http.Handler) http.Handler {
		if vendor != "ca" {
			return api
		}
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if w.ca == nil || !w.blowing() || !w.ca(rw, r, api) {
				api.ServeHTTP(rw, r)
			}
		})
	}
	return c
}

// Kinds of calls: what is struck once each.

var hexID = regexp.MustCompile(`[0-9a-f]{32}`)

func dnsKind(r *http.Request) string {
	return r.Method + " " + hexID.ReplaceAllString(strings.TrimPrefix(r.URL.Path, "/client/v4"), "ID")
}

func caKind(r *http.Request) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return r.Method + " " + kind
}
