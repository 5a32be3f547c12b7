package alicloud

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
)

// TestHalfAPageIsNeverAbsence gives half a page in each listing, once and for ever:
// what is missing from it must not look deleted.
func TestHalfAPageIsNeverAbsence(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	spec := testSpec(withDisk)
	c.apply(p, spec)
	for _, action := range []string{"DescribeVpcs", "DescribeKeyPairs", "DescribeInstances", "DescribeEipAddresses", "DescribeSecurityGroups",
		"DescribeSecurityGroupAttribute", "DescribeDisks", "DescribeAutoSnapshotPolicyEx"} {
		for _, forever := range []bool{false, true} {
			var broken atomic.Int64 // requests that were given up may still be asking
			c.inject(func(call alicloudsim.Call) alicloudsim.Fault {
				if call.Action == action {
					if broken.Add(1) == 1 || forever {
						return alicloudsim.Fault{HalfPage: true}
					}
				}
				return alicloudsim.Fault{}
			})
			desired, _ := p.Declare(spec)
			seen, err := p.Observe(t.Context(), plan.Scope{Stack: "acme-mail", Desired: desired})
			switch {
			case err != nil && plan.ClassOf(err) != plan.ErrTransient:
				t.Errorf("%s, for ever %v: class %q: %v", action, forever, plan.ClassOf(err), err)
			case err == nil && len(seen.Objects) != 10:
				t.Errorf("%s, for ever %v: %d objects and no error", action, forever, len(seen.Objects))
			}
			if broken.Load() == 0 {
				t.Errorf("%s was not called", action)
			}
		}
	}
}

// TestAnIndexThatLagsBehind: tags that were set are found 45 seconds later.
func TestAnIndexThatLagsBehind(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.Now, cfg.Lag = func() time.Time { return now }, 45*time.Second
		soldIn("ecs.g7.large b")(cfg)
	})
	p := c.provider(func(cfg *Config) {
		cfg.Now = func() time.Time { return now }
		cfg.Sleep = func(ctx context.Context, d time.Duration) error { now = now.Add(d); return ctx.Err() }
	})
	if _, err := walk(p, planFor(t, p, testSpec(withDisk)), 0); err != nil {
		t.Fatal(err)
	}
	if n := len(c.sim.Inventory()); n != 8 || len(c.machines) != 1 {
		t.Errorf("there are %v", c.sim.Inventory())
	}
	now = now.Add(45 * time.Second)
	if left := pending(planFor(t, p, testSpec(withDisk))); len(left) > 0 {
		t.Errorf("plan: %v", left)
	}
}

