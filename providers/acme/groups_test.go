package acme

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mailform/plan"
	"mailform/providers/acme/acmesim"
	"mailform/server/manifest"
	"mailform/specs"
)

// shelf is a host with several certificates.
type shelf struct {
	*hosts // the main one, and the account
	more   map[string]*hosts
}

func (s shelf) of(name string) *hosts {
	if name == "mx1" {
		return s.hosts
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more[name] == nil {
		s.more[name] = &hosts{}
	}
	return s.more[name]
}

func (s shelf) CertificateRequest(ctx context.Context, host, name string, names []string, kind string, keep bool) ([]byte, error) {
	return s.of(name).CertificateRequest(ctx, host, name, names, kind, keep)
}

func (s shelf) InstallCertificate(ctx context.Context, host, name string, chain []byte, meta map[string]string) error {
	return s.of(name).InstallCertificate(ctx, host, name, chain, meta)
}

func (s shelf) RemoveCertificate(_ context.Context, _, name string) error {
	delete(s.more, name)
	return nil
}

func (s shelf) Certificates(host string) ([]manifest.Certificate, bool) {
	all, _ := s.hosts.Certificates(host)
	for _, h := range s.more {
		c, _ := h.Certificates(host)
		all = append(all, c...)
	}
	return all, true
}

// manyWebNames is a spec whose host answers under that many names, its own included.
func manyWebNames(n int) *specs.Spec {
	s := testSpec()
	z := &specs.Zone{Name: "acme.example"}
	for i := range n - 1 {
		z.Web = append(z.Web, specs.Web{Name: fmt.Sprintf("w%03d", 2*i), Host: "mx1"})
	}
	s.Zones = []*specs.Zone{z}
	return s
}

// A host with 150 names gets two certificates; another name costs one of them, and
// a certificate without names goes.
func TestManyNames(t *testing.T) {
	w := newWorld(t, acmesim.Config{RejectNonces: -1})
	host := shelf{w.hosts, map[string]*hosts{}}
	w.p = w.provider(func(c *Config) { c.Hosts = host })
	s := manyWebNames(150)
	p := w.plan(s)
	if got := actions(p); got != "create cert/mx1, create cert/mx1/2" {
		t.Fatalf("plan: %s", got)
	}
	if err := w.runParallel(p); err != nil {
		t.Fatal(err)
	}
	w.verify()
	first, second := w.hosts.cert, host.more["mx1-2"].cert
	if len(first.Names) != 100 || len(second.Names) != 50 || !slices.Contains(first.Names, "mail.acme.example") {
		t.Errorf("%d and %d names", len(first.Names), len(second.Names))
	}
	if again := w.plan(s); actions(again) != "" {
		t.Errorf("after apply there is still %s", actions(again))
	}

	// One that would sort among the first: only the second certificate is made anew.
	s.Zones[0].Web = append(s.Zones[0].Web, specs.Web{Name: "w001", Host: "mx1"})
	p = w.plan(s)
	if got := actions(p); got != "update cert/mx1/2" {
		t.Fatalf("one more name: %s", got)
	}
	if err := w.runParallel(p); err != nil {
		t.Fatal(err)
	}
	if w.hosts.cert != first || !slices.Contains(host.more["mx1-2"].cert.Names, "w001.acme.example") {
		t.Errorf("the first certificate is another one: %v", w.hosts.cert != first)
	}

	// Of few names those in the first certificate stay there, and the second goes.
	s = manyWebNames(60)
	p = w.plan(s)
	if got := actions(p); got != "update cert/mx1, delete cert/mx1/2" {
		t.Fatalf("90 names fewer: %s", got)
	}
	if err := w.runParallel(p); err != nil {
		t.Fatal(err)
	}
	if got := actions(w.plan(s)); got != "" || len(host.more) != 0 {
		t.Errorf("after that there is still %s, certificates %d", got, len(host.more))
	}
}

// What is said of a name waits for the certificate that holds it, which need not be
// the host's first.
func TestRecordsWaitForTheirCertificate(t *testing.T) {
	w := newWorld(t, acmesim.Config{RejectNonces: -1})
	s := manyWebNames(150)
	s.Domains[0].MTASTS = &specs.MTASTS{Mode: "enforce", MaxAge: day}
	second := *s.Domains[0]
	second.Name, second.Discovery = "zz.acme.example", true
	s.Domains = append(s.Domains, &second)
	desired, _ := w.p.Declare(s)
	records, diags := w.dns.Declare(s)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	all := slices.Concat(records, desired)
	before := fmt.Sprint(all)
	got, _, _, _ := w.p.Schedule(plan.Scheduling{Now: w.now, Desired: slices.Clone(all)})
	if fmt.Sprint(all) != before {
		t.Error("the wishes of others were changed in their place")
	}
	waits := map[plan.Address][]plan.Address{}
	for _, r := range got {
		for _, a := range r.DependsOn {
			if a.Kind() == "cert" {
				waits[r.Address] = append(waits[r.Address], a)
			}
		}
	}
	for record, cert := range map[plan.Address]plan.Address{
		"dns/acme.example/mta-sts":       "cert/mx1", // mta-sts.acme.example sorts before w…
		"dns/zz.acme.example/mta-sts":    "cert/mx1", // and mta-sts.zz.acme.example
		"dns/zz.acme.example/autoconfig": "cert/mx1",
		"dns/acme.example/web/w000":      "cert/mx1",
		"dns/acme.example/web/w296":      "cert/mx1/2",
	} {
		if got := waits[record]; len(got) != 1 || got[0] != cert {
			t.Errorf("%s waits for %v, want %s", record, got, cert)
		}
	}
	// A policy whose name came late is in the second certificate.
	late := *s.Domains[0]
	late.Name = "late.acme.example"
	s.Domains = append(s.Domains, &late)
	full := manyWebNames(100)
	there, _ := w.p.Declare(full)
	var observed []plan.Object
	for _, r := range there {
		observed = append(observed, plan.Object{Address: r.Address, Provider: Name, Attrs: r.Attrs})
	}
	records, _ = w.dns.Declare(s)
	desired, _ = w.p.Declare(s)
	got, _, _, _ = w.p.Schedule(plan.Scheduling{Now: w.now, Desired: slices.Concat(records, desired), Observed: observed})
	i := slices.IndexFunc(got, func(r plan.Resource) bool { return r.Address == "dns/late.acme.example/mta-sts" })
	if !slices.Contains(got[i].DependsOn, "cert/mx1/2") || slices.Contains(got[i].DependsOn, "cert/mx1") {
		t.Errorf("a late policy waits for %v", got[i].DependsOn)
	}
}

// The host that goes takes its certificates along.
func TestDestroyedHostNeedsNoRemoval(t *testing.T) {
	gone := []plan.Change{{Address: "cert/mx1", Action: plan.Delete}, {Address: "cert/mx1/2", Action: plan.Delete}, {Address: "cert/mx2/2", Action: plan.Delete}}
	ops := (&Provider{}).Compile(gone)
	if len(ops) != 1 || ops[0].Addresses[0] != "cert/mx2/2" {
		t.Errorf("%+v", ops)
	}
}

func TestNamesOfCertificates(t *testing.T) {
	for _, n := range []int{1, 2, 17} {
		if a := groupAddress("mx-1", n); groupOf(a) != n || addressOf("mx-1", certName(a)) != a {
			t.Errorf("%d: %s, %s", n, a, certName(a))
		}
	}
	for _, name := range []string{"mx-1-x", "mx-1-1", "mx-1-02", "mx-2", "other", "mx-1-"} {
		if a := addressOf("mx-1", name); a != "" {
			t.Errorf("%s is %s", name, a)
		}
	}
}

// Whatever comes and goes, every name is in exactly one certificate, none holds
// too many, and what can stay where it is stays.
func TestSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		there := map[int][]string{}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			names := []string{"mail"}
			for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 400), 0, 350, rapid.ID[int]).Draw(t, "names") {
				names = append(names, fmt.Sprintf("n%03d", i))
			}
			slices.Sort(names[1:])
			groups := spread(names, there)
			seen := map[string]int{}
			for n, group := range groups {
				if len(group) == 0 || len(group) > maxNames {
					t.Fatalf("certificate %d has %d names", n, len(group))
				}
				for _, name := range group {
					if seen[name] != 0 {
						t.Fatalf("%s is in %d and %d", name, seen[name], n)
					}
					seen[name] = n
				}
			}
			if len(seen) != len(names) || groups[1][0] != "mail" {
				t.Fatalf("%d of %d names, the first is %s", len(seen), len(names), groups[1][0])
			}
			for n, group := range there {
				for _, name := range group {
					if at := seen[name]; at != 0 && at != n {
						t.Fatalf("%s has moved from %d to %d", name, n, at)
					}
				}
			}
			if again := spread(names, groups); fmt.Sprint(again) != fmt.Sprint(groups) {
				t.Fatalf("not the same again: %s", strings.Join(names, " "))
			}
			there = groups
		}
	})
}
