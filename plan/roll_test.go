package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// fleet is what a spec with several hosts wants, in short: an instance, an agent and
// a server each, with a domain of its own.
func fleet(hosts ...string) []Resource {
	var out []Resource
	for _, h := range hosts {
		instance, agent, domain := Addr("host", h, "instance"), Addr("host", h, "agent"), h+".example"
		out = append(out,
			Resource{Address: instance, Provider: "alicloud", Kind: "instance", Attrs: Attrs{"type": String("small")}, Outputs: []string{"id"},
				Interrupts: "the instance is stopped", InterruptsOn: []string{"type"}},
			Resource{Address: agent, Provider: "host", Kind: "agent", Attrs: Attrs{"version": String("1")}, DependsOn: []Address{instance}},
			Resource{Address: Addr("server", h), Provider: "host", Kind: "server", Attrs: Attrs{"version": String("1"), "limit": Int(10)}, Outputs: []string{"ready"}, DependsOn: []Address{agent}},
			Resource{Address: Addr("mailbox", "a@"+domain), Provider: "host", Kind: "mailbox", Attrs: Attrs{"host": String(h), "quota": Int(1)}, DependsOn: []Address{Addr("server", h)}},
			Resource{Address: Addr("dns", domain, "mx"), Provider: "cloudflare", Kind: "record", Attrs: Attrs{"ready": Unknown(Addr("server", h), "ready")}},
		)
	}
	return out
}

// onEvery changes an attribute of the same thing of every host.
func onEvery(rs []Resource, match func(Address) bool, attr string, v Value) []Resource {
	out := slices.Clone(rs)
	for i, r := range out {
		if match(r.Address) {
			attrs := Attrs{}
			for k, old := range r.Attrs {
				attrs[k] = old
			}
			attrs[attr] = v
			out[i].Attrs = attrs
		}
	}
	return out
}

// fleetInput has an operation for every change.
func fleetInput(desired []Resource, observed []Object) Input {
	return Input{Desired: desired, Observed: observed}
}

func isServer(a Address) bool   { return a.Segments()[0] == "server" }
func isAgent(a Address) bool    { return strings.HasSuffix(string(a), "/agent") }
func isInstance(a Address) bool { return strings.HasSuffix(string(a), "/instance") }
func isMailbox(a Address) bool  { return a.Segments()[0] == "mailbox" }

// theirs are the operations of a plan that serve something of one host's.
func theirs(p *Plan, host string, match func(Address) bool) (ids []string) {
	for _, op := range p.Ops {
		if slices.ContainsFunc(op.Addresses, func(a Address) bool {
			return match(a) && (len(a.Segments()) > 1 && a.Segments()[1] == host || strings.HasSuffix(string(a), "@"+host+".example"))
		}) {
			ids = append(ids, op.ID)
		}
	}
	return ids
}

func TestHostsTakeTurns(t *testing.T) {
	for _, hosts := range [][]string{{"mx1", "mx2"}, {"mx1", "mx2", "mx3"}} {
		had := fleet(hosts...)
		for name, tc := range map[string]struct {
			want  []Resource
			match func(Address) bool
			turns bool
		}{
			"new settings":    {onEvery(had, isServer, "limit", Int(20)), isServer, true},
			"a new version":   {onEvery(onEvery(had, isAgent, "version", String("2")), isServer, "version", String("2")), isServer, true},
			"the upload":      {onEvery(onEvery(had, isAgent, "version", String("2")), isServer, "version", String("2")), isAgent, false},
			"another machine": {onEvery(had, isInstance, "type", String("large")), isInstance, true},
			"more quota":      {onEvery(had, isMailbox, "quota", Int(2)), isMailbox, false},
		} {
			t.Run(fmt.Sprintf("%s of %d", name, len(hosts)), func(t *testing.T) {
				p := mustBuild(t, fleetInput(tc.want, applied(had)))
				before := reach(t, p)
				for i := 1; i < len(hosts); i++ {
					for _, first := range theirs(p, hosts[i-1], tc.match) {
						for _, then := range theirs(p, hosts[i], tc.match) {
							if before(first, then) != tc.turns {
								t.Errorf("%q before %q: %v, want %v in\n%s", first, then, !tc.turns, tc.turns, opList(p))
							}
						}
					}
				}
			})
		}
		// What makes new hosts goes on at the same time, beside the turns of the old.
		p := mustBuild(t, fleetInput(append(onEvery(had, isServer, "limit", Int(20)), fleet("new1", "new2")...), applied(had)))
		before := reach(t, p)
		for _, pair := range [][2]string{{"new1", "new2"}, {"new2", "new1"}, {hosts[0], "new1"}, {hosts[1], "new2"}} {
			for _, first := range theirs(p, pair[0], isServer) {
				for _, then := range theirs(p, pair[1], isServer) {
					if before(first, then) {
						t.Errorf("%q waits for %q", then, first)
					}
				}
			}
		}
	}
}

