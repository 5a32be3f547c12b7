package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailform/cmd/mailform/internal/session"
	"mailform/providers/world"
)

// stage is a situation in which a command is run: a spec, and the world and the
// state directory as an earlier command has left them.
type stage struct {
	act     string
	example string          // its name
	spec    string          // folder
	config  world.Config    // what the spec needs of a world
	from    *world.Snapshot // nil for an empty world
	state   string          // .mailform as it was; "" for none
	command []string
}

// theater is what all stages share.
type theater struct {
	dir      string
	self     string // this program
	agent    agentFile
	operator string // folder with the SSH key of the person who applies
}

func newTheater(t testing.TB) *theater {
	t.Helper()
	// What is compared is what survives a kill; that syncs reach a disk that
	// survives a power cut is not looked at here, so memory will do.
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "mailform-crash-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	th := &theater{dir: dir, self: self}
	if th.agent, err = quickAgent(); err != nil {
		t.Fatal(err)
	}
	// Which nonces Pebble refuses is up to chance, and would be steps of their own.
	// It reads this when a world starts; nothing else in this process minds.
	if err := os.Setenv("PEBBLE_WFE_NONCEREJECT", "0"); err != nil {
		t.Fatal(err)
	}
	// Any world makes the operator's key; all others take it over.
	th.operator = filepath.Join(dir, "operator")
	w, err := world.Start(context.Background(), world.Config{Dir: th.operator, Shim: hostshim()})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	return th
}

// play is one stage with its world, for as long as it is needed.
type play struct {
	*stage
	th    *theater
	dir   string
	world *world.World
	gate  *turnstile
	env   []string
	notes *os.File
}

// raise makes a stage's world and writes its spec.
func (th *theater) raise(s *stage, g *turnstile, record bool) (*play, error) {
	dir, err := os.MkdirTemp(th.dir, "play-")
	if err != nil {
		return nil, err
	}
	p := &play{stage: s, th: th, dir: dir, gate: g}
	c := s.config
	c.Dir, c.From, c.Record = filepath.Join(dir, "world"), s.from, record
	c.Front, c.Watch, c.Shim = g.front, g.watch(), hostshim()
	g.mu.Lock()
	g.off = true // until the stage is set
	g.mu.Unlock()
	if err := os.CopyFS(c.Dir, os.DirFS(th.operator)); err != nil {
		return nil, err
	}
	if p.world, err = world.Start(context.Background(), c); err != nil {
		return nil, err
	}
	if err := os.CopyFS(p.folder(), os.DirFS(s.spec)); err != nil {
		return nil, err
	}
	if s.state != "" {
		if err := os.CopyFS(filepath.Join(p.folder(), ".mailform"), os.DirFS(s.state)); err != nil {
			return nil, err
		}
	}
	// The program notes its steps there, too: that gives their order.
	points, err := os.OpenFile(p.points(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	p.notes = points
	g.mu.Lock()
	g.notes, g.off = points, false
	g.mu.Unlock()
	// The program lives for a moment: it need not collect garbage, and no certificate is
	// checked against this machine's authorities.
	p.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "USER=tester", "GOGC=off", "GOMEMLIMIT=256MiB", "SSL_CERT_FILE=/dev/null", "SSL_CERT_DIR=/dev/null"}
	vars := p.world.Environment()
	vars["MAILFORM_ACME_DIRECTORY"] = world.CADirectory
	for name, value := range vars {
		p.env = append(p.env, name+"="+value)
	}
	return p, nil
}

func (p *play) folder() string { return filepath.Join(p.dir, "stack") }

// points is the file that all steps are written to.
func (p *play) points() string { return filepath.Join(p.dir, "points") }

func (p *play) close() {
	p.world.Close()
	p.notes.Close()
	os.RemoveAll(p.dir)
}

// process is a run of the program.
type process struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	gone   chan struct{} // closed when it has ended
}

