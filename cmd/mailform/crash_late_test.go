package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLateEffects kills the program while a call that changes something is on its
// way to a vendor, and lets it arrive late: when the second run has looked at the
// world and begins to change it. What the second run does not know of must not be
// done twice. A third run may be needed: where the vendor refuses to do it again, and
// where only the next look finds what has come.
func TestLateEffects(t *testing.T) {
	th := newTheater(t)
	const example = "../../examples/quickstart"
	for _, s := range th.life(t, "quickstart", example) {
		t.Run(s.act, func(t *testing.T) {
			start := time.Now()
			want, calls := th.faultless(t, s)
			var writing []string
			for _, call := range calls {
				if changes(call) {
					writing = append(writing, call)
				}
			}
			var mu sync.Mutex
			good, thirds := 0, 0
			parallel(writing, func(call string) {
				third, err := th.late(s, call, want)
				mu.Lock()
				defer mu.Unlock()
				if third {
					thirds++
				}
				if err != nil {
					t.Errorf("%s: %v", call, err)
					return
				}
				good++
			})
			t.Logf("late effects: %d/%d end in the world of an uninterrupted run, %d of them after a third run (%s)",
				good, len(writing), thirds, time.Since(start).Round(time.Second))
		})
	}
}

// changes reports whether a call to the cloud or to DNS changes anything.
func changes(call string) bool {
	return strings.HasPrefix(call, "cloud ") && !strings.HasPrefix(call, "cloud Describe") && !strings.HasPrefix(call, "cloud oss GET") ||
		strings.HasPrefix(call, "dns ") && !strings.HasPrefix(call, "dns GET")
}

// onlyReads reports whether a call to a vendor leaves it as it was.
func onlyReads(call string) bool { return !strings.HasPrefix(call, "ca ") && !changes(call) }

// late lets one call of a stage's command arrive when its sender is long dead. It
// reports whether a third run was needed.
func (th *theater) late(s *stage, target string, want []string) (third bool, err error) {
	g := &turnstile{}
	p, err := th.raise(s, g, false)
	if err != nil {
		return false, err
	}
	defer p.close()
	ready, held := make(chan *process, 1), make(chan func(), 1)
	g.fault = func(call string, w http.ResponseWriter, r *http.Request, api http.Handler) bool {
		if call != target {
			return false
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		again := r.Clone(context.WithoutCancel(r.Context()))
		again.Body = io.NopCloser(bytes.NewReader(body))
		held <- func() { api.ServeHTTP(httptest.NewRecorder(), again) }
		(<-ready).kill()
		panic(http.ErrAbortHandler)
	}
	first, err := p.start("", s.command...)
	if err != nil {
		return false, err
	}
	ready <- first
	if !first.killed() {
		return false, fmt.Errorf("the call was not made; exit code %d:\n%s", first.code(), first.end())
	}
	arrive := <-held
	var once sync.Once
	g.mu.Lock()
	g.fault = func(call string, w http.ResponseWriter, r *http.Request, api http.Handler) bool {
		if changes(call) {
			once.Do(arrive)
		}
		return false
	}
	g.mu.Unlock()
	for run := 2; ; run++ {
		c, err := p.run(s.command...)
		if err != nil {
			return third, err
		}
		once.Do(arrive)
		got, err := p.world.Describe()
		if err != nil {
			return third, err
		}
		d := difference(got, want)
		switch {
		case c.code() != exitOK && c.code() != exitIncomplete, run == 3 && c.code() != exitOK:
			return third, fmt.Errorf("run %d ends with %d:\n%s", run, c.code(), c.end())
		case c.code() == exitOK && d == "":
			return third, nil
		case run == 3:
			return third, fmt.Errorf("the world is another one:\n%s\nThe first run:\n%s\nThe third:\n%s", d, first.end(), c.end())
		}
		third = true
	}
}
