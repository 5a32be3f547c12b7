package hostlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// Machine is one running system.
type Machine struct {
	Name     string
	Address  netip.Addr // IPv4
	Address6 netip.Addr
	HostKey  ssh.PublicKey // what its SSH server proves

	lab    *Lab
	unit   string // its name on this machine: of its cgroups, its link
	dir    string
	net    *namespace
	groups []string
	disks  int

	mu     sync.Mutex
	cmd    *exec.Cmd     // systemd-nspawn of this boot; nil when it is off
	ended  chan struct{} // closed when the machine is off for good
	reboot bool          // it may start again when it asks to
}

// Option is something a machine has that others have not.
type Option func(*Machine) error

// WithDisk attaches a block device of a size in bytes, with a serial number under
// which udev's links know it; Disk tells its name. The image is sparse.
func WithDisk(serial string, bytes int64) Option {
	return func(m *Machine) error {
		image := filepath.Join(m.dir, fmt.Sprintf("disk%d.img", m.disks))
		m.disks++
		f, err := os.Create(image)
		if err != nil {
			return err
		}
		f.Close()
		if err := os.Truncate(image, bytes); err != nil {
			return err
		}
		out, err := exec.Command("losetup", "--find", "--show", image).Output()
		if err != nil {
			return fmt.Errorf("losetup: %w", err)
		}
		return m.attach(strings.TrimSpace(string(out)), serial)
	}
}

// WithDiskOf attaches the nth disk of another machine, which is to be off.
func WithDiskOf(other *Machine, n int, serial string) Option {
	return func(m *Machine) error { return m.attach(other.Disk(n), serial) }
}

// attach binds a block device and lets the machine know it as udev would, which
// containers have not: by its serial number, and by its file system as soon as there is one.
func (m *Machine) attach(device, serial string) error {
	if err := m.bind("--bind=" + device); err != nil {
		return err
	}
	if err := m.write("/etc/tmpfiles.d/lab-"+serial+".conf", fmt.Sprintf("L+ /dev/disk/by-id/virtio-%s - - - - %s\n", serial, device), 0o644); err != nil {
		return err
	}
	const name = "lab-udev.service"
	link := fmt.Sprintf("mkdir -p /dev/disk/by-uuid && uuid=$$(blkid -p -o value -s UUID %[1]s) && ln -sf %[1]s /dev/disk/by-uuid/$$uuid", device)
	if err := m.write("/etc/systemd/system/"+name, fmt.Sprintf(`[Unit]
DefaultDependencies=no
Before=var-lib-mailform.mount

[Service]
ExecStartPre=-/bin/sh -c '%[1]s'
ExecStart=/bin/sh -c 'until %[1]s; do sleep 0.1; done; exec sleep infinity'
`, link), 0o644); err != nil {
		return err
	}
	return m.write("/etc/systemd/system/local-fs.target.d/"+name+".conf", "[Unit]\nWants="+name+"\n", 0o644)
}

// WithSmallFolder gives a folder of the machine a file system of its own, of a size
// in bytes, which can be filled. What is in it ends with each boot.
func WithSmallFolder(path string, bytes int64) Option {
	return func(m *Machine) error {
		return m.bind(fmt.Sprintf("--tmpfs=%s:size=%d,mode=0755", path, bytes))
	}
}

// Boot makes a machine, starts it and waits until its SSH server answers.
func (l *Lab) Boot(name string, options ...Option) *Machine {
	l.t.Helper()
	m, err := l.make(name, options)
	if err == nil {
		err = m.start()
	}
	if err != nil {
		l.t.Fatalf("lab: machine %s: %v%s", name, err, m.console())
	}
	return m
}

