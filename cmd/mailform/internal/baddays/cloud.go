package baddays

import (
	"regexp"
	"strings"

	"mailform/providers/alicloud/alicloudsim"
)

// each strikes the first call of each action.
func each(f alicloudsim.Fault) func(*weather) {
	return func(w *weather) {
		w.cloud = func(c alicloudsim.Call) alicloudsim.Fault {
			if w.first(c.Action) {
				return f
			}
			return alicloudsim.Fault{}
		}
	}
}

// refused strikes every call of an action, "" for all, after the first n calls.
func refused(action string, n, status int, code, message string) func(*weather) {
	return func(w *weather) {
		w.cloud = func(c alicloudsim.Call) alicloudsim.Fault {
			if action != "" && c.Action != action || !w.after(n) {
				return alicloudsim.Fault{}
			}
			return alicloudsim.Fault{Status: status, Code: code, Message: message}
		}
	}
}

func cloudFaults() []fault {
	return []fault{
		{id: "alicloud/latency", what: "every call takes 3 s longer", bend: func(w *weather) { w.latency = latency }},
		{id: "alicloud/throttled", what: "each kind of call is throttled once, with Retry-After",
			bend: each(alicloudsim.Fault{Status: 429, Code: "Throttling.User", Message: "Request was denied due to user flow control.", RetryAfter: 7})},
		{id: "alicloud/throttled-silent", what: "each kind of call is throttled once, without it",
			bend: each(alicloudsim.Fault{Status: 400, Code: "Throttling", Message: "Request was denied due to request throttling."})},
		{id: "alicloud/unavailable", what: "each kind of call fails once, before its effect (503)",
			bend: each(alicloudsim.Fault{Status: 503, Code: "ServiceUnavailable", Message: "The request has failed due to a temporary failure of the server."})},
		{id: "alicloud/cut", what: "each kind of call is cut once, before its effect",
			bend: each(alicloudsim.Fault{Drop: true})},
		{id: "alicloud/lost", what: "each kind of call loses its first answer",
			bend: each(alicloudsim.Fault{After: true, Drop: true})},
		{id: "alicloud/garbled", what: "each kind of call gets half of its first answer",
			bend: each(alicloudsim.Fault{After: true, Body: `{"RequestId":"3F1B2C4D-7A3B-5C1D","Vpc`})},
		{id: "alicloud/half-page", what: "each kind of list lacks half of its first page", bend: func(w *weather) {
			w.cloud = func(c alicloudsim.Call) alicloudsim.Fault {
				return alicloudsim.Fault{HalfPage: c.ReadOnly() && w.first(c.Action)}
			}
		}},
		{id: "alicloud/lag", what: "what is new is listed 20 s late", bend: func(w *weather) {
			w.cloudLag = lag
			w.cloud = counted(w)
		}},
		{id: "alicloud/lost-lag", what: "answers get lost, and what is new is listed 20 s late", bend: func(w *weather) {
			w.cloudLag = lag
			each(alicloudsim.Fault{After: true, Drop: true})(w)
		}},
		{id: "alicloud/expired", what: "the credentials expire in the middle", code: 9, says: []string{"expired"},
			bend: refused("", 25, 403, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")},
		{id: "alicloud/revoked", what: "the access key is disabled", code: 9, says: []string{"ALIBABA_CLOUD_ACCESS_KEY_ID"},
			bend: refused("", 0, 403, "InvalidAccessKeyId.Inactive", "Specified access key is disabled.")},
		{id: "alicloud/forbidden", what: "a permission is missing", code: 9, says: []string{"allow vpc:AllocateEipAddress"},
			bend: refused("AllocateEipAddress", 0, 403, "Forbidden.RAM", "User not authorized to operate on the specified resource, or this API doesn't support RAM.")},
		{id: "alicloud/quota", what: "no more public addresses are allowed", code: 8, says: []string{"elastic IP addresses", "Quota Center"},
			bend: refused("AllocateEipAddress", 0, 400, "QuotaExceeded.Eip", "Elastic IP address quota exceeded")},
		{id: "alicloud/balance", what: "the account has too little money", code: 8, says: []string{"balance", "top it up"},
			bend: refused("RunInstances", 0, 403, "InvalidAccountStatus.NotEnoughBalance", "Your account does not have enough balance.")},
		{id: "alicloud/sold-out-zone", what: "the instance type is sold out in a zone", alike: anyZone, bend: func(w *weather) {
			w.noStock = func(zone, _ string) bool {
				if !strings.HasSuffix(zone, "-b") {
					return false
				}
				w.hit()
				return true
			}
		}},
		{id: "alicloud/sold-out", what: "the instance type is sold out everywhere", code: 8, says: []string{"zone"}, alike: anyZone, bend: func(w *weather) {
			w.noStock = func(string, string) bool { w.hit(); return true }
		}},
		listedFault(),
	}
}

// counted counts calls, for faults that strike by themselves.
func counted(w *weather) func(alicloudsim.Call) alicloudsim.Fault {
	return func(alicloudsim.Call) alicloudsim.Fault {
		w.hit()
		return alicloudsim.Fault{}
	}
}

var (
	zoneID  = regexp.MustCompile(`\b([a-z]+-[a-z0-9-]+)-[bcd]\b`)
	network = regexp.MustCompile(`\b10\.77\.\d+\.0/24\b`) // each vSwitch of a host's network has one
)

// anyZone makes worlds alike whose instances are in different zones of a region. On
// the way to a zone that sells them an empty vSwitch is made in each.
func anyZone(lines []string) []string {
	var out []string
	for _, l := range lines {
		if !strings.HasPrefix(l, "cloud ever made vsw ") {
			out = append(out, network.ReplaceAllString(zoneID.ReplaceAllString(l, "$1-ZONE"), "10.77.N.0/24"))
		}
	}
	return out
}
