package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestExamples rehearses every example with the real program, at the same time.
func TestExamples(t *testing.T) {
	t.Parallel()
	for name, dir := range exampleFolders(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tmp := t.TempDir()
			s := shell{dir: dir, env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + tmp, "TMPDIR=" + tmp}}
			stdout, stderr := s.must(t, 0, "rehearse", "--json")
			result := rehearsed(t, stdout)
			if !result.OK || len(result.Steps) < 14 || stderr != "" {
				t.Errorf("%s%s", stdout, stderr)
			}
			for _, step := range result.Steps {
				if !step.OK {
					t.Errorf("%s: %s", step.Name, step.Error)
				}
			}
			nothingLeft(t, tmp)
		})
	}
}

func rehearsed(t *testing.T, stdout string) rehearsalResult {
	t.Helper()
	var r rehearsalResult
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || d.More() {
		t.Fatalf("not one JSON document (%v): %s", err, stdout)
	}
	return r
}

// nothingLeft looks that a folder for temporary files is empty.
func nothingLeft(t *testing.T, tmp string) {
	t.Helper()
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("left behind: %s", e.Name())
	}
}

// TestRehearsalOfABrokenSpec: the findings are said, the JSON is whole, nothing stays.
func TestRehearsalOfABrokenSpec(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mail.hcl"), []byte(`stack "x" {`), 0o644); err != nil {
		t.Fatal(err)
	}
	s := shell{dir: dir, env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + tmp, "TMPDIR=" + tmp}}
	stdout, stderr := s.must(t, 4, "rehearse", "--json")
	if r := rehearsed(t, stdout); r.OK || len(r.Steps) != 1 {
		t.Errorf("%s", stdout)
	}
	if !strings.Contains(stderr, "mail.hcl:1,11") {
		t.Errorf("the finding is not shown: %s", stderr)
	}
	nothingLeft(t, tmp)
}

// TestSimulate: its env file means that the world is there, and a terminated
// world leaves no process and no folder of a host.
func TestSimulate(t *testing.T) {
	t.Parallel()
	tmp, dir := t.TempDir(), filepath.Join(t.TempDir(), "world")
	// The home keeps the caches of who works there.
	s := shell{dir: t.TempDir(), env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + tmp}}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "env")
	if err := os.WriteFile(stale, []byte("export OLD=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := s.command("simulate", "--dir", dir)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, out, "is ready")
	env, err := os.ReadFile(stale)
	if err != nil || strings.Contains(string(env), "OLD") {
		t.Errorf("env: %s, %v", env, err)
	}
	inside := exec.Command("sh", "-c", `. "$0" && mailform init example.com && mailform apply --auto-approve && mailform plan --detailed-exitcode`, stale)
	inside.Dir, inside.Env = s.dir, append(s.env, "PATH="+binaries+":"+os.Getenv("PATH"))
	if said, err := inside.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	c.Process.Signal(syscall.SIGTERM)
	until(t, out, "is gone")
	if code := finished(t, c.Wait(), c); code != 0 {
		t.Errorf("exit code %d", code)
	}
	nothingLeft(t, tmp)
	if _, err := os.Stat(stale); err == nil {
		t.Error("env is still there although its world is gone")
	}
}

// TestInterruptedReading: ^C ends what only reads, at once and saying so.
func TestInterruptedReading(t *testing.T) {
	t.Parallel()
	g := &barrier{}
	_, s := newShell(t, g)
	g.close("DescribeInstances", false)
	defer close(g.pass)
	c := s.command("plan")
	var stderr strings.Builder
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	g.wait(t)
	c.Process.Signal(os.Interrupt)
	if code := finished(t, c.Wait(), c); code != 130 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(stderr.String(), "interrupted; nothing was changed") {
		t.Errorf("said: %s", &stderr)
	}
}
