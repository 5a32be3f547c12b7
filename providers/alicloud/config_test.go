package alicloud

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/specs"
)

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

func TestEndpoints(t *testing.T) {
	for _, tc := range []struct{ override, region, want string }{
		{"", "cn-hongkong", "https://ecs.cn-hongkong.aliyuncs.com"},
		{"", "cn-hangzhou-finance", "https://ecs.aliyuncs.com"},
		{"http://127.0.0.1:8080", "x", "http://127.0.0.1:8080"},
		{"127.0.0.1:8080", "x", "https://127.0.0.1:8080"},
		{"ecs-vpc.cn-hongkong.aliyuncs.com", "x", "https://ecs-vpc.cn-hongkong.aliyuncs.com"},
		{"https://proxy.example/", "x", "https://proxy.example"},
		{"https://[::1]:9", "x", "https://[::1]:9"},
		{"ftp://x", "x", ""}, {"https://a/b", "x", ""}, {"https://", "x", ""}, {"http://u:p@h", "x", ""}, {"::", "x", ""},
	} {
		at, err := endpointFor(tc.override, tc.region, ecs)
		if got := at.String(); (err == nil) != (tc.want != "") || err == nil && got != tc.want {
			t.Errorf("%q: %q %v, want %q", tc.override, got, err, tc.want)
		}
	}
}

func TestASpecWithoutInstancesNeedsNoCloud(t *testing.T) {
	p, err := New(Config{Stack: "s"})
	if err != nil {
		t.Fatal(err)
	}
	rs, diags := p.Declare(&specs.Spec{Hosts: []*specs.Host{{Name: "old", Hostname: "mail.acme.example"}}})
	if len(rs) != 0 || len(diags) != 0 {
		t.Errorf("declared %+v %+v", rs, diags)
	}
	if seen, err := p.Observe(t.Context(), plan.Scope{Stack: "s"}); err != nil || seen.Calls != 0 {
		t.Errorf("observed with %d calls: %v", seen.Calls, err)
	}
}

func TestDeclareSaysWhatIsMissing(t *testing.T) {
	p, _ := New(Config{Stack: "s"})
	_, diags := p.Declare(testSpec(func(h *specs.Host) { h.SSH.AuthorizedKeys = nil }))
	codes := ""
	for _, d := range diags {
		codes += d.Code + " "
		if d.Detail == "" || d.Subject == nil {
			t.Errorf("%s has no detail or no place", d.Code)
		}
	}
	if codes != "MF4101 MF4103 " {
		t.Errorf("diagnostics %s", codes)
	}
	_, diags = p.Declare(testSpec(func(h *specs.Host) { h.SSH.AuthorizedKeys = []string{"not a key", operator + "\n" + operator} }))
	if n := strings.Count(diagCodes(diags), "MF4104"); n != 2 {
		t.Errorf("diagnostics %s", diagCodes(diags))
	}
	if _, err := New(Config{OperatorKeys: []string{"x"}}); err == nil {
		t.Error("a broken operator's key is taken")
	}
	// Without a key nothing can log in, so nothing is created that could not be.
	c := newCloud(t)
	p = c.provider(func(cfg *Config) { cfg.OperatorKeys = nil })
	_, err := walk(p, planFor(t, p, testSpec()), 0)
	if plan.ClassOf(err) != plan.ErrSpec || !strings.Contains(fixOf(err), "ssh-keygen") {
		t.Errorf("err = %v", err)
	}
}

func diagCodes(ds specs.Diagnostics) string {
	s := ""
	for _, d := range ds {
		s += d.Code + " "
	}
	return s
}

func TestHostKeysAreRandomAndComeFromTheGivenSource(t *testing.T) {
	a, err := newHostKey(strings.NewReader(strings.Repeat("a", 32)))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := newHostKey(strings.NewReader(strings.Repeat("b", 32)))
	if a.fingerprint == b.fingerprint || !strings.HasPrefix(a.fingerprint, "SHA256:") || !strings.Contains(a.private, "OPENSSH PRIVATE KEY") {
		t.Errorf("%s %s", a.fingerprint, b.fingerprint)
	}
	if _, err := newHostKey(bytes.NewReader([]byte("short"))); err == nil {
		t.Error("a key was made of too little")
	}
}

