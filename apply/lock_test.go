package apply

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailform/plan"
)

// holdLock is the helper process: it takes the lock, says so and keeps it until
// its standard input ends.
func holdLock(folder string) {
	_, err := NewDir(OS{}, folder).Lock(Holder{Who: "alice", Host: "laptop", PID: os.Getpid(), Command: "mailform apply", Since: epoch})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("locked")
	io.Copy(io.Discard, os.Stdin)
}

func TestSecondProcessLearnsWhoHoldsTheLock(t *testing.T) {
	folder := t.TempDir()
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "MAILFORM_TEST_LOCK="+folder)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("helper said %q, %v", line, err)
	}

	d := NewDir(OS{}, folder)
	_, err = d.Lock(Holder{Who: "bob"})
	var pe *plan.Error
	if !errors.As(err, &pe) || pe.Class != plan.ErrLocked {
		t.Fatalf("second lock: %v, want class locked", err)
	}
	for _, want := range []string{"alice", "laptop", fmt.Sprint(holder.Process.Pid), "mailform apply", "2026-01-02T03:04:05Z"} {
		if !strings.Contains(pe.Got, want) {
			t.Errorf("%q does not say %q", pe.Got, want)
		}
	}
	if !strings.Contains(pe.Fix, "wait") {
		t.Errorf("fix %q does not say what to do", pe.Fix)
	}

	// However the holder ends, its lock goes with it, and the file it leaves is no obstacle.
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	holder.Wait()
	if data, err := os.ReadFile(filepath.Join(folder, DirName, LockName)); err != nil || len(data) == 0 {
		t.Fatalf("the killed holder's file: %q, %v", data, err)
	}
	l, err := d.Lock(Holder{Who: "bob", Since: time.Now()})
	if err != nil {
		t.Fatalf("lock after the holder was killed: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestLockInOneProcess(t *testing.T) {
	d := NewDir(OS{}, t.TempDir())
	first, err := d.Lock(Holder{Who: "a", PID: 7, Command: "x\x1b[31m"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Lock(Holder{Who: "b"})
	if plan.ClassOf(err) != plan.ErrLocked {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), "\x1b") {
		t.Errorf("a holder's control characters reach the terminal: %q", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := d.Lock(Holder{Who: "b"})
	if err != nil {
		t.Fatal(err)
	}
	second.Release()
}

func TestStateDirectoryIsPrivate(t *testing.T) {
	folder := t.TempDir()
	d := NewDir(OS{}, folder)
	s, err := d.Open("test", Holder{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if info, err := os.Stat(d.Path()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if _, err := NewDir(OS{}, filepath.Join(folder, "absent")).Open("test", Holder{}); err == nil {
		t.Error("a stack folder that does not exist was made")
	}
}

// forking is the operating system while some child of this process has been forked and
// still has copies of all open files.
type forking struct {
	OS
	t *testing.T
}

func (f forking) TryLock(file File) (bool, error) {
	fd, err := unix.Dup(int(file.(*os.File).Fd()))
	if err != nil {
		return false, err
	}
	f.t.Cleanup(func() { unix.Close(fd) })
	return f.OS.TryLock(file)
}

// A lock that was given back is free, whoever else has its file open.
func TestReleasedLockIsFree(t *testing.T) {
	d := NewDir(forking{t: t}, t.TempDir())
	for range 2 {
		l, err := d.Lock(Holder{Who: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
		if h, err := d.Holder(); h != nil || err != nil {
			t.Fatalf("held by %v, %v", h, err)
		}
	}
}
