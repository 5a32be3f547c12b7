// Package hostlab makes real machines for tests: Debian systems with systemd as
// PID 1, OpenSSH and addresses of their own, booted by systemd-nspawn in a private
// network that leads nowhere. They can be rebooted, cut off from power and from
// the network. Nothing but tests imports it, and it imports nothing of mailform.
//
// It needs Linux, root, systemd-container, mmdebstrap and iproute2, so tests run
// only where MAILFORM_LAB=1 asks for it, as .ci/run does; there a machine that
// cannot be made is a failure. MAILFORM_LAB_TREE names a Debian tree that tree.sh has
// made; without it each lab makes its own, which takes about a minute.
//
// What a lab makes ends with the process that made it, however that ends: its
// networks have no names and its disks are mounted in namespaces of their own, so
// the kernel takes them away, and a keeper process does the rest. Labs know nothing
// of each other, so several tests and several runs may have theirs at once.
package hostlab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// The lab's own addresses, beside those of its machines, which begin at .11. Tests may
// listen on them; the machines have Resolver as their name server.
var (
	Gateway  = netip.MustParseAddr("198.51.100.1")
	Resolver = netip.MustParseAddr("198.51.100.53")
	Outside  = netip.MustParseAddr("198.51.100.99") // for somebody else's servers
)

const (
	firstMachine = 11
	network6     = "2001:db8:5ec::"
	bootTimeout  = 90 * time.Second // a start takes 2 s on an idle machine
	poll         = 50 * time.Millisecond
)

//go:embed tree.sh
var treeScript string

//go:embed boot.sh
var bootScript string

//go:embed keep.sh
var keepScript string

// Lab is a network with machines on it.
type Lab struct {
	t      testing.TB
	dir    string // mailform-lab- and digits, in the folder for temporary files
	tree   string
	key    ssh.Signer
	net    *namespace // the switch: where tests are
	keeper *exec.Cmd
	hold   io.Closer // the keeper's standard input
	locked *os.File

	mu       sync.Mutex
	machines []*Machine
}

// New makes a lab, which ends with the test. The test is skipped unless MAILFORM_LAB=1.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Getenv("MAILFORM_LAB") != "1" {
		t.Skip("makes real machines: set MAILFORM_LAB=1 as root on a Linux machine that may have them")
	}
	l, err := start(t)
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return l
}

func start(t testing.TB) (l *Lab, err error) {
	sweep()
	l = &Lab{t: t}
	if err := l.makeDir(); err != nil {
		return nil, err
	}
	if err := l.keep(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(l.dir))
	}
	t.Cleanup(l.close)
	if l.tree = os.Getenv("MAILFORM_LAB_TREE"); l.tree == "" {
		l.tree = filepath.Join(l.dir, "tree")
		if out, err := exec.Command("sh", "-c", treeScript, "tree.sh", l.tree).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("make a Debian tree: %w\n%s", err, out)
		}
	}
	if err := l.makeKey(); err != nil {
		return nil, err
	}
	if l.net, err = newNamespace(); err != nil {
		return nil, err
	}
	for _, words := range []string{
		"link set lo up", "link add br0 type bridge",
		"addr add " + Gateway.String() + "/24 dev br0", "addr add " + Resolver.String() + "/24 dev br0", "addr add " + Outside.String() + "/24 dev br0",
		"addr add " + network6 + "1/64 dev br0 nodad", "link set br0 up",
	} {
		if err := l.ip(l.net, words); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// makeDir makes the lab's folder with the lock by which sweep knows labs that are in
// use. It has its name only once it is locked: another lab may be sweeping.
func (l *Lab) makeDir() error {
	made, err := os.MkdirTemp("", "mailform-newlab-")
	if err != nil {
		return err
	}
	if l.locked, err = os.Create(filepath.Join(made, "lock")); err == nil {
		err = lock(l.locked)
	}
	l.dir = filepath.Join(filepath.Dir(made), "mailform-lab-"+strings.TrimPrefix(filepath.Base(made), "mailform-newlab-"))
	if err == nil {
		err = os.Rename(made, l.dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(made))
	}
	return nil
}

// keep starts the keeper, which inherits the lock.
func (l *Lab) keep() error {
	var err error
	l.keeper = exec.Command("sh", "-c", keepScript, "keep.sh", l.dir)
	l.keeper.ExtraFiles = []*os.File{l.locked}
	detach(l.keeper)
	if l.hold, err = l.keeper.StdinPipe(); err != nil {
		return err
	}
	return l.keeper.Start()
}

// sweep cleans up after labs whose keeper was killed, too.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "mailform-lab-*"))
	for _, dir := range dirs {
		f, err := os.Open(filepath.Join(dir, "lock"))
		if err != nil {
			continue
		}
		if lock(f) == nil {
			exec.Command("sh", "-c", keepScript, "keep.sh", dir).Run()
		}
		f.Close()
	}
}

