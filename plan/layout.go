package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// group is what people read together: everything of one host or one domain.
type group struct {
	Title   string // "host mx1", "domain acme.example", "other"
	Changes []Change
}

// groups sorts the changes that people see (no-ops are not) into groups: hosts
// first, then domains, and within a group in the order in which a mail system
// is built.
func (p *Plan) groups() []group {
	at := map[string]int{}
	var out []group
	for _, c := range p.Changes {
		if c.Action == NoOp {
			continue
		}
		title := GroupOf(c.Address)
		i, ok := at[title]
		if !ok {
			i = len(out)
			at[title] = i
			out = append(out, group{Title: title})
		}
		out[i].Changes = append(out[i].Changes, c)
	}
	slices.SortFunc(out, func(x, y group) int { return CompareGroups(x.Title, y.Title) })
	ranks := make(map[Address]int, len(p.Changes))
	for _, g := range out {
		for _, c := range g.Changes {
			ranks[c.Address] = readingRank(c.Address)
		}
		slices.SortStableFunc(g.Changes, func(x, y Change) int {
			return cmp.Compare(ranks[x.Address], ranks[y.Address])
		})
	}
	return out
}

// CompareGroups orders the titles that GroupOf gives as people read them: hosts,
// domains, the rest, each by name.
func CompareGroups(x, y string) int {
	rank := func(title string) int {
		kind, _, _ := strings.Cut(title, " ")
		return slices.Index([]string{"host", "domain", "other"}, kind)
	}
	return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x, y))
}

// GroupOf is the title of what people read an address together with: "host mx1",
// "domain acme.example" or "other".
func GroupOf(a Address) string {
	seg := a.Segments()
	if len(seg) < 2 || seg[1] == "" {
		return "other"
	}
	switch seg[0] {
	case "host", "server", "cert":
		return "host " + seg[1]
	case "zone", "dns", "dkim", "catch-all":
		return "domain " + seg[1]
	case "mailbox", "alias":
		// A local part may hold "/" and, quoted, "@".
		if i := strings.LastIndexByte(string(a), '@'); i >= 0 && i+1 < len(a) {
			return "domain " + string(a[i+1:])
		}
	}
	return "other"
}

// readingOrder is the order of things within a group.
var readingOrder = []string{
	"host/*/network", "host/*/subnet", "host/*/firewall", "host/*/ssh-key", "host/*/instance", "host/*/data-disk",
	"host/*/address", "host/*/address-link", "host/*/agent", "host/*", "cert/*", "server/*",
	"zone/*", "dkim/*", "dns/*/a/*", "dns/*/mx", "dns/*/spf", "dns/*/dkim/*", "dns/*/dmarc", "dns/*",
	"mailbox/*", "alias/*", "catch-all/*",
}

func readingRank(a Address) int {
	for i, pattern := range readingOrder {
		if Match(pattern, a) {
			return i
		}
	}
	return len(readingOrder)
}

// fold is a run of changes that read alike, of which only the first are shown.
type fold struct {
	Shown  []Change
	Hidden int
}

// foldRuns cuts a group's changes into runs of the same kind, action and risk
// and hides what is beyond limit, but never a single one. Blocked ones are alike
// when they are blocked for the same reason. A limit of 0 or less hides nothing.
func foldRuns(changes []Change, limit int) []fold {
	alike := func(x, y Change) bool {
		if (x.Blocked == nil) != (y.Blocked == nil) || x.Blocked != nil && x.Blocked.Why != y.Blocked.Why {
			return false
		}
		return x.Action == y.Action && x.Risk == y.Risk && x.Address.Kind() == y.Address.Kind()
	}
	var folds []fold
	for len(changes) > 0 {
		n := 1
		for n < len(changes) && alike(changes[0], changes[n]) {
			n++
		}
		f := fold{Shown: changes[:n]}
		if limit > 0 && n > limit+1 {
			f = fold{Shown: changes[:limit], Hidden: n - limit}
		}
		folds = append(folds, f)
		changes = changes[n:]
	}
	return folds
}

// plural names n things of an address's kind.
func plural(kind string) string {
	switch kind {
	case "mailbox":
		return "mailboxes"
	case "alias":
		return "aliases"
	case "dns":
		return "records"
	case "dkim":
		return "keys"
	}
	return "changes"
}

// verb is an action in "12 to create".
func verb(a Action) string {
	if a == Update {
		return "change"
	}
	return string(a)
}

// hidden says what a fold leaves out.
func (f fold) hidden() string {
	c := f.Shown[0]
	s := fmt.Sprintf("… and %s more %s to %s", thousands(f.Hidden), plural(c.Address.Kind()), verb(c.Action))
	if c.Blocked != nil {
		s += ", blocked as well"
	}
	return s
}
