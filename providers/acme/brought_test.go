package acme

import (
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/acme/acmesim"
	"mailform/specs"
)

func diskSpec() *specs.Spec {
	s := testSpec()
	s.Hosts[0].Instance = &specs.Instance{Type: "t", DataDisk: &specs.DataDisk{}}
	return s
}

// mounting lets a certificate be found once the first operation is under way, as when
// the disk that it is on is mounted by then.
func (w *world) mounting(s *specs.Spec) *plan.Plan {
	w.t.Helper()
	brought := w.hosts.cert
	w.hosts.cert = nil
	p := w.plan(s)
	w.hosts.cert = brought
	if got := actions(p); got != "create cert/mx1" {
		w.t.Fatalf("while nobody can look at the disk: %s", got)
	}
	return p
}

// A certificate that the data disk brings is used, and the CA not asked, unless it is
// due or not the one that is wanted.
func TestBroughtCertificate(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.apply(diskSpec())
	w.hosts.cert.OnDisk = true
	serial, requests := w.hosts.cert.SerialHex, w.hosts.requests
	if err := w.run(w.mounting(diskSpec())); err != nil {
		t.Fatal(err)
	}
	if w.hosts.cert.SerialHex != serial || w.hosts.requests != requests {
		t.Errorf("certificate %s instead of %s, %d more signing requests", w.hosts.cert.SerialHex, serial, w.hosts.requests-requests)
	}
	if got := actions(w.plan(diskSpec())); got != "" {
		t.Errorf("after it: %s", got)
	}

	other := diskSpec()
	other.Domains[0].Discovery = true
	if err := w.run(w.mounting(other)); err != nil {
		t.Fatal(err)
	}
	if w.hosts.cert.SerialHex == serial {
		t.Error("a certificate without a name that is wanted is taken")
	}
	serial = w.hosts.cert.SerialHex
	w.now = w.hosts.cert.NotAfter.Add(-24 * time.Hour)
	if err := w.run(w.mounting(other)); err != nil {
		t.Fatal(err)
	}
	if w.hosts.cert.SerialHex == serial {
		t.Error("a certificate that is due is taken")
	}
}

// One that goes before it is counted on is not taken for there.
func TestBroughtCertificateGoes(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.apply(diskSpec())
	p := w.mounting(diskSpec())
	for _, op := range p.Ops {
		if op.Kind == opInstall {
			op.Inputs = plan.Attrs{"host": plan.String("mx1"), "chain": plan.String("")}
			w.hosts.cert = nil
			if _, err := w.p.Do(t.Context(), op, "token", nil); err == nil || !strings.Contains(err.Error(), "is gone") {
				t.Errorf("%v", err)
			}
		}
	}
}

// A certificate is lost with what it is on.
func TestWhatCertificatesAreLostWith(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.apply(diskSpec())
	for _, c := range []struct {
		spec   *specs.Spec
		onDisk bool
		want   plan.Address
	}{
		{testSpec(), false, ""}, {testSpec(), true, ""},
		{diskSpec(), false, "host/mx1/instance"}, {diskSpec(), true, "host/mx1/data-disk"},
	} {
		w.hosts.cert.OnDisk = c.onDisk
		desired, _ := w.p.Declare(c.spec)
		found, err := w.p.Observe(t.Context(), plan.Scope{Stack: "acme-mail", Desired: desired})
		if err != nil || len(found.Objects) != 1 || found.Objects[0].Within != c.want {
			t.Errorf("on a disk %v: %+v %v, want within %q", c.onDisk, found.Objects, err, c.want)
		}
	}
}
