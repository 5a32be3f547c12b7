package baddays

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
	"mailform/providers/world"
)

// blocklist is the one that knows the address which the cloud hands out next.
const blocklist = "bl.spamcop.net"

// listedFault is a day on which apply succeeds and its advice is what has to be right.
func listedFault() fault {
	return fault{id: "alicloud/address-listed", what: "the new address is on a blocklist", alike: anyAddress, cure: otherAddress,
		bend: func(w *weather) {
			w.begin = func(world *world.World) error { return world.ListNext(blocklist) }
		}}
}

// otherAddress takes the way out that the advice about a listed address names.
func otherAddress(ctx context.Context, d *day, row *Row) error {
	if !d.asks {
		return nil
	}
	d.weather.hit()
	i := slices.IndexFunc(d.advice, func(a plan.Advice) bool { return strings.HasSuffix(a.Title, " is on "+blocklist) })
	if i < 0 {
		return fmt.Errorf("nothing is said about the address on %s, but: %v", blocklist, d.advice)
	}
	listed, _, _ := strings.Cut(d.advice[i].Title, " ")
	way := wayOut.FindStringSubmatch(d.advice[i].Text)
	if way == nil {
		return fmt.Errorf("the advice names no way out: %s", d.advice[i].Text)
	}
	row.Said = d.advice[i].About + ": " + d.advice[i].Title + ": " + way[0]
	e := d.command(ctx, session.PlanOptions{Replace: way[1:2], Allow: way[2:3]})
	row.Runs++
	row.Codes = append(row.Codes, e.code)
	if e.err != nil {
		return fmt.Errorf("%s ends with %d: %s", way[0], e.code, d.text(e.err))
	}
	if slices.ContainsFunc(d.advice, func(a plan.Advice) bool { return a.Code == "address-listed" }) {
		return fmt.Errorf("after %s the advice is still %v", way[0], d.advice)
	}
	now, err := d.world.Describe()
	if err != nil {
		return err
	}
	for _, l := range now {
		if slices.Contains(address.FindAllString(l, -1), listed) {
			return fmt.Errorf("after %s the world still has %s: %s", way[0], listed, l)
		}
	}
	return nil
}

var (
	wayOut  = regexp.MustCompile(`(?m)^mailform apply --replace (\S+) --allow (\S+)$`)
	address = regexp.MustCompile(`\b127\.100\.\d+\.\d+\b`) // what a simulated cloud hands out
)

// anyAddress makes worlds alike whose hosts have other public addresses, after more or
// fewer that were given back.
func anyAddress(lines []string) []string {
	var out []string
	for _, l := range lines {
		if !strings.HasPrefix(l, "cloud ever made eip ") {
			out = append(out, address.ReplaceAllString(l, "ADDRESS"))
		}
	}
	return out
}
