package apply

import (
	"sync/atomic"

	"mailform/plan"
)

// progress returns what an operation reports its progress to, and a function
// that silences it: a provider's forgotten goroutine must not speak of an
// operation that has ended.
func (e *engine) progress(op plan.Op) (plan.Progress, func()) {
	var over atomic.Bool
	report := func(message string, done, total int64) {
		if over.Load() {
			return
		}
		ev := opEvent(EventProgress, op)
		ev.Message, ev.Done, ev.Total = message, done, total
		e.emit(ev)
	}
	return report, func() { over.Store(true) }
}
