package session

import (
	"context"
	"errors"
	"testing"
	"time"

	"mailform/plan"
)

// pricing is a provider of which only the prices are asked for.
type pricing struct {
	plan.Provider
	name  string
	asked []plan.Change
	err   error
}

func (p *pricing) Name() string { return p.name }

func (p *pricing) Price(_ context.Context, changes []plan.Change) ([]plan.Price, error) {
	p.asked = changes
	if p.err != nil {
		return nil, p.err
	}
	return []plan.Price{{Address: changes[0].Address, Monthly: 10, Currency: "CNY"}}, nil
}

// Prices are asked for where something is made or changed and may be, and not
// getting them spoils nothing.
func TestEstimate(t *testing.T) {
	cloud, other, idle := &pricing{name: "cloud"}, &pricing{name: "other", err: &plan.Error{Step: "ask", Got: "403 Forbidden.RAM"}}, &pricing{name: "idle"}
	s := &Session{opts: Options{Dir: t.TempDir()}, Providers: []plan.Provider{cloud, other, idle}}
	p := &plan.Plan{
		Changes: []plan.Change{
			{Address: "a", Provider: "cloud", Action: plan.Create},
			{Address: "b", Provider: "cloud", Action: plan.Update, Blocked: &plan.Block{Why: "no"}},
			{Address: "c", Provider: "cloud", Action: plan.Delete},
			{Address: "d", Provider: "idle", Action: plan.NoOp},
			{Address: "e", Provider: "idle", Action: plan.Forget},
			{Address: "f", Provider: "other", Action: plan.Replace},
		},
		Ops: []plan.Op{{ID: "x", Seconds: 7}, {ID: "y", Seconds: 5}},
	}
	e := s.Estimate(context.Background(), p, 1)
	if len(e.Prices) != 1 || e.Prices[0].Address != "a" || e.PriceNote != "prices are not known: 403 Forbidden.RAM" || e.Duration != 12*time.Second {
		t.Errorf("%+v", e)
	}
	if len(cloud.asked) != 1 || len(other.asked) != 1 || idle.asked != nil {
		t.Errorf("asked for %v, %v, %v", cloud.asked, other.asked, idle.asked)
	}
	other.err = errors.Join(context.DeadlineExceeded)
	if e := s.Estimate(context.Background(), p, 1); e.PriceNote != "prices are not known: no answer in time" {
		t.Errorf("%+v", e)
	}
}
