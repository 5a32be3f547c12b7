package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"mailform/plan"
	"mailform/providers/alicloud"
)

// readOnly makes every provider refuse whatever has an effect. What is left can
// declare, observe and plan.
func (s *Session) readOnly() {
	for i, p := range s.Providers {
		r := readOnly{p}
		s.Providers[i] = r
		if m, ok := p.(plan.Merger); ok {
			s.Providers[i] = readOnlyMerger{r, m}
		}
		if sch, ok := p.(plan.Scheduler); ok {
			s.Providers[i] = readOnlyScheduler{r, sch}
		}
	}
}

// transport carries the requests of a provider. In a session that only reads it
// lets through nothing that may has not found harmless, whatever the provider
// was brought to send.
func (s *Session) transport(roots *x509.CertPool, may func(*http.Request) bool) http.RoundTripper {
	if !s.opts.ReadOnly {
		return s.env.Transport // nil lets the provider make its own
	}
	under := s.env.Transport
	if under == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		t.ResponseHeaderTimeout = 30 * time.Second
		under = t
	}
	return gate{under, may}
}

type gate struct {
	http.RoundTripper
	may func(*http.Request) bool
}

func (g gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if !g.may(r) {
		return nil, refuse(plan.Op{Title: r.Method + " " + r.URL.Host + r.URL.Path})
	}
	return g.RoundTripper.RoundTrip(r)
}

// gets is true for requests that only ask, where the method says so.
func gets(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// looksAtCloud is true for the cloud's actions that plan and drift need. The
// method says nothing there. Parameters stand in the URL and in a form.
func looksAtCloud(r *http.Request) bool {
	actions := r.URL.Query()["Action"]
	if len(actions) == 0 && strings.HasPrefix(r.Header.Get("Authorization"), "OSS4-HMAC-SHA256 ") {
		return gets(r) // object storage has methods in place of actions
	}
	if r.ContentLength != 0 {
		if r.GetBody == nil {
			return false
		}
		body, err := r.GetBody()
		if err != nil {
			return false
		}
		defer body.Close()
		const longest = 1 << 20
		text, err := io.ReadAll(io.LimitReader(body, longest))
		form, perr := url.ParseQuery(string(text))
		if err != nil || perr != nil || len(text) == longest {
			return false
		}
		actions = append(actions, form["Action"]...)
	}
	return len(actions) == 1 && slices.ContainsFunc(alicloud.Permissions(true), func(name string) bool {
		_, known, _ := strings.Cut(name, ":")
		return known == actions[0]
	})
}

type readOnly struct{ plan.Provider }

type readOnlyMerger struct {
	readOnly
	plan.Merger
}

type readOnlyScheduler struct {
	readOnly
	plan.Scheduler
}

func (readOnly) Do(_ context.Context, op plan.Op, _ plan.Token, _ plan.Progress) (plan.Result, error) {
	return plan.Result{}, refuse(op)
}

func (readOnly) Resolve(_ context.Context, op plan.Op, _ plan.Token) (plan.Verdict, plan.Result, error) {
	return plan.Undecidable, plan.Result{}, refuse(op)
}

func refuse(op plan.Op) error {
	return &plan.Error{Class: plan.ErrBlocked, Code: "MF4020", Step: op.Title,
		Got: "this command only reads", Fix: "this is a defect of mailform, please report it"}
}