// A machine that is resized takes its turn with one whose server gets new settings.
func TestTurnsOfDifferentKinds(t *testing.T) {
	had := fleet("mx1", "mx2")
	want := onEvery(onEvery(had, func(a Address) bool { return a == "server/mx1" }, "limit", Int(20)), func(a Address) bool { return a == "host/mx2/instance" }, "type", String("large"))
	p := mustBuild(t, fleetInput(want, applied(had)))
	inOrder(t, p, theirs(p, "mx1", isServer)[0], theirs(p, "mx2", isInstance)[0])
}

// When one host fails, what comes after it is never begun and the others serve on.
func TestAFailedTurnEndsTheRoll(t *testing.T) {
	had := fleet("mx1", "mx2", "mx3")
	p := mustBuild(t, fleetInput(onEvery(had, isServer, "limit", Int(20)), applied(had)))
	before := reach(t, p)
	failed := theirs(p, "mx2", isServer)[0]
	if before(failed, theirs(p, "mx1", isServer)[0]) {
		t.Error("the first host waits for the second")
	}
	if !before(failed, theirs(p, "mx3", isServer)[0]) {
		t.Error("the third host goes on although the second has failed")
	}
}

// Whatever changes, at most one host is without mail at a time, and the graph has
// no cycle (mustBuild).
func TestPropertyTurns(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var hosts []string
		for i := range rapid.IntRange(2, 5).Draw(rt, "hosts") {
			hosts = append(hosts, fmt.Sprintf("mx%d", i))
		}
		had := fleet(hosts...)
		want := slices.Clone(had)
		changed := map[string]bool{}
		for _, h := range hosts {
			switch rapid.SampledFrom([]string{"nothing", "settings", "resize", "both", "mailbox"}).Draw(rt, h) {
			case "settings":
				want = onEvery(want, func(a Address) bool { return a == Addr("server", h) }, "limit", Int(20))
				changed[h] = true
			case "resize":
				want = onEvery(want, func(a Address) bool { return a == Addr("host", h, "instance") }, "type", String("large"))
				changed[h] = true
			case "both":
				want = onEvery(onEvery(want, func(a Address) bool { return a == Addr("server", h) }, "limit", Int(20)), func(a Address) bool { return a == Addr("host", h, "instance") }, "type", String("large"))
				changed[h] = true
			case "mailbox":
				want = onEvery(want, func(a Address) bool { return a == Addr("mailbox", "a@"+h+".example") }, "quota", Int(9))
			}
		}
		p := mustBuild(t, fleetInput(want, applied(had)))
		before := reach(t, p)
		stops := func(a Address) bool { return isServer(a) || isInstance(a) }
		for i, a := range hosts {
			for _, b := range hosts[i+1:] {
				if !changed[a] || !changed[b] {
					continue
				}
				for _, x := range theirs(p, a, stops) {
					for _, y := range theirs(p, b, stops) {
						if before(x, y) == before(y, x) {
							rt.Fatalf("%q and %q may run at the same time:\n%s", x, y, opList(p))
						}
					}
				}
			}
		}
	})
}
