package apply

import (
	"regexp"
	"testing"

	"mailform/plan"
)

func TestToken(t *testing.T) {
	base := plan.Op{
		ID: "x", Provider: "alicloud", Kind: "RunInstances", Title: "start", Addresses: []plan.Address{"host/mx1/instance", "host/mx1/disk"},
		Inputs: plan.Attrs{"zone": plan.String("a"), "size": plan.Int(1), "password": plan.Secret("fp")},
	}
	with := func(change func(*plan.Op)) plan.Op {
		o := base
		o.Inputs = plan.Attrs{}
		for k, v := range base.Inputs {
			o.Inputs[k] = v
		}
		change(&o)
		return o
	}
	first := Token("acme", base, 0)
	// Pinned: another version of mailform, on another machine, must send the same.
	if want := plan.Token("mf1-25ppyfl7t4buinitfthzlljhy4rw4we2oadmrkfopniet6tk3oga"); first != want {
		t.Errorf("token %s, want %s", first, want)
	}
	if !regexp.MustCompile(`^[a-z0-9-]{1,64}$`).MatchString(string(first)) {
		t.Errorf("token %q is not at most 64 ASCII characters", first)
	}
	for name, o := range map[string]plan.Op{
		"title":            with(func(o *plan.Op) { o.Title, o.ID, o.Seconds = "other", "y", 9 }),
		"order of targets": with(func(o *plan.Op) { o.Addresses = []plan.Address{"host/mx1/disk", "host/mx1/instance"} }),
	} {
		if Token("acme", o, 0) != first {
			t.Errorf("%s changes the token", name)
		}
	}
	seen := map[plan.Token]string{first: "base"}
	differ := func(name string, tok plan.Token) {
		if other, ok := seen[tok]; ok {
			t.Errorf("%s has the token of %s", name, other)
		}
		seen[tok] = name
	}
	differ("stack", Token("beta", base, 0))
	differ("generation", Token("acme", base, 1))
	differ("kind", Token("acme", with(func(o *plan.Op) { o.Kind = "StartInstance" }), 0))
	differ("provider", Token("acme", with(func(o *plan.Op) { o.Provider = "other" }), 0))
	differ("address", Token("acme", with(func(o *plan.Op) { o.Addresses = o.Addresses[:1] }), 0))
	differ("value", Token("acme", with(func(o *plan.Op) { o.Inputs["size"] = plan.Int(2) }), 0))
	differ("type", Token("acme", with(func(o *plan.Op) { o.Inputs["size"] = plan.String("1") }), 0))
	differ("name", Token("acme", with(func(o *plan.Op) { delete(o.Inputs, "size"); o.Inputs["sizf"] = plan.Int(1) }), 0))
	differ("secret", Token("acme", with(func(o *plan.Op) { o.Inputs["password"] = plan.Secret("other") }), 0))
}
