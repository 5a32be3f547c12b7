package acme

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/acme/acmesim"
	"mailform/providers/cloudflare/cloudflaresim"
)

// Each way in which the DNS can be wrong says what a person must do, and the CA,
// which counts failed validations, is not asked.
func TestWrongDNSSaysWhatToDo(t *testing.T) {
	const name = "_acme-challenge.mail"
	for _, c := range []struct {
		what     string
		zone     string   // that is delegated
		ns       []string // and to whom
		records  []string // what they show
		got, fix string
	}{
		{"missing, at another provider", "acme.example.", []string{"ns1.oldhoster.example."}, nil,
			"no TXT record", "acme.example is served by ns1.oldhoster.example, and not only by Cloudflare"},
		{"half of the servers are another provider's", "acme.example.", []string{"ada.ns.cloudflare.com.", "ns1.oldhoster.example."}, nil,
			"no TXT record", "served by ada.ns.cloudflare.com, ns1.oldhoster.example"},
		{"stale", "acme.example.", []string{"ada.ns.cloudflare.com."}, []string{name + ` 60 IN TXT "of last year"`},
			"other TXT records (1)", "Cloudflare's servers (ada.ns.cloudflare.com) do not show what was written"},
		{"the host's name is a zone of its own", "mail.acme.example.", []string{"ns.elsewhere.example."}, nil,
			"no TXT record", "mail.acme.example is served by ns.elsewhere.example"},
		{"a CNAME", "acme.example.", []string{"ada.ns.cloudflare.com."}, []string{name + " 60 IN CNAME acme.elsewhere.example."},
			"a CNAME to acme.elsewhere.example", "a CNAME record at _acme-challenge.mail.acme.example leads to acme.elsewhere.example, where mailform cannot write: delete it"},
		{"not delegated", "", nil, nil, "no such host", "no name servers were found for mail.acme.example"},
	} {
		t.Run(c.what, func(t *testing.T) {
			asked := false
			w := newWorld(t, acmesim.Config{Intercept: func(_ http.ResponseWriter, r *http.Request) bool {
				asked = asked || strings.HasPrefix(r.URL.Path, "/chalZ/")
				return false
			}})
			sim := cloudflaresim.New(cloudflaresim.Config{Static: []cloudflaresim.StaticZone{{Origin: "acme.example", Records: c.records}}})
			d, err := sim.ListenDNS("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			host, port, err := net.SplitHostPort(d.Addr())
			if err != nil {
				t.Fatal(err)
			}
			w.p = w.provider(func(c *Config) { c.Resolver = "" })
			none := &net.DNSError{Err: "no such host", IsNotFound: true}
			v := w.p.visible
			v.port = port
			v.lookupNS = func(_ context.Context, zone string) ([]*net.NS, error) {
				if zone != c.zone {
					return nil, none
				}
				var out []*net.NS
				for _, n := range c.ns {
					out = append(out, &net.NS{Host: n})
				}
				return out, nil
			}
			v.lookupHost = func(context.Context, string) ([]string, error) { return []string{host}, nil }
			v.lookupTXT = func(context.Context, string) ([]string, error) { return nil, none }
			e := asError(t, w.run(w.plan(testSpec())))
			if e.Code != "MF5310" || e.Class != plan.ErrFatal || !strings.Contains(e.Got, c.got) || !strings.Contains(e.Fix, c.fix) {
				t.Errorf("got %s\nfix %s", e.Got, e.Fix)
			}
			if asked {
				t.Error("the CA was asked to look")
			}
			if left := w.sim.Records("acme.example"); len(left) != 0 {
				t.Errorf("challenge records are left: %v", left)
			}
		})
	}
}

// What only the CA sees: its words are passed on with what to do, and the run does
// not ask it again.
func TestFailedValidations(t *testing.T) {
	for kind, fix := range map[string]string{
		"caa": "add its name to caa in the zone block", "dns": "DNSSEC", "unauthorized": "name servers", "incorrectResponse": "nobody else manages",
	} {
		t.Run(kind, func(t *testing.T) {
			challenges := 0
			w := newWorld(t, acmesim.Config{RejectNonces: -1, Intercept: func(rw http.ResponseWriter, r *http.Request) bool {
				switch {
				case strings.HasPrefix(r.URL.Path, "/chalZ/"):
					challenges++
					rw.Header().Set("Content-Type", "application/json")
					rw.Write([]byte(`{"type":"dns-01","status":"processing","url":"https://x/","token":"t"}`))
					return true
				case challenges > 0 && strings.HasPrefix(r.URL.Path, "/authZ/"):
					rw.Header().Set("Content-Type", "application/json")
					rw.Write([]byte(`{"status":"invalid","identifier":{"type":"dns","value":"mail.acme.example"},"challenges":[{"type":"dns-01","status":"invalid","token":"t",
						"error":{"type":"urn:ietf:params:acme:error:` + kind + `","detail":"the CA's own words","status":403}}]}`))
					return true
				}
				return false
			}})
			e := asError(t, w.run(w.plan(testSpec())))
			if e.Class != plan.ErrFatal || !strings.Contains(e.Got, "the CA's own words") || !strings.Contains(e.Got, "mail.acme.example") || !strings.Contains(e.Fix, fix) ||
				!strings.Contains(e.Fix, "does not try again") || challenges != 1 {
				t.Errorf("class %q after %d challenges: %v\n%s", e.Class, challenges, e, e.Fix)
			}
		})
	}
}

// A CA that goes away in the middle of an order is asked again, and the order is
// the same one.
func TestCADownInTheMiddle(t *testing.T) {
	down := true
	w := newWorld(t, acmesim.Config{RejectNonces: -1, Intercept: func(rw http.ResponseWriter, r *http.Request) bool {
		if down && strings.HasPrefix(r.URL.Path, "/finalize-order/") {
			panic(http.ErrAbortHandler)
		}
		return false
	}})
	e := asError(t, w.run(w.plan(testSpec())))
	if e.Class != plan.ErrTransient {
		t.Errorf("class %q: %v", e.Class, e)
	}
	down = false
	w.apply(testSpec())
	w.verify()
	if got := w.ca.Counts(); got.Orders != 1 || got.Certificates != 1 {
		t.Errorf("%+v", got)
	}
}

// Orders and authorizations that are of no use any more are replaced by a new one.
func TestDeadOrders(t *testing.T) {
	for what, body := range map[string]string{
		"expired":          `{"status":"pending","expires":"2020-01-01T00:00:00Z","identifiers":[{"type":"dns","value":"mail.acme.example"}]}`,
		"invalid":          `{"status":"invalid","identifiers":[{"type":"dns","value":"mail.acme.example"}]}`,
		"other names":      `{"status":"ready","identifiers":[{"type":"dns","value":"www.acme.example"}]}`,
		"an expired proof": `{"status":"pending","identifiers":[{"type":"dns","value":"mail.acme.example"}],"authorizations":["https://HOST/authZ/old"]}`,
		"unknown":          "",
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, acmesim.Config{RejectNonces: -1, Intercept: func(rw http.ResponseWriter, r *http.Request) bool {
				rw.Header().Set("Content-Type", "application/json")
				switch r.URL.Path {
				case "/my-order/old":
					if body == "" {
						rw.WriteHeader(404)
						rw.Write([]byte(`{"type":"urn:ietf:params:acme:error:malformed","detail":"no such order","status":404}`))
						return true
					}
					rw.Write([]byte(strings.ReplaceAll(body, "HOST", r.Host)))
				case "/authZ/old":
					rw.Write([]byte(`{"status":"expired","identifier":{"type":"dns","value":"mail.acme.example"},"challenges":[]}`))
				default:
					return false
				}
				return true
			}})
			directory := w.ca.DirectoryURL()
			if err := w.hosts.KeepOrder(t.Context(), "mx1", "mx1", directory, strings.TrimSuffix(directory, "/dir")+"/my-order/old"); err != nil {
				t.Fatal(err)
			}
			w.apply(testSpec())
			w.verify()
			if got := w.ca.Counts(); got.Orders != 1 || got.Certificates != 1 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A storm of refused nonces passes.
func TestNonceStorm(t *testing.T) {
	left := 4
	w := newWorld(t, acmesim.Config{RejectNonces: -1, Intercept: func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/order-plz" || left == 0 {
			return false
		}
		left--
		rw.Header().Set("Content-Type", "application/problem+json")
		rw.WriteHeader(400)
		rw.Write([]byte(`{"type":"urn:ietf:params:acme:error:badNonce","detail":"try again","status":400}`))
		return true
	}})
	w.apply(testSpec())
	w.verify()
	if left != 0 {
		t.Errorf("%d are left", left)
	}
}
