package session

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"mailform/plan"
)

// writer is a provider that tells when it is asked to write.
type writer struct {
	plan.Provider
	wrote bool
}

func (w *writer) Do(context.Context, plan.Op, plan.Token, plan.Progress) (plan.Result, error) {
	w.wrote = true
	return plan.Result{}, nil
}

func (w *writer) Resolve(context.Context, plan.Op, plan.Token) (plan.Verdict, plan.Result, error) {
	w.wrote = true
	return plan.Done, plan.Result{}, nil
}

type joining struct{ *writer }

func (joining) Merge(r plan.Resource, _ plan.Object) (plan.Resource, bool) { return r, true }

// A session that only reads cannot be made to write, and plans like any other.
func TestReadOnly(t *testing.T) {
	var one, two writer
	s := &Session{Providers: []plan.Provider{&one, joining{&two}}}
	s.readOnly()
	for _, p := range s.Providers {
		if _, err := p.Do(t.Context(), plan.Op{Title: "write"}, "", nil); plan.ClassOf(err) != plan.ErrBlocked {
			t.Errorf("Do: %v", err)
		}
		if verdict, _, err := p.Resolve(t.Context(), plan.Op{Title: "write"}, ""); err == nil || verdict != plan.Undecidable {
			t.Errorf("Resolve: %v, %v", verdict, err)
		}
	}
	if one.wrote || two.wrote {
		t.Error("a provider was asked to write")
	}
	if _, ok := s.Providers[0].(plan.Merger); ok {
		t.Error("a provider that cannot merge now can")
	}
	if _, ok := s.Providers[1].(plan.Merger); !ok {
		t.Error("a provider that can merge no longer can")
	}
}

// What carries a reading session's requests lets no other through, whatever a
// provider was brought to send.
func TestGate(t *testing.T) {
	sent := 0
	under := roundTrip(func(r *http.Request) (*http.Response, error) {
		sent++
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
	})
	s := &Session{opts: Options{ReadOnly: true}, env: Env{Transport: under}}
	for _, tc := range []struct {
		may    func(*http.Request) bool
		method string
		url    string
		form   string
		pass   bool
	}{
		{gets, "GET", "https://dns.example/zones", "", true},
		{gets, "POST", "https://dns.example/zones/1/dns_records", "", false},
		{gets, "DELETE", "https://dns.example/zones/1/dns_records/2", "", false},
		{looksAtCloud, "POST", "https://ecs.example/?Action=DescribeInstances", "", true},
		{looksAtCloud, "GET", "https://ecs.example/?Action=DeleteInstance", "", false},
		{looksAtCloud, "GET", "https://ecs.example/?Action=DescribeInstances&Action=DeleteInstance", "", false},
		{looksAtCloud, "GET", "https://ecs.example/", "", false},
		{signedForOSS(looksAtCloud), "GET", "https://oss.example/?bucketInfo", "", true},
		{signedForOSS(looksAtCloud), "PUT", "https://oss.example/", "", false},
		{signedForOSS(looksAtCloud), "DELETE", "https://oss.example/", "", false},
		{signedForOSS(looksAtCloud), "GET", "https://ecs.example/?Action=DeleteInstance", "", false},
		{looksAtCloud, "POST", "https://ecs.example/?Action=DescribeInstances", "PageSize=100", true},
		{looksAtCloud, "POST", "https://ecs.example/", "Action=DescribeInstances", true},
		{looksAtCloud, "POST", "https://ecs.example/?Action=DescribeInstances", "Action=DeleteInstance", false},
	} {
		before := sent
		r, err := http.NewRequest(tc.method, tc.url, strings.NewReader(tc.form))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.transport(nil, tc.may).RoundTrip(r)
		if passed := sent > before; passed != tc.pass || (err == nil) != tc.pass {
			t.Errorf("%s %s: sent %v, %v", tc.method, tc.url, passed, err)
		}
	}
	open := &Session{env: Env{Transport: under}}
	r, _ := http.NewRequest("POST", "https://dns.example/zones", nil)
	if _, err := open.transport(nil, gets).RoundTrip(r); err != nil {
		t.Errorf("a session that may write: %v", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// signedForOSS asks about a request to object storage.
func signedForOSS(looks func(*http.Request) bool) func(*http.Request) bool {
	return func(r *http.Request) bool {
		r.Header.Set("Authorization", "OSS4-HMAC-SHA256 Credential=id/20261122/cn-hongkong/oss/aliyun_v4_request,Signature=0")
		return looks(r)
	}
}