// TestRefusalsInPlainWords holds that whoever is refused reads what to do.
func TestRefusalsInPlainWords(t *testing.T) {
	for _, tc := range []struct {
		action, code string
		class        plan.ErrorClass
		ours, fix    string
	}{
		{"RunInstances", "QuotaExceed.AfterpayInstance", plan.ErrFatal, codeQuota, "no more pay-as-you-go instances"},
		{"RunInstances", "QuotaExceed.ElasticQuota", plan.ErrFatal, codeQuota, "Quota Center"},
		{"CreateDisk", "QuotaExceed.PostPaidDisk", plan.ErrFatal, codeQuota, "no more disks"},
		{"AttachDisk", "InstanceDiskLimitExceeded", plan.ErrFatal, codeQuota, "disks in one instance"},
		{"CreateSecurityGroup", "QuotaExceed.SecurityGroup", plan.ErrFatal, codeQuota, "no more security groups"},
		{"AuthorizeSecurityGroup", "AuthorizationLimitExceed", plan.ErrFatal, codeQuota, "rules in a security group"},
		{"CreateVpc", "QuotaExceeded.Vpc", plan.ErrFatal, codeQuota, "no more VPCs"},
		{"AllocateEipAddress", "QuotaExceeded.Eip", plan.ErrFatal, codeQuota, "no more elastic IP addresses"},
		{"CreateDisk", "QuotaExceed.SomethingNew", plan.ErrFatal, codeQuota, "no more of these"},
		{"RunInstances", "Account.Arrearage", plan.ErrFatal, codeBalance, "owes money"},
		{"RunInstances", "InvalidAccountStatus.NotEnoughBalance", plan.ErrFatal, codeBalance, "top it up"},
		{"AllocateEipAddress", "InsufficientBalance.Eip", plan.ErrFatal, codeBalance, "top it up"},
		{"RunInstances", "PaymentMethodNotFound", plan.ErrFatal, codeBalance, "Payment Method"},
		{"CreateDisk", "Forbidden.RAM", plan.ErrCredentials, codePermission, "allow ecs:CreateDisk to"},
		{"RunInstances", "InvalidUser.PassRoleForbidden", plan.ErrCredentials, codePermission, "ram:PassRole"},
		{"RunInstances", "RealNameAuthenticationError", plan.ErrFatal, codePermission, "real-name registration"},
		{"RunInstances", "Forbidden.RiskControl", plan.ErrFatal, codePermission, "its support"},
		{"RunInstances", "InvalidRamRole.NotFound", plan.ErrFatal, codeRefused, "ram_role"},
		{"CreateDisk", "InvalidSecurityToken.Expired", plan.ErrCredentials, codeCredentials, "has expired"},
		{"ResizeDisk", "OperationDenied.NotEnoughCapacity", plan.ErrFatal, codeStock, "another disk category"},
		{"AllocateEipAddress", "OperationFailed.InsufficientEIP", plan.ErrFatal, codeStock, "no public address left"},
		{"AttachDisk", "IncorrectDiskStatus.InReplication", plan.ErrTransient, codeBusy, "in a while"},
	} {
		class, ours, fix := classify(ecs, tc.action, 403, tc.code)
		if class != tc.class || ours != tc.ours || !strings.Contains(fix, tc.fix) {
			t.Errorf("%s: class %q, %s, %q", tc.code, class, ours, fix)
		}
	}
}

func TestAQuotaIsNamedAndWhatWasMadeIsUsed(t *testing.T) {
	quota := map[string]int{"eip": 0, "disk": 0}
	c := newCloud(t, func(cfg *alicloudsim.Config) { cfg.Quota = quota })
	p := c.provider()
	_, err := walk(p, planFor(t, p, testSpec(withDisk)), 0)
	if plan.ClassOf(err) != plan.ErrFatal || !strings.Contains(fixOf(err), "no more elastic IP addresses in this region") {
		t.Errorf("%v; %s", err, fixOf(err))
	}
	clear(quota)
	c.apply(p, testSpec(withDisk))
	if n := len(c.sim.Inventory()); n != 8 {
		t.Errorf("there are %v", c.sim.Inventory())
	}
}

