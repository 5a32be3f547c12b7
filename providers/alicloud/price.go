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
	ResourceType       string `position:"Body" name:"ResourceType"` // instance or disk
	InstanceType       string `position:"Body" name:"InstanceType"`
	IoOptimized        string `position:"Body" name:"IoOptimized"`
	SystemDiskCategory string `position:"Body" name:"SystemDisk.Category"`
	SystemDiskSize     string `position:"Body" name:"SystemDisk.Size"`
	DataDiskCategory   string `position:"Body" name:"DataDisk.1.Category"`
	DataDiskSize       string `position:"Body" name:"DataDisk.1.Size"`
	ZoneId             string `position:"Body" name:"ZoneId"`
	PriceUnit          string `position:"Body" name:"PriceUnit"`
	Amount             string `position:"Body" name:"Amount"`
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
	var requests []*describePrice
	currency := "CNY" // the account has one; what is asked for tells it
	for _, ch := range changes {
		if ch.Provider != Name || !ch.Pending() || ch.Action != plan.Create && ch.Action != plan.Replace && ch.Action != plan.Update {
			continue
		}
		req, note := priced(ch)
		switch {
		case req != nil:
		case ch.Kind == kindEIP && ch.Action != plan.Update:
			note = "traffic is charged by use"
		default:
			continue
		}
		prices = append(prices, plan.Price{Address: ch.Address, Note: note})
		requests = append(requests, req)
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, req := range requests {
		if req == nil {
			continue
		}
		g.Go(func() error {
			resp := &describePriceAnswer{answer: newAnswer()}
			if err := p.api.call(ctx, req, resp); err != nil {
				return explain("ask for the price of "+string(prices[i].Address), err)
			}
			prices[i].Monthly = resp.PriceInfo.Price.TradePrice * monthHours
			prices[i].Currency = resp.PriceInfo.Price.Currency
			return nil
		})
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

// priced is the question for what a change makes or makes larger, nil for others.
func priced(ch plan.Change) (*describePrice, string) {
	req := &describePrice{rpc: newRPC(ecsDescribePrice), PriceUnit: "Hour", Amount: "1", ZoneId: ch.After["zone"].Str()}
	larger := func(name string) bool {
		return ch.Action != plan.Update || !ch.After[name].Equal(ch.Before[name])
	}
	note := ""
	if ch.Action == plan.Update {
		note = "after the change"
	}
	switch {
	case ch.Kind == kindInstance && (larger("type") || larger("system_disk_gib")):
		req.ResourceType, req.InstanceType, req.IoOptimized = "instance", ch.After["type"].Str(), "optimized"
		if n := ch.After["system_disk_gib"].Num(); n > 0 {
			req.SystemDiskCategory, req.SystemDiskSize = ch.After["system_disk"].Field("category").Str(), fmt.Sprint(n)
		}
		if len(ch.After["instead"].Items()) > 0 && ch.Action != plan.Update {
			note = "another of its types may be taken when this one is sold out"
		}
		return req, note
	case ch.Kind == kindDisk && (larger("size_gib") || larger("category")):
		req.ResourceType, req.DataDiskCategory, req.DataDiskSize = "disk", ch.After["category"].Str(), fmt.Sprint(ch.After["size_gib"].Num())
		return req, note
	}
	return nil, ""
}
