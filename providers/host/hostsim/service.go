package hostsim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a service's main process.
type process struct {
	cmd      *exec.Cmd
	ready    chan struct{} // closed at READY=1
	exited   chan struct{} // closed when it has ended and err is set
	err      error
	stopping bool // asked to end: not a failure; guarded by supervisor.mu
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the process by its id; one that has ended is left alone.
func (p *process) kill() {
	p.stopping = true
	select {
	case <-p.exited:
	default:
		p.cmd.Process.Kill()
	}
}

// start starts a socket or service and what it requires. Callers hold jobs.
func (s *supervisor) start(name string) error {
	u, err := s.need(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	active, off := u.active == "active", s.off
	s.mu.Unlock()
	if off {
		return errors.New("the machine is off")
	}
	if active {
		return nil
	}
	if filepath.Ext(name) == ".mount" {
		return s.startMount(u)
	}
	if !s.conditionMet(u) {
		s.logf(name, "was skipped because of an unmet condition check")
		return nil
	}
	if filepath.Ext(name) == ".socket" {
		return s.startSocket(u)
	}
	if filepath.Ext(name) == ".timer" {
		return s.startTimer(u)
	}
	if err := s.requireMounts(u); err != nil {
		return err
	}
	for _, r := range u.unit.list("Unit", "Requires") {
		if err := s.start(r); err != nil {
			return fmt.Errorf("A dependency job for %s failed: %w", name, err)
		}
	}
	return s.startService(u)
}

func (s *supervisor) startSocket(u *loadedUnit) error {
	service := u.unit.get("Socket", "Service")
	if service == "" {
		service = strings.TrimSuffix(u.name, ".socket") + ".service"
	}
	if s.state(service) == "active" {
		return fmt.Errorf("Job for %s failed: Socket service %s already active, refusing.", u.name, service)
	}
	if len(u.unit.list("Socket", "ListenDatagram")) == 1 { // nobody is banned here
		s.mu.Lock()
		defer s.mu.Unlock()
		u.active = "active"
		return nil
	}
	ports := u.unit.list("Socket", "ListenStream")
	if len(ports) != 1 {
		return fmt.Errorf("%s: only one ListenStream= is simulated", u.name)
	}
	if n, err := strconv.Atoi(ports[0]); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%s: only a port number is simulated as ListenStream=", u.name)
	}
	l, err := s.host.listen()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		l.Close()
		return errors.New("the machine is off")
	}
	u.socket, u.active = l, "active"
	return nil
}

