package hostsim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// supervisor stands in for systemd: it reads unit files, holds the sockets and
// runs the services, as far as mailformd's own units need.
type supervisor struct {
	host    *Host
	spawn   *spawner
	control net.Listener // for the shims
	journal *journal

	gone chan struct{} // closed when the power is gone

	jobs sync.Mutex // one change at a time

	mu     sync.Mutex
	off    bool
	loaded map[string]*loadedUnit
	wg     sync.WaitGroup
}

// loadedUnit is a unit as it was last read, and its state.
type loadedUnit struct {
	name    string
	text    string
	unit    unit
	active  string // systemd's ActiveState
	socket  net.Listener
	service *process
	timer   func() bool // stops a timer that runs
}

func newSupervisor(h *Host) (*supervisor, error) {
	path := filepath.Join(h.short, "s")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	j, err := newJournal(h)
	if err != nil {
		l.Close()
		return nil, err
	}
	s := &supervisor{host: h, spawn: newSpawner(), control: l, journal: j, gone: make(chan struct{}), loaded: map[string]*loadedUnit{}}
	s.wg.Add(1)
	go s.serve()
	return s, nil
}

// boot reads all units and starts the enabled ones.
func (s *supervisor) boot() {
	s.jobs.Lock()
	defer s.jobs.Unlock()
	s.reread()
	names := s.names()
	rank := func(n string) int { // what comes before others is first, then sockets
		u, err := s.need(n)
		switch {
		case err != nil || len(u.unit.list("Unit", "Before")) == 0:
			return 2
		case slices.ContainsFunc(u.unit.list("Unit", "After"), func(other string) bool { return slices.Contains(names, other) }):
			return 1
		}
		return 0
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(rank(a)-rank(b), strings.Compare(filepath.Ext(b)+a, filepath.Ext(a)+b))
	})
	for _, n := range names {
		if s.enabled(n) {
			if err := s.start(n); err != nil {
				s.logf(n, "%v", err)
			}
		}
	}
}

// close takes the power away.
func (s *supervisor) close() {
	s.control.Close()
	s.mu.Lock()
	s.off = true
	for _, u := range s.loaded {
		if u.socket != nil {
			u.socket.Close()
		}
		if u.timer != nil {
			u.timer()
		}
		if u.service != nil {
			u.service.kill()
		}
	}
	s.mu.Unlock()
	close(s.gone)
	s.wg.Wait()
	s.spawn.close()
}

// serve answers the shims.
func (s *supervisor) serve() {
	defer s.wg.Done()
	for {
		c, err := s.control.Accept()
		if err != nil {
			return
		}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			defer c.Close()
			var q call
			if json.NewDecoder(io.LimitReader(c, 1<<20)).Decode(&q) != nil {
				return
			}
			enc := json.NewEncoder(c)
			var r reply
			switch q.Program {
			case "systemctl":
				r = s.systemctl(q.Args)
			case "systemd-sysusers":
				r = s.sysusers(q.Args)
			case "userdel":
				r = s.userdel(q.Args)
			case "journalctl":
				gone := make(chan struct{})
				go func() {
					io.Copy(io.Discard, c) // ends with the shim
					close(gone)
				}()
				go func() {
					select {
					case <-gone:
					case <-s.gone:
						c.Close()
					}
				}()
				if err := s.journalctl(q.Args, gone, func(text string) error { return enc.Encode(reply{Stdout: text, More: true}) }); err != nil {
					r = failed("journalctl: %v", err)
				}
			case "sshd":
				r = s.sshd(q.Args)
			case "nft":
				r = s.nft(q.Args)
			case "mkfs.ext4", "resize2fs", "mount", "umount":
				r = s.diskTool(q.Program, q.Args)
			}
			enc.Encode(r)
		}()
	}
}

func failed(format string, args ...any) reply {
	return reply{Status: 1, Stderr: fmt.Sprintf(format, args...) + "\n"}
}

