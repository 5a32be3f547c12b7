package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailform/providers/alicloud/alicloudsim"
	"mailform/providers/world"
)

// These tests kill, stop and crowd the real program.

// shell runs commands in one folder and environment.
type shell struct {
	dir string
	env []string
}

func (s shell) command(args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(binaries, "mailform"), args...)
	c.Dir, c.Env = s.dir, s.env
	return c
}

// run returns what a command wrote and its exit code.
func (s shell) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	c := s.command(args...)
	c.Stdout, c.Stderr = &o, &e
	code = finished(t, c.Run(), c)
	return o.String(), e.String(), code
}

func finished(t *testing.T, err error, c *exec.Cmd) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", c.Args, err)
	}
	return c.ProcessState.ExitCode()
}

// must runs a command that has to end with an exit code.
func (s shell) must(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, got := s.run(t, args...)
	if got != code {
		t.Fatalf("mailform %v ended with %d, expected %d\n%s%s", args, got, code, stdout, stderr)
	}
	return stdout, stderr
}

// barrier lets a test stand at a call of the cloud's API: whoever makes it waits.
type barrier struct {
	mu      sync.Mutex
	action  string
	reached chan struct{} // closed when the action is called
	pass    chan struct{} // closed when it may go on
	after   bool          // the call takes effect but is not answered
}

func (g *barrier) close(action string, after bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.action, g.after, g.reached, g.pass = action, after, make(chan struct{}), make(chan struct{})
}

// wait returns when the call is being made.
func (g *barrier) wait(t *testing.T) {
	t.Helper()
	select {
	case <-g.reached:
	case <-time.After(time.Minute): // the safety net of a broken test
		t.Fatal("the call was not made")
	}
}

func (g *barrier) fault(c alicloudsim.Call) alicloudsim.Fault {
	g.mu.Lock()
	if c.Action != g.action {
		g.mu.Unlock()
		return alicloudsim.Fault{}
	}
	g.action = ""
	reached, pass, after := g.reached, g.pass, g.after
	g.mu.Unlock()
	close(reached)
	<-pass
	return alicloudsim.Fault{Drop: after, After: after}
}

// newShell starts a world and writes a spec for it.
func newShell(t *testing.T, g *barrier, change ...func(*world.Config)) (*world.World, shell) {
	t.Helper()
	dir := t.TempDir()
	cfg := world.Config{Shim: hostshim(), Dir: filepath.Join(dir, "world"), Zones: []string{"example.com"}, Roles: []string{"mail-backup"}}
	if g != nil {
		cfg.CloudFault = g.fault
	}
	for _, c := range change {
		c(&cfg)
	}
	w, err := world.Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	s := shell{dir: filepath.Join(dir, "stack"), env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "USER=tester"}}
	for name, value := range w.Environment() {
		s.env = append(s.env, name+"="+value)
	}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.must(t, 0, "init", "example.com")
	return w, s
}

// complete is how many things a stack of the starter spec has at the vendors.
const complete = 12

// TestKilledApply kills apply while the cloud has done a call that it has not
// answered: the next apply makes nothing twice.
func TestKilledApply(t *testing.T) {
	t.Parallel()
	g := &barrier{}
	w, s := newShell(t, g)
	for _, action := range []string{"CreateVpc", "AuthorizeSecurityGroup", "RunInstances", "AssociateEipAddress"} {
		g.close(action, true)
		c := s.command("apply", "--auto-approve")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		g.wait(t)
		// Somebody else, meanwhile, is told who is at work.
		_, stderr := s.must(t, 7, "apply", "--auto-approve")
		if !strings.Contains(stderr, "held by tester") || !strings.Contains(stderr, "mailform apply") {
			t.Errorf("the lock's holder is not named: %s", stderr)
		}
		c.Process.Kill()
		c.Wait()
		close(g.pass)
	}
	s.must(t, 0, "apply", "--auto-approve")
	s.must(t, 0, "plan", "--detailed-exitcode")
	if have := w.Inventory(); len(have) != complete {
		t.Errorf("%d things exist, expected %d: %q", len(have), complete, have)
	}
}