// startTimer starts a timer that elapses once, OnActiveSec= after it was started.
func (s *supervisor) startTimer(u *loadedUnit) error {
	delay := u.unit.seconds("Timer", "OnActiveSec", 0)
	service := u.unit.get("Timer", "Unit")
	if delay <= 0 || service == "" {
		return fmt.Errorf("%s: only OnActiveSec= and Unit= are simulated", u.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		return errors.New("the machine is off")
	}
	u.active = "active"
	u.timer = s.host.cfg.AfterFunc(delay, func() {
		s.mu.Lock()
		if s.off {
			s.mu.Unlock()
			return
		}
		s.wg.Add(1)
		s.mu.Unlock()
		defer s.wg.Done()
		s.jobs.Lock()
		err := s.start(service)
		s.jobs.Unlock()
		if err != nil {
			s.logf(service, "%v", err)
		}
	})
	return nil
}

// listeners returns what systemd would pass to a service: duplicates of its
// active sockets and their names.
func (s *supervisor) listeners(u *loadedUnit) (files []*os.File, names []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range u.unit.list("Service", "Sockets") {
		sock := s.loaded[n]
		if sock == nil || sock.socket == nil {
			continue
		}
		f, err := sock.socket.(*net.TCPListener).File()
		if err != nil {
			return files, nil, err
		}
		files = append(files, f)
		fdName := sock.unit.get("Socket", "FileDescriptorName")
		if fdName == "" {
			fdName = n
		}
		names = append(names, fdName)
	}
	return files, names, nil
}

// command builds a process from an ExecStart= or ExecReload= line.
func (s *supervisor) command(u *loadedUnit, key string) (*exec.Cmd, error) {
	argv := strings.Fields(u.unit.get("Service", key))
	if len(argv) == 0 || !strings.HasPrefix(argv[0], "/") {
		return nil, fmt.Errorf("%s has no %s=", u.name, key)
	}
	cmd := exec.Command(s.host.path("/usr/bin/"+listenExec), append([]string{s.host.path(argv[0])}, argv[1:]...)...)
	cmd.Dir = s.host.path("/")
	cmd.Env = append(s.host.env(), u.unit.list("Service", "Environment")...)
	return cmd, nil
}

func (s *supervisor) startService(u *loadedUnit) error {
	cmd, err := s.command(u, "ExecStart")
	if err != nil {
		return err
	}
	for _, d := range u.unit.list("Service", "RuntimeDirectory") {
		if err := os.MkdirAll(s.host.path("/run/"+d), 0o755); err != nil {
			return err
		}
	}
	files, names, err := s.listeners(u)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return err
	}
	log, stream, logged, err := s.journal.lines(u.name)
	if err != nil {
		return err
	}
	defer log.Close()
	notify, err := newNotifySocket(filepath.Join(s.host.short, "n-"+u.name))
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, files
	cmd.Env = append(cmd.Env,
		"LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"),
		"NOTIFY_SOCKET="+notify.path, "JOURNAL_STREAM="+stream)
	p := &process{cmd: cmd, ready: notify.ready, exited: make(chan struct{})}
	s.mu.Lock()
	if s.off {
		s.mu.Unlock()
		notify.close()
		return errors.New("the machine is off")
	}
	if err := s.spawn.start(cmd); err != nil {
		s.mu.Unlock()
		notify.close()
		return err
	}
	u.service, u.active = p, "activating"
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		p.err = cmd.Wait()
		select {
		case <-logged:
		case <-time.After(time.Second): // a child of it holds on to its output
		}
		notify.close()
		close(p.exited)
		s.ended(u, p)
	}()
	switch u.unit.get("Service", "Type") {
	case "notify":
	case "oneshot":
		s.jobs.Unlock() // it may ask for other jobs
		<-p.exited
		s.jobs.Lock()
		if p.err != nil {
			return fmt.Errorf("Job for %s failed because the control process exited with error code: %v", u.name, p.err)
		}
		return nil
	default:
		return s.began(u, p)
	}
	timeout := time.NewTimer(u.unit.seconds("Service", "TimeoutStartSec", defaultTimeout))
	defer timeout.Stop()
	select {
	case <-p.ready:
		return s.began(u, p)
	case <-p.exited:
		return fmt.Errorf("Job for %s failed because the control process exited with error code: %v", u.name, p.err)
	case <-timeout.C:
		s.end(u, p)
		return fmt.Errorf("Job for %s failed because a timeout was exceeded.", u.name)
	}
}

func (s *supervisor) began(u *loadedUnit, p *process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.service != p {
		return fmt.Errorf("Job for %s failed: %v", u.name, p.err)
	}
	u.active = "active"
	return nil
}

