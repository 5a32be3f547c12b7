// Package hostsim is a simulated host: a real SSH server with a private root
// folder, and a stand-in for systemd that runs the real mailformd there as an
// ordinary user on unprivileged loopback ports.
//
// It knows nothing of mailform but what a machine would see: commands over SSH,
// unit files, and the protocols between systemd and a service. No shell is ever
// started: the few POSIX commands that a bootstrap needs are built in, and
// programs run only from inside the root folder. It imports no package of mailform but shim.
package hostsim

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"mailform/providers/host/hostsim/shim"
)

// Config describes a host to start. The zero value is a Debian machine that
// nobody can log in to.
type Config struct {
	// Root is the host's root folder; "" makes a temporary one, which Destroy removes.
	Root string
	// UserData is what cloud-init would be given, "#cloud-config" as JSON or the
	// simplest YAML, plain or in base64: host key, users, SSH port.
	UserData string
	// HostKeys are the SSH server's keys. Without them, and without user data, one is made.
	HostKeys []ssh.Signer
	// AuthorizedKeys may log in as root and as the user data's user.
	AuthorizedKeys []string
	// Systemd is the version that systemctl tells; "" means a current one, "none" that
	// another program runs the machine.
	Systemd string
	// SudoAsks makes sudo ask for a password, as it does on many machines.
	SudoAsks bool
	// Env is the environment of the service and of commands, beside PATH and MAILFORM_ROOT.
	Env []string
	// Listen is where real listeners are opened; "" means "127.0.0.1:0".
	Listen string
	// Arch is what uname says, in Go's names; "" means this machine's.
	Arch string
	// Client is whom the machine's own firewall takes connections to come from; the
	// zero Addr is let in by every rule.
	Client netip.Addr
	// AfterFunc is what timer units run by, and returns what stops it; nil is real time.
	AfterFunc func(time.Duration, func()) (stop func() bool)
	// Watch is asked at every step of every command that comes over SSH, and may
	// take its time. False ends the connection there. Nil watches nothing.
	Watch func(Step) bool
	// Disks are in the machine when it is switched on for the first time.
	Disks []*Disk
	// Shim is the program that stands in for the machine's system programs: one whose
	// main is ShimMain, such as hostshim. "" is the program that this is.
	Shim string
	// DiskFull reports whether the disk has no room for files that are uploaded. nil: there is.
	DiskFull func() bool
}

// Host is a simulated machine. Its methods may be called from many goroutines.
type Host struct {
	cfg   Config
	init  cloudInit
	root  string // where it really is
	short string // a folder with a short path: the way to root, and sockets

	mu   sync.Mutex
	sshd *sshServer  // nil while the machine is off
	sup  *supervisor // nil while the machine is off

	diskMu sync.Mutex // taken before a Disk's own
	disks  []*Disk
}

