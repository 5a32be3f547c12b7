package baddays

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
)

// answer is a way to answer a request in the CA's place.
type answer func(w http.ResponseWriter, r *http.Request, api http.Handler)

// eachCA strikes the first request of each kind.
func eachCA(a answer) func(*weather) {
	return func(w *weather) {
		w.ca = func(rw http.ResponseWriter, r *http.Request, api http.Handler) bool {
			if !w.first(caKind(r)) {
				return false
			}
			a(rw, r, api)
			return true
		}
	}
}

// problem is an answer of the CA that refuses (RFC 7807).
func problem(status int, kind, detail string, header map[string]string) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","detail":%q,"status":%d}`, kind, detail, status)
	}
}

// lost carries the request out and cuts the connection.
func lost(_ http.ResponseWriter, r *http.Request, api http.Handler) {
	api.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// cut does nothing and cuts the connection.
func cut(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// badNonce refuses a request for its nonce and gives another one (RFC 8555 6.5).
func badNonce(w http.ResponseWriter, r *http.Request, api http.Handler) {
	fresh := httptest.NewRecorder()
	head := httptest.NewRequest(http.MethodHead, "/nonce-plz", nil)
	head.Host = r.Host
	api.ServeHTTP(fresh, head)
	problem(http.StatusBadRequest, "badNonce", "JWS has an invalid anti-replay nonce", map[string]string{
		"Replay-Nonce": fresh.Header().Get("Replay-Nonce"),
	})(w, r, api)
}

func caFaults() []fault {
	return []fault{
		{id: "acme/latency", what: "every call takes 3 s longer", bend: func(w *weather) {
			w.ca = func(http.ResponseWriter, *http.Request, http.Handler) bool {
				w.hit()
				w.clock.rest(latency)
				return false
			}
		}},
		{id: "acme/throttled", what: "each kind of call is throttled once, with Retry-After",
			bend: eachCA(problem(http.StatusTooManyRequests, "rateLimited", "too many requests", map[string]string{"Retry-After": "20"}))},
		{id: "acme/throttled-silent", what: "an order is throttled, without Retry-After", bend: func(w *weather) {
			throttled := problem(http.StatusTooManyRequests, "rateLimited", "too many requests", nil)
			w.ca = func(rw http.ResponseWriter, r *http.Request, api http.Handler) bool {
				if !strings.HasPrefix(r.URL.Path, "/order-plz") || !w.first("order") {
					return false
				}
				throttled(rw, r, api)
				return true
			}
		}},
		{id: "acme/unavailable", what: "each kind of call fails once, before its effect (503)", bend: eachCA(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "<html><body><h1>The service is down for maintenance</h1></body></html>")
		})},
		{id: "acme/cut", what: "each kind of call is cut once, before its effect", bend: eachCA(cut)},
		{id: "acme/lost", what: "each kind of call loses its first answer", bend: eachCA(lost)},
		{id: "acme/nonces", what: "two of three nonces are refused", bend: func(w *weather) {
			n := 0
			w.ca = func(rw http.ResponseWriter, r *http.Request, api http.Handler) bool {
				if r.Method != http.MethodPost {
					return false
				}
				w.mu.Lock()
				n++
				bad := n%3 != 0
				w.mu.Unlock()
				if !bad {
					return false
				}
				w.hit()
				badNonce(rw, r, api)
				return true
			}
		}},
		{id: "acme/rate-limit", what: "it has issued too many certificates for these names", code: 10, says: []string{"5 certificates a week"}, bend: func(w *weather) {
			limited := problem(http.StatusTooManyRequests, "rateLimited",
				"too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s", map[string]string{"Retry-After": "121000"})
			w.ca = func(rw http.ResponseWriter, r *http.Request, api http.Handler) bool {
				if !strings.HasPrefix(r.URL.Path, "/order") {
					return false
				}
				w.hit()
				limited(rw, r, api)
				return true
			}
		}},
		{id: "acme/down", what: "it does not answer at all", code: 8, says: []string{"same command again"}, bend: func(w *weather) {
			w.ca = func(http.ResponseWriter, *http.Request, http.Handler) bool {
				w.hit()
				panic(http.ErrAbortHandler)
			}
		}},
	}
}