func (l *Lab) make(name string, options []Option) (*Machine, error) {
	l.mu.Lock()
	n := firstMachine + len(l.machines)
	m := &Machine{Name: name, lab: l, unit: fmt.Sprintf("%s-%d", filepath.Base(l.dir), n), dir: filepath.Join(l.dir, name),
		Address: netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), Address6: netip.MustParseAddr(network6 + strconv.Itoa(n))}
	l.machines = append(l.machines, m)
	l.mu.Unlock()
	var err error
	if m.net, err = newNamespace(); err != nil {
		return m, err
	}
	for _, dir := range []string{"disk", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(m.dir, dir), 0o755); err != nil {
			return m, err
		}
	}
	if err := m.identity(); err != nil {
		return m, err
	}
	if err := m.bind(); err != nil {
		return m, err
	}
	for _, o := range options {
		if err := o(m); err != nil {
			return m, err
		}
	}
	if err := m.connect(); err != nil {
		return m, err
	}
	return m, m.makeGroups()
}

// write puts a file on the machine's disk before its first start.
func (m *Machine) write(path, text string, mode os.FileMode) error {
	path = filepath.Join(m.dir, "disk", path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), mode)
}

// identity is what an installer would have made: names and keys.
func (m *Machine) identity() error {
	key, file, err := newKey(m.Name)
	if err != nil {
		return err
	}
	m.HostKey = key.PublicKey()
	host := m.Name + ".lab.test"
	for _, f := range []struct {
		path, text string
		mode       os.FileMode
	}{
		{"/etc/hostname", host + "\n", 0o644},
		{"/etc/hosts", fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s %s\n", m.Address, host, m.Name), 0o644},
		{"/etc/resolv.conf", "nameserver " + Resolver.String() + "\n", 0o644},
		{"/etc/ssh/ssh_host_ed25519_key", string(file), 0o600},
		{"/etc/ssh/ssh_host_ed25519_key.pub", string(ssh.MarshalAuthorizedKey(m.HostKey)), 0o644},
		{"/root/.ssh/authorized_keys", string(ssh.MarshalAuthorizedKey(m.lab.key.PublicKey())), 0o600},
	} {
		if err := m.write(f.path, f.text, f.mode); err != nil {
			return err
		}
	}
	for dir, mode := range map[string]os.FileMode{"/root": 0o700, "/root/.ssh": 0o700} {
		if err := os.Chmod(filepath.Join(m.dir, "disk", dir), mode); err != nil {
			return err
		}
	}
	return nil
}

// bind adds options for systemd-nspawn.
func (m *Machine) bind(options ...string) error {
	f, err := os.OpenFile(filepath.Join(m.dir, "binds"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for _, o := range options {
		fmt.Fprintln(f, o)
	}
	return f.Close()
}

// link is the machine's port of the lab's switch.
func (m *Machine) link() string { return "m" + strconv.Itoa(int(m.Address.As4()[3])) }

func (m *Machine) connect() error {
	l := m.lab
	for _, step := range []struct {
		in    *namespace
		words string
	}{
		{l.net, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", m.link(), m.net.path())},
		{l.net, "link set " + m.link() + " master br0 up"},
		{m.net, "link set lo up"},
		{m.net, "addr add " + m.Address.String() + "/24 dev eth0"},
		{m.net, "addr add " + m.Address6.String() + "/64 dev eth0 nodad"},
		{m.net, "link set eth0 up"},
		{m.net, "route add default via " + Gateway.String()},
	} {
		if err := l.ip(step.in, step.words); err != nil {
			return err
		}
	}
	return nil
}

// makeGroups makes the machine's cgroup in each hierarchy that systemd-nspawn
// looks at, so that machines do not meet in one.
func (m *Machine) makeGroups() error {
	for _, h := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(h, "cgroup.procs")); err != nil {
			continue
		}
		group := filepath.Join(h, m.unit)
		if err := os.Mkdir(group, 0o755); err != nil {
			return err
		}
		m.groups = append(m.groups, group)
	}
	if len(m.groups) == 0 {
		return errors.New("no cgroup hierarchy under /sys/fs/cgroup")
	}
	return nil
}

// start boots, and boots again whenever the machine asks to.
func (m *Machine) start() error {
	console, err := os.OpenFile(filepath.Join(m.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.ended, m.reboot = make(chan struct{}), true
	err = m.run(console)
	ended := m.ended
	m.mu.Unlock()
	if err != nil {
		return err
	}
	go func() {
		defer close(ended)
		defer console.Close()
		for {
			m.mu.Lock()
			cmd := m.cmd
			m.mu.Unlock()
			err := cmd.Wait()
			m.mu.Lock()
			var exit *exec.ExitError
			again := m.reboot && errors.As(err, &exit) && exit.ExitCode() == 133
			m.cmd = nil
			if again {
				again = m.run(console) == nil
			}
			m.mu.Unlock()
			if !again {
				return
			}
		}
	}()
	return m.Ready("")
}

func (m *Machine) run(console *os.File) error {
	args := append([]string{"--mount", "sh", "-c", bootScript, "boot.sh", m.lab.tree, m.dir, m.net.path(), m.unit}, m.groups...)
	cmd := exec.Command("unshare", args...)
	cmd.Stdout, cmd.Stderr = console, console
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	m.cmd = cmd
	return nil
}

// Ready waits until the machine's SSH server lets us in, in another boot than the
// one given; sshd of the old one still answers for a moment after a reboot.
func (m *Machine) Ready(not string) error {
	deadline := time.Now().Add(bootTimeout)
	for {
		id, err := m.bootOverSSH()
		if err == nil && id != not {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no SSH after %s: %w", bootTimeout, err)
		}
		select {
		case <-m.off():
			return errors.New("it went off while it was starting")
		case <-time.After(poll):
		}
	}
}

func (m *Machine) off() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}

func (m *Machine) bootOverSSH() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := m.SSH(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	out, err := s.Output("cat /proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(out)), err
}

// SSH is a connection of root's.
func (m *Machine) SSH(ctx context.Context) (*ssh.Client, error) {
	addr := netip.AddrPortFrom(m.Address, 22).String()
	conn, err := m.lab.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(m.lab.key)}, HostKeyCallback: ssh.FixedHostKey(m.HostKey)})
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// Fingerprint is the host key's, "SHA256:…".
func (m *Machine) Fingerprint() string { return ssh.FingerprintSHA256(m.HostKey) }

// KnownHosts is the machine's line for a known_hosts file.
func (m *Machine) KnownHosts() string {
	return m.Address.String() + " " + string(ssh.MarshalAuthorizedKey(m.HostKey))
}

// leader is the process that is the machine's PID 1; 0 when there is none.
func (m *Machine) leader() int {
	m.mu.Lock()
	cmd := m.cmd
	m.mu.Unlock()
	if cmd == nil {
		return 0
	}
	pid := cmd.Process.Pid
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	child, _, _ := strings.Cut(string(b), " ")
	leader, err := strconv.Atoi(child)
	if err != nil {
		return 0
	}
	return leader
}

// Exec runs a shell command as root at the machine's console: it needs neither the
// machine's network nor its SSH server. It returns what the command printed.
func (m *Machine) Exec(ctx context.Context, command string) (string, error) {
	leader := m.leader()
	if leader == 0 {
		return "", errors.New("the machine is off")
	}
	cmd := exec.CommandContext(ctx, "nsenter", "--all", "--target", strconv.Itoa(leader), "/bin/sh", "-c", command)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(stderr.String()+out.String()))
	}
	return out.String(), nil
}

