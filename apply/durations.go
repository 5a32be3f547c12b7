package apply

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"mailform/plan"
)

// durationsName is the file that remembers how long operations took. It is for
// estimates only: nobody misses it, and one that cannot be read is written anew.
const durationsName = "durations.json"

// Bounds of what is remembered. Providers have some dozens of kinds.
const (
	maxDurationKinds = 256
	maxDurationBytes = 64 << 10
	maxDuration      = 24 * time.Hour
)

// durations remembers how long each kind of operation took here, smoothed.
type durations map[string]time.Duration

func durationKey(op plan.Op) string { return op.Provider + "." + op.Kind }

// typical is how long an operation is expected to take: as the last ones of its
// kind did, or else as its provider says.
func (d durations) typical(op plan.Op) time.Duration {
	if known, ok := d[durationKey(op)]; ok {
		return known
	}
	return time.Duration(op.Seconds) * time.Second
}

// add takes in one more measurement. The newest counts for a third, so that a
// change of machine or vendor shows soon and one slow day does not stay.
func (d durations) add(op plan.Op, took time.Duration) {
	if took < 0 || took > maxDuration {
		return // the clock was set, or the laptop slept
	}
	key := durationKey(op)
	known, ok := d[key]
	switch {
	case ok:
		took = known + (took-known)/3
	case len(d) >= maxDurationKinds:
		return
	}
	d[key] = took.Round(time.Millisecond)
}

// Typical returns how long operations are expected to take, for
// plan.Plan.Duration, from what earlier runs on this machine recorded. It needs
// no lock.
func (d *Dir) Typical() func(plan.Op) time.Duration { return d.loadDurations().typical }

func (d *Dir) loadDurations() durations {
	out := durations{}
	data, err := readBounded(d.fs, filepath.Join(d.path, durationsName), maxDurationBytes)
	if err != nil {
		return out
	}
	var ms map[string]int64
	if decodeStrict(data, &ms) != nil || len(ms) > maxDurationKinds {
		return out
	}
	for key, n := range ms {
		if took := time.Duration(n) * time.Millisecond; n >= 0 && n <= maxDuration.Milliseconds() {
			out[key] = took
		}
	}
	return out
}

// remember adds what a walk measured to the file.
func (s *State) remember(w *walk) error {
	before := maps.Clone(s.durations)
	for _, n := range w.nodes {
		if n.status == StatusDone {
			s.durations.add(n.op, n.elapsed)
		}
	}
	if maps.Equal(before, s.durations) {
		return nil
	}
	ms := map[string]int64{}
	for _, key := range slices.Sorted(maps.Keys(s.durations)) {
		ms[key] = s.durations[key].Milliseconds()
	}
	data, err := json.MarshalIndent(ms, "", " ")
	if err != nil {
		return fmt.Errorf("write down how long steps took: %w", err)
	}
	f, err := replaceFile(s.dir.fs, filepath.Join(s.dir.path, durationsName), append(data, '\n'))
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("write down how long steps took: %w", err)
	}
	return nil
}