func TestImages(t *testing.T) {
	list := []image{
		{ImageId: "debian_12_8_x64_20G_alibase_20241216.vhd", CreationTime: "2024-12-18", IsSupportCloudinit: true},
		{ImageId: "debian_12_11_x64_20G_alibase_20250716.vhd", CreationTime: "2025-07-18", IsSupportCloudinit: true},
		{ImageId: "debian_12_12_x64_20G_alibase_20251016.vhd", CreationTime: "2025-10-18"},
		{ImageId: "debian_12_uefi_x64_20G_alibase_20260101.vhd", CreationTime: "2026-01-01", IsSupportCloudinit: true},
		{ImageId: "debian_120_x64_20G_alibase_20260101.vhd", CreationTime: "2026-01-01", IsSupportCloudinit: true},
		{ImageId: "aliyun_3_x64_20G_alibase_20250629.vhd", CreationTime: "2025-07-03", IsSupportCloudinit: true},
		{ImageId: "ubuntu_24_04_uefi_x64_20G_alibase_20250722.vhd", CreationTime: "2025-07-24", Status: "Available", IsSupportCloudinit: true},
		{ImageId: "ubuntu_22_04_x64_20G_alibase_20250722.vhd", CreationTime: "2025-07-24", Status: "Deprecated", IsSupportCloudinit: true},
	}
	for name, want := range map[string]string{
		"debian-12":             "debian_12_11_x64_20G_alibase_20250716.vhd",
		"Debian-12":             "debian_12_11_x64_20G_alibase_20250716.vhd",
		"alibaba-cloud-linux-3": "aliyun_3_x64_20G_alibase_20250629.vhd",
		"aliyun-3":              "aliyun_3_x64_20G_alibase_20250629.vhd",
		"ubuntu-24.04":          "ubuntu_24_04_uefi_x64_20G_alibase_20250722.vhd", // better than none
		"ubuntu-22.04":          "",
		"debian-13":             "",
		"":                      "",
	} {
		if got, _ := newestImage(name, list); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestAnImageThatDoesNotExistIsExplained(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	_, err := walk(p, planFor(t, p, testSpec(func(h *specs.Host) { h.Instance.Image = "debian-99" })), 0)
	var e *plan.Error
	if !errors.As(err, &e) || !strings.Contains(e.Got, `no image "debian-99"`) || !strings.Contains(e.Fix, "debian-12") {
		t.Errorf("err = %v; %v", err, e)
	}
}

func TestAKeyPairOfSomeoneElseIsInTheWay(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	resp := &idAnswer{answer: newAnswer()}
	raw(t, p, &importKeyPair{rpc: newRPC(ecsImportKeyPair), KeyPairName: "mailform_acme-mail_mx1", PublicKeyBody: strings.Replace(operator, "A6Tf", "B6Tf", 1)}, resp)
	_, err := walk(p, planFor(t, p, testSpec()), 0)
	if plan.ClassOf(err) != plan.ErrBlocked || !strings.Contains(fixOf(err), "mailform_acme-mail_mx1") {
		t.Errorf("err = %v; %s", err, fixOf(err))
	}

	// The same key under our name and without our mark only gets the mark.
	c = newCloud(t)
	p = c.provider()
	raw(t, p, &importKeyPair{rpc: newRPC(ecsImportKeyPair), KeyPairName: "mailform_acme-mail_mx1", PublicKeyBody: operator}, resp)
	if got := pending(planFor(t, p, testSpec())); len(got) != 7 || got[5] != "adopt host/mx1/ssh-key" {
		t.Errorf("plan: %v", got)
	}
	c.apply(p, testSpec())
}

func TestAnotherLoginKey(t *testing.T) {
	key := func(k string) func(*specs.Host) { return func(h *specs.Host) { h.SSH.AuthorizedKeys = []string{k} } }
	second := strings.Replace(operator, "A6Tf", "B6Tf", 1)
	// While no instance was booted with it a key pair follows the spec …
	c := newCloud(t)
	p := c.provider()
	pl := planFor(t, p, testSpec(key(operator)))
	for _, op := range pl.Ops {
		if op.Kind == opImportKey {
			if _, err := p.Do(t.Context(), op, "t", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := pending(planFor(t, p, testSpec(key(second)))); len(got) != 7 || got[5] != "replace host/mx1/ssh-key" {
		t.Errorf("plan: %v", got)
	}
	c.apply(p, testSpec(key(second)))
	if !strings.HasPrefix(second, c.machines[0].req.PublicKey) {
		t.Error("the machine was booted with the old key")
	}
	// … and afterwards it has done its work.
	if got := pending(planFor(t, p, testSpec(key(operator)))); len(got) != 0 {
		t.Errorf("plan: %v", got)
	}
}

// TestWhatAnAddressIsChargedBy: it is asked for when the address is made. The vendor
// changes it in its console only, which is seen as soon as it is ordered there.
func TestWhatAnAddressIsChargedBy(t *testing.T) {
	wide := func(h *specs.Host) { h.Instance.Bandwidth, h.Instance.ChargeBy = 300, "bandwidth" }
	c := newCloud(t)
	p := c.provider()
	c.apply(p, testSpec(wide))
	o := observed(t, p, testSpec(wide), "host/mx1/address")
	if o.Attrs["charge_by"].Str() != "bandwidth" || o.Attrs["bandwidth"].Num() != 300 {
		t.Errorf("made as %v", o.Attrs)
	}
	ch, _ := planFor(t, p, testSpec()).Change("host/mx1/address")
	if ch.Action != plan.Replace || ch.Blocked == nil {
		t.Errorf("another way to charge: %s, blocked %v", ch.Action, ch.Blocked)
	}
	ip := netip.MustParseAddr(o.Outputs["ip"].Str())
	for _, inEffect := range []bool{false, true} {
		c.sim.SwitchMetering(ip, inEffect)
		ch, _ = planFor(t, p, testSpec(func(h *specs.Host) { h.Instance.Bandwidth = 200 })).Change("host/mx1/address")
		if ch.Action != plan.Update || len(ch.Fields) != 1 || ch.Fields[0].Path != "bandwidth" {
			t.Errorf("switched in the console, in effect %v: %s %v", inEffect, ch.Action, ch.Fields)
		}
	}
}

func TestAnInternationalAccountPaysByTraffic(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) { cfg.International = true })
	p := c.provider()
	_, err := walk(p, planFor(t, p, testSpec(func(h *specs.Host) { h.Instance.ChargeBy = "bandwidth" })), 0)
	if plan.ClassOf(err) != plan.ErrFatal || !strings.Contains(fixOf(err), "take charge_by out") {
		t.Errorf("%v; %s", err, fixOf(err))
	}
	c.apply(p, testSpec())
}
