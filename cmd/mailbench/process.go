package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// peer is a mail system that runs.
type peer struct {
	name    string
	version string
	smtp    string // host:port, without TLS
	imaps   string // host:port
	id      *identity
	masters []*exec.Cmd
	started time.Duration // what it took until its ports answered

	maildirs    string                               // where it keeps mail, if in maildirs: one folder for each account
	restart     func(between func() error) error     // ends the servers, and starts them again; nil: that is not measured
	fill        func(account, maildir string) error  // imports a Maildir; nil when it keeps mail as one
	importer    func(account, from string) *exec.Cmd // ours
	search      string                               // ours: the directory of its index
	pop3s       string                               // host:port; "" when it is not measured
	messages    int                                  // that it takes from one client in a minute; 0 is enough
	connections int                                  // that it takes from one client; 0 is enough
}

// tick is the unit of /proc/PID/stat on Linux, USER_HZ.
const tick = 10 * time.Millisecond

// stat is what is read of /proc/PID/stat.
type stat struct {
	parent int
	cpu    time.Duration // of the process and of its children that have ended
}

func parseStat(text string) (stat, error) {
	end := strings.LastIndexByte(text, ')') // the name may hold anything
	if end < 0 {
		return stat{}, errors.New("no name in /proc/PID/stat")
	}
	f := strings.Fields(text[end+1:])
	if len(f) < 15 {
		return stat{}, errors.New("/proc/PID/stat is short")
	}
	var s stat
	var err error
	if s.parent, err = strconv.Atoi(f[1]); err != nil {
		return stat{}, err
	}
	for _, v := range f[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return stat{}, err
		}
		s.cpu += time.Duration(n) * tick
	}
	return s, nil
}

// tree is all processes that p has started, and theirs.
func (p *peer) tree() (map[int]stat, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	all := map[int]stat{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		s, err := parseStat(string(text))
		if err != nil {
			return nil, err
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		all[pid] = s
	}
	ours := map[int]stat{}
	for pid, s := range all {
		for at := pid; at > 1; at = all[at].parent {
			if p.master(at) {
				ours[pid] = s
				break
			}
		}
	}
	return ours, nil
}

func (p *peer) master(pid int) bool {
	for _, m := range p.masters {
		if m.Process.Pid == pid {
			return true
		}
	}
	return false
}

// cpu is what all processes of the peer have used so far.
func (p *peer) cpu() (time.Duration, error) {
	tree, err := p.tree()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, s := range tree {
		sum += s.cpu
	}
	return sum, nil
}

// settle waits until the peer has done what it still does behind its answers, as
// indexing, and nothing for some ticks.
func (p *peer) settle() error {
	const still, most = 150 * time.Millisecond, 10 * time.Minute
	for begun := time.Now(); time.Since(begun) < most; {
		before, err := p.cpu()
		if err != nil {
			return err
		}
		time.Sleep(still)
		after, err := p.cpu()
		if err != nil {
			return err
		}
		if after-before <= tick {
			return nil
		}
	}
	return fmt.Errorf("%s does not come to rest", p.name)
}

// memory is the most of it that a process of the peer has had, in bytes, summed up.
func (p *peer) memory() (int64, error) {
	tree, err := p.tree()
	if err != nil {
		return 0, err
	}
	var sum int64
	for pid := range tree {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it has ended meanwhile
		}
		n, err := status(string(text), "VmHWM:")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// status reads one of the lines of /proc/PID/status, and of smaps_rollup, that
// are of memory; in bytes.
func status(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == name {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no %s", name)
}

// private is the memory of all processes of the peer that nobody shares, in bytes.
func (p *peer) private() (int64, error) {
	tree, err := p.tree()
	if err != nil {
		return 0, err
	}
	var sum int64
	for pid := range tree {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for _, name := range []string{"Private_Clean:", "Private_Dirty:"} {
			n, err := status(string(text), name)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// start runs a server in the foreground; its output goes to a file in dir.
func (p *peer) start(dir string, env []string, argv ...string) error {
	log, err := os.Create(filepath.Join(dir, filepath.Base(argv[0])+".out"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = append(os.Environ(), env...), log, log, dir
	if err := cmd.Start(); err != nil {
		return err
	}
	p.masters = append(p.masters, cmd)
	return nil
}

// stop ends the peer's servers and waits for them.
func (p *peer) stop() {
	for _, m := range p.masters {
		_ = m.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { _ = m.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = m.Process.Kill()
			<-done
		}
	}
}

// answers waits until the peer's ports do.
func (p *peer) answers(dir string) error {
	deadline := time.Now().Add(30 * time.Second)
	for _, addr := range []string{p.smtp, p.imaps, p.pop3s} {
		if addr == "" {
			continue
		}
		for {
			c, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				c.Close()
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s does not answer: %w\n%s", p.name, err, outputs(dir))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}

func outputs(dir string) string {
	var b bytes.Buffer
	paths, _ := filepath.Glob(filepath.Join(dir, "*.out"))
	for _, path := range paths {
		if f, err := os.Open(path); err == nil {
			_, _ = io.Copy(&b, io.LimitReader(f, 4<<10))
			f.Close()
		}
	}
	return b.String()
}

// freePorts are ports of loopback that nobody listens on now.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func output(argv ...string) (string, error) { return outputOf("", argv...) }

func outputOf(input string, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%v: %w: %s", argv, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
