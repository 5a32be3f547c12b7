package hostsim

import (
	"errors"
	"os/exec"
	"runtime"
)

// spawner starts processes from one thread that lives as long as the host. Linux
// ends a process with the *thread* that started it, and the simulated machine's
// processes must end with us, however we end.
type spawner struct {
	requests chan spawnRequest
	done     chan struct{}
}

type spawnRequest struct {
	cmd *exec.Cmd
	err chan error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawnRequest), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case r := <-s.requests:
				dieWithParent(r.cmd)
				r.err <- r.cmd.Start()
			case <-s.done:
				return
			}
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	r := spawnRequest{cmd, make(chan error, 1)}
	select {
	case s.requests <- r:
		return <-r.err
	case <-s.done:
		return errors.New("the machine is off")
	}
}

func (s *spawner) close() { close(s.done) }
