package progress

import (
	"fmt"

	"mailform/apply"
)

// skips collects the operations that are skipped for one and the same reason: one
// failure near the root of a plan takes most of it along, and a line for each
// would bury the failure.
type skips struct {
	first apply.Event
	n     int
}

// add takes in a skipped operation. It reports false when that has another reason
// than those before it, which must be told first.
func (s *skips) add(e apply.Event) bool {
	if s.n > 0 && s.first.Message != e.Message {
		return false
	}
	if s.n == 0 {
		s.first = e
	}
	s.n++
	return true
}

// take returns what was skipped and why, and begins anew.
func (s *skips) take() (name, why string, any bool) {
	if s.n == 0 {
		return "", "", false
	}
	title, where := label(s.first)
	name = title
	if where != "" {
		name += " " + where
	}
	if s.n > 1 {
		name = fmt.Sprintf("%d steps, the first of them %s", s.n, name)
	}
	why = clean(s.first.Message)
	*s = skips{}
	return name, why, true
}