// TestInterruptedApply sends apply the signals that people and machines send
// it: what is in flight is finished, nothing more is begun.
func TestInterruptedApply(t *testing.T) {
	t.Parallel()
	// Under nohup SIGHUP is ignored, and would be by what is started here, too.
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP)
	defer signal.Stop(heard)
	g := &barrier{}
	w, s := newShell(t, g)
	for _, x := range []struct {
		action string
		signal os.Signal
	}{{"CreateVpc", os.Interrupt}, {"CreateSecurityGroup", syscall.SIGTERM}, {"RunInstances", syscall.SIGHUP}} {
		g.close(x.action, false)
		c := s.command("apply", "--auto-approve")
		var stderr bytes.Buffer
		c.Stderr = &stderr
		stdout, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		g.wait(t)
		c.Process.Signal(x.signal)
		until(t, stdout, "stopping: what is in flight is finished first")
		close(g.pass)
		io.Copy(io.Discard, stdout)
		if code := finished(t, c.Wait(), c); code != 130 {
			t.Errorf("%s: exit code %d", x.signal, code)
		}
		if !strings.Contains(stderr.String(), "steps are done") || !strings.Contains(stderr.String(), "running the same command again continues") {
			t.Errorf("%s: said %s", x.signal, &stderr)
		}
		journal, err := os.ReadFile(filepath.Join(s.dir, ".mailform", "journal"))
		if err != nil {
			t.Fatal(err)
		}
		begun, done := bytes.Count(journal, []byte(`"kind":"begin"`)), bytes.Count(journal, []byte(`"kind":"done"`))
		if begun != done {
			t.Errorf("%s: %d begun, %d done", x.signal, begun, done)
		}
	}

	// Twice: it ends although the vendor never answers.
	g.close("AssociateEipAddress", false)
	c := s.command("apply", "--auto-approve")
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	g.wait(t)
	c.Process.Signal(os.Interrupt)
	until(t, stdout, "stopping: ")
	// Signals that follow the first at once count as one; a person's second does not.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		io.Copy(io.Discard, stdout)
	}()
	again := time.NewTicker(echo)
	defer again.Stop()
	for running := true; running; {
		select {
		case <-again.C:
			c.Process.Signal(os.Interrupt)
		case <-ended:
			running = false
		}
	}
	if code := finished(t, c.Wait(), c); code != 130 {
		t.Errorf("the second ^C: exit code %d", code)
	}
	close(g.pass)

	s.must(t, 0, "apply", "--auto-approve")
	s.must(t, 0, "plan", "--detailed-exitcode")
	if have := w.Inventory(); len(have) != complete {
		t.Errorf("%d things exist, expected %d: %q", len(have), complete, have)
	}
}

// TestApplyAfterInterruptedDestroy applies after a destroy was interrupted that had
// taken the machine's address away: the host is there, with mailformd and the epoch
// of the runs before, and can be reached only in the midst of the run.
func TestApplyAfterInterruptedDestroy(t *testing.T) {
	t.Parallel()
	g := &barrier{}
	w, s := newShell(t, g)
	s.must(t, 0, "apply", "--auto-approve")
	for _, action := range []string{"UnassociateEipAddress", "ReleaseEipAddress"} {
		g.close(action, false)
		c := s.command("destroy", "--auto-approve")
		var stderr bytes.Buffer
		c.Stderr = &stderr
		stdout, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		g.wait(t)
		c.Process.Signal(os.Interrupt)
		until(t, stdout, "stopping: what is in flight is finished first")
		close(g.pass)
		io.Copy(io.Discard, stdout)
		if code := finished(t, c.Wait(), c); code != 130 || strings.Contains(stderr.String(), "is not given back") {
			t.Errorf("%s: exit code %d: %s", action, code, &stderr)
		}
		if _, _, have := s.run(t, "unlock"); have != 0 {
			t.Errorf("%s: a lock is left: exit code %d", action, have)
		}
		s.must(t, 0, "apply", "--auto-approve")
		s.must(t, 0, "plan", "--detailed-exitcode")
		if have := w.Inventory(); len(have) != complete {
			t.Errorf("%s: %d things exist, expected %d: %q", action, len(have), complete, have)
		}
	}
}

// until reads up to a text.
func until(t *testing.T, r io.Reader, text string) {
	t.Helper()
	var seen []byte
	for b := make([]byte, 1024); !bytes.Contains(seen, []byte(text)); {
		n, err := r.Read(b)
		seen = append(seen, b[:n]...)
		if err != nil {
			t.Fatalf("%q did not come: %s", text, seen)
		}
	}
}
