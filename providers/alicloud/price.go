package alicloud

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"mailform/plan"
)

// monthHours is how long a month is to the vendor's price lists.
const monthHours = 730

type describePrice struct {
	rpc
	ResourceType            string `position:"Body" name:"ResourceType"` // instance, disk or bandwidth
	InstanceType            string `position:"Body" name:"InstanceType"`
	IoOptimized             string `position:"Body" name:"IoOptimized"`
	SystemDiskCategory      string `position:"Body" name:"SystemDisk.Category"`
	SystemDiskSize          string `position:"Body" name:"SystemDisk.Size"`
	DataDiskCategory        string `position:"Body" name:"DataDisk.1.Category"`
	DataDiskSize            string `position:"Body" name:"DataDisk.1.Size"`
	InternetChargeType      string `position:"Body" name:"InternetChargeType"`
	InternetMaxBandwidthOut string `position:"Body" name:"InternetMaxBandwidthOut"` // Mbit/s
	ZoneId                  string `position:"Body" name:"ZoneId"`
	PriceUnit               string `position:"Body" name:"PriceUnit"`
	Amount                  string `position:"Body" name:"Amount"`
}

type describePriceAnswer struct {
	answer
	PriceInfo *struct {
		Price struct {
			TradePrice float64 // after discounts
			Currency   string
		}
	}
}

func (a *describePriceAnswer) listed() bool { return a.PriceInfo != nil }

var _ plan.Pricer = (*Provider)(nil)

// Price asks what instances and disks cost that are made or made larger, by the hour
// as they are paid for, and counts a month of 730 hours. What the vendor charges by
// use is only named.
func (p *Provider) Price(ctx context.Context, changes []plan.Change) ([]plan.Price, error) {
	var prices []plan.Price
	type question struct{ after, before *describePrice }
	var questions []question
	currency := "CNY" // the account has one; what is asked for tells it
	for _, ch := range changes {
		if ch.Provider != Name || !ch.Pending() || ch.Action != plan.Create && ch.Action != plan.Replace && ch.Action != plan.Update {
			continue
		}
		after, before, note := priced(ch)
		switch {
		case after != nil:
		case ch.Kind == kindEIP && ch.Action != plan.Update && ch.After["charge_by"].Str() == chargeTraffic:
			note = "traffic is charged by use"
		case ch.Kind == kindBucket && ch.Action == plan.Create:
			note = "what it holds is charged by use"
		default:
			continue
		}
		prices = append(prices, plan.Price{Address: ch.Address, Note: note})
		questions = append(questions, question{after, before})
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, q := range questions {
		ask := func(req *describePrice, monthly *float64) {
			if req == nil {
				return
			}
			g.Go(func() error {
				resp := &describePriceAnswer{answer: newAnswer()}
				if err := p.api.call(ctx, req, resp); err != nil {
					return explain("ask for the price of "+string(prices[i].Address), err)
				}
				*monthly = resp.PriceInfo.Price.TradePrice * monthHours
				if req == q.after {
					prices[i].Currency = resp.PriceInfo.Price.Currency
				}
				return nil
			})
		}
		ask(q.after, &prices[i].Monthly)
		ask(q.before, &prices[i].Before)
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, price := range prices {
		if price.Currency != "" {
			currency = price.Currency
		}
	}
	for i := range prices {
		prices[i].Currency = currency
	}
	return prices, nil
}

// priced are the questions for what a change makes or makes larger, and for what
// stands in its place today; nil for what costs nothing or no more than before.
func priced(ch plan.Change) (after, before *describePrice, note string) {
	attrs := []string{"type", "system_disk_gib"}
	switch ch.Kind {
	case kindDisk:
		attrs = []string{"size_gib", "category"}
	case kindEIP:
		attrs = []string{"bandwidth", "charge_by"}
	}
	same := func(name string) bool { return ch.After[name].Equal(ch.Before[name]) }
	if ch.Action == plan.Update && same(attrs[0]) && same(attrs[1]) {
		return nil, nil, ""
	}
	after = priceOf(ch.Kind, ch.After, ch.After)
	if after == nil {
		return nil, nil, ""
	}
	if ch.Action != plan.Create {
		before = priceOf(ch.Kind, ch.Before, ch.After)
	}
	if ch.Kind == kindEIP {
		note = "used or not"
	}
	if len(ch.After["instead"].Items()) > 0 && ch.Action != plan.Update {
		note = "another of its types may be taken when this one is sold out"
	}
	return after, before, note
}

// priceOf is the question for one thing, nil for what has no price of its own.
// Where it is, and on what kind of system disk, only the spec says for certain.
func priceOf(kind string, attrs, spec plan.Attrs) *describePrice {
	req := &describePrice{rpc: newRPC(ecsDescribePrice), PriceUnit: "Hour", Amount: "1", ZoneId: spec["zone"].Str()}
	switch kind {
	case kindInstance:
		req.ResourceType, req.InstanceType, req.IoOptimized = "instance", attrs["type"].Str(), "optimized"
		if n := attrs["system_disk_gib"].Num(); n > 0 {
			req.SystemDiskCategory, req.SystemDiskSize = spec["system_disk"].Field("category").Str(), fmt.Sprint(n)
		}
	case kindEIP:
		// The price list of bandwidth is one for addresses and instances; this API has
		// only the latter's.
		if attrs["charge_by"].Str() != chargeBandwidth {
			return nil
		}
		req.ResourceType, req.InternetChargeType, req.InternetMaxBandwidthOut = "bandwidth", chargeTypes[chargeBandwidth], fmt.Sprint(attrs["bandwidth"].Num())
	case kindDisk:
		req.ResourceType, req.DataDiskCategory, req.DataDiskSize = "disk", attrs["category"].Str(), fmt.Sprint(attrs["size_gib"].Num())
	default:
		return nil
	}
	return req
}