// TestPagesInsteadOfAnswers: a web page of the vendor's front, of a proxy, or of a
// network that wants its guests to log in is told by its title.
func TestPagesInsteadOfAnswers(t *testing.T) {
	for _, tc := range []struct {
		status      int
		read, write plan.ErrorClass
		fix         string
	}{
		{503, plan.ErrTransient, plan.ErrAmbiguous, "run the same command again"},
		{200, plan.ErrFatal, plan.ErrAmbiguous, "a network that wants its guests to log in"},
		{403, plan.ErrFatal, plan.ErrAmbiguous, "HTTPS_PROXY"},
	} {
		c := newCloud(t)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(tc.status)
			w.Write([]byte("<html><head><title>Guest &amp; Wi-Fi</title></head>" + strings.Repeat("<p>words</p>\n", 10000)))
		}))
		defer srv.Close()
		c.url = srv.URL
		p := c.provider()
		_, err := p.Observe(t.Context(), plan.Scope{Stack: "acme-mail"})
		_, errBucket := p.Do(t.Context(), plan.Op{Kind: opCreateBucket, Addresses: []plan.Address{"backup/acme-backup"},
			Inputs: plan.Attrs{"name": plan.String("acme-backup"), "region": plan.String("cn-hongkong")}}, "t", nil)
		_, errWrite := p.Do(t.Context(), plan.Op{Kind: opCreateVpc, Addresses: []plan.Address{"host/mx1/network"}, Inputs: plan.Attrs{"cidr": plan.String("10.0.0.0/16")}}, "t", nil)
		for i, err := range []error{err, errBucket, errWrite} {
			var e *plan.Error
			class := tc.write
			if i == 0 {
				class = tc.read
			}
			if !errors.As(err, &e) || e.Class != class || !strings.Contains(e.Got, `a web page in place of the API's answer, "Guest & Wi-Fi"`) || !strings.Contains(e.Fix, tc.fix) {
				t.Errorf("%d: %d: class %q: %v; %s", tc.status, i, plan.ClassOf(err), err, fixOf(err))
				continue
			}
			if text := e.Error() + e.Fix; len(text) > 700 || strings.Contains(text, "<p>") {
				t.Errorf("%d: %d bytes: %.200s", tc.status, len(text), text)
			}
		}
	}
}

// roundTrip is a transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestGoneBetweenTwoLooks: a security group that was listed and is gone when its rules
// are asked for does not exist. One that is still listed then is looked at again.
func TestGoneBetweenTwoLooks(t *testing.T) {
	for _, x := range []struct {
		goes    bool
		denials int64 // how often the vendor says that it is gone
		objects int   // 0 for an error
	}{{true, 1, 10}, {false, 1, 11}, {false, 100, 0}} {
		c := newCloud(t)
		c.apply(c.provider(), testSpec(withDisk))
		vpc := regexp.MustCompile(`vpc-[0-9a-z]+`).FindString(strings.Join(c.sim.Inventory(), " "))
		made, err := c.sim.Console("ecs", "CreateSecurityGroup", map[string]string{
			"RegionId": "cn-hongkong", "VpcId": vpc, "SecurityGroupName": "another", "Tag.1.Key": tagStack, "Tag.1.Value": "acme-mail",
			"Tag.2.Key": tagAddress, "Tag.2.Value": "host/mx9/firewall",
		})
		if err != nil {
			t.Fatal(err)
		}
		id := regexp.MustCompile(`sg-[0-9a-z]+`).FindString(string(made))
		var denied atomic.Int64
		p := c.provider(func(cfg *Config) {
			cfg.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				sent, err := httputil.DumpRequestOut(r, true)
				if err != nil {
					return nil, err
				}
				if q := string(sent); x.goes && strings.Contains(q, "DescribeSecurityGroupAttribute") && strings.Contains(q, id) {
					denied.Add(1) // only one request is about this group: the next listing has it no more
					if _, err := c.sim.Console("ecs", "DeleteSecurityGroup", map[string]string{"RegionId": "cn-hongkong", "SecurityGroupId": id}); err != nil {
						t.Error(err)
					}
				}
				return http.DefaultTransport.RoundTrip(r)
			})
		})
		c.inject(func(call alicloudsim.Call) alicloudsim.Fault {
			if x.goes || call.Action != "DescribeSecurityGroupAttribute" || call.Params.Get("SecurityGroupId") != id || denied.Load() == x.denials {
				return alicloudsim.Fault{}
			}
			denied.Add(1)
			return alicloudsim.Fault{Status: http.StatusNotFound, Code: "InvalidSecurityGroupId.NotFound"}
		})
		desired, _ := p.Declare(testSpec(withDisk))
		seen, err := p.Observe(t.Context(), plan.Scope{Stack: "acme-mail", Desired: desired})
		if denied.Load() == 0 || (err != nil) != (x.objects == 0) || err == nil && len(seen.Objects) != x.objects {
			t.Errorf("%+v: denied %d times: %d objects, %v", x, denied.Load(), len(seen.Objects), err)
		}
	}
}
