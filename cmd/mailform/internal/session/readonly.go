package session

import (
	"context"

	"mailform/plan"
)

// ReadOnly makes every provider refuse whatever has an effect. What is left can
// declare, observe and plan.
func (s *Session) ReadOnly() {
	for i, p := range s.Providers {
		r := readOnly{p}
		if m, ok := p.(plan.Merger); ok {
			s.Providers[i] = readOnlyMerger{r, m}
			continue
		}
		s.Providers[i] = r
	}
}

type readOnly struct{ plan.Provider }

type readOnlyMerger struct {
	readOnly
	plan.Merger
}

func (readOnly) Do(_ context.Context, op plan.Op, _ plan.Token, _ plan.Progress) (plan.Result, error) {
	return plan.Result{}, refuse(op)
}

func (readOnly) Resolve(_ context.Context, op plan.Op, _ plan.Token) (plan.Verdict, plan.Result, error) {
	return plan.Undecidable, plan.Result{}, refuse(op)
}

func refuse(op plan.Op) error {
	return &plan.Error{Class: plan.ErrBlocked, Code: "MF4020", Step: op.Title,
		Got: "this command only reads", Fix: "this is a defect of mailform, please report it"}
}
