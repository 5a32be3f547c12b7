package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// console is a terminal with one program on it, as a person has it before him.
type console struct {
	*testing.T
	cmd    *exec.Cmd
	master *os.File
	slave  *os.File // kept open, so that the terminal can be looked at when the program has ended
	before unix.Termios

	mu   sync.Mutex
	more *sync.Cond
	text []byte
	done bool
}

// newConsole starts a program on a terminal of a size.
func newConsole(t *testing.T, cmd *exec.Cmd, width, height uint16) *console {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &console{T: t, cmd: cmd, master: master, slave: slave}
	c.more = sync.NewCond(&c.mu)
	c.resize(width, height)
	c.before = c.mode()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		slave.Close()
		master.Close()
	})
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			c.mu.Lock()
			c.text, c.done = append(c.text, b[:n]...), err != nil
			c.more.Broadcast()
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *console) resize(width, height uint16) {
	c.Helper()
	if err := unix.IoctlSetWinsize(int(c.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}); err != nil {
		c.Fatal(err)
	}
}

// mode is what the terminal does with keys.
func (c *console) mode() unix.Termios {
	c.Helper()
	m, err := unix.IoctlGetTermios(int(c.slave.Fd()), unix.TCGETS)
	if err != nil {
		c.Fatal(err)
	}
	return *m
}

func (c *console) press(keys string) {
	c.Helper()
	if _, err := c.master.WriteString(keys); err != nil {
		c.Fatal(err)
	}
}

// see waits until what is shown matches, and takes it off the screen up to there.
func (c *console) see(expression string) string {
	c.Helper()
	re := regexp.MustCompile(expression)
	late := false
	alarm := time.AfterFunc(60*time.Second, func() {
		c.mu.Lock()
		late = true
		c.more.Broadcast()
		c.mu.Unlock()
	})
	defer alarm.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if at := re.FindIndex(c.text); at != nil {
			found := string(c.text[at[0]:at[1]])
			c.text = c.text[at[1]:]
			return found
		}
		if late || c.done {
			c.Fatalf("no %q on the terminal:\n%q", expression, bytes.ToValidUTF8(c.text[max(0, len(c.text)-2000):], []byte("?")))
		}
		c.more.Wait()
	}
}

// leave waits for the program's end and returns its exit status; the terminal must be as it was.
func (c *console) leave() int {
	c.Helper()
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.Fatal(err)
	}
	if now := c.mode(); now != c.before {
		c.Errorf("the terminal was %+v and is left as %+v", c.before, now)
	}
	return c.cmd.ProcessState.ExitCode()
}

// onRealTerminal is a person's session on the machine.
func (r *real) onRealTerminal(t *testing.T) {
	login := func(width, height uint16) *console {
		t.Helper()
		cmd := r.command("ssh")
		cmd.Env = append(cmd.Env, "TERM=xterm-256color", "LC_ALL=C.UTF-8")
		c := newConsole(t, cmd, width, height)
		c.see(`root@mx1:~# `)
		return c
	}
	c := login(100, 30)
	if m := c.mode(); m.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Errorf("the terminal still acts on keys: %+v", m)
	}
	c.press("echo $TERM; stty size; stty -a | grep -o -w -e -*iutf8\r")
	c.see(`\sxterm-256color\r\n30 100\r\niutf8\r\n`)
	c.resize(132, 50)
	c.press("until [ \"$(stty size)\" = '50 132' ]; do sleep 0.05; done; echo size-$((40+2))\r")
	c.see(`size-42\r\n`)
	// A key that comes between two programs is nobody's: the machine says when this one runs.
	const runs = "until pgrep -x sleep >/dev/null; do :; done"
	c.press("sleep 1000\r")
	r.m.Sh(runs)
	c.press("\x03")
	c.see(`# `)
	c.press("echo ended-$?\r")
	c.see(`ended-130\r\n`)
	c.press("sleep 1000\r")
	r.m.Sh(runs)
	c.press("\x1a")
	c.see(`Stopped`)
	c.press("kill -9 %1; seq 1 30000; echo after-$((1+1))\r")
	c.see(`29999\r\n30000\r\n`)
	c.see(`after-2\r\n`)
	c.press("echo größe-ü\r")
	c.see(`[\r\n]größe-ü\r\n`)
	c.press("exit 7\r")
	if status := c.leave(); status != 7 {
		t.Errorf("exit 7 ends with %d", status)
	}

	c = login(80, 24)
	c.press("false\r")
	c.see(`# `)
	c.press("\x04") // ^D: the status of what ran last, as everywhere
	if status := c.leave(); status != 1 {
		t.Errorf("^D after false ends with %d", status)
	}

	// A shell that is killed, and a program that is told to end.
	c = login(80, 24)
	c.press("kill -9 $$\r")
	if status := c.leave(); status != 255 {
		t.Errorf("a shell that was killed ends with %d", status)
	}
	c = login(80, 24)
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := c.leave(); status != exitInterrupted {
		t.Errorf("told to end, it ends with %d", status)
	}
}

// commands run on the machine without a terminal.
func (r *real) commands(t *testing.T) {
	for command, want := range map[string]int{"true": 0, "exit 3": 3, "exit 255": 255, "kill -TERM $$": 255, "no-such-program": 127, "test -t 0": 1} {
		if _, _, code := r.run(t, "ssh", "mx1", "--", command); code != want {
			t.Errorf("ssh -- %s ends with %d, expected %d", command, code, want)
		}
	}
	if out, said := r.must(t, 0, "ssh", "--", "echo out; echo err >&2"); out != "out\n" || said != "err\n" {
		t.Errorf("got %q and %q", out, said)
	}
	// All bytes go through, in both directions, and the end of what is sent is seen.
	c := r.command("ssh", "--", "cat")
	letter := bytes.Repeat([]byte("\x00\x03\x04\r\n\xff~."), 300_000)
	c.Stdin = bytes.NewReader(letter)
	if out, err := c.Output(); err != nil || !bytes.Equal(out, letter) {
		t.Errorf("of %d bytes %d came back: %v", len(letter), len(out), err)
	}
	// A reader that has seen enough ends it.
	c = exec.Command("sh", "-c", r.command("ssh").Path+" ssh -- 'yes; true' | head -n 1")
	c.Dir, c.Env = r.dir, r.env
	if out, err := c.CombinedOutput(); err != nil || string(out) != "y\n" {
		t.Errorf("into head: %v %q", err, out)
	}
	// OpenSSH's own client takes the line that is printed, and trusts nothing else.
	line, _ := r.must(t, 0, "ssh", "--print")
	line = strings.TrimSpace(line)
	theirs := func(line string) (string, error) {
		c := exec.Command("sh", "-c", line)
		c.Env = r.env
		out, err := r.lab.Command(c)
		return string(out), err
	}
	if out, err := theirs(line + " hostname --short"); err != nil || out != "mx1\n" {
		t.Errorf("%s: %v %s", line, err, out)
	}
	other := strings.Replace(line, "ssh-ed25519 ", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f #", 1)
	if out, err := theirs(other + " true"); err == nil || !strings.Contains(out, "Host key verification failed") {
		t.Errorf("with another key: %v %s", err, out)
	}
}
