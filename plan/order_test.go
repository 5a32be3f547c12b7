package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// reach answers whether one operation of a plan waits for another.
func reach(t *testing.T, p *Plan) func(first, then string) bool {
	after := map[string][]string{}
	for _, op := range p.Ops {
		after[op.ID] = op.After
	}
	var waits func(string, string, map[string]bool) bool
	waits = func(id, first string, seen map[string]bool) bool {
		for _, a := range after[id] {
			if a == first {
				return true
			}
			if !seen[a] {
				seen[a] = true
				if waits(a, first, seen) {
					return true
				}
			}
		}
		return false
	}
	return func(first, then string) bool {
		t.Helper()
		for _, id := range []string{first, then} {
			if _, ok := after[id]; !ok {
				t.Fatalf("no operation %q in:\n%s", id, opList(p))
			}
		}
		return waits(then, first, map[string]bool{})
	}
}

func opList(p *Plan) string {
	var b strings.Builder
	for _, op := range p.Ops {
		fmt.Fprintf(&b, "%s <- %s\n", op.ID, strings.Join(op.After, ", "))
	}
	return b.String()
}

func inOrder(t *testing.T, p *Plan, ids ...string) {
	t.Helper()
	before := reach(t, p)
	for i := 1; i < len(ids); i++ {
		if !before(ids[i-1], ids[i]) {
			t.Errorf("%q does not come before %q in:\n%s", ids[i-1], ids[i], opList(p))
		}
	}
}

func TestMXIsPublishedLast(t *testing.T) {
	p := mustBuild(t, sampleInput(sampleDesired("alice"), zoneFound()))
	inOrder(t, p, "alicloud.create host/mx1/instance", "alicloud.create host/mx1/address-link", "host.Install mx1",
		"acme.Obtain cert/mx1", "host.Converge mx1", "cloudflare.mx acme.example")
	inOrder(t, p, "cloudflare.records acme.example", "cloudflare.mx acme.example")
	inOrder(t, p, "host.Keys mx1", "cloudflare.dkim acme.example")
}

// On destroy mail is told not to come before anything else goes. What lives on
// the machine goes with it, without operations, and the order holds across it.
func TestMXGoesFirst(t *testing.T) {
	in := sampleInput(sampleDesired("alice"), applied(sampleDesired("alice")))
	in.Destroy = true
	p := mustBuild(t, in)
	inOrder(t, p, "cloudflare.remove mx acme.example", "cloudflare.remove acme.example", "alicloud.delete host/mx1/address-link",
		"alicloud.delete host/mx1/instance", "alicloud.delete host/mx1/subnet", "alicloud.delete host/mx1/network")
	for _, op := range p.Ops {
		if op.Provider == "host" || op.Provider == "acme" {
			t.Errorf("%s: the machine goes, nothing needs doing on it", op.ID)
		}
	}
}

// A change without operations is complete when what it depends on is.
func TestOrderHoldsAcrossChangesWithoutOperations(t *testing.T) {
	silent := func(changes []Change) []Op {
		return slices.DeleteFunc(eachAlone(changes), func(op Op) bool { return strings.Contains(op.ID, "silent") })
	}
	in := Input{Desired: []Resource{res("other/a", "1"), res("other/silent-b", "1", "other/a"), res("other/silent-c", "1", "other/silent-b"), res("other/d", "1", "other/silent-c")}}
	in.Compilers = compilers(in, silent)
	inOrder(t, mustBuild(t, in), "p.create other/a", "p.create other/d")

	in = Input{Observed: []Object{obj("other/a", "1"), obj("other/silent-b", "1", "other/a"), obj("other/silent-c", "1", "other/silent-b"), obj("other/d", "1", "other/silent-c")}}
	in.Compilers = compilers(in, silent)
	inOrder(t, mustBuild(t, in), "p.delete other/d", "p.delete other/a")
}

func TestBuildUpBeforeTearingDown(t *testing.T) {
	in := Input{
		Desired:  []Resource{res("host/new/instance", "1"), res("server/new", "1", "host/new/instance"), res("dns/a.example/mx", "new", "server/new"), res("mailbox/alice@a.example", "1", "server/new")},
		Observed: []Object{obj("host/old/instance", "1"), obj("server/old", "1", "host/old/instance"), obj("dns/a.example/mx", "old", "server/old"), obj("mailbox/bob@a.example", "1")},
	}
	p := mustBuild(t, in)
	inOrder(t, p, "p.create host/new/instance", "p.create server/new", "p.update dns/a.example/mx", "p.delete server/old", "p.delete host/old/instance")
	inOrder(t, p, "p.create mailbox/alice@a.example", "p.delete server/old")
	// Taking a person's access away does not wait for a machine.
	if reach(t, p)("p.create server/new", "p.delete mailbox/bob@a.example") {
		t.Errorf("the removal of a mailbox waits:\n%s", opList(p))
	}
}

// Replacing goes down one side and up the other when the provider says which
// half of it removes.
func TestReplaceRemovesDependentsFirst(t *testing.T) {
	two := func(r *Resource) { r.Kind, r.ReplaceOn = "two-step", []string{"v", "of"} }
	found := func(o *Object) { o.Kind = "two-step" }
	p := mustBuild(t, Input{
		Desired: []Resource{with(res("other/x", "2"), two), with(with(res("other/y", "1"), ref("of", Unknown("other/x", "id"))), two)},
		Observed: []Object{with(obj("other/x", "1"), found),
			with(with(obj("other/y", "1"), attr("of", String("id-of-other/x"))), found)},
	})
	inOrder(t, p, "p.remove other/y", "p.remove other/x", "p.replace other/x", "p.replace other/y")
}