// systemctl carries out one command line of systemctl(1).
func (s *supervisor) systemctl(args []string) reply {
	var verb, property string
	var units []string
	for _, a := range args {
		switch {
		case strings.HasPrefix(a, "--property="):
			property = strings.TrimPrefix(a, "--property=")
		case a == "--quiet", a == "--no-pager", a == "--no-ask-password":
		case strings.HasPrefix(a, "-"):
			return failed("systemctl: option %s is not simulated", a)
		case verb == "":
			verb = a
		default:
			units = append(units, a)
		}
	}
	if verb == "show" { // does not wait for a job that is under way
		return s.show(units, strings.Split(property, ","))
	}
	s.jobs.Lock()
	defer s.jobs.Unlock()
	each := func(do func(string) error) reply {
		for _, u := range units {
			if err := do(u); err != nil {
				return failed("%v", err)
			}
		}
		return reply{}
	}
	switch verb {
	case "daemon-reload":
		s.reread()
		return reply{}
	case "reset-failed":
		return reply{}
	case "start":
		return each(s.start)
	case "stop":
		return each(s.stop)
	case "restart":
		return each(func(u string) error { return errors.Join(s.stop(u), s.start(u)) })
	case "reload":
		return each(func(u string) error {
			if u == sshdUnit {
				return s.reloadSSH()
			}
			return s.reload(u)
		})
	case "enable":
		return each(func(u string) error { return s.setEnabled(u, true) })
	case "disable":
		return each(func(u string) error { return s.setEnabled(u, false) })
	case "is-active":
		r := reply{}
		for _, n := range units {
			state := s.state(n)
			r.Stdout += state + "\n"
			if state != "active" {
				r.Status = 3
			}
		}
		return r
	}
	return failed("systemctl: %q is not simulated", verb)
}

func (s *supervisor) reloadSSH() error {
	s.host.mu.Lock()
	sshd := s.host.sshd
	s.host.mu.Unlock()
	if sshd == nil {
		return errors.New("the machine is going down")
	}
	return sshd.reload()
}

