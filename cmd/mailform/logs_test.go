package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailform/plan/style"
	"mailform/providers/world"
	"mailform/server/manifest"
)

// TestFollowLogs: what a server logs is shown as it comes, and ^C is a good end.
func TestFollowLogs(t *testing.T) {
	dir := t.TempDir()
	w, err := world.Start(t.Context(), world.Config{Shim: hostshim(), Dir: filepath.Join(dir, "world"), Zones: []string{"example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	command := func(args ...string) *exec.Cmd {
		c := exec.CommandContext(t.Context(), filepath.Join(binaries, "mailform"), args...)
		c.Dir, c.Env = dir, append(os.Environ(), "HOME="+dir)
		for name, value := range w.Environment() {
			c.Env = append(c.Env, name+"="+value)
		}
		return c
	}
	for _, args := range [][]string{{"init", "example.com"}, {"apply", "--auto-approve"}} {
		if out, err := command(args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	follow := command("logs", "--follow", "--lines", "1", "--grep", "serving|reloaded")
	follow.Cancel = func() error { return follow.Process.Signal(os.Interrupt) }
	follow.WaitDelay = 30 * time.Second
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	follow.Stderr = os.Stderr
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("nothing of the past: %v", lines.Err())
	}
	if out, err := command("password", "alice@example.com").CombinedOutput(); err != nil {
		t.Fatalf("password: %v\n%s", err, out)
	}
	if !lines.Scan() || !strings.Contains(lines.Text(), "reloaded") {
		t.Errorf("what came was not shown: %q, %v", lines.Text(), lines.Err())
	}
	if err := follow.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := follow.Wait(); err != nil {
		t.Errorf("after ^C: %v", err)
	}
}

func TestLogLine(t *testing.T) {
	e := manifest.LogEntry{
		Time: time.Date(2026, 11, 22, 10, 0, 1, 5e6, time.UTC), Level: "warn", Message: "no\x1b[31m luck\nhere",
		Fields: map[string]string{"part": "queue", "queue_id": "3f", "err": "450 4.2.0 \x07later"},
	}
	plain := logLine(style.New(false), "", e)
	if strings.ContainsAny(plain, "\x1b\x07") || strings.Count(plain, "\n") != 1 {
		t.Errorf("a terminal would act on %q", plain)
	}
	if !strings.HasPrefix(plain, "2026-11-22 10:00:01  WARN   queue     no") || !strings.Contains(plain, "queue_id=3f") || strings.Contains(plain, "part=") {
		t.Errorf("got %q", plain)
	}
	if coloured := logLine(style.New(true), "mx1  ", e); !strings.Contains(coloured, "mx1  \x1b[33mWARN") {
		t.Errorf("got %q", coloured)
	}
}

func TestReadSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]manifest.LogQuery{
		"": {}, "90m": {AgoSeconds: 5400}, "3d": {AgoSeconds: 3 * 86400}, "1ms": {AgoSeconds: 1},
		"2026-11-21":                {Since: now.Add(-34 * time.Hour)},
		"2026-11-22 09:30":          {Since: now.Add(-30 * time.Minute)},
		"2026-11-22T17:00:00+08:00": {Since: now.Add(-time.Hour)},
	} {
		var q manifest.LogQuery
		if err := readSince(text, &q, now); err != nil || q.AgoSeconds != want.AgoSeconds || !q.Since.Equal(want.Since) {
			t.Errorf("--since %q is %+v, %v", text, q, err)
		}
	}
	for _, text := range []string{"yesterday", "-2h", "2026-11-23", "99999999d"} {
		var q manifest.LogQuery
		if err := readSince(text, &q, now); err == nil {
			t.Errorf("--since %q is %+v", text, q)
		}
	}
}
