package daemon

import (
	"encoding/json"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// expireEvery is how often it is looked for what is to be deleted for its age.
	expireEvery = time.Hour
	// believeAfter is how long the clock must have been ahead of what is believed,
	// while mailformd ran, until it is believed.
	believeAfter = 24 * time.Hour
	// believeSlack is what the clock may be ahead without a question: a reboot.
	believeSlack = time.Hour
)

// believedClock is the time by which mail is deleted for its age. It follows the
// machine's clock at the pace at which time passes; a jump ahead, be it by a year,
// is believed once mailformd has run for a day since and the clock has stayed there.
// It is kept in a file, so that restarts neither shorten that nor begin it anew.
// Being behind, it deletes late, never early.
type believedClock struct {
	file string
	log  *slog.Logger

	mu   sync.Mutex
	kept believed
}

// believed is the file.
type believed struct {
	Time         time.Time `json:"time"` // zero: nothing is believed yet
	AheadSeconds int64     `json:"ahead_seconds,omitempty"`
}

// newBelievedClock reads the file. Without a whole one the clock has to show itself
// for a day first.
func newBelievedClock(file string, log *slog.Logger) *believedClock {
	c := &believedClock{file: file, log: log}
	if err := readJSON(file, &c.kept); err != nil {
		log.Warn("the time that mail was deleted by last is not known; nothing is deleted for a day", "err", err)
		c.kept = believed{}
	}
	return c
}

// look takes note of what the machine's clock says, with how long mailformd has run
// since the last look, and returns what is believed: the zero time for nothing.
func (c *believedClock) look(now time.Time, ran time.Duration) time.Time {
	now, ran = now.Round(0).UTC(), max(ran, 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &c.kept
	switch ahead := now.Sub(k.Time); {
	case !k.Time.IsZero() && ahead <= ran+believeSlack: // or behind: then all is younger
		k.Time, k.AheadSeconds = now, 0
	default:
		k.AheadSeconds += int64(ran / time.Second)
		if !k.Time.IsZero() {
			k.Time = k.Time.Add(ran)
		}
		if time.Duration(k.AheadSeconds)*time.Second >= believeAfter {
			if !k.Time.IsZero() {
				c.log.Info("the clock has jumped ahead and stayed there; mail is deleted by it from now on", "was", k.Time, "is", now)
			}
			k.Time, k.AheadSeconds = now, 0
		}
	}
	text, err := json.Marshal(k)
	if err == nil {
		temp := c.file + ".new"
		if err = os.WriteFile(temp, text, 0o600); err == nil {
			err = os.Rename(temp, c.file)
		}
	}
	if err != nil {
		c.log.Warn("the time that mail is deleted by is not kept", "err", err)
	}
	return k.Time
}

// stopwatch says how long mailformd has run since the last time it was asked.
type stopwatch struct{ last time.Time }

func (s *stopwatch) lap() time.Duration {
	d := time.Since(s.last) // by the monotonic clock
	s.last = time.Now()
	return d
}
