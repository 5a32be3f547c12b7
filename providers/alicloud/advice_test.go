package alicloud

import (
	"strings"
	"testing"

	"mailform/providers/alicloud/alicloudsim"
)

// TestTheMainlandIsAdvisedAboutOnce: before there is a machine, and not afterwards.
func TestTheMainlandIsAdvisedAboutOnce(t *testing.T) {
	for region, want := range map[string]int{"cn-hangzhou": 1, "cn-hongkong": 0, "eu-central-1": 0} {
		c := newCloud(t, func(cfg *alicloudsim.Config) { cfg.Region = region })
		p := c.provider(func(cfg *Config) { cfg.Region = region })
		if got := p.Advise(); got != nil {
			t.Errorf("%s: advice about nothing: %v", region, got)
		}
		planFor(t, p, testSpec())
		got := p.Advise()
		if len(got) != want || want == 1 && (got[0].About != "host mx1" || !strings.Contains(got[0].Text, "cn-hongkong is near to the mainland")) {
			t.Errorf("%s: %+v", region, got)
		}
		if want == 0 {
			continue
		}
		c.apply(p, testSpec())
		planFor(t, p, testSpec())
		if got := p.Advise(); len(got) != 0 {
			t.Errorf("%s: advised again: %v", region, got)
		}
	}
}