// What stays is changed before what it no longer needs goes.
func TestReleaseBeforeDelete(t *testing.T) {
	p := mustBuild(t, Input{
		Desired:  []Resource{res("mailbox/x", "2")},
		Observed: []Object{obj("mailbox/x", "1", "mailbox/old"), obj("mailbox/old", "1")},
	})
	inOrder(t, p, "p.update mailbox/x", "p.delete mailbox/old")
}

// A reference in an operation's inputs is an edge even where the change has none.
func TestInputsAreDependencies(t *testing.T) {
	in := Input{Desired: []Resource{res("other/a", "1"), res("other/b", "1")}}
	in.Compilers = compilers(in, func([]Change) []Op {
		return []Op{
			{ID: "1", Provider: "p", Addresses: []Address{"other/b"}, Inputs: Attrs{"x": Unknown("other/a", "id")}},
			{ID: "2", Provider: "p", Addresses: []Address{"other/a"}},
			{ID: "3", Provider: "p", Addresses: []Address{"other/a"}, Inputs: Attrs{"own": Unknown("other/a", "id")}, After: []string{"2"}},
		}
	})
	inOrder(t, mustBuild(t, in), "2", "3", "1")
}

// Edges do not multiply: thousands of changes that share an operation, and
// thousands of operations on both sides of a barrier, give few.
func TestEdgesStayFew(t *testing.T) {
	edges := func(p *Plan) (n int) {
		for _, op := range p.Ops {
			n += len(op.After)
		}
		return n
	}
	in := sampleInput(sampleDesired(many(5000)...), zoneFound())
	if p := mustBuild(t, in); edges(p) > 40 {
		t.Errorf("%d edges for one server's mailboxes", edges(p))
	}
	var wide Input
	for i := range 2000 {
		wide.Desired = append(wide.Desired, res(Addr("other", fmt.Sprint("new", i)), "1"))
		wide.Observed = append(wide.Observed, obj(Addr("other", fmt.Sprint("old", i)), "1"))
	}
	p := mustBuild(t, wide)
	if n := edges(p); n > 3*len(p.Ops) {
		t.Errorf("%d edges between %d operations", n, len(p.Ops))
	}
	inOrder(t, p, "p.create other/new1999", "p.delete other/old0")
	inOrder(t, p, "p.create other/new0", "p.delete other/old1999")
}

func TestImpliedEdgesAreLeftOut(t *testing.T) {
	p := mustBuild(t, Input{Desired: []Resource{res("other/a", "1"), res("other/b", "1", "other/a"), res("other/c", "1", "other/a", "other/b")}})
	equalText(t, opList(p), "p.create other/a <- \np.create other/b <- p.create other/a\np.create other/c <- p.create other/b")
}

// sortGraph finds an order exactly when there is one, and reduce keeps what is
// reachable.
func TestPropertySortAndReduce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "n")
		preds := make([][]int, n)
		for range rapid.IntRange(0, 30).Draw(t, "edges") {
			v, p := rapid.IntRange(0, n-1).Draw(t, "v"), rapid.IntRange(0, n-1).Draw(t, "p")
			if !slices.Contains(preds[v], p) {
				preds[v] = append(preds[v], p)
			}
		}
		reaches := func() [12][12]bool {
			var r [12][12]bool
			for v := range preds {
				for _, p := range preds[v] {
					r[v][p] = true
				}
			}
			for k := range n {
				for i := range n {
					for j := range n {
						r[i][j] = r[i][j] || r[i][k] && r[k][j]
					}
				}
			}
			return r
		}
		before := reaches()
		cyclic := false
		for v := range n {
			cyclic = cyclic || before[v][v]
		}
		order, cycles := sortGraph(n, func(v int) []int { return preds[v] })
		if cyclic != (len(cycles) > 0) {
			t.Fatalf("cyclic %v, cycles %v in %v", cyclic, cycles, preds)
		}
		for _, c := range cycles {
			for i, v := range c {
				if !slices.Contains(preds[v], c[(i+1)%len(c)]) {
					t.Fatalf("%v is no cycle of %v", c, preds)
				}
			}
		}
		if cyclic {
			return
		}
		for v := range preds {
			for _, p := range preds[v] {
				if slices.Index(order, p) > slices.Index(order, v) {
					t.Fatalf("%d before its predecessor %d in %v", v, p, order)
				}
			}
		}
		reduce(preds, order)
		if reaches() != before {
			t.Fatal("reduce changed what is reachable")
		}
	})
}

// An operation may use what an earlier one of the same change has brought about:
// that is no dependency of the change on itself.
func TestOwnOutputsAreNoCycle(t *testing.T) {
	in := Input{Desired: []Resource{res("cert/a", "1", "other/host"), res("other/host", "1"), res("server/a", "1", "cert/a")}}
	in.Compilers = compilers(in, func(changes []Change) []Op {
		var ops []Op
		for _, op := range eachAlone(changes) {
			if a := op.Addresses[0]; a == "cert/a" {
				ops = append(ops, Op{ID: "request", Provider: "p", Addresses: op.Addresses},
					Op{ID: "obtain", Provider: "p", Addresses: op.Addresses, Inputs: Attrs{"csr": Unknown(a, "csr")}, After: []string{"request"}},
					Op{ID: "install", Provider: "p", Addresses: op.Addresses, Inputs: Attrs{"chain": Unknown(a, "chain")}, After: []string{"obtain"}})
				continue
			}
			ops = append(ops, op)
		}
		return ops
	})
	inOrder(t, mustBuild(t, in), "p.create other/host", "request", "obtain", "install", "p.create server/a")
}