// Sh is Exec that must succeed; what it printed is trimmed.
func (m *Machine) Sh(command string) string {
	m.lab.t.Helper()
	out, err := m.Exec(context.Background(), command)
	if err != nil {
		m.lab.t.Fatalf("lab: %s: %v", m.Name, err)
	}
	return strings.TrimSpace(out)
}

// BootID differs between boots.
func (m *Machine) BootID() string {
	m.lab.t.Helper()
	return m.Sh("cat /proc/sys/kernel/random/boot_id")
}

// CPU is the processor time that the machine has used since it was made: what its work
// takes, however busy this machine is.
func (m *Machine) CPU() time.Duration {
	m.lab.t.Helper()
	for _, group := range m.groups {
		b, err := os.ReadFile(filepath.Join(group, "cpu.stat"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if value, ok := strings.CutPrefix(line, "usage_usec "); ok {
				if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); err == nil {
					return time.Duration(n) * time.Microsecond
				}
			}
		}
	}
	m.lab.t.Fatal("lab: no cgroup counts processor time")
	return 0
}

// Reboot is `systemctl reboot`; it waits until SSH answers again.
func (m *Machine) Reboot() {
	m.lab.t.Helper()
	before := m.BootID()
	m.Sh("systemctl reboot")
	if err := m.Ready(before); err != nil {
		m.lab.t.Fatalf("lab: %s: reboot: %v%s", m.Name, err, m.console())
	}
}

