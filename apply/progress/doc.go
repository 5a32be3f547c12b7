// Package progress shows the events of apply: as calm lines for pipes and CI
// (Plain), as a live tree in a terminal (TTY) and as JSON objects, one a line
// (JSON). Each has a method Event to be used as apply.Sink, and Close, which
// ends the output and reports the first failed write. It imports apply and plan.
package progress
