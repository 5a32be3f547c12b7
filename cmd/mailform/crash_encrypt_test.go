package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCrashWhileEncrypting kills an apply that turns encryption on, at a sample of the
// steps that leave something different behind. The same command, run again, ends in the
// world of an uninterrupted run; the storage key that was there when it died is the one
// that is there in the end, and the mail store has its keyring.
func TestCrashWhileEncrypting(t *testing.T) {
	th := newTheater(t)
	const example = "../../examples/quickstart"
	config, err := specOf(example)
	if err != nil {
		t.Fatal(err)
	}
	apply := []string{"apply", "--auto-approve"}
	p, err := th.raise(&stage{act: "apply", example: "quickstart", spec: example, config: config, command: apply}, &turnstile{}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.must(apply...); err != nil {
		t.Fatal(err)
	}
	state, changed := filepath.Join(th.dir, "state-encrypt"), filepath.Join(th.dir, "changed-encrypt")
	if err := os.CopyFS(state, os.DirFS(filepath.Join(p.folder(), ".mailform"))); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(changed, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(changed, "encrypted.hcl"), []byte("server {\n  storage {\n    encrypt = true\n  }\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	applied, err := p.world.Snapshot(filepath.Join(th.dir, "snapshot-encrypt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { applied.Close() })

	s := &stage{act: "encrypt", example: "quickstart", spec: changed, config: config, from: applied, state: state, command: apply}
	start := time.Now()
	want, steps := th.encrypted(t, s)
	all := len(steps)
	var note string
	if !everything() {
		steps = oneOfEach(classes(steps))
		every := 12
		if os.Getenv(crashVariable) == "full" {
			every = 8
		}
		var taken []string
		for i := 0; i < len(steps); i += every {
			taken = append(taken, steps[i])
		}
		note = fmt.Sprintf(" - ONLY EVERY %dth OF %d WAS TRIED; %s=everything tries all", every, len(steps), crashVariable)
		steps = taken
	}
	var mu sync.Mutex
	good, kept := 0, 0
	parallel(steps, func(step string) {
		had, err := th.killedEncrypting(s, step, want)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Errorf("killed at %q: %v", step, err)
			return
		}
		good++
		if had {
			kept++
		}
	})
	if kept == 0 || kept == good {
		t.Errorf("at %d of %d deaths there was a storage key: the test shows less than it says", kept, good)
	}
	t.Logf("crash points: %d; %d/%d end in the world of an uninterrupted run, %d of them with the storage key that was there (%s)%s",
		all, good, len(steps), kept, time.Since(start).Round(time.Second), note)
}

// encrypted runs the stage's command to its end, and returns the world and the steps.
func (th *theater) encrypted(t *testing.T, s *stage) (want, steps []string) {
	t.Helper()
	p, err := th.raise(s, &turnstile{}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if key, _, err := p.storageKey(); err != nil || key != "" {
		t.Fatalf("there is a storage key before: %v", err)
	}
	if err := p.must(s.command...); err != nil {
		t.Fatal(err)
	}
	if steps, err = p.steps(); err != nil {
		t.Fatal(err)
	}
	if want, err = p.world.Describe(); err != nil {
		t.Fatal(err)
	}
	if key, ring, err := p.storageKey(); err != nil || key == "" || !ring {
		t.Fatalf("an uninterrupted run leaves no storage key, or no keyring (%t): %v", ring, err)
	}
	return want, steps
}

// killedEncrypting kills the command at a step and runs it again. It says whether there
// was a storage key when it died.
func (th *theater) killedEncrypting(s *stage, step string, want []string) (had bool, err error) {
	const tries = 4
	for range tries {
		p, err := th.raise(s, &turnstile{}, false)
		if err != nil {
			return false, err
		}
		defer p.close()
		died, first, err := p.dieAt(step)
		if err != nil {
			return false, err
		}
		if !died {
			continue // chance has left the step out
		}
		before, _, err := p.storageKey()
		if err != nil {
			return false, err
		}
		if err := p.must(s.command...); err != nil {
			return false, fmt.Errorf("run again: %w\nIt was killed after:\n%s", err, first.end())
		}
		after, ring, err := p.storageKey()
		switch {
		case err != nil:
			return false, err
		case after == "" || !ring:
			return false, fmt.Errorf("in the end there is no storage key, or no keyring (%t)", ring)
		case before != "" && before != after:
			return false, fmt.Errorf("the storage key is another one than when it died")
		}
		got, err := p.world.Describe()
		if err != nil {
			return false, err
		}
		if d := difference(got, want); d != "" {
			return false, fmt.Errorf("the world is another one:\n%s", d)
		}
		return before != "", p.must("plan", "--detailed-exitcode")
	}
	return false, fmt.Errorf("%d runs did not come by", tries)
}

// storageKey is the one on the play's host, "" without one; ring says whether its mail
// store has a keyring.
func (p *play) storageKey() (key string, ring bool, err error) {
	var keys []string
	err = filepath.WalkDir(filepath.Join(p.dir, "world"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what goes while one looks
		}
		switch {
		case strings.HasSuffix(path, "/store/root.key"):
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			keys = append(keys, string(text))
		case strings.HasSuffix(path, "/store/keyring"):
			ring = true
		}
		return nil
	})
	slices.Sort(keys)
	if keys = slices.Compact(keys); len(keys) > 1 {
		return "", ring, fmt.Errorf("%d storage keys", len(keys))
	}
	return strings.Join(keys, ""), ring, err
}