// PowerCut ends every process of the machine at once. What they wrote stays, also
// what was not yet synced: the disk is a folder of this machine.
func (m *Machine) PowerCut() {
	m.lab.t.Helper()
	if err := m.cut(); err != nil {
		m.lab.t.Fatalf("lab: %s: power cut: %v", m.Name, err)
	}
}

func (m *Machine) cut() error {
	m.mu.Lock()
	m.reboot = false
	m.mu.Unlock()
	leader := m.leader()
	if leader == 0 {
		return errors.New("the machine is off")
	}
	if err := syscall.Kill(leader, syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case <-m.off():
		return nil
	case <-time.After(bootTimeout):
		return errors.New("it does not end")
	}
}

// PowerOn starts a machine that is off, and waits until its SSH server answers.
func (m *Machine) PowerOn() {
	m.lab.t.Helper()
	if err := m.start(); err != nil {
		m.lab.t.Fatalf("lab: %s: %v%s", m.Name, err, m.console())
	}
}

// Partition takes the machine off the network or, with false, back to it.
// Connections stay open and hear nothing.
func (m *Machine) Partition(apart bool) {
	m.lab.t.Helper()
	state := "up"
	if apart {
		state = "down"
	}
	if err := m.lab.ip(m.lab.net, "link set "+m.link()+" "+state); err != nil {
		m.lab.t.Fatalf("lab: %s: %v", m.Name, err)
	}
}

// Slow bounds what the machine receives, in bits per second.
func (m *Machine) Slow(bits int) {
	m.lab.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("tc", "qdisc", "replace", "dev", m.link(), "root", "tbf", "rate", strconv.Itoa(bits)+"bit", "burst", "16kb", "latency", "400ms")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := m.lab.net.do(cmd.Run); err != nil {
		m.lab.t.Fatalf("lab: %s: tc: %v %s", m.Name, err, out.Bytes())
	}
}

// GrowDisk makes an attached disk larger while the machine runs.
func (m *Machine) GrowDisk(n int, bytes int64) {
	m.lab.t.Helper()
	image := filepath.Join(m.dir, fmt.Sprintf("disk%d.img", n))
	if err := os.Truncate(image, bytes); err != nil {
		m.lab.t.Fatal(err)
	}
	if out, err := exec.Command("losetup", "--set-capacity", m.Disk(n)).CombinedOutput(); err != nil {
		m.lab.t.Fatalf("lab: losetup: %v %s", err, out)
	}
}

// Disk is the device of the nth attached disk, "/dev/loop3".
func (m *Machine) Disk(n int) string {
	m.lab.t.Helper()
	out, err := exec.Command("losetup", "--noheadings", "--output=NAME", "--associated", filepath.Join(m.dir, fmt.Sprintf("disk%d.img", n))).Output()
	if err != nil {
		m.lab.t.Fatalf("lab: losetup: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// console is the end of what the machine wrote to its console, for an error message.
func (m *Machine) console() string {
	b, err := os.ReadFile(filepath.Join(m.dir, "console"))
	if err != nil || len(b) == 0 {
		return ""
	}
	return "\n" + string(b[max(0, len(b)-2000):])
}

// end takes the power away for good.
func (m *Machine) end() {
	if m.off() == nil {
		return
	}
	select {
	case <-m.off():
		return
	default:
	}
	if m.cut() == nil {
		return
	}
	m.mu.Lock()
	cmd := m.cmd
	m.mu.Unlock()
	if cmd != nil { // it was only just being started
		cmd.Process.Kill()
		<-m.off()
	}
}
