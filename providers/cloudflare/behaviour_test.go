package cloudflare

import (
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/providers/internal/vendortest"
	"mailform/specs"
)

// behaviours are the vendor's behaviours that a naive tool gets wrong, by their number
// on the page that gathers them, each with the tests that hold it. sim/ stands for the
// simulator's package.
var behaviours = map[string][]string{
	"C1":  {"TestEqualRecordsAreAdopted", "TestWorldMovedSincePlan", "TestRefusalsSayWhatToDo", "TestLateLists", "sim/TestConflicts"},
	"C2":  {"TestRefusalsSayWhatToDo", "sim/TestValidation"},
	"C3":  {"TestNothingOfMailIsProxied", "sim/TestValidation"},
	"C4":  {"TestParseTXT", "TestTXTRoundTrip", "sim/TestStoredForm"},
	"C5":  {"TestCanonicalName", "sim/TestStoredForm"},
	"C6":  {"TestStructuredContent", "TestEverythingADomainCanPublish"},
	"C7":  {"TestMarks", "TestMarkRoundTrip", "TestLongNamesGetHashedMarks", "sim/TestValidation"},
	"C8":  {"TestManyRecordsAreSplit", "TestFaultsOfTransactions", "sim/TestBatch"},
	"C9":  {"TestRateLimitHeadersAreObeyed", "TestRetryAfter", "sim/TestRateLimit"},
	"C10": {"TestLongListsArePaged", "TestHalfAPage", "sim/TestListing"},
	"C11": {"TestZoneThatIsNotServed", "TestZoneIDChooses"},
	"C12": {"TestQuota", "TestQuotaIsCheckedBeforeApply", "sim/TestUsage"},
	"C13": {"TestNothingForeignIsEverChanged", "TestWhatIsInTheWayIsNotTouched"},
}

// TestEveryBehaviourHasATest: each of them names tests that are there, and none of the
// page's is left out.
func TestEveryBehaviourHasATest(t *testing.T) {
	vendortest.Behaviours(t, "C", behaviours, map[string]string{"": ".", "sim/": "cloudflaresim"})
}

// TestRefusalsSayWhatToDo: also of those whose code hides one level down.
func TestRefusalsSayWhatToDo(t *testing.T) {
	hidden := func(code int) []apiMessage {
		return []apiMessage{{Code: 1004, Message: "DNS Validation Error", Chain: []apiMessage{{Code: code, Message: "…"}}}}
	}
	for _, c := range []struct {
		messages []apiMessage
		class    plan.ErrorClass
		fix      string
	}{
		{[]apiMessage{{Code: 81053}}, plan.ErrBlocked, "a name cannot have a CNAME and an address"},
		{[]apiMessage{{Code: 81054}}, plan.ErrBlocked, "a name cannot have a CNAME and an address"},
		{[]apiMessage{{Code: 81056}}, plan.ErrFatal, "another name server is responsible"},
		{[]apiMessage{{Code: 81057}}, plan.ErrStale, "is already there"},
		{[]apiMessage{{Code: 81058}}, plan.ErrStale, "is already there"},
		{[]apiMessage{{Code: 81044}}, plan.ErrStale, "was deleted since the plan"},
		{[]apiMessage{{Code: 81045}}, plan.ErrFatal, "as many records as its Cloudflare plan allows"},
		{hidden(9000), plan.ErrFatal, "is not one that Cloudflare takes"},
		{hidden(9004), plan.ErrFatal, "cannot be proxied"},
		{hidden(9005), plan.ErrFatal, "address is of the wrong kind"},
		{hidden(9007), plan.ErrFatal, "does not take what the record says"},
		{hidden(9021), plan.ErrFatal, "between 60 and 86,400 seconds"},
		{hidden(9101), plan.ErrFatal, "part of the record is missing"},
		{hidden(9313), plan.ErrFatal, "too long for the zone's plan"},
	} {
		e := classify(400, c.messages, true, nil)
		if e.Class != c.class || !strings.Contains(e.Fix, c.fix) || e.Code == "" {
			t.Errorf("%v: class %q, %s: %s", c.messages, e.Class, e.Code, e.Fix)
		}
	}
}

// TestNothingOfMailIsProxied: a proxy would answer on 443 only, and hide the address
// that mail comes from; so it is also of a zone whose web names are.
func TestNothingOfMailIsProxied(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	s := testSpec()
	s.Zones = []*specs.Zone{{Name: "acme.example", Web: []specs.Web{{Name: "www", Host: "mx1", Proxied: true}}}}
	w.apply(s, how{})
	proxied := 0
	for _, r := range w.sim.Records("acme.example") {
		if r.Proxied != (r.Name == "www.acme.example") {
			t.Errorf("%s %s: proxied %v", r.Type, r.Name, r.Proxied)
		}
		if r.Proxied {
			proxied++
			if r.TTL != 1 {
				t.Errorf("%s has the TTL %d, which the vendor makes automatic", r.Name, r.TTL)
			}
		}
	}
	if proxied == 0 {
		t.Error("the web name is not proxied")
	}
}
