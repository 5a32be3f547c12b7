package acme

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/acme/acmesim"
)

const (
	testKeyID = "key-1"
	testHMAC  = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
)

// A CA that binds accounts gets the binding once; renewals do without the key.
func TestExternalAccountBinding(t *testing.T) {
	w := newWorld(t, acmesim.Config{AccountKeys: map[string]string{testKeyID: testHMAC}})
	e := asError(t, w.run(w.plan(testSpec())))
	if e.Class != plan.ErrCredentials || e.Code != "MF5313" || !strings.Contains(e.Fix, "MAILFORM_ACME_EAB_KID") {
		t.Errorf("without EAB: %v\n%s", e, e.Fix)
	}

	for name, eab := range map[string]EAB{
		"another key":        {testKeyID, strings.ToLower(testHMAC)},
		"another identifier": {"key-2", testHMAC},
	} {
		w.p = w.provider(func(c *Config) { c.EAB = eab })
		err := w.run(w.plan(testSpec()))
		e := asError(t, err)
		if e.Class != plan.ErrCredentials || e.Code != "MF5314" || !strings.Contains(e.Fix, eab.KeyID) {
			t.Errorf("%s: %v\n%s", name, e, e.Fix)
		}
		if all := fmt.Sprintf("%v %+v %#v", err, e, e); strings.Contains(all, eab.HMAC) {
			t.Errorf("%s: the key is in %s", name, all)
		}
	}

	w.p = w.provider(func(c *Config) { c.EAB = EAB{testKeyID, testHMAC} })
	p := w.plan(testSpec())
	if strings.Contains(string(plan.Encode(p)), testHMAC) {
		t.Error("the key is in the plan")
	}
	if err := w.run(p); err != nil {
		t.Fatal(err)
	}
	w.verify()

	// The account is bound: CI, which renews, needs no key.
	w.p = w.provider(nil)
	w.now = w.hosts.cert.NotAfter.Add(-12 * day)
	w.apply(testSpec())
	w.verify()
	if got := w.ca.Counts(); got.Accounts != 1 || got.Certificates != 2 {
		t.Errorf("%+v", got)
	}
}

// A CA that wants no binding takes an account with one as well.
func TestBindingThatIsNotWanted(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.p = w.provider(func(c *Config) { c.EAB = EAB{testKeyID, testHMAC} })
	if err := w.run(w.plan(testSpec())); err != nil {
		t.Fatal(err)
	}
	w.verify()
}

func TestBindingThatCannotBe(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	for _, eab := range []EAB{{"", testHMAC}, {testKeyID, ""}, {testKeyID, "not base64!"}, {testKeyID, "c2hvcnQ"}} {
		_, err := New(Config{Challenger: w.dns, Hosts: w.hosts, EAB: eab})
		var e *plan.Error
		if !errors.As(err, &e) || e.Class != plan.ErrCredentials || eab.HMAC != "" && strings.Contains(e.Error()+e.Fix, eab.HMAC) {
			t.Errorf("%q: %v", eab.KeyID, err)
		}
	}
	if _, err := New(Config{Challenger: w.dns, Hosts: w.hosts, EAB: EAB{testKeyID, testHMAC + "="}}); err != nil {
		t.Errorf("with padding: %v", err)
	}
}

func TestBindingIsNotPrinted(t *testing.T) {
	e := EAB{testKeyID, testHMAC}
	doc, err := json.Marshal(map[string]any{"eab": e, "pointer": &e})
	if all := fmt.Sprintf("%v %+v %#v %s %v %s", e, e, e, e, &e, doc); err != nil || strings.Contains(all, testHMAC) {
		t.Errorf("%v %s", err, all)
	}
}
