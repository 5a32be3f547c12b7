package hostlab

import (
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMachine(t *testing.T) {
	l := New(t)
	start := time.Now()
	m := l.Boot("mx1", WithDisk("lab-1", 1<<30))
	t.Logf("up in %s", time.Since(start).Round(time.Millisecond))
	if state := m.Sh("systemctl is-system-running --wait"); state != "running" {
		t.Errorf("%s: %s", state, m.Sh("systemctl list-units --failed --no-legend"))
	}
	if link := m.Sh("readlink /dev/disk/by-id/virtio-lab-1"); link != m.Disk(0) {
		t.Errorf("the disk is %s, its link leads to %q", m.Disk(0), link)
	}
	if size := m.Sh("blockdev --getsize64 " + m.Disk(0)); size != "1073741824" {
		t.Errorf("the disk has %s bytes", size)
	}
	m.GrowDisk(0, 2<<30)
	if size := m.Sh("blockdev --getsize64 " + m.Disk(0)); size != "2147483648" {
		t.Errorf("the disk that grew has %s bytes", size)
	}

	start = time.Now()
	m.Sh("touch /root/kept")
	m.Reboot()
	t.Logf("rebooted in %s", time.Since(start).Round(time.Millisecond))
	m.PowerCut()
	if _, err := m.Exec(t.Context(), "true"); err == nil {
		t.Error("a machine without power does as it is told")
	}
	m.PowerOn()
	m.Sh("test -e /root/kept && test -e /dev/disk/by-id/virtio-lab-1")

	m.Partition(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if c, err := l.Dial(ctx, "tcp", netip.AddrPortFrom(m.Address, 22).String()); err == nil {
		c.Close()
		t.Error("it answers although it is cut off")
	}
	m.Partition(false)
	if c, err := m.SSH(t.Context()); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}

	// Machines reach each other and what tests listen on, nothing else.
	other := l.Boot("mx2")
	other.Sh("timeout 5 bash -c 'exec 3<>/dev/tcp/" + m.Address.String() + "/22 && head -c 4 <&3'")
	s, err := l.Listen("tcp", netip.AddrPortFrom(Outside, 25).String())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello\n")
			c.Close()
		}
	}()
	if got := m.Sh("timeout 5 bash -c 'exec 3<>/dev/tcp/" + Outside.String() + "/25; cat <&3'"); got != "hello" {
		t.Errorf("from outside: %q", got)
	}
	if out, err := m.Exec(t.Context(), "timeout 1 bash -c 'exec 3<>/dev/tcp/192.0.2.1/53'"); err == nil {
		t.Errorf("the machine reaches the world: %s", out)
	}
}

// TestNothingIsLeft kills a process with a running lab.
func TestNothingIsLeft(t *testing.T) {
	if os.Getenv("MAILFORM_LAB_KILL") != "" {
		l := New(t)
		m := l.Boot("mx1", WithDisk("lab-1", 1<<30))
		os.Stdout.WriteString(l.dir + " " + m.Disk(0) + "\n")
		select {} // until it is killed
	}
	if os.Getenv("MAILFORM_LAB") != "1" {
		t.Skip("makes real machines: set MAILFORM_LAB=1")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingIsLeft$")
	cmd.Env = append(os.Environ(), "MAILFORM_LAB_KILL=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := out.Read(buf)
	dir, disk, ok := strings.Cut(strings.TrimSpace(string(buf[:n])), " ")
	if err != nil || !ok {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("the lab did not start: %v %q", err, buf[:n])
	}
	cmd.Process.Kill()
	cmd.Wait()
	left := func() (left []string) {
		for _, pattern := range []string{dir, "/sys/fs/cgroup/" + filepath.Base(dir) + "*", "/sys/fs/cgroup/*/" + filepath.Base(dir) + "*"} {
			found, err := filepath.Glob(pattern)
			if err != nil {
				t.Fatal(err)
			}
			left = append(left, found...)
		}
		for _, file := range []string{"/proc/self/mounts", "/sys/block/" + filepath.Base(disk) + "/loop/backing_file"} {
			if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), dir) {
				left = append(left, file)
			}
		}
		return left
	}
	for deadline := time.Now().Add(20 * time.Second); len(left()) > 0; time.Sleep(poll) {
		if time.Now().After(deadline) {
			t.Fatalf("left of a killed lab: %q", left())
		}
	}
}
