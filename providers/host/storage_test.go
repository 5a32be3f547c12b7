package host

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/specs"
)

// cloudMachine makes the lab's machine one that a cloud has made, with a data disk.
func (l *lab) cloudMachine(spec *specs.Spec, serial string, gib int) {
	h := spec.Hosts[0]
	h.Instance = &specs.Instance{Type: "t", DataDisk: &specs.DataDisk{Disk: specs.Disk{SizeGiB: gib}}}
	h.SSH.HostKey = ""
	l.known = map[plan.Ref]plan.Value{
		{Address: "host/mx1/address-link", Attr: "ip"}:       plan.String(l.address),
		{Address: "host/mx1/instance", Attr: "host_key"}:     plan.String(l.fingerprint()),
		{Address: "host/mx1/data-disk-link", Attr: "serial"}: plan.String(serial),
	}
}

// cloud adds to a plan what another provider would have, all of it there already.
func (l *lab) cloud(in *plan.Input) {
	for _, part := range []string{"address-link", "firewall", "instance", "data-disk", "data-disk-link"} {
		a := plan.Addr("host", "mx1", part)
		o := plan.Object{Address: a, Provider: "cloud", Kind: part, Owner: plan.Ours, Outputs: plan.Attrs{}}
		r := plan.Resource{Address: a, Provider: "cloud", Kind: part}
		for ref, v := range l.known {
			if ref.Address == a {
				o.Outputs[ref.Attr] = v
				r.Outputs = append(r.Outputs, ref.Attr)
			}
		}
		in.Desired, in.Observed = append(in.Desired, r), append(in.Observed, o)
	}
	in.Compilers["cloud"] = func([]plan.Change) []plan.Op { return nil }
}

func (l *lab) onCloud(spec *specs.Spec) *run {
	l.t.Helper()
	r, err := l.plan(l.provider(spec), spec, l.cloud)
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

// Mail goes to the data disk, survives a power cut there, grows with it, and is
// found by the machine that takes the place of the first.
func TestDataDisk(t *testing.T) {
	const gib = 1 << 30
	l := newLab(t, hostsim.Config{})
	disk, err := hostsim.NewDisk("bp1serial0123456789a", 20*gib)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.host.DetachDisk(disk.Serial)
		if err := disk.Destroy(); err != nil {
			t.Error(err)
		}
	})
	if err := l.host.AttachDisk(disk); err != nil {
		t.Fatal(err)
	}
	spec := l.spec()
	l.cloudMachine(spec, disk.Serial, 20)
	settle := func() {
		t.Helper()
		if p := l.onCloud(spec).pending(); len(p) > 0 {
			t.Fatalf("changes are left: %q", p)
		}
	}
	r := l.onCloud(spec)
	if !slices.Contains(r.pending(), "+ host/mx1/storage") {
		t.Fatalf("plan: %q", r.pending())
	}
	if err := r.apply(); err != nil {
		t.Fatalf("%v\n%s", err, l.log())
	}
	settle()
	if info := string(l.read("/proc/self/mountinfo")); !strings.Contains(info, " /var/lib/mailform ") {
		t.Errorf("mounts: %s", info)
	}
	credentials := string(l.read("/var/lib/mailform/credentials.json"))

	// The power goes.
	l.host.Stop()
	if err := l.host.Start(); err != nil {
		t.Fatal(err)
	}
	settle()

	// The disk grows.
	if err := disk.Resize(40 * gib); err != nil {
		t.Fatal(err)
	}
	spec.Hosts[0].Instance.DataDisk.SizeGiB = 40
	r = l.onCloud(spec)
	if got := r.pending(); !slices.Equal(got, []string{"~ host/mx1/storage"}) || !slices.Equal(r.kinds(), []string{opConverge}) {
		t.Errorf("grown disk: %q %q", got, r.kinds())
	}
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	settle()

	// Another machine takes the place of this one.
	if err := l.host.Destroy(); err != nil {
		t.Fatal(err)
	}
	next, err := hostsim.Start(hostsim.Config{Shim: hostshim, AuthorizedKeys: []string{string(ssh.MarshalAuthorizedKey(l.key.PublicKey()))}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Destroy() })
	l.host = next
	if err := next.AttachDisk(disk); err != nil {
		t.Fatal(err)
	}
	l.cloudMachine(spec, disk.Serial, 40)
	r = l.onCloud(spec)
	if err := r.apply(); err != nil {
		t.Fatalf("%v\n%s", err, l.log())
	}
	if len(r.secrets) > 0 || string(l.read("/var/lib/mailform/credentials.json")) != credentials {
		t.Error("the passwords are not those of the disk")
	}
	settle()

	// Taking it away is asked for by name.
	spec.Hosts[0].Instance.DataDisk = nil
	r = l.onCloud(spec)
	i := slices.IndexFunc(r.plan.Changes, func(c plan.Change) bool { return c.Address == "host/mx1/storage" })
	if c := r.plan.Changes[i]; c.Action != plan.Delete || c.Blocked == nil || c.Risk != plan.RiskLosesData || len(r.plan.Ops) > 0 {
		t.Errorf("without the disk: %+v", c)
	}
}
