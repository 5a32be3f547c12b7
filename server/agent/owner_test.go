package agent

import (
	"os"
	"strconv"
	"syscall"
	"testing"
)

// The lock is free once it is given back, even while a child that is just being
// started still has its file.
func TestLockIsGivenBackAtOnce(t *testing.T) {
	m := newMachine(t)
	unlock, err := m.agent().lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	inherited := -1
	for _, d := range descriptors {
		if to, err := os.Readlink("/proc/self/fd/" + d.Name()); err != nil || to != m.layout.AgentLock() {
			continue
		}
		fd, err := strconv.Atoi(d.Name())
		if err != nil {
			t.Fatal(err)
		}
		if inherited, err = syscall.Dup(fd); err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(inherited)
	}
	if inherited < 0 {
		t.Fatal("the lock's file is not open")
	}
	unlock()
	again, err := m.agent().lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
}