// Start makes a host and boots it.
func Start(cfg Config) (*Host, error) {
	if os.Getenv(envMarker) != "" {
		return nil, errors.New("hostsim: a simulated host cannot simulate hosts: the program's main does not call ShimMain")
	}
	h := &Host{cfg: cfg, root: cfg.Root}
	var err error
	if h.init, err = parseCloudInit(cfg.UserData); err != nil {
		return nil, err
	}
	if h.cfg.Listen == "" {
		h.cfg.Listen = "127.0.0.1:0"
	}
	if h.cfg.AfterFunc == nil {
		h.cfg.AfterFunc = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	if h.cfg.Arch == "" {
		h.cfg.Arch = runtime.GOARCH
	}
	h.cfg.HostKeys = append(h.init.hostKeys, h.cfg.HostKeys...)
	if len(h.cfg.HostKeys) == 0 {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		signer, err := ssh.NewSignerFromKey(key)
		if err != nil {
			return nil, err
		}
		h.cfg.HostKeys = []ssh.Signer{signer}
	}
	// Socket addresses are at most 104 bytes long, so everything that holds
	// sockets is reached through a folder with a short name.
	if h.short, err = os.MkdirTemp(shortTemp(), "mf"); err != nil {
		return nil, err
	}
	if h.root == "" {
		h.root = filepath.Join(h.short, "root")
	}
	if err := h.furnish(); err != nil {
		h.Destroy()
		return nil, err
	}
	for _, d := range cfg.Disks {
		if err := h.AttachDisk(d); err != nil {
			h.Destroy()
			return nil, err
		}
	}
	if err := h.Start(); err != nil {
		h.Destroy()
		return nil, err
	}
	return h, nil
}

func shortTemp() string {
	if fi, err := os.Stat("/tmp"); err == nil && fi.IsDir() {
		return "/tmp"
	}
	return os.TempDir()
}

// path is where a path of the host really is. It cannot leave the root folder.
func (h *Host) path(p string) string { return filepath.Join(h.short, "r", filepath.Join("/", p)) }

// Root returns the host's root folder.
func (h *Host) Root() string { return h.root }

// furnish puts the base system into a new root folder.
func (h *Host) furnish() error {
	root, err := filepath.Abs(h.root)
	if err != nil {
		return err
	}
	h.root = root
	for _, d := range []string{"etc/ssh/sshd_config.d", "etc/systemd/system", "etc/sysusers.d", "proc/sys/kernel/random", "run", "tmp", "usr/bin", "usr/local/lib", "usr/local/sbin", "usr/sbin", "var/lib", "var/log/journal"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink(root, filepath.Join(h.short, "r")); err != nil {
		return err
	}
	files := map[string]string{
		"/etc/os-release":      "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm), simulated\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n",
		"/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin yes\n",
		"/etc/passwd":          "root:x:0:0:root:/root:/bin/bash\n",
		"/etc/group":           "root:x:0:\n",
	}
	for name, text := range files {
		if _, err := os.Stat(h.path(name)); errors.Is(err, fs.ErrNotExist) {
			if err := os.WriteFile(h.path(name), []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	for _, f := range h.init.files {
		if err := os.MkdirAll(filepath.Dir(h.path(f.Path)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(h.path(f.Path), []byte(f.Content), 0o644); err != nil {
			return err
		}
	}
	if err := h.furnishKeys(); err != nil {
		return err
	}
	exe := h.cfg.Shim
	if exe == "" {
		if exe, err = os.Executable(); err != nil {
			return err
		}
	}
	for _, name := range shim.Programs {
		dir := "/usr/bin/"
		if name == "nft" || name == "sshd" {
			dir = "/usr/sbin/"
		}
		link := h.path(dir + name)
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(exe, link); err != nil {
			return err
		}
	}
	return nil
}

// Start boots the machine. It does nothing when the machine is on.
func (h *Host) Start() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sup != nil {
		return nil
	}
	bootID := make([]byte, 16)
	rand.Read(bootID)
	text := fmt.Sprintf("%x-%x-%x-%x-%x\n", bootID[:4], bootID[4:6], bootID[6:8], bootID[8:10], bootID[10:])
	if err := os.WriteFile(h.path("/proc/sys/kernel/random/boot_id"), []byte(text), 0o644); err != nil {
		return err
	}
	// /run is empty after a boot.
	if err := os.RemoveAll(h.path("/run")); err != nil {
		return err
	}
	if err := os.MkdirAll(h.path("/run/systemd/timesync"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(h.path("/run/systemd/timesync/synchronized"), nil, 0o644); err != nil {
		return err
	}
	if err := h.bootKernel(); err != nil {
		return err
	}
	sup, err := newSupervisor(h)
	if err != nil {
		return err
	}
	sshd, err := newSSHServer(h, sup)
	if err != nil {
		sup.close()
		sup.journal.close()
		return err
	}
	h.sup, h.sshd = sup, sshd
	sup.boot()
	return sshd.reload() // its unit is started after what takes changes back
}

// Stop switches the machine off as a power cut does: nothing is asked to end.
func (h *Host) Stop() {
	h.mu.Lock()
	sup, sshd := h.sup, h.sshd
	h.sup, h.sshd = nil, nil
	h.mu.Unlock()
	if sup != nil {
		sshd.close()
		sup.close()
		if err := h.releaseDisks(); err != nil {
			sup.logf("kernel", "%v", err)
		}
		sup.journal.close()
	}
}

// Destroy stops the machine and deletes its root folder if Start made it. Disks
// that are attached are detached, and stay.
func (h *Host) Destroy() error {
	h.Stop()
	h.diskMu.Lock()
	disks := slices.Clone(h.disks)
	h.diskMu.Unlock()
	for _, d := range disks {
		if err := h.DetachDisk(d.Serial); err != nil {
			return err // what is on it must not be deleted with the machine
		}
	}
	return os.RemoveAll(h.short) // of a root that is not ours, only the link to it
}

// Addr returns the listener behind one of the host's ports, and false while
// nothing listens there.
func (h *Host) Addr(port int) (string, bool) {
	h.mu.Lock()
	sup, sshd := h.sup, h.sshd
	h.mu.Unlock()
	if sup == nil {
		return "", false
	}
	if !h.admits(port) {
		return "", false
	}
	if sshd.listensOn(port) {
		return sshd.listener.Addr().String(), true
	}
	return sup.addr(port)
}

// HostKey returns the public key that the SSH server preferred when the machine was made.
func (h *Host) HostKey() ssh.PublicKey { return h.cfg.HostKeys[0].PublicKey() }

// env is the environment of everything that runs on the host.
func (h *Host) env() []string {
	return append([]string{
		"PATH=" + h.path("/usr/bin") + ":" + h.path("/usr/sbin") + ":" + h.path("/usr/local/sbin"),
		"HOME=" + h.path("/root"), "LANG=C.UTF-8", "TMPDIR=" + h.path("/tmp"),
		"MAILFORM_ROOT=" + filepath.Join(h.short, "r"),
		envMarker + "=" + filepath.Join(h.short, "s"),
	}, h.cfg.Env...)
}

func (h *Host) listen() (net.Listener, error) { return net.Listen("tcp", h.cfg.Listen) }

// machine is what `uname -m` says.
func (h *Host) machine() string {
	switch h.cfg.Arch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return h.cfg.Arch
}
