package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/host/hostlab"
)

// oneKind lets the machine make only one kind of file system. What udev does on other
// machines comes with it: a link to what was made, which is there again after a boot.
func (l *lab) oneKind(kind, other string) {
	l.machine.Sh(fmt.Sprintf(`cat >/usr/local/sbin/mkfs.%[1]s <<'END' && chmod +x /usr/local/sbin/mkfs.%[1]s && mv /usr/sbin/mkfs.%[2]s /usr/sbin/aside.%[2]s
#!/bin/sh
/usr/sbin/mkfs.%[1]s "$@" || exit
for device; do :; done
uuid=$(blkid -p -o value -s UUID "$device")
echo "L+ /dev/disk/by-uuid/$uuid - - - - $device" >/etc/tmpfiles.d/lab-uuid.conf
systemd-tmpfiles --create lab-uuid.conf
END`, kind, other))
}

// TestRealDataDisk gives a real machine a data disk: one that holds something is not
// touched, a blank one gets a file system, is mounted by its UUID, keeps the mail over
// a power cut, and grows while mail is served.
func TestRealDataDisk(t *testing.T) {
	const gib = 1 << 30
	t.Parallel()
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := newRealLab(t, hostlab.WithDisk("mf-data-1", gib))
			m, disk := l.machine, l.machine.Disk(0)
			l.oneKind(kind, map[string]string{"ext4": "xfs", "xfs": "ext4"}[kind])
			spec := l.spec()
			l.cloudMachine(spec, "mf-data-1", 1)
			settle := func() {
				t.Helper()
				if p := l.onCloud(spec).pending(); len(p) > 0 {
					t.Fatalf("changes are left: %q", p)
				}
			}

			// What a disk holds: its beginning, where everything has its mark, where a letter is, and its end.
			content := fmt.Sprintf("for at in 0 512 1008; do dd if=%[1]s bs=1M skip=$at count=16 status=none | sha256sum; done", disk)

			// Somebody's disk: said, and left as it is to the last octet.
			for _, c := range []struct{ script, holds string }{
				{"mkswap -q " + disk, "swap space"},
				{"wipefs -qa " + disk + " && echo type=83 | sfdisk -q " + disk, "partition table"},
				{"wipefs -qa " + disk + " && /usr/sbin/mkfs." + kind + " " + disk + " >/dev/null", kind},
				{"wipefs -qa " + disk + " && printf 'a letter' | dd of=" + disk + " bs=1M seek=512 conv=notrunc status=none", ""},
			} {
				if strings.Contains(c.script, "sfdisk") && m.Sh("command -v sfdisk || true") == "" {
					c.script = "wipefs -qa " + disk + " && printf '\\125\\252' | dd of=" + disk + " bs=1 seek=510 conv=notrunc status=none" // its mark, MBR
				}
				if c.holds == "" { // nothing that anybody knows, but not blank: only zeros are
					c.holds = "data"
				}
				m.Sh(c.script)
				before := m.Sh(content)
				var refused *plan.Error
				if err := l.onCloud(spec).apply(); !errors.As(err, &refused) || refused.Code != "MF5411" || !strings.Contains(refused.Got, c.holds) || !strings.Contains(refused.Got, disk) {
					t.Errorf("a disk with %s: %v", c.holds, err)
				}
				if m.Sh(content) != before || m.Sh("awk '$1 == \""+disk+"\"' /proc/self/mounts") != "" {
					t.Fatalf("a disk with %s was touched, or is mounted", c.holds)
				}
			}

			m.Sh("blkdiscard -z " + disk + " 2>/dev/null || dd if=/dev/zero of=" + disk + " bs=4M status=none conv=sparse; sync")
			if err := l.onCloud(spec).apply(); err != nil {
				t.Fatalf("%v\n%s", err, l.log())
			}
			settle()
			uuid := m.Sh("blkid -p -o value -s UUID " + disk)
			if got := m.Sh("findmnt -n -o SOURCE,FSTYPE /var/lib/mailform"); !slices.Equal(strings.Fields(got), []string{disk, kind}) {
				t.Errorf("mounted: %s", got)
			}
			if what := m.Sh("systemctl show --property=What --property=ActiveState --value var-lib-mailform.mount"); !strings.Contains(what, "active") {
				t.Errorf("the mount: %s", what)
			}
			if unit := m.Sh("grep ^What= /etc/systemd/system/var-lib-mailform.mount"); unit != "What=/dev/disk/by-uuid/"+uuid {
				t.Errorf("%s, the file system is %s", unit, uuid)
			}

			// Without power, and back.
			m.PowerCut()
			m.PowerOn()
			settle()
			if got := m.Sh("findmnt -n -o SOURCE /var/lib/mailform && systemctl is-active mailformd"); got != disk+"\nactive" {
				t.Errorf("after a power cut: %q", got)
			}

			// It grows while the service runs.
			pid := m.Sh("systemctl show --property=MainPID mailformd")
			m.GrowDisk(0, 3*gib)
			spec.Hosts[0].Instance.DataDisk.SizeGiB = 3
			r := l.onCloud(spec)
			if got := r.pending(); !slices.Equal(got, []string{"~ host/mx1/storage"}) {
				t.Errorf("a disk that grew: %q", got)
			}
			err := r.apply()
			if kind == "ext4" && err != nil && mayNotResize(m) {
				// This kernel does not let a container grow ext4: it is said, and mail goes on.
				if !strings.Contains(err.Error(), "resize2fs "+disk) {
					t.Errorf("where ext4 cannot grow: %v", err)
				}
				t.Logf("ext4 cannot be grown while it is mounted here: %v", err)
			} else if err != nil {
				t.Fatal(err)
			} else {
				settle()
				if size := m.Sh("findmnt -bn -o SIZE /var/lib/mailform"); len(size) < 10 || size[0] < '2' {
					t.Errorf("the file system has %s bytes", size)
				}
			}
			if now := m.Sh("systemctl show --property=MainPID mailformd"); now != pid {
				t.Errorf("the service was restarted: %s, then %s", pid, now)
			}
		})
	}
}

// mayNotResize says that the machine's root has no CAP_SYS_RESOURCE, capabilities(7),
// without which the kernel does not grow an ext4 that is mounted.
func mayNotResize(m *hostlab.Machine) bool {
	var mask uint64
	if _, err := fmt.Sscanf(m.Sh("awk '/CapEff/ {print $2}' /proc/self/status"), "%x", &mask); err != nil {
		return false
	}
	return mask&(1<<24) == 0
}