func (l *Lab) close() {
	l.mu.Lock()
	machines := l.machines
	l.mu.Unlock()
	for _, m := range machines {
		m.end()
	}
	l.hold.Close()
	if err := l.keeper.Wait(); err != nil {
		l.t.Errorf("lab: clean up: %v", err)
	}
	l.locked.Close()
	for _, m := range machines {
		m.net.close()
	}
	if l.net != nil {
		l.net.close()
	}
	if _, err := os.Stat(l.dir); err == nil {
		l.t.Errorf("lab: %s is left", l.dir)
	}
}

func (l *Lab) makeKey() error {
	signer, file, err := newKey("lab")
	if err != nil {
		return err
	}
	l.key = signer
	return os.WriteFile(l.KeyFile(), file, 0o600)
}

// newKey makes a key, for use and as a file.
func newKey(comment string) (ssh.Signer, []byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return nil, nil, err
	}
	return signer, pem.EncodeToMemory(block), nil
}

// Signer is the key that every machine accepts for root.
func (l *Lab) Signer() ssh.Signer { return l.key }

// KeyFile is the same as a file for ssh -i.
func (l *Lab) KeyFile() string { return filepath.Join(l.dir, "id_ed25519") }

// Dial connects from the lab's network. Addresses must be numbers.
func (l *Lab) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("the lab has no names: %w", err)
	}
	var c net.Conn
	err := l.net.do(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// Listen listens in the lab's network, on one of its own addresses.
func (l *Lab) Listen(network, addr string) (net.Listener, error) {
	var s net.Listener
	err := l.net.do(func() (err error) {
		s, err = net.Listen(network, addr)
		return err
	})
	return s, err
}

// ListenPacket is Listen for datagrams.
func (l *Lab) ListenPacket(network, addr string) (net.PacketConn, error) {
	var s net.PacketConn
	err := l.net.do(func() (err error) {
		s, err = net.ListenPacket(network, addr)
		return err
	})
	return s, err
}

// StartCommand starts a process in the lab's network.
func (l *Lab) StartCommand(cmd *exec.Cmd) error { return l.net.do(cmd.Start) }

// Command runs a process in the lab's network and returns what it printed.
func (l *Lab) Command(cmd *exec.Cmd) ([]byte, error) {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := l.StartCommand(cmd); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	return []byte(out.String()), err
}

// Enter is the beginning of a command line whose rest runs in the lab's network.
func (l *Lab) Enter() string { return "nsenter --net=" + l.net.path() }

// ip runs ip(8) in a namespace.
func (l *Lab) ip(n *namespace, words string) error {
	var out strings.Builder
	cmd := exec.Command("ip", strings.Fields(words)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.do(cmd.Run); err != nil {
		return fmt.Errorf("ip %s: %w %s", words, err, strings.TrimSpace(out.String()))
	}
	return nil
}
