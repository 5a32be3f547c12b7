package daemon

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func testLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

// TestSystemdListeners passes sockets to another process as systemd does.
func TestSystemdListeners(t *testing.T) {
	for _, tc := range []struct {
		names string
		want  string
	}{
		{"imap:smtp", "smtp"},
		{"smtp:smtp", "smtp"},
		{"smtp", "error: LISTEN_FDNAMES"},
	} {
		var files []*os.File
		var addresses []string
		for range 2 {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			f, err := l.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			defer f.Close()
			files = append(files, f)
			addresses = append(addresses, l.Addr().String())
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{"MAILFORM_TEST_CHILD=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=" + tc.names}
		cmd.ExtraFiles = files
		go func() {
			for _, a := range addresses {
				if c, err := net.Dial("tcp", a); err == nil {
					defer c.Close()
				}
			}
		}()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if !strings.HasPrefix(string(out), tc.want) {
			t.Errorf("%s: got\n%s", tc.names, out)
		}
		if !strings.HasPrefix(tc.want, "error") {
			for _, a := range addresses {
				if !strings.Contains(string(out), a) {
					t.Errorf("%s: the socket at %s was not found in\n%s", tc.names, a, out)
				}
			}
		}
	}
	for _, e := range []map[string]string{{}, {"LISTEN_FDS": "1", "LISTEN_PID": strconv.Itoa(os.Getpid() + 1)}} {
		if l, err := SystemdListeners(env(e)); err != nil || len(l) != 0 {
			t.Errorf("%v: %v, %v", e, l, err)
		}
	}
	for _, e := range []map[string]string{{"LISTEN_FDS": "x"}, {"LISTEN_FDS": "-1"}, {"LISTEN_FDS": "1000000"}} {
		if _, err := SystemdListeners(env(e)); err == nil {
			t.Errorf("%v was accepted", e)
		}
	}
}

// With systemd's own tool in systemd's place.
func TestSocketActivation(t *testing.T) {
	tool, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip("systemd-socket-activate is not installed")
	}
	address := filepath.Join(t.TempDir(), "socket")
	cmd := exec.Command(tool, "--listen="+address, "--fdname=smtp", "-E", "MAILFORM_TEST_CHILD=1", os.Args[0])
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text []byte
	// The safety net of a broken test.
	late := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	// Until the tool listens.
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("unix", address)
		if err != nil {
			continue
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		text, _ = io.ReadAll(c)
		c.Close()
		break
	}
	_ = cmd.Wait()
	late.Stop()
	if string(text) != "smtp\n" {
		t.Errorf("the service said %q; output:\n%s", text, out.String())
	}
}

func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	notify, err := Notifier(env(map[string]string{"NOTIFY_SOCKET": path}))
	if err != nil {
		t.Fatal(err)
	}
	if err := notify("READY=1"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	if nobody, err := Notifier(env(nil)); err != nil || nobody("READY=1") != nil {
		t.Error("without a socket there is nobody to tell")
	}
	if _, err := Notifier(env(map[string]string{"NOTIFY_SOCKET": "vsock:2:1"})); err == nil {
		t.Error("an address of another kind was accepted")
	}
	for v, want := range map[string]time.Duration{"": 0, "x": 0, "-5": 0, "30000000": 30 * time.Second} {
		if got := WatchdogInterval(env(map[string]string{"WATCHDOG_USEC": v})); got != want {
			t.Errorf("WATCHDOG_USEC=%s is %v", v, got)
		}
	}
	if got := WatchdogInterval(env(map[string]string{"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"})); got != 0 {
		t.Errorf("somebody else's watchdog is %v", got)
	}
}

func TestListenRefuses(t *testing.T) {
	for _, a := range []string{"smtp", "http=127.0.0.1:0", "smtp=127.0.0.1:notaport"} {
		if l, err := Listen([]string{"imap=127.0.0.1:0", a}); err == nil {
			t.Errorf("%q gave %v", a, l)
		}
	}
}

// Outgoing connections go through the proxy that ALL_PROXY names.
func TestDialerUsesProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 10)
		_, _ = io.ReadFull(c, b[:3]) // version, one method: none
		_, _ = c.Write([]byte{5, 0})
		_, _ = io.ReadFull(c, b) // CONNECT, IPv4
		asked <- net.JoinHostPort(net.IP(b[4:8]).String(), strconv.Itoa(int(binary.BigEndian.Uint16(b[8:]))))
		_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		_, _ = io.WriteString(c, "220 through\r\n")
	}()
	dial, err := Dialer(env(map[string]string{"ALL_PROXY": "socks5://" + l.Addr().String()}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := dial(ctx, "tcp", "192.0.2.7:25")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	text, _ := io.ReadAll(c)
	if got := <-asked; got != "192.0.2.7:25" || string(text) != "220 through\r\n" {
		t.Errorf("the proxy was asked for %s and we heard %q", got, text)
	}
	if _, err := Dialer(env(map[string]string{"ALL_PROXY": "gopher://user:secret@x"})); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a proxy of another kind: %v", err)
	}
	if _, err := Dialer(env(nil)); err != nil {
		t.Error(err)
	}
}
