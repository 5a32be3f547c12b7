package agent

import (
	"syscall"

	"mailform/server/manifest"
)

// kernelClock is what adjtimex(2) says, which everybody may ask; nil where it does
// not answer.
func kernelClock() *manifest.Clock {
	var t syscall.Timex
	if _, err := syscall.Adjtimex(&t); err != nil {
		return nil
	}
	const unsynchronised = 0x40 // STA_UNSYNC
	return &manifest.Clock{Synchronized: t.Status&unsynchronised == 0}
}
