package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"mailform/plan/style"
)

// Upcoming is a renewal whose time has not come: nothing to do today, and good to
// know. It stands beside a plan and is no part of it, which therefore stays the
// same plan while time passes.
type Upcoming struct {
	Address Address   `json:"address"` // of what is renewed: "cert/mx1"
	At      time.Time `json:"at"`      // RFC 3339 in UTC
	Why     string    `json:"why"`     // who chose that time, for people

	in time.Duration
}

// FindUpcoming takes the renewals to come from what was observed, soonest first.
// What the plan changes anyway is not among them.
func FindUpcoming(objects []Object, p *Plan, now time.Time) []Upcoming {
	busy := map[Address]bool{}
	for _, c := range p.Changes {
		busy[c.Address] = c.Action != NoOp && c.Action != Wait
	}
	var out []Upcoming
	for _, o := range objects {
		if changing, known := busy[o.Address]; known && !changing && !o.Renews.IsZero() && o.Owner == Ours {
			out = append(out, Upcoming{o.Address, o.Renews.UTC(), o.RenewsWhy, o.Renews.Sub(now)})
		}
	}
	slices.SortFunc(out, func(a, b Upcoming) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Address, b.Address)) })
	return out
}

// Until is how long a duration is, as far as people care: "12 days", "7 hours".
func Until(d time.Duration) string {
	n, unit := int(d.Hours()/24), "day"
	switch {
	case d < time.Hour:
		return "less than an hour"
	case d < 48*time.Hour:
		n, unit = int(d.Hours()), "hour"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

// words is the renewal in a line: "cert/mx1 renews in 12 days, on 2026-12-04".
func (u Upcoming) words() string {
	return fmt.Sprintf("%s renews in %s, on %s", style.Clean(string(u.Address)), Until(u.in), u.At.Format(time.DateOnly))
}

// maxUpcoming is how many renewals are shown one by one.
const maxUpcoming = 4

// upcomingWords are the renewals to come, a line each.
func (e Estimate) upcomingWords() []string {
	var lines []string
	for i, u := range e.Upcoming {
		if i == maxUpcoming-1 && len(e.Upcoming) > maxUpcoming {
			return append(lines, fmt.Sprintf("%d more renew later", len(e.Upcoming)-i))
		}
		lines = append(lines, u.words())
	}
	return lines
}
