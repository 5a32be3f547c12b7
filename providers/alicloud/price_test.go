package alicloud

import (
	"fmt"
	"testing"

	"mailform/plan"
	"mailform/specs"
)

func TestPrices(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	ask := func(pl *plan.Plan) (out []string) {
		prices, err := p.Price(t.Context(), pl.Changes)
		if err != nil {
			t.Fatal(err)
		}
		for _, price := range prices {
			out = append(out, fmt.Sprintf("%s %.2f was %.2f %s %s", price.Address, price.Monthly, price.Before, price.Currency, price.Note))
		}
		return out
	}
	equal(t, "everything", ask(planFor(t, p, testSpec(withDisk))), []string{
		"host/mx1/address 0.00 was 0.00 CNY traffic is charged by use",
		"host/mx1/data-disk 306.60 was 0.00 CNY ", // 730 hours of 200 GiB at 0.0021
		"host/mx1/instance 426.32 was 0.00 CNY ",  // 0.5 an hour and 40 GiB
	})
	c.apply(p, testSpec(withDisk))
	bigger := testSpec(withDisk, func(h *specs.Host) { h.Instance.Type, h.Instance.DataDisk.SizeGiB = "ecs.g7.xlarge", 400 })
	equal(t, "larger", ask(planFor(t, p, bigger)), []string{
		"host/mx1/data-disk 613.20 was 306.60 CNY ", "host/mx1/instance 791.32 was 426.32 CNY ",
	})
	anew := planFor(t, p, testSpec(withDisk), func(in *plan.Input) {
		in.Replace, in.Allow = []string{"host/mx1/instance"}, []string{"host/mx1/instance"}
	})
	equal(t, "the same anew", ask(anew), []string{"host/mx1/instance 426.32 was 426.32 CNY "})
	wide := testSpec(withDisk, func(h *specs.Host) { h.Instance.Bandwidth, h.Instance.ChargeBy = 300, "bandwidth" })
	equal(t, "bandwidth", ask(planFor(t, p, wide, allow("host/mx1/address"))), []string{"host/mx1/address 53636.75 was 0.00 CNY used or not"}) // 730 hours of 5 at 0.063 and 295 at 0.248
	before := len(c.sim.Calls())
	equal(t, "a port", ask(planFor(t, p, testSpec(withDisk, func(h *specs.Host) { h.SSH.Port = 2222 }))), nil)
	equal(t, "destroying", ask(planFor(t, p, testSpec(withDisk), destroy)), nil)
	for _, call := range c.sim.Calls()[before:] {
		if call.Action == "DescribePrice" {
			t.Error("a price was asked for nothing")
		}
	}
}
