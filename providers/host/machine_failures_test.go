package host

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mailform/providers/host/hostsim"
)

// cuts is at how many places TestRealMachineWindows cuts the connection.
const cuts = 6

// TestRealMachineWindows lets everything go wrong that can on a real machine.
func TestRealMachineWindows(t *testing.T) {
	l := newRealLab(t)
	m := l.machine
	cut := &hostsim.Cut{}
	l.through = func(port int, c net.Conn) net.Conn {
		if port == 22 {
			return cut.Conn(c)
		}
		return c
	}
	w := &windows{l: l, spec: l.spec()}
	l.converge(w.spec)
	w.next()
	before := cut.Moved()
	l.converge(w.spec)
	total := cut.Moved() - before
	for i := range int64(cuts) {
		at := 1 + (total-1)*i/(cuts-1)
		w.open(fmt.Sprintf("the connection is cut at byte %d of %d", at, total), func() func() {
			cut.After(at)
			return func() { cut.After(0) }
		})
	}

	// The folders that a converge writes to, one after the other on a disk without room.
	for i, dir := range []string{"/etc/mailform", "/usr/local/lib/mailform"} {
		if dir != "/etc/mailform" {
			w.agent = variant(t, fmt.Sprint("full", i))
		}
		w.open("no room in "+dir, func() func() {
			m.Sh("mkdir -p /mnt/full && mount -t tmpfs -o size=128m full /mnt/full && cp -a " + dir + " /mnt/full/copy && " +
				"mount --bind /mnt/full/copy " + dir + " && ! dd if=/dev/zero of=/mnt/full/filler bs=64k 2>/dev/null")
			return func() { m.Sh("umount " + dir + " && umount -l /mnt/full") }
		})
		if w.agent != "" {
			w.agent = variant(t, fmt.Sprint("read-only", i))
		}
		w.open(dir+" is read-only", func() func() {
			m.Sh("mount --bind " + dir + " " + dir + " && mount -o remount,bind,ro " + dir)
			return func() { m.Sh("umount " + dir) }
		})
	}

	// when does something on the machine at the moment a converge is at work there.
	when := func(name, command string, then func()) {
		w.open(name, func() func() {
			done := make(chan error, 1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			go func() {
				_, err := m.Exec(ctx, "until pid=$(pgrep -f 'mailformd converge$'); do :; done; "+command)
				if err == nil || strings.Contains(err.Error(), "killed") {
					err = nil
				}
				then()
				done <- err
			}()
			return func() {
				defer cancel()
				if err := <-done; err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	when("the agent is killed", "kill -9 $pid", func() {})
	when("the server is killed", "kill -9 $(systemctl show --property=MainPID --value mailformd.service)", func() {})
	when("the power fails", "true", func() {
		m.PowerCut()
		m.PowerOn()
	})
	boot := m.BootID()
	when("the machine reboots", "systemctl reboot", func() {
		if err := m.Ready(boot); err != nil {
			t.Error(err)
		}
	})
	when("the network fails for a while", "true", func() {
		m.Partition(true)
		time.Sleep(3 * time.Second) // what fails is time without a network
		m.Partition(false)
	})
	l.serves(w.spec)
	w.print()
}
