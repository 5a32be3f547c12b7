package baddays

import (
	"net/http"
	"strings"
	"time"

	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/providers/world"
)

// eachDNS strikes the first call of each kind.
func eachDNS(f cloudflaresim.Fault) func(*weather) {
	return func(w *weather) {
		w.dns = func(r *http.Request) cloudflaresim.Fault {
			if w.first(dnsKind(r)) {
				return f
			}
			return cloudflaresim.Fault{}
		}
	}
}

// allDNS strikes every request for which is holds, after the first n of them.
func allDNS(n int, is func(*http.Request) bool, f cloudflaresim.Fault) func(*weather) {
	return func(w *weather) {
		w.dns = func(r *http.Request) cloudflaresim.Fault {
			if is(r) && w.after(n) {
				return f
			}
			return cloudflaresim.Fault{}
		}
	}
}

// lockedOut is what follows a breach of the rate limit.
func lockedOut(w *weather) {
	var until time.Time
	w.dns = func(*http.Request) cloudflaresim.Fault {
		w.mu.Lock()
		defer w.mu.Unlock()
		now := w.clock.now()
		if w.calls++; w.calls == 3 {
			until = now.Add(5 * time.Minute)
		}
		if !now.Before(until) {
			return cloudflaresim.Fault{}
		}
		w.struck++
		return cloudflaresim.Fault{Status: http.StatusTooManyRequests, RetryAfter: int(until.Sub(now)/time.Second) + 1}
	}
}

func anyCall(*http.Request) bool { return true }

func writesRecords(r *http.Request) bool {
	return r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/dns_records")
}

func dnsFaults() []fault {
	return []fault{
		{id: "cloudflare/latency", what: "every call takes 3 s longer", bend: allDNS(0, anyCall, cloudflaresim.Fault{Delay: latency})},
		{id: "cloudflare/throttled", what: "each kind of call is throttled once, with Retry-After",
			bend: eachDNS(cloudflaresim.Fault{Status: 429, RetryAfter: 7})},
		{id: "cloudflare/locked-out", what: "the limit is used up: all calls fail for 5 minutes", bend: lockedOut},
		{id: "cloudflare/throttled-silent", what: "each kind of call is throttled once, without it",
			bend: eachDNS(cloudflaresim.Fault{Status: 429})},
		{id: "cloudflare/unavailable", what: "each kind of call fails once, before its effect (503)",
			bend: eachDNS(cloudflaresim.Fault{Status: 503})},
		{id: "cloudflare/cut", what: "each kind of call is cut once, before its effect",
			bend: eachDNS(cloudflaresim.Fault{Drop: true})},
		{id: "cloudflare/lost", what: "each kind of call loses its first answer",
			bend: eachDNS(cloudflaresim.Fault{Lose: true})},
		{id: "cloudflare/garbled", what: "each kind of call gets half of its first answer",
			bend: eachDNS(cloudflaresim.Fault{Garble: true})},
		{id: "cloudflare/half-page", what: "each kind of list lacks half of its first page", bend: func(w *weather) {
			w.dns = func(r *http.Request) cloudflaresim.Fault {
				return cloudflaresim.Fault{HalfPage: r.Method == http.MethodGet && w.first(dnsKind(r))}
			}
		}},
		{id: "cloudflare/lag", what: "what is written is listed 20 s late", bend: func(w *weather) {
			w.dnsLag = lag
			allDNS(0, anyCall, cloudflaresim.Fault{})(w)
		}},
		{id: "cloudflare/lost-lag", what: "answers get lost, what is written is listed 20 s late", bend: func(w *weather) {
			w.dnsLag = lag
			eachDNS(cloudflaresim.Fault{Lose: true})(w)
		}},
		{id: "cloudflare/expired", what: "the API token expires in the middle", code: 9, says: []string{"CLOUDFLARE_API_TOKEN"}, bend: func(w *weather) {
			allDNS(3, anyCall, cloudflaresim.Fault{Status: 401, Code: 1000})(w)
		}},
		{id: "cloudflare/read-only", what: "the API token may not edit records", code: 9, says: []string{"DNS:Edit"},
			bend: allDNS(0, writesRecords, cloudflaresim.Fault{Status: 403, Code: 10000})},
		{id: "cloudflare/quota", what: "the zone may have no more records", code: 8, says: []string{"as many records as its Cloudflare plan allows"},
			bend: allDNS(0, writesRecords, cloudflaresim.Fault{Status: 400, Code: 81045})},
		{id: "cloudflare/pending", what: "the zone is not delegated to Cloudflare yet", code: 8, says: []string{"ada.ns.cloudflare.example"}, bend: func(w *weather) {
			status := func(status string) func(*world.World) {
				return func(world *world.World) {
					for _, zone := range world.Zones() {
						world.DNS().SetZoneStatus(zone, status)
					}
				}
			}
			w.begin = func(world *world.World) error { status("pending")(world); return nil }
			w.lift = status("active")
			allDNS(0, anyCall, cloudflaresim.Fault{})(w)
		}},
	}
}
