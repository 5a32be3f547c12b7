package hostsim

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// On the simulated host this test binary is systemctl and, under another name,
// a small service.
func TestMain(m *testing.M) {
	if IsShim(os.Args) {
		os.Exit(ShimMain())
	}
	if filepath.Base(os.Args[0]) == "echod" {
		os.Exit(echod(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// echod answers each connection on its socket with its name, version and pid.
func echod(args []string) int {
	if len(args) > 0 && args[0] == "env" {
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return 0
	}
	if len(args) > 0 && args[0] == "reload" {
		fmt.Println("reloaded", os.Getenv("MAINPID"))
		return 0
	}
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		fmt.Println("no sockets")
		return 1
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	n, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	io.WriteString(n, "READY=1\n")
	fmt.Println("serving", os.Getenv("LISTEN_FDNAMES"))
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		fmt.Fprintf(c, "%s %d\n", os.Getenv("LISTEN_FDNAMES"), os.Getpid())
		c.Close()
	}
}

const (
	echoService = "[Unit]\nRequires=echo.socket\n[Service]\nType=notify\nExecStart=/usr/local/sbin/echod serve\nExecReload=/usr/local/sbin/echod reload\nSockets=echo.socket\nRestart=on-failure\nRestartSec=0.01\nRuntimeDirectory=echo\n[Install]\nWantedBy=multi-user.target\n"
	echoSocket  = "[Socket]\nListenStream=25\nFileDescriptorName=smtp\nService=echo.service\n[Install]\nWantedBy=sockets.target\n"
)

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func startHost(t *testing.T, cfg Config) (*Host, ssh.Signer) {
	t.Helper()
	key := newKey(t)
	cfg.AuthorizedKeys = append(cfg.AuthorizedKeys, string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	h, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Destroy() })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(h.Root(), "usr/local/sbin/echod")); err != nil {
		t.Fatal(err)
	}
	return h, key
}

func dialSSH(t *testing.T, h *Host, user string, key ssh.Signer) *ssh.Client {
	t.Helper()
	addr, ok := h.Addr(h.init.sshPort)
	if !ok {
		t.Fatal("no SSH port")
	}
	c, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(h.HostKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func run(t *testing.T, c *ssh.Client, command, stdin string) (string, int) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var stdout, stderr bytes.Buffer
	s.Stdin, s.Stdout, s.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err = s.Run(command)
	out := stdout.String() + stderr.String()
	if exit, ok := err.(*ssh.ExitError); ok {
		return out, exit.ExitStatus()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out, 0
}

func TestCommands(t *testing.T) {
	h, key := startHost(t, Config{Arch: "arm64"})
	c := dialSSH(t, h, "root", key)
	for _, tc := range []struct {
		command, stdin, want string
		status               int
	}{
		{"uname -sm", "", "Linux aarch64\n", 0},
		{"mkdir -p /usr/local/lib/x", "", "", 0},
		{"dd of='/usr/local/lib/x/a file' status=none", "hello", "", 0},
		{"sha256sum '/usr/local/lib/x/a file'", "", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824  /usr/local/lib/x/a file\n", 0},
		{"sha256sum /nowhere", "", "sha256sum: /nowhere: no such file or directory\n", 1},
		{"sudo -n true", "", "", 0},
		{"cat /etc/passwd | sh", "", "sh: '|' is not simulated\n", 2},
		{"/bin/sh -c true", "", "sh: /bin/sh: not found\n", 127},
		{"../../../../bin/sh", "", "sh: /usr/local/sbin/../../../../bin/sh: not found\n", 127},
	} {
		out, status := run(t, c, tc.command, tc.stdin)
		if out != tc.want || status != tc.status {
			t.Errorf("%s: %d %q, want %d %q", tc.command, status, out, tc.status, tc.want)
		}
	}
	if _, err := os.Stat(filepath.Join(h.Root(), "usr/local/lib/x/a file")); err != nil {
		t.Error(err)
	}
}

func TestOrdinaryUserNeedsSudo(t *testing.T) {
	key := newKey(t)
	host := newKey(t)
	data := userData(t, host, string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	h, err := Start(Config{UserData: data})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Destroy()
	if h.init.sshPort != 2222 {
		t.Fatalf("SSH port %d", h.init.sshPort)
	}
	c := dialSSH(t, h, "admin", key)
	if out, status := run(t, c, "mkdir -p /usr/local/lib/x", ""); status != 1 || !strings.Contains(out, "Permission denied") {
		t.Errorf("%d %q", status, out)
	}
	if out, status := run(t, c, "sudo -n mkdir -p /usr/local/lib/x", ""); status != 0 {
		t.Errorf("%d %q", status, out)
	}
}

func userData(t *testing.T, host ssh.Signer, authorized string) string {
	t.Helper()
	_, raw, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(raw, "")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(map[string]any{
		"ssh_keys":    map[string]string{"ed25519_private": string(pem.EncodeToMemory(block))},
		"users":       []any{"default", map[string]any{"name": "admin", "ssh_authorized_keys": []string{authorized}}},
		"write_files": []map[string]string{{"path": "/etc/ssh/sshd_config.d/10-mailform.conf", "content": "Port 2222\n"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString([]byte("#cloud-config\n" + string(doc)))
}

func TestPlainYAMLHostKey(t *testing.T) {
	_, raw, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(raw, "")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(strings.TrimSpace(string(pem.EncodeToMemory(block))), "\n", "\n    ")
	c, err := parseCloudInit("#cloud-config\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n    " + text + "\n  ed25519_public: x\n")
	if err != nil || len(c.hostKeys) != 1 {
		t.Fatalf("%+v %v", c, err)
	}
}

func (h *Host) put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(h.path(path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// greet reads what the service on a port says.
func greet(t *testing.T, h *Host, port int) (name, pid string) {
	t.Helper()
	addr, ok := h.Addr(port)
	if !ok {
		t.Fatalf("nothing listens on port %d", port)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	name, pid, _ = strings.Cut(strings.TrimSpace(string(b)), " ")
	return name, pid
}

func TestServiceLife(t *testing.T) {
	h, key := startHost(t, Config{Env: []string{"CANARY=yes"}})
	h.put(t, "/etc/systemd/system/echo.service", echoService)
	h.put(t, "/etc/systemd/system/echo.socket", echoSocket)
	sup := h.sup
	systemctl := func(line string) string {
		t.Helper()
		r := sup.systemctl(strings.Fields(line))
		if r.Status != 0 {
			t.Fatalf("systemctl %s: %+v", line, r)
		}
		return r.Stdout
	}
	systemctl("daemon-reload")
	systemctl("enable --quiet echo.service echo.socket")
	systemctl("start echo.service")
	name, pid := greet(t, h, 25)
	if name != "smtp" {
		t.Errorf("socket's name is %q", name)
	}
	if out := systemctl("show --property=Id,ActiveState,UnitFileState,MainPID,NeedDaemonReload echo.service nothing.service"); !strings.HasPrefix(out, "Id=echo.service\nActiveState=active\nUnitFileState=enabled\nMainPID="+pid+"\nNeedDaemonReload=no\n\nId=nothing.service\nActiveState=inactive\n") {
		t.Errorf("show: %q", out)
	}

	// The socket outlives a restart, and a connection waits for the new process.
	before, _ := h.Addr(25)
	systemctl("restart echo.service")
	if after, _ := h.Addr(25); after != before {
		t.Errorf("the socket moved from %s to %s", before, after)
	}
	_, next := greet(t, h, 25)
	if next == pid {
		t.Error("the same process after a restart")
	}
	systemctl("reload echo.service")
	if log := h.Log("echo.service"); !strings.Contains(log, "reloaded "+next) {
		t.Errorf("log: %q", log)
	}

	// A crash is mended: the connection that is made in between is served.
	n, err := strconv.Atoi(next)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := os.FindProcess(n)
	if err != nil {
		t.Fatal(err)
	}
	sup.mu.Lock()
	exited := sup.loaded["echo.service"].service.exited
	sup.mu.Unlock()
	if err := proc.Kill(); err != nil {
		t.Fatal(err)
	}
	<-exited
	if _, again := greet(t, h, 25); again == next {
		t.Error("the killed process answers")
	}

	// A reboot starts what is enabled, on a new boot.
	boot, _ := os.ReadFile(h.path("/proc/sys/kernel/random/boot_id"))
	h.Stop()
	if _, ok := h.Addr(25); ok {
		t.Error("a port answers on a machine that is off")
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	if name, _ := greet(t, h, 25); name != "smtp" {
		t.Errorf("after the reboot: %q", name)
	}
	if b, _ := os.ReadFile(h.path("/proc/sys/kernel/random/boot_id")); bytes.Equal(b, boot) {
		t.Error("the boot id stayed")
	}

	// The whole way through SSH and the tunnel.
	c := dialSSH(t, h, "root", key)
	out, _ := run(t, c, "echod env", "")
	if !strings.Contains(out, "CANARY=yes") || !strings.Contains(out, "MAILFORM_ROOT="+h.short) {
		t.Errorf("environment: %q", out)
	}
	tunnel, err := c.DialContext(context.Background(), "tcp", "127.0.0.1:25")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(tunnel)
	if err != nil || !strings.HasPrefix(string(b), "smtp ") {
		t.Errorf("through the tunnel: %q %v", b, err)
	}
}

func TestSocketUnderRunningServiceIsRefused(t *testing.T) {
	h, _ := startHost(t, Config{})
	h.put(t, "/etc/systemd/system/echo.service", strings.Replace(echoService, "Requires=echo.socket\n", "", 1))
	h.put(t, "/etc/systemd/system/echo.socket", echoSocket)
	if r := h.sup.systemctl([]string{"start", "echo.service"}); r.Status == 0 || !strings.Contains(h.Log("echo.service"), "no sockets") {
		t.Errorf("a service that ends at once was started: %+v %q", r, h.Log("echo.service"))
	}
}

func FuzzParseUnit(f *testing.F) {
	f.Add(echoService)
	f.Add("[Unit]\nA=b\\\n  c\n# x\nA=\n")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseUnit(s)
		if err == nil {
			u.seconds("Service", "RestartSec", 0)
		}
	})
}

func FuzzSplitWords(f *testing.F) {
	for _, s := range []string{"uname -sm", "sudo -n dd of='a b' x\\ y", "a | b", "\"$(x)\"", "x=1 y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words, err := splitWords(s)
		if err != nil {
			return
		}
		// What was accepted means the same when it is quoted and split again.
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		again, err := splitWords(strings.Join(quoted, " "))
		if err != nil || fmt.Sprintf("%q", again) != fmt.Sprintf("%q", words) {
			t.Fatalf("%q became %q: %v", words, again, err)
		}
	})
}

func FuzzCloudInit(f *testing.F) {
	f.Add("#cloud-config\n{\"ssh_keys\":{}}")
	f.Add("#cloud-config\nssh_keys:\n  ed25519_private: |\n    x\n")
	f.Fuzz(func(t *testing.T, s string) { parseCloudInit(s) })
}

// FuzzParseNative: no datagram brings the journal down or makes a field that an
// entry may not have.
func FuzzParseNative(f *testing.F) {
	f.Add([]byte("MESSAGE=hi\nPRIORITY=6\n"))
	f.Add([]byte("MESSAGE\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n"))
	f.Add([]byte("MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, err := parseNative(b)
		if err != nil {
			return
		}
		for name := range fields {
			if name == "" || name[0] == '_' {
				t.Errorf("field %q", name)
			}
		}
	})
}