// start starts the program. killAt is the step of the disk to die at.
func (p *play) start(killAt string, args ...string) (*process, error) {
	api := strings.TrimPrefix(p.world.Environment()["ALIBABA_CLOUD_ECS_ENDPOINT"], "http://")
	config, err := json.Marshal(child{API: api, Agent: p.th.agent, Points: p.points(), KillAt: killAt})
	if err != nil {
		return nil, err
	}
	c := &process{cmd: exec.Command(p.th.self, args...), gone: make(chan struct{})}
	c.cmd.Dir, c.cmd.Env = p.folder(), append([]string{childVariable + "=" + string(config)}, p.env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(tooLong, func() {
		fmt.Fprintf(os.Stderr, "mailform %s is still running after %s and is killed\n", strings.Join(args, " "), tooLong)
		c.cmd.Process.Kill()
	})
	go func() {
		c.cmd.Wait()
		late.Stop()
		close(c.gone)
	}()
	return c, nil
}

// tooLong is the safety net of a program that never ends.
const tooLong = 5 * time.Minute

// kill kills the process and returns when it is gone.
func (c *process) kill() {
	c.cmd.Process.Kill()
	<-c.gone
}

// killed reports whether the process died of SIGKILL.
func (c *process) killed() bool {
	<-c.gone
	status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// end is the end of what the process has said: plans are long.
func (c *process) end() string {
	const much = 3000
	text := c.output.String()
	return text[max(0, len(text)-much):]
}

func (c *process) code() int {
	<-c.gone
	return c.cmd.ProcessState.ExitCode()
}

// run runs the program to its end.
func (p *play) run(args ...string) (*process, error) {
	c, err := p.start("", args...)
	if err != nil {
		return nil, err
	}
	<-c.gone
	return c, nil
}

// must runs the program, which has to end with 0.
func (p *play) must(args ...string) error {
	c, err := p.run(args...)
	if err == nil && c.code() != 0 {
		err = fmt.Errorf("mailform %s ended with %d:\n%s", strings.Join(args, " "), c.code(), &c.output)
	}
	return err
}

// steps are all steps of the runs so far, in their order.
func (p *play) steps() ([]string, error) {
	text, err := os.ReadFile(p.points())
	if err != nil {
		return nil, err
	}
	var steps []string
	seen := map[string]bool{}
	for step := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		if !seen[step] {
			steps = append(steps, step)
		}
		seen[step] = true
	}
	return steps, nil
}

// dieAt runs the stage's command until it is killed at a step. It reports false
// when the command came to its end without that step.
func (p *play) dieAt(step string) (bool, *process, error) {
	disk := ""
	if strings.HasPrefix(step, "disk: ") {
		disk = step
	}
	ready := make(chan *process, 1)
	p.gate.mu.Lock()
	p.gate.target, p.gate.hit = step, false
	p.gate.kill = func() {
		c := <-ready
		ready <- c
		c.kill()
	}
	p.gate.mu.Unlock()
	c, err := p.start(disk, p.command...)
	if err != nil {
		return false, nil, err
	}
	ready <- c
	died := c.killed()
	p.gate.mu.Lock()
	p.gate.target = ""
	p.gate.mu.Unlock()
	return died, c, nil
}

// specOf reads a spec as the program would.
func specOf(dir string) (world.Config, error) {
	env := session.Env{Getenv: func(string) string { return "" }}
	spec, _, diags := session.Load(env, session.Options{Dir: dir})
	if diags.HasErrors() {
		return world.Config{}, fmt.Errorf("%s: %v", dir, diags)
	}
	return world.ForSpec(spec, world.Config{NoBackups: true}), nil
}

// difference shows how two descriptions differ.
func difference(got, want []string) string {
	var out []string
	for _, l := range got {
		if !slices.Contains(want, l) {
			out = append(out, "  + "+l)
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			out = append(out, "  - "+l)
		}
	}
	if len(out) == 0 && !slices.Equal(got, want) {
		out = append(out, fmt.Sprintf("  %d lines instead of %d: something is there twice", len(got), len(want)))
	}
	return strings.Join(out, "\n")
}
