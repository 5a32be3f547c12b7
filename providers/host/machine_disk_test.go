package host

import (
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostlab"
)

// TestRealMachineKeepsKeys moves the data disk of a real machine to the next one: its
// keys and its certificate are those of the first. They move to a disk that comes
// later, survive a power cut, and come back from one that goes.
func TestRealMachineKeepsKeys(t *testing.T) {
	const serial = "bp1serial0123456789a"
	l := newRealLab(t, hostlab.WithDisk(serial, 1<<30))
	spec := l.spec()
	l.cloudMachine(spec, serial, 1)
	disk := spec.Hosts[0].Instance.DataDisk
	first := l.machine

	// secrets are the sums of all private keys and chains, with modes and owners.
	secrets := func() string {
		t.Helper()
		return l.machine.Sh("cd /etc/mailform && find -L dkim tls acme -type f ! -name '*.json' -printf '%p %m %u:%g ' -exec sh -c 'sha256sum <\"$1\"' sh {} ';' | sort")
	}
	serves := func(when, want string) {
		t.Helper()
		if got := secrets(); got != want {
			t.Errorf("%s the keys are others:\n%s\n%s", when, got, want)
		}
		if got := l.machine.Sh("find /etc/mailform /var/lib/mailform -type f -perm /o+r -exec grep -l 'PRIVATE KEY' {} + || true"); got != "" {
			t.Errorf("%s everybody may read %s", when, got)
		}
		if p := l.onCloud(spec).pending(); len(p) > 0 {
			t.Fatalf("%s changes are left: %q", when, p)
		}
	}
	converge := func(adjust func(*plan.Input)) *run {
		t.Helper()
		r, err := l.plan(l.provider(spec), spec, func(in *plan.Input) {
			l.cloud(in)
			if adjust != nil {
				adjust(in)
			}
		})
		if err == nil {
			err = r.apply()
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, l.log())
		}
		return r
	}

	// Everything is on the system disk at first, as in an older installation.
	spec.Hosts[0].Instance.DataDisk = nil
	converge(nil)
	before := secrets()
	if n := strings.Count(before, "\n") + 1; n != 6 { // two DKIM keys, a TLS key and its chain, each by the two ways to it
		t.Fatalf("there are %d files:\n%s", n, before)
	}
	spec.Hosts[0].Instance.DataDisk = disk
	start := time.Now()
	converge(nil)
	t.Logf("mail and keys moved to the disk in %s", time.Since(start).Round(time.Millisecond))
	serves("on the disk", before)
	if got := l.machine.Sh("readlink -f /etc/mailform/dkim && findmnt -n -o TARGET -T /etc/mailform/dkim/."); got != "/var/lib/mailform/keys/dkim\n/var/lib/mailform" {
		t.Errorf("signing keys are in %s", got)
	}
	l.machine.PowerCut()
	l.machine.PowerOn()
	serves("after a power cut", before)

	// The next machine, whose service has other numbers.
	first.PowerCut()
	l.machine = l.network.Boot("mx2", hostlab.WithDiskOf(first, 0, serial))
	l.machine.Sh("groupadd --gid 901 stranger && groupadd --gid 902 mailform && useradd --uid 903 --gid 902 --home-dir /var/lib/mailform --shell /usr/sbin/nologin mailform")
	l.address = l.machine.Address.String()
	spec.Hosts[0].Address = l.machine.Address
	l.cloudMachine(spec, serial, 1)
	start = time.Now()
	r := converge(nil)
	t.Logf("the next machine serves with its keys after %s", time.Since(start).Round(time.Millisecond))
	if len(r.secrets) > 0 {
		t.Error("passwords were made anew")
	}
	if kinds := strings.Join(r.kinds(), " "); !strings.Contains(kinds, opInstall+" "+opMount) {
		t.Errorf("operations: %s", kinds)
	}
	serves("on the next machine", before)
	l.machine.Sh("setpriv --reuid mailform --regid mailform --clear-groups cat /var/lib/mailform/credentials.json /etc/mailform/dkim/acme.example/*.pem /etc/mailform/tls/mx1/key.pem >/dev/null")

	// The disk goes, the keys stay in use.
	spec.Hosts[0].Instance.DataDisk = nil
	converge(func(in *plan.Input) { in.Allow = []string{"host/mx1/storage"} })
	serves("back on the system disk", before)
	if got := l.machine.Sh("test ! -L /etc/mailform/dkim && mount /dev/disk/by-id/virtio-" + serial + " /mnt && ls /mnt/keys 2>&1; umount /mnt"); !strings.Contains(got, "No such file") {
		t.Errorf("keys are left on the disk: %s", got)
	}
}
