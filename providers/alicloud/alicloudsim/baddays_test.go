package alicloudsim

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func TestLatencyIsWaitedOutSideBySide(t *testing.T) {
	var mu sync.Mutex
	waiting, most := 0, 0
	var all sync.WaitGroup
	all.Add(3)
	s := New(Config{AccessKeys: []AccessKey{{ID: "id", Secret: "secret"}}, Latency: func() time.Duration { return 50 * time.Millisecond },
		Sleep: func(d time.Duration) {
			mu.Lock()
			if waiting++; waiting > most {
				most = waiting
			}
			mu.Unlock()
			all.Done()
			all.Wait() // nobody gets on before all three wait
			if d != 50*time.Millisecond {
				t.Errorf("waited %v", d)
			}
		}})
	var done sync.WaitGroup
	for range 3 {
		done.Go(func() {
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/?Action=DescribeVpcs&Version=2016-04-28", nil))
		})
	}
	done.Wait()
	if most != 3 {
		t.Errorf("%d calls waited at the same time", most)
	}
}

func TestListingsByTagLagBehind(t *testing.T) {
	now := time.Now()
	c := newClient(t, Config{Now: func() time.Time { return now }, Lag: 5 * time.Second})
	ok := c.want("")
	id := text(ok(c.vpc("CreateVpc", "Tag.1.Key", "k", "Tag.1.Value", "v")), "VpcId")
	seen := func() bool {
		return item(ok(c.vpc("DescribeVpcs", "Tag.1.Key", "k")), "Vpcs", "Vpc") != nil
	}
	if seen() || item(ok(c.vpc("DescribeVpcs", "VpcId", id)), "Vpcs", "Vpc") == nil {
		t.Error("the tags are indexed at once, or the VPC cannot be found by its id")
	}
	now = now.Add(5 * time.Second)
	if !seen() {
		t.Error("after its time it is not listed")
	}
	ok(c.vpc("TagResources", "ResourceType", "VPC", "ResourceId.1", id, "Tag.1.Key", "other", "Tag.1.Value", "v"))
	if seen() {
		t.Error("another tag is indexed at once")
	}
}

func TestQuotas(t *testing.T) {
	c := newClient(t, Config{Settle: -1, Quota: map[string]int{"vpc": 1, "vswitch": 0, "security-group": 0, "key-pair": 0, "eip": 0, "disk": 0, "snapshot-policy": 0}})
	vpc := text(c.want("")(c.vpc("CreateVpc")), "VpcId")
	c.want("QuotaExceeded.Vpc")(c.vpc("CreateVpc"))
	c.want("QuotaExceeded.VSwitch")(c.vpc("CreateVSwitch", "VpcId", vpc, "ZoneId", "cn-hongkong-b", "CidrBlock", "172.16.0.0/24"))
	c.want("QuotaExceed.SecurityGroup")(c.ecs("CreateSecurityGroup", "VpcId", vpc))
	c.want("QuotaExceed.KeyPair")(c.ecs("ImportKeyPair", "KeyPairName", "key", "PublicKeyBody", testPublicKey))
	c.want("QuotaExceeded.Eip")(c.vpc("AllocateEipAddress"))
	c.want("QuotaExceed.PostPaidDisk")(c.ecs("CreateDisk", "ZoneId", "cn-hongkong-b", "DiskCategory", "cloud_auto", "Size", "5"))
	c.want("QuotaExceed.AutoSnapshotPolicy")(c.ecs("CreateAutoSnapshotPolicy", "timePoints", `["3"]`, "repeatWeekdays", `["1"]`, "retentionDays", "1"))

	c = newClient(t, Config{Quota: map[string]int{"instance": 1}})
	_, vsw, sg, _, _ := c.ready()
	c.want("QuotaExceed.AfterpayInstance")(c.ecs("RunInstances", "InstanceType", "ecs.g7.large", "ImageId", "debian_12_11_x64_20G_alibase_20250716.vhd",
		"VSwitchId", vsw, "SecurityGroupId", sg, "SystemDisk.Category", "cloud_essd"))
}

func TestKeysExpire(t *testing.T) {
	now := time.Now()
	c := newClient(t, Config{Now: func() time.Time { return now }, AccessKeys: []AccessKey{{ID: "id", Secret: "secret", Expires: now.Add(time.Hour)}}})
	c.want("")(c.vpc("DescribeVpcs"))
	now = now.Add(time.Hour)
	c.want("InvalidSecurityToken.Expired")(c.vpc("DescribeVpcs"))
}

func TestHalfAPage(t *testing.T) {
	fault := Fault{}
	c := newClient(t, Config{Settle: -1, Fault: func(Call) Fault { return fault }})
	vpc := ""
	for i := range 4 {
		vpc = text(c.want("")(c.vpc("CreateVpc", "VpcName", fmt.Sprint("n", i))), "VpcId")
		c.want("")(c.ecs("CreateSecurityGroup", "VpcId", vpc))
	}
	fault.HalfPage = true
	a := c.want("")(c.vpc("DescribeVpcs", "PageSize", "50"))
	if l := a["Vpcs"].(map[string]any)["Vpc"].([]any); len(l) != 2 || a["TotalCount"].(float64) != 4 {
		t.Errorf("%d of %v", len(l), a["TotalCount"])
	}
	// A listing that is followed goes on where it broke off.
	a = c.want("")(c.ecs("DescribeSecurityGroups", "MaxResults", "100"))
	if l := a["SecurityGroups"].(map[string]any)["SecurityGroup"].([]any); len(l) != 2 || text(a, "NextToken") == "" {
		t.Errorf("%d, next %q", len(l), text(a, "NextToken"))
	}
	if a = c.want("")(c.vpc("DescribeVpcs", "VpcId", vpc)); item(a, "Vpcs", "Vpc") != nil || a["TotalCount"].(float64) != 1 {
		t.Errorf("half of one is %v", a)
	}
}

func TestAddressesAreHandedOutAsToldAndThenAsEver(t *testing.T) {
	listed, next := netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("192.0.2.67")
	c := newClient(t, Config{Addresses: []netip.Addr{listed}})
	c.sim.HandOut(next, listed)
	var got []string
	for range 4 {
		got = append(got, text(c.want("")(c.vpc("AllocateEipAddress")), "EipAddress"))
	}
	if want := "[192.0.2.66 192.0.2.67 192.0.2.66 198.18.0.1]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
