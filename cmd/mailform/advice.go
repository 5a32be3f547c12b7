package main

import (
	"fmt"

	"mailform/apply"
	"mailform/apply/progress"
	"mailform/plan"
)

// showAdvice says, once and last, what a person should do.
func (a *app) showAdvice(list []plan.Advice, asJSON bool) {
	if len(list) == 0 {
		return
	}
	if asJSON {
		events := progress.NewJSON(a.term.out)
		for _, advice := range list {
			events.Event(apply.Event{Kind: apply.EventAdvice, Time: a.env.Now(), Advice: &advice})
		}
		return
	}
	fmt.Fprint(a.term.out, "\n"+plan.AdviceText(list, a.term.width, a.term.outStyle))
}
