package plan

import "slices"

// Summary counts what a plan does. Blocked changes are counted in Blocked only.
type Summary struct {
	Create  int `json:"create"`   // changes that make something
	Update  int `json:"update"`   // changes in place
	Replace int `json:"replace"`  // changes that delete and make again
	Delete  int `json:"delete"`   // changes that take something away
	Adopt   int `json:"adopt"`    // unmarked things that become ours as they are
	Rotate  int `json:"rotate"`   // renewals
	Wait    int `json:"wait"`     // things that wait for their time
	Forget  int `json:"forget"`   // things that stop being ours and stay
	NoOp    int `json:"no_op"`    // things that stay as they are
	Blocked int `json:"blocked"`  // changes that will not be applied
	LeftOut int `json:"left_out"` // changes that --only or --except put off; they count in NoOp, too

	Ignored    int `json:"ignored"`    // differences that the spec ignores
	Foreign    int `json:"foreign"`    // objects seen and left alone
	Operations int `json:"operations"` // steps of applying
	Seconds    int `json:"seconds"`    // how long an apply typically takes; 0 when unknown
}

// Changes is the number of changes that would be applied.
func (s Summary) Changes() int {
	return s.Create + s.Update + s.Replace + s.Delete + s.Adopt + s.Rotate + s.Forget
}

// Summary counts the plan's changes.
func (p *Plan) Summary() Summary {
	s := Summary{Operations: len(p.Ops), Seconds: Estimate{}.seconds(p)}
	for _, c := range p.Changes {
		s.Ignored += len(c.Ignored)
		if c.Blocked != nil {
			s.Blocked++
			continue
		}
		switch c.Action {
		case Create:
			s.Create++
		case Update:
			s.Update++
		case Replace:
			s.Replace++
		case Delete:
			s.Delete++
		case Adopt:
			s.Adopt++
		case Rotate:
			s.Rotate++
		case Wait:
			s.Wait++
		case Forget:
			s.Forget++
		case NoOp:
			s.NoOp++
			if c.LeftOut != "" {
				s.LeftOut++
			}
		}
	}
	for _, f := range p.Foreign {
		s.Foreign += f.Count
	}
	return s
}

// HasChanges reports whether applying the plan would do anything.
func (p *Plan) HasChanges() bool {
	return slices.ContainsFunc(p.Changes, Change.Pending)
}

// HasBlocked reports whether something in the plan will not be done without
// being allowed.
func (p *Plan) HasBlocked() bool {
	return slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Blocked != nil })
}

// Change returns the change at an address.
func (p *Plan) Change(a Address) (Change, bool) {
	i, ok := slices.BinarySearchFunc(p.Changes, a, func(c Change, a Address) int {
		switch {
		case c.Address < a:
			return -1
		case c.Address > a:
			return 1
		}
		return 0
	})
	if !ok {
		return Change{}, false
	}
	return p.Changes[i], true
}
