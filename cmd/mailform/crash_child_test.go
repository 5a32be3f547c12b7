package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"mailform/apply"
	"mailform/providers/host/agentbin"
	"mailform/providers/world"
)

// The crash and fault enumerations run the real program in processes of its own:
// this test binary, started again with childVariable set. It differs from the
// released program in four things that stand outside of it: its disk can die with
// it at any step, its waits are short, "the CA" is found on the world's listener,
// and the mailformd for hosts comes from a file that was hashed before.
const childVariable = "MAILFORM_TEST_CHILD"

// child is what a process is told by the one that starts it.
type child struct {
	API    string // where the vendors listen
	Agent  agentFile
	Points string // file that the steps of the disk are written to; "" for none
	KillAt string // the step at which the process kills itself; "" for none
}

// agentFile is a mailformd, compressed.
type agentFile struct {
	Path, Arch, SHA256 string
	Size               int64
}

func (a agentFile) Agent(arch string) (agentbin.Binary, error) {
	zipped := func() ([]byte, error) { return os.ReadFile(a.Path) }
	return agentbin.Binary{Arch: arch, SHA256: a.SHA256, Size: a.Size, Gzip: zipped}, nil
}

// childMain is the program's main in such a process.
func childMain(config string) int {
	var c child
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	a, err := newApp()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	clock := &quickClock{}
	a.env.Now, a.env.Sleep = clock.now, clock.sleep
	a.env.Agents = c.Agent
	a.env.Transport = impatient{&http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if host, _, err := net.SplitHostPort(addr); err == nil && strings.HasPrefix(world.CADirectory, "http://"+host+"/") {
			addr = c.API
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}}
	d := &doomed{FS: apply.OS{}, killAt: c.KillAt, seen: map[string]int{}}
	if c.Points != "" {
		if d.points, err = os.OpenFile(c.Points, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 99
		}
	}
	a.env.Files = d
	return a.run(os.Args[1:])
}

// quickClock runs as usual, but what is slept takes a hundredth of the time.
type quickClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

const haste = 100

func (c *quickClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *quickClock) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d / haste)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		c.mu.Lock()
		c.ahead += d - d/haste
		c.mu.Unlock()
		return nil
	}
}

// impatient is a transport whose time limit is over when the server says so, with
// an interim answer of status 103 (RFC 8297).
type impatient struct{ base http.RoundTripper }

// tooLate is the error of http.Transport.ResponseHeaderTimeout.
type tooLate struct{}

func (tooLate) Error() string   { return "net/http: timeout awaiting response headers" }
func (tooLate) Timeout() bool   { return true }
func (tooLate) Temporary() bool { return true }

func (t impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints {
				cancel(tooLate{})
			}
			return nil
		},
	})
	res, err := t.base.RoundTrip(r.WithContext(ctx))
	if late, ok := context.Cause(ctx).(tooLate); ok {
		if err == nil {
			res.Body.Close()
		}
		return nil, late
	}
	return res, err
}

// doomed is the operating system's file system, and kills the process, and with it
// everything, before or after one of its steps.
type doomed struct {
	apply.FS
	killAt string
	points *os.File

	mu   sync.Mutex
	seen map[string]int
}

// step is a point at which the process may die.
func (d *doomed) step(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := "disk: " + fmt.Sprintf(format, args...)
	d.seen[name]++
	name = fmt.Sprintf("%s #%d", name, d.seen[name])
	if d.points != nil {
		fmt.Fprintln(d.points, name)
	}
	if name == d.killAt {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nobody comes this far
	}
}

func (d *doomed) Mkdir(name string, perm fs.FileMode) error {
	d.step("make %s", filepath.Base(name))
	return d.FS.Mkdir(name, perm)
}

func (d *doomed) OpenFile(name string, flag int, perm fs.FileMode) (apply.File, error) {
	base := filepath.Base(name)
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		d.step("open %s", base)
	}
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &doomedFile{File: f, d: d, name: base}, nil
}

func (d *doomed) Rename(oldname, newname string) error {
	d.step("rename %s to %s", filepath.Base(oldname), filepath.Base(newname))
	err := d.FS.Rename(oldname, newname)
	d.step("renamed %s to %s", filepath.Base(oldname), filepath.Base(newname))
	return err
}

func (d *doomed) Remove(name string) error {
	d.step("remove %s", filepath.Base(name))
	return d.FS.Remove(name)
}

func (d *doomed) SyncDir(name string) error {
	err := d.FS.SyncDir(name)
	d.step("synced the folder")
	return err
}

func (d *doomed) TryLock(f apply.File) (bool, error) {
	ok, err := d.FS.TryLock(f.(*doomedFile).File)
	d.step("locked")
	return ok, err
}

func (d *doomed) Unlock(f apply.File) error {
	d.step("unlock")
	return d.FS.Unlock(f.(*doomedFile).File)
}

type doomedFile struct {
	apply.File
	d    *doomed
	name string
	last string // what was written last
}

func (f *doomedFile) Write(b []byte) (int, error) {
	f.last = f.name
	// A line of the journal is named for its record: "begin alicloud.CreateVpc host/mx1/network".
	if _, payload, ok := strings.Cut(string(b), " "); ok && strings.HasPrefix(f.name, "journal") {
		var r struct{ Kind, ID string }
		if json.NewDecoder(strings.NewReader(payload)).Decode(&r) == nil && r.ID != "" {
			f.last = fmt.Sprintf("%s %s %s", f.name, r.Kind, r.ID)
		}
	}
	f.d.step("write %s", f.last)
	return f.File.Write(b)
}

func (f *doomedFile) Sync() error {
	f.d.step("sync %s", f.last)
	err := f.File.Sync()
	f.d.step("synced %s", f.last)
	return err
}

func (f *doomedFile) Truncate(size int64) error {
	f.d.step("truncate %s", f.name)
	return f.File.Truncate(size)
}

func (f *doomedFile) Close() error {
	err := f.File.Close()
	f.d.step("closed %s", f.name)
	return err
}