// reread is daemon-reload: unit files are read again, states stay.
func (s *supervisor) reread() {
	files, _ := filepath.Glob(s.host.path("/etc/systemd/system/*"))
	found := map[string]bool{}
	for _, f := range files {
		name := filepath.Base(f)
		if ext := filepath.Ext(name); ext == ".service" || ext == ".socket" || ext == ".mount" || ext == ".timer" {
			found[name] = s.load(name) == nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, u := range s.loaded {
		if !found[name] && u.active != "active" {
			delete(s.loaded, name)
		}
	}
}

func (s *supervisor) unitFile(name string) string {
	return s.host.path("/etc/systemd/system/" + name)
}

// load reads one unit file.
func (s *supervisor) load(name string) error {
	b, err := os.ReadFile(s.unitFile(name))
	if err != nil {
		return fmt.Errorf("Unit %s not found.", name)
	}
	parsed, err := parseUnit(string(b))
	if err != nil {
		return fmt.Errorf("Unit %s has a bad unit file setting: %v", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.loaded[name]
	if u == nil {
		u = &loadedUnit{name: name, active: "inactive"}
		s.loaded[name] = u
	}
	u.text, u.unit = string(b), parsed
	return nil
}

// need returns a unit, reading its file when it is not known yet.
func (s *supervisor) need(name string) (*loadedUnit, error) {
	s.mu.Lock()
	u := s.loaded[name]
	s.mu.Unlock()
	if u != nil {
		return u, nil
	}
	if name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("Invalid unit name %q.", name)
	}
	if err := s.load(name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded[name], nil
}

func (s *supervisor) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for n := range s.loaded {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (s *supervisor) state(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.loaded[name]; u != nil {
		return u.active
	}
	return "inactive"
}

// wants is the link that enables a unit for a target.
func (s *supervisor) wants(u *loadedUnit) []string {
	var links []string
	for _, target := range u.unit.list("Install", "WantedBy") {
		links = append(links, s.host.path("/etc/systemd/system/"+target+".wants/"+u.name))
	}
	return links
}

func (s *supervisor) enabled(name string) bool {
	u, err := s.need(name)
	if err != nil {
		return false
	}
	links := s.wants(u)
	for _, l := range links {
		if _, err := os.Lstat(l); err != nil {
			return false
		}
	}
	return len(links) > 0
}

func (s *supervisor) setEnabled(name string, on bool) error {
	u, err := s.need(name)
	if err != nil {
		return err
	}
	for _, link := range s.wants(u) {
		if !on {
			if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			os.Remove(filepath.Dir(link)) // fails while it holds others
			continue
		}
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("/etc/systemd/system/"+name, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// show prints the properties of units, or of the manager without any.
func (s *supervisor) show(units, properties []string) reply {
	if len(units) == 0 {
		return reply{Stdout: "Version=252 (hostsim)\n"}
	}
	var blocks []string
	for _, name := range units {
		values := map[string]string{"Id": name, "LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": "", "MainPID": "0", "NeedDaemonReload": "no"}
		if name == sshdUnit {
			values["LoadState"], values["ActiveState"], values["UnitFileState"] = "loaded", "active", "enabled"
		}
		if u, err := s.need(name); err == nil {
			onDisk, err := os.ReadFile(s.unitFile(name))
			s.mu.Lock()
			values["LoadState"], values["ActiveState"], values["UnitFileState"] = "loaded", u.active, "disabled"
			if err != nil || string(onDisk) != u.text {
				values["NeedDaemonReload"] = "yes"
			}
			if u.socket != nil {
				values["Listen"] = u.socket.Addr().String() + " (Stream)"
			}
			if u.service != nil {
				values["MainPID"] = strconv.Itoa(u.service.pid())
			}
			s.mu.Unlock()
			if s.enabled(name) {
				values["UnitFileState"] = "enabled"
			}
		}
		var b strings.Builder
		for _, p := range properties {
			if v, ok := values[p]; ok {
				fmt.Fprintf(&b, "%s=%s\n", p, v)
			}
		}
		blocks = append(blocks, b.String())
	}
	return reply{Stdout: strings.Join(blocks, "\n")}
}

// sysusers makes the users that sysusers.d files declare. A simulated user is
// the one who runs the simulation under another name.
func (s *supervisor) sysusers(args []string) reply {
	for _, file := range args {
		b, err := os.ReadFile(s.inRoot(file))
		if err != nil {
			return failed("Failed to open %s: %v", file, errors.Unwrap(err))
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != "u" {
				continue
			}
			name := f[1]
			uid, gid := os.Getuid(), os.Getgid()
			err := errors.Join(
				appendUser(s.host.path("/etc/passwd"), name, fmt.Sprintf("%s:x:%d:%d::/var/lib/%s:/usr/sbin/nologin\n", name, uid, gid, name)),
				appendUser(s.host.path("/etc/group"), name, fmt.Sprintf("%s:x:%d:\n", name, gid)))
			if err != nil {
				return failed("Failed to add %s: %v", name, err)
			}
		}
	}
	return reply{}
}

// userdel takes a user and its group away.
func (s *supervisor) userdel(args []string) reply {
	for _, file := range []string{"/etc/passwd", "/etc/group"} {
		path := s.host.path(file)
		b, err := os.ReadFile(path)
		if err != nil {
			return failed("cannot open %s", file)
		}
		var kept strings.Builder
		for line := range strings.Lines(string(b)) {
			if name, _, _ := strings.Cut(line, ":"); !slices.Contains(args, name) {
				kept.WriteString(line)
			}
		}
		if err := os.WriteFile(path, []byte(kept.String()), 0o644); err != nil {
			return failed("cannot rewrite %s", file)
		}
	}
	return reply{}
}

// inRoot accepts a path as the host sees it or as it really is.
func (s *supervisor) inRoot(p string) string {
	if rest, ok := strings.CutPrefix(p, filepath.Join(s.host.short, "r")+"/"); ok {
		p = rest
	}
	return s.host.path(p)
}

func appendUser(file, name, line string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for l := range strings.Lines(string(b)) {
		if strings.HasPrefix(l, name+":") {
			return nil
		}
	}
	return os.WriteFile(file, append(b, line...), 0o644)
}

// addr returns the listener behind a port.
func (s *supervisor) addr(port int) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		return "", false
	}
	for _, u := range s.loaded {
		if u.socket != nil && slices.Contains(u.unit.list("Socket", "ListenStream"), strconv.Itoa(port)) {
			return u.socket.Addr().String(), true
		}
	}
	return "", false
}

// defaultTimeout is systemd's DefaultTimeoutStartSec and DefaultTimeoutStopSec.
const defaultTimeout = 90 * time.Second
