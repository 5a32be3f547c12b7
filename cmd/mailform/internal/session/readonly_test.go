package session

import (
	"context"
	"testing"

	"mailform/plan"
)

// writer is a provider that tells when it is asked to write.
type writer struct {
	plan.Provider
	wrote bool
}

func (w *writer) Do(context.Context, plan.Op, plan.Token, plan.Progress) (plan.Result, error) {
	w.wrote = true
	return plan.Result{}, nil
}

func (w *writer) Resolve(context.Context, plan.Op, plan.Token) (plan.Verdict, plan.Result, error) {
	w.wrote = true
	return plan.Done, plan.Result{}, nil
}

type joining struct{ *writer }

func (joining) Merge(r plan.Resource, _ plan.Object) (plan.Resource, bool) { return r, true }

// A session that only reads cannot be made to write, and plans like any other.
func TestReadOnly(t *testing.T) {
	var one, two writer
	s := &Session{Providers: []plan.Provider{&one, joining{&two}}}
	s.ReadOnly()
	for _, p := range s.Providers {
		if _, err := p.Do(t.Context(), plan.Op{Title: "write"}, "", nil); plan.ClassOf(err) != plan.ErrBlocked {
			t.Errorf("Do: %v", err)
		}
		if verdict, _, err := p.Resolve(t.Context(), plan.Op{Title: "write"}, ""); err == nil || verdict != plan.Undecidable {
			t.Errorf("Resolve: %v, %v", verdict, err)
		}
	}
	if one.wrote || two.wrote {
		t.Error("a provider was asked to write")
	}
	if _, ok := s.Providers[0].(plan.Merger); ok {
		t.Error("a provider that cannot merge now can")
	}
	if _, ok := s.Providers[1].(plan.Merger); !ok {
		t.Error("a provider that can merge no longer can")
	}
}