// ended is called when a main process is gone, and starts it again if the unit
// wants that.
func (s *supervisor) ended(u *loadedUnit, p *process) {
	s.mu.Lock()
	if u.service != p {
		s.mu.Unlock()
		return
	}
	u.service = nil
	wasActive := u.active == "active"
	switch {
	case p.stopping || p.err == nil:
		u.active = "inactive"
	default:
		u.active = "failed"
	}
	policy := u.unit.get("Service", "Restart")
	again := wasActive && !p.stopping && !s.off && (policy == "always" || policy == "on-failure" && p.err != nil)
	delay := u.unit.seconds("Service", "RestartSec", 100*time.Millisecond)
	if again {
		u.active = "activating"
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if !again {
		return
	}
	s.logf(u.name, "main process ended (%v), starting it again", p.err)
	time.AfterFunc(delay, func() {
		defer s.wg.Done()
		s.jobs.Lock()
		defer s.jobs.Unlock()
		s.mu.Lock()
		waiting := u.active == "activating" && u.service == nil && !s.off
		s.mu.Unlock()
		if waiting {
			if err := s.startService(u); err != nil {
				s.logf(u.name, "%v", err)
			}
		}
	})
}

// stop stops a unit, and the service that requires it. Callers hold jobs.
func (s *supervisor) stop(name string) error {
	u, err := s.need(name)
	if err != nil {
		return err
	}
	if filepath.Ext(name) == ".mount" {
		return s.stopMount(u)
	}
	if filepath.Ext(name) == ".timer" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if u.timer != nil {
			u.timer()
		}
		u.timer, u.active = nil, "inactive"
		return nil
	}
	if filepath.Ext(name) == ".socket" {
		for _, n := range s.names() {
			s.mu.Lock()
			other := s.loaded[n]
			s.mu.Unlock()
			for _, r := range other.unit.list("Unit", "Requires") {
				if r == name {
					if err := s.stop(n); err != nil {
						return err
					}
				}
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if u.socket != nil {
			u.socket.Close()
		}
		u.socket, u.active = nil, "inactive"
		return nil
	}
	s.mu.Lock()
	p := u.service
	if p == nil {
		u.active = "inactive" // also what waits to be started again
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	s.end(u, p)
	for _, d := range u.unit.list("Service", "RuntimeDirectory") {
		if err := os.RemoveAll(s.host.path("/run/" + d)); err != nil {
			return err
		}
	}
	return nil
}

// end asks a process to end and, when it does not, ends it.
func (s *supervisor) end(u *loadedUnit, p *process) {
	s.mu.Lock()
	p.stopping = true
	s.mu.Unlock()
	p.cmd.Process.Signal(syscall.SIGTERM)
	timeout := time.NewTimer(u.unit.seconds("Service", "TimeoutStopSec", defaultTimeout))
	defer timeout.Stop()
	select {
	case <-p.exited:
	case <-timeout.C:
		p.cmd.Process.Kill()
		<-p.exited
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.service == p {
		u.service, u.active = nil, "inactive"
	}
}

func (s *supervisor) reload(name string) error {
	u, err := s.need(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	p := u.service
	s.mu.Unlock()
	if p == nil {
		return fmt.Errorf("%s is not active, cannot reload.", name)
	}
	cmd, err := s.command(u, "ExecReload")
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, "MAINPID="+strconv.Itoa(p.pid()))
	log, _, logged, err := s.journal.lines(u.name)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	err = s.spawn.start(cmd)
	log.Close()
	if err != nil {
		return err
	}
	err = cmd.Wait()
	<-logged
	if err != nil {
		return fmt.Errorf("Job for %s failed: reload: %v", name, err)
	}
	return nil
}

// notifySocket receives sd_notify(3) messages.
type notifySocket struct {
	path  string
	conn  *net.UnixConn
	ready chan struct{}
}

func newNotifySocket(path string) (*notifySocket, error) {
	os.Remove(path)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	n := &notifySocket{path: path, conn: conn, ready: make(chan struct{})}
	go func() {
		buf := make([]byte, 4096)
		for {
			k, err := conn.Read(buf)
			if err != nil {
				return
			}
			for line := range strings.Lines(string(buf[:k])) {
				if strings.TrimSpace(line) == "READY=1" {
					select {
					case <-n.ready: // a reload says it again
					default:
						close(n.ready)
					}
				}
			}
		}
	}()
	return n, nil
}

func (n *notifySocket) close() {
	n.conn.Close()
	os.Remove(n.path)
}
