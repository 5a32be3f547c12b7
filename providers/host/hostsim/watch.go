package hostsim

import (
	"bytes"
	"io"
	"sync"
)

// Step is a point in the conversation of a command that came over SSH.
type Step struct {
	Command string // as it was sent
	At      Moment
	N       int // of Heard and Said, from 1
}

// Moment is what a Step is about.
type Moment string

// The moments. At none of them has anything been passed on yet: what was asked
// is not begun, what was heard has not reached the command, and what was said or
// how it ended has not left the host.
const (
	Asked Moment = "asked"
	Heard Moment = "heard" // the client speaks, for the first time or after the command did
	Said  Moment = "said"  // a line
	Ended Moment = "ended"
)

// watched puts Config.Watch between a command and its client.
type watched struct {
	command string
	watch   func(Step) bool
	cut     func() // ends the connection
	stdin   io.Reader
	stdout  io.Writer

	mu       sync.Mutex
	turn     Moment // who spoke last
	heard    int
	said     int
	unfinish []byte // the beginning of a line
}

// ask is false when the connection is to end here.
func (w *watched) ask(at Moment, n int) bool {
	if w.watch(Step{w.command, at, n}) {
		return true
	}
	w.cut()
	return false
}

// Read is the command's input.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.stdin.Read(b)
	if n == 0 {
		return n, err
	}
	w.mu.Lock()
	first := w.turn != Heard
	if w.turn = Heard; first {
		w.heard++
	}
	at := w.heard
	w.mu.Unlock()
	if first && !w.ask(Heard, at) {
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// Write is the command's output.
func (w *watched) Write(b []byte) (int, error) {
	w.unfinish = append(w.unfinish, b...)
	for {
		end := bytes.IndexByte(w.unfinish, '\n') + 1
		if end == 0 {
			return len(b), nil
		}
		line := bytes.Clone(w.unfinish[:end])
		w.unfinish = w.unfinish[end:]
		if err := w.say(line); err != nil {
			return 0, err
		}
	}
}

// flush delivers what was written without an end of line.
func (w *watched) flush() {
	if len(w.unfinish) > 0 {
		w.say(w.unfinish) // the client may be gone; the status tells
		w.unfinish = nil
	}
}

func (w *watched) say(line []byte) error {
	w.mu.Lock()
	w.turn = Said
	w.said++
	at := w.said
	w.mu.Unlock()
	if !w.ask(Said, at) {
		return io.ErrClosedPipe
	}
	_, err := w.stdout.Write(line)
	return err
}
